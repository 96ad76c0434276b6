//! MONITOR: a connection of the client's own to the default store, relayed until the client goes.

use std::future::poll_fn;

use crate::resp::encode;
use crate::resp::request::{Decoded, Request};

use super::{Gone, Owned, Session};

// === impl Session ===

impl Session {
    /// Relays MONITOR. The client may end it by QUIT, RESET or by closing; other requests go to the same
    /// connection, where the store answers them as a monitor's.
    pub(super) async fn monitor(&mut self, request: Owned) -> Result<(), Gone> {
        self.drained(1).await?;
        let within = self.instance.config().reply_timeout;
        let limits = self.instance.reply_limits();
        let mut loan = match self.acquire().await {
            Ok(loan) => loan,
            Err(error) => {
                self.pay(request.seq, &error);
                return Ok(());
            }
        };
        loan.spoil();
        let store = loan.store;
        let reply = match loan.send(&request.frame, within).await {
            Ok(()) => loan.reply(&limits, within).await,
            Err(error) => Err(error),
        };
        match reply {
            Ok(reply) => self.pay(request.seq, &reply),
            Err(error) => {
                let error = self.dedicated_error(store, error);
                self.pay(request.seq, &error);
                return Ok(());
            }
        }
        self.io.info.borrow_mut().monitor = true;
        let mut seen = 0;
        let mut frames = Vec::new();
        loop {
            tokio::select! {
                came = poll_fn(|cx| loan.poll_frames(cx, &limits, &mut frames)) => {
                    came.map_err(|_| Gone)?;
                    self.instance.core_mut().clients.push(self.key, &without_own(&frames));
                    frames.clear();
                    self.instance.settle();
                    // On a busy store there is always more: others have their turn.
                    tokio::task::yield_now().await;
                },
                waited = self.until(move |session| session.eof || session.buf.len() > seen) => {
                    waited?;
                    let mut frames = Vec::new();
                    let ends = self.take_for_monitor(&mut frames);
                    if self.eof || (!frames.is_empty() && loan.send(&frames, within).await.is_err()) {
                        return Err(Gone);
                    }
                    if ends {
                        self.io.info.borrow_mut().monitor = false;
                        return Ok(());
                    }
                    seen = self.buf.len();
                }
            }
        }
    }

    /// Takes the requests that the store is to answer. True: the next one ends the monitor, and is left to be run
    /// as usual.
    fn take_for_monitor(&mut self, frames: &mut Vec<u8>) -> bool {
        let buf = std::mem::take(&mut self.buf);
        let (mut at, mut ends) = (0, false);
        loop {
            let rest = buf.get(at..).unwrap_or_default();
            let (len, frame) = match self.decoder.decode(rest, &self.limits) {
                Ok(Decoded::Incomplete) => break,
                Ok(Decoded::Nothing { len }) => (len, Vec::new()),
                Ok(Decoded::Request { len, .. }) => {
                    let request = Request { frame: rest, args: self.decoder.spans() };
                    (len, encoded(request.iter()))
                }
                Ok(Decoded::Inline { len }) => {
                    (len, encoded(self.decoder.inline_args().iter().map(Vec::as_slice)))
                }
                Err(_) => {
                    ends = true;
                    break;
                }
            };
            ends = ENDING.iter().any(|ending| frame.eq_ignore_ascii_case(ending));
            if ends {
                break;
            }
            frames.extend_from_slice(&frame);
            at += len;
        }
        self.buf = buf.get(at..).unwrap_or_default().to_vec();
        ends
    }
}

/// What ends a monitor.
const ENDING: [&[u8]; 2] = [b"*1\r\n$5\r\nRESET\r\n", b"*1\r\n$4\r\nQUIT\r\n"];

/// Is it the proxy's own way of keeping a lane in its context, and in step?
fn is_own(line: &[u8]) -> bool {
    let Some(at) = memchr::memmem::find(line, b"] \"") else { return false };
    let command = line.get(at + 2..).unwrap_or_default();
    let own: [&[u8]; 3] = [b"\"SELECT\"", b"\"HELLO\"", b"\"ECHO\" \"multistore-mark-"];
    own.iter().any(|own| command.starts_with(own))
}

/// What is shown, one line each, without that.
fn without_own(lines: &[u8]) -> Vec<u8> {
    let shown = lines.split_inclusive(|byte| *byte == b'\n').filter(|line| !is_own(line));
    shown.flatten().copied().collect()
}

fn encoded<'a>(words: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let words: Vec<&[u8]> = words.collect();
    let mut frame = Vec::new();
    encode::command(&mut frame, &words);
    frame
}
