//! `POST /repair`: the one thing that the admin listener changes.
//!
//! Whoever reaches the listener may read; only somebody on this machine may order a repair, and no
//! page in a browser on it: such a page cannot send [`HEADER`] to another origin unasked, and what it
//! sends to its own (a name that it has made to point here) carries an `Origin`.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{HeaderMap, ORIGIN};

use crate::stage::StoreId;

/// Where a repair is ordered.
pub const PATH: &str = "/repair";
/// The header that an order must carry.
pub const HEADER: &str = "X-Multistore";
/// What that header says.
pub const HEADER_VALUE: &str = "repair";

/// An order: this store is right, the other one is to be made equal to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairOrder {
    /// Which instance; `None`: the only one.
    pub instance: Option<String>,
    /// The store that is right.
    pub from: StoreId,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepairError {
    /// There is no such instance, or none was named and there are several.
    #[error("{0}")]
    Instance(String),
    /// Not in this state.
    #[error("{0}")]
    NotNow(String),
    /// The proxy is ending.
    #[error("the proxy is ending")]
    Ending,
}

/// Hands an order to the running proxy. The answer is the name of the instance, when the repair has begun.
pub type RepairSink = Arc<dyn Fn(RepairOrder) -> RepairFuture + Send + Sync>;

/// The pending answer of a [`RepairSink`].
pub type RepairFuture = Pin<Box<dyn Future<Output = Result<String, RepairError>> + Send>>;

/// What is known of a POST before it is obeyed.
pub(super) struct Asked<'a> {
    /// Who asks.
    pub peer: IpAddr,
    /// The query, if there is one.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// Has it a body?
    pub has_body: bool,
}

// === impl Asked ===

impl Asked<'_> {
    /// The order, if this peer may give it and it can be read.
    pub fn order(&self) -> Result<RepairOrder, (StatusCode, String)> {
        let peer = self.peer.to_canonical();
        if !peer.is_loopback() {
            let text = format!(
                "a repair is ordered from the machine of the proxy, over a loopback address; this is {peer}"
            );
            return Err((StatusCode::FORBIDDEN, text));
        }
        let marked = self.headers.get(HEADER).is_some_and(|value| value == HEADER_VALUE);
        if !marked || self.headers.contains_key(ORIGIN) {
            let text =
                format!("a repair is ordered with the header {HEADER}: {HEADER_VALUE}, and not by a page");
            return Err((StatusCode::FORBIDDEN, text));
        }
        if self.has_body {
            return Err((StatusCode::BAD_REQUEST, "a repair is ordered without a body".to_owned()));
        }
        parse(self.query.unwrap_or_default()).map_err(|text| (StatusCode::BAD_REQUEST, text))
    }
}

/// `instance=NAME&from=STORE`. What is not understood is refused: it may have been meant to change the order.
fn parse(query: &str) -> Result<RepairOrder, String> {
    let (mut instance, mut from) = (None, None);
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let seen = match name {
            "instance" => instance.replace(value.to_owned()).is_some(),
            "from" => {
                let store = StoreId::ALL.into_iter().find(|store| store.name() == value);
                from.replace(store.ok_or("from is primary or secondary")?).is_some()
            }
            _ => return Err(format!("nothing is known of {name:?}; ?instance=NAME&from=primary")),
        };
        if seen {
            return Err(format!("{name} is given twice"));
        }
    }
    let from = from.ok_or("which store is right? ?from=primary or ?from=secondary")?;
    Ok(RepairOrder { instance, from })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(instance: Option<&str>, from: StoreId) -> Result<RepairOrder, String> {
        Ok(RepairOrder { instance: instance.map(str::to_owned), from })
    }

    #[test]
    fn an_order_is_clear_or_refused() {
        assert_eq!(parse("instance=jobs&from=primary"), order(Some("jobs"), StoreId::Primary));
        assert_eq!(parse("from=secondary"), order(None, StoreId::Secondary));
        for unclear in [
            "",
            "instance=jobs",
            "from=",
            "from=Primary",
            "from=primary&from=secondary",
            "instance=a&instance=b&from=primary",
            "from=primary&dry_run=true",
        ] {
            assert!(parse(unclear).is_err(), "{unclear}");
        }
    }

    #[test]
    fn only_this_machine_may_order_and_no_page_on_it() {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HEADER_VALUE.parse().expect("a header"));
        let ask = |peer: &str, headers: &HeaderMap, has_body| {
            let peer = peer.parse().expect("an address");
            let order = Asked { peer, query: Some("from=primary"), headers, has_body }.order();
            order.map_err(|(status, _)| status.as_u16())
        };
        for peer in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert!(ask(peer, &headers, false).is_ok(), "{peer}");
            assert_eq!(ask(peer, &HeaderMap::new(), false), Err(403), "{peer}");
            assert_eq!(ask(peer, &headers, true), Err(400), "{peer}");
        }
        for peer in ["10.0.0.1", "0.0.0.0", "fe80::1", "::ffff:10.0.0.1"] {
            assert_eq!(ask(peer, &headers, false), Err(403), "{peer}");
        }
        headers.insert(ORIGIN, "http://rebound.example".parse().expect("a header"));
        assert_eq!(ask("127.0.0.1", &headers, false), Err(403));
    }
}
