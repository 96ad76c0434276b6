//! Dedicated connections: made on demand, a few kept idle, bounded in number.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::instance::Instance;
use crate::metrics::{InstanceMetrics, StoreErrorKind};
use crate::resp::Proto;
use crate::sequencer::lane::{Context, DownReason};
use crate::stage::StoreId;

use super::dedicated::{Dedicated, DedicatedError};
use super::given_up::GivenUp;
use super::handshake::own_name;

/// The dedicated connections of an instance.
pub struct Pool {
    idle: RefCell<Vec<Dedicated>>,
    out: Cell<usize>,
    metrics: Arc<InstanceMetrics>,
    /// Connections that are to be ended.
    pub given_up: GivenUp,
}

/// A dedicated connection on loan. Given back when dropped, if it is clean.
pub struct Loan {
    connection: Option<Dedicated>,
    seat: Seat,
}

/// One of the `dedicated_max` connections that may be in use, from before it is dialed.
struct Seat(Rc<Instance>);

// === impl Seat ===

impl Seat {
    fn take(instance: &Rc<Instance>, store: StoreId) -> Result<Seat, DedicatedError> {
        instance.may_use(store).map_err(DedicatedError::Down)?;
        let pool = &instance.pool;
        let max = instance.config_ref().dedicated_max;
        if pool.out.get() >= max {
            let text = format!("all {max} dedicated connections are in use (dedicated_max)");
            return Err(DedicatedError::Down(DownReason {
                kind: StoreErrorKind::Connect,
                text,
                store_error: None,
            }));
        }
        pool.count(pool.out.get() + 1);
        Ok(Seat(instance.clone()))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let pool = &self.0.pool;
        pool.count(pool.out.get().saturating_sub(1));
    }
}

// === impl Pool ===

impl Pool {
    /// An empty pool.
    pub fn new(metrics: Arc<InstanceMetrics>) -> Pool {
        Pool { idle: RefCell::default(), out: Cell::new(0), metrics, given_up: GivenUp::default() }
    }

    /// The connections of `store` are of no use any more.
    pub fn forget(&self, store: StoreId) {
        self.idle.borrow_mut().retain(|connection| connection.store != store);
    }

    fn take_idle(&self, store: StoreId) -> Option<Dedicated> {
        let mut idle = self.idle.borrow_mut();
        let at = idle.iter().rposition(|connection| connection.store == store)?;
        Some(idle.swap_remove(at))
    }

    fn count(&self, out: usize) {
        self.out.set(out);
        self.metrics.dedicated_connections.set(out as i64);
    }

    /// A connection to `store` in `context`. Idle ones that the store has closed are passed over.
    pub async fn acquire(
        instance: &Rc<Instance>,
        store: StoreId,
        context: Context,
    ) -> Result<Loan, DedicatedError> {
        let within = instance.config().reply_timeout;
        let limits = instance.reply_limits();
        let mut loan = Pool::any(instance, store).await?;
        loan.enter(context, &limits, within).await?;
        Ok(loan)
    }

    /// A connection to `store` in whatever context: for a question that is the same in all.
    pub async fn any(instance: &Rc<Instance>, store: StoreId) -> Result<Loan, DedicatedError> {
        let seat = Seat::take(instance, store)?;
        while let Some(mut connection) = instance.pool.take_idle(store) {
            if connection.is_alive() {
                return Ok(Loan { connection: Some(connection), seat });
            }
        }
        Pool::dial(instance, store, seat).await
    }

    /// A new connection to `store`, in no database of the client's, for a command that a busy server must not keep
    /// waiting.
    pub async fn acquire_at_once(
        instance: &Rc<Instance>,
        store: StoreId,
        proto: Proto,
    ) -> Result<Loan, DedicatedError> {
        let within = instance.config().reply_timeout;
        let mut loan = Pool::dial(instance, store, Seat::take(instance, store)?).await?;
        loan.speak(proto, &instance.reply_limits(), within).await?;
        loan.spoil();
        Ok(loan)
    }

    async fn dial(instance: &Rc<Instance>, store: StoreId, seat: Seat) -> Result<Loan, DedicatedError> {
        let (config, name) = (instance.config(), own_name(&instance.name, store));
        let connection = Dedicated::dial(store, &name, config.store(store), config.connect_timeout).await?;
        Ok(Loan { connection: Some(connection), seat })
    }

    /// A connection to `store` that nobody has authenticated.
    pub async fn bare(instance: &Rc<Instance>, store: StoreId) -> Result<Loan, DedicatedError> {
        let config = instance.config();
        let seat = Seat::take(instance, store)?;
        let name = own_name(&instance.name, store);
        let mut connection =
            Dedicated::dial_bare(store, &name, config.store(store), config.connect_timeout).await?;
        connection.spoil();
        Ok(Loan { connection: Some(connection), seat })
    }
}

impl std::ops::Deref for Loan {
    type Target = Dedicated;

    fn deref(&self) -> &Dedicated {
        match &self.connection {
            Some(connection) => connection,
            None => unreachable!("a loan holds its connection until it is dropped"),
        }
    }
}

impl std::ops::DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut Dedicated {
        match &mut self.connection {
            Some(connection) => connection,
            None => unreachable!("a loan holds its connection until it is dropped"),
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let instance = &self.seat.0;
        let reusable =
            |connection: &Dedicated| connection.clean && !connection.watching && !connection.keeps_pushes();
        let Some(connection) = self.connection.take().filter(reusable) else { return };
        let mut idle = instance.pool.idle.borrow_mut();
        if idle.len() < instance.config_ref().dedicated_idle {
            idle.push(connection);
        }
    }
}
