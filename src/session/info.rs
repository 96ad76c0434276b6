//! Commands about the connection or the server whose answer differs for a client of the proxy: INFO multistore, and
//! ACL WHOAMI.

use std::fmt::Write as _;

use crate::resp::value::OwnedValue;
use crate::resp::{Proto, encode};
use crate::route::INFO_SECTION;
use crate::stage::StoreId;

use super::{Gone, Owned, Session};

// === impl Session ===

impl Session {
    /// INFO multistore: the default store's answer to the other words, and the section behind it.
    pub(super) async fn info(&mut self, request: Owned) -> Result<(), Gone> {
        self.drained(1).await?;
        let others: Vec<&[u8]> =
            request.args.iter().map(Vec::as_slice).filter(|word| !is_section(word)).collect();
        let mut text = Vec::new();
        if others.len() > 1 {
            match self.ask(self.state.context(), request.command, &others).await? {
                Ok(reply) if reply.first() != Some(&b'-') => {
                    let told = OwnedValue::parse(&reply).ok();
                    text.extend_from_slice(told.as_ref().and_then(OwnedValue::as_bytes).unwrap_or_default());
                    text.extend_from_slice(b"\r\n");
                }
                Ok(error) | Err(error) => {
                    self.pay(request.seq, &error);
                    return Ok(());
                }
            }
        }
        text.extend_from_slice(self.own_section().as_bytes());
        let reply = self.text(&text);
        self.pay(request.seq, &reply);
        Ok(())
    }

    fn own_section(&self) -> String {
        let clients = self.instance.all_clients();
        let count = |is: fn(&crate::instance::ClientInfo) -> bool| {
            clients.iter().filter(|(_, io)| is(&io.info.borrow())).count()
        };
        let core = self.instance.core();
        let (suspects, _) = core.suspects();
        let mut out = format!("# Multistore\r\nmultistore_version:{}\r\n", env!("CARGO_PKG_VERSION"));
        let mut field = |name: &str, value: &dyn std::fmt::Display| {
            let _ = write!(out, "multistore_{name}:{value}\r\n");
        };
        field("instance", &self.instance.name);
        field("stage", &core.stage());
        field("default_store", &core.default_store());
        field("connected_clients", &clients.len());
        field("blocked_clients", &count(|info| info.blocked));
        field("pubsub_clients", &count(|info| info.subscriptions.iter().any(|count| *count > 0)));
        field("tracking_clients", &count(|info| info.tracking.is_some()));
        for store in StoreId::ALL {
            field(&format!("{store}_up"), &u8::from(core.lane(store).is_up()));
            field(&format!("{store}_awaited"), &core.lane(store).depth());
        }
        field("suspect_keys", &suspects);
        out
    }

    /// ACL WHOAMI: the user that this client has authenticated as.
    pub(super) fn whoami(&self) -> Vec<u8> {
        let mut out = Vec::new();
        encode::bulk(&mut out, &self.io.info.borrow().user);
        out
    }

    /// A text as RESP2 bulk string or RESP3 verbatim string, as Redis shows its lists.
    pub(super) fn text(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match self.state.proto {
            Proto::Resp2 => encode::bulk(&mut out, text),
            Proto::Resp3 => {
                out.extend_from_slice(format!("={}\r\ntxt:", text.len() + 4).as_bytes());
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
        }
        out
    }
}

fn is_section(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(INFO_SECTION.as_bytes())
}
