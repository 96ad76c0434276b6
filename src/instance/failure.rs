//! What a panic means for an instance.
//!
//! One that strikes while the sequencer is being changed leaves it half changed: a write may stand in one lane and not in
//! the other, a reply may be owed to nobody. Nothing that it says can be trusted from then on, so the instance fails: it
//! sends and answers nothing more, writes nothing to the state file, and its worker begins anew as after a crash (what
//! the state file says then makes the other store suspect). The same where a task panics that the instance cannot do
//! without. A panic anywhere else in a client's session ends that client alone.

use std::cell::{Cell, RefMut};
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};

use super::Instance;
use crate::sequencer::Sequencer;

/// Whether an instance has failed.
#[derive(Default)]
pub(super) struct Failure {
    failed: Cell<bool>,
    told: Notify,
}

/// The sequencer, borrowed to be changed.
pub struct CoreMut<'a> {
    core: RefMut<'a, Sequencer>,
    failure: &'a Failure,
    /// Borrowed by what runs because of a panic elsewhere: that one was not in the middle of a change.
    unwinding: bool,
}

// === impl Failure ===

impl Failure {
    fn set(&self) {
        self.failed.set(true);
        self.told.notify_one();
    }
}

// === impl CoreMut ===

impl Deref for CoreMut<'_> {
    type Target = Sequencer;

    #[inline]
    fn deref(&self) -> &Sequencer {
        &self.core
    }
}

impl DerefMut for CoreMut<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Sequencer {
        &mut self.core
    }
}

impl Drop for CoreMut<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.unwinding && std::thread::panicking() {
            self.failure.set();
        }
    }
}

// === impl Instance ===

impl Instance {
    /// The sequencer, with its clock as this turn has set it.
    #[inline]
    pub fn core_in_turn(&self) -> CoreMut<'_> {
        let unwinding = std::thread::panicking();
        CoreMut { core: self.core.borrow_mut(), failure: &self.failure, unwinding }
    }

    /// May nothing be believed any more that this instance says?
    #[inline]
    pub fn has_failed(&self) -> bool {
        self.failure.failed.get()
    }

    /// Waits until it has failed.
    pub async fn failed(&self) {
        while !self.has_failed() {
            self.failure.told.notified().await;
        }
    }
}

/// Runs what an instance cannot do without: if it panics, the instance has failed.
pub fn spawn_vital(instance: &Rc<Instance>, what: impl Future<Output = ()> + 'static) -> AbortHandle {
    let (instance, task) = (instance.clone(), spawn_local(what));
    let handle = task.abort_handle();
    spawn_local(async move {
        if task.await.is_err_and(|error| error.is_panic()) {
            instance.failure.set();
        }
    });
    handle
}

/// Panics where a test asks for it.
#[cfg(test)]
pub fn spring_traps(instance: &Rc<Instance>, command: &[u8]) {
    match command {
        b"PANIC" => panic!("a test asked for it"),
        b"PANICINORDER" => {
            let _core = instance.core_in_turn();
            panic!("a test asked for it");
        }
        b"PANICOFTASK" => drop(spawn_vital(instance, async { panic!("a test asked for it") })),
        b"PANICOFWRITER" => WRITER_PANICS.set(true),
        _ => {}
    }
}

#[cfg(test)]
thread_local! {
    /// The next task of this worker that writes to a store panics.
    static WRITER_PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Panics in a lane's writer where a test has asked for it.
#[cfg(test)]
pub fn spring_trap_of_writer() {
    assert!(!WRITER_PANICS.take(), "a test asked for it");
}
