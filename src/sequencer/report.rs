//! Comparison of the two stores' replies, and what is counted about it.

use std::time::SystemTime;

use crate::command::{Kind, Rule};
use crate::compare::{self, Samples, Verdict};
use crate::metrics::SkipReason;
use crate::stage::StoreId;

use super::Sequencer;
use super::derive::has_error;
use super::op::{Kept, OpKey, Owner, Reply};

// === impl Sequencer ===

impl Sequencer {
    /// Compares the reply of `store` that is at hand with the other one, which was kept.
    pub(super) fn compare(&mut self, key: OpKey, store: StoreId, frame: &[u8]) {
        let max = self.settings.compare_max_bytes;
        let Some(op) = self.ops.get_mut(key) else { return };
        let other = &mut op.replies[store.other().index()];
        if op.rule != Rule::Ignore && other.frame() == Some(frame) {
            // What is equal byte for byte is equal by every rule.
            *other = Reply::Gone;
            self.tally.compared();
            self.doubt_failed_alike(key, frame);
            return;
        }
        let other = std::mem::replace(other, Reply::Gone);
        match &other {
            Reply::Kept(kept) => match kept.frame() {
                Some(kept) if frame.len().max(kept.len()) <= max || kept == frame => {
                    self.compare_frames(key, store, frame, kept);
                }
                _ => {
                    let mine = Kept::new(frame, 0);
                    match store {
                        StoreId::Primary => self.compare_large(key, &mine, kept),
                        StoreId::Secondary => self.compare_large(key, kept, &mine),
                    }
                }
            },
            _ => self.metrics.comparisons_skipped[SkipReason::NoAnswer].inc(),
        }
    }

    /// Compares two replies that were both kept.
    pub(super) fn compare_kept(&mut self, key: OpKey) {
        let Some(op) = self.ops.get_mut(key) else { return };
        if !op.compare || op.is_open() {
            return;
        }
        let [primary, secondary] = std::mem::replace(&mut op.replies, [Reply::Gone, Reply::Gone]);
        let (Reply::Kept(primary), Reply::Kept(secondary)) = (&primary, &secondary) else {
            self.metrics.comparisons_skipped[SkipReason::NoAnswer].inc();
            return;
        };
        match (primary.frame(), secondary.frame()) {
            (Some(primary), Some(secondary)) => {
                self.compare_frames(key, StoreId::Primary, primary, secondary);
            }
            _ => self.compare_large(key, primary, secondary),
        }
    }

    /// Compares replies of which at least one is known by its hash only. Other bytes are another
    /// answer where nothing but equal bytes is equal; elsewhere they prove nothing.
    fn compare_large(&mut self, key: OpKey, primary: &Kept, secondary: &Kept) {
        let Some(op) = self.ops.get(key) else { return };
        let [primary, secondary] = [primary, secondary].map(Kept::fingerprint);
        let transaction = op.extra.as_ref().is_some_and(|extra| !extra.parts.is_empty());
        if primary == secondary {
            self.tally.compared();
            return;
        }
        let write = op.write;
        if op.rule == Rule::Ignore && !transaction {
            self.metrics.comparisons_skipped[SkipReason::Rule].inc();
            return;
        }
        if op.rule == Rule::Exact && !transaction {
            self.tally.compared();
            self.count_difference(key);
            let shown = [primary, secondary].map(|(len, hash)| samples_text(len, hash));
            self.record_difference(key, |samples, name, first_key| {
                samples.record_shown(name, first_key, shown, SystemTime::now());
            });
        } else {
            self.metrics.comparisons_skipped[SkipReason::TooLarge].inc();
        }
        if write {
            // One of them may be a refusal. A copy too many costs less than a key that differs.
            self.doubt_op(key);
        }
    }

    fn compare_frames(&mut self, key: OpKey, store: StoreId, mine: &[u8], theirs: &[u8]) {
        let Some(op) = self.ops.get(key) else { return };
        let alone = op.extra.as_ref().is_none_or(|extra| extra.parts.is_empty());
        if op.rule == Rule::Ignore && alone {
            self.metrics.comparisons_skipped[SkipReason::Rule].inc();
            return;
        }
        self.tally.compared();
        if mine == theirs {
            self.doubt_failed_alike(key, mine);
            return;
        }
        let tolerance = self.settings.ttl_tolerance;
        let transaction = op.extra.as_ref().filter(|extra| !extra.parts.is_empty());
        let verdict = match transaction {
            Some(extra) => {
                let inner = extra.parts.iter().skip(1).take(extra.parts.len().saturating_sub(2));
                let rules: Vec<_> = inner.map(|part| part.rule).collect();
                compare::equal_exec(&rules, mine, theirs, tolerance)
            }
            None => compare::equal(op.rule, mine, theirs, tolerance),
        };
        if verdict == Verdict::Differ {
            let (primary, secondary) =
                if store == StoreId::Primary { (mine, theirs) } else { (theirs, mine) };
            self.note_difference(key, primary, secondary);
        } else {
            self.doubt_failed_alike(key, mine);
        }
    }

    /// A write that failed on both stores, with errors that count as the same, may have got further on one of them than
    /// on the other: a script has written what it wrote before it failed, and the same words may be said of another
    /// command. What stands beside it in a transaction has either been carried out or not.
    #[inline]
    fn doubt_failed_alike(&mut self, key: OpKey, reply: &[u8]) {
        if matches!(reply.first(), Some(b'-' | b'!' | b'*' | b'|')) && self.failed_midway(key, reply) {
            self.doubt_op(key);
        }
    }

    fn failed_midway(&self, key: OpKey, reply: &[u8]) -> bool {
        let Some(op) = self.ops.get(key).filter(|op| op.write) else { return false };
        let runs_on = match self.table.spec(op.command).kind {
            Kind::Script => true,
            Kind::Transaction => op.extra.as_ref().is_some_and(|extra| extra.runs_scripts),
            _ => false,
        };
        runs_on && has_error(reply)
    }

    fn note_difference(&mut self, key: OpKey, primary: &[u8], secondary: &[u8]) {
        let Some(op) = self.ops.get(key) else { return };
        let default = op.default;
        let other_reply = match default {
            StoreId::Primary => secondary,
            StoreId::Secondary => primary,
        };
        let refused = compare::is_error(primary) || compare::is_error(secondary);
        let parted = op.write && (refused || !op.blind);
        if op.write && compare::is_error(other_reply) {
            self.metrics.store(default.other()).mirror_write_failures.inc();
        }
        self.count_difference(key);
        self.record_difference(key, |samples, name, first_key| {
            samples.record(name, first_key, primary, secondary, SystemTime::now());
        });
        if parted {
            self.doubt_op(key);
        }
    }

    /// A batch counts once; a transaction as one; what stands alone under its own name.
    fn count_difference(&mut self, key: OpKey) {
        let Some(op) = self.ops.get(key) else { return };
        if op.extra.as_ref().is_some_and(|extra| !extra.parts.is_empty()) {
            self.metrics.multi_diff.inc();
        } else if let (Some(batch), Owner::Client { key: client, .. }) = (op.batch, op.owner) {
            if self.clients.counts(client, batch) {
                self.metrics.pipelined_diff.inc();
            }
        } else {
            self.metrics.command_diff.inc(op.command.index());
        }
    }

    fn record_difference(&mut self, key: OpKey, record: impl FnOnce(&mut Samples, &str, Option<&[u8]>)) {
        let Some(op) = self.ops.get(key) else { return };
        let first_key = op.touched.first();
        record(&mut self.samples, &self.table.spec(op.command).name, first_key);
    }
}

fn samples_text(len: u64, hash: u64) -> String {
    format!("large({len} bytes, #{:08x})", hash >> 32)
}
