//! What most replies are: the one reply of a store to an operation about which nothing else is to be done.
//!
//! What [`Sequencer::op_reply`] looks at step by step is looked at here at once, and the operation is looked up once.

use crate::command::Rule;
use crate::stage::StoreId;

use super::Sequencer;
use super::op::{KEPT_INLINE, Kept, OpKey, Owner, Reply};
use super::policy;

// === impl Sequencer ===

impl Sequencer {
    /// Pays the client and compares, where no more than that is to be done about the last reply of `store`. False:
    /// more is, and nothing has been done.
    #[inline]
    pub(super) fn plain_reply(&mut self, key: OpKey, store: StoreId, frame: &[u8]) -> bool {
        if !self.taints.is_empty() || self.known.suspects() > 0 {
            return false;
        }
        let Some(op) = self.ops.get_mut(key) else { return false };
        let (Owner::Client { key: client, seq }, Some(authority)) = (op.owner, policy::listens_to(op.policy))
        else {
            return false;
        };
        if !op.is_plain() || self.now >= op.due {
            return false;
        }
        if store == authority && !op.answered {
            op.answered = true;
            self.tally.answered(op.kind, self.now - op.started, &self.metrics);
            self.clients.pay(client, seq, frame);
        }
        let [primary, secondary] = &mut op.replies;
        let (mine, other) = match store {
            StoreId::Primary => (primary, secondary),
            StoreId::Secondary => (secondary, primary),
        };
        match other {
            Reply::Pending if op.compare && frame.len() <= KEPT_INLINE => {
                mine.turn_into(Reply::Kept(Kept::new(frame, 0)));
                return true;
            }
            Reply::Kept(kept)
                if op.compare && op.rule != Rule::Ignore && is_one_value(frame) && kept.is(frame) =>
            {
                self.tally.compared();
                mine.turn_into(Reply::Gone);
            }
            Reply::Unsent => mine.turn_into(Reply::Gone),
            _ => {
                self.late_reply(key, store, frame);
                return true;
            }
        }
        if !op.is_open() && op.answered {
            self.kept = self.kept.saturating_sub(op.kept as u64);
            self.ops.close(key);
        }
        true
    }
}

/// Is this a reply of one value? Of an error, alone or in a list, more may have to be known than that it is the same.
#[inline]
fn is_one_value(frame: &[u8]) -> bool {
    matches!(frame.first(), Some(b'+' | b':' | b'$'))
}
