//! Who is let in: limits on how many clients there are and how fast they come, and the listener's certificate.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use super::Instance;
use crate::config::InstanceConfig;
use crate::metrics::RejectReason;
use crate::tls::{Kept, ServerFiles};

/// Connections that may come at once beyond the rate, as a part of a second's.
const BURST: f64 = 0.1;

/// The clients that were let in, and those that still shake hands.
#[derive(Default)]
pub struct Admission {
    total: Cell<usize>,
    by_address: RefCell<HashMap<IpAddr, usize>>,
    bucket: Cell<Option<(Instant, f64)>>,
    tls: Kept<ServerFiles, ServerConfig>,
    /// The last certificate that could be read.
    usable: RefCell<Option<Arc<ServerConfig>>>,
    /// What was last said about files that cannot be used.
    complaint: RefCell<String>,
}

/// A client's place among the `max_clients`, from before its handshake to its end.
pub struct Seat {
    instance: Rc<Instance>,
    address: Option<IpAddr>,
}

// === impl Admission ===

impl Admission {
    /// How long the listener is to be left alone before the next connection is taken.
    fn delay(&self, rate: usize) -> Option<Duration> {
        if rate == 0 {
            return None;
        }
        let (rate, now) = (rate as f64, Instant::now());
        let burst = (rate * BURST).max(1.0);
        let tokens = match self.bucket.get() {
            Some((then, left)) => (left + now.duration_since(then).as_secs_f64() * rate).min(burst),
            None => burst,
        };
        // The one that comes next is paid for in advance.
        self.bucket.set(Some((now, tokens - 1.0)));
        (tokens < 1.0).then(|| Duration::from_secs_f64((1.0 - tokens) / rate))
    }

    fn rejection(&self, address: Option<IpAddr>, config: &InstanceConfig) -> Option<RejectReason> {
        if self.total.get() >= config.max_clients {
            return Some(RejectReason::MaxClients);
        }
        let most = config.max_clients_per_address;
        let here = address.and_then(|address| self.by_address.borrow().get(&address).copied()).unwrap_or(0);
        (most > 0 && here >= most).then_some(RejectReason::MaxClientsPerAddress)
    }

    fn let_in(&self, address: Option<IpAddr>) {
        self.total.set(self.total.get() + 1);
        if let Some(address) = address {
            *self.by_address.borrow_mut().entry(address).or_default() += 1;
        }
    }

    fn let_out(&self, address: Option<IpAddr>) {
        self.total.set(self.total.get().saturating_sub(1));
        let Some(address) = address else { return };
        let mut by_address = self.by_address.borrow_mut();
        if let Some(count) = by_address.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                by_address.remove(&address);
            }
        }
    }
}

// === impl Seat ===

impl Drop for Seat {
    fn drop(&mut self) {
        self.instance.admission.let_out(self.address);
    }
}

// === impl Instance ===

impl Instance {
    /// How long `max_connection_rate` leaves the next connection in the listener's backlog.
    pub fn connection_delay(&self) -> Option<Duration> {
        let delay = self.admission.delay(self.config_ref().max_connection_rate);
        if delay.is_some() {
            self.metrics.connections_delayed.inc();
        }
        delay
    }

    /// A place for a client from `address` (`None`: a Unix socket), or why there is none.
    pub fn admit(self: &Rc<Self>, address: Option<IpAddr>) -> Result<Seat, RejectReason> {
        if let Some(reason) = self.admission.rejection(address, &self.config_ref()) {
            return Err(reason);
        }
        self.admission.let_in(address);
        Ok(Seat { instance: self.clone(), address })
    }

    /// Do clients speak TLS, and with which certificate? Changed files are taken over; while they cannot be used,
    /// those before them are.
    pub fn listener_tls(&self) -> Option<Arc<ServerConfig>> {
        let files = self.config_ref().tls.clone()?;
        let usable = &self.admission.usable;
        match self.admission.tls.get(&files, || files.load()) {
            Ok(config) => {
                let before = usable.replace(Some(config.clone()));
                if before.is_some_and(|before| !Arc::ptr_eq(&before, &config)) {
                    self.admission.complaint.borrow_mut().clear();
                    tracing::info!(instance = %self.name, "the listener's certificate was read anew");
                }
                Some(config)
            }
            Err(problem) => {
                if self.admission.complaint.replace(problem.clone()) != problem {
                    self.metrics.tls_reload_failures.inc();
                    tracing::error!(instance = %self.name,
                        "the listener's certificate cannot be read, the one before it is kept: {problem}");
                }
                usable.borrow().clone()
            }
        }
    }
}
