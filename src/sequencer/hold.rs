//! Submissions and fences that wait for their turn.
//!
//! One client holds at most one place here: a client that is held is read no further.

use std::collections::VecDeque;

use crate::command::{CommandId, Rule};
use crate::metrics::RequestKind;
use crate::stage::StoreId;

use super::clients::ClientKey;
use super::fence::{FenceKey, Fences, Footprint};
use super::lane::Context;
use super::op::{Failure, Part};
use super::{Path, Sequencer, Submission, Transaction};

/// What is held for a client.
enum What {
    Command {
        seq: u64,
        command: CommandId,
        path: Path,
        rule: Rule,
        kind: RequestKind,
        context: Context,
        frame: Box<[u8]>,
        key: Box<[u8]>,
        alone: bool,
        fills: usize,
    },
    Transaction {
        parts: Vec<Part>,
        command: CommandId,
        context: Context,
        frame: Box<[u8]>,
        writes: bool,
    },
    Fence,
}

struct Waiting {
    client: ClientKey,
    /// Since when, on the sequencer's clock.
    at: u64,
    footprint: Footprint,
    what: What,
}

/// A fence that stands, and the point that the default store must have answered before its owner
/// may go on.
struct Standing {
    client: ClientKey,
    fence: FenceKey,
    store: StoreId,
    target: u64,
}

/// Fences, and what waits for them.
#[derive(Default)]
pub(super) struct Holds {
    fences: Fences,
    waiting: VecDeque<Waiting>,
    standing: Vec<Standing>,
}

// === impl What ===

impl What {
    /// The slots that are owed for it.
    fn unpaid(&self) -> Vec<u64> {
        match self {
            What::Command { seq, .. } => vec![*seq],
            What::Transaction { parts, .. } => {
                parts.iter().filter(|part| !part.answered).map(|part| part.seq).collect()
            }
            What::Fence => Vec::new(),
        }
    }
}

// === impl Holds ===

impl Holds {
    pub fn is_open(&self) -> bool {
        self.fences.is_open()
    }

    pub fn blocks(&self, footprint: &Footprint) -> bool {
        self.fences.blocks(footprint)
    }

    pub fn reserve(&mut self, footprint: &Footprint) {
        self.fences.reserve(footprint);
    }

    fn push(&mut self, waiting: Waiting) {
        self.fences.reserve(&waiting.footprint);
        self.waiting.push_back(waiting);
    }
}

// === impl Sequencer ===

impl Sequencer {
    pub(super) fn hold_submission(&mut self, submission: &Submission<'_>) {
        self.holds.push(Waiting {
            client: submission.client,
            at: self.now,
            footprint: submission.footprint.clone(),
            what: What::Command {
                seq: submission.seq,
                command: submission.command,
                path: submission.path,
                rule: submission.rule,
                kind: submission.kind,
                context: submission.context,
                frame: submission.frame.into(),
                key: submission.key.into(),
                alone: submission.alone,
                fills: submission.fills,
            },
        });
    }

    pub(super) fn hold_transaction(&mut self, transaction: Transaction<'_>) {
        self.holds.push(Waiting {
            client: transaction.client,
            at: self.now,
            footprint: transaction.footprint,
            what: What::Transaction {
                parts: transaction.parts,
                command: transaction.command,
                context: transaction.context,
                frame: transaction.frame.into(),
                writes: transaction.writes,
            },
        });
    }

    /// Is something of this client held? Its session must not submit more until it is woken.
    pub fn is_held(&self, client: ClientKey) -> bool {
        !self.holds.waiting.is_empty() && self.holds.waiting.iter().any(|w| w.client == client)
    }

    /// Asks for a fence around `footprint`. The client is woken when [`Sequencer::fence_ready`].
    pub fn request_fence(&mut self, client: ClientKey, footprint: Footprint) {
        if self.holds.blocks(&footprint) {
            self.holds.push(Waiting { client, at: self.now, footprint, what: What::Fence });
        } else {
            self.raise(client, footprint);
        }
    }

    fn raise(&mut self, client: ClientKey, footprint: Footprint) {
        let store = self.default_store();
        let fence = self.holds.fences.raise(footprint);
        let target = self.lane(store).appended();
        self.holds.standing.push(Standing { client, fence, store, target });
    }

    /// Has the default store answered everything that came before this client's fence?
    pub fn fence_ready(&self, client: ClientKey) -> bool {
        self.holds.standing.iter().any(|s| s.client == client && self.lane(s.store).answered() >= s.target)
    }

    /// Takes this client's fence down and lets go on what waited for it.
    pub fn lower_fence(&mut self, client: ClientKey) {
        let Some(at) = self.holds.standing.iter().position(|s| s.client == client) else { return };
        let standing = self.holds.standing.swap_remove(at);
        self.holds.fences.lower(standing.fence);
        self.release_held();
    }

    /// Gives up a fence, whether it stands or still waits.
    pub fn cancel_fence(&mut self, client: ClientKey) {
        self.drop_holds_of(client);
    }

    /// Is something waiting for its turn?
    pub fn is_anyone_held(&self) -> bool {
        !self.holds.waiting.is_empty()
    }

    /// Refuses commands that have waited since before `before`. Who waits for a fence of its own
    /// gives up by itself.
    pub(super) fn expire_holds(&mut self, before: u64) {
        let late = |entry: &Waiting| entry.at < before && !matches!(entry.what, What::Fence);
        if !self.holds.waiting.iter().any(late) {
            return;
        }
        let (late, kept): (VecDeque<Waiting>, VecDeque<Waiting>) =
            std::mem::take(&mut self.holds.waiting).into_iter().partition(late);
        self.holds.waiting = kept;
        let frame = self.failure_frame(self.default_store(), Failure::NotSent);
        for entry in late {
            self.holds.fences.free(&entry.footprint);
            for seq in entry.what.unpaid() {
                self.clients.pay(entry.client, seq, &frame);
            }
            self.clients.wake(entry.client);
        }
        self.release_held();
    }

    /// What progress of the lanes may have brought about.
    pub(super) fn after_progress(&mut self) {
        for at in 0..self.holds.standing.len() {
            let Some(standing) = self.holds.standing.get(at) else { break };
            if self.lane(standing.store).answered() >= standing.target {
                let client = standing.client;
                self.clients.wake(client);
            }
        }
    }

    /// Gives everything that waits its turn, in order; what is still blocked stays.
    fn release_held(&mut self) {
        if let Some(stage) = self.pending_stage
            && self.holds.standing.is_empty()
        {
            self.pending_stage = None;
            self.holds.fences.free(&Footprint::Everything);
            self.metrics.flip_held.set(0);
            self.apply_stage(stage);
        }
        let waiting = std::mem::take(&mut self.holds.waiting);
        for entry in &waiting {
            self.holds.fences.free(&entry.footprint);
        }
        for entry in waiting {
            if self.holds.blocks(&entry.footprint) {
                self.holds.push(entry);
            } else {
                self.release(entry);
            }
        }
        self.retry_deferred();
    }

    fn release(&mut self, entry: Waiting) {
        let Waiting { client, footprint, what, .. } = entry;
        match what {
            What::Command { seq, command, path, rule, kind, context, frame, key, alone, fills } => {
                self.place(Submission {
                    client,
                    seq,
                    command,
                    path,
                    rule,
                    kind,
                    context,
                    frame: &frame,
                    footprint,
                    key: &key,
                    alone,
                    fills,
                });
            }
            What::Transaction { parts, command, context, frame, writes } => {
                self.place_transaction(Transaction {
                    client,
                    parts,
                    command,
                    context,
                    frame: &frame,
                    footprint,
                    writes,
                });
            }
            What::Fence => self.raise(client, footprint),
        }
        self.clients.wake(client);
    }

    pub(super) fn drop_holds_of(&mut self, client: ClientKey) {
        if self.holds.waiting.is_empty() && self.holds.standing.is_empty() {
            return;
        }
        let (gone, kept): (VecDeque<Waiting>, VecDeque<Waiting>) =
            std::mem::take(&mut self.holds.waiting).into_iter().partition(|w| w.client == client);
        self.holds.waiting = kept;
        gone.iter().for_each(|w| self.holds.fences.free(&w.footprint));
        self.lower_fence(client);
        if !gone.is_empty() {
            // What had lined up behind it may go.
            self.release_held();
        }
    }
}
