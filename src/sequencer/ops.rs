//! Operations in flight, each in a place that is used again.
//!
//! An operation is large and short-lived. It is written into its place and forgotten there: moving it in and out, as a
//! slab does, would cost a tenth of what a command costs in all.

use super::op::{Op, OpKey};

/// All operations in flight.
#[derive(Debug, Default)]
pub(super) struct Ops {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place {
    taken: bool,
    op: Op,
}

// === impl Ops ===

impl Ops {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn get(&self, key: OpKey) -> Option<&Op> {
        match self.places.get(key.0 as usize) {
            Some(Place { taken: true, op }) => Some(op),
            _ => None,
        }
    }

    #[inline]
    pub fn get_mut(&mut self, key: OpKey) -> Option<&mut Op> {
        match self.places.get_mut(key.0 as usize) {
            Some(Place { taken: true, op }) => Some(op),
            _ => None,
        }
    }

    pub fn contains(&self, key: OpKey) -> bool {
        self.get(key).is_some()
    }

    /// A place for an operation, to be made from what another one has left there (`Op::begin`).
    #[inline(always)]
    pub fn open(&mut self) -> (OpKey, &mut Op) {
        let key = match self.free.pop() {
            Some(key) => key,
            None => self.more(),
        };
        let place = &mut self.places[key as usize];
        place.taken = true;
        (OpKey(key), &mut place.op)
    }

    #[cold]
    fn more(&mut self) -> u32 {
        self.places.push(Place { taken: false, op: Op::idle() });
        self.places.len() as u32 - 1
    }

    /// Takes an operation in.
    pub fn insert(&mut self, op: Op) -> OpKey {
        let (key, place) = self.open();
        *place = op;
        key
    }

    /// An operation is over: what it held is let go.
    #[inline(always)]
    pub fn close(&mut self, key: OpKey) {
        if let Some(place) = self.places.get_mut(key.0 as usize).filter(|place| place.taken) {
            place.taken = false;
            place.op.let_go();
            self.free.push(key.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::op::Owner;
    use super::*;

    #[test]
    fn a_place_that_is_closed_is_nobodys_until_it_is_used_again() {
        let mut ops = Ops::default();
        let [first, second] = [1, 2].map(|ticket| {
            let (key, op) = ops.open();
            op.owner = Owner::Ticket(ticket);
            key
        });
        assert_eq!(ops.len(), 2);
        ops.close(first);
        ops.close(first);
        assert!(!ops.contains(first) && ops.get(first).is_none() && ops.get_mut(first).is_none());
        assert_eq!(ops.get(second).map(|op| op.owner), Some(Owner::Ticket(2)));
        assert_eq!(ops.insert(Op::idle()), first);
        assert_eq!(ops.len(), 2);
        ops.close(second);
        ops.close(first);
        assert!(ops.is_empty());
    }
}
