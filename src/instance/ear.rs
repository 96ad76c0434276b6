//! Listens to which keys change on a store, while commands are in use that do not name theirs. What comes of it is
//! decided by `sequencer::ear`; this moves the bytes.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::Instance;
use crate::logging::escape::Escaped;
use crate::resp::value::Value;
use crate::resp::{Proto, encode};
use crate::sequencer::Sequencer;
use crate::stage::StoreId;
use crate::store::dedicated::{Dedicated, DedicatedError};
use crate::store::handshake::own_name;

/// How often to look whether somebody is to listen, or still is.
const LOOK: Duration = Duration::from_millis(50);
/// After a store has refused, the next attempt comes after this pause: it may be an old server.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);
/// After a connection was lost.
const LOST_PAUSE: Duration = Duration::from_millis(200);
/// What is asked; MONITOR does not show it to clients.
const QUESTION: &[u8] = b"*2\r\n$4\r\nECHO\r\n$19\r\nmultistore-mark-ear\r\n";

/// What the tasks that listen are told, by store.
#[derive(Debug, Default)]
pub(super) struct Ears {
    wake: [Notify; 2],
    /// A question is due.
    due: [Cell<bool>; 2],
}

/// Why nobody listens to a store.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    #[error(transparent)]
    Connection(#[from] DedicatedError),
    #[error("CLIENT TRACKING was refused: {0}")]
    Refused(String),
    #[error("the connection leads to another server than the lane")]
    Elsewhere,
}

// === impl Ears ===

impl Ears {
    /// Sends what is due. Part of every turn.
    pub(super) fn settle(&self, core: &mut Sequencer) {
        for store in StoreId::ALL {
            if core.ask_ear(store) {
                self.due[store.index()].set(true);
                self.wake[store.index()].notify_one();
            }
        }
    }
}

/// Listens to `store` whenever that is wanted, until dropped.
pub async fn run(instance: Rc<Instance>, store: StoreId) {
    let mut said = String::new();
    loop {
        sleep(LOOK).await;
        if !is_wanted(&instance, store) {
            continue;
        }
        let Err(why) = listen(&instance, store).await else { continue };
        instance.core_mut().ear_shut(store);
        instance.settle();
        let text = why.to_string();
        if said != text {
            tracing::info!(instance = %instance.name, store = %store,
                "the store does not tell which keys change ({why}): after scripts that write keys which they do not \
                 declare both stores are walked");
            said = text;
        }
        sleep(if matches!(why, Unheard::Connection(DedicatedError::Io(_))) {
            LOST_PAUSE
        } else {
            REFUSED_PAUSE
        })
        .await;
    }
}

fn is_wanted(instance: &Instance, store: StoreId) -> bool {
    let core = instance.core_mut();
    core.wants_ears() && core.lane(store).is_up()
}

/// Until nobody needs to listen any more.
async fn listen(instance: &Rc<Instance>, store: StoreId) -> Result<(), Unheard> {
    let (config, limits) = (instance.config(), instance.reply_limits());
    let within = config.reply_timeout;
    let name = own_name(&instance.name, store);
    let mut ear = Dedicated::dial(store, &name, config.store(store), config.connect_timeout).await?;
    ear.speak(Proto::Resp3, &limits, within).await?;
    let mut ask = Vec::new();
    encode::command(&mut ask, &["CLIENT", "TRACKING", "ON", "BCAST"]);
    encode::command(&mut ask, &["INFO", "server"]);
    ear.send(&ask, within).await?;
    let tracking = ear.reply(&limits, within).await?;
    let info = ear.reply(&limits, within).await?;
    if tracking != encode::OK {
        return Err(Unheard::Refused(Escaped(&tracking).to_string()));
    }
    if !instance.is_same_server(store, &info) {
        return Err(Unheard::Elsewhere);
    }
    instance.core_mut().ear_open(store);
    let ears = &instance.ears;
    while is_wanted(instance, store) && instance.core().is_ear_open(store) {
        tokio::select! {
            frame = ear.frame(&limits) => {
                let frame = frame?;
                instance.heard(store, frame.push, &frame.bytes);
            }
            _ = timeout(LOOK, ears.wake[store.index()].notified()) => {}
        }
        if ears.due[store.index()].take() {
            ear.send(QUESTION, within).await?;
        }
    }
    instance.core_mut().ear_shut(store);
    instance.settle();
    Ok(())
}

// === impl Instance ===

impl Instance {
    fn is_same_server(&self, store: StoreId, info: &[u8]) -> bool {
        self.with_facts(store, |facts| {
            let run_id =
                facts.identity.as_ref().map(|identity| identity.run_id.as_bytes()).unwrap_or_default();
            run_id.is_empty() || memchr::memmem::find(info, run_id).is_some()
        })
    }

    /// One frame of an ear: keys that have changed, or the answer to a question.
    fn heard(&self, store: StoreId, push: bool, frame: &[u8]) {
        {
            let mut core = self.core_mut();
            match Value::parse(frame) {
                Ok(Value::Push(items)) => match items.as_slice() {
                    [kind, Value::Array(keys)] if kind.as_bytes() == Some(b"invalidate") => {
                        keys.iter()
                            .filter_map(Value::as_bytes)
                            .for_each(|key| core.ear_heard(store, Some(key)));
                    }
                    // Nil: all of them. Whatever else a server may come to say, too.
                    _ => core.ear_heard(store, None),
                },
                _ if push => core.ear_heard(store, None),
                _ => core.ear_answered(store),
            }
        }
        self.settle();
    }
}
