//! What became of a copy: done, kept its own, refused, put off, given up.

use crate::metrics::CopyOutcome;
use crate::resp::encode;
use crate::resp::value::Value;

use super::super::Sequencer;
use super::super::knowledge::Sync;
use super::super::op::{Failure, Owner};
use super::super::touched::Touched;
use super::payload::{Payloads, Refusal};
use super::rounds::Means;
use super::{Copy, CopyKey};

/// Reads of a key that somebody waits for, while its store's connection is cut again and again.
const MAX_LOST: u32 = 10;
/// A key that cannot be copied is looked at again after this pause: it may have changed.
const GIVEN_UP_PAUSE_MICROS: u64 = 60_000_000;
/// A copy that must wait for others is tried again after this pause.
const PUT_OFF_MICROS: u64 = 20_000;

/// What came of the value that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is there.
    Written,
    /// The store had a value of its own, which was not to be replaced.
    KeptItsOwn,
    /// It is not there.
    Refused,
}

// === impl Copy ===

impl Copy {
    fn verdict(&self, frame: &[u8]) -> Verdict {
        match &self.means {
            Means::Typed(typed) => typed.verdict(frame, self.replace),
            _ if !self.replace && (frame.starts_with(b"-BUSYKEY") || frame == b":1\r\n") => {
                Verdict::KeptItsOwn
            }
            _ if frame.first() == Some(&b'-') => Verdict::Refused,
            _ => Verdict::Written,
        }
    }
}

// === impl Sequencer ===

impl Sequencer {
    /// The store that was behind has answered.
    pub(in crate::sequencer) fn copy_written(&mut self, key: CopyKey, frame: &[u8]) {
        let Some(copy) = self.copies.get(key) else { return };
        if !copy.applied {
            self.piece_written(key, frame);
            return;
        }
        // Nothing was to be taken over, and the store does not tell whether it has a value.
        let untold = self.known.of(copy.hash) == Sync::InSync;
        let verdict = copy.verdict(frame);
        if verdict != Verdict::Refused
            && let Some(copy) = self.copies.get_mut(key)
        {
            copy.means.has_its_name();
        }
        let Some(copy) = self.copies.get(key) else { return };
        match verdict {
            Verdict::Written => self.taken_over(key),
            Verdict::KeptItsOwn => self.kept_its_own(key),
            Verdict::Refused if untold && !copy.replace => self.kept_its_own(key),
            Verdict::Refused => self.write_refused(key, frame),
        }
    }

    fn taken_over(&mut self, key: CopyKey) {
        let Some(copy) = self.copies.get(key) else { return };
        let now = self.now;
        let tolerance = self.settings.ttl_tolerance.as_micros() as u64;
        let delay = copy.expiring_since.map_or(0, |at| now.saturating_sub(at));
        self.ends.delayed(copy.hash, delay);
        if delay > tolerance {
            // What waited in a queue expires too late by as much.
            self.known.doubt(copy.hash, copy.db, &copy.key, copy.from.other(), now);
            self.known.postpone(copy.hash, copy.history, now);
        } else if copy.from.other() == self.stage().default_store()
            && !copy.dirty
            && self.known.of(copy.hash) != Sync::Suspect(copy.from)
        {
            self.settle_key(copy.hash);
        } else if !copy.replace {
            // What a cold store lacked it has now.
            self.known.warm(copy.hash);
        }
        self.copied(key);
    }

    pub(super) fn copied(&mut self, key: CopyKey) {
        self.copy_counts.done += 1;
        self.metrics.copies[CopyOutcome::Done].inc();
        self.copies.refusal.clear();
        self.end_copy(key, None);
    }

    /// The primary has a value of its own. What counts is what the default store has: the other one is behind.
    fn kept_its_own(&mut self, key: CopyKey) {
        let Some(copy) = self.copies.get(key) else { return };
        let (hash, db, behind) = (copy.hash, copy.db, self.default_store().other());
        // What was placed since nothing was to be taken over may have carried the value on, on one store only.
        let touched = Touched::key(hash, &copy.key);
        self.settle_key(hash);
        self.doubt(&touched, db, behind);
        // Not cold: where the primary counts it had it, and when it is gone there, it is gone.
        self.known.warm(hash);
        self.end_copy(key, None);
    }

    /// The value was refused: another way may do better.
    fn write_refused(&mut self, key: CopyKey, frame: &[u8]) {
        let now = self.now;
        let Some(copy) = self.copies.get_mut(key) else { return };
        let refusal = match copy.means {
            Means::Payload => Refusal::of(frame),
            _ => Refusal::Other,
        };
        if refusal == Refusal::Other {
            self.copy_refused(key, frame);
            return;
        }
        copy.applied = false;
        copy.expiring_since = None;
        copy.rounds = 0;
        let from = copy.from;
        if copy.replace {
            self.known.doubt(copy.hash, copy.db, &copy.key, from.other(), now);
        }
        if refusal == Refusal::Every && self.copies.payloads[from.index()] != Payloads::Refused {
            self.copies.payloads[from.index()] = Payloads::Refused;
            tracing::info!(
                "the {} store refuses payloads of the {from} store ({}): keys are copied by their types from here on",
                from.other(),
                String::from_utf8_lossy(frame).trim()
            );
        }
        self.read_by_type(key, None);
    }

    /// A store answered a copy with an error.
    pub(super) fn copy_refused(&mut self, key: CopyKey, frame: &[u8]) {
        let now = self.now;
        let error = first_error(frame);
        if self.copies.refusal != error {
            tracing::warn!("a key could not be copied and stays suspect; it is tried again: {error}");
            self.copies.refusal.clone_from(&error);
        }
        self.copy_counts.failed += 1;
        self.metrics.copies[CopyOutcome::Failed].inc();
        let Some(copy) = self.copies.get(key) else { return };
        let (hash, behind) = (copy.hash, copy.from.other());
        if copy.replace || copy.applied {
            self.known.doubt(hash, copy.db, &copy.key, behind, now);
            self.known.postpone(hash, copy.history, now);
        }
        // The store's own words where they are about the write, too.
        let text = match error.strip_prefix("ERR ") {
            Some(_) => format!(
                "MULTISTORE what only {} has of the key could not be copied to {} ({error}); the command was not sent",
                self.store_name(behind.other()),
                self.store_name(behind)
            ),
            None => error,
        };
        self.end_copy(key, Some(text));
    }

    /// It cannot be copied, today or tomorrow, unless something changes.
    pub(super) fn give_copy_up(&mut self, key: CopyKey, outcome: CopyOutcome, why: &str) {
        let now = self.now;
        let Some(copy) = self.copies.get(key) else { return };
        let (hash, behind) = (copy.hash, copy.from.other());
        match outcome {
            CopyOutcome::TooLarge => self.copy_counts.too_large += 1,
            _ => self.copy_counts.unsupported += 1,
        }
        self.metrics.copies[outcome].inc();
        tracing::warn!("a key stays suspect on the {behind} store, {why}; it is tried again in a minute");
        if copy.replace {
            self.known.doubt(hash, copy.db, &copy.key, behind, now);
        }
        // A fence that only kept the key from changing tells nobody anything.
        let text = copy.fenced_until.is_none().then(|| {
            let name = self.store_name(behind);
            format!("MULTISTORE the key could not be copied to {name}, {why}; the command was not sent")
        });
        self.end_copy(key, text);
        self.known.give_up(hash, now + GIVEN_UP_PAUSE_MICROS);
    }

    /// Others come first; the key is as suspect as it was.
    pub(super) fn put_copy_off(&mut self, key: CopyKey) {
        let now = self.now;
        let Some(copy) = self.copies.get(key) else { return };
        let hash = copy.hash;
        if copy.replace {
            self.known.doubt(hash, copy.db, &copy.key, copy.from.other(), now);
        }
        self.end_copy(key, None);
        self.known.postpone_by(hash, now + PUT_OFF_MICROS);
    }

    /// The key is written to while it is copied: the next attempt comes after a pause that doubles.
    pub(super) fn postpone_copy(&mut self, key: CopyKey) {
        let now = self.now;
        let Some(copy) = self.copies.get(key) else { return };
        let (hash, history) = (copy.hash, copy.history);
        self.known.doubt(hash, copy.db, &copy.key, copy.from.other(), now);
        self.end_copy(key, None);
        self.known.postpone(hash, history, now);
    }

    /// A copy could not be made now: the key stays, or becomes, suspect.
    pub(in crate::sequencer) fn copy_failed(&mut self, key: CopyKey) {
        let now = self.now;
        let default = self.default_store();
        let Some(copy) = self.copies.get(key) else { return };
        self.copy_counts.failed += 1;
        self.metrics.copies[CopyOutcome::Failed].inc();
        match (copy.replace, copy.applied, self.known.of(copy.hash)) {
            (true, ..) => {
                self.known.doubt(copy.hash, copy.db, &copy.key, copy.from.other(), now);
                self.known.postpone(copy.hash, copy.history, now);
            }
            // Whether the default store has it now shows when it is needed again.
            (false, true, Sync::Unknown | Sync::Suspect(_)) => {}
            // The default store counts, whatever it has, and whichever it is by now.
            (false, true, Sync::InSync) => {
                self.known.doubt(copy.hash, copy.db, &copy.key, default.other(), now);
            }
            // The default store goes on alone for this key: what it writes is copied back. Where nobody waits any more,
            // whoever needs the key next has it copied again.
            (false, false, _) if copy.hydration.is_some() && self.is_waited_for(copy.hash) => {
                self.known.doubt(copy.hash, copy.db, &copy.key, default.other(), now);
                self.known.go_on_alone(copy.hash);
            }
            (false, false, _) => {}
        }
        self.end_copy(key, None);
    }

    /// Does a client wait until this key is copied?
    fn is_waited_for(&self, hash: u64) -> bool {
        self.holds.is_waited_for(hash)
            || self.hydration_waiters.iter().any(|(_, footprint)| footprint.includes(hash))
            || !self.parks.first_in_line(hash, 1).is_empty()
    }

    /// One lane's part in a copy has failed.
    pub(in crate::sequencer) fn copy_lost(&mut self, owner: Owner, failure: Failure) {
        match owner {
            // A connection that was cut is no reason to go on without what is on the other side of it.
            Owner::CopyRead(key) if failure == Failure::Lost && self.may_read_again(key) => {
                self.read_copy(key)
            }
            Owner::CopyRead(key) | Owner::CopyWrite(key) => self.copy_failed(key),
            _ => {}
        }
    }

    fn may_read_again(&self, key: CopyKey) -> bool {
        let waited_for = |copy: &&Copy| copy.hydration.is_some() && copy.fenced_until.is_none();
        let copy = self.copies.get(key).filter(waited_for);
        copy.is_some_and(|copy| copy.rounds < MAX_LOST && self.lane(copy.from).accepts())
    }

    /// Nothing more comes of it. `refused`: what to tell those who waited for the key on the default store.
    pub(super) fn end_copy(&mut self, key: CopyKey, refused: Option<String>) {
        let Some(copy) = self.copies.remove(key) else { return };
        self.drop_scratch(copy.from.other(), copy.db, &copy.means);
        self.next_by_pieces();
        let Some(id) = copy.hydration else { return };
        let to_default = copy.from.other() == self.default_store();
        let refused = refused.filter(|_| to_default).map(|text| {
            let mut frame = Vec::new();
            encode::error(&mut frame, text);
            (copy.hash, frame.into())
        });
        self.hydrated(id, refused);
    }
}

/// The error in a reply, or the first one in what EXEC answered.
fn first_error(frame: &[u8]) -> String {
    let text = match Value::parse(frame) {
        Ok(Value::Error(text)) => Some(text),
        Ok(Value::Array(replies)) => replies.iter().find_map(|reply| match reply {
            Value::Error(text) => Some(*text),
            _ => None,
        }),
        _ => None,
    };
    String::from_utf8_lossy(text.unwrap_or(b"ERR the store's answer cannot be understood")).into_owned()
}
