//! MONITOR: a connection of the client's own to the default store, relayed until the client goes.

use super::{Gone, Owned, Session};

// === impl Session ===

impl Session {
    /// Relays MONITOR. The client may end it by QUIT, RESET or by closing; other input is passed on
    /// and answered by the store, as Redis does.
    pub(super) async fn monitor(&mut self, request: Owned) -> Result<(), Gone> {
        self.drained(1).await?;
        let within = self.instance.config().reply_timeout;
        let limits = self.instance.reply_limits();
        let mut loan = match self.acquire().await {
            Ok(loan) => loan,
            Err(error) => {
                self.pay(request.seq, &error);
                return Ok(());
            }
        };
        loan.spoil();
        let store = loan.store;
        let reply = match loan.send(&request.frame, within).await {
            Ok(()) => loan.reply(&limits, within).await,
            Err(error) => Err(error),
        };
        match reply {
            Ok(reply) => self.pay(request.seq, &reply),
            Err(error) => {
                let error = self.dedicated_error(store, error);
                self.pay(request.seq, &error);
                return Ok(());
            }
        }
        self.io.info.borrow_mut().monitor = true;
        loop {
            tokio::select! {
                frame = loan.frame(&limits) => match frame {
                    Ok(frame) => {
                        self.instance.core_mut().clients.push(self.key, &frame.bytes);
                        self.instance.settle();
                    }
                    Err(_) => return Err(Gone),
                },
                waited = self.until(|session| session.eof || !session.buf.is_empty()) => {
                    waited?;
                    if self.eof {
                        return Err(Gone);
                    }
                    // QUIT and RESET end it; so does anything else, which is then run as usual.
                    self.io.info.borrow_mut().monitor = false;
                    return Ok(());
                }
            }
        }
    }
}
