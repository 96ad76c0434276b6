//! Clients with a connection of their own: WATCH … EXEC, and transactions that change connection state.
//!
//! The connection leads to the default store only. What it changes takes its place in the one
//! order through a fence on the keys: earlier commands are answered first, later ones on these keys
//! wait, and the effect is in the other store's lane before they go on.

use std::borrow::Cow;

use crate::command::{CommandId, Effect, Kind};
use crate::resp::encode;
use crate::resp::reply::{ReplyLimits, ReplyScanner, Scanned};
use crate::resp::request::{Request, spans_of};
use crate::resp::value::Value;
use crate::sequencer::Scope;
use crate::sequencer::fence::Footprint;
use crate::sequencer::lane::Context;
use crate::sequencer::op::Failure;
use crate::stage::StoreId;
use crate::store::dedicated::DedicatedError;
use crate::store::given_up::give_up;
use crate::store::pool::{Loan, Pool};

use super::auth::with_id;
use super::fenced::Work;
use super::heavy::heavy_way;
use super::transaction::{Change, Multi, Own};
use super::writes::{expiry, scope, wider};
use super::{Gone, Owned, Session};

const UNWATCH: &[u8] = b"*1\r\n$7\r\nUNWATCH\r\n";

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
            DedicatedError::Io(_) | DedicatedError::Protocol(_) | DedicatedError::OutOfStep => {
                core.failure_frame(store, Failure::Lost)
            }
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
        self.run_pinned(request).await
    }

    /// UNWATCH of a client that watches keys. Its connection is told, so that it can serve others.
    pub(super) async fn unwatch(&mut self, request: Owned) -> Result<(), Gone> {
        self.drained(1).await?;
        let told = self.exchange(&[UNWATCH], 1).await;
        if let Some(loan) = self.pinned.as_mut().filter(|_| told.is_ok()) {
            loan.watching = false;
        }
        // Where the connection is lost, nothing is watched on it either.
        self.unpin();
        self.pay(request.seq, encode::OK);
        Ok(())
    }

    /// A command of a client that has a connection of its own.
    pub(super) async fn run_pinned(&mut self, request: Owned) -> Result<(), Gone> {
        self.run_alone(&request.frame, request.command, &request.effect, request.seq, false).await
    }

    /// Runs one command on a connection of the client's own. `heavy`: it is there for its size alone.
    pub(super) async fn run_alone(
        &mut self,
        frame: &[u8],
        command: CommandId,
        effect: &Effect,
        seq: u64,
        heavy: bool,
    ) -> Result<(), Gone> {
        self.drained(1).await?;
        let spans = spans_of(frame);
        let request = Request { frame, args: &spans };
        let table = self.instance.core().table.clone();
        let spec = table.spec(command);
        let footprint = self.footprint(spec, effect, &request);
        let writes = effect.writes || effect.kind == Kind::Publish;
        let told = self.instance.core_mut().way(command, effect.writes, &request);
        let scope = scope(spec, effect, &footprint, told);
        if heavy && footprint.keys().len() == 1 {
            // What is large to write is large to read.
            self.note_large_keys(&footprint);
        }
        let way = match heavy && self.reads_from_other() {
            true => heavy_way(effect, &footprint, told.way),
            false => told.way,
        };
        let expiry = expiry(spec, &request, told);
        let refused = self.instance.core().swap_refusal(scope, frame);
        if let Some(error) = refused {
            self.pay(seq, &error);
            return Ok(());
        }
        let fenced = match self.take_place(writes, &footprint, frame).await? {
            Ok(fenced) => fenced,
            Err(error) => {
                self.pay(seq, &error);
                return Ok(());
            }
        };
        let sent = Cow::Borrowed(frame);
        let ways = vec![way];
        let work = Work { command, frame, sent, replies: 1, footprint, ways, scope, writes, expiry };
        let outcome = self.run_fenced(work, fenced, false).await;
        let reply = match &outcome {
            Ok(replies) => replies.first().map_or(&[][..], Vec::as_slice),
            Err(error) => error,
        };
        self.pay(seq, reply);
        self.lower_fence(fenced);
        Ok(())
    }

    pub(super) fn footprint_of(&mut self, request: &Owned) -> Footprint {
        let table = self.instance.core().table.clone();
        let spans = spans_of(&request.frame);
        let view = Request { frame: &request.frame, args: &spans };
        self.footprint(table.spec(request.command), &request.effect, &view)
    }

    /// The place of a transaction, whose keys may be in several databases.
    async fn take_place_of(&mut self, multi: &Multi) -> Result<Result<bool, Vec<u8>>, Gone> {
        loop {
            let flips = self.instance.core().flips();
            for (db, reach) in &multi.reach {
                if let Err(error) = self.take_over(reach, &multi.frames, *db).await? {
                    return Ok(Err(error));
                }
            }
            if let Err(error) = self.take_over(&multi.named, &multi.frames, self.state.db).await? {
                return Ok(Err(error));
            }
            let placed = self.take_place(multi.writes, &multi.footprint, &multi.frames).await?;
            if self.instance.core().flips() == flips {
                return Ok(placed);
            }
            if let Ok(fenced) = placed {
                self.lower_fence(fenced);
            }
        }
    }

    /// EXEC of a transaction that watched keys, or that changes connection state.
    pub(super) async fn exec_pinned(&mut self, seq: u64) -> Result<(), Gone> {
        let Some(mut multi) = self.multi.take() else { return Ok(()) };
        {
            let mut core = self.instance.core_mut();
            multi.answer(|seq, reply| core.clients.pay(self.key, seq, reply));
        }
        self.drained(1).await?;
        let fenced = match self.take_place_of(&multi).await? {
            Ok(fenced) => fenced,
            Err(error) => {
                self.pay(seq, &error);
                self.io.info.borrow_mut().queued = -1;
                self.unpin();
                return Ok(());
            }
        };
        let refused = self.instance.core().swap_refusal(multi.scope, &multi.frames);
        if let Some(error) = refused {
            self.pay(seq, &error);
            self.io.info.borrow_mut().queued = -1;
            self.unpin();
            self.lower_fence(fenced);
            return Ok(());
        }
        let store = self.instance.core().default_store();
        let left = self.is_watching() && self.pinned.as_ref().is_some_and(|loan| loan.store != store);
        let lost = self.watch_lost || left;
        let exec = self.instance.core().table.by_name("exec");
        if let Some(command) = exec.filter(|_| !lost) {
            encode::command(&mut multi.frames, &[b"EXEC"]);
            let work = Work {
                command,
                frame: &multi.frames,
                sent: Cow::Owned(multi.for_own_connection()),
                replies: multi.parts.len() + 1,
                footprint: multi.footprint.clone(),
                ways: multi.ways.clone(),
                // What it does in other databases it names for itself alone.
                scope: if multi.selects.is_some() {
                    wider(multi.scope, Scope::Unlisted)
                } else {
                    multi.scope
                },
                writes: multi.writes,
                expiry: multi.expiry,
            };
            let outcome = self.run_fenced(work, fenced, multi.selects.is_some()).await;
            if let Some(loan) = &mut self.pinned {
                loan.watching = false;
            }
            if let Some(tracking) = &mut self.tracking {
                tracking.unwatch = false;
            }
            self.exec_done(seq, &multi, outcome);
        } else {
            // What was watched, on a connection or a store that does not count any more, may have changed.
            self.pay_with(seq, |out| encode::nil_array(out, self.state.proto));
        }
        self.io.info.borrow_mut().queued = -1;
        if multi.private
            && let Some(mut loan) = self.pinned.take()
        {
            loan.spoil();
        }
        self.unpin();
        self.lower_fence(fenced);
        Ok(())
    }

    fn exec_done(&mut self, seq: u64, multi: &Multi, outcome: Result<Vec<Vec<u8>>, Vec<u8>>) {
        let replies = match outcome {
            Ok(replies) => replies,
            Err(error) => return self.pay(seq, &error),
        };
        let exec = replies.get(multi.parts.len()).cloned().unwrap_or_default();
        let exec = self.with_own_replies(exec, multi);
        self.pay(seq, &exec);
        if let Ok(Value::Array(elements)) = Value::parse(&exec) {
            self.adopt(multi, &elements);
        }
    }

    /// EXEC's reply with those of the proxy's own in it.
    fn with_own_replies(&mut self, exec: Vec<u8>, multi: &Multi) -> Vec<u8> {
        if multi.own.is_empty() && multi.changes.is_empty() {
            return exec;
        }
        let Some(mut elements) = elements(&exec) else { return exec };
        for (at, _) in multi.changes.iter().filter(|(_, change)| matches!(change, Change::Proto(_))) {
            if let Some(hello) = elements.get_mut(*at) {
                *hello = Cow::Owned(with_id(hello, self.key.id()));
            }
        }
        for (at, own) in &multi.own {
            let reply = match own {
                Own::Client(command, args) => self.client_reply(*command, args),
                Own::Reply(reply) => reply.clone(),
            };
            if let Some(element) = elements.get_mut(*at) {
                *element = Cow::Owned(reply);
            }
        }
        let mut out = Vec::with_capacity(exec.len());
        encode::array_header(&mut out, elements.len());
        elements.iter().for_each(|element| out.extend_from_slice(element));
        out
    }

    /// Makes sure that the client's own connection leads to the default store, in its context.
    /// `watches`: the request to come watches keys on it.
    pub(super) async fn own_connection(&mut self, watches: bool) -> Result<(), Vec<u8>> {
        let store = self.instance.core().default_store();
        let context = self.state.context();
        let mut loan = match self.pinned.take() {
            Some(mut loan) if loan.store == store => {
                let entered = self.enter(&mut loan, context).await;
                if let Err(error) = entered {
                    self.watch_lost |= loan.watching;
                    self.closing |= self.tracking.is_some();
                    return Err(self.dedicated_error(store, error));
                }
                loan
            }
            old => {
                let unwatched = self.tracking.as_ref().is_some_and(|tracking| tracking.unwatch);
                self.watch_lost |= old.is_some_and(|loan| loan.watching && !unwatched);
                let acquired = match self.acquire().await {
                    Ok(mut loan) => self.track_on(&mut loan).await.map(|()| loan),
                    Err(error) => Err(error),
                };
                self.closing |= acquired.is_err() && self.tracking.is_some();
                acquired?
            }
        };
        loan.watching |= watches;
        self.pinned = Some(loan);
        Ok(())
    }

    /// Puts the client's own connection into its context, and lets go of keys that it does not watch any more.
    async fn enter(&mut self, loan: &mut Loan, context: Context) -> Result<(), DedicatedError> {
        let (limits, within) = (self.instance.reply_limits(), self.instance.config().reply_timeout);
        loan.enter(context, &limits, within).await?;
        if let Some(tracking) = self.tracking.as_mut().filter(|tracking| tracking.unwatch) {
            loan.send(UNWATCH, within).await?;
            loan.reply(&limits, within).await?;
            loan.watching = false;
            tracking.unwatch = false;
        }
        Ok(())
    }

    /// Sends a request on the client's own connection and awaits its replies.
    pub(super) async fn exchange(
        &mut self,
        frames: &[&[u8]],
        replies: usize,
    ) -> Result<Vec<Vec<u8>>, Vec<u8>> {
        let within = self.instance.config().reply_timeout;
        let limits = self.instance.reply_limits();
        let Some(mut loan) = self.pinned.take() else { return Err(Vec::new()) };
        let store = loan.store;
        match talk(&mut loan, frames, replies, &limits, within).await {
            Ok(frames) => {
                let pushes = loan.take_pushes();
                if !pushes.is_empty() {
                    self.instance.core_mut().clients.push(self.key, &pushes);
                }
                self.pinned = Some(loan);
                Ok(frames)
            }
            Err(error) => {
                loan.spoil();
                if matches!(error, DedicatedError::Timeout) {
                    give_up(&self.instance, store, loan.id);
                }
                self.watch_lost |= loan.watching;
                // Nothing tells such a client any more what has changed.
                self.closing |= self.tracking.is_some();
                Err(self.dedicated_error(store, error))
            }
        }
    }
}

/// The elements of an array, as they came.
fn elements(frame: &[u8]) -> Option<Vec<Cow<'_, [u8]>>> {
    let limits = ReplyLimits::default();
    let mut at = memchr::memchr(b'\n', frame.get(..1).filter(|first| *first == b"*").and(Some(frame))?)? + 1;
    let mut elements = Vec::new();
    while at < frame.len() {
        let rest = frame.get(at..)?;
        match ReplyScanner::new().scan(rest, &limits) {
            Ok(Scanned::Complete { len, .. }) => {
                elements.push(Cow::Borrowed(rest.get(..len)?));
                at += len;
            }
            _ => return None,
        }
    }
    (!elements.is_empty()).then_some(elements)
}

pub(super) async fn talk(
    loan: &mut Loan,
    frames: &[&[u8]],
    replies: usize,
    limits: &ReplyLimits,
    within: std::time::Duration,
) -> Result<Vec<Vec<u8>>, DedicatedError> {
    loan.clean = false;
    for frame in frames {
        loan.send(frame, within).await?;
    }
    let mut answers = Vec::with_capacity(replies);
    for _ in 0..replies {
        answers.push(loan.reply(limits, within).await?);
    }
    loan.clean = true;
    Ok(answers)
}
