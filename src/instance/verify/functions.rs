//! The functions of both stores.

use crate::instance::Instance;
use crate::instance::own::{Trouble, ask_both};
use crate::resp::encode;
use crate::resp::value::Value;
use crate::sequencer::bulk::Replies;

/// Are they the same? `None`: a store does not tell.
pub(super) async fn are_equal(instance: &Instance) -> Result<Option<bool>, Trouble> {
    let mut frame = Vec::new();
    encode::command(&mut frame, &["FUNCTION", "LIST", "WITHCODE"]);
    let [primary, secondary] = ask_both(instance, 0, &frame, 1).await?;
    Ok(match (libraries(&primary), libraries(&secondary)) {
        (Some(one), Some(two)) => Some(one == two),
        _ => None,
    })
}

/// Name and code of each library. The order in which a server lists them means nothing.
fn libraries(replies: &Replies) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let list = Value::parse(replies.get(0)).ok()?;
    let mut found = Vec::new();
    for library in list.as_array()? {
        let of = |wanted: &[u8]| -> Option<Vec<u8>> {
            let words = library.as_array()?;
            let mut pairs = words.chunks_exact(2).filter_map(|pair| pair.first().zip(pair.get(1)));
            let (_, value) = pairs.find(|(name, _)| name.as_bytes() == Some(wanted))?;
            value.as_bytes().map(<[u8]>::to_vec)
        };
        found.push((of(b"library_name")?, of(b"library_code")?));
    }
    found.sort();
    Some(found)
}
