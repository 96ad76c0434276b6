//! `cargo bench --bench micro`: the steps of a mirrored SET one by one, without sockets. Nanoseconds of a shared machine
//! drift; for a judgement that does not, see `make instructions`.

use std::borrow::Cow;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use multistore::command::{Access, CommandId, Effect, Keys, Miss, Rule, Table, classify, keys};
use multistore::compare;
use multistore::config::{Ack, OnLag, Reads};
use multistore::metrics::Metrics;
use multistore::mirror::Way;
use multistore::resp::reply::{ReplyLimits, ReplyScanner};
use multistore::resp::request::{Decoder, Request, RequestLimits, spans_of};
use multistore::resp::{Proto, encode};
use multistore::route::{request_kind, route};
use multistore::sequencer::clients::ClientKey;
use multistore::sequencer::fence::{Footprint, KeyRef};
use multistore::sequencer::knowledge::{Knowledge, Limits, Sync};
use multistore::sequencer::lane::Context;
use multistore::sequencer::plan::plan;
use multistore::sequencer::standing::Standing;
use multistore::sequencer::{Expiry, Path, Scope, Sequencer, Settings, StoreFace, Submission};
use multistore::session::footprint;
use multistore::stage::{Stage, StoreId};

const OK: &[u8] = b"+OK\r\n";

fn set() -> Vec<u8> {
    let mut frame = Vec::new();
    encode::command(&mut frame, &[b"SET".as_slice(), b"i:k:0000001234", &[b'x'; 16]]);
    frame
}

/// Where the request ends, and where its arguments stand.
fn decode(c: &mut Criterion) {
    let (frame, limits, mut decoder) = (set(), RequestLimits::default(), Decoder::new());
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Bytes(frame.len() as u64));
    group.bench_function("SET", |b| b.iter(|| decoder.decode(black_box(&frame), &limits)));
    let half = &frame[..frame.len() / 2];
    group.bench_function("SET, in two pieces", |b| {
        b.iter(|| {
            let first = decoder.decode(black_box(half), &limits);
            (first, decoder.decode(black_box(&frame), &limits))
        });
    });
    group.finish();
}

/// Where the reply ends.
fn scan(c: &mut Criterion) {
    let (limits, mut scanner) = (ReplyLimits::default(), ReplyScanner::new());
    let mut list = Vec::new();
    encode::array_header(&mut list, 100);
    (0..100).for_each(|number| encode::bulk(&mut list, format!("element-{number:04}").as_bytes()));
    let mut group = c.benchmark_group("scan");
    for (name, reply) in [("+OK", OK.to_vec()), ("100 elements", list)] {
        group.throughput(Throughput::Bytes(reply.len() as u64));
        group.bench_function(name, |b| b.iter(|| scanner.scan(black_box(&reply), &limits)));
    }
    group.finish();
}

/// What the command is, what it does, which keys it has, and which way it goes.
fn know(c: &mut Criterion) {
    let (frame, table) = (set(), Table::builtin());
    let spans = spans_of(&frame);
    let request = Request { frame: &frame, args: &spans };
    let mut found = Keys::new();
    let mut group = c.benchmark_group("classify");
    group.bench_function("look-up", |b| b.iter(|| table.find(black_box(&request))));
    let id = table.find(&request).expect("SET is known");
    let spec = table.spec(id);
    group.bench_function("classify and route", |b| {
        b.iter(|| {
            let effect = classify(spec, black_box(&request));
            (effect, route(spec, &effect, &request))
        });
    });
    let effect = classify(spec, &request);
    group.bench_function("keys and their hashes", |b| {
        b.iter(|| {
            let listed = keys(spec, black_box(&request), &mut found).is_ok();
            footprint(&found, listed, spec, &effect, &request, 0)
        });
    });
    group.finish();
}

/// As well spread as a key's.
fn hash(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// How a write reaches the other store.
fn plan_writes(c: &mut Criterion) {
    let mut known = Knowledge::new(Sync::Unknown, Limits::default());
    (0..100_000).for_each(|number| known.settle(hash(number), |_| false));
    let standing = |hash| Standing::of(StoreId::Secondary, known.of(hash), || known.is_cold(hash));
    let key = |at: u64| KeyRef { hash: hash(at), access: Access::Modify, start: 0, end: 0 };
    let mut group = c.benchmark_group("plan");
    for (name, count) in [("one key", 1), ("ten keys", 10)] {
        let keys: Vec<KeyRef> = (0..count).map(key).collect();
        group.bench_function(name, |b| {
            b.iter(|| plan(Way::Verbatim, black_box(&keys), standing));
        });
    }
    group.finish();
}

/// Are two replies the same answer?
fn compare_replies(c: &mut Criterion) {
    let members = |order: &[usize]| {
        let mut reply = Vec::new();
        encode::array_header(&mut reply, order.len());
        order.iter().for_each(|number| encode::bulk(&mut reply, format!("member-{number}").as_bytes()));
        reply
    };
    let order: Vec<usize> = (0..100).collect();
    let reversed: Vec<usize> = order.iter().rev().copied().collect();
    let (one, other) = (members(&order), members(&reversed));
    let tolerance = Duration::from_secs(1);
    let mut group = c.benchmark_group("compare");
    for (name, rule, a, b) in [
        ("equal bytes", Rule::Exact, OK, OK),
        ("100 members in another order", Rule::Multiset, &one, &other),
        ("100 elements that differ", Rule::Exact, &one, &other),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| compare::equal(rule, black_box(a), black_box(b), tolerance));
        });
    }
    group.finish();
}

/// The sequencer between two lanes whose stores answer at once.
struct Order {
    core: Sequencer,
    client: ClientKey,
    frame: Vec<u8>,
    footprint: Footprint,
    command: CommandId,
    effect: Effect,
    bytes: Vec<u8>,
}

impl Order {
    fn new(stage: Stage) -> Order {
        let table = std::rc::Rc::new(Table::builtin());
        let names: Vec<&'static str> = table.iter().map(|(_, spec)| spec.label()).collect();
        let reads: Vec<bool> = table.iter().map(|(_, spec)| spec.miss != Miss::Never).collect();
        let metrics = Metrics::new().expect("metrics").instance("micro", &names, |at| reads[at]);
        let faces = StoreId::ALL.map(|store| StoreFace { name: store.name().into(), base_db: 0 });
        let known = Knowledge::new(Sync::InSync, Limits::default());
        let frame = set();
        let spans = spans_of(&frame);
        let request = Request { frame: &frame, args: &spans };
        let command = table.find(&request).expect("SET is known");
        let spec = table.spec(command);
        let effect = classify(spec, &request);
        let mut found = Keys::new();
        let listed = keys(spec, &request, &mut found).is_ok();
        let footprint = footprint(&found, listed, spec, &effect, &request, 0);
        let mut core = Sequencer::new(table.clone(), settings(), stage, faces, metrics, known);
        StoreId::ALL.into_iter().for_each(|store| core.lane_up(store, false));
        let client = core.clients.insert(1);
        let mut order = Order { core, client, frame, footprint, command, effect, bytes: Vec::new() };
        // The lanes choose their database: a reply more.
        order.submit(false);
        for store in StoreId::ALL {
            while order.core.lane(store).depth() > 0 {
                order.core.on_frame(store, OK).expect("a reply is owed");
            }
        }
        order.forget_output();
        order
    }

    fn submit(&mut self, more: bool) {
        let seq = self.core.clients.owe(self.client, false);
        self.core.submit(&Submission {
            client: self.client,
            seq,
            command: self.command,
            path: Path::Write,
            rule: self.effect.rule,
            kind: request_kind(&self.effect),
            context: Context { db: 0, proto: Proto::Resp2 },
            frame: Cow::Borrowed(&self.frame),
            footprint: self.footprint.clone(),
            way: Way::Verbatim,
            scope: Scope::Keys,
            expiry: Expiry::Keeps,
            batch: more.then_some(0),
            fills: 0,
        });
    }

    /// A batch of requests, and both stores' replies to it.
    fn batch(&mut self, requests: usize) {
        (0..requests).for_each(|_| self.submit(requests > 1));
        for store in StoreId::ALL {
            while let Some((sink, _)) = self.core.lane(store).expected() {
                let text;
                let reply = match sink {
                    multistore::sequencer::lane::Sink::Mark(_) => {
                        text = self.mark(store);
                        &text[..]
                    }
                    _ => OK,
                };
                self.core.on_frame(store, reply).expect("a reply is owed");
            }
            self.core.end_of_batch();
        }
        self.forget_output();
    }

    /// The last bulk string that the lane has sent: what its ECHO is answered with.
    fn mark(&self, store: StoreId) -> Vec<u8> {
        let out = &self.core.lane(store).out;
        let at = memchr::memmem::rfind(out, b"$").expect("an ECHO");
        out[at..].to_vec()
    }

    fn forget_output(&mut self) {
        StoreId::ALL.into_iter().for_each(|store| self.core.lane_mut(store).out.clear());
        let mut keys = Vec::new();
        self.core.clients.take_dirty(&mut keys);
        if let Some(client) = self.core.clients.get_mut(self.client) {
            self.bytes.clear();
            self.bytes.extend_from_slice(client.unsent());
            client.took(self.bytes.len());
        }
    }
}

fn settings() -> Settings {
    Settings {
        hydrate: true,
        reads: Reads::Fallback,
        ack: Ack::Default,
        on_lag: OnLag::Repair,
        reply_timeout: Duration::from_secs(5),
        read_patience: Duration::from_millis(5),
        blocking_poll: Duration::from_millis(100),
        lag_max: 64 << 20,
        flip_max_lag: 1 << 20,
        queue_max: 256 << 20,
        heavy_bytes: 256 << 10,
        copy_max_bytes: 1 << 20,
        compare_max_bytes: 1 << 20,
        ttl_tolerance: Duration::from_secs(1),
        client_output_max: 256 << 20,
        log_values: false,
    }
}

/// From the submission to the client's reply, both stores' replies taken and compared.
fn order(c: &mut Criterion) {
    let mut group = c.benchmark_group("order");
    for (name, stage) in [("mirrored", Stage::DualSecondaryDefault), ("one store", Stage::SecondaryOnly)] {
        for requests in [1, 16] {
            let mut order = Order::new(stage);
            group.throughput(Throughput::Elements(requests as u64));
            group.bench_function(format!("SET, {name}, {requests} at once"), |b| {
                b.iter(|| order.batch(requests));
            });
        }
    }
    group.finish();
}

criterion_group!(micro, decode, scan, know, plan_writes, compare_replies, order);
criterion_main!(micro);
