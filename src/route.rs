//! Pure: what is to be done with a request, from the command and its arguments alone.
//!
//! The decision is made once; nothing later looks at the command again to find its way.

use crate::command::{Args, Effect, Kind, Miss, Spec};
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

/// Decides about a known command. `refused`: the instance's list names it.
pub fn route<A: Args + ?Sized>(spec: &Spec, effect: &Effect, args: &A, refused: bool) -> Route {
    if refused {
        return Route::Refuse;
    }
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
