use super::*;
use crate::metrics::StoreErrorKind;

const CONTEXT: Context = Context { db: 0, proto: Proto::Resp2 };

/// A connected lane that has answered its own SELECT.
fn lane() -> Lane {
    let mut lane = Lane::new(StoreId::Primary, 0);
    lane.connected(false, 0);
    lane.append(CONTEXT, b"first", Sink::Nobody, 1, 0);
    reply(&mut lane, encode::OK, 0);
    reply(&mut lane, b"+x\r\n", 0);
    lane
}

fn append(lane: &mut Lane, op: u32, at: u64) {
    lane.append(CONTEXT, b"request", Sink::Op(OpKey(op)), 1, at);
}

fn reply(lane: &mut Lane, frame: &[u8], at: u64) {
    if let Some(arrived) = lane.arrived(at) {
        let _ = lane.context_reply(arrived.sink, frame, at);
    }
}

#[test]
fn each_entry_expires_once() {
    let mut lane = lane();
    (0..3).for_each(|op| append(&mut lane, op, u64::from(op) * 10));
    assert_eq!(lane.expire(15, |_| false), [Sink::Op(OpKey(0)), Sink::Op(OpKey(1))]);
    assert!(lane.expire(15, |_| false).is_empty());
    assert_eq!(lane.expire(25, |_| false), [Sink::Op(OpKey(2))]);
    (0..3).for_each(|_| reply(&mut lane, b"+late\r\n", 30));
    append(&mut lane, 3, 31);
    assert!(lane.expire(31, |_| false).is_empty());
    assert_eq!(lane.expire(40, |_| false), [Sink::Op(OpKey(3))]);
}

#[test]
fn who_must_hear_of_an_entry_does_not_stop_waiting() {
    let mut lane = lane();
    (0..2).for_each(|op| append(&mut lane, op, 0));
    assert_eq!(lane.expire(10, |op| op == OpKey(0)), [Sink::Op(OpKey(1))]);
    let sinks = [30, 30].map(|at| lane.arrived(at).map(|arrived| arrived.sink));
    assert_eq!(sinks, [Some(Sink::Op(OpKey(0))), Some(Sink::Nobody)]);
}

#[test]
fn a_reply_that_comes_in_may_take_its_time_until_no_byte_comes() {
    let mut lane = lane();
    append(&mut lane, 0, 0);
    append(&mut lane, 1, 0);
    lane.in_reply = true;
    lane.heard_at = 50;
    assert_eq!(lane.expire(40, |_| false), [Sink::Op(OpKey(1))], "whoever is behind it waits no longer");
    assert!(lane.expire(50, |_| false).is_empty());
    assert_eq!(lane.expire(60, |_| false), [Sink::Op(OpKey(0))]);
}

#[test]
fn a_reply_that_was_coming_in_on_the_last_connection_protects_nobody_on_the_next() {
    let mut lane = lane();
    append(&mut lane, 0, 0);
    lane.in_reply = true;
    lane.cut();
    lane.take_lost(usize::MAX);
    lane.connected(false, 10);
    lane.append(CONTEXT, b"request", Sink::Op(OpKey(1)), 1, 10);
    reply(&mut lane, encode::OK, 10);
    lane.heard_at = 100;
    assert_eq!(lane.expire(50, |_| false), [Sink::Op(OpKey(1))]);
}

#[test]
fn what_is_late_is_told_once_also_while_it_is_held() {
    let mut lane = Lane::new(StoreId::Primary, 0);
    (0..2).for_each(|op| append(&mut lane, op, 0));
    assert_eq!(lane.newly_late(1), [OpKey(0), OpKey(1)]);
    assert!(lane.newly_late(1).is_empty());
    append(&mut lane, 2, 5);
    assert_eq!(lane.newly_late(6), [OpKey(2)]);
    let gone =
        lane.down(DownReason { kind: StoreErrorKind::Connect, text: String::new(), store_error: None });
    assert_eq!(gone.len(), 3);
    lane.connected(false, 7);
    append(&mut lane, 3, 8);
    assert_eq!(lane.newly_late(9), [OpKey(3)]);
}

#[test]
fn a_request_that_was_held_for_long_is_not_silence_of_the_store() {
    let mut lane = lane();
    lane.reserve(CONTEXT, OpKey(0), 10);
    append(&mut lane, 1, 20);
    lane.vacate(OpKey(0), 1_000);
    assert!(!lane.is_silent_since(900));
    assert!(lane.is_silent_since(1_001));
}

#[test]
fn a_mark_that_answers_another_request_is_found_out() {
    let mut lane = lane();
    append(&mut lane, 0, 0);
    lane.out.clear();
    lane.probe(1);
    let request = String::from_utf8_lossy(&lane.out).into_owned();
    let text = request.split("\r\n").nth(4).expect("ECHO's argument").to_owned();
    let frame = format!("${}\r\n{text}\r\n", text.len());
    assert!(lane.is_stray_mark(frame.as_bytes()));
    assert!(!lane.is_stray_mark(b"$34\r\nmultistore-mark-0000000000000000-1\r\n"));
    reply(&mut lane, b"+x\r\n", 2);
    assert!(!lane.is_stray_mark(frame.as_bytes()), "now it is due");
    let arrived = lane.arrived(3).expect("the mark");
    assert!(matches!(lane.context_reply(arrived.sink, frame.as_bytes(), 3), ContextOutcome::Fine));
}

#[test]
fn a_place_that_was_given_up_counts_as_answered_in_its_turn() {
    let mut lane = lane();
    append(&mut lane, 0, 0);
    lane.reserve(CONTEXT, OpKey(1), 0);
    lane.vacate(OpKey(1), 1);
    let first = lane.appended() - 1;
    assert!(lane.answered() < first, "the store has not answered what stands before it");
    reply(&mut lane, b"+x\r\n", 2);
    assert_eq!(lane.answered(), lane.appended());
    // Behind one that is still to be filled, too.
    lane.reserve(CONTEXT, OpKey(2), 3);
    lane.reserve(CONTEXT, OpKey(3), 3);
    append(&mut lane, 4, 3);
    lane.vacate(OpKey(3), 4);
    assert_eq!(lane.answered(), lane.appended() - 3);
    lane.vacate(OpKey(2), 5);
    assert_eq!((lane.answered(), lane.depth()), (lane.appended() - 1, 1));
    reply(&mut lane, b"+x\r\n", 6);
    assert_eq!((lane.answered(), lane.depth()), (lane.appended(), 0));
}

#[test]
fn requests_for_a_database_that_is_refused_count_as_answered_in_their_turn() {
    let mut lane = lane();
    let other = Context { db: 9, ..CONTEXT };
    lane.append(other, b"request", Sink::Op(OpKey(0)), 1, 0);
    append(&mut lane, 1, 0);
    lane.append(other, b"request", Sink::Op(OpKey(2)), 1, 0);
    let before = lane.answered();
    let select = lane.arrived(1).expect("SELECT").sink;
    let outcome = lane.context_reply(select, b"-ERR out of range\r\n", 1);
    assert!(matches!(outcome, ContextOutcome::Refused(refused) if refused.len() == 2));
    assert_eq!(lane.answered(), before + 1, "the first; before the last stands one that is not answered");
    reply(&mut lane, encode::OK, 2);
    reply(&mut lane, b"+x\r\n", 2);
    assert_eq!((lane.answered(), lane.depth()), (lane.appended(), 0));
}

#[test]
fn places_are_filled_in_any_order() {
    let mut lane = lane();
    (0..4).for_each(|op| lane.reserve(CONTEXT, OpKey(op), 0));
    lane.out.clear();
    for op in [1, 3] {
        assert!(lane.fill(OpKey(op), format!("{op}").into_bytes().into(), 1, 1));
    }
    assert!(lane.out.is_empty(), "the first one is open");
    lane.vacate(OpKey(0), 1);
    assert_eq!(lane.out, b"1");
    // What was filled and not sent is lost with the connection; the open place stays.
    lane.cut();
    lane.take_lost(usize::MAX);
    assert_eq!(lane.drop_held().len(), 1);
    lane.connected(false, 2);
    lane.reserve(CONTEXT, OpKey(5), 2);
    assert!(lane.fill(OpKey(5), b"5".as_slice().into(), 1, 2));
    assert!(!lane.fill(OpKey(3), b"again".as_slice().into(), 1, 2));
    assert!(lane.fill(OpKey(2), b"2".as_slice().into(), 1, 2));
    reply(&mut lane, encode::OK, 3);
    assert!(lane.out.ends_with(b"25"), "{:?}", String::from_utf8_lossy(&lane.out));
}
