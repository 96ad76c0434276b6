//! Is a store that answers again the one that it was? Pure: what it told then and now in, what became of it out.
//!
//! Nothing here proves that a store has lost nothing: its offset is known as of the last connect, and what it has
//! acknowledged since may be missing after a failover.

use std::fmt;

use super::handshake::Identity;

/// What became of a store whose data may not be what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The same process has become another server's copy: what it held was replaced, or is about to be.
    Replaced,
    /// Another process goes on with the history of the one before: a failover, or a restart with its data.
    Continues,
    /// So it does, but so many bytes of the history that there had been are not part of it.
    FellBack(u64),
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

// === impl Change ===

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Replaced => {
                f.write_str("was made a copy of another server (REPLICAOF): what it held was replaced")
            }
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
