//! Fences: writes that run on a dedicated connection take their place in the one order.
//!
//! A fence takes all its keys at one point, first come first served. While it stands, whatever
//! touches its keys is held in the sequencer (one submission per client: a held client is not
//! read further). Other keys don't wait.
//!
//! Invariant: what is held never conflicts with nothing: it waits for a standing fence or for an
//! earlier held submission with a common key.

use std::collections::HashMap;
use std::hash::BuildHasher;

use smallvec::SmallVec;

use crate::command::Access;

/// One key of a request: what stands for it, what happens to it, where it stands in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRef {
    /// The hash of (database, key). A collision only makes somebody wait, or ask or copy once more.
    pub hash: u64,
    /// What the request does to it.
    pub access: Access,
    /// Where the key begins in the request's frame.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
}

/// The hash that stands for a key of a database. Fixed within a process.
#[inline]
pub fn hash_key(db: u32, key: &[u8]) -> u64 {
    foldhash::fast::FixedState::with_seed(u64::from(db)).hash_one(key)
}

/// The keys of a request. Most have one, for which nothing is allocated.
pub type KeyRefs = SmallVec<[KeyRef; 1]>;

/// What a submission touches. The spans of its keys refer to the frame that it goes with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Footprint {
    /// No data.
    #[default]
    Nothing,
    /// These keys.
    Keys(KeyRefs),
    /// Possibly everything: keyless writes, scripts without declared keys, unknown commands.
    Everything,
}

/// A standing fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FenceKey(u64);

/// All standing fences and the keys that are spoken for.
#[derive(Debug, Default)]
pub struct Fences {
    next: u64,
    standing: HashMap<FenceKey, Footprint>,
    keys: HashMap<u64, u32, foldhash::fast::RandomState>,
    whole: u32,
}

// === impl KeyRef ===

impl KeyRef {
    /// The key itself.
    pub fn of<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

// === impl Footprint ===

impl Footprint {
    /// The keys of one command. What it overwrites and reads as well (`SUNIONSTORE a a b`) depends on what it held.
    pub fn of_command(mut keys: KeyRefs) -> Footprint {
        let (reads, replaces) =
            keys.iter().fold((false, false), |(reads, replaces), key| match key.access.depends() {
                true => (true, replaces),
                false => (reads, true),
            });
        if reads && replaces {
            for at in 0..keys.len() {
                let Some(KeyRef { hash, access, .. }) = keys.get(at).copied() else { break };
                let depends = |key: &KeyRef| key.hash == hash && key.access.depends();
                if !access.depends()
                    && keys.iter().any(depends)
                    && let Some(key) = keys.get_mut(at)
                {
                    key.access = Access::Modify;
                }
            }
        }
        Footprint::Keys(keys)
    }

    /// The one key of a command.
    #[inline]
    pub fn of_key(key: KeyRef) -> Footprint {
        Footprint::Keys(KeyRefs::from_buf([key]))
    }

    /// May this key be touched?
    pub fn includes(&self, hash: u64) -> bool {
        match self {
            Footprint::Nothing => false,
            Footprint::Everything => true,
            Footprint::Keys(keys) => keys.iter().any(|key| key.hash == hash),
        }
    }

    /// Adds the footprint of a request whose frame is appended at `offset` of this one's.
    pub fn join(&mut self, other: Footprint, offset: usize) {
        match (&mut *self, other) {
            (Footprint::Everything, _) | (_, Footprint::Nothing) => {}
            (_, Footprint::Everything) => *self = Footprint::Everything,
            (Footprint::Nothing, more) => *self = more.shifted(offset),
            (Footprint::Keys(mine), more) => mine.extend_from_slice(more.shifted(offset).keys()),
        }
    }

    /// The same, for a frame with `offset` more bytes before it.
    pub fn shifted(mut self, offset: usize) -> Footprint {
        if let Footprint::Keys(keys) = &mut self {
            let offset = u32::try_from(offset).unwrap_or(u32::MAX);
            for key in keys {
                key.start = key.start.saturating_add(offset);
                key.end = key.end.saturating_add(offset);
            }
        }
        self
    }

    /// The keys, where they are known.
    #[inline]
    pub fn keys(&self) -> &[KeyRef] {
        match self {
            Footprint::Keys(keys) => keys,
            Footprint::Nothing | Footprint::Everything => &[],
        }
    }
}

// === impl Fences ===

impl Fences {
    /// Does no fence stand? The common case, checked first.
    pub fn is_open(&self) -> bool {
        self.whole == 0 && self.keys.is_empty()
    }

    /// How many keys are spoken for; what speaks for all of them counts as one.
    pub fn spoken_for(&self) -> usize {
        self.keys.len() + self.whole as usize
    }

    /// Has somebody this key to himself, or waits for it? Not counted: what speaks for all of them.
    pub fn is_spoken_for(&self, hash: u64) -> bool {
        self.keys.contains_key(&hash)
    }

    /// Must a submission with this footprint wait?
    pub fn blocks(&self, footprint: &Footprint) -> bool {
        match footprint {
            Footprint::Nothing => false,
            Footprint::Everything => !self.is_open(),
            Footprint::Keys(keys) => self.whole > 0 || keys.iter().any(|k| self.keys.contains_key(&k.hash)),
        }
    }

    /// Does a fence stand around this key, whoever else waits for it?
    pub fn stands_around(&self, hash: u64) -> bool {
        self.standing.values().any(|footprint| footprint.includes(hash))
    }

    /// Puts a fence up around `footprint`. The caller has checked that nothing blocks it.
    pub fn raise(&mut self, footprint: Footprint) -> FenceKey {
        self.next += 1;
        let key = FenceKey(self.next);
        self.reserve(&footprint);
        self.standing.insert(key, footprint);
        key
    }

    /// Takes a fence down.
    pub fn lower(&mut self, key: FenceKey) {
        if let Some(footprint) = self.standing.remove(&key) {
            self.free(&footprint);
        }
    }

    /// Speaks for the keys of a held submission, so that later ones line up behind it.
    pub fn reserve(&mut self, footprint: &Footprint) {
        match footprint {
            Footprint::Nothing => {}
            Footprint::Everything => self.whole += 1,
            Footprint::Keys(keys) => keys.iter().for_each(|k| *self.keys.entry(k.hash).or_default() += 1),
        }
    }

    /// Undoes [`Fences::reserve`].
    pub fn free(&mut self, footprint: &Footprint) {
        match footprint {
            Footprint::Nothing => {}
            Footprint::Everything => self.whole = self.whole.saturating_sub(1),
            Footprint::Keys(keys) => keys.iter().for_each(|k| self.free_key(k.hash)),
        }
    }

    fn free_key(&mut self, key: u64) {
        if let Some(count) = self.keys.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(hashes: &[u64]) -> Footprint {
        let key = |hash: &u64| KeyRef { hash: *hash, access: Access::Modify, start: 0, end: 0 };
        Footprint::Keys(hashes.iter().map(key).collect())
    }

    #[test]
    fn a_fence_holds_its_keys_and_the_keyless() {
        let mut fences = Fences::default();
        assert!(fences.is_open());
        let fence = fences.raise(keys(&[1, 2]));
        assert!(fences.blocks(&keys(&[2, 9])));
        assert!(!fences.blocks(&keys(&[9])));
        assert!(fences.blocks(&Footprint::Everything));
        assert!(!fences.blocks(&Footprint::Nothing));
        fences.reserve(&keys(&[2]));
        fences.lower(fence);
        assert!(fences.blocks(&keys(&[2])), "a held submission still speaks for its key");
        fences.free(&keys(&[2]));
        assert!(fences.is_open());
    }

    #[test]
    fn what_a_command_reads_and_overwrites_depends_on_what_it_held() {
        let key = |hash, access| KeyRef { hash, access, start: 0, end: 0 };
        let unions = Footprint::of_command(smallvec::smallvec![
            key(1, Access::Overwrite),
            key(1, Access::Read),
            key(2, Access::Read),
        ]);
        assert_eq!(unions.keys()[0].access, Access::Modify);
        let plain =
            Footprint::of_command([key(1, Access::Overwrite), key(2, Access::Read)].into_iter().collect());
        assert_eq!(plain.keys()[0].access, Access::Overwrite);
    }

    #[test]
    fn a_fence_around_everything_holds_every_key() {
        let mut fences = Fences::default();
        let fence = fences.raise(Footprint::Everything);
        assert!(fences.blocks(&keys(&[7])));
        fences.lower(fence);
        assert!(fences.is_open());
    }
}
