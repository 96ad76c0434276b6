//! Copies of many keys at once: what backfill needs to keep up with a server.
//!
//! The keys of a group travel together as far as the answers: one request asks for all sizes, one for all values.
//! From there on each key is a copy like any other: read again when it was written meanwhile, written by itself.

use crate::resp::value::Value;
use crate::resp::{Proto, encode};
use crate::sequencer::Sequencer;
use crate::sequencer::knowledge::Sync;
use crate::sequencer::lane::{Context, Lane};
use crate::sequencer::op::{OpKey, Owner, Policy, Reply};
use crate::stage::StoreId;

use super::payload::Payloads;
use super::rounds::Means;
use super::{Copy, CopyKey, is_scratch};

/// A group under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupKey {
    index: u32,
    id: u64,
}

/// Keys that are read together.
#[derive(Debug)]
pub(in crate::sequencer) struct Group {
    id: u64,
    db: u32,
    from: StoreId,
    members: Vec<CopyKey>,
    step: Step,
    /// Members whose answer has come in this step.
    done: usize,
    /// Bytes that the members answered so far take together.
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// One reply per member: how large it is.
    Sizes,
    /// Two replies per member: time to live, value. The last time to live that came is kept.
    Values(i64),
}

/// Values of a group that are read in one go; what would go beyond is read by itself.
const GROUP_BYTES: u64 = 1 << 20;

// === impl Sequencer ===

impl Sequencer {
    /// Copies those of these keys of which nothing is known to `behind`. False: not now, since that takes both stores.
    pub fn copy_unknown<'k>(
        &mut self,
        db: u32,
        keys: impl Iterator<Item = (u64, &'k [u8])>,
        behind: StoreId,
    ) -> bool {
        if !self.stage().is_dual() || !self.lanes.iter().all(Lane::is_up) {
            return false;
        }
        let from = behind.other();
        let (mut members, mut frame) = (Vec::new(), Vec::new());
        for (hash, key) in keys {
            if self.known.of(hash) != Sync::Unknown
                || self.copies.by_hash.contains_key(&hash)
                || is_scratch(key)
            {
                continue;
            }
            encode::command(&mut frame, &[b"MEMORY".as_slice(), b"USAGE", key]);
            members.push(self.insert_copy(db, key, hash, from, true, None));
        }
        let count = members.len();
        if count > 0 {
            self.copies.next += 1;
            let id = self.copies.next;
            let group = Group { id, db, from, members, step: Step::Sizes, done: 0, bytes: 0 };
            let index = self.copies.groups.insert(group) as u32;
            self.group_request(GroupKey { index, id }, &frame, count as u32);
        }
        true
    }

    fn group_request(&mut self, key: GroupKey, frame: &[u8], replies: u32) {
        let Some(group) = self.copies.groups.get(key.index as usize) else { return };
        let (store, context) = (group.from, Context { db: group.db, proto: Proto::Resp2 });
        let Some(command) = self.table.by_name("dump") else { return };
        let op = self.own_op(Owner::CopyGroup(key), command, Policy::Single(store), context);
        self.send_counted(op, frame, &[store], replies);
    }

    fn group_mut(&mut self, key: GroupKey) -> Option<&mut Group> {
        self.copies.groups.get_mut(key.index as usize).filter(|group| group.id == key.id)
    }

    /// One reply to what a group has asked.
    pub(in crate::sequencer) fn group_reply(&mut self, op: OpKey, key: GroupKey, last: bool, frame: &[u8]) {
        if last {
            self.group_answered(op);
        }
        let Some(group) = self.group_mut(key) else { return };
        match group.step {
            Step::Sizes => self.group_size(key, frame),
            Step::Values(_) => self.group_value(key, frame),
        }
        if last {
            self.group_goes_on(key);
        }
    }

    /// The request of a group is answered as a whole, or never will be.
    fn group_answered(&mut self, key: OpKey) {
        if let Some(op) = self.ops.get_mut(key) {
            op.answered = true;
            for reply in &mut op.replies {
                *reply = Reply::Gone;
            }
        }
        self.retire(key);
    }

    fn group_size(&mut self, key: GroupKey, frame: &[u8]) {
        let limit = self.settings.copy_max_bytes;
        let refused = self.copies.payloads.map(|payloads| payloads == Payloads::Refused);
        let Some(group) = self.group_mut(key) else { return };
        let Some(member) = group.members.get(group.done).copied() else { return };
        group.done += 1;
        let size = match Value::parse(frame) {
            Ok(Value::Int(size)) => u64::try_from(size).unwrap_or(0),
            _ => 0,
        };
        let fits = group.bytes + size <= GROUP_BYTES;
        let by_type = refused.get(group.from.index()).copied().unwrap_or_default();
        if fits && size <= limit && !by_type {
            group.bytes += size;
            if let Some(copy) = self.copies.get_mut(member) {
                copy.means = Means::Payload;
            }
        } else if self.copies.get(member).is_some() {
            self.size_told(member, frame);
        }
    }

    fn group_value(&mut self, key: GroupKey, frame: &[u8]) {
        let Some(group) = self.group_mut(key) else { return };
        let Step::Values(pttl) = group.step else { return };
        match Value::parse(frame) {
            Ok(Value::Int(pttl)) => group.step = Step::Values(pttl),
            Ok(value) => {
                let member = group.members.get(group.done).copied();
                group.done += 1;
                let Some(member) = member.filter(|member| self.copies.get(*member).is_some()) else { return };
                if self.is_copy_current(member) {
                    self.payload_told(member, pttl, &value, frame);
                } else {
                    self.read_again(member);
                }
            }
            Err(_) => {}
        }
    }

    /// All sizes are known: asks for the values. All values are there: the group has done its part.
    fn group_goes_on(&mut self, key: GroupKey) {
        let now = self.now;
        let Some(group) = self.group_mut(key) else { return };
        if group.step != Step::Sizes {
            self.copies.groups.remove(key.index as usize);
            return;
        }
        let members = std::mem::take(&mut group.members);
        let mut frame = Vec::new();
        // What was too large travels by itself, and what a write has replaced meanwhile is no copy of ours.
        let mut reading = Vec::with_capacity(members.len());
        for member in members {
            let ours = |copy: &&mut Copy| matches!(copy.means, Means::Payload) && copy.rounds == 0;
            let Some(copy) = self.copies.get_mut(member).filter(ours) else { continue };
            copy.dirty = false;
            copy.rounds = 1;
            copy.read_at = now;
            encode::command(&mut frame, &[b"PTTL".as_slice(), &copy.key]);
            encode::command(&mut frame, &[b"DUMP".as_slice(), &copy.key]);
            reading.push(member);
        }
        let replies = 2 * reading.len() as u32;
        let Some(group) = self.group_mut(key) else { return };
        group.members = reading;
        group.step = Step::Values(-1);
        group.done = 0;
        if replies == 0 {
            self.copies.groups.remove(key.index as usize);
        } else {
            self.group_request(key, &frame, replies);
        }
    }

    /// The store will not answer what a group has asked.
    pub(in crate::sequencer) fn group_lost(&mut self, op: OpKey, key: GroupKey) {
        self.group_answered(op);
        if self.group_mut(key).is_none() {
            return;
        }
        let group = self.copies.groups.remove(key.index as usize);
        for member in group.members.into_iter().skip(group.done) {
            self.copy_failed(member);
        }
    }
}
