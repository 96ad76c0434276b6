//! The values of a simulated store, and how they travel in DUMP and RESTORE.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub type Bytes = Vec<u8>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Str(Bytes),
    List(VecDeque<Bytes>),
    Set(BTreeSet<Bytes>),
    Stream { entries: BTreeMap<(u64, u64), Vec<Bytes>>, last: (u64, u64) },
}

/// A key's value and when it ends, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub data: Data,
    pub expires: Option<u64>,
}

// === impl Data ===

impl Data {
    pub fn type_name(&self) -> &'static str {
        match self {
            Data::Str(_) => "string",
            Data::List(_) => "list",
            Data::Set(_) => "set",
            Data::Stream { .. } => "stream",
        }
    }

    fn tag(&self) -> u8 {
        match self {
            Data::Str(_) => b's',
            Data::List(_) => b'l',
            Data::Set(_) => b'e',
            Data::Stream { .. } => b'x',
        }
    }

    /// A collection that is empty is gone.
    pub fn is_empty(&self) -> bool {
        match self {
            Data::List(list) => list.is_empty(),
            Data::Set(set) => set.is_empty(),
            Data::Str(_) | Data::Stream { .. } => false,
        }
    }

    pub fn size(&self) -> usize {
        self.dump().len() + 48
    }

    pub fn dump(&self) -> Bytes {
        let mut out = vec![self.tag()];
        let mut put = |bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        };
        match self {
            Data::Str(bytes) => put(bytes),
            Data::List(list) => list.iter().for_each(|item| put(item)),
            Data::Set(set) => set.iter().for_each(|item| put(item)),
            Data::Stream { entries, last } => {
                put(id_text(*last).as_bytes());
                for (id, fields) in entries {
                    put(id_text(*id).as_bytes());
                    put(&[fields.len() as u8]);
                    fields.iter().for_each(|field| put(field));
                }
            }
        }
        out
    }

    pub fn restore(dump: &[u8]) -> Option<Data> {
        let (kind, mut rest) = dump.split_first()?;
        let mut items = VecDeque::new();
        while !rest.is_empty() {
            let len = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
            items.push_back(rest.get(4..4 + len)?.to_vec());
            rest = &rest[4 + len..];
        }
        Some(match kind {
            b's' => Data::Str(items.pop_front()?),
            b'l' => Data::List(items),
            b'e' => Data::Set(items.into_iter().collect()),
            b'x' => restore_stream(items)?,
            _ => return None,
        })
    }
}

fn restore_stream(mut items: VecDeque<Bytes>) -> Option<Data> {
    let last = parse_id(&items.pop_front()?)?;
    let mut entries = BTreeMap::new();
    while let Some(id) = items.pop_front() {
        let count = usize::from(*items.pop_front()?.first()?);
        let fields = items.drain(..count).collect();
        entries.insert(parse_id(&id)?, fields);
    }
    Some(Data::Stream { entries, last })
}

pub fn id_text(id: (u64, u64)) -> String {
    format!("{}-{}", id.0, id.1)
}

pub fn parse_id(text: &[u8]) -> Option<(u64, u64)> {
    let (ms, seq) = std::str::from_utf8(text).ok()?.split_once('-')?;
    Some((ms.parse().ok()?, seq.parse().ok()?))
}
