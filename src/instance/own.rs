//! What the proxy asks the stores for itself: walks, backfill, verification.

use std::collections::BTreeMap;

use super::Instance;
use crate::resp::value::{OwnedValue, Value};
use crate::resp::{Proto, encode};
use crate::sequencer::bulk::Replies;
use crate::sequencer::lane::Context;
use crate::sequencer::op::Failure;
use crate::stage::StoreId;
use crate::store::info;

/// Why the proxy got no answer that it can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It did not answer.
    #[error("the {0} store did not answer: {1}")]
    Store(StoreId, Failure),
    /// It answered with an error, or with something else than what was asked for.
    #[error("the {0} store refused: {1}")]
    Refused(StoreId, String),
    /// The instance is ending.
    #[error("the instance is ending")]
    Ending,
}

/// One page of a keyspace.
pub struct Page {
    /// Where the next one begins; `0`: nowhere.
    pub next: Vec<u8>,
    /// The keys.
    pub keys: Vec<Box<[u8]>>,
}

// === impl Page ===

impl Page {
    /// Is it the last one?
    pub fn is_last(&self) -> bool {
        self.next == b"0"
    }
}

/// One command to one store.
pub async fn ask(instance: &Instance, store: StoreId, db: u32, args: &[&[u8]]) -> Result<Vec<u8>, Trouble> {
    let context = Context { db, proto: Proto::Resp2 };
    let mut frame = Vec::new();
    encode::command(&mut frame, args);
    let answer = {
        let mut core = instance.core_mut();
        let Some(command) = core.table.by_name("scan") else { return Err(Trouble::Ending) };
        core.ask(store, context, command, &frame)
    };
    instance.settle();
    match answer.await {
        Ok(Ok(frame)) if frame.first() == Some(&b'-') => Err(refused(store, &frame)),
        Ok(Ok(frame)) => Ok(frame),
        Ok(Err(failure)) => Err(Trouble::Store(store, failure)),
        Err(_) => Err(Trouble::Ending),
    }
}

/// Many commands to both stores, at one point of the order. The replies are indexed by store.
pub async fn ask_both(
    instance: &Instance,
    db: u32,
    frames: &[u8],
    commands: usize,
) -> Result<[Replies; 2], Trouble> {
    if commands == 0 {
        return Ok(Default::default());
    }
    let answers = instance.core_mut().ask_bulk(&StoreId::ALL, db, frames, commands as u32);
    instance.settle();
    let [primary, secondary] = answers.await.map_err(|_| Trouble::Ending)?;
    let of = |store: StoreId, answer: Option<Result<Replies, Failure>>| match answer {
        Some(Ok(replies)) => Ok(replies),
        Some(Err(failure)) => Err(Trouble::Store(store, failure)),
        None => Err(Trouble::Ending),
    };
    Ok([of(StoreId::Primary, primary)?, of(StoreId::Secondary, secondary)?])
}

/// A page of the keyspace of a database.
pub async fn scan(
    instance: &Instance,
    store: StoreId,
    db: u32,
    cursor: &[u8],
    count: &str,
) -> Result<Page, Trouble> {
    let frame = ask(instance, store, db, &[b"SCAN", cursor, b"COUNT", count.as_bytes()]).await?;
    match Value::parse(&frame).as_ref().map(Value::as_array) {
        Ok(Some([next, Value::Array(names)])) => Ok(Page {
            next: next.as_bytes().unwrap_or(b"0").to_vec(),
            keys: names.iter().filter_map(Value::as_bytes).map(Box::from).collect(),
        }),
        _ => Err(refused(store, &frame)),
    }
}

/// The databases of a store that have keys, with how many. The instance's numbers.
pub async fn databases(instance: &Instance, store: StoreId) -> Result<BTreeMap<u32, u64>, Trouble> {
    if instance.single_db() {
        let size = ask(instance, store, 0, &[b"DBSIZE"]).await?;
        return match Value::parse(&size) {
            Ok(Value::Int(size)) => Ok(BTreeMap::from([(0, u64::try_from(size).unwrap_or(0))])),
            _ => Err(refused(store, &size)),
        };
    }
    let info = ask(instance, store, 0, &[b"INFO", b"keyspace"]).await?;
    let info = OwnedValue::parse(&info).map_err(|error| Trouble::Refused(store, error.to_string()))?;
    let text = String::from_utf8_lossy(info.as_bytes().unwrap_or_default()).into_owned();
    Ok(info::databases(&text).unwrap_or_default())
}

fn refused(store: StoreId, frame: &[u8]) -> Trouble {
    let text =
        String::from_utf8_lossy(frame.get(..frame.len().min(MAX_SHOWN)).unwrap_or_default()).into_owned();
    Trouble::Refused(store, text.trim_end().trim_start_matches('-').to_owned())
}

/// Bytes of an unexpected answer that are shown.
const MAX_SHOWN: usize = 200;
