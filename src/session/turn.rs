//! One turn of a session: it reads what has come, and finds what is to be done.

use std::future::{Future, poll_fn};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tokio::time::sleep;

use crate::metrics::ClientErrorKind;
use crate::sequencer::clients::Doom;

use super::{Gone, KEEP_BUF, SHARE, Session, Task};

/// Who reads nothing for so long is read on, whatever it leaves unread: up to `client_output_max`.
const PATIENCE: Duration = Duration::from_millis(500);

// === impl Session ===

impl Session {
    /// Processes requests until there is something to wait for, or the end.
    pub(super) async fn next_task(&mut self) -> Result<Option<Task>, Gone> {
        if !self.buf.is_empty() && self.may_read()? {
            let buf = std::mem::take(&mut self.buf);
            let (used, mut task) = self.consume(&buf);
            self.keep_rest(buf, used, &mut task);
            if task.is_some() || self.closing {
                return Ok(task);
            }
        }
        poll_fn(|cx| self.poll_turn(cx)).await
    }

    fn keep_rest(&mut self, mut buf: Vec<u8>, used: usize, task: &mut Option<Task>) {
        if let Some(Task::Heavy(heavy)) = task {
            buf = heavy.take_frame(buf, used);
        } else if used == buf.len() {
            buf.clear();
        } else if used > 0 {
            buf.drain(..used);
        }
        if buf.is_empty() && buf.capacity() > KEEP_BUF {
            buf = Vec::new();
        }
        debug_assert!(self.buf.is_empty());
        self.buf = buf;
        self.weigh();
    }

    /// Notes what this client's requests take: what has begun to come, what is queued, what is waited for.
    #[inline]
    pub(super) fn weigh(&self) {
        let queued = self.multi.as_ref().map_or(0, |multi| multi.bytes());
        let begun = self.buf.capacity().saturating_add(self.decoder.bytes());
        let bytes = begun.saturating_add(queued).saturating_add(self.waiting);
        if bytes != self.io.requests.get() {
            self.instance.weigh(&self.io, bytes);
        }
    }

    /// May more requests of this client be taken, and how many (`room`)? Not while too much is owed or unread, nor when the
    /// proxy has ended it.
    #[inline]
    fn may_read(&mut self) -> Result<bool, Gone> {
        let core = self.instance.core();
        match core.clients.get(self.key) {
            Some(client) if client.doomed.is_none() => {
                let config = self.instance.config_ref();
                self.room = config.client_pipeline_max.saturating_sub(client.owed());
                let congested = client.backlog() > config.client_output_soft.bytes() && !self.reads_nothing();
                Ok(self.room > 0 && !congested && !core.must_slow_down())
            }
            _ => self.check().map(|()| false),
        }
    }

    /// Has the client read nothing of its replies for a while? It may not before it has sent all that it has to say, as
    /// libraries do with long pipelines: a store keeps its replies meanwhile. Else both would wait for each other.
    pub(super) fn reads_nothing(&self) -> bool {
        self.instance.reads_nothing(&self.io, PATIENCE)
    }

    /// Looks again, while the client's socket is stuck, whether it has been so for long.
    pub(super) fn poll_patience(&mut self, cx: &mut TaskContext<'_>) {
        if !self.io.is_stuck() {
            self.patience = None;
            return;
        }
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        if patience.as_mut().poll(cx).is_ready() {
            self.patience = None;
            cx.waker().wake_by_ref();
        }
    }

    /// One step of an idle session: flush what is stuck, forward messages, read.
    fn poll_turn(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Option<Task>, Gone>> {
        self.share = 0;
        loop {
            self.is_ended()?;
            self.poll_unstick(cx)?;
            if let Poll::Ready(moved) = self.poll_messages(cx) {
                return Poll::Ready(moved.map(|_| Some(Task::Resubscribe)));
            }
            if let Poll::Ready(moved) = self.poll_invalidations(cx) {
                return Poll::Ready(moved.map(|_| Some(Task::Retrack)));
            }
            if !self.may_read()? {
                self.instance.wake_when_readable(self.key);
                self.poll_patience(cx);
                if self.stay_asleep(cx) {
                    return Poll::Pending;
                }
                continue;
            }
            if !self.buf.is_empty() && self.decoder.needed().is_none_or(|needed| needed <= self.buf.len()) {
                // Requests that arrived while the session waited.
                let buf = std::mem::take(&mut self.buf);
                let (used, mut task) = self.consume(&buf);
                let stalled = used == 0 && task.is_none();
                self.keep_rest(buf, used, &mut task);
                if task.is_some() || self.closing {
                    return Poll::Ready(Ok(task));
                }
                if !stalled {
                    continue;
                }
            }
            // Only now: requests that came before the end of the stream are served.
            let draining = self.instance.draining.get() && self.at_boundary();
            if self.eof || (draining && self.looked) {
                self.closing = true;
                return Poll::Ready(Ok(None));
            }
            // What has arrived by now is still served.
            self.looked |= draining;
            match self.poll_requests(cx) {
                // Behind QUIT, and behind what is no request, nothing is read.
                Poll::Ready(Ok(None)) if !self.closing => {}
                Poll::Ready(ended) => return Poll::Ready(ended),
                Poll::Pending if draining => {}
                Poll::Pending => {
                    if self.stay_asleep(cx) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Reads and processes what comes, as long as nothing but that is to be done. `None`: something may be.
    #[inline]
    fn poll_requests(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Option<Task>, Gone>> {
        loop {
            let task = match self.poll_read(cx) {
                Poll::Ready(Ok(task)) => task,
                other => return other,
            };
            if task.is_some() || self.closing {
                return Poll::Ready(Ok(task));
            }
            if self.share >= SHARE {
                return Poll::Ready(Ok(Some(Task::Yield)));
            }
            // Most have said all that they had to say. They are read once more, to be woken by what they say next. What they
            // may owe is looked at once a turn, in which a client has but its share.
            self.is_ended()?;
            let ends = self.eof || self.instance.draining.get();
            if ends || !self.buf.is_empty() || self.is_special_client() || self.room == 0 {
                return Poll::Ready(Ok(None));
            }
        }
    }

    /// Is nothing half done: no partial request, no open transaction?
    fn at_boundary(&self) -> bool {
        let idle = self.pinned.is_none() || (self.tracking.is_some() && !self.is_watching());
        self.buf.is_empty() && self.multi.is_none() && idle
    }

    /// Reads once and processes what came.
    pub(super) fn poll_read(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Option<Task>, Gone>> {
        if !self.buf.is_empty() {
            return self.poll_read_more(cx);
        }
        let instance = self.instance.clone();
        let mut scratch = instance.scratch.borrow_mut();
        let n = match self.reader.poll_read(cx, &mut scratch) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => {
                self.eof = true;
                return Poll::Ready(Ok(None));
            }
            Poll::Ready(Ok(n)) => n,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(self.socket_failed())),
        };
        self.came(n);
        let data = scratch.get(..n).unwrap_or_default();
        let (used, mut task) = self.consume(data);
        if let Some(Task::Heavy(heavy)) = &mut task {
            heavy.copy_frame(data, used);
        }
        self.buf.extend_from_slice(data.get(used..).unwrap_or_default());
        self.weigh();
        Poll::Ready(Ok(task))
    }

    /// Reads once behind a partial request, and processes it if it is complete.
    fn poll_read_more(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Option<Task>, Gone>> {
        match self.poll_fill(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(gone)) => return Poll::Ready(Err(gone)),
            Poll::Ready(Ok(())) => {}
        }
        if self.eof {
            return Poll::Ready(Ok(None));
        }
        let buf = std::mem::take(&mut self.buf);
        let (used, mut task) = self.consume(&buf);
        self.keep_rest(buf, used, &mut task);
        Poll::Ready(Ok(task))
    }

    /// Reads once to the end of `buf`, which grows by what has come: a client that waits, or that
    /// sends a request byte by byte, costs little more than it has sent.
    pub(super) fn poll_fill(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Gone>> {
        let instance = self.instance.clone();
        let mut scratch = instance.scratch.borrow_mut();
        match self.reader.poll_read(cx, &mut scratch) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => {
                self.eof = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(n)) => {
                self.buf.extend_from_slice(scratch.get(..n).unwrap_or_default());
                self.came(n);
                self.weigh();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(self.socket_failed())),
        }
    }

    /// The client's socket has failed.
    fn socket_failed(&self) -> Gone {
        self.instance.metrics.client_errors[ClientErrorKind::Io].inc();
        Gone
    }

    pub(super) fn came(&mut self, n: usize) {
        self.share += n;
        self.instance.metrics.client_bytes_received.inc_by(n as u64);
    }

    /// Was the client ended by somebody else?
    #[inline]
    fn is_ended(&self) -> Result<(), Gone> {
        if self.io.killed.get() || self.io.broken.get() { Err(Gone) } else { Ok(()) }
    }

    /// Was the client ended by somebody else, or by the proxy?
    pub(super) fn check(&self) -> Result<(), Gone> {
        self.is_ended()?;
        let doomed = self.instance.core().clients.get(self.key).map(|client| client.doomed);
        match doomed {
            Some(None) => Ok(()),
            Some(Some(Doom::OutputLimit)) => {
                self.instance.metrics.client_errors[ClientErrorKind::OutputLimit].inc();
                tracing::warn!(instance = %self.instance.name, client = %self.io.info.borrow().addr,
                    "client closed: unread replies passed client_output_max");
                Err(Gone)
            }
            Some(Some(Doom::CutReply | Doom::Evicted)) | None => Err(Gone),
        }
    }

    /// Sends a share of what is unsent, if the socket takes it.
    #[inline]
    pub(super) fn poll_unstick(&self, cx: &mut TaskContext<'_>) -> Result<(), Gone> {
        if self.io.is_stuck() { self.poll_stuck(cx) } else { Ok(()) }
    }

    fn poll_stuck(&self, cx: &mut TaskContext<'_>) -> Result<(), Gone> {
        match self.io.writer.poll_write_ready(cx) {
            Poll::Ready(Ok(())) if !self.instance.unstick(self.key, &self.io) => Err(Gone),
            Poll::Ready(Ok(())) => {
                if self.io.is_stuck() {
                    // Others first. A socket that takes no more is waited for when this is polled again.
                    self.io.take_woken();
                    cx.waker().wake_by_ref();
                }
                Ok(())
            }
            Poll::Ready(Err(_)) => Err(self.socket_failed()),
            Poll::Pending => Ok(()),
        }
    }

    /// Registers for wake-ups. False: one has come already.
    pub(super) fn stay_asleep(&self, cx: &mut TaskContext<'_>) -> bool {
        self.io.listen(cx.waker());
        !self.io.take_woken()
    }
}
