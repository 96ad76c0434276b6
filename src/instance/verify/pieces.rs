//! Large values, compared by pieces: no store is stopped for long, and each piece is read at one point of the order on
//! both, so that what clients write meanwhile makes no difference.

use std::time::Duration;

use crate::compare::{self, Rule, Verdict};
use crate::instance::Instance;
use crate::instance::own::{Trouble, ask, ask_both};
use crate::mirror::by_type::Type;
use crate::mirror::verify::{self, Judgement, Why, name};
use crate::resp::encode;
use crate::resp::value::Value;
use crate::sequencer::bulk::Replies;

/// Elements of a piece.
const ELEMENTS: usize = 500;
/// Bytes of a piece of a string.
const STRING_BYTES: u64 = 64 * 1024;
/// A list whose length changes while it is read is read again so often: its elements move.
const LIST_ROUNDS: usize = 3;

/// Compares one key.
pub(super) async fn look(
    instance: &Instance,
    db: u32,
    key: &[u8],
    tolerance: Duration,
) -> Result<Judgement, Trouble> {
    let large = Large { instance, db, key };
    let [primary, secondary] = large.both(&[&[b"TYPE", key], &[b"PTTL", key]]).await?;
    let kind = match verify::types(primary.get(0), secondary.get(0)) {
        Ok(Some(kind)) => kind,
        Ok(None) => return Ok(Judgement::Gone),
        Err(why) => return Ok(Judgement::Differ(why)),
    };
    if let Some(why) =
        verify::expiry([(primary.get(1), primary.at), (secondary.get(1), secondary.at)], tolerance)
    {
        return Ok(Judgement::Differ(why));
    }
    let same = match kind {
        Type::String => large.string().await?,
        Type::List => large.list().await?,
        Type::Set => large.members(b"SSCAN", b"SCARD", Members::Set).await?,
        Type::Hash => large.members(b"HSCAN", b"HLEN", Members::Hash).await?,
        Type::SortedSet => large.members(b"ZSCAN", b"ZCARD", Members::SortedSet).await?,
        Type::Stream => large.stream().await?,
    };
    Ok(if same { Judgement::Same } else { Judgement::Differ(Why::Value(name(kind))) })
}

struct Large<'a> {
    instance: &'a Instance,
    db: u32,
    key: &'a [u8],
}

/// How the members that one store names are asked for on both.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Members {
    Set,
    Hash,
    SortedSet,
}

// === impl Large ===

impl Large<'_> {
    async fn both(&self, commands: &[&[&[u8]]]) -> Result<[Replies; 2], Trouble> {
        let mut frames = Vec::new();
        commands.iter().for_each(|words| encode::command(&mut frames, words));
        ask_both(self.instance, self.db, &frames, commands.len()).await
    }

    async fn string(&self) -> Result<bool, Trouble> {
        let mut from = 0;
        loop {
            let (first, last) = (from.to_string(), (from + STRING_BYTES - 1).to_string());
            let read: &[&[u8]] = &[b"GETRANGE", self.key, first.as_bytes(), last.as_bytes()];
            let [primary, secondary] = self.both(&[read, &[b"STRLEN", self.key]]).await?;
            if primary.get(0) != secondary.get(0) || primary.get(1) != secondary.get(1) {
                return Ok(false);
            }
            from += STRING_BYTES;
            if integer(primary.get(1)).is_none_or(|length| length <= from) {
                return Ok(true);
            }
        }
    }

    /// Elements may move while pieces are read: then the list is read from its other end, and again.
    async fn list(&self) -> Result<bool, Trouble> {
        for round in 0..LIST_ROUNDS {
            match self.list_from(round % 2 == 1).await? {
                None => return Ok(false),
                Some(false) => return Ok(true),
                Some(true) => {}
            }
        }
        Ok(true)
    }

    /// `None`: the stores differ. Else: did its length change meanwhile?
    async fn list_from(&self, end: bool) -> Result<Option<bool>, Trouble> {
        let (mut at, mut length) = (0, None);
        loop {
            let (first, last) = match end {
                false => (at as i64, (at + ELEMENTS - 1) as i64),
                true => (-((at + ELEMENTS) as i64), -(at as i64) - 1),
            };
            let (first, last) = (first.to_string(), last.to_string());
            let read: &[&[u8]] = &[b"LRANGE", self.key, first.as_bytes(), last.as_bytes()];
            let [primary, secondary] = self.both(&[read, &[b"LLEN", self.key]]).await?;
            if primary.get(0) != secondary.get(0) || primary.get(1) != secondary.get(1) {
                return Ok(None);
            }
            let now = integer(primary.get(1)).unwrap_or(0);
            at += ELEMENTS;
            let began_with = *length.get_or_insert(now);
            if now <= at as u64 {
                return Ok(Some(now != began_with));
            }
        }
    }

    /// The default store names its members page by page; both are asked for them at the same point. If the other
    /// store has each of them, and as many in all, it has the same.
    async fn members(&self, scan: &[u8], count: &[u8], how: Members) -> Result<bool, Trouble> {
        let store = self.instance.core().default_store();
        let elements = ELEMENTS.to_string();
        let mut cursor = b"0".to_vec();
        loop {
            let page =
                ask(self.instance, store, self.db, &[scan, self.key, &cursor, b"COUNT", elements.as_bytes()])
                    .await?;
            let Ok(Value::Array(parts)) = Value::parse(&page) else { return Ok(false) };
            let [next, Value::Array(words)] = parts.as_slice() else { return Ok(false) };
            let step = if how == Members::Set { 1 } else { 2 };
            let names: Vec<&[u8]> = words.iter().step_by(step).filter_map(Value::as_bytes).collect();
            if !self.same_members(&names, count, how).await? {
                return Ok(false);
            }
            cursor = next.as_bytes().unwrap_or(b"0").to_vec();
            if cursor == b"0" {
                return Ok(true);
            }
        }
    }

    async fn same_members(&self, names: &[&[u8]], count: &[u8], how: Members) -> Result<bool, Trouble> {
        let mut commands: Vec<Vec<&[u8]>> = match how {
            Members::Set => names.iter().map(|name| vec![b"SISMEMBER".as_slice(), self.key, name]).collect(),
            Members::SortedSet => {
                names.iter().map(|name| vec![b"ZSCORE".as_slice(), self.key, name]).collect()
            }
            Members::Hash if names.is_empty() => Vec::new(),
            Members::Hash => {
                vec![[b"HMGET".as_slice(), self.key].into_iter().chain(names.iter().copied()).collect()]
            }
        };
        commands.push(vec![count, self.key]);
        let commands: Vec<&[&[u8]]> = commands.iter().map(Vec::as_slice).collect();
        let [primary, secondary] = self.both(&commands).await?;
        let rule = if how == Members::SortedSet { Rule::Numbers } else { Rule::Exact };
        let same = |(one, two): (&[u8], &[u8])| {
            compare::equal(rule, one, two, Duration::ZERO) == Verdict::Same && !compare::is_error(one)
        };
        Ok(primary.len() == secondary.len() && primary.iter().zip(secondary.iter()).all(same))
    }

    /// The entries by their ids, then what is known of the groups.
    async fn stream(&self) -> Result<bool, Trouble> {
        let mut from = b"-".to_vec();
        let count = ELEMENTS.to_string();
        loop {
            let read: &[&[u8]] = &[b"XRANGE", self.key, &from, b"+", b"COUNT", count.as_bytes()];
            let [primary, secondary] = self.both(&[read, &[b"XLEN", self.key]]).await?;
            if primary.get(0) != secondary.get(0) || primary.get(1) != secondary.get(1) {
                return Ok(false);
            }
            match last_id(primary.get(0)) {
                Some(id) => from = next_id(&id),
                None => break,
            }
        }
        self.groups().await
    }

    async fn groups(&self) -> Result<bool, Trouble> {
        let info: &[&[u8]] = &[b"XINFO", b"STREAM", self.key];
        let [primary, secondary] = self.both(&[info, &[b"XINFO", b"GROUPS", self.key]]).await?;
        let position = |replies: &Replies| pairs_of(replies.get(0), &[b"last-generated-id"]);
        let groups = |replies: &Replies| groups_of(replies.get(1));
        let (Some(mine), Some(theirs)) = (groups(&primary), groups(&secondary)) else { return Ok(false) };
        if position(&primary) != position(&secondary) || mine != theirs {
            return Ok(false);
        }
        for group in mine.iter().filter_map(|group| group.first().cloned().flatten()) {
            if !self.pending(&group).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is pending in a group, and for whom.
    async fn pending(&self, group: &[u8]) -> Result<bool, Trouble> {
        let mut from = b"-".to_vec();
        let count = ELEMENTS.to_string();
        loop {
            let read: &[&[u8]] = &[b"XPENDING", self.key, group, &from, b"+", count.as_bytes()];
            let [primary, secondary] = self.both(&[read]).await?;
            let owners = |replies: &Replies| -> Option<Vec<Vec<u8>>> {
                let list = Value::parse(replies.get(0)).ok()?;
                let words = list.as_array()?.iter().filter_map(Value::as_array);
                Some(
                    words
                        .flat_map(|entry| entry.iter().take(2))
                        .filter_map(Value::as_bytes)
                        .map(<[u8]>::to_vec)
                        .collect(),
                )
            };
            let (Some(mine), Some(theirs)) = (owners(&primary), owners(&secondary)) else { return Ok(false) };
            if mine != theirs {
                return Ok(false);
            }
            match last_id(primary.get(0)) {
                Some(id) => from = next_id(&id),
                None => return Ok(true),
            }
        }
    }
}

fn integer(frame: &[u8]) -> Option<u64> {
    match Value::parse(frame) {
        Ok(Value::Int(number)) => u64::try_from(number).ok(),
        _ => None,
    }
}

/// The first word of the last entry of a list of entries.
fn last_id(frame: &[u8]) -> Option<Vec<u8>> {
    let list = Value::parse(frame).ok()?;
    let last = list.as_array()?.last()?.as_array()?.first()?.as_bytes()?;
    Some(last.to_vec())
}

/// The least id behind this one. (An open interval is not known to every server.)
fn next_id(id: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(id);
    let (time, sequence) = text.split_once('-').unwrap_or((&text, "0"));
    match sequence.parse::<u64>().ok().and_then(|sequence| sequence.checked_add(1)) {
        Some(next) => format!("{time}-{next}").into_bytes(),
        None => format!("{}-0", time.parse::<u64>().unwrap_or(u64::MAX).saturating_add(1)).into_bytes(),
    }
}

/// The values of these names in a flat list of names and values.
fn pairs_of(frame: &[u8], names: &[&[u8]]) -> Option<Vec<Option<Vec<u8>>>> {
    let list = Value::parse(frame).ok()?;
    Some(values_of(list.as_array()?, names))
}

fn values_of(words: &[Value<'_>], names: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
    let value = |name: &&[u8]| {
        let mut pairs = words.chunks_exact(2).filter_map(|pair| pair.first().zip(pair.get(1)));
        let (_, value) = pairs.find(|(known, _)| known.as_bytes() == Some(name))?;
        match value {
            Value::Int(number) => Some(number.to_string().into_bytes()),
            other => other.as_bytes().map(<[u8]>::to_vec),
        }
    };
    names.iter().map(value).collect()
}

/// Name, position, and the number of pending entries of each group.
fn groups_of(frame: &[u8]) -> Option<Vec<Vec<Option<Vec<u8>>>>> {
    let list = Value::parse(frame).ok()?;
    let names: [&[u8]; 3] = [b"name", b"last-delivered-id", b"pending"];
    let mut found: Vec<_> =
        list.as_array()?.iter().filter_map(Value::as_array).map(|group| values_of(group, &names)).collect();
    found.sort();
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_one_another() {
        assert_eq!(next_id(b"5-0"), b"5-1");
        assert_eq!(next_id(b"5-18446744073709551615"), b"6-0");
        assert_eq!(last_id(b"*1\r\n*2\r\n$3\r\n7-1\r\n*0\r\n"), Some(b"7-1".to_vec()));
        assert_eq!(last_id(b"*0\r\n"), None);
    }
}
