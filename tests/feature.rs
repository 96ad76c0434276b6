//! `multistore feature set`, `rollout` and `backfill` against a running proxy that does not follow at once: held back,
//! refused, or waiting for an operator.

mod support;

use std::process::{Command, Stdio};

use support::*;

/// `multistore` with these arguments, for the proxy of this pair: its exit code and what it says. It must end soon.
#[track_caller]
fn told(pair: &Pair, args: &[&str]) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_multistore"))
        .args(args)
        .arg("--config")
        .arg(pair.proxy.config_path())
        .env("ONLY_OF_THE_COMMAND", "secret")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run multistore");
    if poll_for(2 * SOON, || child.try_wait().expect("wait")).is_none() {
        kill_now(&mut child);
        panic!("multistore {args:?} does not end");
    }
    let output = child.wait_with_output().expect("its output");
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (output.status.code(), text.concat())
}

fn flags() -> [String; 2] {
    ["use_primary_and_secondary_stores_for", "use_primary_store_as_default_for"]
        .map(|flag| format!("{flag}_{INSTANCE}"))
}

#[test]
fn feature_set_in_quick_succession_passes_no_gate() {
    let pair = Pair::start();
    let [both, default] = flags();
    pair.secondary.words("SET old 1");
    let (code, text) = told(&pair, &["feature", "set", &both, "true"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("dual_secondary_default is in effect"), "{text}");
    assert_eq!(pair.proxy.instance_status(INSTANCE)["stage"], "dual_secondary_default");
    let (code, text) = told(&pair, &["feature", "set", &default, "true"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("not safe now"), "{text}");
    assert!(pair.proxy.config_text().contains(&format!("{both} = true")));
    assert!(!pair.proxy.config_text().contains(&format!("{default} = true")));
}

#[test]
fn feature_set_tells_a_held_change_and_goes_no_further_but_back() {
    let mut pair = Pair::start_in(Stage::DualSecondaryDefault);
    let [both, default] = flags();
    pair.primary.kill();
    poll_until(SOON, "down", || pair.proxy.metric("multistore_store_up", &[("store", "primary")]) == 0.0);
    let (code, text) = told(&pair, &["feature", "set", &default, "true", "--force"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("held back: dual_primary_default: the primary store is down"), "{text}");
    let (code, text) = told(&pair, &["feature", "set", &both, "false"]);
    assert_eq!(code, Some(3), "{text}");
    for part in [
        "the file asks for dual_primary_default, in effect is dual_secondary_default",
        "held back: dual_primary_default: the primary store is down",
        &format!("multistore feature set {default} false --config"),
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, text) = told(&pair, &["feature", "set", &default, "false"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("dual_secondary_default is in effect"), "{text}");
    assert!(pair.proxy.instance_status(INSTANCE)["held_flip"].is_null());
}

#[test]
fn feature_set_over_a_refused_file_goes_nowhere_but_back() {
    let mut pair = Pair::start();
    let [both, default] = flags();
    pair.proxy.write_stage_of(INSTANCE, Stage::PrimaryOnly);
    poll_until(SOON, "refused", || pair.proxy.metric("multistore_config_last_reload_success", &[]) == 0.0);
    for args in [["feature", "set", &both, "true"].as_slice(), &["rollout", "--to", "dual_secondary_default"]]
    {
        let (code, text) = told(&pair, args);
        assert_eq!(code, Some(3), "{args:?}: {text}");
        assert!(text.contains("the file asks for primary_only, in effect is secondary_only"), "{text}");
        assert!(text.contains("refuses the file") && text.contains("go one stage at a time"), "{text}");
    }
    assert_eq!(pair.proxy.instance_status(INSTANCE)["stage"], "secondary_only");
    let (code, text) = told(&pair, &["feature", "set", &default, "false"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("secondary_only is in effect"), "{text}");
    let (code, text) = told(&pair, &["feature", "set", &both, "true"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_primary_that_is_not_empty_is_noted_at_the_first_step() {
    for (untrusted, fate) in [(false, "they answer reads"), (true, "what only the primary has is deleted")] {
        let (primary, secondary) = (RedisServer::start(), RedisServer::start());
        primary.words("SET left 1");
        let settings: &[&str] = if untrusted { &[r#"primary_content = "untrusted""#] } else { &[] };
        let pair = Pair::over(primary, secondary, Stage::SecondaryOnly, settings);
        poll_until(SOON, "the primary is up", || {
            pair.proxy.instance_status(INSTANCE)["stores"]["primary"]["up"] == true
        });
        let (code, text) = told(&pair, &["status"]);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("is not empty, it held 1 key") && text.contains(fate), "{text}");
        let (code, text) = told(&pair, &["feature", "set", &flags()[0], "true"]);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("is not empty, it held 1 key") && text.contains(fate), "{text}");
        // It is a note of the first step alone.
        let (_, text) = told(&pair, &["status"]);
        assert!(!text.contains("is not empty"), "{text}");
    }
}

#[test]
fn what_is_in_sync_is_unknown_while_a_store_is_down() {
    let (mut primary, secondary) = (RedisServer::start(), RedisServer::start());
    primary.kill();
    let mut pair = Pair::over(primary, secondary, Stage::DualSecondaryDefault, &[]);
    let (_, text) = told(&pair, &["status"]);
    assert!(text.contains("unknown: the primary store is down"), "{text}");
    pair.primary.start_again(Data::Lost);
    let (code, text) = told(&pair, &["backfill", "start", "--wait"]);
    assert_eq!(code, Some(0), "{text}");
    pair.primary.kill();
    poll_until(SOON, "the primary is down", || {
        pair.proxy.instance_status(INSTANCE)["stores"]["primary"]["up"] == false
    });
    let (_, text) = told(&pair, &["status"]);
    assert!(text.contains("done before; the primary store is down"), "{text}");
    assert!(text.contains("unknown: the primary store is down"), "{text}");
}

#[test]
fn a_backfill_is_no_unfinished_work_where_one_store_is_in_use() {
    for (stage, said) in [(Stage::SecondaryOnly, "not begun"), (Stage::PrimaryOnly, "nothing to fill")] {
        let pair = Pair::start_with(stage, &["backfill = true"]);
        poll_until(SOON, "it waits", || {
            pair.proxy.instance_status(INSTANCE)["backfill"]["state"] == "waiting"
        });
        let (_, text) = told(&pair, &["status"]);
        assert!(text.contains(said) && !text.contains("0%"), "{text}");
        let (_, text) = told(&pair, &["backfill", "status"]);
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn force_says_what_is_lost_while_nobody_knows_which_store_is_right() {
    let mut pair = Pair::start_in(Stage::DualSecondaryDefault);
    pair.secondary.restart(Data::Lost);
    poll_until(SOON, "the loss is noticed", || {
        pair.proxy.instance_status(INSTANCE)["sync"]["operator_must_name_source"].is_string()
    });
    let [both, default] = flags();
    let (code, text) = told(&pair, &["feature", "set", &default, "true", "--force"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("holds this back, forced or not"), "{text}");
    let (code, text) = told(&pair, &["feature", "set", &default, "false"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = told(&pair, &["feature", "set", &both, "false", "--force"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("only the primary store still has, is not found any more"), "{text}");
}

#[test]
fn feature_set_tells_that_the_proxy_refuses_the_file() {
    let pair = Pair::start();
    let users = "auth = \"users\"\nusers = { app = { password_env = \"ONLY_OF_THE_COMMAND\" } }";
    let text = pair.proxy.config_text().replace("secondary =", &format!("{users}\nsecondary ="));
    pair.proxy.write_config(&text);
    let (code, text) = told(&pair, &["feature", "set", &flags()[0], "true"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("refuses the file; secondary_only stays in effect"), "{text}");
    assert!(text.contains("ONLY_OF_THE_COMMAND"), "{text}");
}

#[test]
fn nobody_waits_where_an_operator_must_say_which_store_is_right() {
    let mut pair = Pair::start_in(Stage::DualSecondaryDefault);
    assert_eq!(pair.client().words("SET a 1"), Value::ok());
    pair.secondary.restart(Data::Lost);
    poll_until(SOON, "the loss is noticed", || {
        let status = pair.proxy.instance_status(INSTANCE);
        status["sync"]["operator_must_name_source"].is_string() && status["stores"]["secondary"]["up"] == true
    });
    for args in
        [["rollout", "--to", "primary_only", "--patience", "2s"].as_slice(), &["backfill", "start", "--wait"]]
    {
        let (code, text) = told(&pair, args);
        assert_eq!(code, Some(3), "{args:?}: {text}");
        let command = format!("multistore repair --from primary --instance {INSTANCE} --config ");
        assert!(text.contains(&command), "{text}");
    }
    assert_eq!(pair.proxy.instance_status(INSTANCE)["stage"], "dual_secondary_default");
}
