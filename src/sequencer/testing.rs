//! A sequencer between two stores that a test plays itself.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use crate::command::{Access, Miss, Rule, Table};
use crate::config::{Ack, OnLag, Reads};
use crate::metrics::{Metrics, RequestKind};
use crate::mirror::Way;
use crate::resp::{Proto, encode};
use crate::stage::{Stage, StoreId};

use super::clients::ClientKey;
use super::fence::{Footprint, KeyRef, hash_key};
use super::knowledge::{Knowledge, Limits, Sync};
use super::lane::{Context, Sink};
use super::{Expiry, Path, Scope, Sequencer, Settings, StoreFace, Submission};

/// Both lanes are up; of keys that nobody has touched `base` is known.
pub fn sequencer(stage: Stage, base: Sync) -> Sequencer {
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
pub fn set(core: &mut Sequencer, client: ClientKey, key: &str) -> Footprint {
    write(core, client, &["SET", key, "1"], 0)
}

/// A write of one client to the key that comes first; how many that wait for it may be served.
pub fn write(core: &mut Sequencer, client: ClientKey, words: &[&str], fills: usize) -> Footprint {
    let mut frame = Vec::new();
    encode::command(&mut frame, words);
    let footprint = footprint(words[1]);
    let submission = Submission {
        client,
        seq: core.clients.owe(client, false),
        command: core.table.by_name(&words[0].to_ascii_lowercase()).expect("a command"),
        path: Path::Write,
        rule: Rule::Exact,
        kind: RequestKind::Write,
        context: Context { db: 0, proto: Proto::Resp2 },
        frame: Cow::Owned(frame),
        footprint: footprint.clone(),
        way: Way::Verbatim,
        scope: Scope::Keys,
        expiry: Expiry::Keeps,
        batch: None,
        fills,
    };
    core.submit(&submission);
    footprint
}

/// A read of one client of the key that comes first, alone.
pub fn read(core: &mut Sequencer, client: ClientKey, words: &[&str], miss: Miss) {
    let mut frame = Vec::new();
    encode::command(&mut frame, words);
    let hash = hash_key(0, words[1].as_bytes());
    let submission = Submission {
        client,
        seq: core.clients.owe(client, false),
        command: core.table.by_name(&words[0].to_ascii_lowercase()).expect("a command"),
        path: Path::Read(miss),
        rule: Rule::Exact,
        kind: RequestKind::Read,
        context: Context { db: 0, proto: Proto::Resp2 },
        frame: Cow::Owned(frame),
        footprint: Footprint::of_key(KeyRef { hash, access: Access::Read, start: 0, end: 0 }),
        way: Way::Nothing,
        scope: Scope::Keys,
        expiry: Expiry::Keeps,
        batch: None,
        fills: 0,
    };
    core.submit(&submission);
}

pub fn footprint(key: &str) -> Footprint {
    let hash = hash_key(0, key.as_bytes());
    Footprint::of_key(KeyRef { hash, access: Access::Overwrite, start: 0, end: 0 })
}

/// The store answers everything that it owes, with OK where it can.
pub fn answer_all(core: &mut Sequencer, store: StoreId) {
    while core.lane(store).depth() > 0 {
        answer(core, store, "+OK\r\n");
    }
    core.end_of_batch();
}

/// The store answers the next request so, and what the lane has asked on its own before that as it should.
pub fn answer(core: &mut Sequencer, store: StoreId, reply: &str) {
    loop {
        let own: &[u8] = match core.lane(store).expected() {
            Some((Sink::Hello(_), _)) => b"*0\r\n",
            Some((Sink::Select(_), _)) => b"+OK\r\n",
            _ => break,
        };
        core.on_frame(store, own).expect("in step");
    }
    core.on_frame(store, reply.as_bytes()).expect("in step");
}
