//! Commands that go past everything that is queued for a store: what they are to end stands in the lanes.

use std::time::Duration;

use crate::resp::encode;
use crate::stage::StoreId;
use crate::store::dedicated::DedicatedError;
use crate::store::pool::Pool;

use super::{Gone, Owned, Session};

/// A server that runs a script looks for anything else only after its `busy-reply-threshold`, 5 s by default.
const PATIENCE: Duration = Duration::from_secs(30);

// === impl Session ===

impl Session {
    /// SCRIPT KILL, FUNCTION KILL, FUNCTION STATS: on a connection of their own.
    pub(super) async fn run_aside(&mut self, request: Owned) -> Result<(), Gone> {
        self.drained(1).await?;
        let store = self.instance.core().default_store();
        match self.send_aside(store, &request.frame).await {
            Ok(reply) => {
                // What the default store has ended must not go on, nor take effect, on the other.
                let ended = reply == encode::OK && self.instance.core().stage().is_dual();
                if ended && request.args.last().is_some_and(|word| word.eq_ignore_ascii_case(b"kill")) {
                    let _ = self.send_aside(store.other(), &request.frame).await;
                }
                self.pay(request.seq, &reply);
            }
            Err(error) => {
                let error = self.dedicated_error(store, error);
                self.pay(request.seq, &error);
            }
        }
        Ok(())
    }

    async fn send_aside(&self, store: StoreId, frame: &[u8]) -> Result<Vec<u8>, DedicatedError> {
        let limits = self.instance.reply_limits();
        let within = self.instance.config().reply_timeout.max(PATIENCE);
        let mut loan = Pool::acquire_at_once(&self.instance, store, self.state.proto).await?;
        loan.send(frame, within).await?;
        loan.reply(&limits, within).await
    }
}
