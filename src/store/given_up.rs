//! Connections that were given up amid a request.
//!
//! What such a connection has sent may sit in the socket of a store that hangs, and be executed when it goes on: behind
//! newer writes of the lane. So it is ended: by a CLIENT KILL in the lane, which whatever comes later in the order stands
//! behind; and where that is lost with the lane, by the next one before it carries anything.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::task::spawn_local;

use crate::instance::Instance;
use crate::sequencer::op::Failure;
use crate::stage::StoreId;

/// Connections that are not known to be ended: where they lead, and their CLIENT IDs.
#[derive(Debug, Default)]
pub struct GivenUp {
    ids: RefCell<Vec<(StoreId, i64)>>,
}

/// Of so many connections it is remembered that they were given up. Each has cost its client `reply_timeout`.
const MAX_GIVEN_UP: usize = 10_000;

// === impl GivenUp ===

impl GivenUp {
    /// The connections to `store` that may still be executed.
    pub fn of(&self, store: StoreId) -> Vec<i64> {
        self.ids.borrow().iter().filter(|(of, _)| *of == store).map(|(_, id)| *id).collect()
    }

    /// These connections to `store` are ended.
    pub fn ended(&self, store: StoreId, ids: &[i64]) {
        self.ids.borrow_mut().retain(|(of, id)| *of != store || !ids.contains(id));
    }

    fn add(&self, store: StoreId, id: i64) {
        let mut ids = self.ids.borrow_mut();
        if ids.len() >= MAX_GIVEN_UP {
            ids.remove(0);
        }
        ids.push((store, id));
    }
}

/// A connection to `store` was given up before it answered. To be called before anybody else gets at the keys of its
/// request.
pub fn give_up(instance: &Rc<Instance>, store: StoreId, id: Option<i64>) {
    let Some(id) = id else { return };
    instance.pool.given_up.add(store, id);
    let answer = instance.core_mut().end_connection(store, id);
    instance.settle();
    let instance = Rc::downgrade(instance);
    spawn_local(async move {
        let Some(answer) = answer else { return };
        let told = answer.await;
        let Some(instance) = instance.upgrade() else { return };
        match told {
            Ok(Ok(_)) => instance.pool.given_up.ended(store, &[id]),
            // What stood behind it in the order may be sent yet: by the next lane, which ends this connection first.
            Ok(Err(Failure::NotSent)) => instance.drop_lane(store),
            Ok(Err(_)) | Err(_) => {}
        }
    });
}
