//! What an operator watches: the three counters, and what each store is doing.

use super::book::{Book, Tally};
use super::http;
use super::world::{INSTANCE, World};
use crate::stage::{STORES, StoreId};
use crate::store::connection::Connection;
use tokio::time::Instant;

const FALLBACK: &str = "gitlab_redis_multi_store_read_fallback_total";
const DIFF: &str = "gitlab_redis_multi_store_pipelined_diff_error_total";
const MISSING: &str = "gitlab_redis_multi_store_method_missing_total";

/// Reads the gauges again and again.
pub(super) struct Gauges {
    admin: u16,
    stores: [Connection; STORES],
    /// Questions of the gauges themselves, which are no part of the picture.
    asked: u64,
    last: Reading,
}

/// The gauges at one moment.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) fallbacks: u64,
    pub(super) diffs: u64,
    pub(super) missing: u64,
    /// Commands executed, by store.
    pub(super) commands: [u64; STORES],
    /// Keys held, by store.
    pub(super) keys: [u64; STORES],
    pub(super) tally: Tally,
}

/// Two readings, and what happened between.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) now: Reading,
    before: Reading,
}

// === impl Gauges ===

impl Gauges {
    pub(super) async fn new(world: &World, book: &Book) -> Result<Gauges, String> {
        let stores = [world.direct(StoreId::Primary).await?, world.direct(StoreId::Secondary).await?];
        let nothing = Reading {
            at: Instant::now(),
            fallbacks: 0,
            diffs: 0,
            missing: 0,
            commands: [0; STORES],
            keys: [0; STORES],
            tally: book.tally(),
        };
        let mut gauges = Gauges { admin: world.admin_port(), stores, asked: 0, last: nothing };
        gauges.picture(book).await?;
        Ok(gauges)
    }

    /// The gauges now, and how they moved since the last call.
    pub(super) async fn picture(&mut self, book: &Book) -> Result<Picture, String> {
        let now = self.read(book).await?;
        let before = std::mem::replace(&mut self.last, now.clone());
        Ok(Picture { now, before })
    }

    async fn read(&mut self, book: &Book) -> Result<Reading, String> {
        let metrics = http::get(self.admin, "/metrics").await?;
        let counter = |name| {
            let value = http::counter(&metrics, name, INSTANCE);
            value.ok_or_else(|| format!("/metrics has no {name} of {INSTANCE}"))
        };
        let (fallbacks, diffs, missing) = (counter(FALLBACK)?, counter(DIFF)?, counter(MISSING)?);
        let (mut commands, mut keys) = ([0; STORES], [0; STORES]);
        for store in StoreId::ALL {
            let at = store.index();
            (commands[at], keys[at]) = info(&mut self.stores[at], self.asked).await?;
        }
        self.asked += 1;
        Ok(Reading { at: Instant::now(), fallbacks, diffs, missing, commands, keys, tally: book.tally() })
    }
}

/// Commands executed without those `asked` by this connection, and keys held.
async fn info(store: &mut Connection, asked: u64) -> Result<(u64, u64), String> {
    let reply = store.call(&["INFO", "everything"]).await.map_err(|error| error.to_string())?;
    let text = reply.as_str().unwrap_or_default();
    let commands = text.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    let commands = commands.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0);
    let databases =
        text.lines().filter(|line| line.starts_with("db")).filter_map(|line| line.split_once(":keys="));
    let keys = databases.filter_map(|(_, rest)| rest.split(',').next()?.parse::<u64>().ok()).sum();
    Ok((commands.saturating_sub(asked), keys))
}

// === impl Picture ===

impl Picture {
    /// How fast a number of the readings grew.
    pub(super) fn per_second(&self, number: impl Fn(&Reading) -> u64) -> u64 {
        let grown = number(&self.now).saturating_sub(number(&self.before));
        let seconds = (self.now.at - self.before.at).as_secs_f64();
        if seconds > 0.0 { (grown as f64 / seconds).round() as u64 } else { 0 }
    }

    /// A store's part, in percent, of the commands that both executed between the readings.
    pub(super) fn share(&self, store: StoreId) -> u64 {
        let of = |store: StoreId| self.per_second(|reading| reading.commands[store.index()]);
        let both = of(StoreId::Primary) + of(StoreId::Secondary);
        (of(store) * 100 + both / 2).checked_div(both).unwrap_or(0)
    }
}
