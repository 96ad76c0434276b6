//! Whole files: what is accepted, and what is said about the rest.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::stage::Stage;

const SMALLEST: &str = r#"
[admin]
listen = "127.0.0.1:9180"

[instances.duplicate_jobs]
listen = "127.0.0.1:6380"
primary = "redis://127.0.0.1:7001"
secondary = "redis://127.0.0.1:7002"

[feature_flags]
use_primary_and_secondary_stores_for_duplicate_jobs = true
use_primary_store_as_default_for_duplicate_jobs = false
"#;

/// The smallest instance without any line that a test adds.
const INSTANCE: &str =
    "[instances.x]\nlisten = \"127.0.0.1:6380\"\nprimary = \"redis://a\"\nsecondary = \"redis://b\"\n";

fn parse(text: &str) -> Result<Loaded, LoadError> {
    let env = |name: &str| (name == "PW").then(|| "from-env".to_owned());
    load::parse(Path::new("proxy.toml"), text, None, &env)
}

fn accept(text: &str) -> Config {
    parse(text).unwrap_or_else(|error| panic!("{error}")).config
}

fn errors(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.diagnostics.iter().map(Diagnostic::to_string).collect(),
    }
}

fn only_error(text: &str) -> String {
    let errors = errors(text);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.concat()
}

#[test]
fn the_smallest_configuration() {
    let config = accept(SMALLEST);
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9180");
    assert_eq!(config.flags("duplicate_jobs").stage(), Stage::DualSecondaryDefault);
    assert_eq!(config.flags("nobody").stage(), Stage::SecondaryOnly);
    let instance = &config.instances["duplicate_jobs"];
    assert_eq!((instance.reads, instance.ack, instance.hydrate), (Reads::Fallback, Ack::Default, true));
    assert_eq!(instance.reply_timeout, Duration::from_secs(5));
    assert_eq!(instance.max_request, ByteSize::new(1 << 30));
    assert!(instance.refuse.contains("shutdown") && !instance.refuse.contains("get"));
    assert_eq!(config.state_file(), Path::new("proxy.state"));
}

#[test]
fn every_default_and_bound_of_the_schema_is_valid() {
    // A default that does not parse would make every file without that key invalid; so would a bound for one with it.
    for (section, keys) in schema::SECTIONS {
        for key in keys {
            assert!(
                key.literal.parse::<toml_edit::Value>().is_ok(),
                "{section}.{}: {}",
                key.name,
                key.literal
            );
            assert!(
                !key.doc.is_empty() && key.doc.iter().all(|line| line.starts_with(' ')),
                "{section}.{}",
                key.name
            );
        }
    }
    for key in <InstanceConfig as section::Section>::KEYS {
        for bound in key.range.iter().flat_map(|(low, high)| [low, high]) {
            let text = format!("{INSTANCE}{} = {bound}\n", key.name);
            let about_range: Vec<String> =
                parse(&text).err().into_iter().map(|error| error.to_string()).collect();
            let ordering = about_range.iter().all(|error| error.contains("make it no greater"));
            assert!(ordering, "{text}: {about_range:?}");
        }
    }
}

#[test]
fn unknown_keys_are_pointed_at() {
    let text =
        "[instances.x]\n  lisen = \"127.0.0.1:6380\"\nprimary = \"redis://a\"\nsecondary = \"redis://b\"\n";
    assert_eq!(
        errors(text),
        [
            "proxy.toml:1:1: [instances.x] lacks 'listen'; write listen = \"127.0.0.1:6380\"",
            "proxy.toml:2:3: unknown key 'lisen' in [instances.x]; did you mean 'listen'?",
        ]
    );
    for (line, said) in [
        ("colour = 1", "5:1: unknown key 'colour' in [instances.x]"),
        ("threads = 1", "5:1: unknown key 'threads' in [instances.x]; it belongs in [process]"),
        ("[log]\nlevle = 1", "6:1: unknown key 'levle' in [log]; did you mean 'level'?"),
        ("[feature_flag]", "unknown section 'feature_flag'; did you mean 'feature_flags'?"),
        ("[nonsense]", "unknown section 'nonsense'; a file has [admin], [log]"),
        ("[instances.x.primary2]", "unknown key 'primary2' in [instances.x]; did you mean 'primary'?"),
    ] {
        let error = only_error(&format!("{INSTANCE}{line}\n"));
        assert!(error.contains(said), "{error}");
    }
    let error = only_error(&format!("threads = 3\n{INSTANCE}"));
    assert_eq!(error, "proxy.toml:1:1: unknown key 'threads'; it belongs in [process]");
}

#[test]
fn wrong_values_are_pointed_at() {
    for (line, said) in [
        (
            "reply_timeout = 5",
            ":5:17: 'reply_timeout' in [instances.x]: 5 has no unit; write \"5s\" or \"5ms\"",
        ),
        ("reply_timeout = \"5 sec\"", "unknown unit 'sec'"),
        (
            "reply_timeout = \"1ms\"",
            "'reply_timeout' in [instances.x]: write a value from \"10ms\" to \"1h\"",
        ),
        ("max_clients = 0", "'max_clients' in [instances.x]: write a value from 1 to 1000000"),
        ("hydrate = \"yes\"", "this is a string; write true or false"),
        (
            "hydrate = yes",
            "not TOML: string values must be quoted, expected literal string; a flag or switch is written true or",
        ),
        ("reads = \"both\"", "\"both\" is unknown; write \"fallback\" or"),
        ("refuse = \"get\"", "this is a string; write a list"),
        ("heavy_bytes = \"1tb\"", "write one of b, kb, mb, gb"),
        ("unix_mode = \"rw\"", "octal"),
        ("client_output_soft = \"2gb\"", "above 'client_output_max', which is 1gb; make it no greater"),
        (
            "reconnect_max = \"10ms\"",
            ":5:17: 'reconnect_min' in [instances.x] is 50ms, above 'reconnect_max'",
        ),
        ("[log]\nlevel = \"loud\"", "\"loud\" is unknown"),
        ("[admin]\nlisten = 9180", ":6:10: 'listen' in [admin]: this is an integer"),
        ("[admin]\nlisten = \"unix:///x\"", "'listen' in [admin]"),
        ("[feature_flags]\nuse_primary_and_secondary_stores_for_x = \"true\"", "without quotes"),
    ] {
        let error = only_error(&format!("{INSTANCE}{line}\n"));
        assert!(error.contains(said), "{error}");
    }
    assert!(
        only_error(&INSTANCE.replace("redis://a", "redis:/a"))
            .contains(":3:11: 'primary' in [instances.x]: this is not a URL")
    );
    assert!(only_error(&INSTANCE.replace("\"redis://a\"", "7001")).contains("write a URL such as"));
}

#[test]
fn what_is_no_section_is_told() {
    assert!(only_error(&format!("log = 1\n{INSTANCE}")).contains("1:7: 'log' is a section; write [log]"));
    assert!(only_error("").contains("no instance; write [instances.NAME]"));
    assert!(only_error("[instances]\n").contains("no instance"));
    let error = only_error(&format!("{INSTANCE}[instances]\nlisten = \"a:1\"\n"));
    assert!(error.contains("it belongs in [instances.NAME]"), "{error}");
    let error = only_error("[instances.x\n");
    assert!(error.starts_with("proxy.toml:1:13: not TOML: "), "{error}");
    let error = only_error(&format!("{INSTANCE}listen = \"127.0.0.1:1\"\n"));
    assert!(error.starts_with("proxy.toml:5:1: not TOML: duplicate key"), "{error}");
}

#[test]
fn all_errors_are_told_in_the_order_of_the_file() {
    let text = SMALLEST
        .replace("9180", "x")
        .replace("listen = \"127.0.0.1:6380\"", "ack = 1\nreads = 2")
        .replace("stores_for_duplicate", "stores_for_duplicat");
    let errors = errors(&text);
    let lines: Vec<&str> = errors.iter().map(|error| error.split(':').nth(1).unwrap()).collect();
    assert_eq!(lines, ["3", "5", "6", "7", "12"], "{errors:#?}");
}

#[test]
fn listeners_may_not_overlap() {
    let second = INSTANCE.replace("[instances.x]", "[instances.y]");
    let error = only_error(&format!("{INSTANCE}{second}"));
    assert!(error.contains(":6:10: '127.0.0.1:6380' is already taken by [instances.x];"), "{error}");
    let wildcard = second.replace("127.0.0.1:6380\"", "0.0.0.0:6380\"\nunprotected = true");
    let error = only_error(&format!("{INSTANCE}{wildcard}"));
    assert!(error.contains("'0.0.0.0:6380' is already taken by [instances.x] at 127.0.0.1:6380;"), "{error}");
    let error = only_error(&format!("[admin]\nlisten = \"[::]:6380\"\n{INSTANCE}"));
    assert!(error.contains("already taken by [admin] at [::]:6380"), "{error}");
    let error = only_error(&INSTANCE.replace("6380", "9180"));
    assert!(error.contains(":2:10:") && error.contains("by [admin] (its default)"), "{error}");
    let socket =
        |name: &str| INSTANCE.replace("[instances.x]", name).replace("127.0.0.1:6380", "unix:///run/m.sock");
    assert!(
        only_error(&format!("{}{}", socket("[instances.x]"), socket("[instances.y]")))
            .contains("unix:///run/m.sock")
    );
    accept(&format!("{INSTANCE}{}", second.replace("6380", "6381")));
}

#[test]
fn an_instance_may_not_be_its_own_store() {
    let error = only_error(&INSTANCE.replace("redis://b", "redis://localhost:6380"));
    assert!(error.contains(":4:13: 'secondary' in [instances.x] is the instance's own listener"), "{error}");
    accept(&INSTANCE.replace("redis://b", "redis://10.0.0.1:6380"));
    let error = only_error(
        &INSTANCE
            .replace("127.0.0.1:6380\"", "0.0.0.0:6380\"\nunprotected = true")
            .replace("redis://b", "redis://127.0.0.1:6380"),
    );
    assert!(error.contains("own listener"), "{error}");
}

#[test]
fn names_of_instances_are_checked() {
    for name in ["\"a-b\"", "Jobs", "\"\"", "\"a b\""] {
        let error = only_error(&INSTANCE.replace("[instances.x]", &format!("[instances.{name}]")));
        assert!(error.contains("write a-z, 0-9 and _ only"), "{error}");
    }
    let long = "x".repeat(MAX_INSTANCE_NAME + 1);
    let error = only_error(&INSTANCE.replace("[instances.x]", &format!("[instances.{long}]")));
    assert!(error.contains("at most 64 characters"), "{error}");
    accept(&INSTANCE.replace("[instances.x]", &format!("[instances.{}]", &long[1..])));
}

#[test]
fn flags_of_unknown_instances_are_refused() {
    let with = |flag: &str| only_error(&format!("{INSTANCE}[feature_flags]\n{flag} = true\n"));
    let error = with("use_primary_and_secondary_stores_for_y");
    assert!(error.contains(":6:1:") && error.contains("unknown instance 'y'"), "{error}");
    let error = with("use_primary_store_as_defautl_for_x");
    assert!(error.contains("did you mean 'use_primary_store_as_default_for_x'?"), "{error}");
    let error = with("nonsense");
    assert!(
        error.contains("the flags of an instance are use_primary_and_secondary_stores_for_NAME and"),
        "{error}"
    );
    let error = only_error(&format!("{INSTANCE}[feature_flags]\nallow_stage_jump = [\"y\"]\n"));
    assert!(error.contains(":6:20: 'allow_stage_jump' in [feature_flags]: unknown instance 'y'"), "{error}");
}

#[test]
fn the_same_store_twice_is_a_warning() {
    let loaded = parse(&INSTANCE.replace("redis://b", "redis://:pw@a:6379")).unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(Diagnostic::to_string).collect();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0]
            .starts_with("proxy.toml:4:13: warning: primary and secondary of [instances.x] are the same")
    );
    assert!(parse(&INSTANCE.replace("redis://b", "redis://a/1")).unwrap().warnings.is_empty());
}

/// An instance whose primary is a table with these lines.
fn with_store_table(lines: &str) -> String {
    let rest = INSTANCE.replace("primary = \"redis://a\"\n", "");
    format!("{rest}[instances.x.primary]\nurl = \"redis://a\"\n{lines}\n")
}

#[test]
fn passwords_come_from_elsewhere() {
    let primary = |lines: &str| accept(&with_store_table(lines)).instances["x"].primary.clone();
    let password = |lines: &str| primary(lines).password.map(|password| password.expose().to_owned());
    assert_eq!(password(""), None);
    assert_eq!(password("password = \"p\"").as_deref(), Some("p"));
    assert_eq!(password("password_env = \"PW\"").as_deref(), Some("from-env"));
    assert_eq!(primary("username = \"bob\"\npassword = \"p\"").username.as_deref(), Some("bob"));
    let inline = INSTANCE.replace("\"redis://a\"", "{ url = \"redis://a/3\", password = \"p\" }");
    assert_eq!(accept(&inline).instances["x"].primary.database, Some(3));

    for (lines, said) in [
        (
            "password_env = \"NOPE\"",
            ":6:1: 'password_env' in [instances.x.primary]: the environment variable 'NOPE'",
        ),
        ("password_file = \"/nonexistent/x\"", "/nonexistent/x: No such file"),
        ("password = \"a\"\npassword_env = \"PW\"", "several passwords"),
        ("username = \"bob\"", "needs a password"),
        ("pasword = \"a\"", "did you mean 'password'?"),
        ("password = \"\"", "this is empty"),
    ] {
        let error = only_error(&with_store_table(lines));
        assert!(error.contains(said), "{error}");
    }
    let twice =
        with_store_table("username = \"a\"\npassword = \"b\"").replace("redis://a", "redis://u:hunter2@a");
    let error = only_error(&twice);
    assert!(error.contains("several passwords") && !error.contains("hunter2"), "{error}");
    assert!(only_error(&with_store_table("").replace("url = \"redis://a\"", "")).contains("lacks 'url'"));
}

#[test]
fn files_that_everybody_may_read_are_warned_about() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.toml");
    let warnings = |text: &str, mode: u32| -> Vec<String> {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        load(&path)
            .unwrap_or_else(|error| panic!("{error}"))
            .warnings
            .iter()
            .map(Diagnostic::to_string)
            .collect()
    };
    let in_url = INSTANCE.replace("redis://a", "redis://:hunter2@a");
    let said = warnings(&in_url, 0o644).concat();
    assert!(
        said.contains("proxy.toml:3:11: warning: a password stands in a file that everybody may read"),
        "{said}"
    );
    assert!(!said.contains("hunter2"));
    assert!(warnings(&in_url, 0o640).is_empty());
    assert!(warnings(INSTANCE, 0o644).is_empty());
    assert_eq!(warnings(&with_store_table("password = \"p\""), 0o644).len(), 1);

    // A relative path starts at the configuration's directory, and the line break is not part of the password.
    let secret = directory.path().join("secret");
    fs::write(&secret, "pass word\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let from_file = with_store_table("password_file = \"secret\"");
    assert!(warnings(&from_file, 0o644).is_empty());
    let password = load(&path).unwrap().config.instances["x"].primary.password.clone();
    assert_eq!(password.as_ref().map(Secret::expose), Some("pass word"));
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o604)).unwrap();
    assert!(warnings(&from_file, 0o644).concat().contains("everybody may read"));
    fs::write(&secret, "\n").unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("the file is empty"));
}

#[test]
fn files_that_are_no_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.toml");
    assert!(load(&path).unwrap_err().to_string().contains("proxy.toml: cannot read the configuration"));
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("not UTF-8"));
    fs::write(&path, " ".repeat(MAX_FILE_BYTES as usize + 1)).unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("larger than"));
}

#[test]
fn no_secret_is_printed() {
    let config = accept(&INSTANCE.replace("redis://a", "redis://u:hunter2@a"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn restart_only_changes_are_named_and_the_rest_is_taken_over() {
    let old = accept(SMALLEST);
    assert!(Config::restart_only_changes(&old, &old).is_empty());
    let text = SMALLEST
        .replace("9180", "9181")
        .replace(":7001", ":7003")
        .replace("_jobs]", "_jobs]\nmax_clients = 5");
    let reloaded =
        old.reloaded(accept(&format!("{text}[log]\nlevel = \"debug\"\nformat = \"json\"\n"))).unwrap();
    assert_eq!(reloaded.restart_only, ["admin.listen", "log.format", "instances.duplicate_jobs.primary"]);
    let config = reloaded.config;
    assert_eq!((config.log.level, config.log.format), (LogLevel::Debug, LogFormat::Human));
    assert_eq!(config.instances["duplicate_jobs"].max_clients, 5);
    assert_eq!(config.instances["duplicate_jobs"].primary, old.instances["duplicate_jobs"].primary);
}

#[test]
fn added_and_removed_instances_wait_for_a_restart() {
    let old = accept(SMALLEST);
    let renamed = SMALLEST.replace("duplicate_jobs", "cache").replace("= true", "= false");
    let reloaded = old.reloaded(accept(&renamed)).unwrap();
    assert_eq!(reloaded.restart_only, ["instances.duplicate_jobs (removed)", "instances.cache (added)"]);
    assert_eq!(reloaded.config, old, "the instance and its flags stay");
}

#[test]
fn the_two_jumps_are_refused() {
    let head = SMALLEST.split("use_primary").next().unwrap();
    let with = |both: bool, default: bool, more: &str| {
        accept(&format!(
            "{head}use_primary_and_secondary_stores_for_duplicate_jobs = {both}\n\
             use_primary_store_as_default_for_duplicate_jobs = {default}\n{more}\n"
        ))
    };
    let (cold, last) = (with(false, false, ""), with(false, true, ""));
    assert_eq!(
        (cold.flags("duplicate_jobs").stage(), last.flags("duplicate_jobs").stage()),
        (Stage::SecondaryOnly, Stage::PrimaryOnly)
    );
    for (from, to) in [(&cold, &last), (&last, &cold)] {
        let jumps = from.reloaded(to.clone()).unwrap_err();
        assert_eq!(jumps.len(), 1);
        assert!(jumps[0].to_string().contains("go one stage at a time"));
    }
    let allowed = with(false, true, "allow_stage_jump = [\"duplicate_jobs\"]");
    assert_eq!(cold.reloaded(allowed).unwrap().config.flags("duplicate_jobs").stage(), Stage::PrimaryOnly);
    assert!(cold.reloaded(with(true, false, "")).is_ok());
}

#[test]
fn the_admin_address_is_found_in_a_broken_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.toml");
    let found = |text: &str| {
        fs::write(&path, text).unwrap();
        admin_listen(&path).unwrap().to_string()
    };
    assert_eq!(found("[admin]\nlisten = \"1.2.3.4:5\"\n"), "1.2.3.4:5");
    assert_eq!(found("[log]\nx = 1\n[admin]\nlisten = \"1.2.3.4:5\"\n"), "1.2.3.4:5");
    assert_eq!(found("[log\n[admin] # here\n  listen = \"1.2.3.4:5\" # x\n"), "1.2.3.4:5");
    assert_eq!(found("[log\n[admin]\n[instances.x]\nlisten = \"1.2.3.4:5\""), "127.0.0.1:9180");
    assert_eq!(found(""), "127.0.0.1:9180");
    let error = HostPort::parse_admin("127.0.0.1").unwrap_err();
    assert!(error.contains(&format!("'{}'", found(""))), "the port that is advised is the default: {error}");
    assert!(admin_listen(Path::new("/nonexistent/x")).is_err());
}
