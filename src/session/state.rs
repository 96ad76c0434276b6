//! What the proxy knows of one client's connection state. Pure.

use std::sync::Arc;

use crate::command::CommandId;
use crate::config::User;
use crate::resp::Proto;
use crate::sequencer::lane::Context;

/// A client's connection state, as its store would keep it.
#[derive(Clone, Debug)]
pub struct State {
    /// SELECT
    pub db: u32,
    /// HELLO
    pub proto: Proto,
    /// May it run commands?
    pub authenticated: bool,
    /// As whom, where the proxy checks passwords, and only if its rules forbid something.
    pub restricted_to: Option<Arc<User>>,
    replies: Replies,
}

/// CLIENT REPLY
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replies {
    On,
    Off,
    /// SKIP has just been said: the next command's reply is left out.
    SkipNext,
    /// The command that runs now is the one.
    Skipping,
}

/// The command that a client has named last, by the name as it wrote it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Repeated {
    name: [u8; Repeated::MAX],
    len: u8,
    id: Option<CommandId>,
}

// === impl Repeated ===

impl Repeated {
    /// Longer names are looked up each time.
    const MAX: usize = 8;

    pub fn new(name: &[u8], id: CommandId) -> Repeated {
        let mut repeated = Repeated::default();
        if let Some(place) = repeated.name.get_mut(..name.len()) {
            place.copy_from_slice(name);
            (repeated.len, repeated.id) = (name.len() as u8, Some(id));
        }
        repeated
    }

    /// The command, if it has just this name.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<CommandId> {
        let same = usize::from(self.len) == name.len() && self.name.iter().zip(name).all(|(a, b)| a == b);
        self.id.filter(|_| same)
    }
}

// === impl State ===

impl State {
    /// A client that has just come.
    pub fn new(authenticated: bool) -> State {
        State { db: 0, proto: Proto::Resp2, authenticated, restricted_to: None, replies: Replies::On }
    }

    /// Database and protocol.
    pub fn context(&self) -> Context {
        Context { db: self.db, proto: self.proto }
    }

    /// A command begins. True: its reply is not sent.
    #[inline]
    pub fn begin_command(&mut self) -> bool {
        self.replies != Replies::On && self.begin_unusual()
    }

    fn begin_unusual(&mut self) -> bool {
        match self.replies {
            Replies::On => false,
            Replies::Off => true,
            Replies::SkipNext => {
                self.replies = Replies::Skipping;
                true
            }
            Replies::Skipping => {
                self.replies = Replies::On;
                false
            }
        }
    }

    /// Does CLIENT REPLY OFF hold?
    pub fn replies_are_off(&self) -> bool {
        self.replies == Replies::Off
    }

    /// CLIENT REPLY ON
    pub fn reply_on(&mut self) {
        self.replies = Replies::On;
    }

    /// CLIENT REPLY OFF
    pub fn reply_off(&mut self) {
        self.replies = Replies::Off;
    }

    /// CLIENT REPLY SKIP; without effect while replies are off.
    pub fn reply_skip(&mut self) {
        if self.replies != Replies::Off {
            self.replies = Replies::SkipNext;
        }
    }
}
