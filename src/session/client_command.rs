//! CLIENT …: about the proxy's own clients, never about the connections behind it.

use std::collections::HashSet;
use std::rc::Rc;

use crate::command::Args;
use crate::config::Auth;
use crate::instance::{ClientInfo, ClientIo};
use crate::resp::encode;
use crate::resp::value::OwnedValue;
use crate::route::ClientCommand;
use crate::sequencer::clients::ClientKey;
use crate::sequencer::park::Unblock;

use super::tracking::tracking_info;
use super::{Gone, Owned, Session, Task};

/// The error for a name that would break CLIENT LIST.
pub(super) const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";
const SYNTAX: &str = "ERR syntax error";
const NO_CLIENT: &str = "ERR No such client";

/// May a client be called so?
pub(super) fn valid_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// Which clients CLIENT KILL and CLIENT LIST mean.
#[derive(Debug)]
struct Filter {
    ids: Option<HashSet<u64>>,
    kind: Option<ClientKind>,
    addr: Option<Vec<u8>>,
    laddr: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    max_age: Option<u64>,
    skip_me: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientKind {
    Normal,
    PubSub,
    Replica,
}

// === impl Filter ===

impl Filter {
    fn all() -> Filter {
        Filter { ids: None, kind: None, addr: None, laddr: None, user: None, max_age: None, skip_me: true }
    }

    fn matches(&self, key: ClientKey, io: &ClientIo, me: ClientKey) -> bool {
        let info = io.info.borrow();
        let subscribed = info.subscriptions.iter().any(|count| *count > 0);
        let kind = if subscribed { ClientKind::PubSub } else { ClientKind::Normal };
        !(self.skip_me && key == me)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&key.id()))
            && self.kind.is_none_or(|wanted| wanted == kind)
            && self.addr.as_ref().is_none_or(|addr| *addr == info.addr.as_bytes())
            && self.laddr.as_ref().is_none_or(|addr| *addr == info.laddr.as_bytes())
            && self.user.as_ref().is_none_or(|user| *user == info.user)
            && self.max_age.is_none_or(|age| io.since.elapsed().as_secs() >= age)
    }

    fn parse_kill(
        args: &[Vec<u8>],
        knows_max_age: bool,
        is_user: impl Fn(&[u8]) -> bool,
    ) -> Result<Filter, String> {
        let mut filter = Filter::all();
        let mut at = 2;
        while at < args.len() {
            let (Some(word), Some(value)) = (args.get(at), args.get(at + 1)) else {
                return Err(SYNTAX.to_owned());
            };
            match word.to_ascii_uppercase().as_slice() {
                b"ID" => match args.int(at + 1).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0) {
                    Some(id) => filter.ids = Some(HashSet::from([id])),
                    None => return Err("ERR client-id should be greater than 0".to_owned()),
                },
                b"TYPE" => filter.kind = Some(parse_kind(value)?),
                b"ADDR" => filter.addr = Some(value.clone()),
                b"LADDR" => filter.laddr = Some(value.clone()),
                b"USER" if is_user(value) => filter.user = Some(value.clone()),
                b"USER" => return Err(format!("ERR No such user '{}'", String::from_utf8_lossy(value))),
                b"MAXAGE" if knows_max_age => {
                    match args.int(at + 1).and_then(|age| u64::try_from(age).ok()) {
                        Some(age) => filter.max_age = Some(age),
                        None => return Err("ERR maxage is not an integer or out of range".to_owned()),
                    }
                }
                b"SKIPME" if value.eq_ignore_ascii_case(b"yes") => filter.skip_me = true,
                b"SKIPME" if value.eq_ignore_ascii_case(b"no") => filter.skip_me = false,
                _ => return Err(SYNTAX.to_owned()),
            }
            at += 2;
        }
        Ok(filter)
    }

    fn parse_list(args: &[Vec<u8>]) -> Result<Filter, String> {
        let mut filter = Filter { skip_me: false, ..Filter::all() };
        match args.get(2).map(|word| word.to_ascii_uppercase()) {
            None => {}
            Some(word) if word == b"TYPE" && args.len() == 4 => {
                filter.kind = Some(parse_kind(args.get(3).map_or(&[][..], Vec::as_slice))?);
            }
            Some(word) if word == b"ID" && args.len() > 3 => {
                let ids: Option<Vec<i64>> = (3..args.len()).map(|at| args.int(at)).collect();
                // Nobody has a negative one.
                let ids = ids.ok_or("ERR Invalid client ID")?.into_iter();
                filter.ids = Some(ids.filter_map(|id| u64::try_from(id).ok()).collect());
            }
            Some(_) => return Err(SYNTAX.to_owned()),
        }
        Ok(filter)
    }
}

fn parse_kind(word: &[u8]) -> Result<ClientKind, String> {
    match word.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(ClientKind::Normal),
        b"pubsub" => Ok(ClientKind::PubSub),
        b"master" | b"replica" | b"slave" => Ok(ClientKind::Replica),
        _ => Err(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(word))),
    }
}

// === impl Session ===

impl Session {
    /// Answers CLIENT … ; the slot is owed.
    pub(super) fn client_command(&mut self, command: ClientCommand, request: Owned) -> Option<Task> {
        match command {
            ClientCommand::Tracking | ClientCommand::Caching => return Some(Task::Track(command, request)),
            ClientCommand::TrackingInfo if self.tracking.is_some() => {
                return Some(Task::Track(command, request));
            }
            ClientCommand::Kill if self.unknown_user(&request.args).is_some() => {
                return Some(Task::KillUser(request));
            }
            ClientCommand::Reply => self.reply_mode(request.seq, &request.args),
            _ => {
                let reply = self.client_reply(command, &request.args);
                self.pay(request.seq, &reply);
            }
        }
        None
    }

    /// Runs CLIENT … and gives its reply. CLIENT REPLY is about replies themselves and not meant here.
    pub(super) fn client_reply(&mut self, command: ClientCommand, args: &[Vec<u8>]) -> Vec<u8> {
        use ClientCommand as C;
        let outcome = match command {
            C::Id => Ok(written(|out| encode::int(out, self.key.id() as i64))),
            C::GetName => Ok(self.own_name()),
            C::SetName => self.set_name(args),
            C::SetInfo => self.set_info(args),
            C::Info => Ok(self.text(self.describe(self.key, &self.io, args).as_bytes())),
            C::List => self.list_clients(args),
            C::Kill => self.kill_clients(args, None),
            C::NoEvict => self.switch(args, |io, on| io.info.borrow_mut().no_evict = on),
            C::NoTouch => self.switch(args, |io, on| io.info.borrow_mut().no_touch = on),
            C::Unblock => self.unblock_client(args),
            C::Pause => self.pause(args),
            C::Unpause => {
                self.instance.unpause();
                Ok(encode::OK.to_vec())
            }
            C::TrackingInfo => Ok(tracking_info(self.state.proto, &[b"off"], -1, &[])),
            C::GetRedir => Ok(written(|out| encode::int(out, self.redirection()))),
            C::Tracking | C::Caching | C::Reply | C::Unsupported => {
                let name = args.get(1).map_or(&[][..], Vec::as_slice);
                let name = String::from_utf8_lossy(name).to_uppercase();
                Err(format!("MULTISTORE CLIENT {name} is not supported through the proxy"))
            }
        };
        outcome.unwrap_or_else(|error| written(|out| encode::error(out, error)))
    }

    fn own_name(&self) -> Vec<u8> {
        let info = self.io.info.borrow();
        written(|out| match info.name.is_empty() {
            true => encode::nil(out, self.state.proto),
            false => encode::bulk(out, &info.name),
        })
    }

    fn set_name(&self, args: &[Vec<u8>]) -> Outcome {
        let name = args.get(2).cloned().unwrap_or_default();
        if !valid_name(&name) {
            return Err(BAD_NAME.to_owned());
        }
        self.io.info.borrow_mut().name = name;
        Ok(encode::OK.to_vec())
    }

    fn set_info(&self, args: &[Vec<u8>]) -> Outcome {
        let value = args.get(3).cloned().unwrap_or_default();
        let field = args.get(2).map(|field| field.to_ascii_lowercase()).unwrap_or_default();
        if !matches!(field.as_slice(), b"lib-name" | b"lib-ver") {
            let field = String::from_utf8_lossy(args.get(2).map_or(&[][..], Vec::as_slice)).into_owned();
            return Err(format!("ERR Unrecognized option '{field}'"));
        }
        if !valid_name(&value) {
            let field = String::from_utf8_lossy(&field);
            return Err(format!("ERR {field} cannot contain spaces, newlines or special characters."));
        }
        let mut info = self.io.info.borrow_mut();
        match field.as_slice() {
            b"lib-name" => info.lib_name = value,
            _ => info.lib_ver = value,
        }
        Ok(encode::OK.to_vec())
    }

    fn list_clients(&self, args: &[Vec<u8>]) -> Outcome {
        let filter = Filter::parse_list(args)?;
        let mut text = String::new();
        for (key, io) in self.instance.all_clients() {
            if filter.matches(key, &io, self.key) {
                text.push_str(&self.describe(key, &io, args));
            }
        }
        Ok(self.text(text.as_bytes()))
    }

    /// CLIENT KILL of a user whom only the default store may know: without a client, and where it keeps the users.
    pub(super) async fn kill_user(&mut self, request: Owned) -> Result<(), Gone> {
        self.drained(1).await?;
        let user = self.unknown_user(&request.args).unwrap_or_default();
        let asked = [b"ACL".as_slice(), b"GETUSER", &user];
        let told = self.ask(self.state.context(), request.command, &asked).await?;
        // A store that does not tell may know them: then there is nobody to end.
        let is_none = told.is_ok_and(|reply| matches!(OwnedValue::parse(&reply), Ok(OwnedValue::Nil)));
        let outcome = self.kill_clients(&request.args, is_none.then_some(&user));
        let reply = outcome.unwrap_or_else(|error| written(|out| encode::error(out, error)));
        self.pay(request.seq, &reply);
        Ok(())
    }

    /// The user that CLIENT KILL names and nobody here has heard of, where the default store is to be asked.
    fn unknown_user(&self, args: &[Vec<u8>]) -> Option<Vec<u8>> {
        if self.instance.config_ref().auth == Auth::Users {
            return None;
        }
        let named = args.get(2..).unwrap_or_default().chunks_exact(2);
        let mut users = named.filter_map(|pair| match pair {
            [word, user] if word.eq_ignore_ascii_case(b"USER") => Some(user),
            _ => None,
        });
        users.find(|user| !self.has_client_of(user)).cloned()
    }

    fn has_client_of(&self, user: &[u8]) -> bool {
        user == b"default" || self.instance.all_clients().iter().any(|(_, io)| io.info.borrow().user == user)
    }

    /// Ends the clients that are meant. `nobody`: a user whom there is not.
    fn kill_clients(&mut self, args: &[Vec<u8>], nobody: Option<&Vec<u8>>) -> Outcome {
        let is_user = |user: &[u8]| {
            let config = self.instance.config_ref();
            match config.auth {
                Auth::Users => config.users.get(user).is_some() || self.has_client_of(user),
                Auth::None | Auth::Passthrough => nobody.is_none_or(|nobody| nobody != user),
            }
        };
        let old_form = args.len() == 3;
        let filter = match old_form {
            true => Filter { addr: args.get(2).cloned(), skip_me: false, ..Filter::all() },
            false => Filter::parse_kill(args, self.instance.knows_max_age(), is_user)?,
        };
        let victims: Vec<(ClientKey, Rc<ClientIo>)> = self
            .instance
            .all_clients()
            .into_iter()
            .filter(|(key, io)| filter.matches(*key, io, self.key))
            .collect();
        for (key, io) in &victims {
            if *key == self.key {
                self.closing = true;
            } else {
                io.killed.set(true);
                io.wake();
            }
        }
        match (old_form, victims.is_empty()) {
            (true, true) => Err(NO_CLIENT.to_owned()),
            (true, false) => Ok(encode::OK.to_vec()),
            (false, _) => Ok(written(|out| encode::int(out, victims.len() as i64))),
        }
    }

    fn reply_mode(&mut self, seq: u64, args: &[Vec<u8>]) {
        match args.get(2).map(|mode| mode.to_ascii_uppercase()).as_deref() {
            Some(b"ON") => {
                self.state.reply_on();
                self.instance.core_mut().clients.unmute(self.key, seq);
                self.pay(seq, encode::OK);
            }
            Some(b"OFF") => {
                self.state.reply_off();
                self.leave_out(seq);
            }
            Some(b"SKIP") => {
                self.state.reply_skip();
                self.leave_out(seq);
            }
            _ => self.pay_error(seq, SYNTAX),
        }
    }

    /// The command has no reply.
    fn leave_out(&self, seq: u64) {
        self.pay(seq, b"");
    }

    fn switch(&self, args: &[Vec<u8>], set: impl FnOnce(&ClientIo, bool)) -> Outcome {
        match args.get(2).map(|word| word.to_ascii_lowercase()).as_deref() {
            Some(b"on") => set(&self.io, true),
            Some(b"off") => set(&self.io, false),
            _ => return Err(SYNTAX.to_owned()),
        }
        Ok(encode::OK.to_vec())
    }

    fn unblock_client(&self, args: &[Vec<u8>]) -> Outcome {
        if args.len() > 4 {
            return Err(too_many("UNBLOCK"));
        }
        let how = match args.get(3).map(|word| word.to_ascii_lowercase()).as_deref() {
            None | Some(b"timeout") => Unblock::Timeout,
            Some(b"error") => Unblock::Error,
            Some(_) => return Err("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR".to_owned()),
        };
        let id = args.int(2).ok_or("ERR value is not an integer or out of range")?;
        let found =
            self.instance.all_clients().into_iter().find(|(key, _)| i64::try_from(key.id()) == Ok(id));
        let done = match found {
            Some((key, _)) if self.instance.core_mut().unblock(key, how) => true,
            Some((_, io)) if io.info.borrow().blocked => {
                io.unblock.set(Some(how));
                io.wake();
                true
            }
            _ => false,
        };
        Ok(written(|out| encode::int(out, i64::from(done))))
    }

    fn pause(&self, args: &[Vec<u8>]) -> Outcome {
        if args.len() > 4 {
            return Err(too_many("PAUSE"));
        }
        let all = match args.get(3).map(|mode| mode.to_ascii_lowercase()).as_deref() {
            None | Some(b"all") => true,
            Some(b"write") => false,
            Some(_) => return Err("ERR CLIENT PAUSE mode must be WRITE or ALL".to_owned()),
        };
        let millis = args.int(2).ok_or("ERR timeout is not an integer or out of range")?;
        let millis = u64::try_from(millis).map_err(|_| "ERR timeout is negative")?;
        self.instance.pause(millis, all);
        Ok(encode::OK.to_vec())
    }

    fn redirection(&self) -> i64 {
        redirection(&self.io.info.borrow())
    }

    /// A client's line in CLIENT LIST, with the fields that the default store's version has.
    fn describe(&self, key: ClientKey, io: &ClientIo, asked: &[Vec<u8>]) -> String {
        let command = io.last.get().map(|id| self.instance.core().table.spec(id).name.clone());
        let mut request = Vec::new();
        if key == self.key {
            encode::command(&mut request, asked);
        }
        let command = command.as_deref().unwrap_or("NULL");
        let idle = self.instance.idle(io).as_secs();
        describe(key, io, idle, command, request.len(), self.instance.has_client_info())
    }
}

fn too_many(subcommand: &str) -> String {
    format!("ERR unknown subcommand or wrong number of arguments for '{subcommand}'. Try CLIENT HELP.")
}

/// A reply, or the text of an error.
type Outcome = Result<Vec<u8>, String>;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// CLIENT GETREDIR
fn redirection(info: &ClientInfo) -> i64 {
    info.tracking.map_or(-1, |tracking| i64::try_from(tracking.redirect).unwrap_or(i64::MAX))
}

/// A client's line in CLIENT LIST.
fn describe(
    key: ClientKey,
    io: &ClientIo,
    idle: u64,
    command: &str,
    request: usize,
    with_library: bool,
) -> String {
    let info = io.info.borrow();
    let mut flags = String::new();
    for (set, flag) in [
        (info.monitor, 'O'),
        (info.subscriptions.iter().any(|count| *count > 0), 'P'),
        (info.queued >= 0, 'x'),
        (info.blocked, 'b'),
        (info.tracking.is_some(), 't'),
        (info.tracking.is_some_and(|tracking| tracking.broken), 'R'),
        (info.tracking.is_some_and(|tracking| tracking.broadcast), 'B'),
        (info.no_evict, 'e'),
        (info.no_touch, 'T'),
    ] {
        if set {
            flags.push(flag);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let mut line = format!(
        "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db={} sub={} psub={} ssub={} multi={} \
         qbuf={request} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={} \
         user={} redir={} resp={}",
        key.id(),
        info.addr,
        info.laddr,
        String::from_utf8_lossy(&info.name),
        io.since.elapsed().as_secs(),
        idle,
        info.db,
        info.subscriptions[0],
        info.subscriptions[1],
        info.subscriptions[2],
        info.queued,
        command,
        String::from_utf8_lossy(&info.user),
        redirection(&info),
        info.proto as u8,
    );
    if with_library {
        let [name, version] = [&info.lib_name, &info.lib_ver].map(|text| String::from_utf8_lossy(text));
        line.push_str(&format!(" lib-name={name} lib-ver={version}"));
    }
    line.push('\n');
    line
}
