//! CLIENT PAUSE: the proxy's own clients wait. The stores are not told: a paused store would hold up the lanes, and with
//! them everybody's reads.

use super::Instance;

/// Whom a pause holds up, and until when on the instance's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Every command; otherwise those that may write.
    pub all: bool,
    /// Its end.
    pub until: u64,
}

// === impl Instance ===

impl Instance {
    /// Holds up clients for some milliseconds. A pause can only become longer and wider.
    pub fn pause(&self, millis: u64, all: bool) {
        let until = self.micros().saturating_add(millis.saturating_mul(1000));
        let before = self.paused();
        self.pause.set(Some(Pause {
            all: all || before.is_some_and(|before| before.all),
            until: before.map_or(until, |before| before.until.max(until)),
        }));
    }

    /// Lets everybody go on.
    pub fn unpause(&self) {
        if self.pause.take().is_some() {
            self.all_clients().iter().for_each(|(_, io)| io.wake());
        }
    }

    /// Does nothing about the instance or its stores hold its clients' commands up, or keep them from a store? What is
    /// asked first for every request; true only where it is so.
    #[inline]
    pub fn is_usual(&self) -> bool {
        !self.single_db.get() && self.pause.get().is_none() && self.is_heard_to_be_idle()
    }

    /// The pause in effect.
    pub fn paused(&self) -> Option<Pause> {
        let pause = self.pause.get()?;
        if pause.until <= self.micros() {
            self.pause.set(None);
            return None;
        }
        Some(pause)
    }

    /// What is left of a pause.
    pub fn left_of(&self, pause: Pause) -> std::time::Duration {
        std::time::Duration::from_micros(pause.until.saturating_sub(self.micros()))
    }
}
