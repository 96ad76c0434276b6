//! When keys end, as far as it is known. Pure, bounded.
//!
//! A key with a time to live ends by each store's own clock, and both stores execute a write at moments of their own. One
//! that reaches one store before the key's end and the other one after it does two different things, and may be
//! answered alike by both. So for each key in sync that may end it is known between which moments, on the sequencer's
//! clock, its end lies on either store: what is under way in that time is not trusted ([`track`](super::ends)).
//!
//! Invariant: a key in sync that is not listed, and not among the `rest`, has no end.

mod track;

use std::collections::HashMap;

/// When a key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    /// On neither store before this.
    from: u64,
    /// On both stores by then.
    to: u64,
    /// What the last write asked for, by which its answer is told from that to another one.
    last: u64,
    /// That write is not answered by both stores yet: the key may end later.
    open: bool,
}

/// When keys end.
#[derive(Debug)]
pub(super) struct Ends {
    known: HashMap<u64, End, foldhash::fast::RandomState>,
    limit: usize,
    /// Keys that are not listed since there are too many: the first and the last of their ends.
    rest: Option<(u64, u64)>,
    /// So many keys are listed before those are looked for that have ended.
    swept_at: usize,
    /// Tells questions apart.
    questions: u64,
}

/// No time: nothing is to be minded.
pub(super) const NEVER: u64 = u64::MAX;
/// Keys listed, about 50 bytes each.
const LIMIT: usize = 1_000_000;
/// Servers count in milliseconds, and by a clock that they look at before a command, not within.
const MARGIN_MICROS: u64 = 20_000;
/// A key that has ended stays listed for so long: a write that prolongs its life may still be under way.
const KEPT_MICROS: u64 = 60_000_000;
/// Fewer listed keys are not swept.
const FEW: usize = 1024;

// === impl Ends ===

impl Default for Ends {
    fn default() -> Ends {
        Ends { known: HashMap::default(), limit: LIMIT, rest: None, swept_at: FEW, questions: 0 }
    }
}

impl Ends {
    /// Does no key end? The common case, checked first.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.rest.is_none()
    }

    /// May this key end?
    pub fn may_end(&self, key: u64) -> bool {
        self.rest.is_some() || self.known.contains_key(&key)
    }

    /// From when on a write that is placed `now` and depends on the key may be executed before its end by one store and
    /// after it by the other.
    pub fn due(&self, key: u64, now: u64) -> u64 {
        let listed = self.known.get(&key).map(|end| (end.from, if end.open { NEVER } else { end.to }));
        let Some((from, to)) = listed.or(self.rest) else { return NEVER };
        let over = now > to.saturating_add(MARGIN_MICROS);
        if over { NEVER } else { from.saturating_sub(MARGIN_MICROS) }
    }

    /// A write is placed that makes the key end at `end`, if it is carried out at once.
    pub fn asked(&mut self, key: u64, end: u64, now: u64) {
        if let Some(known) = self.known.get_mut(&key) {
            let (from, to) = (known.from.min(end), known.to.max(end));
            *known = End { from, to, last: end, open: true };
        } else {
            self.list(key, End { from: end, to: end, last: end, open: true }, now);
        }
    }

    /// A store has answered the write that asked for `end`, so long after it was placed. `done`: the default store has
    /// carried it out. `open`: the other store has not answered yet.
    pub fn answered(&mut self, key: u64, end: u64, delay: u64, done: bool, open: bool) {
        let latest = end.saturating_add(delay);
        match self.known.get_mut(&key) {
            Some(known) if done && known.last == end => {
                *known = End { from: end, to: latest, last: end, open }
            }
            Some(known) => {
                known.to = known.to.max(latest);
                known.open &= open || known.last != end;
            }
            None => self.list(key, End { from: end, to: latest, last: end, open }, end),
        }
    }

    /// The key may end at any time, until the answer to the question with this number comes.
    pub fn unsure(&mut self, key: u64, now: u64) -> u64 {
        self.questions += 1;
        // No end that a write asks for.
        let question = NEVER - self.questions;
        let end = End { from: 0, to: NEVER, last: question, open: true };
        match self.known.get_mut(&key) {
            Some(known) => *known = end,
            None => self.list(key, end, now),
        }
        question
    }

    /// The answer to a question: between which moments the key ends, if it does.
    pub fn told(&mut self, key: u64, question: u64, end: Option<(u64, u64)>) {
        if self.known.get(&key).is_some_and(|known| known.last == question) {
            self.copied(key, end, 0);
            self.delayed(key, 0);
        }
    }

    /// What the key holds, and when it ends, is on its way to the other store.
    pub fn copied(&mut self, key: u64, end: Option<(u64, u64)>, now: u64) {
        match end {
            Some((from, to)) => {
                let end = End { from, to, last: NEVER, open: true };
                match self.known.get_mut(&key) {
                    Some(known) => *known = end,
                    None => self.list(key, end, now),
                }
            }
            None => {
                self.known.remove(&key);
            }
        }
    }

    /// A copy has arrived: the key may end so much later on the store that got it.
    pub fn delayed(&mut self, key: u64, delay: u64) {
        if let Some(known) = self.known.get_mut(&key) {
            known.to = known.to.saturating_add(delay);
            known.open = false;
        }
    }

    /// Nothing is in sync any more.
    pub fn clear(&mut self) {
        *self = Ends { limit: self.limit, questions: self.questions, ..Ends::default() };
    }

    fn list(&mut self, key: u64, end: End, now: u64) {
        if self.known.len() >= self.swept_at.min(self.limit) {
            self.sweep(now);
        }
        if self.known.len() < self.limit {
            self.known.insert(key, end);
            return;
        }
        let (from, to) = self.rest.unwrap_or((end.from, end.to));
        self.rest = Some((from.min(end.from), to.max(end.to)));
    }

    fn sweep(&mut self, now: u64) {
        let over = |to: u64| to.saturating_add(KEPT_MICROS) < now;
        self.known.retain(|_, end| !over(end.to));
        self.rest = self.rest.filter(|(_, to)| !over(*to));
        self.swept_at = (2 * self.known.len()).max(FEW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_write_is_due_from_shortly_before_the_end_until_shortly_after_it() {
        let mut ends = Ends::default();
        assert_eq!(ends.due(7, 0), NEVER);
        ends.asked(7, 10 * SECOND, 0);
        assert_eq!(ends.due(7, 0), 10 * SECOND - MARGIN_MICROS);
        assert_eq!(ends.due(8, 0), NEVER);
        assert_ne!(ends.due(7, 11 * SECOND), NEVER, "what is under way may make it live longer");
        ends.answered(7, 10 * SECOND, 0, true, true);
        assert_ne!(ends.due(7, 11 * SECOND), NEVER, "on the other store");
        ends.answered(7, 10 * SECOND, 0, false, false);
        assert_eq!(ends.due(7, 11 * SECOND), NEVER, "it has ended on both stores");
    }

    #[test]
    fn an_end_moves_when_the_write_was_done_and_not_before() {
        let mut ends = Ends::default();
        ends.asked(7, 10 * SECOND, 0);
        ends.answered(7, 10 * SECOND, 0, true, false);
        ends.asked(7, 30 * SECOND, SECOND);
        assert_eq!(ends.due(7, SECOND), 10 * SECOND - MARGIN_MICROS);
        ends.answered(7, 30 * SECOND, 5 * SECOND, false, true);
        assert_eq!(ends.due(7, 34 * SECOND), 10 * SECOND - MARGIN_MICROS, "nothing was done");
        ends.answered(7, 30 * SECOND, 5 * SECOND, true, false);
        assert_eq!(ends.due(7, 34 * SECOND), 30 * SECOND - MARGIN_MICROS);
        assert_eq!(ends.due(7, 36 * SECOND), NEVER);
    }

    #[test]
    fn an_answer_tells_about_its_own_question_alone() {
        let mut ends = Ends::default();
        let first = ends.unsure(7, 0);
        assert_eq!(ends.due(7, 99 * SECOND), 0, "it may end at any time");
        let second = ends.unsure(7, 0);
        ends.told(7, first, None);
        assert!(ends.may_end(7));
        ends.told(7, second, None);
        assert!(!ends.may_end(7));
    }

    #[test]
    fn too_many_keys_may_end_between_the_first_and_the_last_of_them() {
        let mut ends = Ends { limit: 2, ..Ends::default() };
        for key in 0..4 {
            ends.asked(key, (10 + key) * SECOND, 0);
        }
        assert_eq!(ends.known.len(), 2);
        assert_eq!(ends.due(99, 0), 12 * SECOND - MARGIN_MICROS);
        assert_eq!(ends.due(0, 0), 10 * SECOND - MARGIN_MICROS);
        ends.asked(100, 200 * SECOND, 100 * SECOND);
        assert_eq!(ends.known.len(), 1, "what has ended makes room");
        assert_eq!(ends.due(99, 100 * SECOND), NEVER);
    }
}
