//! The keys of a write in flight, kept until both stores have answered.

use crate::resp::value::Value;

use super::fence::Footprint;

/// The keys of a write: what becomes suspect if the stores part over it.
#[derive(Clone, Debug, Default)]
pub enum Touched {
    /// None.
    #[default]
    Nothing,
    /// One short key, kept in place: the usual case costs no allocation.
    One {
        /// Its hash.
        hash: u64,
        /// Its length.
        len: u8,
        /// Its bytes.
        bytes: [u8; INLINE],
    },
    /// Several, or long ones.
    Many(Box<[(u64, Box<[u8]>)]>),
    /// Possibly all.
    Everything,
}

const INLINE: usize = 46;

// === impl Touched ===

impl Touched {
    /// The keys in `footprint` that the request may write, or all of them.
    #[inline(always)]
    pub fn of(footprint: &Footprint, frame: &[u8], written_only: bool) -> Touched {
        let keys = match footprint {
            Footprint::Nothing => return Touched::Nothing,
            Footprint::Everything => return Touched::Everything,
            Footprint::Keys(keys) => keys,
        };
        if let [key] = keys.as_slice() {
            let name = key.of(frame);
            if written_only && !key.access.writes() {
                return Touched::Nothing;
            }
            return Touched::key(key.hash, name);
        }
        let kept = keys.iter().filter(|key| !written_only || key.access.writes());
        Touched::Many(kept.map(|key| (key.hash, key.of(frame).into())).collect())
    }

    /// Forgets the keys. Most are gone with a word; only of several there is more to give back.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.set(Touched::Nothing);
    }

    /// Takes these keys in the place of others.
    #[inline(always)]
    pub fn set(&mut self, keys: Touched) {
        let before = std::mem::replace(self, keys);
        match before {
            Touched::Many(keys) => drop(keys),
            Touched::Nothing | Touched::One { .. } | Touched::Everything => std::mem::forget(before),
        }
    }

    /// One key.
    #[inline(always)]
    pub fn key(hash: u64, name: &[u8]) -> Touched {
        if name.len() > INLINE {
            return Touched::Many([(hash, name.into())].into());
        }
        let mut bytes = [0; INLINE];
        bytes[..name.len()].copy_from_slice(name);
        Touched::One { hash, len: name.len() as u8, bytes }
    }

    /// Calls `visit` with each key.
    pub fn each(&self, mut visit: impl FnMut(u64, &[u8])) {
        match self {
            Touched::Nothing | Touched::Everything => {}
            Touched::One { hash, len, bytes } => {
                visit(*hash, bytes.get(..usize::from(*len)).unwrap_or_default());
            }
            Touched::Many(keys) => keys.iter().for_each(|(hash, key)| visit(*hash, key)),
        }
    }

    /// Calls `visit` with each key that a store had when it ran the command, as far as its reply tells.
    pub fn each_found(&self, reply: &Value<'_>, mut visit: impl FnMut(u64)) {
        match (self, reply) {
            (Touched::One { hash, .. }, Value::Int(1..) | Value::Bulk(_)) => visit(*hash),
            (Touched::One { hash, .. }, Value::Array(items)) => {
                if matches!(items.first(), Some(Value::Bulk(_) | Value::Array(_))) {
                    visit(*hash);
                }
            }
            // An element was moved.
            (Touched::Many(_), Value::Bulk(_)) => self.each(|hash, _| visit(hash)),
            // Taken from the first key that had any: it is named.
            (Touched::Many(_), Value::Array(items)) => {
                if let Some(Value::Bulk(name)) = items.first() {
                    self.each(|hash, key| {
                        if *key == **name {
                            visit(hash);
                        }
                    });
                }
            }
            _ => {}
        }
    }

    /// The first key, for samples.
    pub fn first(&self) -> Option<&[u8]> {
        match self {
            Touched::Nothing | Touched::Everything => None,
            Touched::One { len, bytes, .. } => bytes.get(..usize::from(*len)),
            Touched::Many(keys) => keys.first().map(|(_, key)| &**key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(keys: &[&str], reply: &str) -> Vec<u64> {
        let many = keys.iter().zip(1..).map(|(key, hash)| (hash, key.as_bytes().into())).collect();
        let touched = match keys {
            [_] => Touched::One { hash: 1, len: 0, bytes: [0; INLINE] },
            _ => Touched::Many(many),
        };
        let mut found = Vec::new();
        touched.each_found(&Value::parse(reply.as_bytes()).expect("a reply"), |hash| found.push(hash));
        found
    }

    #[test]
    fn a_reply_tells_which_keys_were_there() {
        for (keys, reply, expected) in [
            (&["a"][..], "$1\r\nx\r\n", &[1][..]),
            (&["a"], ":2\r\n", &[1]),
            (&["a"], "*2\r\n$1\r\na\r\n$1\r\nx\r\n", &[1]),
            (&["a"], "$-1\r\n", &[]),
            (&["a"], ":0\r\n", &[]),
            (&["a"], "+OK\r\n", &[]),
            (&["a"], "*0\r\n", &[]),
            (&["a"], "*1\r\n$-1\r\n", &[]),
            (&["a"], "-ERR no\r\n", &[]),
            (&["a", "b"], "*2\r\n$1\r\nb\r\n$1\r\na\r\n", &[2]),
            (&["a", "b"], "*-1\r\n", &[]),
            (&["a", "b"], "$1\r\nx\r\n", &[1, 2]),
            (&["a", "b"], ":1\r\n", &[]),
        ] {
            assert_eq!(found(keys, reply), expected, "{keys:?} {reply:?}");
        }
    }
}
