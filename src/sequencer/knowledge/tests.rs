use super::*;

fn small() -> Knowledge {
    Knowledge::new(Sync::Unknown, Limits { in_sync: 4, suspects: 3 })
}

fn nobody(_: u64) -> bool {
    false
}

#[test]
fn what_somebody_waits_for_is_not_forgotten_to_make_room() {
    let mut known = small();
    for hash in 1..=9 {
        known.settle(hash, |hash| hash <= 6);
    }
    assert!((1..=6).all(|hash| known.of(hash) == Sync::InSync));
    assert_eq!(known.listed_in_sync(), 7);
}

#[test]
fn in_sync_may_be_forgotten_but_suspicion_never() {
    let mut known = small();
    for hash in 0..5 {
        known.settle(hash, nobody);
    }
    assert_eq!(known.of(4), Sync::InSync);
    assert_eq!(known.of(0), Sync::Unknown);
    for hash in 10..13 {
        known.doubt(hash, 0, b"k", StoreId::Primary, 1);
    }
    assert_eq!(known.of(10), Sync::Suspect(StoreId::Primary));
    known.doubt(13, 0, b"k", StoreId::Primary, 1);
    for hash in 0..20 {
        assert_eq!(known.of(hash), Sync::Suspect(StoreId::Primary));
    }
}

#[test]
fn a_write_to_keys_without_names_does_not_disown_cold_keys() {
    let mut known = small();
    known.settle(1, nobody);
    known.doubt_any(StoreId::Secondary);
    assert_eq!(known.of(1), Sync::Suspect(StoreId::Secondary), "it may have been changed");
    assert_eq!(known.of(2), Sync::Unknown, "only the secondary may have it");
    assert!(known.has_suspects_behind(StoreId::Secondary));
    known.settle(1, nobody);
    assert_eq!(known.of(1), Sync::InSync);
    known.doubt_any(StoreId::Primary);
    assert_eq!(known.of(2), Sync::Suspect(StoreId::Primary), "the secondary has everything");
}

#[test]
fn a_cold_key_that_cannot_be_listed_is_not_disowned_either() {
    let mut known = small();
    (1..=3).for_each(|hash| known.doubt(hash, 0, b"k", StoreId::Primary, 1));
    known.settle(8, nobody);
    for hash in [8, 9] {
        known.doubt(hash, 0, b"k", StoreId::Secondary, 1);
    }
    assert!([8, 9].iter().all(|hash| known.of(*hash) == Sync::Suspect(StoreId::Secondary)));
    assert!(!known.is_cold(8), "what is not there any more was removed");
    assert!(known.is_cold(9), "it may never have been there");
    known.forget(1);
    known.doubt(9, 0, b"k", StoreId::Secondary, 2);
    assert!(known.is_cold(9), "also where there is room for it again");
    known.forget(9);
    assert_eq!(known.of(9), Sync::Unknown, "and it was not: what the secondary has counts");
}

#[test]
fn what_is_listed_of_a_store_changes_its_number() {
    let mut known = small();
    let before = known.listings_of(StoreId::Secondary);
    known.doubt(1, 0, b"k", StoreId::Secondary, 1);
    let listed = known.listings_of(StoreId::Secondary);
    assert_ne!(listed, before);
    assert_eq!(known.listed_behind(StoreId::Secondary).count(), 1);
    known.settle(2, nobody);
    assert_eq!(known.listings_of(StoreId::Secondary), listed);
    known.settle(1, nobody);
    assert_ne!(known.listings_of(StoreId::Secondary), listed);
    assert_eq!(known.listed_behind(StoreId::Secondary).count(), 0);
}

#[test]
fn a_settled_key_is_no_suspect() {
    let mut known = small();
    known.doubt(1, 0, b"k", StoreId::Secondary, 1);
    known.settle(1, nobody);
    assert_eq!(known.of(1), Sync::InSync);
    assert_eq!(known.next_suspect(9, |_, _| true), None);
}

#[test]
fn a_failed_copy_waits_longer_each_time() {
    let mut known = small();
    known.doubt(1, 0, b"k", StoreId::Secondary, 0);
    let mut now = 0;
    for attempt in 0..4 {
        assert!(known.next_suspect(now, |_, _| true).is_some());
        // While it is on its way it counts as in sync.
        let history = known.history(1, now);
        known.settle(1, nobody);
        known.doubt(1, 0, b"k", StoreId::Secondary, now);
        known.postpone(1, history, now);
        assert_eq!(known.oldest(), Some(0));
        assert_eq!(known.stuck_behind(StoreId::Secondary) > 0, attempt + 1 >= STUCK_ATTEMPTS);
        let pause = FIRST_PAUSE_MICROS << attempt;
        assert!(known.next_suspect(now + pause - 1, |_, _| true).is_none());
        now += pause;
    }
}

#[test]
fn the_second_store_to_fall_behind_is_repaired_after_the_first() {
    use StoreId::{Primary, Secondary};
    let mut known = small();
    known.blame(Primary);
    known.settle(1, nobody);
    known.doubt_everything(Secondary);
    assert_eq!((known.of(1), known.of(2)), (Sync::InSync, Sync::Suspect(Primary)));
    known.settle_everything();
    assert_eq!((known.of(1), known.of(2)), (Sync::Suspect(Secondary), Sync::Suspect(Secondary)));
    known.settle_everything();
    assert!(known.is_all_in_sync());
}

#[test]
fn after_a_walk_only_the_listed_are_in_doubt() {
    let mut known = small();
    known.doubt_everything(StoreId::Secondary);
    assert_eq!(known.of(7), Sync::Suspect(StoreId::Secondary));
    known.doubt(1, 0, b"k", StoreId::Primary, 0);
    known.settle_everything();
    assert_eq!(known.of(7), Sync::InSync);
    assert_eq!(known.of(1), Sync::Suspect(StoreId::Primary));
    assert!(!known.is_all_in_sync());
}
