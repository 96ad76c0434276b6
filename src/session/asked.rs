//! A request, and what is known of it before it has its place in the order.

use crate::command::{CommandId, Effect, Spec};
use crate::resp::request::Request;
use crate::route::Route;

use super::Owned;

/// A request, and what is known of it.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub request: Request<'a>,
    pub id: CommandId,
    pub spec: &'a Spec,
    pub effect: Effect,
    pub route: Route,
}

// === impl Asked ===

impl Asked<'_> {
    /// The same, to be kept; `seq` is the slot that is owed for it.
    pub fn keep(&self, seq: u64) -> Owned {
        Owned {
            frame: self.request.frame.to_vec(),
            args: self.request.iter().map(<[u8]>::to_vec).collect(),
            command: self.id,
            effect: self.effect,
            seq,
        }
    }
}
