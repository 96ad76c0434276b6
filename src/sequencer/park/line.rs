//! Who waits for which key, first come first served.

use std::collections::{BTreeSet, HashMap, VecDeque};

use slab::Slab;

use super::super::clients::ClientKey;
use super::{MAX_LINES, Parking, Unblock};

/// A parked client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParkKey {
    pub(super) index: u32,
    pub(super) id: u64,
}

/// An attempt that is owed, and those of the clients behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owed {
    /// So many in its lines are to be tried with it.
    pub(super) count: usize,
    /// What may have filled their keys came before this position of the default lane: whoever is tried behind it has had
    /// his turn. Two who find nothing would else owe each other another attempt for ever.
    pub(super) since: u64,
}

// === impl Owed ===

impl Owed {
    /// What two occasions leave owed together.
    pub(super) fn with(self, other: Option<Owed>) -> Owed {
        let other = other.unwrap_or(self);
        Owed { count: self.count.max(other.count), since: self.since.max(other.since) }
    }
}

pub(super) struct Park {
    pub(super) id: u64,
    pub(super) parking: Parking,
    pub(super) in_flight: bool,
    /// The last attempt's place in the default lane.
    pub(super) position: u64,
    /// It has had an answer: now it waits.
    pub(super) tried: bool,
    /// To be tried again, and this many in its lines with it: something may have come while an
    /// attempt was in flight, or while a fence stood.
    pub(super) again: Option<Owed>,
    /// The attempt that is owed has its place among those that wait for a fence.
    pub(super) held: bool,
    /// So many in its lines are to be tried behind its next attempt, which somebody in front of it holds up.
    pub(super) behind: Option<Owed>,
    pub(super) ended: Option<Unblock>,
}

/// All parked clients.
#[derive(Default)]
pub(in crate::sequencer) struct Parks {
    pub(super) slab: Slab<Park>,
    pub(super) next: u64,
    pub(super) by_key: HashMap<u64, VecDeque<ParkKey>, foldhash::fast::RandomState>,
    pub(super) by_client: HashMap<ClientKey, ParkKey>,
    pub(super) deadlines: BTreeSet<(u64, ParkKey)>,
    /// When those that wait are tried for the sake of writers that don't pass here.
    pub(super) next_poll: u64,
    /// The last of those who were named as standing first in a line, where they were too many.
    pub(super) last_named: u64,
    /// Whose turn it is to try; worked off in a loop, for one attempt that ends at once begets the next.
    pub(super) turns: VecDeque<ParkKey>,
    pub(super) taking_turns: bool,
}

// === impl Parks ===

impl Parks {
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    pub(super) fn get_mut(&mut self, key: ParkKey) -> Option<&mut Park> {
        self.slab.get_mut(key.index as usize).filter(|park| park.id == key.id)
    }

    pub(super) fn insert(&mut self, parking: Parking) -> ParkKey {
        self.next += 1;
        let id = self.next;
        let (client, keys, deadline) = (parking.client, parking.hashes(), parking.deadline);
        let index = self.slab.insert(Park {
            id,
            parking,
            in_flight: false,
            position: 0,
            tried: false,
            again: None,
            held: false,
            behind: None,
            ended: None,
        });
        let key = ParkKey { index: index as u32, id };
        for hash in keys {
            self.by_key.entry(hash).or_default().push_back(key);
        }
        self.by_client.insert(client, key);
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, key));
        }
        key
    }

    pub(super) fn remove(&mut self, key: ParkKey) -> Option<Park> {
        self.get_mut(key)?;
        let park = self.slab.remove(key.index as usize);
        for hash in park.parking.hashes() {
            if let Some(line) = self.by_key.get_mut(&hash) {
                if let Some(at) = line.iter().position(|k| *k == key) {
                    line.remove(at);
                }
                if line.is_empty() {
                    self.by_key.remove(&hash);
                }
            }
        }
        self.by_client.remove(&park.parking.client);
        if let Some(deadline) = park.parking.deadline {
            self.deadlines.remove(&(deadline, key));
        }
        Some(park)
    }

    pub(in crate::sequencer) fn first_in_line(&self, hash: u64, count: usize) -> Vec<ParkKey> {
        self.by_key.get(&hash).map(|line| line.iter().take(count).copied().collect()).unwrap_or_default()
    }

    /// Is an attempt in flight, or owed?
    pub(super) fn is_busy(&self, key: ParkKey) -> bool {
        let park = self.slab.get(key.index as usize).filter(|park| park.id == key.id);
        park.is_some_and(|park| park.in_flight || park.again.is_some())
    }

    /// Is an attempt in flight that comes behind position `since` of the default lane?
    pub(super) fn is_tried_since(&self, key: ParkKey, since: u64) -> bool {
        let park = self.slab.get(key.index as usize).filter(|park| park.id == key.id);
        park.is_some_and(|park| park.in_flight && park.again.is_none() && park.position > since)
    }

    /// A line is tried again from the front when this one's attempt is over.
    pub(super) fn try_again(&mut self, key: ParkKey, owed: Owed) {
        if let Some(park) = self.get_mut(key) {
            park.again = Some(owed.with(park.again));
        }
    }

    /// Somebody before `key` in one of its lines who must have his turn first: he is being tried or owed a try, and not
    /// yet behind position `since` of the default lane.
    pub(super) fn busy_before(&self, key: ParkKey, since: u64) -> Option<ParkKey> {
        self.before(key).find(|other| self.is_busy(*other) && !self.is_tried_since(*other, since))
    }

    /// Somebody before `key` in one of its lines whose attempt waits for a fence.
    pub(super) fn held_before(&self, key: ParkKey) -> Option<ParkKey> {
        self.before(key).find(|other| self.slab.get(other.index as usize).is_some_and(|park| park.held))
    }

    /// All who stand before `key` in its lines.
    fn before(&self, key: ParkKey) -> impl Iterator<Item = ParkKey> + '_ {
        let park = self.slab.get(key.index as usize).filter(|park| park.id == key.id);
        let hashes = park.map(|park| park.parking.hashes()).unwrap_or_default();
        let lines = hashes.into_iter().filter_map(|hash| self.by_key.get(&hash));
        lines.flat_map(move |line| line.iter().take_while(move |other| **other != key)).copied()
    }

    /// Who comes right behind `key` in its lines.
    pub(super) fn next_in_line(&self, key: ParkKey, hashes: &[u64]) -> Vec<ParkKey> {
        let lines = hashes.iter().filter_map(|hash| self.by_key.get(hash));
        lines.filter_map(|line| line.iter().skip_while(|other| **other != key).nth(1)).copied().collect()
    }

    /// Bytes that an attempt of each of these takes.
    pub(super) fn bytes_of(&self, keys: &[ParkKey]) -> u64 {
        let parks = keys.iter().filter_map(|key| self.slab.get(key.index as usize));
        parks.map(|park| park.parking.frame.len() as u64).sum()
    }

    /// Those who stand first in a line, so many at once that their turns stay short: of more than that the next ones, until
    /// all have been named. (Nobody crowds others out, neither many nor one who waits for many keys.)
    pub(super) fn fronts(&mut self) -> Vec<ParkKey> {
        let mut fronts: Vec<ParkKey> =
            self.by_key.values().filter_map(|line| line.front().copied()).collect();
        fronts.sort_unstable_by_key(|key| key.id);
        fronts.dedup();
        if fronts.len() > MAX_LINES {
            let behind = fronts.partition_point(|key| key.id <= self.last_named);
            fronts.rotate_left(behind);
            fronts.truncate(MAX_LINES);
            self.last_named = fronts.last().map_or(0, |key| key.id);
        }
        fronts
    }
}
