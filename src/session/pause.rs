//! A client that CLIENT PAUSE holds up.

use crate::command::{CommandFlags, CommandId, Effect, Kind, Spec};
use crate::resp::request::Request;
use crate::route::{Route, TransactionCommand};

use super::{Gone, Session};

// === impl Session ===

impl Session {
    /// Must this request wait for the end of a pause? What a store would refuse at once needs no wait.
    pub(super) fn is_paused(
        &mut self,
        request: &Request<'_>,
        id: CommandId,
        spec: &Spec,
        effect: &Effect,
        route: Route,
    ) -> bool {
        let Some(pause) = self.instance.paused() else { return false };
        if !spec.arity_ok(request.argc()) {
            return false;
        }
        match route {
            _ if pause.all => true,
            Route::Transaction(TransactionCommand::Exec) => {
                self.multi.as_ref().is_some_and(|multi| multi.replicates)
            }
            _ => self.may_replicate(request, id, spec, effect),
        }
    }

    /// May a command change anything: what CLIENT PAUSE … WRITE is about?
    pub(super) fn may_replicate(
        &mut self,
        request: &Request<'_>,
        id: CommandId,
        spec: &Spec,
        effect: &Effect,
    ) -> bool {
        match effect.kind {
            Kind::Script => !self.instance.core_mut().way(id, true, request).read_only,
            Kind::Publish => true,
            _ => effect.writes || spec.flags.has(CommandFlags::MAY_REPLICATE),
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
