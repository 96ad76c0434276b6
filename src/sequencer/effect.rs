//! What ran on a dedicated connection takes its place in the one order.

use crate::mirror::Effect;

use super::Sequencer;
use super::derive::{Taken, has_error};
use super::op::{Owner, Policy};
use super::plan::Plan;
use super::submission::Dedicated;
use super::transaction::combined;
use super::write::{named, note_sources, touched};

// === impl Sequencer ===

impl Sequencer {
    /// Places the effect of what ran on a dedicated connection of the default store, under a fence. Before its client is
    /// told of it the other store must have [answered](Sequencer::has_answered) up to here, if it says where.
    pub fn place_effect(&mut self, effect: Dedicated<'_>) -> Option<u64> {
        let mut told_at = None;
        if self.stage().is_dual() {
            self.mirror_dedicated(&effect);
            self.note_write(&effect.footprint);
            let other = self.default_store().other();
            told_at = self
                .must_be_gone(&effect.footprint, effect.scope, effect.expiry)
                .then(|| self.lane(other).appended());
            self.put_flip_behind();
        }
        self.serve_parked(&effect.footprint, usize::MAX);
        told_at
    }

    /// Has the store that is not the default answered up to this position, or is there no use in waiting for it?
    pub fn has_answered(&self, position: u64) -> bool {
        let lane = self.lane(self.default_store().other());
        !self.stage().is_dual() || !lane.accepts() || lane.answered() >= position
    }

    fn mirror_dedicated(&mut self, effect: &Dedicated<'_>) {
        self.note_functions(effect.scope);
        let other = self.default_store().other();
        let written = touched(&effect.footprint, effect.frame, effect.scope);
        // What it did not name is heard: `listen_aside`.
        let alone =
            if effect.scope.is_named() { written.clone() } else { named(&effect.footprint, effect.frame) };
        let plan = self.plan_of(combined(&effect.ways), &effect.footprint, effect.scope);
        let made = match plan {
            Plan::Verbatim | Plan::Accepted if effect.replies == 1 => {
                Effect::Frames { bytes: effect.frame.to_vec(), replies: effect.replies }
            }
            // Of a transaction too: what it did to its own connection must not happen to the lane.
            Plan::Verbatim | Plan::Accepted | Plan::Derived => {
                let table = self.table.clone();
                let taken = Taken::apart(&table, effect.frame, &effect.ways);
                let (made, copies) = taken.effect(self.dialect(), effect.reply, effect.companions);
                if copies {
                    self.doubt(&alone, effect.context.db, other);
                }
                made
            }
            Plan::Copied | Plan::Hydrate => Effect::Copy,
        };
        match made {
            Effect::Nothing => {}
            Effect::Copy => self.went_on_alone(&alone, effect.context.db),
            Effect::Frames { bytes, replies } => {
                self.wrote_verbatim(&effect.footprint, effect.frame, effect.scope);
                let mut op =
                    self.own_op(Owner::Nobody, effect.command, Policy::Single(other), effect.context);
                op.write = true;
                // Nobody waits for it: it is over with its last reply.
                op.answered = true;
                op.relative = effect.expiry.is_relative();
                op.due = self.due_on_own_connection(&effect.footprint);
                op.touched = written;
                note_sources(&mut op, &effect.footprint);
                self.send_counted(op, &bytes, &[other], replies);
                self.ask_ends(
                    &effect.footprint,
                    effect.frame,
                    effect.context.db,
                    effect.expiry.without_moment(),
                );
                if effect.selects {
                    self.lane_mut(other).forget_db();
                }
                if has_error(effect.reply) {
                    // Not everything ran that would have settled its keys.
                    self.doubt(&alone, effect.context.db, other);
                }
            }
        }
    }
}
