use super::super::knowledge::Sync;
use super::super::testing::{answer, footprint, sequencer, write};
use super::*;
use crate::stage::Stage;

/// A client waits with `BLPOP a b 0`; both stores have said that there is nothing.
fn parked(core: &mut Sequencer) -> ClientKey {
    let client = core.clients.insert(1);
    let mut keys = footprint("a");
    keys.join(footprint("b"), 0);
    let parking = Parking {
        client,
        seq: core.clients.owe(client, false),
        command: core.table.by_name("blpop").expect("a command"),
        context: Context { db: 0, proto: Proto::Resp2 },
        frame: b"(MULTI, BLPOP a b 0, EXEC)".as_slice().into(),
        footprint: keys,
        way: Way::Verbatim,
        words_gone_stream: false,
        looked_at: false,
        deadline: None,
    };
    core.park(parking);
    for store in StoreId::ALL {
        ["+OK\r\n", "+QUEUED\r\n", "*1\r\n*-1\r\n"].iter().for_each(|reply| answer(core, store, reply));
    }
    core.end_of_batch();
    assert!(core.is_parked(client));
    client
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
