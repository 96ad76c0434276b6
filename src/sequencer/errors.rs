//! The replies that the proxy makes in a store's place.
//!
//! Each names what failed, which store, what became of the command and what happens next.
//! Where Redis has a text of its own, it is Redis's text.

use crate::resp::encode;
use crate::stage::StoreId;

use super::Sequencer;
use super::lane::Link;
use super::op::Failure;

// === impl Sequencer ===

impl Sequencer {
    /// The error frame for a client whose command failed on `store`.
    pub fn failure_frame(&self, store: StoreId, failure: Failure) -> Vec<u8> {
        let mut frame = Vec::new();
        encode::error(&mut frame, self.failure_text(store, failure).as_bytes());
        frame
    }

    /// The error frame for a client whose command needs what only the other store has, and the default store has not
    /// taken it over in several attempts.
    pub fn not_taken_over(&self) -> Vec<u8> {
        let default = self.default_store();
        let mut frame = Vec::new();
        let text = format!(
            "MULTISTORE {} does not take over what only {} has of these keys; the command was not sent; it refuses them \
             (make room, or give it the right to), or they are too many to be kept in mind together (use fewer): then \
             try again",
            self.store_name(default),
            self.store_name(default.other())
        );
        encode::error(&mut frame, text.as_bytes());
        frame
    }

    fn failure_text(&self, store: StoreId, failure: Failure) -> String {
        let name = self.store_name(store);
        let timeout = self.settings.reply_timeout.as_millis();
        match failure {
            Failure::Down => match &self.lane(store).link {
                Link::Down(reason) => match &reason.store_error {
                    Some(error) => error.clone(),
                    None => format!(
                        "MULTISTORE {name} is down ({}); the command was not sent; multistore keeps \
                         reconnecting, try again",
                        reason.text
                    ),
                },
                _ => format!("MULTISTORE {name} is down; the command was not sent; try again"),
            },
            Failure::Lost => format!(
                "MULTISTORE the connection to {name} was lost before it answered; the command may or may not \
                 have been applied; multistore is reconnecting"
            ),
            Failure::Timeout => format!(
                "MULTISTORE {name} did not answer within {timeout} ms (reply_timeout); the command may or may \
                 not have been applied"
            ),
            Failure::NotSent => format!(
                "MULTISTORE {name} could not be reached within {timeout} ms (reply_timeout); the command was \
                 not sent; try again"
            ),
            Failure::Busy => self.busy_says.clone(),
            Failure::QueueFull => format!(
                "MULTISTORE the queue for {name} is full (queue_max); the command was not sent; the store is \
                 too slow for this load, try again later"
            ),
        }
    }
}
