use super::*;
use crate::command::CommandFlags;

fn chosen(line: &str) -> Way {
    let words: Vec<&str> = line.split(' ').collect();
    let table = Table::builtin();
    let id = table.find(&words[..]).unwrap_or_else(|| panic!("not in the table: {line}"));
    let found = way(table.spec(id), &words[..]);
    assert_eq!(Recipes::new(&table).way(id, table.spec(id), &words[..]), found, "{line}");
    found
}

#[test]
fn the_table_is_sorted() {
    assert!(TABLE.is_sorted_by(|(one, _), (two, _)| one < two));
}

#[test]
fn every_command_that_writes_is_in_the_table_and_no_other() {
    let table = Table::builtin();
    let writes = |spec: &Spec| {
        let kinds = [Kind::Write, Kind::KeyspaceWrite, Kind::ServerWrite, Kind::Script, Kind::Publish];
        spec.flags.has(CommandFlags::WRITE) || kinds.contains(&spec.kind)
    };
    for (_, spec) in table.iter() {
        let listed = Recipe::by_name(&spec.name).is_some();
        assert_eq!(listed, writes(spec), "{}", spec.name);
    }
    for (name, _) in TABLE {
        assert!(table.by_name(name).is_some(), "{name} is not a command");
    }
}

#[test]
fn what_nobody_knows_is_copied() {
    let table = Table::builtin();
    let set = table.spec(table.by_name("set").expect("SET"));
    let unknown = Spec { name: "json.set".into(), ..set.clone() };
    assert_eq!(way(&unknown, &["JSON.SET", "k", "$", "1"][..]), Way::Copied);
    let get = table.spec(table.by_name("get").expect("GET"));
    let read = Spec { name: "json.get".into(), ..get.clone() };
    assert_eq!(way(&read, &["JSON.GET", "k"][..]), Way::Nothing);
}

#[test]
fn arguments_decide() {
    use Derivation::*;
    for (line, way) in [
        ("SET k v NX EX 10", Way::Verbatim),
        ("GET k", Way::Nothing),
        ("GETEX k", Way::Nothing),
        ("GETEX k EX 1", Way::Verbatim),
        ("BITFIELD k GET u8 0", Way::Nothing),
        ("BITFIELD k SET u8 0 1", Way::Verbatim),
        ("PFCOUNT a", Way::Verbatim),
        ("PFCOUNT a b", Way::Nothing),
        ("SPOP k 3", Way::Derived(Spop)),
        ("SRANDMEMBER k", Way::Nothing),
        ("INCRBYFLOAT k 1.5", Way::Derived(IncrByFloat)),
        ("HINCRBYFLOAT k f 1.5", Way::Derived(HIncrByFloat)),
        ("PUBLISH c m", Way::Verbatim),
        ("FLUSHALL", Way::Verbatim),
        ("SCRIPT LOAD x", Way::Verbatim),
        ("SCRIPT EXISTS x", Way::Nothing),
        ("EVAL x 0", Way::Copied),
        ("EVAL_RO x 0", Way::Nothing),
        ("MULTI", Way::Nothing),
        ("BLPOP k 0", Way::Verbatim),
        ("MIGRATE h 1 k 0 10", Way::Copied),
    ] {
        assert_eq!(chosen(line), way, "{line}");
    }
}

#[test]
fn xadd_and_xtrim_leave_a_choice_with_a_star_or_a_tilde() {
    use Derivation::*;
    for (line, way) in [
        ("XADD k * f v", Way::Derived(XaddAuto)),
        ("XADD k 5-* f v", Way::Derived(XaddAuto)),
        ("XADD k 5-1 * v", Way::Verbatim),
        ("XADD k 5 f v", Way::Verbatim),
        ("XADD k NOMKSTREAM * f v", Way::Derived(XaddAuto)),
        ("XADD k nomkstream 5 f ~", Way::Verbatim),
        ("XADD k MAXLEN 10 * f v", Way::Derived(XaddAuto)),
        ("XADD k MAXLEN = 10 5-1 f v", Way::Verbatim),
        ("XADD k MAXLEN ~ 10 5-1 f v", Way::Derived(XaddApprox)),
        ("XADD k NOMKSTREAM MINID ~ 10-0 LIMIT 5 * f v", Way::Derived(XaddApprox)),
        ("XADD k KEEPREF MAXLEN ~ 10 * f v", Way::Derived(XaddApprox)),
        ("XADD k DELREF MAXLEN ~ 10 * f v", Way::Copied),
        ("XADD k DELREF MAXLEN 10 * f v", Way::Derived(XaddAuto)),
        ("XADD k IDMPAUTO p * f v", Way::Copied),
        ("XADD k MAXLEN ~ 10", Way::Copied),
        ("XADD k *-5 f v", Way::Copied),
        ("XADD k 5- f v", Way::Copied),
        ("XADD k -5 f v", Way::Copied),
        ("XTRIM k MAXLEN 10", Way::Verbatim),
        ("XTRIM k MAXLEN = 10", Way::Verbatim),
        ("XTRIM k MAXLEN ~ 10", Way::Derived(XtrimApprox)),
        ("XTRIM k MINID ~ 10 LIMIT 0", Way::Derived(XtrimApprox)),
        ("XTRIM k MINID ~ 10 ACKED", Way::Copied),
        ("XTRIM k MINID 10 FUTURE", Way::Copied),
        ("XTRIM k MINID 10-1", Way::Verbatim),
    ] {
        assert_eq!(chosen(line), way, "{line}");
    }
}

#[test]
fn orders_and_distances_that_servers_may_see_otherwise_are_copied() {
    for (line, way) in [
        ("SORT k", Way::Nothing),
        ("SORT k DESC LIMIT 0 5 GET # STORE d", Way::Verbatim),
        ("SORT k ALPHA STORE d", Way::Copied),
        ("SORT k BY w_* STORE d", Way::Copied),
        ("SORT k BY nosort STORE d", Way::Copied),
        ("SORT k GET v_* STORE d", Way::Copied),
        ("GEORADIUS k 1 2 3 km", Way::Nothing),
        ("GEORADIUS k 1 2 3 km STORE d", Way::Verbatim),
        ("GEORADIUS k 1 2 3 km STOREDIST d", Way::Copied),
        ("GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 1 km", Way::Verbatim),
        ("GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 1 km COUNT 2 ANY", Way::Copied),
    ] {
        assert_eq!(chosen(line), way, "{line}");
    }
}

#[test]
fn ids_are_read_strictly() {
    for (text, id) in [
        ("5", Some((5, 0))),
        ("5-7", Some((5, 7))),
        ("18446744073709551615-18446744073709551615", Some((u64::MAX, u64::MAX))),
        ("18446744073709551616", None),
        ("", None),
        ("-", None),
        ("+5", None),
        ("5-", None),
        ("*", None),
        ("5-1-1", None),
    ] {
        assert_eq!(parse_id(text.as_bytes()), id, "{text}");
    }
}
