//! CLIENT …: about the proxy's own clients, never about the connections behind it.

use std::io::Write;
use std::rc::Rc;

use crate::command::Args;
use crate::command::errors::unknown_subcommand_error;
use crate::instance::ClientIo;
use crate::resp::{Proto, encode};
use crate::route::ClientCommand;
use crate::sequencer::clients::ClientKey;
use crate::sequencer::park::Unblock;

use super::{Owned, Session};

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
    ids: Option<Vec<u64>>,
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

    fn parse_kill(args: &[Vec<u8>]) -> Result<Filter, &'static str> {
        let mut filter = Filter::all();
        let mut at = 2;
        while at < args.len() {
            let (Some(word), Some(value)) = (args.get(at), args.get(at + 1)) else { return Err(SYNTAX) };
            match word.to_ascii_uppercase().as_slice() {
                b"ID" => match args.int(at + 1).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0) {
                    Some(id) => filter.ids = Some(vec![id]),
                    None => return Err("ERR client-id should be greater than 0"),
                },
                b"TYPE" => filter.kind = Some(parse_kind(value)?),
                b"ADDR" => filter.addr = Some(value.clone()),
                b"LADDR" => filter.laddr = Some(value.clone()),
                b"USER" => filter.user = Some(value.clone()),
                b"MAXAGE" => match args.int(at + 1).and_then(|age| u64::try_from(age).ok()) {
                    Some(age) => filter.max_age = Some(age),
                    None => return Err("ERR maxage is not an integer or out of range"),
                },
                b"SKIPME" if value.eq_ignore_ascii_case(b"yes") => filter.skip_me = true,
                b"SKIPME" if value.eq_ignore_ascii_case(b"no") => filter.skip_me = false,
                _ => return Err(SYNTAX),
            }
            at += 2;
        }
        Ok(filter)
    }

    fn parse_list(args: &[Vec<u8>]) -> Result<Filter, &'static str> {
        let mut filter = Filter { skip_me: false, ..Filter::all() };
        match args.get(2).map(|word| word.to_ascii_uppercase()) {
            None => {}
            Some(word) if word == b"TYPE" && args.len() == 4 => {
                filter.kind = Some(parse_kind(args.get(3).map_or(&[][..], Vec::as_slice))?);
            }
            Some(word) if word == b"ID" && args.len() > 3 => {
                let ids: Option<Vec<u64>> =
                    (3..args.len()).map(|at| args.int(at).and_then(|id| u64::try_from(id).ok())).collect();
                filter.ids = Some(ids.ok_or("ERR Invalid client ID")?);
            }
            Some(_) => return Err(SYNTAX),
        }
        Ok(filter)
    }
}

fn parse_kind(word: &[u8]) -> Result<ClientKind, &'static str> {
    match word.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(ClientKind::Normal),
        b"pubsub" => Ok(ClientKind::PubSub),
        b"master" | b"replica" | b"slave" => Ok(ClientKind::Replica),
        _ => Err("ERR Unknown client type"),
    }
}

// === impl Session ===

impl Session {
    /// Answers CLIENT … ; the slot is owed.
    pub(super) fn client_command(&mut self, command: ClientCommand, request: &Owned) {
        use ClientCommand as C;
        let (seq, args) = (request.seq, request.args.as_slice());
        match command {
            C::Id => self.pay_with(seq, |out| encode::int(out, self.key.id() as i64)),
            C::GetName => {
                let name = self.io.info.borrow().name.clone();
                let proto = self.state.proto;
                self.pay_with(seq, |out| match name.is_empty() {
                    true => encode::nil(out, proto),
                    false => encode::bulk(out, &name),
                });
            }
            C::SetName => self.set_name(seq, args),
            C::SetInfo => self.set_info(seq, args),
            C::Info => {
                let line = describe(self.key, &self.io);
                self.pay_text(seq, line.as_bytes());
            }
            C::List => self.list_clients(seq, args),
            C::Kill => self.kill_clients(seq, args),
            C::Reply => self.reply_mode(seq, args),
            C::NoEvict => self.switch(seq, args, |io, on| io.info.borrow_mut().no_evict = on),
            C::NoTouch => self.switch(seq, args, |io, on| io.info.borrow_mut().no_touch = on),
            C::Unblock => self.unblock_client(seq, args),
            C::TrackingInfo => self.tracking_info(seq),
            C::GetRedir => self.pay_with(seq, |out| encode::int(out, -1)),
            C::Unsupported => {
                let name = String::from_utf8_lossy(args.get(1).map_or(&[][..], Vec::as_slice)).to_uppercase();
                self.pay_error(seq, format!("MULTISTORE CLIENT {name} is not supported through the proxy"));
            }
            C::Unknown => {
                let table = self.instance.core().table.clone();
                if let Some(client) = table.by_name("client") {
                    self.pay_error(seq, unknown_subcommand_error(table.spec(client), args));
                }
            }
        }
    }

    fn set_name(&mut self, seq: u64, args: &[Vec<u8>]) {
        let name = args.get(2).cloned().unwrap_or_default();
        if !valid_name(&name) {
            self.pay_error(seq, BAD_NAME);
            return;
        }
        self.io.info.borrow_mut().name = name;
        self.pay(seq, encode::OK);
    }

    fn set_info(&mut self, seq: u64, args: &[Vec<u8>]) {
        let value = args.get(3).cloned().unwrap_or_default();
        let field = args.get(2).map(|field| field.to_ascii_lowercase()).unwrap_or_default();
        if !valid_name(&value) {
            let field = String::from_utf8_lossy(&field);
            self.pay_error(
                seq,
                format!("ERR {field} cannot contain spaces, newlines or special characters."),
            );
            return;
        }
        let mut info = self.io.info.borrow_mut();
        match field.as_slice() {
            b"lib-name" => info.lib_name = value,
            b"lib-ver" => info.lib_ver = value,
            _ => {
                drop(info);
                let mut error = b"ERR Unrecognized option '".to_vec();
                error.extend_from_slice(args.get(2).map_or(&[][..], Vec::as_slice));
                error.push(b'\'');
                self.pay_error(seq, error);
                return;
            }
        }
        drop(info);
        self.pay(seq, encode::OK);
    }

    /// A text as RESP2 bulk string or RESP3 verbatim string, as Redis shows its lists.
    fn pay_text(&self, seq: u64, text: &[u8]) {
        let proto = self.state.proto;
        self.pay_with(seq, |out| match proto {
            Proto::Resp2 => encode::bulk(out, text),
            Proto::Resp3 => {
                let _ = write!(out, "={}\r\ntxt:", text.len() + 4);
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
        });
    }

    fn list_clients(&mut self, seq: u64, args: &[Vec<u8>]) {
        let filter = match Filter::parse_list(args) {
            Ok(filter) => filter,
            Err(error) => return self.pay_error(seq, error),
        };
        let mut text = String::new();
        for (key, io) in self.instance.all_clients() {
            if filter.matches(key, &io, self.key) {
                text.push_str(&describe(key, &io));
            }
        }
        self.pay_text(seq, text.as_bytes());
    }

    fn kill_clients(&mut self, seq: u64, args: &[Vec<u8>]) {
        let old_form = args.len() == 3;
        let filter = match old_form {
            true => Ok(Filter { addr: args.get(2).cloned(), skip_me: false, ..Filter::all() }),
            false => Filter::parse_kill(args),
        };
        let filter = match filter {
            Ok(filter) => filter,
            Err(error) => return self.pay_error(seq, error),
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
            (true, true) => self.pay_error(seq, NO_CLIENT),
            (true, false) => self.pay(seq, encode::OK),
            (false, _) => self.pay_with(seq, |out| encode::int(out, victims.len() as i64)),
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
                self.pay(seq, b"");
            }
            Some(b"SKIP") => {
                self.state.reply_skip();
                self.pay(seq, b"");
            }
            _ => self.pay_error(seq, SYNTAX),
        }
    }

    fn switch(&mut self, seq: u64, args: &[Vec<u8>], set: impl FnOnce(&ClientIo, bool)) {
        match args.get(2).map(|word| word.to_ascii_lowercase()).as_deref() {
            Some(b"on") => set(&self.io, true),
            Some(b"off") => set(&self.io, false),
            _ => return self.pay_error(seq, SYNTAX),
        }
        self.pay(seq, encode::OK);
    }

    fn unblock_client(&mut self, seq: u64, args: &[Vec<u8>]) {
        let how = match args.get(3).map(|word| word.to_ascii_lowercase()).as_deref() {
            None | Some(b"timeout") => Unblock::Timeout,
            Some(b"error") => Unblock::Error,
            Some(_) => {
                let text = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
                return self.pay_error(seq, text);
            }
        };
        let Some(id) = args.int(2) else {
            return self.pay_error(seq, "ERR value is not an integer or out of range");
        };
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
        self.pay_with(seq, |out| encode::int(out, i64::from(done)));
    }

    fn tracking_info(&self, seq: u64) {
        let proto = self.state.proto;
        self.pay_with(seq, |out| {
            encode::map_header(out, 3, proto);
            encode::bulk(out, "flags");
            encode::set_header(out, 1, proto);
            encode::bulk(out, "off");
            encode::bulk(out, "redirect");
            encode::int(out, -1);
            encode::bulk(out, "prefixes");
            encode::array_header(out, 0);
        });
    }
}

/// A client's line in CLIENT LIST.
fn describe(key: ClientKey, io: &ClientIo) -> String {
    let info = io.info.borrow();
    let mut flags = String::new();
    for (set, flag) in [
        (info.monitor, 'O'),
        (info.subscriptions.iter().any(|count| *count > 0), 'P'),
        (info.queued >= 0, 'x'),
        (info.blocked, 'b'),
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
    format!(
        "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db={} sub={} psub={} ssub={} multi={} \
         qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={} \
         user={} redir=-1 resp={} lib-name={} lib-ver={}\n",
        key.id(),
        info.addr,
        info.laddr,
        String::from_utf8_lossy(&info.name),
        io.since.elapsed().as_secs(),
        io.active.get().elapsed().as_secs(),
        info.db,
        info.subscriptions[0],
        info.subscriptions[1],
        info.subscriptions[2],
        info.queued,
        if info.last_command.is_empty() { "NULL" } else { info.last_command },
        String::from_utf8_lossy(&info.user),
        info.proto as u8,
        String::from_utf8_lossy(&info.lib_name),
        String::from_utf8_lossy(&info.lib_ver),
    )
}
