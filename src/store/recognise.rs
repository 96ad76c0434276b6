//! Is a store that answers again the one that it was? Pure: what it told then and now in, what became of it out.
//!
//! Nothing here proves that a store has lost nothing: its offset is known as of the last connect, and what it has
//! acknowledged since may be missing after a failover.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::handshake::Identity;
use crate::config::StoreConfig;
use crate::stage::StoreId;

/// Where a store is by its URL. What is elsewhere is the same store only if what it tells of itself says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Host and port, socket, or sentinels and master; empty: not known.
    pub address: String,
    /// The one database that is shown; none: all of them.
    pub database: Option<u32>,
}

/// What became of a store whose data may not be what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The same process has become another server's copy: what it held was replaced, or is about to be.
    Replaced,
    /// Another process goes on with the history of the one before: a failover, or a restart with its data.
    Continues,
    /// So it does, but so many bytes of the history that there had been are not part of it.
    FellBack(u64),
    /// The URL names another database than before.
    Moved,
    /// Another process, with a history of its own: a restart, with or without data, or another server altogether.
    Other {
        /// The keys that it had when it was last connected to, if that is known, and those that it has.
        keys: (Option<u64>, u64),
    },
}

/// Compares what a store tells now with what was `known` of it. None: it is the process that it was, with its own data.
pub fn recognise(known: &Identity, now: &Identity) -> Option<Change> {
    if known.run_id.is_empty() || now.run_id.is_empty() {
        return None;
    }
    if known.place.is_known() && known.place.database != now.place.database {
        return Some(Change::Moved);
    }
    let kept = history_kept(known, now);
    if known.run_id == now.run_id {
        return replaced(known, now, kept).then_some(Change::Replaced);
    }
    Some(match kept {
        None => Change::Other { keys: ((known.keys > 0).then_some(known.keys), now.keys) },
        Some(until) if until < known.offset => Change::FellBack(known.offset - until),
        Some(_) => Change::Continues,
    })
}

/// Is what stands `now` under the URL of `store` somebody else's? It is elsewhere than the store was, is not empty, and is
/// neither that store, nor does it go on with the data of either of the two that were `known`.
pub fn is_stranger(store: StoreId, known: &[Identity; 2], now: &Identity) -> bool {
    let was = store.pick(known);
    if !was.place.is_known() || was.place == now.place || now.keys == 0 {
        return false;
    }
    let itself = !now.run_id.is_empty() && was.run_id == now.run_id;
    let goes_on = known.iter().any(|one| history_kept(one, now).is_some());
    was.place.database != now.place.database || !(itself || goes_on)
}

/// Up to which offset is the history known before part of the one now, if it is at all?
fn history_kept(known: &Identity, now: &Identity) -> Option<u64> {
    let id = known.replication_id.as_str();
    match now {
        _ if id.is_empty() => None,
        now if now.replication_id == id => Some(now.offset),
        // Who is promoted takes a new id, and keeps the old one with the offset that it was valid up to.
        now if now.previous_id == id => Some(now.previous_until),
        _ => None,
    }
}

/// Has the same process taken over the data of another server?
fn replaced(known: &Identity, now: &Identity, kept: Option<u64>) -> bool {
    if known.replication_id.is_empty() || now.replication_id.is_empty() {
        return false;
    }
    let follows = |server: &Identity| matches!(server.role.as_str(), "slave" | "replica");
    let began_to_follow = known.role == "master" && follows(now);
    let fell_back = kept.is_some_and(|until| until < known.offset);
    // A master that nobody follows any more gives itself a new id after a while, and forgets the one before.
    let renamed = !follows(now) && now.previous_id.bytes().all(|byte| byte == b'0');
    began_to_follow || fell_back || kept.is_none() && !renamed
}

// === impl Place ===

impl Place {
    /// Where `store` is, of which the instance shows `database`.
    pub fn of(store: &StoreConfig, database: Option<u32>) -> Place {
        Place { address: store.endpoint.to_string(), database }
    }

    /// Has anybody noted it?
    pub fn is_known(&self) -> bool {
        !self.address.is_empty()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.database {
            None => f.write_str(&self.address),
            Some(database) => write!(f, "{}/{database}", self.address),
        }
    }
}

// === impl Change ===

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Replaced => {
                f.write_str("was made a copy of another server (REPLICAOF): what it held was replaced")
            }
            Change::Moved => f.write_str("is another database than it was"),
            Change::Continues => f.write_str(
                "came back as another server that goes on with its data (a failover, or a restart); what was acknowledged \
                 last may be missing",
            ),
            Change::FellBack(bytes) => write!(
                f,
                "came back as another server that lacks at least the last {bytes} bytes of its writes"
            ),
            Change::Other { keys: (Some(before), now) } => {
                write!(f, "came back as another server (it had {before} keys, and has {now})")
            }
            Change::Other { keys: (None, now) } => write!(f, "came back as another server (it has {now} keys)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `run replid offset previous until role`
    fn server(words: &str) -> Identity {
        let words: Vec<&str> = words.split(' ').collect();
        let text = |at: usize| words.get(at).filter(|word| **word != "-").map_or("", |word| *word).to_owned();
        let number = |at: usize| text(at).parse().unwrap_or(0);
        Identity {
            run_id: text(0),
            replication_id: text(1),
            offset: number(2),
            previous_id: text(3),
            previous_until: number(4),
            role: text(5),
            keys: number(6),
            ..Identity::default()
        }
    }

    #[test]
    fn the_table_of_strangers() {
        let at = |address: &str, words: &str| {
            let (address, database) = match address.split_once('/') {
                Some((address, database)) => (address, database.parse().ok()),
                None => (address, None),
            };
            let place = Place { address: address.to_owned(), database };
            Identity { place, ..server(words) }
        };
        let here = "r1 h1 0 - 0 -";
        for (what, known, now, expected) in [
            ("never seen before", at("", "- - 0 - 0 -"), at("b", "r2 h2 0 000 0 master 9"), false),
            ("an old state file", at("", here), at("b", "r2 h2 0 000 0 master 9"), false),
            ("the same address, restarted", at("a", here), at("a", "r2 h2 0 000 0 master 9"), false),
            ("another name of it", at("a", here), at("b", "r1 h1 0 000 0 master 9"), false),
            ("it is empty", at("a", here), at("b", "r2 h2 0 000 0 master 0"), false),
            ("moved with its history", at("a", here), at("b", "r2 h1 0 000 0 master 9"), false),
            ("a promoted replica", at("a", here), at("b", "r2 h2 0 h1 0 master 9"), false),
            ("a replica of the other store", at("a", here), at("b", "r2 o1 0 000 0 slave 9"), false),
            ("a promoted one of it", at("a", here), at("b", "r2 h2 0 o1 0 master 9"), false),
            ("somebody else's", at("a", here), at("b", "r2 h2 0 000 0 master 9"), true),
            ("it does not tell", at("a", here), at("b", "- - 0 - 0 - 9"), true),
            ("another database", at("a/1", here), at("a/2", "r1 h1 0 000 0 master 9"), true),
            ("an empty one", at("a/1", here), at("a/2", "r1 h1 0 000 0 master 0"), false),
            ("all databases instead of one", at("a/1", here), at("a", "r1 h1 0 000 0 master 9"), true),
            ("a replica's other database", at("a/1", here), at("b/2", "r2 h1 0 000 0 slave 9"), true),
        ] {
            let other = at("z", "o0 o1 0 - 0 -");
            let pairs =
                [(StoreId::Primary, [known.clone(), other.clone()]), (StoreId::Secondary, [other, known])];
            for (store, known) in pairs {
                assert_eq!(is_stranger(store, &known, &now), expected, "{what}, {store}");
            }
        }
    }

    #[test]
    fn the_table_of_returns() {
        use Change::{Continues, FellBack, Other, Replaced};
        for (what, known, now, expected) in [
            ("a lost connection", "r1 h1 100 000 0 master", "r1 h1 250 000 0 master", None),
            ("nothing is told", "r1 - 0 - 0 -", "r1 - 0 - 0 -", None),
            (
                "the id was given up with the backlog",
                "r1 h1 100 000 0 master",
                "r1 h2 100 000 0 master",
                None,
            ),
            ("a replica all along", "r1 h1 100 000 0 slave", "r1 h1 250 000 0 slave", None),
            ("a replica whose master failed over", "r1 h1 100 000 0 slave", "r1 h2 300 h1 200 slave", None),
            ("a replica that was promoted", "r1 h1 100 000 0 slave", "r1 h2 300 h1 200 master", None),
            ("REPLICAOF, not synced yet", "r1 h1 100 000 0 master", "r1 h1 100 000 0 slave", Some(Replaced)),
            ("REPLICAOF, synced", "r1 h1 100 000 0 master", "r1 x1 900 000 0 slave", Some(Replaced)),
            ("and promoted again", "r1 h1 100 000 0 master", "r1 x2 950 x1 900 master", Some(Replaced)),
            ("a replica of another one", "r1 h1 100 000 0 slave", "r1 x1 900 000 0 slave", Some(Replaced)),
            ("its own history anew", "r1 h1 100 000 0 slave", "r1 h1 50 000 0 slave", Some(Replaced)),
            ("a failover", "r1 h1 100 000 0 master", "r2 h2 300 h1 200 master", Some(Continues)),
            ("a restart with its data", "r1 h1 100 000 0 master", "r2 h1 100 000 0 master", Some(Continues)),
            ("a failover that lost", "r1 h1 100 000 0 master", "r2 h2 300 h1 60 master", Some(FellBack(40))),
            (
                "a restart, nobody knows with what",
                "r1 h1 0 000 0 master 7",
                "r2 h2 0 000 0 master 0",
                Some(Other { keys: (Some(7), 0) }),
            ),
            (
                "all that the state file tells",
                "r1 - 0 - 0 -",
                "r2 h2 0 000 0 master 3",
                Some(Other { keys: (None, 3) }),
            ),
            ("never seen before", "- - 0 - 0 -", "r2 h2 0 000 0 master", None),
        ] {
            assert_eq!(recognise(&server(known), &server(now)), expected, "{what}");
        }
    }
}
