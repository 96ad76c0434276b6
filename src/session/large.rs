//! Reads whose reply was large the last time, or whose key was written by a heavy request.
//!
//! A reply occupies its lane until it is through, and everybody's behind it. So what is known to be large is read on
//! a connection of its own: it flows to its client as fast as that reads it, and the store keeps what it does not.

use std::future::poll_fn;

use tokio::time::timeout;

use crate::command::{CommandId, Effect};
use crate::config::Reads;
use crate::resp::request::{Request, spans_of};
use crate::sequencer::clients::Doom;
use crate::sequencer::fence::Footprint;
use crate::store::dedicated::DedicatedError;
use crate::store::pool::Loan;

use super::asked::Asked;
use super::{Gone, Owned, READ_AHEAD, Session};

/// A request that is longer is not remembered until its reply has come.
const MAX_REMEMBERED: usize = 256;

/// A lone read that is under way, in case its reply turns out to be large.
#[derive(Debug, Default)]
pub(super) struct LastRead {
    frame: Vec<u8>,
    command: Option<(CommandId, Effect)>,
}

// === impl LastRead ===

impl LastRead {
    pub(super) fn remember(&mut self, request: &Request<'_>, command: CommandId, effect: &Effect) {
        self.frame.clear();
        self.command = None;
        if request.frame.len() <= MAX_REMEMBERED {
            self.frame.extend_from_slice(request.frame);
            self.command = Some((command, *effect));
        }
    }
}

// === impl Session ===

impl Session {
    /// The reply to the lone read before was large.
    pub(super) fn note_large_reply(&mut self) {
        let last = std::mem::take(&mut self.last_read);
        let Some((command, effect)) = last.command else { return };
        let table = self.instance.core().table.clone();
        let spans = spans_of(&last.frame);
        let request = Request { frame: &last.frame, args: &spans };
        let footprint = self.footprint(table.spec(command), &effect, &request);
        self.note_large_keys(&footprint);
    }

    pub(super) fn note_large_keys(&self, footprint: &Footprint) {
        self.instance.large.borrow_mut().note(footprint);
    }

    /// Is the reply to this read known to be large?
    pub(super) fn reads_large(&mut self, asked: &Asked<'_>) -> bool {
        if self.instance.core_in_turn().clients.take_large(self.key) {
            self.note_large_reply();
        }
        if self.instance.large.borrow().is_empty() {
            return false;
        }
        let footprint = self.footprint(asked.spec, &asked.effect, &asked.request);
        self.instance.config_ref().reads != Reads::Compare
            && self.instance.large.borrow().contains(&footprint)
    }

    /// Runs it on a connection of its own to the default store, behind every write of its keys.
    pub(super) async fn read_large(&mut self, request: Owned) -> Result<(), Gone> {
        self.drained(1).await?;
        let footprint = self.footprint_of(&request);
        if let Err(error) = self.take_place(false, &footprint, &request.frame).await? {
            self.pay(request.seq, &error);
            return Ok(());
        }
        let mut loan = match self.acquire().await {
            Ok(loan) => loan,
            Err(error) => {
                self.pay(request.seq, &error);
                return Ok(());
            }
        };
        let size = self.relay_reply(&mut loan, &request).await?;
        if size <= self.instance.config_ref().heavy_bytes.bytes() {
            self.instance.large.borrow_mut().forget(&footprint);
        }
        Ok(())
    }

    /// Sends the request, and its reply to the client as it comes and as the client takes it. Its size.
    async fn relay_reply(&mut self, loan: &mut Loan, request: &Owned) -> Result<usize, Gone> {
        let within = self.instance.config().reply_timeout;
        let limits = self.instance.reply_limits();
        let soft = self.instance.config().client_output_soft.bytes();
        let (store, mut size) = (loan.store, 0);
        loan.clean = false;
        let mut sent = loan.send(&request.frame, within).await;
        let mut piece = Vec::new();
        loop {
            let came = match sent {
                Ok(()) => {
                    let came = poll_fn(|cx| loan.poll_piece(cx, &limits, &mut piece));
                    timeout(within, came).await.unwrap_or(Err(DedicatedError::Timeout))
                }
                Err(error) => Err(error),
            };
            match came {
                Ok(last) => {
                    size += piece.len();
                    self.instance.core_mut().clients.stream(self.key, &piece);
                    piece.clear();
                    if last {
                        loan.clean = true;
                        self.instance.core_mut().clients.end_stream(self.key);
                        return Ok(size);
                    }
                }
                Err(error) if size == 0 => {
                    let error = self.dedicated_error(store, error);
                    self.pay(request.seq, &error);
                    return Ok(usize::MAX);
                }
                Err(_) => {
                    self.instance.core_mut().clients.doom(self.key, Doom::CutReply);
                    return Err(Gone);
                }
            }
            sent = Ok(());
            self.until(move |session| {
                // Who goes on sending requests may read nothing before it has sent them all.
                let sends = session.buf.len() >= READ_AHEAD && session.reads_nothing();
                let core = session.instance.core();
                sends || core.clients.get(session.key).is_none_or(|client| client.backlog() <= soft)
            })
            .await?;
            tokio::task::yield_now().await;
        }
    }
}
