//! Pure: what is to be done with a request, from the command and its arguments alone.
//!
//! The decision is made once; nothing later looks at the command again to find its way.

use crate::command::{Args, Effect, Kind, Miss, Shape, Spec};
use crate::metrics::RequestKind;
use crate::sequencer::Path;
use crate::sequencer::cursors::parse_cursor;

/// The section of INFO that is the proxy's own.
pub const INFO_SECTION: &str = "multistore";

/// What is to be done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Into the one order.
    Order(Path),
    /// The session answers, or changes, its own state.
    Session(SessionCommand),
    /// MULTI and what belongs to it.
    Transaction(TransactionCommand),
    /// May wait for another client.
    Block,
    /// To the default store, past everything that is queued for it.
    Aside,
    /// SUBSCRIBE and its kin.
    Subscribe,
    /// MONITOR.
    Monitor,
    /// Would change a store behind the proxy's back.
    Refuse,
}

/// Commands about the connection that the proxy answers in the store's stead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionCommand {
    /// SELECT
    Select,
    /// AUTH
    Auth,
    /// HELLO
    Hello,
    /// RESET
    Reset,
    /// QUIT
    Quit,
    /// CLIENT …
    Client(ClientCommand),
    /// INFO, if it asks for the proxy's own section.
    Info,
    /// ACL WHOAMI
    WhoAmI,
}

/// CLIENT's subcommands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ClientCommand {
    Id,
    GetName,
    SetName,
    SetInfo,
    Info,
    List,
    Kill,
    Reply,
    NoEvict,
    NoTouch,
    Unblock,
    Pause,
    Unpause,
    Tracking,
    Caching,
    TrackingInfo,
    GetRedir,
    Unsupported,
}

/// MULTI and what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TransactionCommand {
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
}

/// Does a command's name, its first word, alone tell what it does and where it goes, whatever its arguments are? So it is
/// with most.
pub fn is_told_by_name(spec: &Spec) -> bool {
    matches!(spec.shape, Shape::Plain | Shape::Set)
        && matches!(spec.kind, Kind::Read | Kind::Write)
        && !spec.container
        && !spec.name.contains('|')
}

/// Decides about a known command that the instance does not refuse.
pub fn route<A: Args + ?Sized>(spec: &Spec, effect: &Effect, args: &A) -> Route {
    match &*spec.name {
        "info" if args.position(1, INFO_SECTION).is_some() => return Route::Session(SessionCommand::Info),
        // In a lane they would stand behind the script that they are to end, or tell about.
        "script|kill" | "function|kill" | "function|stats" => return Route::Aside,
        "client|pause" | "client|unpause" => return connection(spec),
        "acl|whoami" => return Route::Session(SessionCommand::WhoAmI),
        _ => {}
    }
    match effect.kind {
        Kind::Read | Kind::ScriptRead => Route::Order(read(spec, effect, args)),
        Kind::KeyspaceRead => Route::Order(match &*spec.name {
            "scan" => Path::KeyspaceScan(args.arg(1).and_then(parse_cursor).unwrap_or(0)),
            _ => Path::Default,
        }),
        Kind::Write | Kind::KeyspaceWrite | Kind::ServerWrite | Kind::Script | Kind::Publish => {
            Route::Order(Path::Write)
        }
        Kind::Blocking => Route::Block,
        Kind::PubSub => Route::Subscribe,
        Kind::Connection => connection(spec),
        Kind::Transaction => transaction(spec),
        Kind::Monitor => Route::Monitor,
        Kind::Takeover => Route::Refuse,
        Kind::Admin | Kind::Dangerous => Route::Order(Path::Default),
    }
}

fn read<A: Args + ?Sized>(spec: &Spec, effect: &Effect, args: &A) -> Path {
    match &*spec.name {
        "hscan" | "sscan" | "zscan" => {
            let cursor = args.arg(2).and_then(parse_cursor).unwrap_or(0);
            Path::Scan(cursor, Miss::ScanEmpty)
        }
        _ => Path::Read(effect.miss),
    }
}

fn connection(spec: &Spec) -> Route {
    use ClientCommand as C;
    Route::Session(match &*spec.name {
        "select" => SessionCommand::Select,
        "auth" => SessionCommand::Auth,
        "hello" => SessionCommand::Hello,
        "reset" => SessionCommand::Reset,
        "quit" => SessionCommand::Quit,
        "client|id" => SessionCommand::Client(C::Id),
        "client|getname" => SessionCommand::Client(C::GetName),
        "client|setname" => SessionCommand::Client(C::SetName),
        "client|setinfo" => SessionCommand::Client(C::SetInfo),
        "client|info" => SessionCommand::Client(C::Info),
        "client|list" => SessionCommand::Client(C::List),
        "client|kill" => SessionCommand::Client(C::Kill),
        "client|reply" => SessionCommand::Client(C::Reply),
        "client|no-evict" => SessionCommand::Client(C::NoEvict),
        "client|no-touch" => SessionCommand::Client(C::NoTouch),
        "client|unblock" => SessionCommand::Client(C::Unblock),
        "client|trackinginfo" => SessionCommand::Client(C::TrackingInfo),
        "client|getredir" => SessionCommand::Client(C::GetRedir),
        "client|pause" => SessionCommand::Client(C::Pause),
        "client|unpause" => SessionCommand::Client(C::Unpause),
        "client|tracking" => SessionCommand::Client(C::Tracking),
        "client|caching" => SessionCommand::Client(C::Caching),
        "client|capa" | "client|import-source" => SessionCommand::Client(C::Unsupported),
        _ => return Route::Order(Path::Default),
    })
}

fn transaction(spec: &Spec) -> Route {
    Route::Transaction(match &*spec.name {
        "multi" => TransactionCommand::Multi,
        "exec" => TransactionCommand::Exec,
        "discard" => TransactionCommand::Discard,
        "watch" => TransactionCommand::Watch,
        _ => TransactionCommand::Unwatch,
    })
}

/// What a request is counted as.
pub fn request_kind(effect: &Effect) -> RequestKind {
    match effect.kind {
        Kind::Read | Kind::ScriptRead | Kind::KeyspaceRead => RequestKind::Read,
        Kind::Write | Kind::KeyspaceWrite | Kind::ServerWrite | Kind::Script => RequestKind::Write,
        Kind::Blocking => RequestKind::Blocking,
        Kind::PubSub | Kind::Publish => RequestKind::Pubsub,
        Kind::Connection => RequestKind::Connection,
        Kind::Transaction => RequestKind::Transaction,
        Kind::Monitor | Kind::Admin | Kind::Dangerous | Kind::Takeover => RequestKind::Admin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Table, classify};

    #[test]
    fn what_the_name_alone_tells_no_argument_changes() {
        let words =
            ["0", "1", "MATCH", "multistore", "INCR", "GET", "STORE", "BLOCK", "WITHSCORES", "DB", "NX"];
        let table = Table::builtin();
        let mut told = 0;
        for (_, spec) in table.iter().filter(|(_, spec)| is_told_by_name(spec)) {
            told += 1;
            let judge = |args: &[&str]| {
                let effect = classify(spec, args);
                (effect, route(spec, &effect, args))
            };
            let alone = judge(&[&*spec.name]);
            for (first, second) in words.iter().flat_map(|first| words.map(|second| (first, second))) {
                assert_eq!(
                    judge(&[&*spec.name, "key", first, second]),
                    alone,
                    "{} {first} {second}",
                    spec.name
                );
                assert_eq!(judge(&[&*spec.name, first, second]), alone, "{} {first} {second}", spec.name);
            }
        }
        assert!(told > 100, "{told}");
        let is_told = |name: &str| table.by_name(name).is_some_and(|id| is_told_by_name(table.spec(id)));
        assert!(is_told("get") && is_told("set"));
        assert!(
            !is_told("object|encoding")
                && !is_told("hscan")
                && !is_told("sort")
                && !is_told("info")
                && !is_told("scan")
        );
    }
}
