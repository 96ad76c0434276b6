//! Pure: how a write reaches the other store, given what is known of its keys.

use std::collections::HashSet;

use crate::command::Access;
use crate::mirror::Way;

use super::fence::KeyRef;
use super::standing::Standing;

/// How a write reaches the other store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The client's own bytes, at the same time.
    Verbatim,
    /// The client's own bytes, once the default store has taken them: it does not hold what they replace, and if it
    /// refuses them the other store must still have that.
    Accepted,
    /// An effect made from the default store's reply, in a place reserved for it.
    Derived,
    /// Later, as the resulting values of its keys.
    Copied,
    /// Not before the default store has what only the other one knows: these keys are copied first.
    Hydrate,
}

/// Decides. Keys in the order of the command (of a transaction: of its commands).
#[inline]
pub fn plan(way: Way, keys: &[KeyRef], standing: impl Fn(u64) -> Standing) -> Plan {
    let mut settled = Settled::default();
    let (mut behind, mut replaces, mut alone) = (false, false, false);
    for (at, key) in keys.iter().enumerate() {
        let stands = standing(key.hash);
        let lacks = stands == Standing::Lacking;
        if !key.access.depends() {
            replaces |= lacks;
            alone |= stands == Standing::Alone;
            continue;
        }
        if stands == Standing::Level || settled.holds(key.hash, keys, at) {
            continue;
        }
        if lacks {
            return Plan::Hydrate;
        }
        behind = true;
    }
    match way {
        // What the default store does not take after all must not be lost with what it was to replace.
        Way::Copied if replaces => Plan::Hydrate,
        _ if behind && replaces => Plan::Hydrate,
        _ if behind => Plan::Copied,
        Way::Nothing | Way::Verbatim if replaces || alone => Plan::Accepted,
        _ => of_keys_in_sync(way),
    }
}

/// The same where all keys are in sync, as they usually are.
#[inline]
pub fn of_keys_in_sync(way: Way) -> Plan {
    match way {
        Way::Nothing | Way::Verbatim => Plan::Verbatim,
        Way::Derived(_) => Plan::Derived,
        Way::Copied => Plan::Copied,
    }
}

/// The keys that a transaction has set before. Listed only for one that asks, and once.
#[derive(Default)]
struct Settled {
    hashes: HashSet<u64, foldhash::fast::RandomState>,
    /// How many of the transaction's keys have been looked at.
    listed: usize,
}

// === impl Settled ===

impl Settled {
    /// Has one of the first `before` keys set this one, whatever it was?
    fn holds(&mut self, hash: u64, keys: &[KeyRef], before: usize) -> bool {
        let news = keys.get(self.listed..before).unwrap_or_default();
        self.hashes.extend(news.iter().filter(|key| !key.access.depends()).map(|key| key.hash));
        self.listed = before;
        self.hashes.contains(&hash)
    }
}

/// Does a key with this access hold the same on both stores once the write has run on both?
pub fn settles(access: Access) -> bool {
    access.settles()
}

#[cfg(test)]
mod tests {
    use super::super::knowledge::Sync;
    use super::*;
    use crate::stage::StoreId;

    fn key(hash: u64, access: Access) -> KeyRef {
        KeyRef { hash, access, start: 0, end: 0 }
    }

    #[test]
    fn the_table_of_events() {
        use StoreId::{Primary, Secondary};
        use Sync::{InSync, Suspect, Unknown};
        let modify = [key(1, Access::Modify)];
        let overwrite = [key(1, Access::Overwrite)];
        for (keys, default, known, expected) in [
            (&overwrite, Secondary, Unknown, Plan::Verbatim),
            (&overwrite, Secondary, Suspect(Primary), Plan::Verbatim),
            (&overwrite, Primary, Suspect(Secondary), Plan::Verbatim),
            (&overwrite, Primary, Suspect(Primary), Plan::Accepted),
            (&overwrite, Primary, Unknown, Plan::Accepted),
            (&overwrite, Secondary, Suspect(Secondary), Plan::Accepted),
            (&modify, Secondary, InSync, Plan::Verbatim),
            (&modify, Secondary, Unknown, Plan::Copied),
            (&modify, Secondary, Suspect(Primary), Plan::Copied),
            (&modify, Secondary, Suspect(Secondary), Plan::Hydrate),
            (&modify, Primary, InSync, Plan::Verbatim),
            (&modify, Primary, Unknown, Plan::Hydrate),
            (&modify, Primary, Suspect(Primary), Plan::Hydrate),
            (&modify, Primary, Suspect(Secondary), Plan::Copied),
        ] {
            assert_eq!(
                plan(Way::Verbatim, keys, |_| Standing::of(default, known, || false)),
                expected,
                "{keys:?} {default} {known:?}"
            );
        }
    }

    #[test]
    fn what_a_transaction_has_settled_itself_needs_no_copy() {
        let keys = [key(1, Access::Overwrite), key(1, Access::Modify)];
        assert_eq!(plan(Way::Verbatim, &keys, |_| Standing::Lacking), Plan::Accepted);
    }

    #[test]
    fn what_only_the_other_store_may_hold_is_not_overwritten_there_first() {
        let keys = [key(1, Access::Overwrite)];
        assert_eq!(plan(Way::Verbatim, &keys, |_| Standing::Alone), Plan::Accepted);
        assert_eq!(plan(Way::Copied, &keys, |_| Standing::Alone), Plan::Copied);
        assert_eq!(plan(Way::Verbatim, &[key(1, Access::Modify)], |_| Standing::Alone), Plan::Copied);
    }

    #[test]
    fn what_is_copied_later_replaces_nothing_that_the_default_store_never_had() {
        let keys = [key(1, Access::Overwrite)];
        assert_eq!(plan(Way::Copied, &keys, |_| Standing::Lacking), Plan::Hydrate);
        assert_eq!(plan(Way::Copied, &keys, |_| Standing::Ahead), Plan::Copied);
    }
}
