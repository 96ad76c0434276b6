//! The keys of a write in flight, kept until both stores have answered.

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
            if name.len() <= INLINE {
                let mut bytes = [0; INLINE];
                bytes[..name.len()].copy_from_slice(name);
                return Touched::One { hash: key.hash, len: name.len() as u8, bytes };
            }
        }
        let kept = keys.iter().filter(|key| !written_only || key.access.writes());
        Touched::Many(kept.map(|key| (key.hash, key.of(frame).into())).collect())
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

    /// The first key, for samples.
    pub fn first(&self) -> Option<&[u8]> {
        match self {
            Touched::Nothing | Touched::Everything => None,
            Touched::One { len, bytes, .. } => bytes.get(..usize::from(*len)),
            Touched::Many(keys) => keys.first().map(|(_, key)| &**key),
        }
    }
}
