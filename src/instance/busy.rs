//! A store that is busy with a script answers everybody else with BUSY. The lane is the connection that waits for the
//! script: nobody else would get an answer on it. A connection beside it is told what the store says meanwhile.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::sleep;

use super::Instance;
use crate::stage::StoreId;
use crate::store::dedicated::DedicatedError;
use crate::store::pool::Pool;

/// A lane that is owed something and has been silent for so long may be held up by a script. Also the pause between
/// two questions.
const SILENT: Duration = Duration::from_millis(25);

/// What a busy store says.
pub(super) struct Busy {
    store: StoreId,
    /// Its error frame.
    says: Rc<[u8]>,
    /// When it was asked, on the instance's clock.
    since: u64,
}

/// Looks whether the default store is busy with a script. Costs nothing while its lane answers.
pub(super) fn look(instance: &Rc<Instance>) {
    let store = instance.core().default_store();
    let before = instance.micros().saturating_sub(SILENT.as_micros() as u64);
    if !instance.core().lane(store).is_silent_since(before) || instance.asks_busy.replace(true) {
        return;
    }
    let instance = instance.clone();
    spawn_local(async move {
        // A byte that comes later than this tells of a store that has gone on.
        let since = instance.micros();
        let says = ask(&instance, store).await.unwrap_or(None);
        let still = instance.core().lane(store).is_silent_since(since);
        if let Some(says) = says.as_ref().filter(|_| still) {
            instance.core_mut().busy(store, &String::from_utf8_lossy(text_of(says)));
            instance.settle();
        }
        *instance.busy.borrow_mut() = says.map(|says| Busy { store, says, since });
        sleep(SILENT).await;
        instance.asks_busy.set(false);
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

// === impl Instance ===

impl Instance {
    /// The error that the default store answers with while it runs a script.
    pub fn busy_error(&self) -> Option<Vec<u8>> {
        let busy = self.busy.borrow();
        let busy = busy.as_ref()?;
        let core = self.core();
        let holds = busy.store == core.default_store() && core.lane(busy.store).is_silent_since(busy.since);
        holds.then(|| text_of(&busy.says).to_vec())
    }
}
