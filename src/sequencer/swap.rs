//! Databases that are exchanged (SWAPDB): what is known of their keys moves with them.

use crate::resp::encode;
use crate::stage::StoreId;

use super::fence::hash_key;
use super::knowledge::Sync;
use super::reach::Reach;
use super::{Scope, Sequencer};

// === impl Sequencer ===

impl Sequencer {
    /// Both stores exchange databases at this point: what is known of their keys moves with them.
    pub(super) fn swapped(&mut self, frame: &[u8]) {
        self.dirty_all_copies();
        for (a, b) in Reach::of(&self.table, frame, 0).swapped {
            self.known.swap(a, b, hash_key);
        }
        // Replies that are still to come tell of the keys where they were, and so does what is still to be heard.
        if self.is_deaf() || self.lanes.iter().any(|lane| lane.depth() > 0) {
            self.owe_walk();
        }
    }

    /// Why databases cannot be exchanged now, as an error frame: a cold primary holds parts of both, and what only the
    /// secondary has cannot be told from what was removed any more.
    #[inline]
    pub fn swap_refusal(&self, scope: Scope, frame: &[u8]) -> Option<Vec<u8>> {
        let may_swap = matches!(scope, Scope::Swap | Scope::Unlisted | Scope::Anywhere);
        may_swap.then(|| self.refused_swap(scope, frame)).flatten()
    }

    fn refused_swap(&self, scope: Scope, frame: &[u8]) -> Option<Vec<u8>> {
        let cold = self.settings.hydrate
            && self.default_store() == StoreId::Primary
            && self.known.base() == Sync::Unknown
            && self.stage().is_dual();
        let swaps = || scope == Scope::Swap || !Reach::of(&self.table, frame, 0).swapped.is_empty();
        if !cold || !swaps() {
            return None;
        }
        let mut error = Vec::new();
        encode::error(
            &mut error,
            format!(
                "MULTISTORE SWAPDB is refused while {} is the default store and does not hold every key yet: the keys \
                 that only {} has would be lost; run a backfill first (multistore backfill start)",
                self.store_name(StoreId::Primary),
                self.store_name(StoreId::Secondary)
            ),
        );
        Some(error)
    }
}
