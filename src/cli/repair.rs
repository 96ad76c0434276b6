//! `multistore repair`: an operator says which store is right.

use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::http::{self, AdminArg};
use super::{Exit, complain, say};
use crate::admin::repair::{HEADER, HEADER_VALUE, PATH};
use crate::stage::StoreId;

/// How long the proxy may take to answer. It answers when the repair has begun.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Make one store equal to the other, as a whole
///
/// A running proxy repairs by itself whatever it knows to be behind. It needs to be told which store is right when the
/// default store came back as another server and may have lost writes: /status says so (operator_must_name_source).
/// The other store then gets every key of the named one, and loses every key that the named one lacks. Clients go on
/// meanwhile. The command returns when the repair has begun; .sync in /status shows how far it is.
///
/// Must be run on the machine of the proxy, while both stores are in use.
#[derive(Args)]
pub struct Repair {
    /// The store that is right
    #[arg(long, value_name = "STORE", value_parser = PossibleValuesParser::new(StoreId::ALL.map(StoreId::name)))]
    from: String,
    /// The instance; may be left out if the proxy has only one
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    #[command(flatten)]
    admin: AdminArg,
}

// === impl Repair ===

impl Repair {
    /// Asks the running proxy.
    pub fn run(self) -> Exit {
        let path = match &self.instance {
            Some(instance) => format!("{PATH}?instance={}&from={}", escaped(instance), self.from),
            None => format!("{PATH}?from={}", self.from),
        };
        let address = match self.admin.address() {
            Ok(address) => address,
            Err(exit) => return exit,
        };
        match http::post(&address, &path, &[(HEADER, HEADER_VALUE)], TIMEOUT) {
            Ok((200, body)) => {
                say(body.trim_end());
                Exit::Done
            }
            Ok((status, body)) => {
                complain(format_args!("not repaired: {}", body.trim_end()));
                // The proxy found fault with what it was asked, not with its own state.
                if matches!(status, 400 | 404) { Exit::Invalid } else { Exit::Failed }
            }
            Err(problem) => {
                complain(format_args!("not repaired: {address}: {problem}"));
                Exit::Failed
            }
        }
    }
}

/// A name as part of a query. Names of instances need no escaping; whatever else is given must not break the request.
fn escaped(name: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    name.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
