//! A server's own COMMAND, as the command table wants it.

use crate::command::LiveCommand;
use crate::resp::value::OwnedValue;

/// Entries of a COMMAND reply: name, arity, flags, first key, last key, step, categories, tips, key specs,
/// subcommands. Servers before 7.0 lack the last four.
pub fn live_commands(reply: &OwnedValue) -> Vec<LiveCommand> {
    reply.as_array().unwrap_or_default().iter().filter_map(live_command).collect()
}

fn live_command(entry: &OwnedValue) -> Option<LiveCommand> {
    let fields = entry.as_array()?;
    let number = |at: usize| fields.get(at).and_then(OwnedValue::as_i64).and_then(|n| i32::try_from(n).ok());
    let flags = fields.get(2).and_then(OwnedValue::as_array).unwrap_or_default();
    Some(LiveCommand {
        name: fields.first()?.as_str()?.to_owned(),
        arity: number(1)?,
        flags: flags.iter().filter_map(|flag| flag.as_str().map(str::to_owned)).collect(),
        first: number(3).unwrap_or(0),
        last: number(4).unwrap_or(0),
        step: number(5).unwrap_or(0),
        subcommands: fields.get(9).map(live_commands).unwrap_or_default(),
        ..LiveCommand::default()
    })
}
