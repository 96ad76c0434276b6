//! What a server tells of itself in INFO.

use std::collections::BTreeMap;

use crate::resp::value::OwnedValue;

/// A field; empty where there is none.
pub fn field<'a>(info: &'a str, name: &str) -> &'a str {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
}

/// How many keys there are: in the `database` that a URL names, of which `size` is the reply to DBSIZE, else in all of
/// them; `None`: it does not tell.
pub fn keys(info: &str, size: Option<&OwnedValue>, database: Option<u32>) -> Option<u64> {
    let everywhere = databases(info).filter(|_| database.is_none());
    everywhere.map(|found| found.values().sum()).or(match size {
        Some(OwnedValue::Int(size)) => u64::try_from(*size).ok(),
        _ => None,
    })
}

/// The databases that have keys, with how many; `None`: it does not tell.
pub fn databases(info: &str) -> Option<BTreeMap<u32, u64>> {
    let found: BTreeMap<u32, u64> = info.lines().filter_map(database).collect();
    let tells = !found.is_empty() || info.lines().any(|line| line.trim() == "# Keyspace");
    tells.then_some(found)
}

/// `db3:keys=17,expires=0,avg_ttl=0`
fn database(line: &str) -> Option<(u32, u64)> {
    let (db, rest) = line.strip_prefix("db")?.split_once(':')?;
    let keys = rest.split(',').find_map(|part| part.strip_prefix("keys="));
    Some((db.parse().ok()?, keys?.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::databases;

    #[test]
    fn the_keyspace_is_read_line_by_line() {
        let info = "# Server\r\nrun_id:a\r\n\r\n# Keyspace\r\ndb0:keys=2,expires=0\r\n\
            db3:keys=17,expires=0,avg_ttl=0\r\ndb:keys=1\r\n";
        let found = databases(info).expect("there is the section");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [(0, 2), (3, 17)]);
        assert!(databases("# Keyspace\r\n").is_some_and(|found| found.is_empty()));
        assert_eq!(databases("# Server\r\n"), None);
    }
}
