//! Transactions enter the one order as a whole.

use crate::command::Kind;
use crate::metrics::RequestKind;
use crate::mirror::Way;
use crate::resp::encode;
use crate::resp::request::Request;
use crate::stage::StoreId;

use super::copy::Hydration;
use super::derive::split;
use super::fence::Footprint;
use super::op::{Op, Owner, Policy};
use super::plan::Plan;
use super::submission::Transaction;
use super::touched::Touched;
use super::write::{note_sources, touched};
use super::{Reads, Sequencer};

// === impl Sequencer ===

impl Sequencer {
    /// Puts a whole transaction into the order, or holds it behind a fence.
    pub fn submit_transaction(&mut self, transaction: Transaction<'_>) {
        if !self.holds.is_open() && self.holds.blocks(&transaction.footprint) {
            self.hold_transaction(transaction);
            return;
        }
        self.place_transaction(transaction);
    }

    pub(super) fn place_transaction(&mut self, transaction: Transaction<'_>) {
        let dual = self.stage().is_dual();
        self.hurry_lone_read(transaction.client);
        let looks = !transaction.writes
            && (self.settings.reads == Reads::Default || self.is_news_to_the_other(&transaction.footprint));
        if !dual || looks {
            let policy = Policy::Single(self.default_store());
            let op = self.transaction_op(&transaction, policy);
            let replies = transaction.parts.len() as u32;
            self.send_counted(op, &transaction.frame, &[self.default_store()], replies);
            return;
        }
        if let Some(error) = self.swap_refusal(transaction.scope, &transaction.frame) {
            self.refuse_transaction(&transaction, &error);
            return;
        }
        self.note_functions(transaction.scope);
        let way = combined(&transaction.ways);
        let plan = self.plan_of(way, &transaction.footprint, transaction.scope);
        let hydration = match plan {
            Plan::Hydrate => self.hydrate(&transaction.footprint, &transaction.frame, transaction.context.db),
            _ if self.lacks_keys_of(&transaction.named) => {
                self.hydrate(&transaction.named, &transaction.frame, transaction.context.db)
            }
            _ => Hydration::Unreachable,
        };
        match hydration {
            Hydration::Begun => self.hold_transaction(transaction),
            Hydration::Unreachable => self.place_planned(transaction, plan),
            Hydration::Refused(error) => self.refuse_transaction(&transaction, &error),
        }
    }

    /// Nothing of the transaction is run; its last reply says why.
    fn refuse_transaction(&mut self, transaction: &Transaction<'_>, error: &[u8]) {
        let last = transaction.parts.len().saturating_sub(1);
        for (at, part) in transaction.parts.iter().enumerate().filter(|(_, part)| !part.answered) {
            let reply = match at {
                _ if at == last => error,
                0 => encode::OK,
                _ => encode::QUEUED,
            };
            self.clients.pay(transaction.client, part.seq, reply);
        }
    }

    fn place_planned(&mut self, transaction: Transaction<'_>, plan: Plan) {
        let default = self.default_store();
        let replies = transaction.parts.len() as u32;
        let written = touched(&transaction.footprint, &transaction.frame, transaction.scope);
        match plan {
            Plan::Verbatim => {
                let policy = self.write_policy(&transaction.footprint, transaction.scope, transaction.expiry);
                let mut op = self.transaction_op(&transaction, policy);
                op.compare = true;
                op.write = transaction.writes;
                op.relative = true;
                op.due = self.due(&transaction.footprint);
                op.touched = written;
                note_sources(&mut op, &transaction.footprint);
                op.blind = self.settle_keys(&transaction.footprint, &transaction.frame, transaction.scope);
                self.send_counted(op, &transaction.frame, &StoreId::ALL, replies);
                self.learn_ends_of(&transaction);
            }
            Plan::Accepted | Plan::Derived => {
                let mut op = self.transaction_op(&transaction, Policy::Single(default));
                op.touched = written;
                note_sources(&mut op, &transaction.footprint);
                op.relative = true;
                op.due = self.due(&transaction.footprint);
                let waits = self.must_be_gone(&transaction.footprint, transaction.scope, transaction.expiry);
                let extra = op.extra_mut();
                extra.scope = transaction.scope;
                extra.waits = waits;
                self.dirty_flushed(transaction.scope);
                self.send_derived(op, &transaction.frame, replies, transaction.ways.clone());
                self.learn_ends_of(&transaction);
            }
            Plan::Copied | Plan::Hydrate => {
                let mut op = self.transaction_op(&transaction, Policy::Single(default));
                op.write = transaction.writes;
                if default == StoreId::Primary {
                    op.extra_mut().written = self.written_by_each(&transaction);
                }
                let scope = transaction.scope;
                self.send_alone(op, &transaction.frame, replies, &transaction.footprint, scope);
            }
        }
        if transaction.writes {
            self.note_write(&transaction.footprint);
            self.serve_parked(&transaction.footprint, usize::MAX);
        }
    }

    /// The keys that each command writes, MULTI's first, as far as its reply may tell whether it has found them.
    fn written_by_each(&self, transaction: &Transaction<'_>) -> Box<[Touched]> {
        let mut start = 0;
        // They are in the order of the commands: each is looked at once.
        let mut keys = transaction.footprint.keys().iter().copied().peekable();
        let each = split(&transaction.frame).into_iter().map(|(frame, args)| {
            start += frame.len();
            let own = std::iter::from_fn(|| keys.next_if(|key| (key.start as usize) < start)).collect();
            let command = self.table.find(&Request { frame, args: &args });
            if command.is_none_or(|command| self.table.spec(command).kind == Kind::Script) {
                return Touched::Nothing;
            }
            Touched::of(&Footprint::Keys(own), &transaction.frame, true)
        });
        each.collect()
    }

    fn learn_ends_of(&mut self, transaction: &Transaction<'_>) {
        let db = transaction.context.db;
        self.ask_ends(&transaction.footprint, &transaction.frame, db, transaction.expiry);
    }

    fn transaction_op(&self, transaction: &Transaction<'_>, policy: Policy) -> Op {
        let seq = transaction.parts.last().map_or(0, |part| part.seq);
        let owner = Owner::Client { key: transaction.client, seq };
        let mut op =
            Op::new(owner, transaction.command, policy, self.default_store(), transaction.context, self.now);
        op.kind = RequestKind::Transaction;
        let extra = op.extra_mut();
        extra.parts.clone_from(&transaction.parts);
        extra.runs_scripts = transaction.runs_scripts;
        op
    }
}

/// One way for several commands together.
pub(super) fn combined(ways: &[Way]) -> Way {
    if ways.contains(&Way::Copied) {
        return Way::Copied;
    }
    ways.iter().find(|way| matches!(way, Way::Derived(_))).copied().unwrap_or(Way::Verbatim)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::super::fence::{Footprint, KeyRef, hash_key};
    use super::super::knowledge::Sync;
    use super::super::lane::Context;
    use super::super::op::Part;
    use super::super::testing::{answer, sequencer};
    use super::super::{Expiry, Scope, Transaction};
    use crate::command::{Access, Rule};
    use crate::mirror::Way;
    use crate::resp::{Proto, encode};
    use crate::stage::{Stage, StoreId};

    /// Is a key that the primary may never have held still taken for such, after MULTI, SPOP a, SPOP b, EXEC on it alone?
    fn cold_after(exec: &str) -> [bool; 2] {
        let mut core = sequencer(Stage::DualPrimaryDefault, Sync::Unknown);
        let client = core.clients.insert(1);
        let hashes = ["a", "b"].map(|key| hash_key(0, key.as_bytes()));
        for (hash, key) in hashes.into_iter().zip([b"a", b"b"]) {
            core.known.doubt(hash, 0, key, StoreId::Secondary, core.now);
        }
        let (mut frames, mut keys) = (Vec::new(), Footprint::Nothing);
        encode::command(&mut frames, &["MULTI"]);
        for (hash, key) in hashes.into_iter().zip(["a", "b"]) {
            let own = KeyRef { hash, access: Access::Modify, start: 18, end: 19 };
            keys.join(Footprint::of_key(own), frames.len());
            encode::command(&mut frames, &["SPOP", key]);
        }
        encode::command(&mut frames, &["EXEC"]);
        let mut part = || Part { seq: core.clients.owe(client, false), answered: false, rule: Rule::Exact };
        let parts = (0..4).map(|_| part()).collect();
        core.submit_transaction(Transaction {
            client,
            parts,
            command: core.table.by_name("exec").expect("a command"),
            context: Context { db: 0, proto: Proto::Resp2 },
            frame: Cow::Owned(frames),
            footprint: keys,
            named: Footprint::Nothing,
            writes: true,
            runs_scripts: false,
            ways: vec![Way::Verbatim; 2],
            scope: Scope::Keys,
            expiry: Expiry::Keeps,
        });
        for reply in ["+OK\r\n", "+QUEUED\r\n", "+QUEUED\r\n", exec] {
            answer(&mut core, StoreId::Primary, reply);
        }
        hashes.map(|hash| core.known.is_cold(hash))
    }

    #[test]
    fn what_a_transaction_has_found_on_a_cold_primary_that_counts() {
        assert_eq!(cold_after("*2\r\n$1\r\nx\r\n$-1\r\n"), [false, true]);
        assert_eq!(cold_after("*2\r\n$-1\r\n$1\r\nx\r\n"), [true, false]);
        assert_eq!(cold_after("-EXECABORT no\r\n"), [true, true]);
    }
}
