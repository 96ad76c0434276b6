//! What the default store holds of a key, for those who need the value now or replace it.

use crate::stage::StoreId;

use super::Sequencer;
use super::knowledge::Sync;

/// What the default store holds of a key, seen beside the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Both hold the same.
    Level,
    /// What it holds counts, whatever the other one has.
    Ahead,
    /// It has gone on without what only the other one may hold, which counts again if it turns out to hold nothing.
    Alone,
    /// The other one may hold what it lacks.
    Lacking,
}

/// May the other store hold of a key what the default store does not?
#[inline]
pub fn lacks(default: StoreId, known: Sync) -> bool {
    match known {
        Sync::InSync => false,
        Sync::Unknown => default == StoreId::Primary,
        Sync::Suspect(store) => store == default,
    }
}

// === impl Standing ===

impl Standing {
    /// Of a key of which this is known. `cold`: may the default store never have held it?
    #[inline]
    pub fn of(default: StoreId, known: Sync, cold: impl FnOnce() -> bool) -> Standing {
        match known {
            Sync::InSync => Standing::Level,
            _ if lacks(default, known) => Standing::Lacking,
            Sync::Suspect(_) if cold() => Standing::Alone,
            Sync::Suspect(_) | Sync::Unknown => Standing::Ahead,
        }
    }
}

// === impl Sequencer ===

impl Sequencer {
    /// How the default store stands with a key.
    #[inline]
    pub(super) fn standing(&self, hash: u64) -> Standing {
        Standing::of(self.default_store(), self.held_of(hash), || self.known.is_cold(hash))
    }

    /// What is known of a key, for those who need its value now. A cold primary is not right about a key just because a
    /// write to it is lost, which may never have run: until that is known, the key is as unknown as it was before.
    #[inline]
    pub(super) fn held_of(&self, hash: u64) -> Sync {
        match self.known.of(hash) {
            Sync::Suspect(StoreId::Secondary)
                if self.default_store() == StoreId::Primary && self.known.is_undecided(hash) =>
            {
                Sync::Unknown
            }
            known => known,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clients::ClientKey;
    use super::super::fence::{Footprint, KeyRef, hash_key};
    use super::super::plan::Plan;
    use super::super::testing::{answer, footprint, read, sequencer, set, write};
    use super::super::touched::Touched;
    use super::super::{Scope, TakeOver};
    use super::*;
    use crate::command::{Access, Miss};
    use crate::mirror::Way;
    use crate::stage::Stage;

    /// What a client was told, which takes it.
    fn told(core: &mut Sequencer, client: ClientKey) -> String {
        let client = core.clients.get_mut(client).expect("a client");
        let told = String::from_utf8_lossy(client.unsent()).into_owned();
        client.took(told.len());
        told
    }

    fn modified(key: &str) -> Footprint {
        let hash = hash_key(0, key.as_bytes());
        Footprint::of_key(KeyRef { hash, access: Access::Modify, start: 0, end: 0 })
    }

    /// Does the lane of `store` hand out this word?
    fn hands_out(core: &mut Sequencer, store: StoreId, word: &str) -> bool {
        let out = std::mem::take(&mut core.lane_mut(store).out);
        String::from_utf8_lossy(&out).contains(word)
    }

    /// The store answers what its lane asks before it hands anything out.
    fn answer_context(core: &mut Sequencer, store: StoreId) {
        core.on_frame(store, b"*0\r\n").expect("HELLO");
        core.on_frame(store, b"+OK\r\n").expect("SELECT");
    }

    /// The primary is cold, and a SET of `k` may have run there or not.
    fn lost_in_the_cold() -> (Sequencer, ClientKey) {
        let mut core = sequencer(Stage::DualPrimaryDefault, Sync::Unknown);
        let client = core.clients.insert(1);
        set(&mut core, client, "k");
        answer_context(&mut core, StoreId::Primary);
        core.lane_lost(StoreId::Primary, usize::MAX);
        assert!(told(&mut core, client).contains("may or may not"));
        core.lane_up(StoreId::Primary, true);
        let known = core.known.of(hash_key(0, b"k"));
        assert_eq!(known, Sync::Suspect(StoreId::Secondary), "it is listed, to be copied if it has run");
        (core, client)
    }

    #[test]
    fn what_a_lost_write_was_to_replace_is_still_found_on_the_secondary() {
        for (words, miss, replies, found) in [
            (&["GET", "k"], Miss::Nil, ["$-1\r\n", "$3\r\nold\r\n"], "$3\r\nold\r\n"),
            (&["GET", "k"], Miss::Nil, ["$3\r\nnew\r\n", ""], "$3\r\nnew\r\n"),
            (&["MGET", "k"], Miss::AnyNil, ["*1\r\n$-1\r\n", "*1\r\n$3\r\nold\r\n"], "*1\r\n$3\r\nold\r\n"),
        ] {
            let (mut core, client) = lost_in_the_cold();
            read(&mut core, client, words, miss);
            for (store, reply) in StoreId::ALL.into_iter().zip(replies).filter(|(_, reply)| !reply.is_empty())
            {
                answer(&mut core, store, reply);
            }
            assert_eq!(told(&mut core, client), found, "{words:?}");
        }
    }

    #[test]
    fn what_a_lost_write_was_to_replace_is_copied_before_it_is_changed() {
        let (mut core, _) = lost_in_the_cold();
        assert_eq!(core.plan_of(Way::Verbatim, &modified("k"), Scope::Keys), Plan::Hydrate);
        core.went_on_alone(&Touched::key(hash_key(0, b"k"), b"k"), 0);
        assert_eq!(
            core.plan_of(Way::Verbatim, &modified("k"), Scope::Keys),
            Plan::Copied,
            "it cannot be had"
        );
        assert_eq!(core.standing(hash_key(0, b"k")), Standing::Alone);
    }

    /// What is known of `k`, which the secondary does not tell in time, while a client waits for `waited`, or has gone away.
    fn not_told_in_time(waited: &str, leaves: bool) -> Sync {
        let mut core = sequencer(Stage::DualPrimaryDefault, Sync::Unknown);
        let client = core.clients.insert(1);
        assert_eq!(core.hydrate_for(&modified("k"), b"", 0), TakeOver::Begun);
        assert_eq!(core.hydrate_for(&modified("j"), b"", 0), TakeOver::Begun);
        assert!(core.awaits_hydration(client, &modified(waited)));
        if leaves {
            core.disconnect(client);
        }
        let late = core.now + 2 * core.settings.reply_timeout.as_micros() as u64;
        core.set_now(late);
        core.tick();
        core.known.of(hash_key(0, b"k"))
    }

    #[test]
    fn the_primary_goes_on_alone_only_with_what_somebody_still_waits_for() {
        assert_eq!(not_told_in_time("k", false), Sync::Suspect(StoreId::Secondary));
        assert_eq!(not_told_in_time("k", true), Sync::Unknown);
        assert_eq!(not_told_in_time("j", false), Sync::Unknown);
    }

    #[test]
    fn what_only_the_secondary_may_hold_is_not_overwritten_before_the_primary_has_taken_it() {
        let mut core = sequencer(Stage::DualPrimaryDefault, Sync::Unknown);
        let client = core.clients.insert(1);
        set(&mut core, client, "another");
        StoreId::ALL.into_iter().for_each(|store| answer(&mut core, store, "+OK\r\n"));
        assert_eq!(told(&mut core, client), "+OK\r\n");
        assert!(hands_out(&mut core, StoreId::Secondary, "SET"));
        let now = core.now;
        core.known.doubt(hash_key(0, b"k"), 0, b"k", StoreId::Secondary, now);
        assert_eq!(core.standing(hash_key(0, b"k")), Standing::Alone);
        set(&mut core, client, "k");
        assert!(!hands_out(&mut core, StoreId::Secondary, "SET"), "the primary may refuse it");
        answer(&mut core, StoreId::Primary, "+OK\r\n");
        assert_eq!(told(&mut core, client), "+OK\r\n");
        assert!(hands_out(&mut core, StoreId::Secondary, "SET"));
        // Now the primary has had it: what it does not hold is gone.
        write(&mut core, client, &["DEL", "k"], 0);
        assert!(!core.known.is_cold(hash_key(0, b"k")));
        assert_eq!(core.plan_of(Way::Verbatim, &footprint("k"), Scope::Keys), Plan::Verbatim);
    }

    #[test]
    fn who_is_behind_and_who_may_never_have_had_it() {
        let known = Sync::Suspect(StoreId::Secondary);
        assert_eq!(Standing::of(StoreId::Primary, known, || true), Standing::Alone);
        assert_eq!(Standing::of(StoreId::Primary, known, || false), Standing::Ahead);
        assert_eq!(Standing::of(StoreId::Secondary, known, || true), Standing::Lacking);
        assert_eq!(Standing::of(StoreId::Primary, Sync::Unknown, || false), Standing::Lacking);
        assert_eq!(Standing::of(StoreId::Secondary, Sync::Unknown, || false), Standing::Ahead);
    }
}
