//! Orders: what the admin listener changes, by POST.
//!
//! Whoever reaches the listener may read; only somebody on this machine may order, and no page in a browser on it: such
//! a page cannot send [`HEADER`] to another origin unasked, and what it sends to its own (a name that it has made to
//! point here) carries an `Origin`. A report that names keys is asked for the same way.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{HeaderMap, ORIGIN};

use crate::instance::backfill::Action;
use crate::instance::verify::Sample;
use crate::stage::StoreId;

/// Where a repair is ordered.
pub const REPAIR: &str = "/repair";
/// Where a backfill is.
pub const BACKFILL: &str = "/backfill";
/// Where a verification is, and its report.
pub const VERIFY: &str = "/verify";
/// All of them.
pub const PATHS: [&str; 3] = [REPAIR, BACKFILL, VERIFY];
/// The header that an order must carry.
pub const HEADER: &str = "X-Multistore";
/// What that header says.
pub const HEADER_VALUE: &str = "order";

/// What is ordered, and of which instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Which instance; `None`: the only one.
    pub instance: Option<String>,
    /// What.
    pub what: What,
}

/// What is ordered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// This store is right: the other one is to be made equal to it.
    Repair {
        /// The store that is right.
        from: StoreId,
    },
    /// Copy the whole keyspace.
    Backfill(Action),
    /// Compare the stores.
    Verify(VerifyOrder),
}

/// What is ordered of a verification.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum VerifyOrder {
    /// Begin one.
    Start {
        /// How much is compared.
        sample: Sample,
        /// Are differing keys handed to repair?
        repair: bool,
    },
    /// Tell what the last one has found, or the one under way has found so far.
    Report,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
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

/// Hands an order to the running proxy. The answer is a line for people, or the report that was asked for.
pub type OrderSink = Arc<dyn Fn(Order) -> OrderFuture + Send + Sync>;

/// The pending answer of an [`OrderSink`].
pub type OrderFuture = Pin<Box<dyn Future<Output = Result<String, OrderError>> + Send>>;

/// What is known of a POST before it is obeyed.
pub(super) struct Asked<'a> {
    /// Who asks.
    pub peer: IpAddr,
    /// For what: one of [`PATHS`].
    pub path: &'a str,
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
    pub fn order(&self) -> Result<Order, (StatusCode, String)> {
        let peer = self.peer.to_canonical();
        if !peer.is_loopback() {
            let text = format!(
                "orders are given from the machine of the proxy, over a loopback address; this is {peer}"
            );
            return Err((StatusCode::FORBIDDEN, text));
        }
        let marked = self.headers.get(HEADER).is_some_and(|value| value == HEADER_VALUE);
        if !marked || self.headers.contains_key(ORIGIN) {
            let text =
                format!("an order carries the header {HEADER}: {HEADER_VALUE}, and is not given by a page");
            return Err((StatusCode::FORBIDDEN, text));
        }
        if self.has_body {
            return Err((StatusCode::BAD_REQUEST, "an order has no body".to_owned()));
        }
        parse(self.path, self.query.unwrap_or_default()).map_err(|text| (StatusCode::BAD_REQUEST, text))
    }
}

/// What is not understood is refused: it may have been meant to change the order.
fn parse(path: &str, query: &str) -> Result<Order, String> {
    let mut words = Words::parse(query)?;
    let instance = words.take("instance");
    let what = match path {
        REPAIR => What::Repair { from: from(words.take("from"))? },
        BACKFILL => {
            let name = words.take("action").unwrap_or_default();
            let action = Action::ALL.into_iter().find(|action| action.name() == name);
            What::Backfill(action.ok_or("?action=start, pause or resume")?)
        }
        _ => What::Verify(match words.take("action").as_deref() {
            Some("start") => VerifyOrder::Start {
                sample: words.take("sample").map_or(Ok(Sample::Everything), |text| Sample::parse(&text))?,
                repair: switch(words.take("repair"))?,
            },
            Some("report") => VerifyOrder::Report,
            _ => return Err("?action=start or report".to_owned()),
        }),
    };
    words.end()?;
    Ok(Order { instance, what })
}

fn from(name: Option<String>) -> Result<StoreId, String> {
    let name = name.ok_or("which store is right? ?from=primary or ?from=secondary")?;
    let store = StoreId::ALL.into_iter().find(|store| store.name() == name);
    store.ok_or_else(|| "from is primary or secondary".to_owned())
}

fn switch(text: Option<String>) -> Result<bool, String> {
    match text.as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err("repair is true or false".to_owned()),
    }
}

/// The parts of a query, each taken once.
struct Words(Vec<(String, String)>);

// === impl Words ===

impl Words {
    fn parse(query: &str) -> Result<Words, String> {
        let mut words = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            if words.iter().any(|(known, _)| known == name) {
                return Err(format!("{name} is given twice"));
            }
            // The one character that a value needs escaped.
            words.push((name.to_owned(), value.replace("%25", "%")));
        }
        Ok(Words(words))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    fn end(self) -> Result<(), String> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(format!("nothing is known of {name:?} here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(instance: Option<&str>, what: What) -> Result<Order, String> {
        Ok(Order { instance: instance.map(str::to_owned), what })
    }

    #[test]
    fn an_order_is_clear_or_refused() {
        let right = |from| What::Repair { from };
        assert_eq!(parse(REPAIR, "instance=jobs&from=primary"), order(Some("jobs"), right(StoreId::Primary)));
        assert_eq!(parse(REPAIR, "from=secondary"), order(None, right(StoreId::Secondary)));
        for unclear in [
            "",
            "instance=jobs",
            "from=",
            "from=Primary",
            "from=primary&from=secondary",
            "instance=a&instance=b&from=primary",
            "from=primary&dry_run=true",
        ] {
            assert!(parse(REPAIR, unclear).is_err(), "{unclear}");
        }
    }

    #[test]
    fn backfill_and_verification_are_ordered_likewise() {
        assert_eq!(parse(BACKFILL, "action=pause"), order(None, What::Backfill(Action::Pause)));
        let start = |sample, repair| What::Verify(VerifyOrder::Start { sample, repair });
        assert_eq!(parse(VERIFY, "action=start"), order(None, start(Sample::Everything, false)));
        assert_eq!(
            parse(VERIFY, "action=start&sample=5%25&repair=true"),
            order(None, start(Sample::Percent(5.0), true))
        );
        assert_eq!(parse(VERIFY, "action=report"), order(None, What::Verify(VerifyOrder::Report)));
        for (path, unclear) in [
            (BACKFILL, ""),
            (BACKFILL, "action=stop"),
            (VERIFY, "sample=5"),
            (VERIFY, "action=start&sample=0"),
        ] {
            assert!(parse(path, unclear).is_err(), "{path} {unclear}");
        }
    }

    #[test]
    fn only_this_machine_may_order_and_no_page_on_it() {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HEADER_VALUE.parse().expect("a header"));
        let ask = |peer: &str, headers: &HeaderMap, has_body| {
            let peer = peer.parse().expect("an address");
            let asked = Asked { peer, path: REPAIR, query: Some("from=primary"), headers, has_body };
            asked.order().map_err(|(status, _)| status.as_u16())
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
