use super::*;

fn client(output_max: usize) -> (Clients, ClientKey) {
    let mut clients = Clients::new(output_max, usize::MAX);
    let key = clients.insert(1);
    (clients, key)
}

#[test]
fn replies_leave_in_order_whatever_order_they_are_paid_in() {
    let (mut clients, key) = client(1000);
    let seqs: Vec<u64> = (0..4).map(|_| clients.owe(key, false)).collect();
    for at in [2, 1, 3] {
        clients.pay(key, seqs[at], at.to_string().as_bytes());
        assert!(clients.get(key).is_some_and(|client| client.unsent().is_empty()));
    }
    clients.pay(key, seqs[0], b"0");
    let client = clients.get(key).expect("there");
    assert_eq!((client.unsent(), client.owed(), client.backlog()), (&b"0123"[..], 0, 4));
}

#[test]
fn replies_that_wait_for_an_earlier_one_count_as_unread() {
    let (mut clients, key) = client(100);
    let seqs: Vec<u64> = (0..4).map(|_| clients.owe(key, false)).collect();
    clients.pay(key, seqs[1], &[b'x'; 60]);
    assert_eq!(clients.get(key).map(Client::backlog), Some(60));
    assert_eq!(clients.get(key).and_then(|client| client.doomed), None);
    clients.pay(key, seqs[2], &[b'x'; 60]);
    let client = clients.get(key).expect("there");
    assert_eq!((client.doomed, client.backlog()), (Some(Doom::OutputLimit), 0));
    clients.pay(key, seqs[0], b"late");
    assert!(clients.get(key).is_some_and(|client| client.unsent().is_empty()));
    let mut dirty = Vec::new();
    clients.take_dirty(&mut dirty);
    assert_eq!(dirty, [key], "its session learns that it is closed");
}

#[test]
fn replies_kept_elsewhere_count_as_unread() {
    let (mut clients, key) = client(100);
    clients.keep(key, 90);
    clients.unkeep(key, 90);
    clients.keep(key, 90);
    assert_eq!(clients.get(key).and_then(|client| client.doomed), None);
    clients.keep(key, 90);
    assert_eq!(clients.get(key).and_then(|client| client.doomed), Some(Doom::OutputLimit));
}

#[test]
fn a_key_of_a_client_that_is_gone_finds_nobody() {
    let (mut clients, key) = client(100);
    clients.remove(key);
    let next = clients.insert(2);
    assert_eq!(next.index(), key.index());
    clients.pay(key, 0, b"x");
    clients.push(key, b"x");
    assert!(clients.get(key).is_none());
    assert!(clients.get(next).is_some_and(|client| client.unsent().is_empty()));
}

#[test]
fn muted_replies_are_never_sent() {
    let (mut clients, key) = client(100);
    let seqs = [clients.owe(key, true), clients.owe(key, false), clients.owe(key, true)];
    clients.pay(key, seqs[2], b"c");
    clients.pay(key, seqs[1], b"b");
    clients.stream(key, b"a");
    clients.end_stream(key);
    let client = clients.get(key).expect("there");
    assert_eq!((client.unsent(), client.owed()), (&b"b"[..], 0));
}

#[test]
fn a_push_waits_for_the_end_of_a_reply_that_flows() {
    let (mut clients, key) = client(100);
    clients.owe(key, false);
    clients.stream(key, b"$4\r\nhe");
    clients.push(key, b">1\r\n:1\r\n");
    clients.stream(key, b"re\r\n");
    clients.end_stream(key);
    clients.push(key, b">1\r\n:2\r\n");
    let client = clients.get(key).expect("there");
    assert_eq!(client.unsent(), b"$4\r\nhere\r\n>1\r\n:1\r\n>1\r\n:2\r\n");
}

#[test]
fn what_is_outstanding_together_is_one_batch_which_counts_once() {
    let (mut clients, key) = client(100);
    let first = clients.owe(key, false);
    assert_eq!(clients.batch(key, first, false), None, "it is alone");
    assert_eq!(clients.batch(key, first, true), Some(first));
    let second = clients.owe(key, false);
    assert_eq!(clients.batch(key, second, false), Some(first));
    assert!(clients.counts(key, first));
    assert!(!clients.counts(key, first));
    clients.pay(key, first, b"x");
    clients.pay(key, second, b"x");
    let next = clients.owe(key, false);
    assert_eq!(clients.batch(key, next, true), Some(next));
    assert!(clients.counts(key, next));
}
