//! Commands that may wait for another client.
//!
//! While dual they are parked in the sequencer, which tries them again whenever it may help. In the
//! single-store stages they wait on a connection of their own. A flip moves the client from one
//! way to the other, with whatever of its time is left.

use std::time::{Duration, Instant};

use crate::command::{Args, CommandId, Shape, TimeoutUnit, timeout};
use crate::resp::encode;
use crate::resp::value::OwnedValue;
use crate::sequencer::Scope;
use crate::sequencer::park::{Parking, Unblock, ended_reply};
use crate::store::dedicated::DedicatedError;
use crate::store::given_up::give_up;
use crate::store::pool::Loan;

use super::{Gone, Owned, Session};

/// How soon CLIENT UNBLOCK is repeated that came before the command that it was to end.
const UNBLOCK_AGAIN: Duration = Duration::from_millis(5);

/// What came of CLIENT UNBLOCK.
enum Unblocked {
    /// The connection did wait.
    Yes,
    /// It does not wait yet, or not any more: its reply is on the way.
    NotYet,
    /// The store cannot do it.
    Refused,
}

/// What came of waiting on a store.
enum Waited {
    /// The store's reply.
    Reply(Vec<u8>),
    /// The stage has become dual, and the store has nothing for the client.
    Moved,
}

// === impl Session ===

impl Session {
    /// Runs a blocking command to its end.
    pub(super) async fn block(&mut self, mut request: Owned) -> Result<(), Gone> {
        let since = Instant::now();
        let table = self.instance.core().table.clone();
        let spec = table.spec(request.command);
        let wait = timeout(spec, request.args.as_slice());
        let limit = wait.and_then(|wait| limit_of(request.args.get(wait.arg)?, wait.unit));
        let has_keys = !self.footprint_of(&request).keys().is_empty();
        self.io.unblock.set(None);
        let outcome = loop {
            let dual = self.instance.core().stage().is_dual();
            let step = match dual && has_keys {
                true => self.block_parked(&mut request, limit.map(|limit| (since, limit))).await,
                false => self.block_on_store(&request, has_keys, limit).await,
            };
            match step {
                Ok(true) => break Ok(()),
                Ok(false) => {}
                Err(gone) => break Err(gone),
            }
            if let (Some(limit), Some(wait)) = (limit, wait) {
                let Some(left) = limit.checked_sub(since.elapsed()).filter(|left| left.as_millis() > 0)
                else {
                    self.pay(request.seq, &ended_reply(Unblock::Timeout, self.state.proto));
                    break Ok(());
                };
                shorten(&mut request, wait.arg, wait.unit, left);
            }
        };
        self.io.info.borrow_mut().blocked = false;
        outcome
    }

    /// Waits in the sequencer. False: the stage is not dual any more.
    async fn block_parked(
        &mut self,
        request: &mut Owned,
        limit: Option<(Instant, Duration)>,
    ) -> Result<bool, Gone> {
        let looked_at = self.resolve_last_ids(request).await?;
        let mut frame = Vec::new();
        encode::command(&mut frame, &[b"MULTI"]);
        let footprint = self.footprint_of(request).shifted(frame.len());
        frame.extend_from_slice(&request.frame);
        encode::command(&mut frame, &[b"EXEC"]);
        let (key, seq) = (self.key, request.seq);
        let words_gone_stream = !self.instance.is_default_store_at_least(7, 2);
        {
            let mut core = self.instance.core_mut();
            if !core.stage().is_dual() {
                return Ok(false);
            }
            let now = core.now();
            let left = limit.map(|(since, limit)| limit.saturating_sub(since.elapsed()).as_micros());
            let way = core.way(request.command, request.effect.writes, request.args.as_slice()).way;
            core.park(Parking {
                way,
                client: key,
                seq,
                command: request.command,
                context: self.state.context(),
                frame: frame.into(),
                footprint,
                words_gone_stream,
                looked_at,
                // A wait that ends beyond the clock's end has no end.
                deadline: left.and_then(|left| now.checked_add(u64::try_from(left).ok()?)),
            });
            // CLIENT UNBLOCK may have come before there was anybody to unblock.
            if let Some(how) = self.io.unblock.take() {
                core.unblock(key, how);
            }
        }
        self.now_blocked();
        self.until(move |session| session.eof || !session.instance.core().is_parked(key)).await?;
        if self.eof {
            self.instance.core_mut().abandon(key);
            self.until(move |session| !session.instance.core().is_parked(key)).await?;
            if self.instance.core().clients.is_owed(key, seq) {
                return Err(Gone);
            }
        }
        Ok(!self.instance.core().clients.is_owed(key, seq))
    }

    /// `$` of XREAD means what comes after now, not after each new attempt.
    /// True: all were, of streams that are there, or can be.
    async fn resolve_last_ids(&mut self, request: &mut Owned) -> Result<bool, Gone> {
        if !request.args.as_slice().is(0, "XREAD") {
            return Ok(false);
        }
        let Some(streams) = request.args.as_slice().position(1, "STREAMS") else { return Ok(false) };
        let count = (request.args.len() - streams - 1) / 2;
        let mut resolved = 0;
        for at in streams + 1..streams + 1 + count {
            if request.args.get(at + count).is_none_or(|id| id != b"$") {
                continue;
            }
            let Some(name) = request.args.get(at).cloned() else { continue };
            let context = self.state.context();
            let info = self.ask(context, request.command, &[b"XINFO", b"STREAM", &name]).await?;
            let last = match info.as_deref().map(OwnedValue::parse) {
                Ok(Ok(value))
                    if value.is_error() && value.error_text().is_some_and(|e| e.contains("no such key")) =>
                {
                    Some(b"0-0".to_vec())
                }
                Ok(Ok(value)) => {
                    value.get("last-generated-id").and_then(|id| id.as_bytes().map(<[u8]>::to_vec))
                }
                _ => None,
            };
            if let (Some(last), Some(id)) = (last, request.args.get_mut(at + count)) {
                *id = last;
                resolved += 1;
            }
        }
        if resolved > 0 {
            request.encode();
        }
        Ok(resolved == count)
    }

    /// Waits on a connection of the client's own. False: the stage has become dual.
    async fn block_on_store(
        &mut self,
        request: &Owned,
        movable: bool,
        limit: Option<Duration>,
    ) -> Result<bool, Gone> {
        self.drained(1).await?;
        let loan = match self.acquire().await {
            Ok(loan) => loan,
            Err(error) => {
                self.pay(request.seq, &error);
                return Ok(true);
            }
        };
        // Should the stage become dual, nobody else touches these keys before this client has been moved.
        let footprint = self.footprint_of(request);
        let alone = {
            let mut core = self.instance.core_mut();
            loan.store == core.default_store() && core.step_aside(self.key, footprint)
        };
        if movable && !alone {
            // It has changed while the connection was made.
            return Ok(false);
        }
        let waited = self.wait_on_store(loan, request, movable, limit).await?;
        let (key, db) = (self.key, self.state.db);
        let took = matches!(waited, Waited::Reply(_));
        let written = took.then_some((&*request.frame, Scope::Keys, db));
        self.instance.core_mut().step_back(key, written);
        if let Waited::Reply(reply) = &waited {
            self.pay(request.seq, reply);
        }
        self.instance.settle();
        Ok(took)
    }

    async fn wait_on_store(
        &mut self,
        mut loan: Box<Loan>,
        request: &Owned,
        movable: bool,
        limit: Option<Duration>,
    ) -> Result<Waited, Gone> {
        let store = loan.store;
        let within = self.instance.config().reply_timeout;
        loan.clean = false;
        let sent = match self.catch_up(&mut loan, request.command).await {
            Ok(()) => loan.send(&request.frame, within).await,
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            return Ok(Waited::Reply(self.dedicated_error(store, error)));
        }
        self.now_blocked();
        // The store ends the wait. One that hangs must not hold the client for ever.
        let wait = limit.map_or(Duration::MAX, |limit| limit.saturating_add(within));
        let waited = tokio::time::timeout(wait, self.await_element(&mut loan, movable)).await;
        waited.unwrap_or_else(|_| {
            give_up(&self.instance, store, loan.id);
            Ok(Waited::Reply(self.dedicated_error(store, DedicatedError::Timeout)))
        })
    }

    /// The client waits from here on. While the process ends its time is up at once: who told the others so came too
    /// early for this one.
    fn now_blocked(&mut self) {
        self.io.info.borrow_mut().blocked = true;
        if self.instance.draining.get() && !self.instance.core_mut().unblock(self.key, Unblock::Timeout) {
            self.io.unblock.set(Some(Unblock::Timeout));
        }
    }

    /// WAIT is about the writes before it *on its connection*: a command that the store runs now comes behind all
    /// that this client has written through the lane.
    async fn catch_up(&mut self, loan: &mut Loan, command: CommandId) -> Result<(), DedicatedError> {
        if self.instance.core().table.spec(command).shape != Shape::Wait {
            return Ok(());
        }
        let (limits, within) = (self.instance.reply_limits(), self.instance.config().reply_timeout);
        loan.send(b"*1\r\n$4\r\nPING\r\n", within).await?;
        loan.reply(&limits, within).await.map(drop)
    }

    /// Awaits the reply of a store to a blocking command, through flips and CLIENT UNBLOCK.
    async fn await_element(&mut self, loan: &mut Loan, movable: bool) -> Result<Waited, Gone> {
        let limits = self.instance.reply_limits();
        let instance = self.instance.clone();
        let mut moving = false;
        let mut unblock = None;
        let mut leaving = false;
        loop {
            let flipped = instance.flipped.notified();
            if movable && !moving && instance.core().stage().is_dual() {
                moving = true;
                unblock = Some(Unblock::Timeout);
            }
            if let Some(how) = unblock {
                match self.unblock_on_store(loan, how).await? {
                    // It did wait: Redis ends such a client.
                    Unblocked::Yes if leaving => return Err(Gone),
                    // There is no telling: the store may not even have read what it is to wait for.
                    Unblocked::Refused if leaving => {
                        give_up(&instance, loan.store, loan.id);
                        return Err(Gone);
                    }
                    Unblocked::Yes | Unblocked::Refused => unblock = None,
                    Unblocked::NotYet => {}
                }
            }
            let store = loan.store;
            let frame = tokio::select! {
                frame = loan.frame(&limits) => frame,
                gone = self.until(|session| (session.eof && !leaving) || session.io.unblock.get().is_some()) => {
                    gone?;
                    // A client that has closed its half still gets what is there at once.
                    leaving |= self.eof;
                    unblock = self.io.unblock.take().or(leaving.then_some(Unblock::Timeout));
                    continue;
                }
                () = flipped => continue,
                () = tokio::time::sleep(UNBLOCK_AGAIN), if unblock.is_some() => continue,
            };
            match frame {
                Ok(frame) if frame.push => {}
                Ok(frame) => {
                    loan.clean = true;
                    let nothing = matches!(frame.bytes.as_slice(), b"*-1\r\n" | b"$-1\r\n" | b"_\r\n");
                    return Ok(if moving && nothing { Waited::Moved } else { Waited::Reply(frame.bytes) });
                }
                Err(error) => return Ok(Waited::Reply(self.dedicated_error(store, error))),
            }
        }
    }

    /// CLIENT UNBLOCK of the connection that waits for this client.
    async fn unblock_on_store(&mut self, loan: &Loan, how: Unblock) -> Result<Unblocked, Gone> {
        let Some(id) = loan.id else { return Ok(Unblocked::Refused) };
        let table = self.instance.core().table.clone();
        let Some(command) = table.by_name("client|unblock") else { return Ok(Unblocked::Refused) };
        let id = id.to_string();
        let how: &[u8] = if how == Unblock::Error { b"ERROR" } else { b"TIMEOUT" };
        let context = self.state.context();
        let args = [b"CLIENT".as_slice(), b"UNBLOCK", id.as_bytes(), how];
        let reply = self.ask_store(loan.store, context, command, &args).await?;
        Ok(match reply.as_deref() {
            Ok(b":1\r\n") => Unblocked::Yes,
            Ok(b":0\r\n") => Unblocked::NotYet,
            _ => Unblocked::Refused,
        })
    }
}

// === impl Owned ===

impl Owned {
    /// Encodes the request anew after its arguments have changed.
    fn encode(&mut self) {
        self.frame.clear();
        encode::command(&mut self.frame, &self.args);
    }
}

/// How long a client is to wait. `None`: until there is something (or the store says what is wrong with it). As in Redis
/// every begun millisecond is waited, so that a wait too short to measure does not become an endless one.
fn limit_of(text: &[u8], unit: TimeoutUnit) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?;
    let units = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok()? as f64,
        None => text.parse::<f64>().ok()?,
    };
    let millis = if unit == TimeoutUnit::Millis { units } else { (units * 1000.0).ceil() };
    let least = if units > 0.0 { 1.0 } else { 0.0 };
    Duration::try_from_secs_f64(millis.max(least) / 1000.0).ok().filter(|limit| !limit.is_zero())
}

fn shorten(request: &mut Owned, arg: usize, unit: TimeoutUnit, left: Duration) {
    let text = match unit {
        TimeoutUnit::Millis => left.as_millis().max(1).to_string(),
        TimeoutUnit::Seconds => format!("{:.3}", left.as_secs_f64().max(0.001)),
    };
    if let Some(slot) = request.args.get_mut(arg) {
        *slot = text.into_bytes();
        request.encode();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_as_the_store_reads_them() {
        let seconds = |text: &str| limit_of(text.as_bytes(), TimeoutUnit::Seconds);
        for (text, millis) in
            [("1", 1000), ("0.0001", 1), ("1e-320", 1), ("0x2", 2000), ("0.5", 500), ("1e3", 1_000_000)]
        {
            assert_eq!(seconds(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["0", "-1", "-0", "nan", "inf", "1e308", "", "x", "0x"] {
            assert_eq!(seconds(text), None, "{text}");
        }
        assert_eq!(limit_of(b"60", TimeoutUnit::Millis), Some(Duration::from_millis(60)));
        assert!(limit_of(b"9223372036854775807", TimeoutUnit::Millis).is_some());
    }
}
