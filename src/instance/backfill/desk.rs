//! What is wanted of the backfill, and how far it is.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::admin::backfill::BackfillStatus;
use crate::instance::Instance;
use crate::state::{BackfillEntry, PlaceEntry};

/// What an operator orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin, or go on.
    Start,
    /// Rest where it is.
    Pause,
    /// Go on.
    Resume,
}

/// Where a walk is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The servers that are walked: a cursor means nothing to another one.
    identity: [String; 2],
    /// How far doubt had spread when the walk began: what it has passed since is in sync.
    spread: u64,
    /// The database, and where to go on in it.
    database: Option<u32>,
    /// Where to go on.
    pub cursor: Vec<u8>,
    /// Databases that are done.
    done: Vec<u32>,
    /// Keys passed.
    pub seen: u64,
}

/// The backfill of an instance.
#[derive(Debug, Default)]
pub struct Desk {
    started: Cell<bool>,
    paused: Cell<bool>,
    state: RefCell<(&'static str, Option<String>)>,
    place: RefCell<Option<Place>>,
    /// A place of the process before, which stopped cleanly.
    recorded: RefCell<Option<PlaceEntry>>,
    expected: Cell<u64>,
    /// When how many keys and bytes were done: the last few, for a rate.
    marks: RefCell<VecDeque<(u64, u64, u64)>>,
}

/// How many marks a rate is made of.
const MARKS: usize = 50;
/// How far apart they are, in microseconds.
const MARK_EVERY: u64 = 100_000;

// === impl Action ===

impl Action {
    /// All of them.
    pub const ALL: [Action; 3] = [Action::Start, Action::Pause, Action::Resume];

    /// Its name on the command line and in an order.
    pub fn name(self) -> &'static str {
        match self {
            Action::Start => "start",
            Action::Pause => "pause",
            Action::Resume => "resume",
        }
    }
}

// === impl Place ===

impl Place {
    /// Turns to `db`. False: it is done.
    pub(super) fn begin(&mut self, db: u32) -> bool {
        if self.done.contains(&db) {
            return false;
        }
        if self.database != Some(db) {
            self.database = Some(db);
            self.cursor = b"0".to_vec();
        }
        true
    }

    pub(super) fn end(&mut self, db: u32) {
        self.done.push(db);
        self.database = None;
    }
}

// === impl Desk ===

impl Desk {
    /// A desk that goes on with what is on record.
    pub fn recorded(entry: Option<&BackfillEntry>) -> Desk {
        let desk = Desk::default();
        if let Some(entry) = entry {
            desk.started.set(entry.started);
            desk.paused.set(entry.paused);
            *desk.recorded.borrow_mut() = entry.place.clone();
        }
        desk.state.borrow_mut().0 = "off";
        desk
    }

    /// What is to be recorded. The place only means something to a process that knows of a clean stop.
    pub fn to_record(&self, clean: bool) -> Option<BackfillEntry> {
        let place = self.place.borrow();
        let place = place.as_ref().filter(|_| clean).map(|place| PlaceEntry {
            servers: place.identity.clone(),
            database: place.database,
            cursor: String::from_utf8_lossy(&place.cursor).into_owned(),
            done: place.done.clone(),
            seen: place.seen,
        });
        let entry = BackfillEntry { started: self.started.get(), paused: self.paused.get(), place };
        (entry != BackfillEntry::default()).then_some(entry)
    }

    /// Takes an order.
    pub fn order(&self, action: Action) {
        if action != Action::Pause {
            self.is("waiting", Some("it is about to begin".to_owned()));
        }
        match action {
            Action::Start => {
                self.started.set(true);
                self.paused.set(false);
            }
            Action::Pause => self.paused.set(true),
            Action::Resume => self.paused.set(false),
        }
    }

    /// Is a backfill wanted, by the setting or by an order?
    pub fn is_wanted(&self, setting: bool) -> bool {
        setting || self.started.get()
    }

    /// Is it to rest?
    pub fn is_paused(&self) -> bool {
        self.paused.get()
    }

    pub(super) fn is(&self, state: &'static str, reason: Option<String>) {
        if state != "running" {
            self.marks.borrow_mut().clear();
        }
        *self.state.borrow_mut() = (state, reason);
    }

    pub(super) fn done(&self) {
        self.is("done", None);
        self.place.borrow_mut().take();
    }

    /// Where to begin: where the last walk was, if these are its servers and nothing that it has passed is in doubt.
    pub(super) fn resume(&self, identity: [String; 2], spread: u64, expected: u64) -> Place {
        let known = self.place.borrow_mut().take();
        let known = known.filter(|place| place.spread == spread);
        let recorded = self.recorded.borrow_mut().take().map(|entry| Place {
            identity: entry.servers,
            spread,
            database: entry.database,
            cursor: entry.cursor.into_bytes(),
            done: entry.done,
            seen: entry.seen,
        });
        let place = known.or(recorded).filter(|place| place.identity == identity);
        let place = place.unwrap_or_else(|| Place { identity, spread, ..Place::default() });
        self.expected.set(expected.max(place.seen));
        *self.place.borrow_mut() = Some(place.clone());
        place
    }

    /// A page is done.
    pub(super) fn passed(&self, db: u32, place: &Place, instance: &Instance) {
        let (now, bytes) = (instance.micros(), instance.core().copy_counts().bytes);
        instance.metrics.backfill_keys.set(i64::try_from(place.seen).unwrap_or(i64::MAX));
        let mut marks = self.marks.borrow_mut();
        if marks.back().is_none_or(|(at, ..)| now.saturating_sub(*at) >= MARK_EVERY) {
            marks.push_back((now, place.seen, bytes));
            if marks.len() > MARKS {
                marks.pop_front();
            }
        }
        let mut kept = place.clone();
        kept.database = kept.database.or(Some(db).filter(|db| !place.done.contains(db)));
        *self.place.borrow_mut() = Some(kept);
    }

    /// Keys and bytes per second, lately.
    fn rates(&self) -> Option<(f64, f64)> {
        let marks = self.marks.borrow();
        let (first, last) = (marks.front()?, marks.back()?);
        let seconds = last.0.checked_sub(first.0).filter(|micros| *micros > 0)? as f64 / 1e6;
        let per_second = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
        Some((per_second(first.1, last.1), per_second(first.2, last.2)))
    }

    /// What `/status` tells.
    pub fn status(&self, copied: u64) -> BackfillStatus {
        let (state, reason) = self.state.borrow().clone();
        let place = self.place.borrow();
        let seen = place.as_ref().map_or(0, |place| place.seen);
        let expected = self.expected.get();
        let progress = match state {
            "done" => 1.0,
            _ if expected == 0 => 0.0,
            _ => (seen as f64 / expected as f64).min(1.0),
        };
        let rates = if state == "running" { self.rates() } else { None };
        let (keys_per_second, bytes_per_second) = rates.unwrap_or_default();
        let left = expected.saturating_sub(seen) as f64 / keys_per_second;
        BackfillStatus {
            state: state.to_owned(),
            reason,
            database: place.as_ref().and_then(|place| place.database),
            keys_seen: if state == "done" { expected } else { seen },
            keys_expected: expected,
            keys_copied: copied,
            progress,
            keys_per_second,
            bytes_per_second,
            seconds_left: left.is_finite().then_some(left as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> [String; 2] {
        ["a".to_owned(), "b".to_owned()]
    }

    fn half_way() -> Desk {
        let desk = Desk::recorded(None);
        let mut place = desk.resume(identity(), 7, 100);
        assert!(place.begin(0));
        place.cursor = b"42".to_vec();
        place.seen = 50;
        *desk.place.borrow_mut() = Some(place);
        desk
    }

    #[test]
    fn a_walk_goes_on_where_it_was_on_the_same_servers() {
        let desk = half_way();
        assert_eq!(desk.resume(identity(), 7, 100).cursor, b"42");
        let desk = half_way();
        assert_eq!(desk.resume(["a".to_owned(), "c".to_owned()], 7, 100).seen, 0, "another server");
        let desk = half_way();
        assert_eq!(desk.resume(identity(), 8, 100).seen, 0, "doubt has spread");
    }

    #[test]
    fn a_clean_stop_is_gone_on_from_and_another_is_not() {
        let desk = half_way();
        desk.order(Action::Start);
        let again = Desk::recorded(desk.to_record(true).as_ref());
        assert!(again.is_wanted(false));
        assert_eq!(again.resume(identity(), 0, 100).cursor, b"42");
        let again = Desk::recorded(desk.to_record(false).as_ref());
        assert_eq!((again.is_wanted(false), again.resume(identity(), 0, 100).seen), (true, 0));
        assert_eq!(Desk::recorded(None).to_record(true), None);
    }

    #[test]
    fn a_paused_one_rests_until_it_is_resumed() {
        let desk = Desk::recorded(None);
        desk.order(Action::Start);
        desk.order(Action::Pause);
        assert!(desk.is_wanted(false) && desk.is_paused());
        desk.order(Action::Resume);
        assert!(!desk.is_paused());
    }
}
