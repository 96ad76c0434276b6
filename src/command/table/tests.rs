use super::*;
use crate::command::{Find, KeyFlags, Kind, Rule, keys::Access, keys::Keys};

fn live(name: &str, flags: &[&str]) -> LiveCommand {
    LiveCommand {
        name: name.into(),
        arity: -2,
        flags: flags.iter().map(|flag| flag.to_string()).collect(),
        ..LiveCommand::default()
    }
}

fn name(table: &Table, words: &[&str]) -> Option<String> {
    table.find(words).map(|id| table.spec(id).name.to_string())
}

#[test]
fn every_row_is_found_in_any_case_and_only_once() {
    let table = Table::builtin();
    let mut seen = std::collections::HashSet::new();
    for (id, spec) in table.iter() {
        assert!(seen.insert(spec.name.to_string()), "{} twice", spec.name);
        assert_eq!(table.by_name(&spec.name), Some(id), "{}", spec.name);
        for name in [spec.name.to_uppercase(), spec.name.to_lowercase()] {
            let words: Vec<&str> = name.split('|').collect();
            assert_eq!(table.lookup(&words[..]), Lookup::Command(id), "{name}");
        }
    }
    assert_eq!(seen.len(), builtin::ROWS.len() + extra::ROWS.len());
}

#[test]
fn subcommands_need_their_container() {
    let table = Table::builtin();
    let client = table.by_name("client").unwrap();
    assert_eq!(name(&table, &["Client", "kILL", "x"]).as_deref(), Some("client|kill"));
    assert_eq!(table.lookup(&["CLIENT"][..]), Lookup::Command(client));
    assert_eq!(table.lookup(&["CLIENT", "KIL"][..]), Lookup::UnknownSubcommand(client));
    assert_eq!(table.lookup(&["KILL", "x"][..]), Lookup::Unknown);
    assert_eq!(table.lookup(&["CLIENT|KILL", "x"][..]), Lookup::Unknown);
    assert_eq!(name(&table, &["get", "kill"]).as_deref(), Some("get"));
    assert!(table.spec(client).container);
    assert!(!table.spec(table.by_name("get").unwrap()).container);
}

#[test]
fn strange_names_are_unknown() {
    let table = Table::builtin();
    let long = "x".repeat(MAX_NAME + 1);
    for name in ["", "ge", "gett", "g\u{45}\u{0}", "|", "client|", long.as_str(), "eval\x7fro", "\x07et"] {
        assert_eq!(table.lookup(&[name, "a"][..]), Lookup::Unknown, "{name:?}");
    }
    assert_eq!(table.lookup(&[""; 0][..]), Lookup::Unknown);
}

#[test]
fn an_overlay_adds_only_what_is_missing() {
    let mut table = Table::builtin();
    let get = table.by_name("get").unwrap();
    let mut read = live("JSON.GET", &["readonly", "module"]);
    (read.first, read.last, read.step) = (1, 1, 1);
    let mut container = live("ft.config", &[]);
    container.subcommands = vec![live("ft.config|get", &["readonly"]), live("ft.config|a|b", &[])];
    let mut client = live("client", &[]);
    client.subcommands = vec![live("client|kill", &["write"]), live("client|new", &["admin"])];
    let outcome = table.overlay([live("get", &["write"]), read, container, client, live("", &[])]);
    assert_eq!(outcome, Overlaid { added: 4, dropped: 2 });

    assert_eq!(table.by_name("get"), Some(get));
    assert_eq!(table.spec(get).kind, Kind::Read);
    let json = table.spec(table.find(&["json.get", "k"][..]).unwrap());
    assert_eq!((json.kind, json.miss, json.rule), (Kind::Read, Miss::Nil, Rule::Exact));
    let mut keys = Keys::new();
    crate::command::keys(json, &["json.get", "k", "."][..], &mut keys).unwrap();
    assert_eq!(
        keys.as_slice().iter().map(|key| (key.arg, key.access)).collect::<Vec<_>>(),
        [(1, Access::Read)]
    );
    assert_eq!(name(&table, &["FT.CONFIG", "GET"]).as_deref(), Some("ft.config|get"));
    assert_eq!(name(&table, &["client", "NEW"]).as_deref(), Some("client|new"));
    assert_eq!(table.spec(table.by_name("client|kill").unwrap()).kind, Kind::Connection);

    let again = table.count();
    table.overlay([live("json.get", &["write"])]);
    assert_eq!(table.count(), again);
}

#[test]
fn an_overlay_is_bounded() {
    let mut table = Table::builtin();
    let outcome =
        table.overlay((0..MAX_OVERLAID + 10).map(|number| live(&format!("m.{number}"), &["write"])));
    assert_eq!(outcome, Overlaid { added: MAX_OVERLAID, dropped: 10 });
    for number in 0..MAX_OVERLAID {
        let id = table.by_name(&format!("M.{number}")).unwrap();
        assert_eq!(table.spec(id).kind, Kind::KeyspaceWrite, "writes and names no key");
    }
    assert!(table.by_name("get").is_some());
}

#[test]
fn old_servers_tell_keys_by_first_last_and_step() {
    let mut table = Table::builtin();
    let mut old = live("m.mset", &["write", "movablekeys"]);
    (old.first, old.last, old.step) = (1, -1, 2);
    table.overlay([old]);
    let spec = table.spec(table.by_name("m.mset").unwrap());
    assert!(spec.keys[0].flags.has(KeyFlags::RW));
    assert_eq!(spec.keys[0].find, Find::Range { last: -1, step: 2, limit: 0 });
    let mut keys = Keys::new();
    crate::command::keys(spec, &["m.mset", "a", "1", "b", "2"][..], &mut keys).unwrap();
    assert_eq!(keys.as_slice().iter().map(|key| key.arg).collect::<Vec<_>>(), [1, 3]);
    assert!(keys.unlisted());
}

#[test]
fn everything_that_reads_is_annotated() {
    let table = Table::builtin();
    let forgotten: Vec<&str> = table
        .iter()
        .map(|(_, spec)| spec)
        .filter(|spec| spec.flags.has(CommandFlags::READONLY) || spec.kind == Kind::Read)
        .filter(|spec| annotations::miss(&spec.name).is_none())
        .map(|spec| &*spec.name)
        .collect();
    assert!(forgotten.is_empty(), "no line in annotations::miss for {forgotten:?}");
}

#[test]
fn annotations_name_commands_that_exist() {
    let table = Table::builtin();
    let source = include_str!("../annotations.rs");
    let names =
        source.split('"').skip(1).step_by(2).filter(|name| !name.starts_with('|') && !name.ends_with('|'));
    let unknown: Vec<&str> = names.filter(|name| table.by_name(name).is_none()).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn kinds_and_flags_agree() {
    for (_, spec) in Table::builtin().iter() {
        let (write, read) = (spec.flags.has(CommandFlags::WRITE), spec.flags.has(CommandFlags::READONLY));
        assert!(!(write && read), "{}", spec.name);
        let fits = match spec.kind {
            Kind::Read | Kind::KeyspaceRead | Kind::ScriptRead => read,
            Kind::Write | Kind::KeyspaceWrite => write || spec.name == "pfcount",
            Kind::Blocking => spec.flags.has(CommandFlags::BLOCKING),
            Kind::ServerWrite | Kind::Dangerous => !read,
            Kind::Script => spec.flags.has(CommandFlags::MAY_REPLICATE),
            _ => !write && (!read || spec.name == "lolwut"),
        };
        assert!(fits, "{} is {:?}", spec.name, spec.kind);
    }
}

#[test]
fn a_server_that_tells_of_no_subcommands_is_taken_to_have_them() {
    let table = Table::builtin();
    let container = LiveCommand { name: "client".to_owned(), arity: -2, ..LiveCommand::default() };
    let with = |name: &str| LiveCommand { name: name.to_owned(), arity: 2, ..LiveCommand::default() };
    let id = |name: &str| table.by_name(name).unwrap();
    let old = table.offered(std::slice::from_ref(&container));
    assert!(old.has(id("client|kill")) && old.arity_ok(id("client|getname"), 2) && !old.has(id("config|get")));
    let new = table.offered(&[LiveCommand { subcommands: vec![with("client|id")], ..container }]);
    assert!(new.has(id("client|id")) && !new.has(id("client|no-touch")));
}
