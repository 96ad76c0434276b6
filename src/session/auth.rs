//! AUTH and HELLO.
//!
//! Passwords are checked by the default store itself, on a connection of their own: the lanes run
//! as the store's configured user, and nothing that a client says changes that.

use crate::command::Args;
use crate::metrics::ClientErrorKind;
use crate::resp::{Proto, encode};
use crate::sequencer::op::Failure;
use crate::store::pool::Pool;

use super::client_command::valid_name;
use super::{Gone, Owned, Session, Task};

/// What HELLO asks for.
struct Hello<'a> {
    proto: Option<Proto>,
    auth: Option<&'a [u8]>,
    name: Option<&'a [u8]>,
}

// === impl Hello ===

impl Hello<'_> {
    fn parse(args: &[Vec<u8>]) -> Result<Hello<'_>, Vec<u8>> {
        let mut hello = Hello { proto: None, auth: None, name: None };
        if args.len() > 1 {
            hello.proto = Some(match args.int(1) {
                Some(2) => Proto::Resp2,
                Some(3) => Proto::Resp3,
                Some(_) => return Err(b"NOPROTO unsupported protocol version".to_vec()),
                None => return Err(b"ERR Protocol version is not an integer or out of range".to_vec()),
            });
        }
        let mut at = 2;
        while let Some(word) = args.get(at) {
            if word.eq_ignore_ascii_case(b"AUTH") && at + 2 < args.len() {
                hello.auth = args.get(at + 1).map(Vec::as_slice);
                at += 3;
            } else if word.eq_ignore_ascii_case(b"SETNAME") && at + 1 < args.len() {
                hello.name = args.get(at + 1).map(Vec::as_slice);
                at += 2;
            } else {
                let mut error = b"ERR Syntax error in HELLO option '".to_vec();
                error.extend_from_slice(word);
                error.push(b'\'');
                return Err(error);
            }
        }
        Ok(hello)
    }
}

// === impl Session ===

impl Session {
    /// HELLO without AUTH is answered from what the default store said to the lane.
    pub(super) fn hello(&mut self, request: Owned) -> Option<Task> {
        let seq = request.seq;
        let hello = match Hello::parse(&request.args) {
            Ok(hello) => hello,
            Err(error) => {
                self.pay_error(seq, error);
                return None;
            }
        };
        // Without a password the default store words the refusal itself.
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
        let reply = self.instance.with_facts(store, |facts| facts.hello[proto as usize - 2].clone());
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

    /// AUTH, or HELLO … AUTH: the default store decides.
    pub(super) async fn authenticate(&mut self, request: Owned) -> Result<(), Gone> {
        self.drained(1).await?;
        let store = self.instance.core().default_store();
        let limits = self.instance.reply_limits();
        let within = self.instance.config().reply_timeout;
        let reply = async {
            let mut loan = Pool::bare(&self.instance, store).await?;
            loan.send(&request.frame, within).await?;
            loan.reply(&limits, within).await
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
            self.instance.metrics.client_errors[ClientErrorKind::Auth].inc();
            self.pay(request.seq, &reply);
            return Ok(());
        }
        self.authenticated(&request);
        self.pay(request.seq, &with_id(&reply, self.key.id()));
        Ok(())
    }

    fn authenticated(&mut self, request: &Owned) {
        self.state.authenticated = true;
        self.limits.unauthenticated = false;
        let args = &request.args;
        let user = match args.as_slice().is(0, "AUTH") {
            true if args.len() == 3 => args.get(1).cloned(),
            true => None,
            false => {
                let hello = Hello::parse(args).ok();
                if let Some(proto) = hello.as_ref().and_then(|hello| hello.proto) {
                    self.speak(proto);
                }
                if let Some(name) = hello.as_ref().and_then(|hello| hello.name) {
                    self.io.info.borrow_mut().name = name.to_vec();
                }
                hello.and_then(|hello| hello.auth).map(<[u8]>::to_vec)
            }
        };
        self.io.info.borrow_mut().user = user.unwrap_or_else(|| b"default".to_vec());
    }
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
