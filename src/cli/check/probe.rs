//! Does a store answer? One connection, made for a person who waits for it.

use std::time::Duration;

use crate::config::StoreConfig;
use crate::resp::value::OwnedValue;
use crate::store::connection::{Connection, ConnectionError, plain_hint};
use crate::store::handshake::locate;
use crate::store::info;

/// A store that has answered.
#[derive(Debug)]
pub struct Answered {
    /// The `run_id` of the server; empty: it does not tell.
    pub run_id: String,
    /// How many keys there are, if it tells: in the database that the URL names, else in all of them.
    pub keys: Option<u64>,
}

/// Connects, logs in, selects the database, sends PING, and asks which server it is and how many keys it holds.
pub fn probe(store: &StoreConfig, connect: Duration, reply: Duration) -> Result<Answered, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(converse(store, connect, reply))
}

async fn converse(store: &StoreConfig, connect: Duration, reply: Duration) -> Result<Answered, String> {
    let unreachable = |error| format!("cannot be reached: {}", cause(error));
    let endpoint = locate(store, connect).await.map_err(unreachable)?;
    let mut connection = Connection::open(&endpoint, connect).await.map_err(unreachable)?;
    connection.set_timeout(reply);
    if let Some(password) = &store.password {
        let user = store.username.as_deref();
        let arguments: Vec<&str> = ["AUTH"].into_iter().chain(user).chain([password.expose()]).collect();
        ask(&mut connection, &arguments).await.map_err(|answer| format!("refuses the login: {answer}"))?;
    }
    // A connection begins in database 0.
    if let Some(database) = store.database.filter(|database| *database > 0) {
        let select = ["SELECT", &database.to_string()];
        ask(&mut connection, &select)
            .await
            .map_err(|answer| format!("refuses database {database}: {answer}"))?;
    }
    ask(&mut connection, &["PING"]).await.map_err(|answer| format!("doesn't answer PING: {answer}"))?;
    let told = connection.call(&["INFO"]).await.ok();
    let text = String::from_utf8_lossy(told.as_ref().and_then(OwnedValue::as_bytes).unwrap_or_default())
        .into_owned();
    let size = connection.call(&["DBSIZE"]).await.ok();
    let keys = info::keys(&text, size.as_ref(), store.database);
    Ok(Answered { run_id: info::field(&text, "run_id").to_owned(), keys })
}

async fn ask(connection: &mut Connection, arguments: &[&str]) -> Result<(), String> {
    let answer = connection.call(arguments).await.map_err(cause)?;
    match answer.error_text() {
        None => Ok(()),
        Some(error) => Err(error.into_owned()),
    }
}

/// What went wrong, without the store's address, which the reader has in front of them.
fn cause(error: ConnectionError) -> String {
    match error {
        ConnectionError::Connect { source, .. } | ConnectionError::Io { source, .. } => source.to_string(),
        ConnectionError::Closed { .. } => "it closed the connection".to_owned(),
        ConnectionError::Mute { endpoint } => {
            format!("it closed the connection without any reply{}", plain_hint(&endpoint))
        }
        ConnectionError::Timeout { after, .. } => format!("no answer within {after:?}"),
        ConnectionError::Protocol { source, .. } => format!("it does not speak the Redis protocol: {source}"),
        other => other.to_string(),
    }
}
