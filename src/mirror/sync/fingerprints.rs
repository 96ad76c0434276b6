//! A set of hashes: eight bytes each, and a third to two thirds of the room empty.

/// Parts that grow one by one, so that no insertion takes long.
const SHARDS: usize = 64;

/// Slots of a part when it gets its first hash.
const FIRST_SLOTS: usize = 8;

/// An empty slot; the hash of this value is stored as another one.
const EMPTY: u64 = 0;

/// A set of hashes.
#[derive(Debug, Default)]
pub(super) struct Fingerprints {
    /// None, or all of them.
    shards: Vec<Shard>,
    len: usize,
}

/// Open addressing: a hash stands in its slot or, without a gap, behind it.
#[derive(Clone, Debug, Default)]
struct Shard {
    slots: Box<[u64]>,
    used: usize,
}

// === impl Fingerprints ===

impl Fingerprints {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn contains(&self, hash: u64) -> bool {
        self.shards.get(shard_of(hash)).is_some_and(|shard| shard.find(stored(hash)).is_ok())
    }

    /// False: it was there.
    pub(super) fn insert(&mut self, hash: u64) -> bool {
        if self.shards.is_empty() {
            self.shards = vec![Shard::default(); SHARDS];
        }
        let added = self.shards.get_mut(shard_of(hash)).is_some_and(|shard| shard.insert(stored(hash)));
        self.len += usize::from(added);
        added
    }

    /// False: it was not there.
    pub(super) fn remove(&mut self, hash: u64) -> bool {
        let removed = self.shards.get_mut(shard_of(hash)).is_some_and(|shard| shard.remove(stored(hash)));
        self.len -= usize::from(removed);
        removed
    }

    /// Removes any one. False: there is none.
    pub(super) fn evict(&mut self, random: &mut u64) -> bool {
        if self.len == 0 {
            return false;
        }
        let start = next(random);
        for step in 0..SHARDS {
            let at = (start as usize).wrapping_add(step) % SHARDS;
            if self.shards.get_mut(at).is_some_and(|shard| shard.evict(start >> 32)) {
                self.len -= 1;
                return true;
            }
        }
        false
    }
}

// === impl Shard ===

impl Shard {
    /// Where it stands, or where it could.
    #[inline]
    fn find(&self, hash: u64) -> Result<usize, usize> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        loop {
            match self.slots.get(at) {
                Some(&found) if found == hash => return Ok(at),
                Some(&EMPTY) | None => return Err(at),
                Some(_) => at = (at + 1) & mask,
            }
        }
    }

    fn insert(&mut self, hash: u64) -> bool {
        if self.find(hash).is_ok() {
            return false;
        }
        if (self.used + 1) * 3 > self.slots.len() * 2 {
            self.grow();
        }
        if let Err(at) = self.find(hash)
            && let Some(slot) = self.slots.get_mut(at)
        {
            *slot = hash;
            self.used += 1;
        }
        true
    }

    fn grow(&mut self) {
        let slots = vec![EMPTY; (self.slots.len() * 2).max(FIRST_SLOTS)].into_boxed_slice();
        let old = std::mem::replace(&mut self.slots, slots);
        for hash in old.into_iter().filter(|hash| *hash != EMPTY) {
            if let Err(at) = self.find(hash)
                && let Some(slot) = self.slots.get_mut(at)
            {
                *slot = hash;
            }
        }
    }

    fn remove(&mut self, hash: u64) -> bool {
        match self.find(hash) {
            Ok(at) => {
                self.close_gap(at);
                true
            }
            Err(_) => false,
        }
    }

    fn evict(&mut self, from: u64) -> bool {
        let mask = self.slots.len().wrapping_sub(1);
        let taken = (0..self.slots.len()).map(|step| (from as usize).wrapping_add(step) & mask);
        let found = taken.into_iter().find(|at| self.slots.get(*at).is_some_and(|hash| *hash != EMPTY));
        found.map(|at| self.close_gap(at)).is_some()
    }

    /// Empties a slot; those behind it that it kept from their place move up.
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.slots.len() - 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let hash = self.slots[at];
            if hash == EMPTY {
                break;
            }
            let from_home = at.wrapping_sub(hash as usize) & mask;
            let from_gap = at.wrapping_sub(gap) & mask;
            if from_home >= from_gap {
                self.slots[gap] = hash;
                gap = at;
            }
        }
        self.slots[gap] = EMPTY;
        self.used -= 1;
    }
}

#[inline]
fn stored(hash: u64) -> u64 {
    if hash == EMPTY { 1 } else { hash }
}

/// The upper bits; the lower ones choose the slot.
#[inline]
fn shard_of(hash: u64) -> usize {
    (hash >> (64 - SHARDS.trailing_zeros())) as usize
}

/// Xorshift: what is forgotten must not be predictable, no more.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn it_is_a_set() {
        let (mut ours, mut model, mut random) =
            (Fingerprints::default(), HashSet::new(), 88_172_645_463_325_252);
        for step in 0..200_000u64 {
            let word = next(&mut random);
            // Few values, in few slots, so that they meet.
            let hash = (word % 3000).wrapping_mul(0x0100_0000_0000_0001);
            match word >> 40 & 7 {
                0..4 => assert_eq!(ours.insert(hash), model.insert(hash)),
                4..7 => assert_eq!(ours.remove(hash), model.remove(&hash)),
                _ => assert_eq!(ours.contains(hash), model.contains(&hash)),
            }
            assert_eq!(ours.len(), model.len(), "step {step}");
        }
        assert!(model.len() > 1000);
        assert!(model.iter().all(|hash| ours.contains(*hash)));
    }

    #[test]
    fn eviction_removes_one_at_a_time() {
        let (mut set, mut random) = (Fingerprints::default(), 7);
        let hashes: Vec<u64> = (0..500).map(|_| next(&mut random)).collect();
        assert!(hashes.iter().all(|hash| set.insert(*hash)));
        for left in (0..500).rev() {
            assert!(set.evict(&mut random));
            assert_eq!(set.len(), left);
            assert_eq!(hashes.iter().filter(|hash| set.contains(**hash)).count(), left);
        }
        assert!(!set.evict(&mut random));
    }
}
