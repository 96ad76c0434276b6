use super::super::clients::ClientKey;
use super::super::fence::{KeyRef, hash_key};
use super::super::knowledge::{Knowledge, Limits, Sync};
use super::super::lane::{Context, Sink};
use super::super::{Expiry, Path, Scope, Settings, StoreFace, Submission};
use super::*;
use crate::command::{Access, Rule, Table};
use crate::config::{Ack, OnLag, Reads};
use crate::metrics::{Metrics, RequestKind};
use crate::mirror::Way;
use crate::resp::{Proto, encode};
use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

fn sequencer(stage: Stage, base: Sync) -> Sequencer {
    let table = Rc::new(Table::builtin());
    let names: Vec<&'static str> = table.iter().map(|(_, spec)| spec.label()).collect();
    let metrics = Metrics::new().expect("metrics").instance("jobs", &names, |_| false);
    let settings = Settings {
        hydrate: true,
        reads: Reads::Fallback,
        ack: Ack::Default,
        on_lag: OnLag::Repair,
        reply_timeout: Duration::from_secs(5),
        read_patience: Duration::from_secs(5),
        blocking_poll: Duration::from_secs(5),
        lag_max: 1 << 20,
        flip_max_lag: 1 << 20,
        queue_max: 1 << 20,
        copy_max_bytes: 1 << 20,
        compare_max_bytes: 1 << 20,
        ttl_tolerance: Duration::from_secs(1),
        client_output_max: 1 << 20,
        heavy_bytes: 1 << 20,
        log_values: false,
    };
    let stores = StoreId::ALL.map(|store| StoreFace { name: format!("{store} store"), base_db: 0 });
    let mut core =
        Sequencer::new(table, settings, stage, stores, metrics, Knowledge::new(base, Limits::default()));
    core.set_now(1_000_000);
    for store in StoreId::ALL {
        core.lane_up(store, true);
    }
    core
}

/// `SET key 1` of one client; where the key stands in it.
fn set(core: &mut Sequencer, client: ClientKey, key: &str) -> Footprint {
    let mut frame = Vec::new();
    encode::command(&mut frame, &["SET", key, "1"]);
    let footprint = footprint(key);
    let submission = Submission {
        client,
        seq: core.clients.owe(client, false),
        command: core.table.by_name("set").expect("a command"),
        path: Path::Write,
        rule: Rule::Exact,
        kind: RequestKind::Write,
        context: Context { db: 0, proto: Proto::Resp2 },
        frame: Cow::Owned(frame),
        footprint: footprint.clone(),
        way: Way::Verbatim,
        scope: Scope::Keys,
        expiry: Expiry::Keeps,
        alone: true,
        fills: 0,
    };
    core.submit(&submission);
    footprint
}

fn footprint(key: &str) -> Footprint {
    let hash = hash_key(0, key.as_bytes());
    Footprint::of_key(KeyRef { hash, access: Access::Overwrite, start: 0, end: 0 })
}

/// The store answers everything that it owes, with OK where it can.
fn answer_all(core: &mut Sequencer, store: StoreId) {
    while core.lane(store).depth() > 0 {
        let reply: &[u8] = match core.lane(store).expected() {
            Some((Sink::Hello(_), _)) => b"*0\r\n",
            _ => b"+OK\r\n",
        };
        core.on_frame(store, reply).expect("in step");
    }
    core.end_of_batch();
}

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
