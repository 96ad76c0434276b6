//! Requests that would hold up everybody if they travelled in a lane (`heavy_bytes`).
//!
//! They run on a connection of their own to the default store, under a fence on their keys. Where the other store
//! answers reads, and such a request replaces values as a whole, it gets these as copies by pieces: it is not held up
//! either.

use crate::command::{CommandId, Effect, Kind};
use crate::config::Reads;
use crate::mirror::Way;
use crate::sequencer::fence::Footprint;
use crate::sequencer::plan::settles;

use crate::stage::Stage;

use super::asked::Asked;
use super::{Gone, Session, Task};

/// A request that is too large for a lane.
pub(super) struct Heavy {
    /// The request. Taken from the client's buffer when all of it has been looked at: it is not copied.
    frame: Vec<u8>,
    len: usize,
    command: CommandId,
    effect: Effect,
    seq: u64,
}

/// Nothing below the least that `heavy_bytes` can be is heavy: most requests are not looked at twice.
const LEAST_HEAVY: usize = 1024;

// === impl Heavy ===

impl Heavy {
    /// Takes the frame out of `buf`, of which `used` bytes have been consumed, the frame being the last of them.
    /// Returns what is left.
    pub(super) fn take_frame(&mut self, mut buf: Vec<u8>, used: usize) -> Vec<u8> {
        if used != self.len || !self.frame.is_empty() {
            self.copy_frame(&buf, used);
            buf.drain(..used);
            return buf;
        }
        let rest = buf.get(used..).unwrap_or_default().to_vec();
        buf.truncate(used);
        self.frame = buf;
        rest
    }

    pub(super) fn bytes(&self) -> usize {
        self.frame.capacity().max(self.len)
    }

    /// The same, where the bytes are not to be had, or are not those that came.
    pub(super) fn copy_frame(&mut self, data: &[u8], used: usize) {
        if self.frame.is_empty() {
            self.frame = data.get(used - self.len..used).unwrap_or_default().to_vec();
        }
    }
}

// === impl Session ===

impl Session {
    /// Is a request of so many bytes too large for a lane?
    pub(super) fn is_heavy(&self, bytes: usize) -> bool {
        bytes > LEAST_HEAVY && bytes > self.instance.config_ref().heavy_bytes.bytes()
    }

    /// Are clients answered by the store that is not the default? Then nothing large may hold up its lane.
    pub(super) fn reads_from_other(&self) -> bool {
        let stage = self.instance.core().stage();
        stage == Stage::DualSecondaryDefault && self.instance.config_ref().reads == Reads::Fallback
    }

    /// Runs a request past the lanes. Its frame is still in the client's buffer.
    pub(super) fn begin_heavy(&mut self, asked: &Asked<'_>) -> Task {
        let seq = self.owe();
        let Asked { request, id, effect, .. } = *asked;
        Task::Heavy(Heavy { frame: Vec::new(), len: request.frame.len(), command: id, effect, seq })
    }

    pub(super) async fn run_heavy(&mut self, heavy: Heavy) -> Result<(), Gone> {
        let done = self.run_alone(&heavy.frame, heavy.command, &heavy.effect, heavy.seq, true).await;
        self.unpin();
        done
    }
}

/// A heavy write of more keys is heavy for their number, and not for what they hold.
const MAX_COPIED_KEYS: usize = 16;

/// How a heavy write is mirrored.
pub(super) fn heavy_way(effect: &Effect, footprint: &Footprint, way: Way) -> Way {
    let replaces = effect.kind != Kind::Script
        && (1..=MAX_COPIED_KEYS).contains(&footprint.keys().len())
        && footprint.keys().iter().all(|key| settles(key.access));
    if replaces && way == Way::Verbatim { Way::Copied } else { way }
}
