//! Which store the subscribers read from. After a flip of the default store they move, one by one: until they have, both
//! stores must get what is published.

use std::cell::Cell;
use std::rc::Rc;

use crate::stage::StoreId;

/// How many subscribers read from each store.
#[derive(Clone, Debug, Default)]
pub struct Listeners(Rc<[Cell<usize>; 2]>);

/// One subscriber, for as long as it reads from this store.
#[derive(Debug)]
pub struct Listening {
    listeners: Listeners,
    store: StoreId,
}

// === impl Listeners ===

impl Listeners {
    /// A subscriber begins to read from `store`.
    pub fn join(&self, store: StoreId) -> Listening {
        let count = &self.0[store.index()];
        count.set(count.get() + 1);
        Listening { listeners: self.clone(), store }
    }

    /// How many read from `store`?
    pub fn on(&self, store: StoreId) -> usize {
        self.0[store.index()].get()
    }
}

// === impl Listening ===

impl Drop for Listening {
    fn drop(&mut self) {
        let count = &self.listeners.0[self.store.index()];
        count.set(count.get().saturating_sub(1));
    }
}
