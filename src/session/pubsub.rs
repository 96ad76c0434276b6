//! Subscribers: a connection of the client's own to the default store, whose messages are relayed.
//!
//! A flip of the default store moves the subscriptions. While dual every PUBLISH reaches both stores
//! in one order, and so does a marker that the proxy publishes after it has subscribed on the new
//! store: messages before the marker are taken from the old store, those after it from the new one,
//! so none is lost or repeated.

use std::collections::BTreeSet;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tokio::time::timeout;

use crate::command::Args;
use crate::resp::encode;
use crate::resp::reply::ReplyLimits;
use crate::resp::value::Value;
use crate::sequencer::listeners::Listening;
use crate::stage::StoreId;
use crate::store::dedicated::{DedicatedError, Frame};
use crate::store::pool::{Loan, Pool};

use super::{Gone, Owned, Session};

/// Channels, patterns and shard channels, in the order of CLIENT LIST.
const KINDS: [(&str, &str); 3] =
    [("subscribe", "unsubscribe"), ("psubscribe", "punsubscribe"), ("ssubscribe", "sunsubscribe")];

/// Subscriptions of one client, over all kinds.
const MAX_SUBSCRIPTIONS: usize = 1_000_000;

/// A subscribed client's connection.
pub(super) struct Subscriber {
    loan: Loan,
    names: [BTreeSet<Vec<u8>>; 3],
    /// A change of stage waits until nobody listens where nothing will be said any more.
    _listening: Listening,
}

/// What a frame on a subscriber's connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Note {
    /// A confirmation: of which kind, of joining or leaving, which channel.
    Confirmed { kind: usize, joined: bool, name: Vec<u8> },
    /// The answer to PING, or an error.
    Answer,
    /// A message on this channel.
    Message(Vec<u8>),
}

// === impl Note ===

impl Note {
    fn of(frame: &[u8]) -> Note {
        let items = match Value::parse(frame) {
            Ok(Value::Push(items) | Value::Array(items)) => items,
            _ => return Note::Answer,
        };
        let word = |at: usize| items.get(at).and_then(Value::as_bytes).unwrap_or_default();
        for (kind, (join, leave)) in KINDS.iter().enumerate() {
            if word(0) == join.as_bytes() {
                return Note::Confirmed { kind, joined: true, name: word(1).to_vec() };
            }
            if word(0) == leave.as_bytes() {
                return Note::Confirmed { kind, joined: false, name: word(1).to_vec() };
            }
        }
        match word(0) {
            b"message" | b"pmessage" | b"smessage" => Note::Message(word(1).to_vec()),
            _ => Note::Answer,
        }
    }
}

// === impl Subscriber ===

impl Subscriber {
    pub(super) fn is_subscribed(&self) -> bool {
        self.names.iter().any(|names| !names.is_empty())
    }

    pub(super) fn store(&self) -> StoreId {
        self.loan.store
    }

    fn counts(&self) -> [usize; 3] {
        self.names.each_ref().map(|names| names.len())
    }

    fn note(&mut self, note: &Note) {
        if let Note::Confirmed { kind, joined, name } = note
            && let Some(names) = self.names.get_mut(*kind)
        {
            match joined {
                true => names.insert(name.clone()),
                false => names.remove(name),
            };
        }
    }

    /// How many frames answer this request.
    fn answers_to(&self, request: &Owned) -> usize {
        let named = request.args.len().saturating_sub(1);
        let mut kinds = self.names.iter().zip(KINDS);
        let leaving = kinds.find(|(_, (_, leave))| request.args.as_slice().is(0, &leave.to_uppercase()));
        match leaving {
            Some((names, _)) if named == 0 => names.len().max(1),
            _ if request.args.as_slice().is(0, "PING") => 1,
            _ => named,
        }
    }

    /// Everything subscribed to, as commands.
    fn commands(&self) -> (Vec<u8>, usize) {
        let mut out = Vec::new();
        for (names, (join, _)) in self.names.iter().zip(KINDS).filter(|(names, _)| !names.is_empty()) {
            let mut args: Vec<&[u8]> = vec![join.as_bytes()];
            args.extend(names.iter().map(Vec::as_slice));
            encode::command(&mut out, &args);
        }
        (out, self.counts().iter().sum())
    }
}

// === impl Session ===

impl Session {
    /// SUBSCRIBE and its kin; PING of a subscribed RESP2 client.
    pub(super) async fn subscribe(&mut self, request: Owned) -> Result<(), Gone> {
        self.drained(1).await?;
        let mut subscriber = match self.subscriber.take() {
            Some(subscriber) => subscriber,
            None => match self.acquire().await {
                Ok(loan) => Box::new(self.listen(*loan, Default::default())),
                Err(error) => {
                    self.pay(request.seq, &error);
                    return Ok(());
                }
            },
        };
        let total: usize = subscriber.counts().iter().sum();
        if total + request.args.len() > MAX_SUBSCRIPTIONS {
            self.pay_error(request.seq, "MULTISTORE too many subscriptions of one client");
            self.subscriber = Some(subscriber);
            return Ok(());
        }
        let store = subscriber.loan.store;
        if let Err(error) = self.confirm(&mut subscriber, &request).await {
            let error = self.dedicated_error(store, error);
            self.pay(request.seq, &error);
            self.closing = true;
            return Ok(());
        }
        self.io.info.borrow_mut().subscriptions = subscriber.counts();
        if subscriber.is_subscribed() {
            self.subscriber = Some(subscriber);
        } else {
            subscriber.loan.clean = true;
        }
        Ok(())
    }

    fn listen(&self, loan: Loan, names: [BTreeSet<Vec<u8>>; 3]) -> Subscriber {
        let listening = self.instance.core().listeners.join(loan.store);
        Subscriber { loan, names, _listening: listening }
    }

    /// Sends the request and relays frames until all its answers have come.
    async fn confirm(&mut self, subscriber: &mut Subscriber, request: &Owned) -> Result<(), DedicatedError> {
        let within = self.instance.config().reply_timeout;
        let limits = self.instance.reply_limits();
        let mut left = subscriber.answers_to(request);
        let mut first = true;
        subscriber.loan.clean = false;
        subscriber.loan.send(&request.frame, within).await?;
        while left > 0 {
            let frame = next(&mut subscriber.loan, &limits, within).await?;
            let note = Note::of(&frame.bytes);
            subscriber.note(&note);
            let is_answer = !matches!(note, Note::Message(_));
            if note == Note::Answer && std::mem::take(&mut first) {
                self.pay(request.seq, &frame.bytes);
            } else {
                // A confirmation is sent under CLIENT REPLY OFF as well.
                self.instance.core_mut().clients.push(self.key, &frame.bytes);
            }
            if is_answer {
                left -= 1;
            }
            if frame.bytes.first() == Some(&b'-') {
                break;
            }
        }
        if first {
            self.pay(request.seq, b"");
        }
        self.instance.settle();
        Ok(())
    }

    /// Relays messages. Ready: the subscriber must move, or its connection is lost.
    pub(super) fn poll_messages(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Moved, Gone>> {
        let Some(subscriber) = &mut self.subscriber else { return Poll::Pending };
        if subscriber.store() != self.instance.core().default_store() {
            return Poll::Ready(Ok(Moved));
        }
        let limits = self.instance.reply_limits();
        let mut frames = Vec::new();
        match subscriber.loan.poll_frames(cx, &limits, &mut frames) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                self.instance.core_mut().clients.push(self.key, &frames);
                self.instance.settle();
                // There may be more: others have their turn, and then this client again.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => {
                tracing::warn!(instance = %self.instance.name, client = %self.io.info.borrow().addr,
                    "subscriber closed: its connection to the {} store was lost: {error}", subscriber.store());
                Poll::Ready(Err(Gone))
            }
        }
    }

    /// Moves the subscriptions to the new default store.
    pub(super) async fn resubscribe(&mut self) -> Result<(), Gone> {
        let Some(mut old) = self.subscriber.take() else { return Ok(()) };
        let within = self.instance.config().reply_timeout;
        let limits = self.instance.reply_limits();
        let store = self.instance.core().default_store();
        let Ok(mut loan) = Pool::acquire(&self.instance, store, self.state.context()).await else {
            return Err(Gone);
        };
        loan.clean = false;
        let marker = format!("__multistore:{}:{}", self.key.id(), self.instance.core().flips());
        let (mut commands, count) = old.commands();
        encode::command(&mut commands, &["SUBSCRIBE", &marker]);
        if loan.send(&commands, within).await.is_err() {
            return Err(Gone);
        }
        let mut early = Vec::new();
        let mut confirmed = 0;
        while confirmed < count + 1 {
            let Ok(frame) = next(&mut loan, &limits, within).await else { return Err(Gone) };
            match Note::of(&frame.bytes) {
                Note::Confirmed { .. } => confirmed += 1,
                _ => early.push(frame),
            }
        }
        self.hand_over(&mut old, &mut loan, early, marker.as_bytes(), &limits, within).await;
        let mut leave = Vec::new();
        encode::command(&mut leave, &["UNSUBSCRIBE", &marker]);
        let _ = loan.send(&leave, within).await;
        self.relay_until(&mut loan, &limits, within, true, |note| {
            matches!(note, Note::Confirmed { joined: false, .. })
        })
        .await;
        self.subscriber = Some(Box::new(self.listen(loan, old.names)));
        Ok(())
    }

    /// Takes messages from the old store up to the marker, and from the new one behind it.
    async fn hand_over(
        &mut self,
        old: &mut Subscriber,
        new: &mut Loan,
        early: Vec<Frame>,
        marker: &[u8],
        limits: &ReplyLimits,
        within: Duration,
    ) {
        let is_marker = |note: &Note| matches!(note, Note::Message(channel) if channel == marker);
        let mut join = Vec::new();
        encode::command(&mut join, &[b"SUBSCRIBE", marker]);
        let joined = old.loan.send(&join, within).await.is_ok()
            && self
                .relay_until(
                    &mut old.loan,
                    limits,
                    within,
                    true,
                    |note| matches!(note, Note::Confirmed { name, .. } if name == marker),
                )
                .await;
        let dual = self.instance.core().stage().is_dual();
        if !joined || !dual {
            self.relay(early);
            return;
        }
        let mut publish = Vec::new();
        encode::command(&mut publish, &[b"PUBLISH", marker, b""]);
        {
            let mut core = self.instance.core_mut();
            let table = core.table.clone();
            if let Some(command) = table.by_name("publish") {
                core.broadcast(command, &publish);
            }
        }
        self.instance.settle();
        self.relay_until(&mut old.loan, limits, within, true, is_marker).await;
        if !early.iter().any(|frame| is_marker(&Note::of(&frame.bytes))) {
            self.relay_until(new, limits, within, false, is_marker).await;
        } else {
            self.relay(early.into_iter().skip_while(|f| !is_marker(&Note::of(&f.bytes))).skip(1).collect());
        }
    }

    fn relay(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            self.instance.core_mut().clients.push(self.key, &frame.bytes);
        }
        self.instance.settle();
    }

    /// Reads frames up to the one that `ends` knows; those before it are sent on if `pass`.
    async fn relay_until(
        &mut self,
        loan: &mut Loan,
        limits: &ReplyLimits,
        within: Duration,
        pass: bool,
        ends: impl Fn(&Note) -> bool,
    ) -> bool {
        while let Ok(frame) = next(loan, limits, within).await {
            let note = Note::of(&frame.bytes);
            if ends(&note) {
                return true;
            }
            if pass && matches!(note, Note::Message(_)) {
                self.relay(vec![frame]);
            }
        }
        false
    }
}

/// The subscriptions must move to another store.
pub(super) struct Moved;

async fn next(loan: &mut Loan, limits: &ReplyLimits, within: Duration) -> Result<Frame, DedicatedError> {
    timeout(within, loan.frame(limits)).await.unwrap_or(Err(DedicatedError::Timeout))
}

#[cfg(test)]
mod tests {
    use super::Note;

    #[test]
    fn frames_of_a_subscriber_are_told_apart() {
        let joined = Note::Confirmed { kind: 0, joined: true, name: b"a".to_vec() };
        assert_eq!(Note::of(b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"), joined);
        assert_eq!(Note::of(b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"), joined);
        assert_eq!(
            Note::of(b"*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$1\r\na\r\n$1\r\nx\r\n"),
            Note::Message(b"a*".to_vec())
        );
        assert_eq!(Note::of(b"-NOPERM no\r\n"), Note::Answer);
    }
}
