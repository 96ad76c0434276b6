//! What a client puts into the order.

use std::borrow::Cow;

use multistore::command::{CommandId, Effect, Keys, Kind, Rule, classify, keys};
use multistore::mirror::Way;
use multistore::resp::request::{Request, spans_of};
use multistore::resp::{Proto, encode};
use multistore::route::{Route, request_kind, route};
use multistore::sequencer::fence::Footprint;
use multistore::sequencer::knowledge::Sync;
use multistore::sequencer::lane::Context;
use multistore::sequencer::op::Part;
use multistore::sequencer::{Expiry, Path, Scope, Submission, Transaction, hash_key};
use multistore::session::writes::{expiry, scope, wider};
use multistore::session::{fills, footprint};

use super::super::books::Expect;
use super::super::data::Bytes;
use super::super::redis::Words;
use super::World;

/// What is known of a request before it is put into the order.
pub(super) struct Known {
    pub id: CommandId,
    pub effect: Effect,
    pub path: Path,
    pub frame: Vec<u8>,
    pub footprint: Footprint,
    pub fills: usize,
}

// === impl World ===

impl World {
    pub(super) fn is_held(&self, id: u64) -> bool {
        self.core.is_held(self.peers[&id].key)
    }

    pub(super) fn context(&self, id: u64) -> Context {
        let peer = &self.peers[&id];
        Context { db: peer.db, proto: if peer.resp3 { Proto::Resp3 } else { Proto::Resp2 } }
    }

    pub(super) fn know(&self, id: u64, words: &Words) -> Known {
        let table = &self.kit.table;
        let command = table.find(words.as_slice()).expect("a known command");
        let spec = table.spec(command);
        let effect = classify(spec, words.as_slice());
        let path = match route(spec, &effect, words.as_slice()) {
            Route::Order(path) => path,
            _ => Path::Default,
        };
        let mut frame = Vec::new();
        encode::command(&mut frame, words);
        let spans = spans_of(&frame);
        let request = Request { frame: &frame, args: &spans };
        let mut found = Keys::new();
        let listed = keys(spec, &request, &mut found).is_ok();
        let footprint = footprint(&found, listed, spec, &effect, &request, self.peers[&id].db);
        let fills = fills(spec, &effect, &found, &request);
        Known { id: command, effect, path, footprint, fills, frame }
    }

    pub(super) fn owe(&mut self, id: u64, expect: Expect) -> u64 {
        self.taint();
        let key = self.peers[&id].key;
        let seq = self.core.clients.owe(key, false);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.expect.push_back(expect);
        }
        seq
    }

    pub(super) fn pay(&mut self, id: u64, seq: u64, reply: &[u8]) {
        if let Some(peer) = self.peers.get(&id) {
            self.core.clients.pay(peer.key, seq, reply);
        }
        self.settle();
    }

    /// As `Session::submit`. True: it is held.
    pub(super) fn submit(&mut self, id: u64, words: &Words, more: bool) -> bool {
        self.core.set_now(self.now);
        let known = self.know(id, words);
        let db = self.peers[&id].db;
        let record = self.books.asked(id, db, words);
        let core = &self.core;
        let in_the_cold = |word: &Bytes| core.sync_of(hash_key(db, word)) == Sync::Unknown;
        self.books.records[record].in_the_cold = words.iter().skip(1).any(in_the_cold);
        let seq = self.owe(id, Expect::One(record));
        let context = self.context(id);
        let key = self.peers[&id].key;
        let table = self.kit.table.clone();
        let spec = table.spec(known.id);
        let dual = self.core.stage().is_dual();
        let fills = if dual { known.fills } else { 0 };
        let footprint = if dual { known.footprint } else { Footprint::Nothing };
        let writes = dual && known.path == Path::Write;
        let batch = self.core.clients.batch(key, seq, more);
        let (way, scope, expiry) = match writes {
            true => {
                let told = self.core.way(known.id, known.effect.writes, words.as_slice());
                let scope = scope(spec, &known.effect, &footprint, told);
                (told.way, scope, expiry(spec, words.as_slice(), told))
            }
            false => (Way::Nothing, Scope::Keys, Expiry::Keeps),
        };
        self.core.submit(&Submission {
            client: key,
            seq,
            command: known.id,
            path: known.path,
            rule: known.effect.rule,
            kind: request_kind(&known.effect),
            context,
            frame: Cow::Borrowed(&known.frame),
            footprint,
            way,
            scope,
            expiry,
            batch,
            fills,
        });
        self.settle();
        self.is_held(id)
    }

    /// As `Session::queue` and `Session::exec`. `slow`: the client waits for each QUEUED. True: it is held.
    pub(super) fn submit_transaction(&mut self, id: u64, all: &[Words], slow: bool) -> bool {
        self.core.set_now(self.now);
        let mut multi = Multi::default();
        encode::command(&mut multi.frames, &[b"MULTI"]);
        let seq = self.owe(id, Expect::Said(encode::OK));
        multi.parts.push(Part { seq, answered: slow, rule: Rule::Ignore });
        let db = self.peers[&id].db;
        let records: Vec<usize> = all.iter().map(|words| self.books.asked(id, db, words)).collect();
        for words in all {
            let seq = self.owe(id, Expect::Said(encode::QUEUED));
            self.queue(id, &mut multi, words, seq, slow);
        }
        let seq = self.owe(id, Expect::Exec(records));
        if slow {
            let key = self.peers[&id].key;
            for (at, part) in multi.parts.iter().enumerate() {
                self.core.clients.pay(key, part.seq, if at == 0 { encode::OK } else { encode::QUEUED });
            }
        }
        encode::command(&mut multi.frames, &[b"EXEC"]);
        multi.parts.push(Part { seq, answered: false, rule: Rule::Exact });
        let context = self.context(id);
        let client = self.peers[&id].key;
        let command = self.kit.table.by_name("exec").expect("EXEC is known");
        self.core.submit_transaction(Transaction {
            client,
            parts: multi.parts,
            command,
            context,
            frame: Cow::Owned(multi.frames),
            footprint: multi.footprint,
            named: Footprint::Nothing,
            writes: multi.writes,
            runs_scripts: false,
            ways: multi.ways,
            scope: multi.scope,
            expiry: multi.expiry,
        });
        self.settle();
        self.is_held(id)
    }

    pub(super) fn queue(&mut self, id: u64, multi: &mut Multi, words: &Words, seq: u64, answered: bool) {
        let known = self.know(id, words);
        let table = self.kit.table.clone();
        let spec = table.spec(known.id);
        let told = self.core.way(known.id, known.effect.writes, words.as_slice());
        let reach = scope(spec, &known.effect, &known.footprint, told);
        if known.effect.kind != Kind::KeyspaceRead {
            multi.footprint.join(known.footprint, multi.frames.len());
        }
        multi.writes |= known.effect.writes;
        multi.scope = wider(multi.scope, reach);
        multi.expiry = multi.expiry.with(expiry(spec, words.as_slice(), told));
        multi.ways.push(told.way);
        multi.frames.extend_from_slice(&known.frame);
        multi.parts.push(Part { seq, answered, rule: known.effect.rule });
    }
}

#[derive(Default)]
pub(super) struct Multi {
    pub frames: Vec<u8>,
    pub parts: Vec<Part>,
    pub footprint: Footprint,
    pub writes: bool,
    pub ways: Vec<Way>,
    pub scope: Scope,
    pub expiry: Expiry,
}
