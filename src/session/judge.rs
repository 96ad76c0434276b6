//! What is judged before a request is run: the errors that the default store would answer at once.

use crate::command::acl::Denied;
use crate::command::errors::{unknown_command_error, unknown_subcommand_error, wrong_arity_error};
use crate::command::{CommandFlags, Spec, keys};
use crate::config::User;
use crate::metrics::ClientErrorKind;
use crate::resp::Proto;
use crate::resp::request::Request;
use crate::route::{Route, SessionCommand, TransactionCommand};

use super::Session;
use super::asked::Asked;

// === impl Session ===

impl Session {
    /// Does the proxy judge a request before a store sees it?
    pub(super) fn is_special(&self, route: Route) -> bool {
        !matches!(route, Route::Order(_)) || self.is_special_client()
    }

    /// Is there anything about the client for which its requests are judged?
    #[inline]
    pub(super) fn is_special_client(&self) -> bool {
        self.multi.is_some()
            || self.subscriber.is_some()
            || self.pinned.is_some()
            || !self.state.authenticated
            || self.state.restricted_to.is_some()
    }

    /// The error for a request that the default store would not run, in the order in which Redis looks.
    pub(super) fn rejection(&mut self, asked: &Asked<'_>) -> Option<Vec<u8>> {
        let Asked { request, id, spec, route, .. } = *asked;
        let offered = {
            let core = self.instance.core();
            self.instance.with_facts(core.default_store(), |facts| facts.offered.clone())
        };
        let (exists, fits) = match &offered {
            Some(offered) => (offered.has(id), offered.arity_ok(id, request.argc())),
            None => (true, spec.arity_ok(request.argc())),
        };
        if !exists {
            let table = self.instance.core().table.clone();
            let container = spec.name.split_once('|').and_then(|(name, _)| table.by_name(name));
            return Some(match container {
                Some(container) => unknown_subcommand_error(table.spec(container), &request),
                None => unknown_command_error(&request),
            });
        }
        if !fits {
            return Some(wrong_arity_error(spec));
        }
        if !self.state.authenticated && !before_auth(route) {
            return Some(b"NOAUTH Authentication required.".to_vec());
        }
        if let Some(user) = self.state.restricted_to.clone()
            && !before_auth(route)
            && let Some(error) = self.denied(&user, &request, spec)
        {
            return Some(error);
        }
        let no_multi = spec.flags.has(CommandFlags::NO_MULTI);
        if self.multi.is_some() && no_multi && queues(route) {
            return Some(b"ERR Command not allowed inside a transaction".to_vec());
        }
        self.restricts(spec, route).then(|| not_while_subscribed(spec, request.name()))
    }

    /// The error for what a user's rules forbid, in the words of the default store's version.
    fn denied(&mut self, user: &User, request: &Request<'_>, spec: &Spec) -> Option<Vec<u8>> {
        let listed = keys(spec, request, &mut self.keys).is_ok();
        let denied = user.acl.denies(spec, request, listed.then_some(&self.keys))?;
        self.instance.metrics.client_errors[ClientErrorKind::Denied].inc();
        let name = String::from_utf8_lossy(&self.io.info.borrow().user).into_owned();
        let newer = self.instance.is_default_store_at_least(7, 2);
        let text = match denied {
            Denied::Command if newer => {
                format!("NOPERM User {name} has no permissions to run the '{}' command", spec.name)
            }
            Denied::Command => {
                format!("NOPERM this user has no permissions to run the '{}' command", spec.name)
            }
            Denied::Key if newer => "NOPERM No permissions to access a key".to_owned(),
            Denied::Key => {
                "NOPERM this user has no permissions to access one of the keys used as arguments".to_owned()
            }
            Denied::Channel if newer => "NOPERM No permissions to access a channel".to_owned(),
            Denied::Channel => {
                "NOPERM this user has no permissions to access one of the channels used as arguments"
                    .to_owned()
            }
            Denied::Script => format!(
                "MULTISTORE {} is refused: a script runs as the proxy's own user, and the rules of '{name}' would not \
                 hold inside it",
                spec.name.to_uppercase()
            ),
        };
        Some(text.into_bytes())
    }

    /// Refuses a request before it is run: an open transaction will abort, and EXEC itself aborts at once.
    pub(super) fn reject(&mut self, route: Route, error: Vec<u8>) {
        let seq = self.owe();
        if let Some(multi) = &mut self.multi {
            multi.dirty = true;
        }
        self.answer_queued();
        // As Redis does whatever it says; what the proxy says of itself stands alone.
        let aborts = !error.starts_with(b"MULTISTORE ");
        if route != Route::Transaction(TransactionCommand::Exec) || !aborts {
            self.pay_error(seq, error);
            return;
        }
        self.abort_multi();
        let mut text = b"EXECABORT Transaction discarded because of: ".to_vec();
        text.extend_from_slice(error.strip_prefix(b"ERR ").unwrap_or(&error));
        self.pay_error(seq, text);
    }

    /// Is the client subscribed, and speaks RESP2?
    pub(super) fn is_restricted(&self) -> bool {
        self.state.proto == Proto::Resp2
            && self.subscriber.as_ref().is_some_and(|subscriber| subscriber.is_subscribed())
    }

    /// Is this command forbidden while the client is subscribed (RESP2 only)?
    fn restricts(&self, spec: &Spec, route: Route) -> bool {
        self.is_restricted()
            && !matches!(
                route,
                Route::Subscribe | Route::Session(SessionCommand::Quit | SessionCommand::Reset)
            )
            && spec.name != "ping"
    }
}

fn before_auth(route: Route) -> bool {
    matches!(
        route,
        Route::Session(
            SessionCommand::Auth | SessionCommand::Hello | SessionCommand::Quit | SessionCommand::Reset
        )
    )
}

/// Is a command with this route queued by an open transaction?
pub(super) fn queues(route: Route) -> bool {
    !matches!(
        route,
        Route::Session(SessionCommand::Reset | SessionCommand::Quit)
            | Route::Transaction(
                TransactionCommand::Exec
                    | TransactionCommand::Discard
                    | TransactionCommand::Multi
                    | TransactionCommand::Watch
            )
    )
}

fn not_while_subscribed(spec: &Spec, name: &[u8]) -> Vec<u8> {
    let name = match spec.name.split_once('|') {
        Some(_) => spec.name.to_string(),
        None => String::from_utf8_lossy(name).to_lowercase(),
    };
    format!(
        "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
         this context"
    )
    .into_bytes()
}
