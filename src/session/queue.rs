//! Commands of an open transaction: queued for the store, or kept for the session to answer at EXEC.

use crate::command::{Args, Kind, Rule};
use crate::config::Auth;
use crate::metrics::ClientErrorKind;
use crate::mirror::Way;
use crate::resp::request::Request;
use crate::resp::{Proto, encode};
use crate::route::{ClientCommand, Route, SessionCommand};

use super::asked::Asked;
use super::auth::gives_password;
use super::request::refusal;
use super::select::parse_db;
use super::transaction::{Change, Multi, Own};
use super::writes::{expiry, scope};
use super::{Owned, Session, Task};

// === impl Session ===

impl Session {
    /// Queues a command of an open transaction.
    pub(super) fn queue(&mut self, asked: &Asked<'_>) -> Option<Task> {
        if let Some(error) = self.not_in_multi(asked) {
            self.reject(asked.route, error);
            return None;
        }
        let seq = self.owe();
        let Asked { request, id, spec, effect, route } = asked;
        if let Route::Session(command) = route {
            self.queue_session(*command, request, seq);
            return None;
        }
        let replicates = self.may_replicate(asked);
        let selected = self.multi.as_ref().and_then(|multi| multi.selects);
        let footprint = self.footprint_in(selected.unwrap_or(self.state.db), spec, effect, request);
        let told = self.instance.core_mut().way(*id, effect.writes, request);
        let reach = scope(spec, effect, &footprint, told);
        let Some(multi) = &mut self.multi else { return None };
        // A look at the keyspace has its place in the order like any command: it makes nobody doubt every key.
        if effect.kind != Kind::KeyspaceRead {
            multi.touch(footprint);
        }
        multi.writes |= effect.writes || effect.kind == Kind::Publish;
        multi.runs_scripts |= spec.kind == Kind::Script;
        multi.replicates |= replicates;
        multi.reaches(reach);
        multi.expiry = multi.expiry.with(expiry(spec, request, told));
        multi.ways.push(told.way);
        // MONITOR changes the connection that runs it, where a server lets it in a transaction.
        multi.private |= *route == Route::Monitor;
        multi.queue(request.frame, seq, effect.rule);
        self.io.info.borrow_mut().queued += 1;
        None
    }

    /// Queues a command about the connection: none of them is for a lane.
    fn queue_session(&mut self, command: SessionCommand, request: &Request<'_>, seq: u64) {
        let single_db = self.instance.single_db();
        let whoami = self.whoami();
        let Some(multi) = &mut self.multi else { return };
        multi.private = true;
        multi.ways.push(Way::Nothing);
        match command {
            SessionCommand::Client(command) => {
                let args = request.iter().map(<[u8]>::to_vec).collect();
                multi.queue_own(Own::Client(command, args), request.frame.len(), seq);
            }
            SessionCommand::WhoAmI => multi.queue_own(Own::Reply(whoami), request.frame.len(), seq),
            SessionCommand::Select => match parse_db(request, single_db) {
                Ok(_) if single_db => {
                    multi.queue_own(Own::Reply(encode::OK.to_vec()), request.frame.len(), seq)
                }
                Ok(db) => {
                    multi.select(self.state.db, db);
                    multi.changes.push((multi.queued(), Change::Db(db)));
                    multi.queue(request.frame, seq, Rule::Exact);
                }
                Err(error) => {
                    let mut reply = Vec::new();
                    encode::error(&mut reply, error);
                    multi.queue_own(Own::Reply(reply), request.frame.len(), seq);
                }
            },
            _ => {
                if let Some(proto) = hello_version(command, request) {
                    multi.changes.push((multi.queued(), Change::Proto(proto)));
                }
                multi.queue_private(request.frame, seq);
            }
        }
        self.io.info.borrow_mut().queued += 1;
    }

    /// Why a command cannot be part of a transaction.
    fn not_in_multi(&self, asked: &Asked<'_>) -> Option<Vec<u8>> {
        use ClientCommand as C;
        let Asked { request, spec, .. } = asked;
        match asked.route {
            Route::Subscribe => {
                Some(b"MULTISTORE subscribing inside a transaction is not supported".to_vec())
            }
            Route::Refuse => Some(refusal(spec).into_bytes()),
            // It would run on a connection to the store, past the proxy's users and past what makes guessing slow.
            Route::Session(command)
                if gives_password(command, request) && self.instance.config_ref().auth != Auth::None =>
            {
                Some(b"MULTISTORE giving a password inside a transaction is not supported".to_vec())
            }
            Route::Session(SessionCommand::Client(command))
                if matches!(command, C::Reply | C::Tracking | C::Caching | C::Unsupported)
                    || (command == C::TrackingInfo && self.tracking.is_some()) =>
            {
                let name = spec.name.replace('|', " ").to_uppercase();
                Some(format!("MULTISTORE {name} inside a transaction is not supported").into_bytes())
            }
            _ if self.multi.as_ref().is_some_and(|multi| !multi.has_room(request.frame, &self.limits)) => {
                self.instance.metrics.client_errors[ClientErrorKind::RequestLimit].inc();
                Some(b"MULTISTORE the transaction is larger than max_request".to_vec())
            }
            _ => self.single_db_error(spec, request),
        }
    }

    pub(super) fn begin_multi(&mut self, request: &Owned) {
        let seq = request.seq;
        if self.multi.is_some() {
            self.answer_queued();
            self.pay_error(seq, "ERR MULTI calls can not be nested");
        } else {
            self.multi = Some(Box::new(Multi::begin(&request.frame, seq)));
            self.io.info.borrow_mut().queued = 0;
        }
    }
}

/// The protocol that a queued HELLO asks for.
fn hello_version(command: SessionCommand, request: &Request<'_>) -> Option<Proto> {
    match request.int(1) {
        Some(2) if command == SessionCommand::Hello => Some(Proto::Resp2),
        Some(3) if command == SessionCommand::Hello => Some(Proto::Resp3),
        _ => None,
    }
}
