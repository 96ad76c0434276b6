//! Pure: how a write reaches the other store, given what is known of its keys.

use crate::command::Access;
use crate::mirror::Way;
use crate::stage::StoreId;

use super::fence::KeyRef;
use super::knowledge::Sync;

/// How a write reaches the other store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The client's own bytes, at the same time.
    Verbatim,
    /// An effect made from the default store's reply, in a place reserved for it.
    Derived,
    /// Later, as the resulting values of its keys.
    Copied,
    /// Not before the default store has what only the other one knows: these keys are copied first.
    Hydrate,
}

/// Decides. Keys in the order of the command (of a transaction: of its commands).
pub fn plan(way: Way, keys: &[KeyRef], default: StoreId, known: impl Fn(u64) -> Sync) -> Plan {
    let mut settled: Vec<u64> = Vec::new();
    let mut behind = false;
    for key in keys {
        if !key.access.depends() {
            if keys.len() > 1 {
                settled.push(key.hash);
            }
            continue;
        }
        if settled.contains(&key.hash) {
            continue;
        }
        match known(key.hash) {
            Sync::InSync => {}
            Sync::Unknown if default == StoreId::Primary => return Plan::Hydrate,
            Sync::Suspect(store) if store == default => return Plan::Hydrate,
            Sync::Unknown | Sync::Suspect(_) => behind = true,
        }
    }
    match way {
        _ if behind => Plan::Copied,
        Way::Nothing | Way::Verbatim => Plan::Verbatim,
        Way::Derived(_) => Plan::Derived,
        Way::Copied => Plan::Copied,
    }
}

/// Does a key with this access hold the same on both stores once the write has run on both?
pub fn settles(access: Access) -> bool {
    access.settles()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(hash: u64, access: Access) -> KeyRef {
        KeyRef { hash, access, start: 0, end: 0 }
    }

    #[test]
    fn the_table_of_events() {
        use super::Sync::{InSync, Suspect, Unknown};
        use StoreId::{Primary, Secondary};
        let modify = [key(1, Access::Modify)];
        let overwrite = [key(1, Access::Overwrite)];
        for (keys, default, known, expected) in [
            (&overwrite, Secondary, Unknown, Plan::Verbatim),
            (&overwrite, Secondary, Suspect(Primary), Plan::Verbatim),
            (&overwrite, Primary, Suspect(Primary), Plan::Verbatim),
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
                plan(Way::Verbatim, keys, default, |_| known),
                expected,
                "{keys:?} {default} {known:?}"
            );
        }
    }

    #[test]
    fn what_a_transaction_has_settled_itself_needs_no_copy() {
        let keys = [key(1, Access::Overwrite), key(1, Access::Modify)];
        assert_eq!(plan(Way::Verbatim, &keys, StoreId::Primary, |_| Sync::Unknown), Plan::Verbatim);
    }
}
