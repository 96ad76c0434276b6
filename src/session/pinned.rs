//! Clients with a connection of their own: WATCH … EXEC, and transactions that change connection state.
//!
//! The connection leads to the default store only. What it changes takes its place in the one
//! order through a fence on the keys: earlier commands are answered first, later ones on these keys
//! wait, and the effect is in the other store's lane before they go on.

use crate::command::Kind;
use crate::resp::encode;
use crate::resp::reply::ReplyLimits;
use crate::resp::request::{Request, spans_of};
use crate::resp::value::Value;
use crate::sequencer::fence::Footprint;
use crate::sequencer::op::Failure;
use crate::stage::StoreId;
use crate::store::dedicated::DedicatedError;
use crate::store::pool::{Loan, Pool};

use super::transaction::Multi;
use super::{Gone, Owned, Session};

// === impl Session ===

impl Session {
    /// A connection of this client's own, in its context.
    pub(super) async fn acquire(&mut self) -> Result<Box<Loan>, Vec<u8>> {
        let store = self.instance.core().default_store();
        match Pool::acquire(&self.instance, store, self.state.context()).await {
            Ok(loan) => Ok(Box::new(loan)),
            Err(error) => Err(self.dedicated_error(store, error)),
        }
    }

    /// The error frame for a client whose connection of its own failed.
    pub(super) fn dedicated_error(&self, store: StoreId, error: DedicatedError) -> Vec<u8> {
        let core = self.instance.core();
        match error {
            DedicatedError::Context(frame) => frame,
            DedicatedError::Timeout => core.failure_frame(store, Failure::Timeout),
            DedicatedError::Io(_) | DedicatedError::Protocol(_) => core.failure_frame(store, Failure::Lost),
            DedicatedError::Down(reason) => {
                let text = reason.store_error.unwrap_or_else(|| {
                    format!(
                        "MULTISTORE {} is down ({}); the command was not sent; try again",
                        core.store_name(store),
                        reason.text
                    )
                });
                let mut frame = Vec::new();
                encode::error(&mut frame, text);
                frame
            }
        }
    }

    /// WATCH: from here to EXEC all of this client's commands run on a connection of its own.
    pub(super) async fn watch(&mut self, request: Owned) -> Result<(), Gone> {
        self.drained(1).await?;
        if self.pinned.is_none() {
            match self.acquire().await {
                Ok(loan) => self.pinned = Some(loan),
                Err(error) => {
                    self.pay(request.seq, &error);
                    return Ok(());
                }
            }
        }
        if let Some(loan) = &mut self.pinned {
            // Until EXEC the store remembers the keys: nobody else may inherit them.
            loan.watching = true;
        }
        self.run_pinned(request).await
    }

    /// A command of a client that has a connection of its own.
    pub(super) async fn run_pinned(&mut self, request: Owned) -> Result<(), Gone> {
        self.drained(1).await?;
        let footprint = self.footprint_of(&request);
        let writes = request.effect.writes || request.effect.kind == Kind::Publish;
        let fenced = match self.raise_fence(writes, &footprint).await? {
            Ok(fenced) => fenced,
            Err(error) => {
                self.pay(request.seq, &error);
                return Ok(());
            }
        };
        let outcome = match self.own_connection().await {
            Ok(()) => self.exchange(&request.frame, 1).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(mut replies) => {
                let reply = replies.pop().unwrap_or_default();
                if fenced && reply.first() != Some(&b'-') {
                    let context = self.state.context();
                    let mut core = self.instance.core_mut();
                    core.place_effect(request.command, context, &request.frame, 1, &footprint, false);
                }
                self.pay(request.seq, &reply);
            }
            Err(error) => self.pay(request.seq, &error),
        }
        self.lower_fence(fenced);
        Ok(())
    }

    pub(super) fn footprint_of(&mut self, request: &Owned) -> Footprint {
        let table = self.instance.core().table.clone();
        let spans = spans_of(&request.frame);
        let view = Request { frame: &request.frame, args: &spans };
        self.footprint(table.spec(request.command), &request.effect, &view)
    }

    /// EXEC of a transaction that watched keys, or that changes connection state.
    pub(super) async fn exec_pinned(&mut self, seq: u64) -> Result<(), Gone> {
        let Some(mut multi) = self.multi.take() else { return Ok(()) };
        {
            let mut core = self.instance.core_mut();
            multi.answer(|seq, reply| core.clients.pay(self.key, seq, reply));
        }
        self.drained(1).await?;
        let watched = self.pinned.is_some();
        let fenced = match self.raise_fence(multi.writes, &multi.footprint).await? {
            Ok(fenced) => fenced,
            Err(error) => {
                self.pay(seq, &error);
                self.pinned = None;
                return Ok(());
            }
        };
        let moved = {
            let store = self.instance.core().default_store();
            self.pinned.as_ref().is_some_and(|loan| loan.store != store)
        };
        if watched && moved {
            // The keys were watched on a store that is not the authority any more.
            self.pay_with(seq, |out| encode::nil_array(out, self.state.proto));
        } else {
            encode::command(&mut multi.frames, &[b"EXEC"]);
            let outcome = match self.own_connection().await {
                Ok(()) => self.exchange(&multi.frames, multi.parts.len() + 1).await,
                Err(error) => Err(error),
            };
            self.exec_done(seq, &multi, outcome, fenced);
        }
        if multi.private
            && let Some(loan) = &mut self.pinned
        {
            loan.spoil();
        }
        self.pinned = None;
        self.lower_fence(fenced);
        Ok(())
    }

    fn exec_done(&mut self, seq: u64, multi: &Multi, outcome: Result<Vec<Vec<u8>>, Vec<u8>>, fenced: bool) {
        let replies = match outcome {
            Ok(replies) => replies,
            Err(error) => {
                self.pay(seq, &error);
                return;
            }
        };
        if let Some(loan) = &mut self.pinned {
            loan.watching = false;
        }
        let exec = replies.last().cloned().unwrap_or_default();
        let elements = match Value::parse(&exec) {
            Ok(Value::Array(elements)) => elements,
            _ => Vec::new(),
        };
        if fenced && !elements.is_empty() {
            let context = self.state.context();
            let mut core = self.instance.core_mut();
            let command = core.table.by_name("exec");
            if let Some(command) = command {
                let replies = multi.parts.len() as u32 + 1;
                let selects = multi.selects.is_some();
                core.place_effect(command, context, &multi.frames, replies, &multi.footprint, selects);
            }
        }
        self.pay(seq, &exec);
        if multi.private || multi.selects.is_some() {
            self.adopt(multi, &elements);
        }
    }

    /// A transaction has changed the state of its connection: it becomes the client's.
    fn adopt(&mut self, multi: &Multi, elements: &[Value<'_>]) {
        for (change, element) in
            multi.changes.iter().filter_map(|(at, change)| Some((change, elements.get(*at)?)))
        {
            if element.is_error() {
                continue;
            }
            match change {
                super::transaction::Change::Db(db) => self.selected(*db),
                super::transaction::Change::Proto(proto) => self.speak(*proto),
                super::transaction::Change::Name(name) => {
                    self.io.info.borrow_mut().name.clone_from(name);
                }
            }
        }
    }

    /// Takes the keys of a write for this client while dual. False: no fence is needed. An error
    /// frame: others have not let go of the keys within `reply_timeout`.
    async fn raise_fence(
        &mut self,
        writes: bool,
        footprint: &Footprint,
    ) -> Result<Result<bool, Vec<u8>>, Gone> {
        if !writes || !self.instance.core().stage().is_dual() {
            return Ok(Ok(false));
        }
        let key = self.key;
        let within = self.instance.config().reply_timeout;
        self.instance.core_mut().request_fence(key, footprint.clone());
        let ready = self.until(move |session| session.instance.core().fence_ready(key));
        match tokio::time::timeout(within, ready).await {
            Ok(ready) => ready.map(|()| Ok(true)),
            Err(_) => {
                let mut core = self.instance.core_mut();
                core.cancel_fence(key);
                Ok(Err(core.failure_frame(core.default_store(), Failure::NotSent)))
            }
        }
    }

    fn lower_fence(&mut self, fenced: bool) {
        if fenced {
            self.instance.core_mut().lower_fence(self.key);
        }
        self.instance.settle();
    }

    /// Makes sure that the client's own connection leads to the default store, in its context.
    async fn own_connection(&mut self) -> Result<(), Vec<u8>> {
        let store = self.instance.core().default_store();
        let context = self.state.context();
        let within = self.instance.config().reply_timeout;
        let limits = self.instance.reply_limits();
        if let Some(loan) = self.pinned.as_mut().filter(|loan| loan.store == store) {
            return match loan.enter(context, &limits, within).await {
                Ok(()) => Ok(()),
                Err(error) => {
                    self.pinned = None;
                    Err(self.dedicated_error(store, error))
                }
            };
        }
        self.pinned = Some(self.acquire().await?);
        Ok(())
    }

    /// Sends a request on the client's own connection and awaits its replies.
    async fn exchange(&mut self, frame: &[u8], replies: usize) -> Result<Vec<Vec<u8>>, Vec<u8>> {
        let within = self.instance.config().reply_timeout;
        let limits = self.instance.reply_limits();
        let Some(mut loan) = self.pinned.take() else { return Err(Vec::new()) };
        let store = loan.store;
        match talk(&mut loan, frame, replies, &limits, within).await {
            Ok(frames) => {
                self.pinned = Some(loan);
                Ok(frames)
            }
            Err(error) => {
                loan.spoil();
                Err(self.dedicated_error(store, error))
            }
        }
    }
}

async fn talk(
    loan: &mut Loan,
    frame: &[u8],
    replies: usize,
    limits: &ReplyLimits,
    within: std::time::Duration,
) -> Result<Vec<Vec<u8>>, DedicatedError> {
    loan.clean = false;
    loan.send(frame, within).await?;
    let mut frames = Vec::with_capacity(replies);
    for _ in 0..replies {
        frames.push(loan.reply(limits, within).await?);
    }
    loan.clean = true;
    Ok(frames)
}
