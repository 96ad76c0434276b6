//! A client that CLIENT PAUSE holds up.

use crate::command::{CommandFlags, Kind};
use crate::route::{Route, TransactionCommand};

use super::asked::Asked;
use super::{Gone, Session};

// === impl Session ===

impl Session {
    /// Must this request wait for the end of a pause? What a store would refuse at once needs no wait.
    pub(super) fn is_paused(&mut self, asked: &Asked<'_>) -> bool {
        let Some(pause) = self.instance.paused() else { return false };
        if !asked.spec.arity_ok(asked.request.argc()) {
            return false;
        }
        match asked.route {
            _ if pause.all => true,
            Route::Transaction(TransactionCommand::Exec) => {
                self.multi.as_ref().is_some_and(|multi| multi.replicates)
            }
            _ => self.may_replicate(asked),
        }
    }

    /// May a command change anything: what CLIENT PAUSE … WRITE is about?
    pub(super) fn may_replicate(&mut self, asked: &Asked<'_>) -> bool {
        match asked.effect.kind {
            Kind::Script => !self.instance.core_mut().way(asked.id, true, &asked.request).read_only,
            Kind::Publish => true,
            _ => asked.effect.writes || asked.spec.flags.has(CommandFlags::MAY_REPLICATE),
        }
    }

    /// Waits for the end of the pause.
    pub(super) async fn wait_for_unpause(&mut self) -> Result<(), Gone> {
        self.io.info.borrow_mut().blocked = true;
        while let Some(pause) = self.instance.paused() {
            let left = self.instance.left_of(pause);
            let unpaused = self.until(|session| session.instance.paused().is_none());
            if let Ok(Err(gone)) = tokio::time::timeout(left, unpaused).await {
                return Err(gone);
            }
        }
        self.io.info.borrow_mut().blocked = false;
        Ok(())
    }
}
