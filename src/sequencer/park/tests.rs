use super::super::knowledge::Sync;
use super::super::testing::{answer, footprint, sequencer, write};
use super::*;
use crate::stage::Stage;

/// A client waits with `BLPOP a b 0`; both stores have said that there is nothing.
fn parked(core: &mut Sequencer) -> ClientKey {
    let client = park(core, 1, ["a", "b"]);
    for store in StoreId::ALL {
        answer_attempt(core, store, "*-1\r\n");
    }
    core.end_of_batch();
    assert!(core.is_parked(client));
    client
}

/// A client begins to wait for an element of one of two lists.
fn park(core: &mut Sequencer, id: u64, [first, second]: [&str; 2]) -> ClientKey {
    let client = core.clients.insert(id);
    let mut keys = footprint(first);
    keys.join(footprint(second), 0);
    let parking = Parking {
        client,
        seq: core.clients.owe(client, false),
        command: core.table.by_name("blpop").expect("a command"),
        context: Context { db: 0, proto: Proto::Resp2 },
        frame: b"(MULTI, BLPOP first second 0, EXEC)".as_slice().into(),
        footprint: keys,
        way: Way::Verbatim,
        words_gone_stream: false,
        looked_at: false,
        deadline: None,
    };
    core.park(parking);
    client
}

fn answer_attempt(core: &mut Sequencer, store: StoreId, taken: &str) {
    ["+OK\r\n", "+QUEUED\r\n", &format!("*1\r\n{taken}")].iter().for_each(|reply| answer(core, store, reply));
}

#[test]
fn nobody_passes_by_who_waits_for_his_turn_behind_a_fence() {
    let mut core = sequencer(Stage::DualSecondaryDefault, Sync::InSync);
    let waiter = parked(&mut core);
    let [owner, pusher, late] = [2, 3, 4].map(|id| core.clients.insert(id));
    core.request_fence(owner, footprint("a"));
    write(&mut core, pusher, &["RPUSH", "b", "1"], 1);
    assert!(!core.is_held(pusher), "the fence is around another key");
    write(&mut core, late, &["RPUSH", "b", "2"], 1);
    assert!(core.is_held(late), "the first element is the waiter's, who waits for the fence");
    core.lower_fence(owner);
    assert!(!core.is_held(late));
    for reply in [":1\r\n", "+OK\r\n", "+QUEUED\r\n", "*1\r\n*2\r\n$1\r\nb\r\n$1\r\n1\r\n"] {
        answer(&mut core, StoreId::Secondary, reply);
    }
    assert!(!core.is_parked(waiter), "it has got the first");
    answer(&mut core, StoreId::Secondary, ":1\r\n");
    assert_eq!(core.lane(StoreId::Secondary).depth(), 0);
}

#[test]
fn who_leaves_while_he_waits_for_his_turn_is_in_nobodys_way() {
    let mut core = sequencer(Stage::DualSecondaryDefault, Sync::InSync);
    let waiter = parked(&mut core);
    let [owner, pusher, late] = [2, 3, 4].map(|id| core.clients.insert(id));
    core.request_fence(owner, footprint("a"));
    write(&mut core, pusher, &["RPUSH", "b", "1"], 1);
    write(&mut core, late, &["RPUSH", "b", "2"], 1);
    assert!(core.is_held(late));
    assert!(core.unblock(waiter, Unblock::Timeout));
    assert!(!core.is_held(late));
    core.lower_fence(owner);
    assert_eq!(core.held() + core.fenced_keys(), 0);
}

#[test]
fn who_came_first_is_not_overtaken_by_somebody_whose_attempt_waits_for_a_fence() {
    let mut core = sequencer(Stage::DualSecondaryDefault, Sync::InSync);
    let first = parked(&mut core);
    let [owner, pusher] = [2, 3].map(|id| core.clients.insert(id));
    core.request_fence(owner, footprint("c"));
    let second = park(&mut core, 4, ["b", "c"]);
    assert_eq!(core.held(), 1, "it waits for the fence, and speaks for the list that both wait for");
    write(&mut core, pusher, &["RPUSH", "a", "1"], 1);
    core.lower_fence(owner);
    answer(&mut core, StoreId::Secondary, ":1\r\n");
    answer_attempt(&mut core, StoreId::Secondary, "*2\r\n$1\r\na\r\n$1\r\n1\r\n");
    assert!(!core.is_parked(first));
    assert!(core.is_parked(second));
    // What the first has left may be for the second: it may be tried once more.
    for _ in 0..2 {
        if core.lane(StoreId::Secondary).depth() > 0 {
            answer_attempt(&mut core, StoreId::Secondary, "*-1\r\n");
        }
    }
    assert_eq!((core.lane(StoreId::Secondary).depth(), core.held()), (0, 0));
}

#[test]
fn the_poll_takes_its_time_with_a_client_that_waits_for_very_many_keys() {
    let mut core = sequencer(Stage::DualSecondaryDefault, Sync::InSync);
    let client = parked(&mut core);
    let key = core.parks.by_client[&client];
    let begin = core.now;
    let tried = |core: &mut Sequencer, seconds: u64| {
        core.set_now(begin + seconds * MICROS);
        core.tick_parks();
        let tried = core.parks.get_mut(key).is_some_and(|park| park.in_flight);
        if tried {
            StoreId::ALL.iter().for_each(|store| answer_attempt(core, *store, "*-1\r\n"));
        }
        tried
    };
    // blocking_poll is 5 s here.
    assert_eq!([0, 4, 5].map(|at| tried(&mut core, at)), [true, false, true]);
    core.parks.get_mut(key).expect("it waits").parking.frame = vec![b'x'; 20 << 20].into();
    assert!(tried(&mut core, 10));
    assert_eq!([15, 29, 30].map(|at| tried(&mut core, at)), [false, false, true]);
}

#[test]
fn whose_time_runs_out_behind_a_fence_is_tried_once() {
    for (there, taken) in [(true, "*2\r\n$1\r\na\r\n$1\r\n1\r\n"), (false, "*-1\r\n")] {
        let mut core = sequencer(Stage::DualSecondaryDefault, Sync::InSync);
        let owner = core.clients.insert(2);
        core.request_fence(owner, footprint("a"));
        let waiter = park(&mut core, 1, ["a", "b"]);
        assert!(core.unblock(waiter, Unblock::Timeout));
        assert!(core.is_parked(waiter), "a store would have looked by now");
        core.lower_fence(owner);
        answer_attempt(&mut core, StoreId::Secondary, taken);
        assert!(!core.is_parked(waiter), "something there: {there}");
        assert_eq!(core.held(), 0);
    }
}

#[test]
fn two_who_find_nothing_do_not_try_each_other_again_for_ever() {
    let mut core = sequencer(Stage::DualSecondaryDefault, Sync::InSync);
    for id in [1, 2] {
        park(&mut core, id, ["a", "b"]);
        answer_attempt(&mut core, StoreId::Secondary, "*-1\r\n");
    }
    let pusher = core.clients.insert(3);
    // The second one comes while both are being tried for the first.
    write(&mut core, pusher, &["RPUSH", "b", "1", "2"], 2);
    write(&mut core, pusher, &["RPUSH", "b", "1", "2"], 2);
    answer(&mut core, StoreId::Secondary, ":2\r\n");
    answer_attempt(&mut core, StoreId::Secondary, "*-1\r\n");
    answer_attempt(&mut core, StoreId::Secondary, "*-1\r\n");
    answer(&mut core, StoreId::Secondary, ":2\r\n");
    let mut tried = 0;
    while core.lane(StoreId::Secondary).depth() > 0 && tried < 20 {
        answer_attempt(&mut core, StoreId::Secondary, "*-1\r\n");
        tried += 1;
    }
    assert!((2..=4).contains(&tried), "{tried} times");
}

/// A worker that waits for one key is not crowded out by those who wait for more keys than are looked at in one go.
#[test]
fn everybody_who_stands_first_in_a_line_has_his_turn() {
    let mut core = sequencer(Stage::DualSecondaryDefault, Sync::InSync);
    let many = MAX_LINES * 2 + 100;
    for id in 0..many {
        let [one, two] = [format!("one{id}"), format!("two{id}")];
        park(&mut core, id as u64, [&one, &two]);
    }
    let mut named = std::collections::HashSet::new();
    for _ in 0..3 {
        let fronts = core.parks.fronts();
        assert!(fronts.len() <= MAX_LINES);
        named.extend(fronts.into_iter().map(|key| key.id));
    }
    assert_eq!(named.len(), many);
}
