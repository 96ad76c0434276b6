//! What the requests and the unread replies of all clients may take together. Beyond that those with the most are
//! closed, as Redis does (`maxmemory-clients`): one client, or many, cannot take the memory of all.

use std::cell::Cell;
use std::rc::Rc;

use super::{ClientIo, Instance};
use crate::metrics::{ClientErrorKind, ClientMemory};
use crate::sequencer::clients::ClientKey;

/// Bytes of requests, of all clients together.
#[derive(Default)]
pub(super) struct Memory {
    requests: Cell<usize>,
}

/// What passed its limit.
#[derive(Clone, Copy)]
enum What {
    Requests,
    Replies,
}

// === impl What ===

impl What {
    fn setting(self) -> &'static str {
        match self {
            What::Requests => "clients_query_total",
            What::Replies => "clients_output_total",
        }
    }
}

// === impl Instance ===

impl Instance {
    /// Notes that a client's requests take so many bytes now.
    pub fn weigh(&self, io: &ClientIo, bytes: usize) {
        // What was closed counts no more: its session is about to let go of it.
        if io.evicted.get() {
            return;
        }
        let before = io.requests.replace(bytes);
        let total = self.memory.requests.get() - before + bytes;
        self.memory.requests.set(total);
        if bytes > before && total > self.config_ref().clients_query_total.bytes() {
            self.evict(What::Requests);
        }
    }

    /// Closes clients until the unread replies of all are within their limit.
    #[inline]
    pub(super) fn limit_replies(&self) {
        let unread = self.core().clients.unread();
        if unread > 0 && unread > self.config_ref().clients_output_total.bytes() {
            self.evict(What::Replies);
        }
    }

    /// Shows what all clients take.
    pub fn show_memory(&self) {
        for (kind, what) in [(ClientMemory::Requests, What::Requests), (ClientMemory::Replies, What::Replies)]
        {
            self.metrics.client_memory[kind].set(self.total(what) as i64);
        }
    }

    /// A client's requests are gone with it.
    pub(super) fn unweigh(&self, io: &ClientIo) {
        let bytes = io.requests.take();
        self.memory.requests.set(self.memory.requests.get().saturating_sub(bytes));
    }

    fn evict(&self, what: What) {
        let limit = match what {
            What::Requests => self.config_ref().clients_query_total.bytes(),
            What::Replies => self.config_ref().clients_output_total.bytes(),
        };
        while self.total(what) > limit
            && let Some((bytes, key, io)) = self.heaviest(what)
        {
            self.metrics.client_errors[ClientErrorKind::Evicted].inc();
            tracing::warn!(instance = %self.name, client = %io.info.borrow().addr, bytes,
                "client closed: all clients together passed {}, and this one had the most", what.setting());
            io.evicted.set(true);
            self.unweigh(&io);
            self.core_mut().clients.evict(key);
            io.wake();
        }
    }

    fn total(&self, what: What) -> usize {
        match what {
            What::Requests => self.memory.requests.get(),
            What::Replies => self.core().clients.unread(),
        }
    }

    /// Who has the most. Clients that asked for it (CLIENT NO-EVICT) come last, and not never: no client may take the
    /// memory of all.
    fn heaviest(&self, what: What) -> Option<(usize, ClientKey, Rc<ClientIo>)> {
        let (core, sockets) = (self.core(), self.io.borrow());
        let weight = |key: ClientKey, io: &ClientIo| match what {
            What::Requests => io.requests.get(),
            What::Replies => core.clients.get(key).map_or(0, |client| client.backlog()),
        };
        let candidates = sockets.iter().filter(|(_, io)| !io.evicted.get());
        let heaviest = candidates
            .map(|(key, io)| (weight(*key, io), *key, io))
            .filter(|(bytes, ..)| *bytes > 0)
            .max_by_key(|(bytes, _, io)| (!io.info.borrow().no_evict, *bytes));
        heaviest.map(|(bytes, key, io)| (bytes, key, io.clone()))
    }
}
