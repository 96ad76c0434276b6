//! `multistore repair`: an operator says which store is right.

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::proxy::ProxyArg;
use super::{Exit, complain, say};
use crate::admin::orders::REPAIR;
use crate::stage::StoreId;

/// Make one store equal to the other, as a whole
///
/// A running proxy repairs by itself whatever it knows to be behind. It needs to be told which store is right when the
/// default store came back as another server and may have lost writes: /status says so (operator_must_name_source).
/// The other store then gets every key of the named one, and loses every key that the named one lacks. Clients go on
/// meanwhile. The command returns when the repair has begun; .sync in /status shows how far it is.
///
/// Must be run on the machine of the proxy, while both stores are in use. Where the store in use came back as another
/// server while it was in use alone, the step back to both is held until this is said; the repair begins with that step.
#[derive(Args)]
pub struct Repair {
    /// The store that is right
    #[arg(long, value_name = "STORE", value_parser = PossibleValuesParser::new(StoreId::ALL.map(StoreId::name)))]
    from: String,
    #[command(flatten)]
    proxy: ProxyArg,
}

// === impl Repair ===

impl Repair {
    /// Asks the running proxy.
    pub fn run(self) -> Exit {
        let proxy = match self.proxy.proxy() {
            Ok(proxy) => proxy,
            Err(exit) => return exit,
        };
        match proxy.order(REPAIR, &[("from", &self.from)]) {
            Ok(answer) => {
                say(answer.trim_end());
                Exit::Done
            }
            Err(problem) => {
                complain(format_args!("not repaired: {}", problem.text));
                problem.exit
            }
        }
    }
}
