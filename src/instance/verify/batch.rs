//! Some keys, looked at together on both stores.

use std::time::Duration;

use crate::instance::Instance;
use crate::instance::own::{Trouble, ask_both};
use crate::instance::verify::pieces;
use crate::mirror::by_type::{Type, read_whole};
use crate::mirror::verify::{self, Judgement, Shown, Why};
use crate::resp::encode;
use crate::resp::value::Value;
use crate::stage::StoreId;

/// How a key was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Payload,
    ByType,
    ByPieces,
}

/// What a look at one key has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub how: How,
    pub judgement: Judgement,
}

/// Values that take more than this are compared by pieces: neither store is stopped for long by one of them.
const WHOLE_BYTES: u64 = 1 << 20;
/// Values that take more than this together are not asked for in one go.
const BULK_BYTES: u64 = 1 << 20;
/// Round trips of an ordinary look.
pub(super) const ROUND_TRIPS: u32 = 2;

/// Compares these keys. One answer for each.
pub(super) async fn look(instance: &Instance, db: u32, keys: &[Box<[u8]>]) -> Result<Vec<Found>, Trouble> {
    let tolerance = instance.config_ref().ttl_tolerance;
    let mut found = vec![Found { how: How::Payload, judgement: Judgement::Gone }; keys.len()];
    let mut bulk = Vec::new();
    let mut bytes = 0;
    for (at, size) in sizes(instance, db, keys).await?.into_iter().enumerate() {
        let Some(size) = size else { continue };
        if size > WHOLE_BYTES {
            let judgement = pieces::look(instance, db, &keys[at], tolerance).await?;
            found[at] = Found { how: How::ByPieces, judgement };
            continue;
        }
        if bytes + size > BULK_BYTES && !bulk.is_empty() {
            payloads(instance, db, keys, &std::mem::take(&mut bulk), tolerance, &mut found).await?;
            bytes = 0;
        }
        bulk.push(at);
        bytes += size;
    }
    payloads(instance, db, keys, &bulk, tolerance, &mut found).await?;
    Ok(found)
}

/// How many bytes each key takes on the store where it takes more; `None` where neither has it. A store that does not
/// tell is taken at its word that the key is small.
async fn sizes(instance: &Instance, db: u32, keys: &[Box<[u8]>]) -> Result<Vec<Option<u64>>, Trouble> {
    let mut frames = Vec::new();
    for key in keys {
        encode::command(&mut frames, &[b"MEMORY".as_slice(), b"USAGE", key]);
    }
    let [primary, secondary] = ask_both(instance, db, &frames, keys.len()).await?;
    let size = |frame: &[u8]| match Value::parse(frame) {
        Ok(Value::Int(size)) => Some(u64::try_from(size).unwrap_or(0)),
        Ok(Value::Nil) => None,
        _ => Some(0),
    };
    Ok(primary.iter().zip(secondary.iter()).map(|(one, two)| size(one).max(size(two))).collect())
}

/// Compares the keys at the places `bulk` by their payloads, and where that proves nothing by type.
async fn payloads(
    instance: &Instance,
    db: u32,
    keys: &[Box<[u8]>],
    bulk: &[usize],
    tolerance: Duration,
    found: &mut [Found],
) -> Result<(), Trouble> {
    let mut frames = Vec::new();
    for at in bulk {
        encode::command(&mut frames, &[b"PTTL".as_slice(), &keys[*at]]);
        encode::command(&mut frames, &[b"DUMP".as_slice(), &keys[*at]]);
    }
    let replies = ask_both(instance, db, &frames, 2 * bulk.len()).await?;
    let mut unlike = Vec::new();
    for (place, at) in bulk.iter().enumerate() {
        let shown = [0, 1].map(|store: usize| {
            let replies = &replies[store];
            Shown { pttl: replies.get(2 * place), dump: replies.get(2 * place + 1), at: replies.at }
        });
        match verify::judge(shown, tolerance) {
            Judgement::Look => unlike.push(*at),
            judgement => found[*at].judgement = judgement,
        }
    }
    by_type(instance, db, keys, &unlike, tolerance, found).await
}

/// Compares the keys at the places `unlike` by what they hold.
async fn by_type(
    instance: &Instance,
    db: u32,
    keys: &[Box<[u8]>],
    unlike: &[usize],
    tolerance: Duration,
    found: &mut [Found],
) -> Result<(), Trouble> {
    let mut frames = Vec::new();
    for at in unlike {
        encode::command(&mut frames, &[b"TYPE".as_slice(), &keys[*at]]);
    }
    let [primary, secondary] = ask_both(instance, db, &frames, unlike.len()).await?;
    let mut reads: Vec<(usize, Type)> = Vec::new();
    let mut frames = Vec::new();
    for (place, at) in unlike.iter().enumerate() {
        found[*at].how = How::ByType;
        match verify::types(primary.get(place), secondary.get(place)) {
            Ok(Some(kind)) => {
                reads.push((*at, kind));
                encode::command(&mut frames, &[b"PTTL".as_slice(), &keys[*at]]);
                frames.extend_from_slice(&read_whole(kind, &keys[*at]));
            }
            Ok(None) => found[*at].judgement = Judgement::Gone,
            Err(why) => found[*at].judgement = Judgement::Differ(why),
        }
    }
    let [primary, secondary] = ask_both(instance, db, &frames, 2 * reads.len()).await?;
    for (place, (at, kind)) in reads.into_iter().enumerate() {
        let pttl = [(primary.get(2 * place), primary.at), (secondary.get(2 * place), secondary.at)];
        let values = [primary.get(2 * place + 1), secondary.get(2 * place + 1)];
        let why = verify::values(kind, values).or_else(|| verify::expiry(pttl, tolerance));
        found[at].judgement = why.map_or(Judgement::Same, Judgement::Differ);
    }
    Ok(())
}

/// Those of these keys that the other store has and the default store has not.
pub(in crate::instance) async fn surplus(
    instance: &Instance,
    db: u32,
    keys: &[Box<[u8]>],
) -> Result<Vec<(Box<[u8]>, Why)>, Trouble> {
    let default = instance.core().default_store();
    let mut frames = Vec::new();
    for key in keys {
        encode::command(&mut frames, &[b"EXISTS".as_slice(), key]);
    }
    let [primary, secondary] = ask_both(instance, db, &frames, keys.len()).await?;
    let (default_has, other_has) = match default {
        StoreId::Primary => (primary, secondary),
        StoreId::Secondary => (secondary, primary),
    };
    let lacking = keys.iter().zip(default_has.iter().zip(other_has.iter()));
    let lacking = lacking.filter(|(_, (default, other))| *default == b":0\r\n" && *other == b":1\r\n");
    Ok(lacking.map(|(key, _)| (key.clone(), Why::Missing(default))).collect())
}
