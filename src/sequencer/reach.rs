//! Pure: which databases requests reach into, one or several one behind the other.

use crate::command::{Args, OtherDb, Table, other_db};

use super::derive::split;
use crate::resp::request::Request;

/// What requests reach beside the database that they begin in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// The databases in which they may change keys, the first one included.
    pub databases: Vec<u32>,
    /// Databases that are exchanged.
    pub swapped: Vec<(u32, u32)>,
}

// === impl Reach ===

impl Reach {
    /// That of `frames`, which begin in `db`.
    pub fn of(table: &Table, frames: &[u8], db: u32) -> Reach {
        let mut reach = Reach { databases: vec![db], swapped: Vec::new() };
        for (frame, args) in split(frames) {
            let request = Request { frame, args: &args };
            let Some(spec) = table.find(&request).map(|id| table.spec(id)) else { continue };
            match other_db(spec, &request) {
                Some(OtherDb::One(other)) => reach.enter(other),
                Some(OtherDb::Two(a, b)) => {
                    if let (Ok(a), Ok(b)) = (u32::try_from(a), u32::try_from(b)) {
                        reach.swapped.push((a, b));
                    }
                }
                Some(OtherDb::All) | None if spec.name == "select" => {
                    request.int(1).into_iter().for_each(|db| reach.enter(db));
                }
                Some(OtherDb::All) | None => {}
            }
        }
        reach
    }

    fn enter(&mut self, db: i64) {
        if let Ok(db) = u32::try_from(db)
            && !self.databases.contains(&db)
        {
            self.databases.push(db);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::encode;

    fn reach(lines: &[&str]) -> Reach {
        let mut frames = Vec::new();
        for line in lines {
            encode::command(&mut frames, &line.split(' ').collect::<Vec<_>>());
        }
        Reach::of(&Table::builtin(), &frames, 1)
    }

    #[test]
    fn databases_are_found_wherever_they_stand() {
        assert_eq!(reach(&["MOVE key 3"]).databases, [1, 3]);
        assert_eq!(reach(&["COPY a b REPLACE DB 2"]).databases, [1, 2]);
        assert_eq!(reach(&["COPY a b", "FLUSHALL"]), Reach { databases: vec![1], ..Reach::default() });
        assert_eq!(reach(&["MULTI", "SET a b", "SELECT 4", "SET a b", "EXEC"]).databases, [1, 4]);
        assert_eq!(reach(&["SWAPDB 0 5"]).swapped, [(0, 5)]);
    }
}
