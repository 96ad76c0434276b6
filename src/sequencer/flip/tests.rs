use super::super::knowledge::Sync;
use super::super::testing::{answer, answer_all, footprint, sequencer, set};
use super::super::{Scope, StoreId, hash_key};
use super::*;

#[test]
fn what_a_client_does_aside_is_fenced_when_a_second_store_comes_into_use() {
    let mut core = sequencer(Stage::SecondaryOnly, Sync::Unknown);
    let (aside, other) = (core.clients.insert(1), core.clients.insert(2));
    core.step_aside(aside, footprint("k"));
    set(&mut core, other, "k");
    assert!(!core.is_held(other), "one store alone is in nobody's way");
    answer_all(&mut core, StoreId::Secondary);
    assert!(core.set_stage(Stage::DualSecondaryDefault));
    set(&mut core, other, "k");
    assert!(core.is_held(other), "it would overtake what is under way");
    core.step_back(aside, Some((b"*1\r\n$1\r\nk\r\n", Scope::Keys, 0)));
    assert!(!core.is_held(other));
    assert!(core.lane(StoreId::Primary).depth() > 0, "and then it goes to both");
}

#[test]
fn what_was_done_aside_before_the_second_store_came_is_copied() {
    let mut core = sequencer(Stage::SecondaryOnly, Sync::Unknown);
    let aside = core.clients.insert(1);
    core.step_aside(aside, footprint("k"));
    assert!(core.set_stage(Stage::DualSecondaryDefault));
    core.step_back(aside, Some((b"*1\r\n$1\r\nk\r\n", Scope::Keys, 0)));
    assert_eq!(core.sync_of(hash_key(0, b"k")), Sync::Suspect(StoreId::Primary));
}

#[test]
fn the_default_store_changes_when_the_next_one_has_answered_what_came_before() {
    let mut core = sequencer(Stage::DualSecondaryDefault, Sync::InSync);
    let client = core.clients.insert(1);
    set(&mut core, client, "k");
    answer_all(&mut core, StoreId::Secondary);
    assert!(!core.set_stage(Stage::DualPrimaryDefault), "the primary has not answered");
    assert!(core.is_flipping());
    let late = core.clients.insert(2);
    set(&mut core, late, "k");
    assert!(core.is_held(late));
    answer_all(&mut core, StoreId::Primary);
    assert_eq!(core.flags().stage(), Stage::DualPrimaryDefault);
    assert!(!core.is_held(late));
}

#[test]
fn the_default_store_does_not_change_before_it_has_said_what_became_of_a_write() {
    let mut core = sequencer(Stage::DualSecondaryDefault, Sync::InSync);
    let client = core.clients.insert(1);
    set(&mut core, client, "k");
    answer_all(&mut core, StoreId::Primary);
    assert!(
        !core.set_stage(Stage::DualPrimaryDefault),
        "the primary has it, and the secondary may refuse it"
    );
    answer(&mut core, StoreId::Secondary, "-OOM command not allowed\r\n");
    core.end_of_batch();
    assert!(core.is_flipping(), "it is to be taken back");
    assert_eq!(core.sync_of(hash_key(0, b"k")), Sync::Suspect(StoreId::Primary));
}

#[test]
fn a_change_waits_for_a_store_that_is_far_away() {
    let mut core = sequencer(Stage::DualSecondaryDefault, Sync::InSync);
    let client = core.clients.insert(1);
    set(&mut core, client, "k");
    core.set_now(1_000_000 + 2 * BARRIER_MICROS);
    StoreId::ALL.into_iter().for_each(|store| answer_all(&mut core, store));
    set(&mut core, client, "k");
    core.set_stage(Stage::DualPrimaryDefault);
    core.set_now(1_000_000 + 4 * BARRIER_MICROS);
    core.tick();
    assert!(core.is_flipping(), "no answer can be there yet");
    StoreId::ALL.into_iter().for_each(|store| answer_all(&mut core, store));
    assert_eq!(core.flags().stage(), Stage::DualPrimaryDefault);
}

#[test]
fn nobody_is_held_up_for_long_by_a_change_that_does_not_come_about() {
    let mut core = sequencer(Stage::DualSecondaryDefault, Sync::InSync);
    let client = core.clients.insert(1);
    set(&mut core, client, "k");
    core.set_stage(Stage::DualPrimaryDefault);
    let late = core.clients.insert(2);
    set(&mut core, late, "k");
    core.set_now(1_000_000 + BARRIER_MICROS + 1);
    core.tick();
    assert!(!core.is_held(late) && !core.is_flipping());
    assert_eq!(core.flags().stage(), Stage::DualSecondaryDefault);
    core.set_now(1_000_000 + BARRIER_MICROS + BETWEEN_BARRIERS_MICROS + 2);
    core.try_flip();
    assert!(core.is_flipping(), "it is tried again");
    core.set_stage(Stage::DualSecondaryDefault);
    assert!(!core.is_flipping());
}

#[test]
fn what_comes_up_while_a_change_waits_holds_it_back() {
    let mut core = sequencer(Stage::DualSecondaryDefault, Sync::Unknown);
    let client = core.clients.insert(1);
    set(&mut core, client, "k");
    core.set_stage(Stage::DualPrimaryDefault);
    assert!(core.is_flipping());
    // The secondary is found to be another server than it was.
    core.doubt_source(Some(StoreId::Secondary));
    core.doubt_unnamed(StoreId::Primary);
    StoreId::ALL.into_iter().for_each(|store| answer_all(&mut core, store));
    assert_eq!(core.flags().stage(), Stage::DualSecondaryDefault);
    assert!(core.held_flip().is_some_and(|held| held.reason.contains("which store is right")));
}

#[test]
fn dual_does_not_end_before_the_subscribers_have_moved() {
    let mut core = sequencer(Stage::DualPrimaryDefault, Sync::InSync);
    let (here, there) = (core.listeners.join(StoreId::Primary), core.listeners.join(StoreId::Secondary));
    assert!(!core.set_stage(Stage::PrimaryOnly), "somebody still listens to the secondary");
    assert!(core.held_flip().expect("held back").reason.contains("subscribers (1) are on their way"));
    drop(there);
    assert!(core.try_flip());
    drop(here);
    let mut core = sequencer(Stage::DualPrimaryDefault, Sync::InSync);
    let _stuck = core.listeners.join(StoreId::Secondary);
    assert!(!core.set_stage(Stage::PrimaryOnly));
    core.set_now(LISTENERS_MICROS);
    assert!(core.try_flip(), "who never reads is not waited for for ever");
}
