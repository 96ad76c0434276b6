//! AUTH and HELLO.
//!
//! Passwords are checked by the proxy against users of its own, or by the default store itself, on a connection of
//! their own. The lanes run as the store's configured user, and nothing that a client says changes that.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::command::Args;
use crate::config::Auth;
use crate::metrics::ClientErrorKind;
use crate::resp::request::Request;
use crate::resp::value::OwnedValue;
use crate::resp::{Proto, encode};
use crate::route::SessionCommand;
use crate::sequencer::op::Failure;
use crate::stage::StoreId;
use crate::store::dedicated::{Dedicated, DedicatedError};
use crate::store::pool::Pool;

use super::client_command::valid_name;
use super::guesses::{Delays, TooMany};
use super::{Gone, Owned, Session, Task};

/// Nothing is checked for an address that has got too much wrong.
const TOO_MANY: &str = "MULTISTORE too many wrong passwords came from this address (setting 'auth_delay'); this one was \
                        not checked, try again later";
const WRONGPASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_DEFAULT_USER: &str = "ERR AUTH <password> called without any password configured for the default user. Are \
                               you sure your configuration is correct?";

/// HELLO without AUTH from somebody unknown; Redis 7.2 has added a word.
fn noauth_hello(newer: bool) -> String {
    let how = if newer { "HELLO <proto> AUTH <user> <pass>" } else { "HELLO AUTH <user> <pass>" };
    format!(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the {how} option can be used to \
         authenticate the client and select the RESP protocol version at the same time"
    )
}

/// What HELLO asks for.
struct Hello<'a> {
    proto: Option<Proto>,
    /// User and password.
    auth: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

// === impl Hello ===

impl Hello<'_> {
    /// What stands before the first thing that is wrong, and the error about it.
    fn read(args: &[Vec<u8>]) -> (Hello<'_>, Option<Vec<u8>>) {
        let mut hello = Hello { proto: None, auth: None, name: None };
        if args.len() > 1 {
            let wrong = |text: &str| Some(text.as_bytes().to_vec());
            match args.int(1) {
                Some(2) => hello.proto = Some(Proto::Resp2),
                Some(3) => hello.proto = Some(Proto::Resp3),
                Some(_) => return (hello, wrong("NOPROTO unsupported protocol version")),
                None => return (hello, wrong("ERR Protocol version is not an integer or out of range")),
            }
        }
        let mut at = 2;
        while let Some(word) = args.get(at) {
            if word.eq_ignore_ascii_case(b"AUTH")
                && let (Some(user), Some(password)) = (args.get(at + 1), args.get(at + 2))
            {
                hello.auth = Some((user, password));
                at += 3;
            } else if word.eq_ignore_ascii_case(b"SETNAME") && at + 1 < args.len() {
                hello.name = args.get(at + 1).map(Vec::as_slice);
                at += 2;
            } else {
                let mut error = b"ERR Syntax error in HELLO option '".to_vec();
                error.extend_from_slice(word);
                error.push(b'\'');
                return (hello, Some(error));
            }
        }
        (hello, None)
    }
}

// === impl Session ===

impl Session {
    /// HELLO without AUTH is answered from what the default store said to the lane.
    pub(super) fn hello(&mut self, request: Owned) -> Option<Task> {
        let seq = request.seq;
        let (hello, error) = Hello::read(&request.args);
        // Redis before 7.2 checks a password as soon as it has read it, whatever stands behind.
        let checks_first = hello.auth.is_some() && !self.instance.is_default_store_at_least(7, 2);
        if let Some(error) = error.filter(|_| !checks_first) {
            self.pay_error(seq, error);
            return None;
        }
        // Without a password the refusal comes from where passwords are checked.
        if hello.auth.is_some() || !self.state.authenticated {
            return Some(Task::Authenticate(request));
        }
        if let Some(name) = hello.name
            && !valid_name(name)
        {
            self.pay_error(seq, super::client_command::BAD_NAME);
            return None;
        }
        let proto = hello.proto.unwrap_or(self.state.proto);
        let store = self.instance.core().default_store();
        let reply = self.instance.with_facts(store, |facts| facts.hello_of(proto).to_vec());
        if reply.is_empty() {
            let frame = self.instance.core().failure_frame(store, Failure::Down);
            self.pay(seq, &frame);
            return None;
        }
        if reply.first() != Some(&b'-') {
            self.speak(proto);
            if let Some(name) = hello.name {
                self.io.info.borrow_mut().name = name.to_vec();
            }
        }
        self.pay(seq, &with_id(&reply, self.key.id()));
        None
    }

    pub(super) fn speak(&mut self, proto: Proto) {
        self.state.proto = proto;
        self.io.info.borrow_mut().proto = proto;
    }

    /// AUTH, or HELLO … AUTH: the proxy decides, or the default store.
    pub(super) async fn authenticate(&mut self, request: Owned) -> Result<(), Gone> {
        self.drained(1).await?;
        if matches!(Credentials::of(&request.args), Ok(Some(_))) && !self.await_turn(&request).await? {
            return Ok(());
        }
        if self.instance.config().auth == Auth::Users {
            return self.verify(request).await;
        }
        let store = self.instance.core().default_store();
        let limits = self.instance.reply_limits();
        let within = self.instance.config().reply_timeout;
        let reply = async {
            let mut loan = Pool::bare(&self.instance, store).await?;
            loan.send(&request.frame, within).await?;
            let reply = loan.reply(&limits, within).await?;
            let admits = reply.first() != Some(&b'-') && self.instance.config_ref().auth == Auth::Passthrough;
            match admits {
                true => {
                    Ok(self.restriction(given_user(&request.args), &mut loan, store).await?.unwrap_or(reply))
                }
                false => Ok::<Vec<u8>, DedicatedError>(reply),
            }
        };
        let reply = match reply.await {
            Ok(reply) => reply,
            Err(error) => {
                let name = self.instance.core().store_name(store).to_owned();
                self.pay_error(
                    request.seq,
                    format!("MULTISTORE {name} could not check the password: {error}"),
                );
                return Ok(());
            }
        };
        if reply.first() == Some(&b'-') {
            self.failed(&request).await?;
            self.pay(request.seq, &reply);
            return Ok(());
        }
        self.authenticated(&request);
        self.pay(request.seq, &with_id(&reply, self.key.id()));
        Ok(())
    }

    /// Waits until a password of this address may be checked again. False: it is refused, that would be too long.
    async fn await_turn(&mut self, request: &Owned) -> Result<bool, Gone> {
        let (address, delays) = (self.address(), self.delays());
        let turn = self.instance.guesses.borrow_mut().turn(address, delays, Instant::now());
        match turn {
            Ok(wait) => self.wait(wait).await.map(|()| true),
            Err(TooMany) => {
                self.instance.metrics.client_errors[ClientErrorKind::AuthThrottled].inc();
                self.pay_error(request.seq, TOO_MANY);
                Ok(false)
            }
        }
    }

    /// A wrong password costs time, and more the next time: guessing is slow, mistyping is not.
    async fn failed(&mut self, request: &Owned) -> Result<(), Gone> {
        self.instance.metrics.client_errors[ClientErrorKind::Auth].inc();
        let (address, delays) = (self.address(), self.delays());
        let delay = self.instance.guesses.borrow_mut().wrong(address, &request.args, delays, Instant::now());
        self.wait(delay).await
    }

    fn address(&self) -> Option<IpAddr> {
        self.io.info.borrow().ip
    }

    fn delays(&self) -> Delays {
        let config = self.instance.config_ref();
        Delays { first: config.auth_delay, max: config.auth_delay_max }
    }

    async fn wait(&mut self, time: Duration) -> Result<(), Gone> {
        if time.is_zero() {
            return Ok(());
        }
        let until = tokio::time::Instant::now() + time;
        tokio::select! {
            gone = self.until(|_| false) => gone,
            () = tokio::time::sleep_until(until) => Ok(()),
        }
    }

    /// Checks a password against the proxy's own users.
    async fn verify(&mut self, request: Owned) -> Result<(), Gone> {
        let config = self.instance.config();
        let given = match Credentials::of(&request.args) {
            Ok(Some(given)) if given.unnamed && config.users.get(b"default").is_none() => {
                self.pay_error(request.seq, NO_DEFAULT_USER);
                return Ok(());
            }
            Ok(Some(given)) => given,
            Ok(None) => {
                self.pay_error(request.seq, noauth_hello(self.instance.is_default_store_at_least(7, 2)));
                return Ok(());
            }
            Err(error) => {
                self.pay_error(request.seq, error);
                return Ok(());
            }
        };
        let Some(user) = config.users.verify(given.user, given.password) else {
            self.failed(&request).await?;
            self.pay_error(request.seq, WRONGPASS);
            return Ok(());
        };
        let user = Some(user).filter(|user| !user.acl.allows_everything());
        self.authenticated(&request);
        self.state.restricted_to = user;
        if request.args.as_slice().is(0, "AUTH") {
            self.pay(request.seq, encode::OK);
            return Ok(());
        }
        if let Some(error) = Hello::read(&request.args).1 {
            self.pay_error(request.seq, error);
            return Ok(());
        }
        // The rest of HELLO, as from anybody who may speak.
        let proto = self.state.proto;
        let store = self.instance.core().default_store();
        let reply = self.instance.with_facts(store, |facts| facts.hello_of(proto).to_vec());
        match reply.is_empty() {
            true => {
                let frame = self.instance.core().failure_frame(store, Failure::Down);
                self.pay(request.seq, &frame);
            }
            false => self.pay(request.seq, &with_id(&reply, self.key.id())),
        }
        Ok(())
    }

    /// The error for a user whom the store restricts: commands run as the proxy's own user, which would give it more
    /// rights than it has. `None`: nothing restricts it, or it is the proxy's own user.
    async fn restriction(
        &self,
        given: &[u8],
        loan: &mut Dedicated,
        store: StoreId,
    ) -> Result<Option<Vec<u8>>, DedicatedError> {
        let config = self.instance.config();
        let (limits, within) = (self.instance.reply_limits(), config.reply_timeout);
        let mut ask = Vec::new();
        encode::command(&mut ask, &["ACL", "WHOAMI"]);
        loan.send(&ask, within).await?;
        let name = match OwnedValue::parse(&loan.reply(&limits, within).await?) {
            Ok(OwnedValue::Bulk(name)) => name,
            // Redis before 6 has passwords, and no users.
            Ok(error) if error.error_text().is_some_and(|text| text.starts_with("ERR unknown")) => {
                return Ok(None);
            }
            // A user who may not even ask is restricted.
            _ => return Ok(Some(restricted(given))),
        };
        let own = config.store(store).username.as_deref().unwrap_or("default");
        if name == own.as_bytes() {
            return Ok(None);
        }
        ask.clear();
        encode::command(&mut ask, &[b"ACL".as_slice(), b"GETUSER", &name]);
        loan.send(&ask, within).await?;
        let rules = OwnedValue::parse(&loan.reply(&limits, within).await?).ok();
        Ok((!rules.as_ref().is_some_and(is_unrestricted)).then(|| restricted(&name)))
    }

    fn authenticated(&mut self, request: &Owned) {
        self.state.authenticated = true;
        self.io.authenticated.set(true);
        self.limits.unauthenticated = false;
        let args = &request.args;
        let user = match args.as_slice().is(0, "AUTH") {
            true if args.len() == 3 => args.get(1).cloned(),
            true => None,
            false => {
                let (hello, error) = Hello::read(args);
                if let Some(proto) = hello.proto.filter(|_| error.is_none()) {
                    self.speak(proto);
                }
                if let Some(name) = hello.name {
                    self.io.info.borrow_mut().name = name.to_vec();
                }
                hello.auth.map(|(user, _)| user.to_vec())
            }
        };
        self.io.info.borrow_mut().user = user.unwrap_or_else(|| b"default".to_vec());
    }
}

/// Does a request give a password?
pub(super) fn gives_password(command: SessionCommand, request: &Request<'_>) -> bool {
    let is_auth = |arg: &[u8]| arg.eq_ignore_ascii_case(b"AUTH");
    command == SessionCommand::Auth || command == SessionCommand::Hello && request.iter().any(is_auth)
}

/// What AUTH and HELLO … AUTH give.
struct Credentials<'a> {
    user: &'a [u8],
    password: &'a [u8],
    /// AUTH with a password alone.
    unnamed: bool,
}

/// Whom a request that gives a password names.
fn given_user(args: &[Vec<u8>]) -> &[u8] {
    match Credentials::of(args) {
        Ok(Some(given)) => given.user,
        _ => b"default",
    }
}

// === impl Credentials ===

impl Credentials<'_> {
    /// `None`: a HELLO without AUTH.
    fn of(args: &[Vec<u8>]) -> Result<Option<Credentials<'_>>, Vec<u8>> {
        if !args.is(0, "AUTH") {
            let (hello, error) = Hello::read(args);
            if let Some(error) = error.filter(|_| hello.auth.is_none()) {
                return Err(error);
            }
            if let Some(name) = hello.name
                && !valid_name(name)
            {
                return Err(super::client_command::BAD_NAME.into());
            }
            return Ok(hello.auth.map(|(user, password)| Credentials { user, password, unnamed: false }));
        }
        match args {
            [_, password] => Ok(Some(Credentials { user: b"default", password, unnamed: true })),
            [_, user, password] => Ok(Some(Credentials { user, password, unnamed: false })),
            _ => Err(b"ERR syntax error".to_vec()),
        }
    }
}

/// Does the reply to ACL GETUSER say that nothing is forbidden?
fn is_unrestricted(rules: &OwnedValue) -> bool {
    let pairs: Vec<(&OwnedValue, &OwnedValue)> = match rules {
        OwnedValue::Map(pairs) => pairs.iter().map(|(key, value)| (key, value)).collect(),
        OwnedValue::Array(items) => {
            items.chunks_exact(2).filter_map(|pair| Some((pair.first()?, pair.get(1)?))).collect()
        }
        _ => return false,
    };
    let field = |name: &str| {
        pairs.iter().find(|(key, _)| key.as_bytes() == Some(name.as_bytes())).map(|(_, value)| *value)
    };
    // A text since Redis 7.0, a list before.
    let is = |name: &str, wanted: &[&str]| {
        field(name).is_some_and(|value| match value.as_bytes() {
            Some(text) => wanted.iter().any(|wanted| wanted.as_bytes() == text),
            None => matches!(value, OwnedValue::Array(items) if items.iter().any(|item| item.as_bytes() == Some(b"*"))),
        })
    };
    is("commands", &["+@all"]) && is("keys", &["~*"]) && is("channels", &["&*"])
}

fn restricted(name: &[u8]) -> Vec<u8> {
    let mut error = Vec::new();
    encode::error(
        &mut error,
        format!(
            "MULTISTORE the user '{}' is restricted by ACL rules of the store; commands run as the proxy's own user, so \
             it is refused rather than given more rights: use an unrestricted user, or auth = \"users\" with an acl",
            String::from_utf8_lossy(name)
        ),
    );
    error
}

/// The reply to HELLO with the client's own id in the place of the connection's.
pub(super) fn with_id(reply: &[u8], id: u64) -> Vec<u8> {
    const FIELD: &[u8] = b"$2\r\nid\r\n:";
    let Some(at) = memchr::memmem::find(reply, FIELD) else { return reply.to_vec() };
    let (head, rest) = reply.split_at(at + FIELD.len());
    let tail = memchr::memchr(b'\r', rest).and_then(|end| rest.get(end + 2..)).unwrap_or_default();
    let mut patched = head.to_vec();
    patched.pop();
    encode::int(&mut patched, i64::try_from(id).unwrap_or(i64::MAX));
    patched.extend_from_slice(tail);
    patched
}

#[cfg(test)]
mod tests {
    use super::with_id;

    #[test]
    fn the_id_is_the_clients_own() {
        let reply = b"*4\r\n$2\r\nid\r\n:123\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n";
        let patched = with_id(reply, 7);
        assert_eq!(patched, b"*4\r\n$2\r\nid\r\n:7\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n");
        assert_eq!(with_id(b"+OK\r\n", 7), b"+OK\r\n");
    }
}
