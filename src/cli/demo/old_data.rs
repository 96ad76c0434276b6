//! What the old store holds when the demo begins, and how a worker reads it again later.
//!
//! The values are functions of the key: every reader knows what it must find.

use super::dice::Dice;
use crate::resp::value::OwnedValue;
use crate::store::connection::Connection;

/// How many of each: 2,000 keys.
const CACHED: u64 = 1_200;
const USERS: u64 = 200;
const HISTORIES: u64 = 200;
const PROJECTS: u64 = 150;
const BOARDS: u64 = 150;
const AUDITS: u64 = 50;
const LOCKS: u64 = 50;

/// Commands per write to the server.
const BATCH: usize = 200;

/// One command as its words.
pub(super) type Words = Vec<Vec<u8>>;

/// A read of one old key and what it must answer.
pub(super) struct OldRead {
    /// The command.
    pub(super) words: Words,
    /// The answer, unless the store lacks the key.
    pub(super) expected: String,
    /// A command that writes the same value again, as an application that refreshes its cache does.
    pub(super) renewal: Option<Words>,
}

/// Splits a line into the words of a command.
pub(super) fn words(line: &str) -> Words {
    line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
}

/// Fills the old store past the proxy, before there is a proxy.
pub(super) async fn load(store: &mut Connection) -> Result<u64, String> {
    let commands = commands();
    for batch in commands.chunks(BATCH) {
        let replies = store.pipeline(batch).await.map_err(|error| error.to_string())?;
        if let Some(refused) = replies.iter().find_map(OwnedValue::error_text) {
            return Err(format!("the old store refused its data: {refused}"));
        }
    }
    let size = store.call(&["DBSIZE"]).await.map_err(|error| error.to_string())?;
    Ok(size.as_i64().and_then(|size| u64::try_from(size).ok()).unwrap_or(0))
}

fn commands() -> Vec<Words> {
    let cached = (0..CACHED).map(|i| match i % 3 {
        0 => format!("SET cache:{i} cached-{i} EX 86400"),
        _ => format!("SET cache:{i} cached-{i}"),
    });
    let users = (0..USERS).map(|i| format!("HSET user:{i} name user-{i} visits {i}"));
    let histories = (0..HISTORIES).map(|i| format!("RPUSH history:{i} page-{i} page-{} page-0", i + 1));
    let projects = (0..PROJECTS).map(|i| format!("SADD project:{i} member-{i} member-{} admin", i + 1));
    let boards = (0..BOARDS).map(|i| format!("ZADD board:{i} {i} player-{i} 0.5 player-0.5"));
    let audits = (0..AUDITS).map(|i| format!("XADD audit:{i} 1-{} event login-{i}", i + 1));
    let locks = (0..LOCKS).map(|i| format!("SET lock:import:{i} owner-{i} NX EX 3600"));
    let lines = cached.chain(users).chain(histories).chain(projects).chain(boards).chain(audits).chain(locks);
    lines.map(|line| words(&line)).collect()
}

/// A read of some old key.
pub(super) fn any_read(dice: &mut Dice) -> OldRead {
    let mut renewal = None;
    let (line, expected) = match dice.below(10) {
        0 => {
            let i = dice.below(USERS);
            (format!("HGET user:{i} name"), format!("user-{i}"))
        }
        1 => {
            let i = dice.below(HISTORIES);
            (format!("LINDEX history:{i} 0"), format!("page-{i}"))
        }
        2 => {
            let i = dice.below(BOARDS);
            (format!("ZSCORE board:{i} player-{i}"), i.to_string())
        }
        3 => {
            let i = dice.below(LOCKS);
            (format!("GET lock:import:{i}"), format!("owner-{i}"))
        }
        _ => {
            let i = dice.below(CACHED);
            renewal = Some(words(&format!("SET cache:{i} cached-{i} EX 86400")));
            (format!("GET cache:{i}"), format!("cached-{i}"))
        }
    };
    OldRead { words: words(&line), expected, renewal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thousand_keys_each_written_once() {
        let commands = commands();
        let keys: std::collections::HashSet<&Vec<u8>> = commands.iter().map(|words| &words[1]).collect();
        assert_eq!((commands.len(), keys.len()), (2_000, 2_000));
    }

    #[test]
    fn every_read_is_of_a_key_that_was_loaded() {
        let commands = commands();
        let keys: std::collections::HashSet<&Vec<u8>> = commands.iter().map(|words| &words[1]).collect();
        let mut dice = Dice::new(7);
        for _ in 0..500 {
            assert!(keys.contains(&any_read(&mut dice).words[1]));
        }
    }
}
