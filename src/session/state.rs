//! What the proxy knows of one client's connection state. Pure.

use std::sync::Arc;

use crate::command::{CommandId, Effect};
use crate::config::User;
use crate::resp::Proto;
use crate::resp::request::Request;
use crate::route::Route;
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

/// What a client has named last, by the name as it wrote it, and what is known of it without a look at its arguments.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Repeated {
    name: u64,
    len: u32,
    told: Option<Told>,
}

/// What a command's name alone tells: see [`route::is_told_by_name`](crate::route::is_told_by_name).
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub id: CommandId,
    pub effect: Effect,
    /// Where the instance does not refuse it.
    pub route: Route,
}

// === impl Repeated ===

impl Repeated {
    /// Longer names are looked up each time.
    const MAX: u32 = u64::BITS / 8;

    /// `None`: the name is too long.
    pub fn new(request: &Request<'_>, told: Told) -> Option<Repeated> {
        let (name, len) = word(request)?;
        Some(Repeated { name, len, told: Some(told) })
    }

    /// What is known, if the request has just this name.
    #[inline]
    pub fn find(&self, request: &Request<'_>) -> Option<Told> {
        let told = self.told?;
        (word(request)? == (self.name, self.len)).then_some(told)
    }
}

/// A short name as one number, and its length: read with what follows it in the frame, which is left out.
#[inline]
fn word(request: &Request<'_>) -> Option<(u64, u32)> {
    let span = request.args.first()?;
    let bytes = request.frame.get(span.start as usize..)?.first_chunk::<8>()?;
    let len = span.end.wrapping_sub(span.start);
    let beyond = Repeated::MAX.checked_sub(len).filter(|beyond| *beyond < Repeated::MAX)?;
    Some((u64::from_le_bytes(*bytes) & (u64::MAX >> (8 * beyond)), len))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::request::spans_of;
    use crate::sequencer::Path;

    fn with<R>(frame: &str, look: impl FnOnce(&Request<'_>) -> R) -> R {
        let args = spans_of(frame.as_bytes());
        look(&Request { frame: frame.as_bytes(), args: &args })
    }

    #[test]
    fn only_the_very_name_is_found_again() {
        let table = crate::command::Table::builtin();
        let id = table.by_name("set").expect("set");
        let effect = crate::command::classify(table.spec(id), &[&b"set"[..]][..]);
        let told = Told { id, effect, route: Route::Order(Path::Write) };
        let known = |frame: &str| with(frame, |request| Repeated::new(request, told));
        let set = known("*2\r\n$3\r\nSET\r\n$1\r\nk\r\n").expect("short");
        let finds = |frame: &str| with(frame, |request| set.find(request).is_some());
        assert!(finds("*2\r\n$3\r\nSET\r\n$1\r\nx\r\n"));
        for other in [
            "*1\r\n$3\r\nset\r\n$4\r\n",
            "*2\r\n$4\r\nSET\r\r\n$1\r\nk\r\n",
            "*2\r\n$3\r\nSEX\r\n$1\r\nk\r\n",
            "*2\r\n$2\r\nSE\r\n$1\r\nk\r\n",
            "*2\r\n$0\r\n\r\n$1\r\nk\r\n",
            "*2\r\n$9\r\nSETSETSET\r\n$1\r\nk\r\n",
        ] {
            assert!(!finds(other), "{other:?}");
        }
        assert!(known("*2\r\n$9\r\nSETSETSET\r\n$1\r\nk\r\n").is_none());
        assert!(known("*2\r\n$8\r\nRPOPLPUS\r\n$1\r\nk\r\n").is_some());
        assert!(Repeated::default().find(&Request { frame: b"", args: &[] }).is_none());
    }
}
