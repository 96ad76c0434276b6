//! What runs on a connection of its own takes its place in the one order: a fence, the work, its effect.

use std::borrow::Cow;

use crate::command::{CommandId, Kind};
use crate::mirror::Way;
use crate::resp::value::Value;
use crate::sequencer::fence::Footprint;
use crate::sequencer::op::Failure;
use crate::sequencer::{Dedicated, Expiry, Scope, TakeOver};

use super::transaction::{Change, Multi};
use super::{Gone, Session};

/// How often keys are copied for a client with a connection of its own before it is told that it cannot be done.
const HYDRATIONS: usize = 3;

/// What runs on a client's own connection.
pub(super) struct Work<'a> {
    pub(super) command: CommandId,
    /// What the lanes would be sent.
    pub(super) frame: &'a [u8],
    /// What the client's own connection is sent.
    pub(super) sent: Cow<'a, [u8]>,
    pub(super) replies: usize,
    pub(super) footprint: Footprint,
    pub(super) ways: Vec<Way>,
    pub(super) scope: Scope,
    pub(super) writes: bool,
    pub(super) expiry: Expiry,
}

// === impl Session ===

impl Session {
    /// Runs a request on the client's own connection, and places its effect if it is fenced.
    pub(super) async fn run_fenced(
        &mut self,
        work: Work<'_>,
        fenced: bool,
        selects: bool,
    ) -> Result<Vec<Vec<u8>>, Vec<u8>> {
        let (asked, companions) = match fenced {
            true => self.instance.core().companions(&work.ways, &work.sent),
            false => (Vec::new(), 0),
        };
        let (watches, kind) = {
            let core = self.instance.core();
            let spec = core.table.spec(work.command);
            (spec.name == "watch", spec.kind)
        };
        let aside = work.writes && !fenced;
        if aside {
            // Before anything is awaited: the stage must not become dual unnoticed.
            self.instance.core_mut().step_aside(self.key, work.footprint.clone());
        }
        if let Err(error) = self.own_connection(watches).await {
            self.instance.core_mut().step_back(self.key, None);
            return Err(error);
        }
        if fenced && !work.scope.is_named() {
            self.instance.core_mut().listen_aside(self.key, work.frame, work.scope, self.state.db);
        }
        let exchanged = self.exchange(&[&work.sent, &asked], work.replies + companions as usize).await;
        if aside {
            let written = (work.frame, work.scope, self.state.db);
            self.instance.core_mut().step_back(self.key, Some(written));
        }
        self.instance.core_mut().listened_aside(self.key);
        let replies = match exchanged {
            Ok(replies) => replies,
            Err(error) => {
                if fenced {
                    let db = self.state.db;
                    self.instance.core_mut().doubt_effect(&work.footprint, work.frame, work.scope, db);
                }
                return Err(error);
            }
        };
        let reply = replies.get(work.replies - 1).cloned().unwrap_or_default();
        if fenced && !is_refusal(kind, &reply) {
            let companions: Vec<Box<[u8]>> =
                replies.iter().skip(work.replies).map(|reply| reply.as_slice().into()).collect();
            let context = self.state.context();
            let told_at = self.instance.core_mut().place_effect(Dedicated {
                command: work.command,
                context,
                frame: work.frame,
                replies: work.replies as u32,
                reply: &reply,
                companions: &companions,
                footprint: work.footprint,
                ways: work.ways,
                scope: work.scope,
                selects,
                expiry: work.expiry,
            });
            if let Some(position) = told_at {
                self.instance.settle();
                self.await_other(position).await;
            }
        }
        Ok(replies)
    }

    /// Waits until the other store has executed what must be gone from it, for as long as anybody waits for a reply. The
    /// fence stands meanwhile, whose owner is woken whenever a lane gets on.
    async fn await_other(&mut self, position: u64) {
        let within = self.instance.config().reply_timeout;
        let answered = self.until(move |session| session.instance.core().has_answered(position));
        // Whoever is gone is not told anyway.
        let _ = tokio::time::timeout(within, answered).await;
    }

    /// Waits until the default store has what only the other one knows of these keys, and everything else that is
    /// on its way to it: this client's own connection would overtake that. A write takes its keys. False: no fence
    /// was needed.
    pub(super) async fn take_place(
        &mut self,
        writes: bool,
        footprint: &Footprint,
        frame: &[u8],
    ) -> Result<Result<bool, Vec<u8>>, Gone> {
        let hashes: Vec<u64> = footprint.keys().iter().map(|key| key.hash).collect();
        loop {
            let flips = self.instance.core().flips();
            if let Err(error) = self.take_over(footprint, frame, self.state.db).await? {
                return Ok(Err(error));
            }
            let waits = writes || self.instance.core().is_write_pending(&hashes);
            let fenced = match self.raise_fence(waits, footprint).await? {
                Ok(fenced) => fenced,
                Err(error) => return Ok(Err(error)),
            };
            // What stood in its way may have been a change of stage: another store may lack something now.
            if writes && self.instance.core().flips() == flips {
                return Ok(Ok(fenced));
            }
            // A change of stage may have waited for this fence.
            self.lower_fence(fenced);
            if !writes && self.instance.core().flips() == flips {
                return Ok(Ok(false));
            }
        }
    }

    /// Waits until the default store has what only the other one knows of these keys. An error frame: it refuses that.
    pub(super) async fn take_over(
        &mut self,
        footprint: &Footprint,
        frame: &[u8],
        db: u32,
    ) -> Result<Result<(), Vec<u8>>, Gone> {
        let key = self.key;
        let mut attempts = 0;
        loop {
            let told = self.instance.core_mut().hydrate_for(footprint, frame, db);
            match told {
                TakeOver::Done => return Ok(Ok(())),
                TakeOver::Begun if attempts == HYDRATIONS => {
                    return Ok(Err(self.instance.core().not_taken_over()));
                }
                TakeOver::Begun => attempts += 1,
                TakeOver::HeldUp => {}
            }
            let keys = footprint.clone();
            self.until(move |session| !session.instance.core_mut().awaits_hydration(key, &keys)).await?;
        }
    }

    /// A transaction has changed the state of its connection: it becomes the client's.
    pub(super) fn adopt(&mut self, multi: &Multi, elements: &[Value<'_>]) {
        for (change, element) in
            multi.changes.iter().filter_map(|(at, change)| Some((change, elements.get(*at)?)))
        {
            if element.is_error() {
                continue;
            }
            match change {
                Change::Db(db) => self.selected(*db),
                Change::Proto(proto) => self.speak(*proto),
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
        let settled = self.until(move |session| {
            let core = session.instance.core();
            core.fence_ready(key) || core.is_fence_hopeless(key)
        });
        let failure = match tokio::time::timeout(within, settled).await {
            Ok(settled) => settled.map(|()| Failure::Down)?,
            Err(_) => Failure::NotSent,
        };
        let mut core = self.instance.core_mut();
        if core.fence_ready(key) {
            return Ok(Ok(true));
        }
        core.cancel_fence(key);
        Ok(Err(core.failure_frame(core.default_store(), failure)))
    }

    pub(super) fn lower_fence(&mut self, fenced: bool) {
        if fenced {
            self.instance.core_mut().lower_fence(self.key);
        }
        self.instance.settle();
    }
}

/// Did nothing happen: an error, or a transaction that was not executed? A script may have written before it failed,
/// and nil is an answer like any other to all commands but EXEC.
fn is_refusal(kind: Kind, reply: &[u8]) -> bool {
    let error = reply.first() == Some(&b'-');
    match kind {
        Kind::Script => false,
        Kind::Transaction => error || matches!(reply, b"*-1\r\n" | b"_\r\n"),
        _ => error,
    }
}
