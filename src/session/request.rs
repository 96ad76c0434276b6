//! One request, from its bytes to its place in the order. Synchronous: nothing here waits.

use std::borrow::Cow;

use crate::command::errors::{unknown_command_error, unknown_subcommand_error};
use crate::command::{
    Args, CommandFlags, Effect, Key, Keys, Kind, Lookup, Shape, Spec, Table, can_fill, classify, keys,
    lone_key, other_db,
};
use crate::metrics::{ClientErrorKind, RequestKind};
use crate::mirror::Way;
use crate::resp::encode;
use crate::resp::request::{Decoded, Decoder, ProtocolError, Request, RequestLimits};
use crate::route::{self, Route};
use crate::sequencer::fence::{Footprint, KeyRef};
use crate::sequencer::{Expiry, Path, Scope, Submission, hash_key};

use super::asked::Asked;
use super::judge::queues;
use super::state::{Repeated, Told};
use super::writes::{expiry, scope};
use super::{Session, Task};

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
        self.io.active.set(self.instance.begin_turn());
        let room = self.room;
        let mut decoder = std::mem::take(&mut self.decoder);
        let task = loop {
            let rest = data.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break None;
            }
            if count >= MAX_PER_TURN {
                break Some(Task::Yield);
            }
            let (len, task) = self.one(rest, &mut decoder);
            if let Some(task) = task {
                let taken = !matches!(task, Task::Paused(_));
                at += if taken { len } else { 0 };
                break Some(task);
            }
            at += len;
            count += 1;
            if self.closing {
                break None;
            }
            if len == 0 || count >= room {
                break None;
            }
        };
        self.decoder = decoder;
        self.room = room.saturating_sub(count);
        if self.multi.is_some() {
            self.answer_queued();
        }
        self.instance.settle_turn();
        (at, task)
    }

    /// A client that goes no further than a queued command gets its QUEUED.
    pub(super) fn answer_queued(&mut self) {
        if let Some(multi) = &mut self.multi {
            let mut core = self.instance.core_mut();
            multi.answer(|seq, reply| core.clients.pay(self.key, seq, reply));
        }
    }

    /// Decodes one frame and takes it. (0, None): more bytes are needed.
    fn one(&mut self, data: &[u8], decoder: &mut Decoder) -> (usize, Option<Task>) {
        match decoder.decode(data, &self.limits) {
            Ok(Decoded::Incomplete) => (0, None),
            Ok(Decoded::Nothing { len }) => {
                // It owes no reply, and CLIENT REPLY SKIP is used up by it.
                self.state.begin_command();
                (len, None)
            }
            Ok(Decoded::Request { len, canonical: true }) => {
                let frame = data.get(..len).unwrap_or_default();
                let request = Request { frame, args: decoder.spans() };
                (len, self.request(&request, data.len() > len))
            }
            Ok(Decoded::Request { len, canonical: false }) => {
                let request = Request { frame: data, args: decoder.spans() };
                let mut frame = Vec::new();
                request.encode(&mut frame);
                (len, self.encoded(&frame, data.len() > len))
            }
            Ok(Decoded::Inline { len }) => {
                let mut frame = Vec::new();
                encode::command(&mut frame, decoder.inline_args());
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
                let mut task = self.request(&Request { frame, args: decoder.spans() }, more);
                if let Some(Task::Heavy(heavy)) = &mut task {
                    heavy.copy_frame(frame, len);
                }
                task
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
        #[cfg(test)]
        crate::instance::spring_traps(&self.instance, request.name());
        let table = self.instance.core().table.clone();
        let told = match self.repeated.find(request) {
            Some(told) if !table.spec(told.id).container => told,
            _ => match self.tell(&table, request) {
                Ok(told) => told,
                Err(lookup) => return self.unknown(request, lookup, more),
            },
        };
        let Told { id, effect, route } = told;
        let route = if self.instance.refuses(id) { Route::Refuse } else { route };
        let spec = table.spec(id);
        self.instance.metrics.requests[route::request_kind(&effect)].inc();
        let asked = Asked { request: *request, id, spec, effect, route };
        self.io.last.set(Some(id));
        if let Route::Order(path) = route
            && self.is_usual()
        {
            return self.order(&asked, path, more);
        }
        if self.is_special(route)
            && let Some(error) = self.rejection(&asked)
        {
            self.reject(route, error);
            return None;
        }
        if !spec.flags.has(CommandFlags::ALLOW_BUSY)
            && let Some(busy) = self.instance.busy_error()
        {
            self.reject(route, busy);
            return None;
        }
        if self.is_paused(&asked) {
            return Some(Task::Paused(self.function_called(&asked)));
        }
        if self.instance.single_db()
            && let Some(frame) = self.confined(spec, request)
        {
            return self.encoded(&frame, more);
        }
        if self.multi.is_some() && queues(route) {
            return self.queue(&asked);
        }
        let Route::Order(path) = route else {
            return self.dispatch(&asked);
        };
        if self.instance.single_db()
            && let Some(error) = self.single_db_error(spec, request)
        {
            let seq = self.owe();
            self.pay_error(seq, error);
            return None;
        }
        if self.is_restricted() && spec.name == "ping" {
            return self.dispatch(&Asked { route: Route::Subscribe, ..asked });
        }
        if self.pinned.is_some() {
            return self.dispatch(&asked);
        }
        self.order(&asked, path, more)
    }

    /// Does nothing about the client, the instance or its stores keep a command from its place in the order?
    #[inline]
    fn is_usual(&self) -> bool {
        !self.is_special_client() && !self.passes_pause && self.instance.is_usual()
    }

    /// Nothing stands in the way of a command that goes into a lane, unless it is too large for it.
    #[inline(always)]
    fn order(&mut self, asked: &Asked<'_>, path: Path, more: bool) -> Option<Task> {
        if self.is_heavy(asked.request.frame.len()) {
            return Some(self.begin_heavy(asked));
        }
        if asked.effect.kind == Kind::Read && self.reads_large(asked) {
            let seq = self.owe();
            return Some(Task::ReadLarge(asked.keep(seq)));
        }
        self.submit(asked, path, more)
    }

    /// What a request asks for. Most clients say the same thing again and again: what the name alone tells is remembered.
    fn tell(&mut self, table: &Table, request: &Request<'_>) -> Result<Told, Lookup> {
        let lookup = table.lookup(request);
        let Lookup::Command(id) = lookup else { return Err(lookup) };
        let spec = table.spec(id);
        let effect = classify(spec, request);
        let told = Told { id, effect, route: route::route(spec, &effect, request) };
        if route::is_told_by_name(spec) {
            self.repeated = Repeated::new(request, told).unwrap_or_default();
        }
        Ok(told)
    }

    /// Puts a request into the order.
    fn submit(&mut self, asked: &Asked<'_>, path: Path, more: bool) -> Option<Task> {
        let Asked { request, id, spec, effect, .. } = asked;
        let muted = self.state.begin_command();
        let instance = self.instance.clone();
        let mut core = instance.core_in_turn();
        let seq = core.clients.owe(self.key, muted);
        let dual = core.stage().is_dual();
        let (footprint, fills) = match path {
            _ if dual => self.touches(spec, effect, request),
            // A cursor is one of its key, in every stage.
            Path::Scan(..) => (self.footprint(spec, effect, request), 0),
            _ => (Footprint::Nothing, 0),
        };
        let batch = core.clients.batch(self.key, seq, more);
        if batch.is_none() && effect.kind == Kind::Read {
            self.last_read.remember(request, *id, effect);
        }
        let writes = dual && path == Path::Write;
        let (way, scope, expiry) = match writes {
            true => {
                let told = core.way(*id, effect.writes, request);
                let scope = scope(spec, effect, &footprint, told);
                (told.way, scope, expiry(spec, request, told))
            }
            false => (Way::Nothing, Scope::Keys, Expiry::Keeps),
        };
        core.submit(&Submission {
            client: self.key,
            seq,
            command: *id,
            path,
            rule: effect.rule,
            kind: route::request_kind(effect),
            context: self.state.context(),
            frame: Cow::Borrowed(request.frame),
            footprint,
            way,
            scope,
            expiry,
            batch,
            fills,
        });
        if core.is_held(self.key) { Some(Task::Held(request.frame.len())) } else { None }
    }

    /// What a request touches, and how many parked clients it may serve.
    #[inline]
    fn touches(&mut self, spec: &Spec, effect: &Effect, request: &Request<'_>) -> (Footprint, usize) {
        if let Some(key) = lone_key_ref(spec, effect, request, self.state.db) {
            let fills = if effect.writes && key.access.fills() { request.argc() } else { 0 };
            return (Footprint::of_key(key), fills);
        }
        let footprint = self.footprint(spec, effect, request);
        (footprint, fills(spec, effect, &self.keys, request))
    }

    /// What a request touches. Leaves its keys in `self.keys`.
    pub(super) fn footprint(&mut self, spec: &Spec, effect: &Effect, request: &Request<'_>) -> Footprint {
        self.footprint_in(self.state.db, spec, effect, request)
    }

    /// The same for a request that will run in this database.
    pub(super) fn footprint_in(
        &mut self,
        db: u32,
        spec: &Spec,
        effect: &Effect,
        request: &Request<'_>,
    ) -> Footprint {
        let listed = keys(spec, request, &mut self.keys);
        footprint(&self.keys, listed.is_ok(), spec, effect, request, db)
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
        let denied = self.state.restricted_to.is_some();
        if self.multi.is_some() || is_client || denied || !self.state.authenticated {
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
            self.instance.note_missing(request.name());
        }
        // One that is known to do nothing, but not PING: this one may do anything.
        let any = table.by_name("echo")?;
        let spec = table.spec(any);
        let effect = Effect { kind: Kind::Admin, writes: false, ..classify(spec, request) };
        let route = Route::Order(Path::Default);
        self.submit(&Asked { request: *request, id: any, spec, effect, route }, Path::Default, more)
    }

    /// Everything that is not simply put into the order.
    fn dispatch(&mut self, asked: &Asked<'_>) -> Option<Task> {
        let seq = self.owe();
        let owned = || asked.keep(seq);
        match asked.route {
            Route::Session(command) => self.session_command(command, owned()),
            Route::Transaction(command) => self.transaction_command(command, owned()),
            Route::Refuse => {
                self.refuse(asked.spec, seq);
                None
            }
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

    pub(super) fn single_db_error<A: Args + ?Sized>(&self, spec: &Spec, args: &A) -> Option<Vec<u8>> {
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

/// The key of a request that names one and touches nothing else, as most do: told without a list.
#[inline]
fn lone_key_ref(spec: &Spec, effect: &Effect, request: &Request<'_>, db: u32) -> Option<KeyRef> {
    if !matches!(effect.kind, Kind::Read | Kind::Write) {
        return None;
    }
    let key = lone_key(spec, request)?;
    let span = request.args.get(key.arg as usize)?;
    let hash = hash_key(db, request.arg(key.arg as usize));
    Some(KeyRef { hash, access: key.access, start: span.start, end: span.end })
}

/// What a request touches, its keys having been listed.
pub fn footprint(
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
    // What SORT … STORE looks at besides, only the store knows; what it writes it names.
    let sorts_into = effect.writes && spec.shape == Shape::Sort;
    if keyless
        || (listed && keys.unlisted() && !sorts_into)
        || (effect.writes && other_db(spec, request).is_some())
    {
        return Footprint::Everything;
    }
    if !listed || keys.is_empty() {
        return Footprint::Nothing;
    }
    let key_ref = |key: &Key| {
        let span = request.args.get(key.arg as usize)?;
        let hash = hash_key(db, request.arg(key.arg as usize));
        Some(KeyRef { hash, access: key.access, start: span.start, end: span.end })
    };
    match keys.as_slice() {
        [key] => key_ref(key).map_or(Footprint::Nothing, Footprint::of_key),
        keys => Footprint::of_command(keys.iter().filter_map(key_ref).collect()),
    }
}

/// How many parked clients a request may serve.
pub fn fills(spec: &Spec, effect: &Effect, keys: &Keys, request: &Request<'_>) -> usize {
    match effect.kind {
        Kind::Script => usize::MAX,
        _ if effect.writes && can_fill(spec, keys) => request.argc(),
        _ => 0,
    }
}

/// The error for a command that the setting `refuse` lists, or that no setting allows.
pub(super) fn refusal(spec: &Spec) -> String {
    let name = spec.name.replace('|', " ").to_uppercase();
    if spec.kind == Kind::Takeover {
        return format!(
            "MULTISTORE {name} is refused: it takes over the connection to the store, which others share; run it \
             against the store itself"
        );
    }
    format!(
        "MULTISTORE {name} is refused: it would change a store behind the proxy's back (setting 'refuse'); run it \
         against the store itself"
    )
}
