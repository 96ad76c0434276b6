//! Client-side caching: CLIENT TRACKING and its kin.
//!
//! A tracking client has a connection of its own to the default store, on which all its commands run: so the store
//! itself knows what this client has read. What it says of changed keys is relayed. With REDIRECT the messages go
//! to another client, which is none of the store's: a second connection receives them, and they are handed on here.
//!
//! A flip of the default store moves both connections, and the client is told that everything has changed.

mod options;

use std::task::{Context as TaskContext, Poll};

use crate::instance::TrackingInfo;
use crate::resp::value::OwnedValue;
use crate::resp::{Proto, encode};
use crate::route::ClientCommand;
use crate::sequencer::clients::ClientKey;
use crate::sequencer::lane::Context;
use crate::store::dedicated::DedicatedError;
use crate::store::pool::{Loan, Pool};

use super::{Gone, Owned, Session};
use options::Options;

const NO_CACHING: &str = "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or \
                          OPTOUT mode enabled";
const CHANNEL: &str = "__redis__:invalidate";
/// How a message about changed keys begins.
const INVALIDATE: &[u8] = b">2\r\n$10\r\ninvalidate\r\n";
/// No client has this id.
const NOBODY: u64 = i64::MAX as u64;

/// What a tracking client has asked for.
pub(super) struct Tracking {
    options: Options,
    redirect: Option<Redirect>,
    /// Keys are still watched on its connection that the client does not watch any more.
    pub(super) unwatch: bool,
}

/// Messages for another client.
struct Redirect {
    target: ClientKey,
    listener: Box<Loan>,
}

/// The client's own connection must be made anew, or enter another context.
pub(super) struct Retrack;

// === impl Session ===

impl Session {
    /// CLIENT TRACKING, CACHING and TRACKINGINFO: what the client's own connection answers.
    pub(super) async fn track(&mut self, command: ClientCommand, request: Owned) -> Result<(), Gone> {
        self.drained(1).await?;
        let reply = match command {
            ClientCommand::Tracking => self.set_tracking(&request).await,
            ClientCommand::Caching if self.tracking.is_none() => Err(error(NO_CACHING)),
            _ => self.ask_own(&request.frame).await,
        };
        let reply = match reply {
            Ok(reply) if command == ClientCommand::TrackingInfo => self.with_own_target(reply),
            Ok(reply) | Err(reply) => reply,
        };
        self.pay(request.seq, &reply);
        Ok(())
    }

    async fn ask_own(&mut self, frame: &[u8]) -> Result<Vec<u8>, Vec<u8>> {
        self.own_connection(false).await?;
        let replies = self.exchange(&[frame], 1).await?;
        Ok(replies.into_iter().next().unwrap_or_default())
    }

    async fn set_tracking(&mut self, request: &Owned) -> Result<Vec<u8>, Vec<u8>> {
        let asked = Options::parse(&request.args);
        let before = self.tracking.as_ref().map(|tracking| tracking.options.clone());
        if !asked.clone().after(before).fits() {
            return Err(error("MULTISTORE too many prefixes of one client"));
        }
        self.own_connection(false).await?;
        let target = asked.redirect.map(|id| self.instance.client_by_id(id));
        let redirect = match target {
            Some(Some(target)) => Some(Redirect { target, listener: self.listener().await? }),
            Some(None) | None => None,
        };
        let stand_in = target.map(|_| redirect.as_ref().map_or(NOBODY, Redirect::id));
        let reply = self.ask_own(&asked.frame(&request.args, stand_in)).await;
        match &reply {
            Ok(reply) if reply == encode::OK => self.tracking_set(asked, redirect),
            _ if self.tracking.is_none() => self.let_pinned_go(),
            _ => {}
        }
        reply
    }

    fn tracking_set(&mut self, asked: Options, redirect: Option<Redirect>) {
        if !asked.on {
            self.tracking = None;
            self.io.info.borrow_mut().tracking = None;
            self.let_pinned_go();
            return;
        }
        if let Some(loan) = &mut self.pinned {
            loan.keep_pushes(true);
        }
        self.io.info.borrow_mut().tracking = Some(TrackingInfo {
            broadcast: asked.broadcast,
            broken: false,
            redirect: redirect.as_ref().map_or(0, |redirect| redirect.target.id()),
        });
        let before = self.tracking.take();
        let unwatch = before.as_ref().is_some_and(|before| before.unwatch);
        let options = asked.after(before.map(|before| before.options));
        self.tracking = Some(Box::new(Tracking { options, redirect, unwatch }));
    }

    /// The client's own connection has no further use, unless keys are watched on it.
    fn let_pinned_go(&mut self) {
        match &mut self.pinned {
            Some(loan) if loan.watching => loan.keep_pushes(false),
            _ => self.pinned = None,
        }
    }

    /// A connection that receives messages for another client.
    async fn listener(&self) -> Result<Box<Loan>, Vec<u8>> {
        let store = self.instance.core().default_store();
        let context = Context { db: 0, proto: Proto::Resp3 };
        let loan = Pool::acquire(&self.instance, store, context).await;
        let mut loan = loan.map_err(|error| self.dedicated_error(store, error))?;
        loan.spoil();
        Ok(Box::new(loan))
    }

    /// A new connection of a tracking client learns what the client has asked for. Nothing is known of what has
    /// changed meanwhile.
    pub(super) async fn track_on(&mut self, loan: &mut Loan) -> Result<(), Vec<u8>> {
        let Some(tracking) = &self.tracking else { return Ok(()) };
        let listener = match &tracking.redirect {
            Some(_) => Some(self.listener().await?),
            None => None,
        };
        let Some(tracking) = &mut self.tracking else { return Ok(()) };
        if let (Some(redirect), Some(listener)) = (&mut tracking.redirect, listener) {
            redirect.listener = listener;
        }
        let stand_in = tracking.redirect.as_ref().map(Redirect::id);
        tracking.unwatch = false;
        let (limits, within) = (self.instance.reply_limits(), self.instance.config().reply_timeout);
        let commands = tracking.options.commands(stand_in);
        loan.keep_pushes(true);
        for command in commands {
            let reply = match loan.send(&command, within).await {
                Ok(()) => loan.reply(&limits, within).await,
                Err(error) => Err(error),
            };
            match reply {
                Ok(reply) if reply == encode::OK => {}
                Ok(reply) => return Err(reply),
                Err(error) => return Err(self.dedicated_error(loan.store, error)),
            }
        }
        self.invalidated(&[INVALIDATE, b"_\r\n"].concat());
        Ok(())
    }

    /// The connection of a tracking client has moved with the default store, or changes its protocol.
    pub(super) async fn retrack(&mut self) -> Result<(), Gone> {
        match self.own_connection(false).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Gone),
        }
    }

    /// Relays what the store says of changed keys. Ready: see [`Retrack`].
    #[inline]
    pub(super) fn poll_invalidations(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Retrack, Gone>> {
        if self.tracking.is_some() { self.relay_invalidations(cx) } else { Poll::Pending }
    }

    fn relay_invalidations(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Retrack, Gone>> {
        let store = self.instance.core().default_store();
        let limits = self.instance.reply_limits();
        let proto = self.state.proto;
        let Some(loan) = self.pinned.as_mut().filter(|loan| loan.store == store && loan.proto() == proto)
        else {
            return Poll::Ready(Ok(Retrack));
        };
        let (mut own, mut redirected) = (Vec::new(), Vec::new());
        let mut lost = read_all(loan, cx, &limits, &mut own);
        if let Some(redirect) = self.tracking.as_mut().and_then(|tracking| tracking.redirect.as_mut()) {
            lost = lost.or(read_all(&mut redirect.listener, cx, &limits, &mut redirected));
        }
        let relayed = !own.is_empty() || !redirected.is_empty();
        own.iter().for_each(|frame| self.instance.core_mut().clients.push(self.key, frame));
        redirected.iter().for_each(|frame| self.redirected(frame));
        if relayed {
            self.instance.settle();
        }
        match lost {
            None => Poll::Pending,
            Some(error) => {
                tracing::warn!(instance = %self.instance.name, client = %self.io.info.borrow().addr,
                    "tracking client closed: its connection to the {store} store was lost: {error}");
                Poll::Ready(Err(Gone))
            }
        }
    }

    /// Tells whoever is to know, this client or the one that it redirects to.
    fn invalidated(&mut self, frame: &[u8]) {
        if self.tracking.as_ref().is_some_and(|tracking| tracking.redirect.is_some()) {
            self.redirected(frame);
        } else if self.state.proto == Proto::Resp3 {
            self.instance.core_mut().clients.push(self.key, frame);
        }
    }

    /// Hands a message to the client that it is redirected to.
    fn redirected(&mut self, frame: &[u8]) {
        let Some(keys) = frame.strip_prefix(INVALIDATE) else { return };
        let target =
            self.tracking.as_ref().and_then(|tracking| tracking.redirect.as_ref()).map(|to| to.target);
        let Some(target) = target else { return };
        let Some((proto, subscribed)) = self.instance.client_mode(target) else {
            self.redirection_broken(target);
            return;
        };
        let mut message = Vec::new();
        match proto {
            Proto::Resp3 => message.extend_from_slice(frame),
            Proto::Resp2 if subscribed => {
                encode::array_header(&mut message, 3);
                encode::bulk(&mut message, "message");
                encode::bulk(&mut message, CHANNEL);
                message.extend_from_slice(if keys == b"_\r\n" { b"*-1\r\n" } else { keys });
            }
            Proto::Resp2 => return,
        }
        self.instance.core_mut().clients.push(target, &message);
    }

    /// The client that messages were for is gone.
    fn redirection_broken(&mut self, target: ClientKey) {
        if let Some(info) = &mut self.io.info.borrow_mut().tracking {
            info.broken = true;
        }
        if self.state.proto == Proto::Resp3 {
            let mut message = Vec::new();
            encode::push_header(&mut message, 2, Proto::Resp3);
            encode::bulk(&mut message, "tracking-redir-broken");
            encode::int(&mut message, i64::try_from(target.id()).unwrap_or(i64::MAX));
            self.instance.core_mut().clients.push(self.key, &message);
        }
    }

    /// The store's CLIENT TRACKINGINFO, with the client that is redirected to as clients know it.
    fn with_own_target(&self, reply: Vec<u8>) -> Vec<u8> {
        let Ok(told) = OwnedValue::parse(&reply) else { return reply };
        let Some(info) = self.io.info.borrow().tracking else { return reply };
        let words = |field| {
            let items = told.get(field).and_then(OwnedValue::as_array).unwrap_or_default();
            items.iter().filter_map(OwnedValue::as_bytes).collect::<Vec<_>>()
        };
        let redirect = told.get("redirect").and_then(OwnedValue::as_i64).unwrap_or(-1);
        let own = if redirect > 0 { i64::try_from(info.redirect).unwrap_or(i64::MAX) } else { redirect };
        let mut flags = words("flags");
        if info.broken {
            flags.push(b"broken_redirect");
        }
        tracking_info(self.state.proto, &flags, own, &words("prefixes"))
    }
}

impl Redirect {
    /// The id by which the store knows who receives the messages.
    fn id(&self) -> u64 {
        self.listener.id.and_then(|id| u64::try_from(id).ok()).unwrap_or(NOBODY)
    }
}

/// The reply to CLIENT TRACKINGINFO.
pub(super) fn tracking_info(proto: Proto, flags: &[&[u8]], redirect: i64, prefixes: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::map_header(&mut out, 3, proto);
    encode::bulk(&mut out, "flags");
    encode::set_header(&mut out, flags.len(), proto);
    flags.iter().for_each(|flag| encode::bulk(&mut out, flag));
    encode::bulk(&mut out, "redirect");
    encode::int(&mut out, redirect);
    encode::bulk(&mut out, "prefixes");
    encode::array_header(&mut out, prefixes.len());
    prefixes.iter().for_each(|prefix| encode::bulk(&mut out, prefix));
    out
}

/// Reads all out-of-band messages that are there.
fn read_all(
    loan: &mut Loan,
    cx: &mut TaskContext<'_>,
    limits: &crate::resp::reply::ReplyLimits,
    into: &mut Vec<Vec<u8>>,
) -> Option<DedicatedError> {
    loop {
        match loan.poll_frame(cx, limits) {
            Poll::Pending => return None,
            Poll::Ready(Ok(frame)) if frame.push => into.push(frame.bytes),
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Some(error),
        }
    }
}

fn error(text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    encode::error(&mut frame, text);
    frame
}
