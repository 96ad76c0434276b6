//! What no single value shows: listeners that collide, stores that are the same, bounds in the wrong order.

use std::fmt::Display;
use std::ops::Range;

use toml_edit::{Item, Table};

use super::address::Listen;
use super::reader::Reader;
use super::schema::{AdminConfig, InstanceConfig};
use super::store_url::{Endpoint, StoreConfig};
use super::value::{Auth, ClientCert};
use crate::stage::StoreId;

/// Checks everything that involves more than one key.
pub fn all(
    root: &Table,
    admin: Option<&AdminConfig>,
    instances: &[(String, Option<InstanceConfig>)],
    reader: &mut Reader,
) {
    let valid: Vec<(&str, &InstanceConfig)> =
        instances.iter().filter_map(|(name, instance)| Some((name.as_str(), instance.as_ref()?))).collect();
    listeners(root, admin, &valid, reader);
    for (name, instance) in valid {
        stores(root, name, instance, reader);
        bounds(root, name, instance, reader);
        admission(root, name, instance, reader);
    }
}

struct Listener {
    owner: String,
    listen: Listen,
    span: Option<Range<usize>>,
}

fn listeners(
    root: &Table,
    admin: Option<&AdminConfig>,
    instances: &[(&str, &InstanceConfig)],
    reader: &mut Reader,
) {
    let mut taken: Vec<Listener> = Vec::new();
    if let Some(admin) = admin {
        let span = root.get("admin").and_then(|item| item.get("listen")).and_then(Item::span);
        taken.push(Listener { owner: "[admin]".to_owned(), listen: Listen::Tcp(admin.listen.clone()), span });
    }
    for (name, instance) in instances {
        let span = key_span(root, name, "listen");
        let listener =
            Listener { owner: format!("[instances.{name}]"), listen: instance.listen.clone(), span };
        if let Some(first) = taken.iter().find(|first| first.listen.overlaps(&listener.listen)) {
            reader.error(listener.span.clone(), collision(first, &listener));
        }
        taken.push(listener);
    }
}

fn collision(first: &Listener, second: &Listener) -> String {
    let (a, b) = (&first.listen, &second.listen);
    let same = if a == b { String::new() } else { format!(" at {a}") };
    let default = if first.span.is_none() { " (its default)" } else { "" };
    format!(
        "'{b}' is already taken by {}{same}{default}; each listener needs an address of its own",
        first.owner
    )
}

fn stores(root: &Table, name: &str, instance: &InstanceConfig, reader: &mut Reader) {
    for id in StoreId::ALL {
        if reaches(&instance.listen, instance.store(id)) {
            reader.error(
                key_span(root, name, id.name()),
                format!("'{id}' in [instances.{name}] is the instance's own listener; write the address of a store"),
            );
        }
    }
    if instance.primary.same_place(&instance.secondary) {
        reader.warning(
            key_span(root, name, "secondary"),
            format!("primary and secondary of [instances.{name}] are the same store; it will be used as one, never as two"),
        );
    }
}

fn reaches(listen: &Listen, store: &StoreConfig) -> bool {
    match (&store.endpoint, listen) {
        (Endpoint::Tcp(store), Listen::Tcp(listen)) => {
            listen.port != 0 && Listen::Tcp(listen.reachable()).overlaps(&Listen::Tcp(store.reachable()))
        }
        (Endpoint::Unix(store), Listen::Unix(listen)) => store == listen,
        _ => false,
    }
}

/// Who may connect must have been thought of: Redis's protected mode, before anything listens.
fn admission(root: &Table, name: &str, instance: &InstanceConfig, reader: &mut Reader) {
    let by_users = instance.auth == Auth::Users;
    if by_users && instance.users.is_empty() {
        let text =
            format!("auth = \"users\" needs a user; write [instances.{name}.users.USER] with a password");
        reader.error(key_span(root, name, "auth"), text);
    }
    if !by_users && !instance.users.is_empty() {
        let text =
            format!("[instances.{name}.users] has no effect; write auth = \"users\" in [instances.{name}]");
        reader.error(key_span(root, name, "auth").or_else(|| key_span(root, name, "users")), text);
    }
    let certified = instance.tls.as_ref().is_some_and(|tls| tls.client_cert == ClientCert::Required);
    if !instance.listen.is_local() && instance.auth == Auth::None && !certified && !instance.unprotected {
        reader.error(
            key_span(root, name, "listen"),
            format!(
                "'{}' is reached from other machines and [instances.{name}] asks nobody for a password; write auth = \
                 \"users\" or \"passthrough\", demand client certificates (tls), listen on 127.0.0.1, or write \
                 unprotected = true if whoever reaches it may do anything to the data",
                instance.listen
            ),
        );
    }
}

fn bounds(root: &Table, name: &str, instance: &InstanceConfig, reader: &mut Reader) {
    let mut ordered = |low: (&str, &dyn Display), high: (&str, &dyn Display), holds: bool| {
        if !holds {
            let span = key_span(root, name, low.0).or_else(|| key_span(root, name, high.0));
            reader.error(
                span,
                format!(
                    "'{}' in [instances.{name}] is {}, above '{}', which is {}; make it no greater",
                    low.0, low.1, high.0, high.1
                ),
            );
        }
    };
    let i = instance;
    let sizes = [
        (("client_output_soft", i.client_output_soft), ("client_output_max", i.client_output_max)),
        (("max_bulk", i.max_bulk), ("max_request", i.max_request)),
        (("max_inline", i.max_inline), ("max_request", i.max_request)),
    ];
    for (low, high) in sizes {
        ordered((low.0, &low.1), (high.0, &high.1), low.1 <= high.1);
    }
    let times = [
        (("auth_delay", i.auth_delay), ("auth_delay_max", i.auth_delay_max)),
        (("reconnect_min", i.reconnect_min), ("reconnect_max", i.reconnect_max)),
        (("reply_timeout", i.reply_timeout), ("lane_timeout", i.lane_timeout)),
    ];
    for (low, high) in times {
        let show = super::units::format_duration;
        ordered((low.0, &show(low.1)), (high.0, &show(high.1)), low.1 <= high.1);
    }
}

fn key_span(root: &Table, instance: &str, key: &str) -> Option<Range<usize>> {
    root.get("instances")?.get(instance)?.get(key)?.span()
}
