//! SELECT, RESET, QUIT and the commands of a transaction, as far as they need not wait.

use std::borrow::Cow;

use crate::command::Args;
use crate::resp::Proto;
use crate::resp::encode;
use crate::route::{SessionCommand, TransactionCommand};
use crate::sequencer::Transaction;
use crate::sequencer::lane::Context;
use crate::sequencer::op::Part;

use super::state::State;
use super::transaction::Multi;
use super::{Gone, Owned, Session, Task};

const OUT_OF_RANGE: &str = "ERR DB index is out of range";
const EXEC_ABORT: &str = "EXECABORT Transaction discarded because of previous errors.";

/// The database that SELECT names.
pub(super) fn parse_db<A: Args + ?Sized>(args: &A, single_db: bool) -> Result<u32, String> {
    let Some(index) = args.int(1) else {
        return Err("ERR value is not an integer or out of range".to_owned());
    };
    let Ok(index) = i32::try_from(index) else {
        return Err(format!("ERR value is out of range, value must between {} and {}", i32::MIN, i32::MAX));
    };
    let db = u32::try_from(index).ok().filter(|db| *db == 0 || !single_db);
    db.ok_or_else(|| OUT_OF_RANGE.to_owned())
}

// === impl Session ===

impl Session {
    /// A command that the session answers itself. `request.seq` is owed.
    pub(super) fn session_command(&mut self, command: SessionCommand, request: Owned) -> Option<Task> {
        match command {
            SessionCommand::Select => self.select(request),
            SessionCommand::Auth => Some(Task::Authenticate(request)),
            SessionCommand::Hello => self.hello(request),
            SessionCommand::Reset => {
                self.reset(request.seq);
                None
            }
            SessionCommand::Quit => {
                self.pay(request.seq, encode::OK);
                self.closing = true;
                None
            }
            SessionCommand::Client(command) => self.client_command(command, request),
            SessionCommand::Info => Some(Task::Info(request)),
            SessionCommand::WhoAmI => {
                let reply = self.whoami();
                self.pay(request.seq, &reply);
                None
            }
        }
    }

    fn select(&mut self, request: Owned) -> Option<Task> {
        let db = match parse_db(request.args.as_slice(), self.instance.single_db()) {
            Ok(db) => db,
            Err(error) => {
                self.pay_error(request.seq, error);
                return None;
            }
        };
        let known = {
            let core = self.instance.core();
            db == self.state.db || core.lane(core.default_store()).is_usable(db)
        };
        if !known {
            return Some(Task::Select(request));
        }
        self.selected(db);
        self.pay(request.seq, encode::OK);
        None
    }

    pub(super) fn selected(&mut self, db: u32) {
        self.state.db = db;
        self.io.info.borrow_mut().db = db;
    }

    /// A database is used only after the store has answered for it.
    pub(super) async fn select_unknown(&mut self, request: Owned) -> Result<(), Gone> {
        let Some(db) = request.args.as_slice().int(1).and_then(|db| u32::try_from(db).ok()) else {
            return Ok(());
        };
        let context = Context { db, proto: self.state.proto };
        match self.ask(context, request.command, &[b"PING"]).await? {
            Ok(reply) if reply.first() == Some(&b'-') => self.pay(request.seq, &reply),
            Ok(_) => {
                self.selected(db);
                self.pay(request.seq, encode::OK);
            }
            Err(error) => self.pay(request.seq, &error),
        }
        Ok(())
    }

    fn reset(&mut self, seq: u64) {
        let needs_auth = self.instance.config_ref().auth != crate::config::Auth::None;
        self.tracking = None;
        self.abort_multi();
        self.subscriber = None;
        // RESET ends CLIENT REPLY OFF before it answers.
        if self.state.replies_are_off() {
            self.instance.core_mut().clients.unmute(self.key, seq);
        }
        self.state = State::new(!needs_auth);
        self.io.authenticated.set(!needs_auth);
        self.limits.unauthenticated = needs_auth;
        let mut info = self.io.info.borrow_mut();
        info.name.clear();
        info.user = b"default".to_vec();
        info.db = 0;
        info.proto = Proto::Resp2;
        info.subscriptions = [0; 3];
        info.no_evict = false;
        info.no_touch = false;
        info.tracking = None;
        drop(info);
        self.pay(seq, b"+RESET\r\n");
    }

    // --- MULTI, EXEC, DISCARD, WATCH, UNWATCH ---

    /// `request.seq` is owed.
    pub(super) fn transaction_command(
        &mut self,
        command: TransactionCommand,
        request: Owned,
    ) -> Option<Task> {
        let seq = request.seq;
        match command {
            TransactionCommand::Multi => self.begin_multi(&request),
            TransactionCommand::Discard if self.multi.is_some() => {
                self.abort_multi();
                self.pay(seq, encode::OK);
            }
            TransactionCommand::Discard => self.pay_error(seq, "ERR DISCARD without MULTI"),
            TransactionCommand::Exec if self.multi.is_some() => return self.exec(request),
            TransactionCommand::Exec => self.pay_error(seq, "ERR EXEC without MULTI"),
            TransactionCommand::Watch if self.multi.is_some() => {
                self.answer_multi();
                self.pay_error(seq, "ERR WATCH inside MULTI is not allowed");
            }
            TransactionCommand::Watch => return Some(Task::Watch(request)),
            TransactionCommand::Unwatch if self.is_watching() => return Some(Task::Unwatch(request)),
            TransactionCommand::Unwatch => {
                self.unpin();
                self.pay(seq, encode::OK);
            }
        }
        None
    }

    fn exec(&mut self, request: Owned) -> Option<Task> {
        let seq = request.seq;
        if self.multi.as_ref().is_some_and(|multi| multi.dirty) {
            self.abort_multi();
            self.pay_error(seq, EXEC_ABORT);
            return None;
        }
        let apart = |multi: &Multi| multi.private || self.is_heavy(multi.frames.len());
        if self.pinned.is_some() || self.watch_lost || self.multi.as_deref().is_some_and(apart) {
            return Some(Task::PinnedExec(seq));
        }
        let mut multi = self.multi.take()?;
        self.io.info.borrow_mut().queued = -1;
        multi.frames.extend_from_slice(&request.frame);
        let command = request.command;
        multi.parts.push(Part { seq, answered: false, rule: crate::command::Rule::Exact });
        let bytes = multi.bytes();
        let mut core = self.instance.core_mut();
        core.submit_transaction(Transaction {
            client: self.key,
            parts: multi.parts,
            command,
            context: self.state.context(),
            frame: Cow::Borrowed(&multi.frames),
            footprint: multi.footprint,
            named: multi.named,
            writes: multi.writes,
            runs_scripts: multi.runs_scripts,
            ways: multi.ways,
            scope: multi.scope,
            expiry: multi.expiry,
        });
        core.is_held(self.key).then_some(Task::Held(bytes))
    }

    /// Ends the open transaction without running it.
    pub(super) fn abort_multi(&mut self) {
        self.answer_multi();
        self.multi = None;
        self.io.info.borrow_mut().queued = -1;
        self.unpin();
    }

    /// The client watches nothing any more.
    pub(super) fn unpin(&mut self) {
        self.watch_lost = false;
        match &mut self.tracking {
            None => self.pinned = None,
            Some(tracking) => tracking.unwatch |= self.pinned.as_ref().is_some_and(|loan| loan.watching),
        }
    }

    /// Does the client watch keys on its own connection?
    pub(super) fn is_watching(&self) -> bool {
        let unwatched = self.tracking.as_ref().is_some_and(|tracking| tracking.unwatch);
        !unwatched && self.pinned.as_ref().is_some_and(|loan| loan.watching)
    }

    /// Answers what the open transaction owes, in the store's stead.
    pub(super) fn answer_multi(&mut self) {
        if let Some(multi) = &mut self.multi {
            let mut core = self.instance.core_mut();
            multi.answer(|seq, reply| core.clients.pay(self.key, seq, reply));
        }
    }

    /// A request of the proxy's own to the default store, through its lane. `Err`: an error frame.
    pub(super) async fn ask(
        &mut self,
        context: Context,
        command: crate::command::CommandId,
        args: &[&[u8]],
    ) -> Result<Result<Vec<u8>, Vec<u8>>, Gone> {
        let store = self.instance.core().default_store();
        self.ask_store(store, context, command, args).await
    }

    /// A request of the proxy's own to one store, through its lane. `Err`: an error frame.
    pub(super) async fn ask_store(
        &mut self,
        store: crate::stage::StoreId,
        context: Context,
        command: crate::command::CommandId,
        args: &[&[u8]],
    ) -> Result<Result<Vec<u8>, Vec<u8>>, Gone> {
        let mut frame = Vec::new();
        encode::command(&mut frame, args);
        let answer = self.instance.core_mut().ask(store, context, command, &frame);
        self.instance.settle();
        match answer.await {
            Ok(Ok(reply)) => Ok(Ok(reply)),
            Ok(Err(failure)) => Ok(Err(self.instance.core().failure_frame(store, failure))),
            Err(_) => Err(Gone),
        }
    }
}
