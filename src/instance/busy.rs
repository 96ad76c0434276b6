//! A store that is busy with a script answers everybody else with BUSY. The lane is the connection that waits for the
//! script: nobody else would get an answer on it. A connection beside it is told what the store says meanwhile.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::sleep;

use super::Instance;
use crate::sequencer::lane::Lane;
use crate::stage::StoreId;
use crate::store::dedicated::DedicatedError;
use crate::store::pool::Pool;

/// A lane that is owed something and has been silent for so long may be held up by a script. Also the pause between
/// two questions.
const SILENT: Duration = Duration::from_millis(25);

/// What is known of one store.
#[derive(Default)]
pub(super) struct Busy {
    /// What it said last, if that was BUSY.
    said: RefCell<Option<Said>>,
    /// Is it being asked?
    asking: Cell<bool>,
}

struct Said {
    /// The error frame.
    frame: Rc<[u8]>,
    /// When the store was asked, on the instance's clock: a byte that comes later tells of one that has gone on.
    since: u64,
}

/// Looks whether a store is busy with a script. Costs nothing while its lane answers.
pub(super) fn look(instance: &Rc<Instance>) {
    StoreId::ALL.into_iter().for_each(|store| look_at(instance, store));
}

fn look_at(instance: &Rc<Instance>, store: StoreId) {
    let before = instance.micros().saturating_sub(SILENT.as_micros() as u64);
    let silent = instance.core().lane(store).is_silent_since(before);
    if !silent || instance.busy[store.index()].asking.replace(true) {
        return;
    }
    let instance = instance.clone();
    spawn_local(async move {
        let since = instance.micros();
        let said = ask(&instance, store).await.unwrap_or(None).map(|frame| Said { frame, since });
        instance.heard_busy(store, said);
        sleep(SILENT).await;
        instance.busy[store.index()].asking.set(false);
    });
}

/// What the store says to PING, if that is BUSY. Waits as long as a connection may take.
async fn ask(instance: &Rc<Instance>, store: StoreId) -> Result<Option<Rc<[u8]>>, DedicatedError> {
    let within = instance.config().connect_timeout;
    let limits = instance.reply_limits();
    let mut loan = Pool::any(instance, store).await?;
    loan.clean = false;
    loan.send(b"*1\r\n$4\r\nPING\r\n", within).await?;
    let reply = loan.reply(&limits, within).await?;
    loan.clean = true;
    Ok(reply.starts_with(b"-BUSY").then(|| reply.into()))
}

/// An error's text without its marker and line end.
fn text_of(frame: &[u8]) -> &[u8] {
    frame.strip_prefix(b"-").unwrap_or(frame).trim_ascii_end()
}

// === impl Said ===

impl Said {
    /// Does it hold still?
    fn holds(&self, lane: &Lane) -> bool {
        lane.is_silent_since(self.since)
    }
}

// === impl Instance ===

impl Instance {
    /// The error that the default store answers with while it runs a script.
    #[inline]
    pub fn busy_error(&self) -> Option<Vec<u8>> {
        let core = self.core();
        let store = core.default_store();
        let said = self.busy[store.index()].said.borrow();
        said.as_ref().filter(|said| said.holds(core.lane(store))).map(|said| text_of(&said.frame).to_vec())
    }

    /// Has no store said that it works on a script?
    #[inline]
    pub(super) fn is_heard_to_be_idle(&self) -> bool {
        self.busy.iter().all(|busy| busy.said.borrow().is_none())
    }

    /// Is the store that this lane leads to alive, and busy with a script?
    pub(super) fn is_busy(&self, store: StoreId, lane: &Lane) -> bool {
        self.busy[store.index()].said.borrow().as_ref().is_some_and(|said| said.holds(lane))
    }

    fn heard_busy(&self, store: StoreId, said: Option<Said>) {
        let tells = {
            let core = self.core();
            said.as_ref().filter(|said| store == core.default_store() && said.holds(core.lane(store)))
        };
        if let Some(said) = tells {
            self.core_mut().busy(store, &String::from_utf8_lossy(text_of(&said.frame)));
            self.settle();
        }
        *self.busy[store.index()].said.borrow_mut() = said;
    }
}
