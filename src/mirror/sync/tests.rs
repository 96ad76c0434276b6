use super::*;
use StoreId::{Primary, Secondary};
use std::collections::HashSet;

const SMALL: Limits = Limits { in_sync: 40, exceptions: 6, suspects: 8, suspect_bytes: 1000, databases: 3 };

fn knowledge() -> Knowledge {
    Knowledge::new(1, Limits::default())
}

#[test]
fn a_key_goes_through_all_states() {
    let mut known = knowledge();
    assert_eq!(known.get(0, b"k"), Sync::Unknown);
    known.set_in_sync(0, b"k");
    assert_eq!(known.get(0, b"k"), Sync::InSync);
    assert_eq!(known.get(1, b"k"), Sync::Unknown, "another database");
    assert_eq!(known.set_suspect(Primary, 0, b"k", 10), Noted::Listed);
    assert_eq!(known.get(0, b"k"), Sync::Suspect(Primary));
    known.forget(0, b"k");
    assert_eq!(known.get(0, b"k"), Sync::Suspect(Primary), "suspicion is not forgotten");
    known.set_in_sync(0, b"k");
    assert_eq!(known.get(0, b"k"), Sync::InSync);
    known.forget(0, b"k");
    assert_eq!(known.get(0, b"k"), Sync::Unknown);
    assert_eq!(known.counts(), Counts::default());
}

#[test]
fn suspicion_names_a_store_and_a_second_one_is_disputed() {
    let mut known = knowledge();
    known.set_suspect(Primary, 0, b"k", 10);
    assert_eq!(known.set_suspect(Secondary, 0, b"k", 20), Noted::Disputed);
    assert_eq!(known.get(0, b"k"), Sync::Suspect(Primary));
    let task = known.take(20).expect("a task");
    assert!(task.disputed);
    assert_eq!((task.behind, task.since), (Primary, 10));
    assert_eq!(known.behind(), [true, false]);
    // Written whole to both, then lost by the other one.
    known.set_in_sync(0, b"k");
    assert_eq!(known.set_suspect(Secondary, 0, b"k", 30), Noted::Listed);
    assert_eq!(known.get(0, b"k"), Sync::Suspect(Secondary));
    assert_eq!(known.behind(), [false, true]);
}

#[test]
fn repairs_go_by_age_and_wait_after_a_failure() {
    let mut known = knowledge();
    for (at, key) in [b"a", b"b", b"c"].into_iter().enumerate() {
        known.set_suspect(Primary, 0, key, 10 + at as u64);
    }
    assert_eq!(known.counts().oldest_suspect, Some(10));
    let first = known.take(100).expect("a task");
    assert_eq!(&*first.key, b"a");
    known.give_back(&first, 200);
    let second = known.take(100).expect("a task");
    let third = known.take(100).expect("a task");
    assert_eq!((&*second.key, &*third.key), (&b"b"[..], &b"c"[..]));
    assert_eq!(known.take(100), None);
    assert_eq!(known.next_ready(), Some(200));
    assert_eq!(known.get(0, b"b"), Sync::Suspect(Primary), "suspect while it is being repaired");
    assert!(known.repaired(&second, 100));
    assert_eq!(known.get(0, b"b"), Sync::InSync);
    // Another write to it was lost while it was copied.
    known.set_suspect(Primary, 0, b"c", 120);
    assert!(!known.repaired(&third, 130));
    assert_eq!(known.get(0, b"c"), Sync::Suspect(Primary));
    let again = known.take(130).expect("put back");
    assert_eq!((&*again.key, again.attempts, again.since), (&b"c"[..], 1, 12));
    assert!(known.repaired(&again, 130));
    let last = known.take(200).expect("the first one again");
    assert_eq!((&*last.key, last.attempts), (&b"a"[..], 1));
    assert_eq!(known.counts().suspects, [1, 0]);
}

#[test]
fn a_walk_settles_everything_but_what_is_listed_or_forgotten_meanwhile() {
    let mut known = knowledge();
    known.set_suspect(Secondary, 0, b"suspect", 1);
    known.forget(0, b"before");
    let walk = known.begin_walk(0);
    known.forget(0, b"meanwhile");
    known.forget(0, b"copied");
    known.set_in_sync(0, b"copied");
    assert_eq!(known.get(0, b"any"), Sync::Unknown);
    assert!(known.end_walk(walk));
    assert_eq!(known.get(0, b"any"), Sync::InSync);
    assert_eq!(known.get(0, b"before"), Sync::InSync);
    assert_eq!(known.get(0, b"copied"), Sync::InSync);
    assert_eq!(known.get(0, b"meanwhile"), Sync::Unknown);
    assert_eq!(known.get(0, b"suspect"), Sync::Suspect(Secondary));
    assert_eq!(known.get(1, b"any"), Sync::Unknown);
    assert_eq!(known.counts().in_sync, 0);
}

#[test]
fn a_walk_that_trouble_overtook_does_not_count() {
    let mut known = knowledge();
    let walk = known.begin_walk(0);
    known.database_suspect(Primary, 0);
    assert!(!known.end_walk(walk));
    assert_eq!(known.get(0, b"any"), Sync::Suspect(Primary));
    let walk = known.begin_walk(0);
    let later = known.begin_walk(0);
    assert!(!known.end_walk(walk));
    assert!(known.end_walk(later));
    assert_eq!(known.get(0, b"any"), Sync::InSync);
}

#[test]
fn a_suspect_database_has_exceptions() {
    let mut known = knowledge();
    known.set_in_sync(0, b"old");
    known.set_suspect(Primary, 0, b"listed", 1);
    known.set_suspect(Secondary, 0, b"other", 1);
    assert!(known.database_suspect(Primary, 0));
    for (key, state) in [
        (&b"old"[..], Sync::Suspect(Primary)),
        (b"listed", Sync::Suspect(Primary)),
        (b"other", Sync::Suspect(Secondary)),
    ] {
        assert_eq!(known.get(0, key), state, "{}", key.escape_ascii());
    }
    assert_eq!(known.counts().suspects, [0, 1], "the ground says it of what was listed");
    known.set_in_sync(0, b"written");
    assert_eq!(known.get(0, b"written"), Sync::InSync);
    assert_eq!(known.set_suspect(Primary, 0, b"written", 2), Noted::Listed);
    assert_eq!(known.get(0, b"written"), Sync::Suspect(Primary));
    assert_eq!(known.set_suspect(Secondary, 0, b"unlisted", 3), Noted::Disputed);
    assert!(!known.database_suspect(Secondary, 0));
    let suspect: Vec<_> = known.suspect_databases().collect();
    assert_eq!(suspect, [SuspectDatabase { db: 0, behind: Primary, disputed: true }]);
}

#[test]
fn leaving_dual_makes_the_store_left_behind_suspect_as_a_whole() {
    let mut known = knowledge();
    known.all_in_sync(0);
    known.set_in_sync(5, b"k");
    known.set_suspect(Secondary, 0, b"s", 1);
    assert_eq!(known.leave_dual(Primary), 1);
    for (db, key) in [(0, &b"any"[..]), (5, b"k"), (0, b"s"), (9, b"x")] {
        assert_eq!(known.get(db, key), Sync::Suspect(Primary));
    }
    assert_eq!(known.behind(), [true, false]);
}

#[test]
fn emptied_databases_are_in_sync_and_swapped_ones_take_their_state_along() {
    let mut known = knowledge();
    known.store_suspect(Primary);
    known.set_suspect(Secondary, 1, b"k", 1);
    known.flush(1);
    assert_eq!(known.get(1, b"k"), Sync::InSync);
    assert_eq!(known.get(0, b"k"), Sync::Suspect(Primary));
    known.swap(0, 1);
    assert_eq!(known.get(1, b"k"), Sync::Suspect(Primary));
    assert_eq!(known.get(0, b"k"), Sync::InSync);
    known.set_suspect(Secondary, 0, b"moved", 2);
    known.swap(0, 7);
    assert_eq!(known.take(9).map(|task| task.db), Some(7));
    known.flush_all();
    assert_eq!(known.get(3, b"k"), Sync::InSync);
    assert_eq!(known.behind(), [false, false]);
}

#[test]
fn a_stamp_shows_writes_in_between() {
    let mut known = knowledge();
    let stamp = known.touch(0, b"k");
    assert_eq!(known.stamp(0, b"k"), stamp);
    known.touch(0, b"another");
    assert_eq!(known.stamp(0, b"k"), stamp);
    assert_ne!(known.touch(0, b"k"), stamp);
    let stamp = known.stamp(0, b"k");
    known.touch_all();
    assert_ne!(known.stamp(0, b"k"), stamp);
    let stamp = known.stamp(0, b"k");
    known.swap(0, 1);
    assert_ne!(known.stamp(0, b"k"), stamp);
}

#[test]
fn too_many_suspects_make_the_database_suspect_that_has_most() {
    let mut known = Knowledge::new(1, SMALL);
    for number in 0..8u8 {
        let db = u32::from(number % 4 == 0);
        assert_eq!(known.set_suspect(Primary, db, &[number], 1), Noted::Listed);
    }
    assert_eq!(known.set_suspect(Secondary, 1, b"one more", 1), Noted::Listed);
    assert_eq!(known.get(0, b"any"), Sync::Suspect(Primary));
    assert_eq!(known.get(1, &[4]), Sync::Suspect(Primary));
    assert_eq!(known.get(1, b"one more"), Sync::Suspect(Secondary));
    assert_eq!(known.get(1, b"any"), Sync::Unknown);
    assert_eq!(known.counts().overflows, 1);
    assert_eq!(known.set_suspect(Primary, 1, &[b'x'; 2000], 1), Noted::WholeDatabase);
    assert_eq!(known.get(1, &[b'x'; 2000]), Sync::Suspect(Primary));
}

/// What is known when memory doesn't end: the same rules, kept as plainly as can be.
#[derive(Default)]
struct Model {
    grounds: HashMap<u32, HashSet<StoreId>>,
    settled: HashSet<u32>,
    keys: HashMap<(u32, u8), Option<HashSet<StoreId>>>,
}

impl Model {
    /// `None`: unknown; else the stores that are suspect, none: in sync.
    fn get(&self, db: u32, key: u8) -> Option<HashSet<StoreId>> {
        if let Some(state) = self.keys.get(&(db, key)) {
            return state.clone();
        }
        let ground = self.grounds.get(&db).cloned().unwrap_or_default();
        (!ground.is_empty() || self.settled.contains(&db)).then_some(ground)
    }

    fn suspect(&mut self, db: u32, key: u8, store: StoreId) {
        let mut suspects = self.get(db, key).unwrap_or_default();
        suspects.insert(store);
        self.keys.insert((db, key), Some(suspects));
    }

    fn database_suspect(&mut self, db: u32, store: StoreId) {
        let listed = self.keys.iter().filter(|((of, _), _)| *of == db);
        let suspects: Vec<_> = listed
            .filter_map(|(key, state)| Some((*key, state.clone()?)))
            .filter(|(_, state)| !state.is_empty() && !state.contains(&store))
            .collect();
        self.keys.retain(|(of, _), _| *of != db);
        self.keys.extend(suspects.into_iter().map(|(key, state)| (key, Some(state))));
        self.settled.remove(&db);
        self.grounds.entry(db).or_default().insert(store);
    }
}

#[test]
fn doubt_only_grows_when_memory_ends() {
    for seed in 1..=20 {
        doubt_only_grows(seed);
    }
}

fn doubt_only_grows(seed: u64) {
    let (mut known, mut model) = (Knowledge::new(seed, SMALL), Model::default());
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 20) % below
    };
    for step in 0..400 {
        let (db, key) = (next(3) as u32, next(80) as u8);
        let store = if next(8) == 0 { Secondary } else { Primary };
        match next(100) {
            0..55 => {
                known.set_in_sync(db, &[key]);
                model.keys.insert((db, key), Some(HashSet::new()));
            }
            55..80 => {
                known.set_suspect(store, db, &[key], step);
                model.suspect(db, key, store);
            }
            80..97 => {
                known.forget(db, &[key]);
                if model.get(db, key).is_some_and(|state| state.is_empty()) {
                    model.keys.insert((db, key), None);
                }
            }
            97 if matches!(known.ground(db), Sync::Suspect(_)) => {
                known.flush(db);
                model.keys.retain(|(of, _), _| *of != db);
                model.grounds.remove(&db);
                model.settled.insert(db);
            }
            97 => {
                known.all_in_sync(db);
                model
                    .keys
                    .retain(|(of, _), state| *of != db || state.as_ref().is_some_and(|s| !s.is_empty()));
                model.grounds.remove(&db);
                model.settled.insert(db);
            }
            98 => {
                known.database_suspect(store, db);
                model.database_suspect(db, store);
            }
            _ => {
                let all: Vec<Task> = std::iter::from_fn(|| known.take(u64::MAX)).collect();
                for task in all {
                    known.give_back(&task, step);
                }
            }
        }
        check(&known, &model, &format!("seed {seed}, step {step}"));
    }
    assert!(known.counts().evicted > 0 || known.counts().overflows > 0, "seed {seed} met no limit");
}

#[track_caller]
fn check(known: &Knowledge, model: &Model, when: &str) {
    let counts = known.counts();
    assert!(
        counts.in_sync <= SMALL.in_sync && counts.suspects.iter().sum::<usize>() <= SMALL.suspects,
        "{when}"
    );
    let disputed: Vec<u32> = known.suspect_databases().filter(|one| one.disputed).map(|one| one.db).collect();
    for (db, key) in (0..3).flat_map(|db| (0..80).map(move |key| (db, key))) {
        let (ours, theirs) = (known.get(db, &[key]), model.get(db, key));
        let fine = match (ours, &theirs) {
            (Sync::InSync, Some(suspects)) => suspects.is_empty(),
            (Sync::InSync, None) => false,
            (Sync::Unknown, Some(suspects)) => suspects.is_empty(),
            (Sync::Unknown, None) => true,
            // More doubt than needed, or the right one; the wrong one only where somebody has to decide.
            (Sync::Suspect(store), Some(suspects)) if !suspects.is_empty() => {
                let listed =
                    known.numbers.get(&db).and_then(|slot| known.databases[*slot].suspects.get(&[key][..]));
                suspects.contains(&store)
                    || disputed.contains(&db)
                    || listed.is_some_and(|entry| entry.disputed)
            }
            (Sync::Suspect(_), _) => true,
        };
        assert!(fine, "{when}: db {db}, key {key}: {ours:?}, but {theirs:?}");
    }
}
