//! A worker's connection: made again when it fails, as a driver does, and every failure counted.

use super::super::book::Book;
use super::super::old_data::Words;
use crate::resp::value::OwnedValue;
use crate::store::connection::{Connection, Endpoint};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How long a worker waits for one answer; longer than its blocking commands block.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failure, so that a dead proxy is not called a million times.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// One worker at the proxy.
pub(super) struct Client {
    /// The worker's number.
    pub(super) number: usize,
    /// Where it writes what it sees.
    pub(super) book: Arc<Book>,
    proxy: Endpoint,
    connection: Option<Connection>,
}

// === impl Client ===

impl Client {
    pub(super) fn new(number: usize, proxy: Endpoint, book: Arc<Book>) -> Client {
        Client { number, book, proxy, connection: None }
    }

    /// One command; `None` when the answer was an error, which is in the book then.
    pub(super) async fn call(&mut self, words: &[&str]) -> Option<OwnedValue> {
        let command = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        self.words(&command).await
    }

    /// One command that is already in words.
    pub(super) async fn words(&mut self, command: &Words) -> Option<OwnedValue> {
        self.pipeline(std::slice::from_ref(command)).await.and_then(|replies| replies.into_iter().next())
    }

    /// Commands in one write; `None` when any answer was an error, which is in the book then.
    pub(super) async fn pipeline(&mut self, commands: &[Words]) -> Option<Vec<OwnedValue>> {
        self.book.requests(commands.len());
        match self.exchange(commands).await {
            Ok(replies) => self.without_errors(commands, replies),
            Err(error) => {
                self.connection = None;
                self.book.error(format!("worker {}: {}: {error}", self.number, name(commands.first())));
                sleep(AFTER_FAILURE).await;
                None
            }
        }
    }

    async fn exchange(&mut self, commands: &[Words]) -> Result<Vec<OwnedValue>, String> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let opened = Connection::open(&self.proxy, ANSWER_TIMEOUT).await;
                none.insert(opened.map_err(|error| error.to_string())?)
            }
        };
        connection.pipeline(commands).await.map_err(|error| error.to_string())
    }

    fn without_errors(&self, commands: &[Words], replies: Vec<OwnedValue>) -> Option<Vec<OwnedValue>> {
        let mut clean = true;
        for (command, reply) in commands.iter().zip(&replies) {
            if let Some(text) = reply.error_text() {
                self.book.error(format!("worker {}: {}: {text}", self.number, name(Some(command))));
                clean = false;
            }
        }
        clean.then_some(replies)
    }
}

fn name(command: Option<&Words>) -> String {
    let first = command.and_then(|words| words.first());
    first.map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default()
}
