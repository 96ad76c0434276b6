//! One request, from its bytes to its place in the order. Synchronous: nothing here waits.

use std::borrow::Cow;

use crate::command::errors::{unknown_command_error, unknown_subcommand_error, wrong_arity_error};
use crate::command::{Args, CommandId, Effect, Keys, Kind, Lookup, Spec, can_fill, classify, keys, other_db};
use crate::metrics::{ClientErrorKind, RequestKind};
use crate::mirror::Way;
use crate::resp::request::{Decoded, Decoder, ProtocolError, Request, RequestLimits};
use crate::resp::{Proto, encode};
use crate::route::{self, Route, SessionCommand, TransactionCommand};
use crate::sequencer::fence::{Footprint, KeyRef};
use crate::sequencer::{Path, Scope, Submission, hash_key};

use super::select::parse_db;
use super::transaction::{Change, Multi, Own};
use super::writes::{is_relative, scope, wider};
use super::{Owned, Session, Task};

/// Requests of one client that are taken in one turn before others have theirs.
const MAX_PER_TURN: usize = 1024;
/// What the proxy has encoded anew was within the client's limits when it came.
const OWN_LIMITS: RequestLimits = RequestLimits {
    max_bulk: usize::MAX,
    max_args: usize::MAX,
    max_inline: usize::MAX,
    max_request: usize::MAX,
    unauthenticated: false,
};

// === impl Session ===

impl Session {
    /// Processes the complete requests in `data`. Says how many bytes they took, and what to wait for.
    pub(super) fn consume(&mut self, data: &[u8]) -> (usize, Option<Task>) {
        let mut at = 0;
        let mut count = 0;
        self.io.active.set(std::time::Instant::now());
        let task = loop {
            let rest = data.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break None;
            }
            if count >= MAX_PER_TURN {
                break Some(Task::Yield);
            }
            let (len, task) = self.one(rest);
            at += len;
            count += 1;
            if task.is_some() || self.closing {
                break task;
            }
            if len == 0 || !self.may_take_more() {
                break None;
            }
        };
        self.answer_queued();
        self.instance.settle();
        (at, task)
    }

    fn may_take_more(&self) -> bool {
        let core = self.instance.core();
        let max = self.instance.config_ref().client_pipeline_max;
        core.clients.get(self.key).is_some_and(|client| client.owed() < max)
    }

    /// A client that goes no further than a queued command gets its QUEUED.
    fn answer_queued(&mut self) {
        if let Some(multi) = &mut self.multi {
            let mut core = self.instance.core_mut();
            multi.answer(|seq, reply| core.clients.pay(self.key, seq, reply));
        }
    }

    /// Decodes one frame and takes it. (0, None): more bytes are needed.
    fn one(&mut self, data: &[u8]) -> (usize, Option<Task>) {
        match self.decoder.decode(data, &self.limits) {
            Ok(Decoded::Incomplete) => (0, None),
            Ok(Decoded::Nothing { len }) => (len, None),
            Ok(Decoded::Request { len, canonical: true }) => {
                let decoder = std::mem::take(&mut self.decoder);
                let frame = data.get(..len).unwrap_or_default();
                let request = Request { frame, args: decoder.spans() };
                let task = self.request(&request, data.len() > len);
                self.decoder = decoder;
                (len, task)
            }
            Ok(Decoded::Request { len, canonical: false }) => {
                let request = Request { frame: data, args: self.decoder.spans() };
                let mut frame = Vec::new();
                request.encode(&mut frame);
                (len, self.encoded(&frame, data.len() > len))
            }
            Ok(Decoded::Inline { len }) => {
                let mut frame = Vec::new();
                encode::command(&mut frame, self.decoder.inline_args());
                (len, self.encoded(&frame, data.len() > len))
            }
            Err(error) => (data.len(), self.broken(&error)),
        }
    }

    /// Takes a request that the proxy has encoded itself.
    pub(super) fn encoded(&mut self, frame: &[u8], more: bool) -> Option<Task> {
        let mut decoder = Decoder::new();
        match decoder.decode(frame, &OWN_LIMITS) {
            Ok(Decoded::Request { len, .. }) => {
                let frame = frame.get(..len).unwrap_or_default();
                self.request(&Request { frame, args: decoder.spans() }, more)
            }
            _ => None,
        }
    }

    /// Bytes that are no request: everything owed is sent, then Redis's error, then the end.
    fn broken(&mut self, error: &ProtocolError) -> Option<Task> {
        let kind = match error {
            ProtocolError::TooBigRequest => ClientErrorKind::RequestLimit,
            _ => ClientErrorKind::Protocol,
        };
        self.instance.metrics.client_errors[kind].inc();
        self.answer_queued();
        if *error != ProtocolError::TooBigRequest {
            let seq = self.owe();
            self.pay_error(seq, error.text());
        }
        self.closing = true;
        None
    }

    /// Takes one canonical request. `more`: the client has sent further bytes already.
    fn request(&mut self, request: &Request<'_>, more: bool) -> Option<Task> {
        let table = self.instance.core().table.clone();
        let lookup = table.lookup(request);
        let Lookup::Command(id) = lookup else {
            return self.unknown(request, lookup, more);
        };
        let spec = table.spec(id);
        let effect = classify(spec, request);
        self.instance.metrics.requests[route::request_kind(&effect)].inc();
        let refused = {
            let config = self.instance.config_ref();
            !config.refuse.is_empty() && config.refuse.contains(&spec.name)
        };
        let route = route::route(spec, &effect, request, refused);
        self.io.last.set(Some(id));
        if self.is_special(route)
            && let Some(error) = self.rejection(request, id, spec, route)
        {
            self.reject(route, error);
            return None;
        }
        if self.instance.single_db()
            && let Some(frame) = self.confined(spec, request)
        {
            return self.encoded(&frame, more);
        }
        if self.multi.is_some() && queues(route) {
            return self.queue(request, id, spec, &effect, route);
        }
        let Route::Order(path) = route else {
            return self.dispatch(request, id, spec, &effect, route);
        };
        if let Some(error) = self.single_db_error(spec, request) {
            let seq = self.owe();
            self.pay_error(seq, error);
            return None;
        }
        if self.pinned.is_some() {
            return self.dispatch(request, id, spec, &effect, route);
        }
        if spec.name == "ping" && self.is_restricted() {
            return self.dispatch(request, id, spec, &effect, Route::Subscribe);
        }
        self.submit(request, id, spec, &effect, path, more)
    }

    /// Puts a request into the order.
    fn submit(
        &mut self,
        request: &Request<'_>,
        id: CommandId,
        spec: &Spec,
        effect: &Effect,
        path: Path,
        more: bool,
    ) -> Option<Task> {
        let seq = self.owe();
        let instance = self.instance.clone();
        let mut core = instance.core_mut();
        let dual = core.stage().is_dual();
        let (footprint, fills) = match (dual, path) {
            (true, _) => (self.footprint(spec, effect, request), fills(spec, effect, request)),
            // A cursor is one of its key, in every stage.
            (false, Path::Scan(..)) => (self.footprint(spec, effect, request), 0),
            (false, _) => (Footprint::Nothing, 0),
        };
        let alone = !more && core.clients.get(self.key).is_some_and(|client| client.owed() == 1);
        let writes = dual && path == Path::Write;
        let (way, scope) = match writes {
            true => {
                let told = core.way(id, request);
                (told.way, scope(spec, effect, &footprint, told.undeclared))
            }
            false => (Way::Nothing, Scope::Keys),
        };
        let relative = writes && is_relative(spec, request);
        core.submit(Submission {
            client: self.key,
            seq,
            command: id,
            path,
            rule: effect.rule,
            kind: route::request_kind(effect),
            context: self.state.context(),
            frame: Cow::Borrowed(request.frame),
            footprint,
            way,
            scope,
            relative,
            alone,
            fills,
        });
        core.is_held(self.key).then_some(Task::Held)
    }

    /// What a request touches. Leaves its keys in `self.keys`.
    pub(super) fn footprint(&mut self, spec: &Spec, effect: &Effect, request: &Request<'_>) -> Footprint {
        let listed = keys(spec, request, &mut self.keys);
        footprint(&self.keys, listed.is_ok(), spec, effect, request, self.state.db)
    }

    fn unknown(&mut self, request: &Request<'_>, lookup: Lookup, more: bool) -> Option<Task> {
        let table = self.instance.core().table.clone();
        self.instance.metrics.requests[RequestKind::Other].inc();
        if matches!(request.name(), name if name.eq_ignore_ascii_case(b"host:") || name.eq_ignore_ascii_case(b"post"))
        {
            // Redis ends such a client at once: somebody has made a browser talk to it.
            self.instance.metrics.client_errors[ClientErrorKind::Protocol].inc();
            self.io.broken.set(true);
            self.closing = true;
            return None;
        }
        let container = match lookup {
            Lookup::UnknownSubcommand(id) => Some(table.spec(id)),
            _ => None,
        };
        let is_client = container.is_some_and(|spec| spec.name == "client");
        if self.multi.is_some() || is_client || !self.state.authenticated {
            let text = match container {
                Some(container) => unknown_subcommand_error(container, request),
                None => unknown_command_error(request),
            };
            self.reject(Route::Order(Path::Default), text);
            return None;
        }
        if self.instance.core().stage().is_dual() {
            // With one store in use nothing is missing from the other.
            self.instance.metrics.method_missing.inc_other();
        }
        let any = table.by_name("ping")?;
        let spec = table.spec(any);
        let effect = Effect { kind: Kind::Admin, writes: false, ..classify(spec, request) };
        self.submit(request, any, spec, &effect, Path::Default, more)
    }

    /// Everything that is not simply put into the order.
    fn dispatch(
        &mut self,
        request: &Request<'_>,
        id: CommandId,
        spec: &Spec,
        effect: &Effect,
        route: Route,
    ) -> Option<Task> {
        let seq = self.owe();
        let owned = || Owned {
            frame: request.frame.to_vec(),
            args: request.iter().map(<[u8]>::to_vec).collect(),
            command: id,
            effect: *effect,
            seq,
        };
        match route {
            Route::Session(command) => self.session_command(command, owned()),
            Route::Transaction(command) => self.transaction_command(command, owned()),
            Route::Refuse => {
                self.refuse(spec, seq);
                None
            }
            _ if self.pinned.is_some() && matches!(route, Route::Order(_)) => Some(Task::Pinned(owned())),
            Route::Aside => Some(Task::Aside(owned())),
            Route::Block => Some(Task::Block(owned())),
            Route::Subscribe => Some(Task::Subscribe(owned())),
            Route::Monitor => Some(Task::Monitor(owned())),
            Route::Order(_) => Some(Task::Pinned(owned())),
        }
    }

    fn refuse(&self, spec: &Spec, seq: u64) {
        self.instance.metrics.client_errors[ClientErrorKind::Refused].inc();
        self.pay_error(seq, refusal(spec));
    }

    // --- what is judged before it is run ---

    /// Does the proxy judge a request before a store sees it?
    fn is_special(&self, route: Route) -> bool {
        !matches!(route, Route::Order(_))
            || self.multi.is_some()
            || self.subscriber.is_some()
            || self.pinned.is_some()
            || !self.state.authenticated
    }

    /// The error for a request that the default store would not run, in the order in which Redis looks.
    fn rejection(&self, request: &Request<'_>, id: CommandId, spec: &Spec, route: Route) -> Option<Vec<u8>> {
        let offered = {
            let core = self.instance.core();
            self.instance.with_facts(core.default_store(), |facts| facts.offered.clone())
        };
        let (exists, fits) = match &offered {
            Some(offered) => (offered.has(id), offered.arity_ok(id, request.argc())),
            None => (true, spec.arity_ok(request.argc())),
        };
        if !exists {
            let table = self.instance.core().table.clone();
            let container = spec.name.split_once('|').and_then(|(name, _)| table.by_name(name));
            return Some(match container {
                Some(container) => unknown_subcommand_error(table.spec(container), request),
                None => unknown_command_error(request),
            });
        }
        if !fits {
            return Some(wrong_arity_error(spec));
        }
        if !self.state.authenticated && !before_auth(route) {
            return Some(b"NOAUTH Authentication required.".to_vec());
        }
        let no_multi = spec.flags.has(crate::command::CommandFlags::NO_MULTI);
        if self.multi.is_some() && no_multi && queues(route) {
            return Some(b"ERR Command not allowed inside a transaction".to_vec());
        }
        self.restricts(spec, route).then(|| not_while_subscribed(spec, request.name()))
    }

    /// Refuses a request before it is run: an open transaction will abort, and EXEC itself aborts at once.
    fn reject(&mut self, route: Route, error: Vec<u8>) {
        let seq = self.owe();
        if let Some(multi) = &mut self.multi {
            multi.dirty = true;
        }
        self.answer_queued();
        if route != Route::Transaction(TransactionCommand::Exec) || !error.starts_with(b"ERR ") {
            self.pay_error(seq, error);
            return;
        }
        self.abort_multi();
        let mut text = b"EXECABORT Transaction discarded because of: ".to_vec();
        text.extend_from_slice(error.get(4..).unwrap_or_default());
        self.pay_error(seq, text);
    }

    // --- MULTI ---

    /// Queues a command of an open transaction.
    fn queue(
        &mut self,
        request: &Request<'_>,
        id: CommandId,
        spec: &Spec,
        effect: &Effect,
        route: Route,
    ) -> Option<Task> {
        if let Some(error) = self.not_in_multi(spec, route, request) {
            self.reject(route, error);
            return None;
        }
        let seq = self.owe();
        if let Route::Session(command) = route {
            self.queue_session(command, request, seq);
            return None;
        }
        let footprint = self.footprint(spec, effect, request);
        let told = self.instance.core_mut().way(id, request);
        let reach = scope(spec, effect, &footprint, told.undeclared);
        let Some(multi) = &mut self.multi else { return None };
        // A look at the keyspace has its place in the order like any command: it makes nobody doubt every key.
        if effect.kind != Kind::KeyspaceRead {
            multi.footprint.join(footprint, multi.frames.len());
        }
        multi.writes |= effect.writes || effect.kind == Kind::Publish;
        multi.scope = wider(multi.scope, reach);
        multi.ways.push(told.way);
        // MONITOR changes the connection that runs it, where a server lets it in a transaction.
        multi.private |= route == Route::Monitor;
        multi.queue(request.frame, seq, effect.rule);
        self.io.info.borrow_mut().queued += 1;
        None
    }

    /// Queues a command about the connection: none of them is for a lane.
    fn queue_session(&mut self, command: SessionCommand, request: &Request<'_>, seq: u64) {
        let single_db = self.instance.single_db();
        let Some(multi) = &mut self.multi else { return };
        multi.private = true;
        multi.ways.push(Way::Nothing);
        match command {
            SessionCommand::Client(command) => {
                let args = request.iter().map(<[u8]>::to_vec).collect();
                multi.queue_own(Own::Client(command, args), request.frame.len(), seq);
            }
            SessionCommand::Select => match parse_db(request, single_db) {
                Ok(_) if single_db => {
                    multi.queue_own(Own::Reply(encode::OK.to_vec()), request.frame.len(), seq)
                }
                Ok(db) => {
                    multi.selects = Some(db);
                    multi.footprint = Footprint::Everything;
                    multi.changes.push((multi.queued(), Change::Db(db)));
                    multi.queue(request.frame, seq, crate::command::Rule::Exact);
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
    fn not_in_multi(&self, spec: &Spec, route: Route, request: &Request<'_>) -> Option<Vec<u8>> {
        use crate::route::ClientCommand as C;
        match route {
            Route::Subscribe => {
                Some(b"MULTISTORE subscribing inside a transaction is not supported".to_vec())
            }
            Route::Refuse => Some(refusal(spec).into_bytes()),
            Route::Session(SessionCommand::Client(C::Reply | C::Unsupported)) => {
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

    pub(super) fn begin_multi(&mut self, seq: u64) {
        if self.multi.is_some() {
            self.answer_queued();
            self.pay_error(seq, "ERR MULTI calls can not be nested");
        } else {
            self.multi = Some(Box::new(Multi::begin(seq)));
            self.io.info.borrow_mut().queued = 0;
        }
    }

    // --- an instance that shows one database ---

    /// What is sent in the place of a command that means all databases, where the instance shows one.
    fn confined(&self, spec: &Spec, request: &Request<'_>) -> Option<Vec<u8>> {
        if spec.name != "flushall" {
            return None;
        }
        let mut args: Vec<&[u8]> = request.iter().collect();
        *args.first_mut()? = b"FLUSHDB";
        let mut frame = Vec::new();
        encode::command(&mut frame, &args);
        Some(frame)
    }

    fn single_db_error<A: Args + ?Sized>(&self, spec: &Spec, args: &A) -> Option<Vec<u8>> {
        use crate::command::OtherDb;
        if !self.instance.single_db() {
            return None;
        }
        match other_db(spec, args) {
            None | Some(OtherDb::All | OtherDb::One(0)) => None,
            Some(_) => Some(
                format!(
                    "MULTISTORE {} is refused: the store's URL names a database, and this instance shows no other",
                    spec.name.to_uppercase()
                )
                .into_bytes(),
            ),
        }
    }
}

/// What a request touches, its keys having been listed.
fn footprint(
    keys: &Keys,
    listed: bool,
    spec: &Spec,
    effect: &Effect,
    request: &Request<'_>,
    db: u32,
) -> Footprint {
    let keyless = match effect.kind {
        Kind::KeyspaceWrite | Kind::KeyspaceRead => true,
        Kind::Script | Kind::ScriptRead => keys.is_empty(),
        _ => false,
    };
    if keyless || (listed && keys.unlisted()) || (effect.writes && other_db(spec, request).is_some()) {
        return Footprint::Everything;
    }
    if !listed || keys.is_empty() {
        return Footprint::Nothing;
    }
    let refs = keys.iter().filter_map(|key| {
        let span = request.args.get(key.arg as usize)?;
        let hash = hash_key(db, request.arg(key.arg as usize));
        Some(KeyRef { hash, access: key.access, start: span.start, end: span.end })
    });
    Footprint::of_command(refs.collect())
}

/// How many parked clients a request may serve.
fn fills<A: Args + ?Sized>(spec: &Spec, effect: &Effect, args: &A) -> usize {
    match effect.kind {
        Kind::Script => usize::MAX,
        _ if effect.writes && can_fill(spec, args) => args.argc(),
        _ => 0,
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

fn refusal(spec: &Spec) -> String {
    let name = spec.name.replace('|', " ").to_uppercase();
    format!(
        "MULTISTORE {name} is refused: it would change a store behind the proxy's back (setting 'refuse'); run it \
         against the store itself"
    )
}

fn before_auth(route: Route) -> bool {
    matches!(
        route,
        Route::Session(
            SessionCommand::Auth | SessionCommand::Hello | SessionCommand::Quit | SessionCommand::Reset
        )
    )
}

/// Is a command with this route queued by an open transaction?
fn queues(route: Route) -> bool {
    !matches!(
        route,
        Route::Session(SessionCommand::Reset | SessionCommand::Quit)
            | Route::Transaction(
                TransactionCommand::Exec
                    | TransactionCommand::Discard
                    | TransactionCommand::Multi
                    | TransactionCommand::Watch
            )
    )
}

fn not_while_subscribed(spec: &Spec, name: &[u8]) -> Vec<u8> {
    let name = match spec.name.split_once('|') {
        Some(_) => spec.name.to_string(),
        None => String::from_utf8_lossy(name).to_lowercase(),
    };
    format!(
        "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
         this context"
    )
    .into_bytes()
}

impl Session {
    /// Is the client subscribed, and speaks RESP2?
    fn is_restricted(&self) -> bool {
        self.state.proto == Proto::Resp2
            && self.subscriber.as_ref().is_some_and(|subscriber| subscriber.is_subscribed())
    }

    /// Is this command forbidden while the client is subscribed (RESP2 only)?
    fn restricts(&self, spec: &Spec, route: Route) -> bool {
        self.is_restricted()
            && !matches!(
                route,
                Route::Subscribe | Route::Session(SessionCommand::Quit | SessionCommand::Reset)
            )
            && spec.name != "ping"
    }
}
