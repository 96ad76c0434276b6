//! What a lane says and learns before it carries requests.
//!
//! The order matters: who we are (AUTH), which protocol versions there are (HELLO), what we are
//! called (CLIENT SETNAME), that no predecessor still writes (CLIENT KILL, awaited), which server
//! this is (INFO), and that it is ready to serve (PING).

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::command::LiveCommand;
use crate::config::StoreConfig;
use crate::metrics::StoreErrorKind;
use crate::sequencer::OutOfStep;
use crate::sequencer::lane::DownReason;
use crate::stage::StoreId;

use super::connection::{Connection, ConnectionError, Endpoint, Socket};
use super::recognise::Place;
use super::{info, sentinel};

/// What a server says that is not ready to serve, and will be: clients are told the same.
const NOT_YET: [&str; 3] = ["LOADING ", "MASTERDOWN ", "BUSY "];

/// Which server a store turned out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `run_id` of INFO: changes with every start of the server.
    pub run_id: String,
    /// `redis_version`.
    pub version: String,
    /// `master_replid`: the history of its data.
    pub replication_id: String,
    /// `master_repl_offset`: how far that is; stands still while nobody has ever followed it.
    pub offset: u64,
    /// `master_replid2`: the history that it has taken over.
    pub previous_id: String,
    /// How far it has taken that over.
    pub previous_until: u64,
    /// `role`.
    pub role: String,
    /// How many keys there are: in the database that is shown, else in all of them.
    pub keys: u64,
    /// Where it is.
    pub place: Place,
}

/// A connection that is ready to carry requests.
pub struct Ready {
    /// The socket.
    pub socket: Socket,
    /// Where it leads.
    pub endpoint: Endpoint,
    /// Which server it leads to.
    pub identity: Identity,
    /// The connection's CLIENT ID, where the server tells.
    pub client_id: Option<i64>,
    /// The server's replies to HELLO 2 and HELLO 3, byte for byte.
    pub hello: [Vec<u8>; 2],
    /// Does it speak RESP3?
    pub has_resp3: bool,
    /// Its COMMAND, when asked for.
    pub commands: Vec<LiveCommand>,
    /// Why a predecessor could not be ended: what it has sent may be executed behind newer writes.
    pub haunted: Option<String>,
}

/// May this server be taken for the store?
pub type Admit<'a> = dyn Fn(&Identity) -> Result<(), DownReason> + 'a;

/// What is to be said.
pub struct Plan<'a> {
    /// Where to, as whom.
    pub config: &'a StoreConfig,
    /// Bounds connecting and every single answer.
    pub timeout: Duration,
    /// The connection's name.
    pub name: &'a str,
    /// How connections of clients' own are called.
    pub own_name: &'a str,
    /// The CLIENT ID of the predecessor in this process; without one, every connection of our names is ended.
    pub predecessor: Option<i64>,
    /// CLIENT IDs of other connections that may still have something to be executed.
    pub given_up: &'a [i64],
    /// Is COMMAND wanted?
    pub commands: bool,
    /// Where the store is by its URL.
    pub place: Place,
    /// Asked before anything is done to the server, where it may be somebody else's.
    pub admit: Option<&'a Admit<'a>>,
}

// === impl Identity ===

impl Identity {
    /// Does the state file say the same of both?
    pub fn is_recorded_as(&self, other: &Identity) -> bool {
        (&self.run_id, &self.replication_id, &self.place)
            == (&other.run_id, &other.replication_id, &other.place)
    }
}

// === impl Plan ===

impl Plan<'_> {
    /// Connects and shakes hands.
    pub async fn run(&self) -> Result<Ready, DownReason> {
        let endpoint = locate(self.config, self.timeout).await.map_err(unreachable)?;
        let mut connection = Connection::open(&endpoint, self.timeout).await.map_err(unreachable)?;
        authenticate(&mut connection, self.config).await?;
        let hello3 = connection.call_raw(&["HELLO", "3"]).await.map_err(unreachable)?;
        let hello2 = connection.call_raw(&["HELLO", "2"]).await.map_err(unreachable)?;
        let has_resp3 = hello3.first() == Some(&b'%') && hello2.first() == Some(&b'*');
        if let Some(admit) = self.admit {
            // One that is still loading would tell of fewer keys than it has.
            ask_ready(&mut connection).await?;
            admit(&identify(&mut connection, &self.place).await?)?;
        }
        let (client_id, haunted) = self.introduce(&mut connection).await?;
        ask_ready(&mut connection).await?;
        let identity = identify(&mut connection, &self.place).await?;
        let follows = matches!(self.config.endpoint, crate::config::Endpoint::Sentinel(_));
        if follows && identity.role != "master" {
            return Err(DownReason {
                kind: StoreErrorKind::Refused,
                text: format!(
                    "{endpoint}, where the sentinels say that the master is, is a {}",
                    identity.role
                ),
                store_error: None,
            });
        }
        let commands = match self.commands {
            true => LiveCommand::list(&connection.call_raw(&["COMMAND"]).await.map_err(unreachable)?),
            false => Vec::new(),
        };
        prove_in_step(&mut connection).await?;
        let (socket, unread) = connection.into_parts();
        if !unread.is_empty() {
            return Err(out_of_step());
        }
        Ok(Ready {
            socket,
            endpoint,
            identity,
            client_id,
            hello: [hello2, hello3],
            has_resp3,
            commands,
            haunted,
        })
    }

    /// Names the connection and ends its predecessors. Its CLIENT ID, and the store's error where one was not ended.
    async fn introduce(
        &self,
        connection: &mut Connection,
    ) -> Result<(Option<i64>, Option<String>), DownReason> {
        let named = connection.call(&["CLIENT", "SETNAME", self.name]).await.map_err(unreachable)?;
        let id = connection.call(&["CLIENT", "ID"]).await.map_err(unreachable)?.as_i64();
        let mut victims: Vec<i64> = self.predecessor.into_iter().collect();
        if self.predecessor.is_none() && named.is_ok() {
            let list = connection.call(&["CLIENT", "LIST"]).await.map_err(unreachable)?;
            let list = list.as_bytes().unwrap_or_default();
            victims = [self.name, self.own_name].iter().flat_map(|name| namesakes(list, name, id)).collect();
        }
        victims.extend_from_slice(self.given_up);
        let mut haunted = None;
        for victim in victims.into_iter().filter(|victim| Some(*victim) != id) {
            let victim = victim.to_string();
            let killed = connection.call(&["CLIENT", "KILL", "ID", &victim]).await.map_err(unreachable)?;
            haunted = haunted.or(killed.error_text().map(Cow::into_owned));
        }
        Ok((id, haunted))
    }
}

/// How the lane of `store` is called.
pub fn lane_name(instance: &str, store: StoreId) -> String {
    format!("multistore:{instance}:{store}")
}

/// How connections of clients' own to `store` are called.
pub fn own_name(instance: &str, store: StoreId) -> String {
    format!("multistore-own:{instance}:{store}")
}

/// Where the store is now: its address, or what the sentinels say.
pub async fn locate(config: &StoreConfig, within: Duration) -> Result<Endpoint, ConnectionError> {
    let tls = config.tls.as_ref();
    match &config.endpoint {
        crate::config::Endpoint::Tcp(address) => Ok(sentinel::tcp(&address.host, address.port, tls)),
        crate::config::Endpoint::Unix(path) => Ok(Endpoint::Unix(path.clone())),
        crate::config::Endpoint::Sentinel(address) => {
            sentinel::master(address, config.sentinel.as_ref(), tls, within).await
        }
    }
}

/// Sends AUTH where the configuration has a password.
pub async fn authenticate(connection: &mut Connection, config: &StoreConfig) -> Result<(), DownReason> {
    let Some(password) = &config.password else { return Ok(()) };
    let reply = match &config.username {
        Some(user) => connection.call(&["AUTH", user, password.expose()]).await,
        None => connection.call(&["AUTH", password.expose()]).await,
    };
    match reply.map_err(unreachable)?.error_text() {
        None => Ok(()),
        Some(error) => Err(refused("AUTH", &error)),
    }
}

fn unreachable(error: ConnectionError) -> DownReason {
    DownReason { kind: StoreErrorKind::Connect, text: error.to_string(), store_error: None }
}

fn refused(command: &str, error: &str) -> DownReason {
    DownReason {
        kind: StoreErrorKind::Handshake,
        text: format!("{command} was refused: {error}"),
        store_error: None,
    }
}

async fn ask_ready(connection: &mut Connection) -> Result<(), DownReason> {
    let pong = connection.call(&["PING"]).await.map_err(unreachable)?;
    match pong.error_text() {
        None => Ok(()),
        Some(error) if NOT_YET.iter().any(|code| error.starts_with(code)) => Err(DownReason {
            kind: StoreErrorKind::Refused,
            text: error.to_string(),
            store_error: Some(error.into_owned()),
        }),
        Some(error) => Err(refused("PING", &error)),
    }
}

/// What has been learned belongs to what was asked, or this answer would be another one.
async fn prove_in_step(connection: &mut Connection) -> Result<(), DownReason> {
    let proof = format!("multistore-hello-{:016x}", RandomState::new().hash_one(0));
    let answer = connection.call(&["ECHO", &proof]).await.map_err(unreachable)?;
    if answer.as_bytes() == Some(proof.as_bytes()) { Ok(()) } else { Err(out_of_step()) }
}

fn out_of_step() -> DownReason {
    DownReason { kind: StoreErrorKind::OutOfStep, text: OutOfStep.to_string(), store_error: None }
}

async fn identify(connection: &mut Connection, place: &Place) -> Result<Identity, DownReason> {
    let told = connection.call(&["INFO"]).await.map_err(unreachable)?;
    let text = String::from_utf8_lossy(told.as_bytes().unwrap_or_default()).into_owned();
    let field = |name: &str| info::field(&text, name).to_owned();
    let database = place.database;
    if let Some(database) = database {
        let selected = connection.call(&["SELECT", &database.to_string()]).await.map_err(unreachable)?;
        if let Some(error) = selected.error_text() {
            return Err(refused(&format!("SELECT {database}"), &error));
        }
    }
    let size = connection.call(&["DBSIZE"]).await.map_err(unreachable)?;
    Ok(Identity {
        run_id: field("run_id"),
        version: field("redis_version"),
        replication_id: field("master_replid"),
        offset: field("master_repl_offset").parse().unwrap_or(0),
        previous_id: field("master_replid2"),
        // -1 without one; else the first offset that is not part of it.
        previous_until: field("second_repl_offset").parse::<u64>().map_or(0, |first| first.saturating_sub(1)),
        role: field("role"),
        keys: info::keys(&text, Some(&size), database).unwrap_or(0),
        place: place.clone(),
    })
}

/// The IDs of connections that bear `name`, other than `own`, in the reply to CLIENT LIST.
fn namesakes(list: &[u8], name: &str, own: Option<i64>) -> Vec<i64> {
    let text = String::from_utf8_lossy(list);
    text.lines()
        .filter(|line| line.split(' ').any(|field| field.strip_prefix("name=") == Some(name)))
        .filter_map(|line| line.split(' ').find_map(|field| field.strip_prefix("id=")?.parse().ok()))
        .filter(|id| Some(*id) != own)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::namesakes;

    #[test]
    fn only_namesakes_are_ended() {
        let list = b"id=3 addr=127.0.0.1:1 name=multistore:a:primary db=0\n\
            id=4 addr=127.0.0.1:2 name= db=0\nid=5 addr=127.0.0.1:3 name=multistore:a:primary db=0\n\
            id=6 name=multistore:ab:primary\n";
        assert_eq!(namesakes(list, "multistore:a:primary", Some(5)), [3]);
    }
}
