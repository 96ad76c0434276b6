//! Changes of stage: what was left is repaired, and what would lose something is held back.

use super::*;

/// The single-store stage beside a dual one: the store that it leaves is the other one.
fn alone(stage: Stage) -> Stage {
    match stage {
        Stage::DualSecondaryDefault => Stage::SecondaryOnly,
        _ => Stage::PrimaryOnly,
    }
}

#[test]
fn a_store_that_dual_left_is_repaired_as_a_whole() {
    for stage in DUAL {
        let mut pair = Pair::eager(stage);
        let other = stage.default_store().other();
        let mut client = pair.client();
        for n in 0..300 {
            client.words(&format!("SET kept:{n} {n}"));
        }
        for line in
            ["SET deleted 1", "SET count 10", "RPUSH list a b", "SELECT 3", "SET deleted 3", "SELECT 0"]
        {
            client.words(line);
        }
        pair.assert_converges();
        pair.stage(alone(stage));
        assert_eq!(pair.sync()["untouched_keys"], format!("suspect_on_{other}"), "{stage}");
        for line in ["DEL deleted", "INCRBY count 5", "LPOP list", "SET kept:7 new", "SET added 1"] {
            client.words(line);
        }
        for line in ["SELECT 3", "DEL deleted", "SELECT 4", "SET added 4", "SELECT 0"] {
            client.words(line);
        }
        assert_eq!(pair.server(other).words("GET count"), "10".into(), "{stage}: it was left alone");
        // The store is slow at first, so that nothing is repaired before the reads below.
        pair.server(other).stop_signal();
        pair.stage(stage);
        assert_eq!(client.words("GET deleted"), Value::Nil, "{stage}");
        assert_eq!(client.words("EXISTS deleted"), 0.into(), "{stage}");
        assert_eq!(client.words("GET kept:7"), "new".into(), "{stage}");
        assert_eq!(client.words("MGET kept:7 kept:8"), Value::bulks(&["new", "8"]), "{stage}");
        assert_eq!(client.words("LRANGE list 0 -1"), Value::bulks(&["b"]), "{stage}");
        assert_eq!(client.words("INCR count"), 16.into(), "{stage}");
        assert_eq!(client.words("SET deleted 2 NX"), Value::ok(), "{stage}");
        assert_eq!(client.words("DEL deleted"), 1.into(), "{stage}");
        pair.server(other).cont();
        assert_eq!(client.words("INCR count"), 17.into(), "{stage}");
        pair.assert_both("GET count", "17");
        assert_eq!(pair.sync()["untouched_keys"], "in_sync", "{stage}");
        assert_eq!(pair.server(other).words("EXISTS deleted"), 0.into(), "{stage}");
    }
}

#[test]
fn the_whole_way_and_back_under_writes() {
    let mut pair = Pair::eager(Stage::SecondaryOnly);
    for n in 0..200 {
        pair.secondary.words(&format!("SET count:{n} 1000"));
    }
    let mut client = pair.client();
    let mut expected = 1000;
    // Whoever goes on to the primary alone has made sure first that it holds everything.
    pair.stage(Stage::DualSecondaryDefault);
    for n in 0..200 {
        assert_eq!(client.words(&format!("INCRBY count:{n} 0")), 1000.into());
    }
    pair.assert_converges();
    let way = [2, 3, 2, 1, 0, 1, 2, 1, 0];
    for at in way {
        let stage = Stage::ALL[at];
        pair.proxy.write_stage_of(INSTANCE, stage);
        // Writes go on while a flip is held back until a repair is done.
        let mut reached = false;
        poll_until(REPAIRED, &format!("{stage}, round {expected}"), || {
            expected += 1;
            for n in 0..20 {
                assert_eq!(client.words(&format!("INCR count:{n}")), expected.into(), "{stage}");
            }
            reached = pair.status()["stage"] == stage.name();
            reached
        });
    }
    pair.proxy.write_stage_of(INSTANCE, Stage::DualSecondaryDefault);
    pair.proxy.wait_for_stage(INSTANCE, Stage::DualSecondaryDefault);
    pair.assert_converges();
    for n in 0..200 {
        let value = if n < 20 { expected } else { 1000 };
        assert_eq!(pair.primary.words(&format!("GET count:{n}")), value.to_string().as_str().into());
    }
}

#[test]
fn a_flip_to_a_store_that_is_down_waits_until_it_is_back() {
    for (from, to) in [(DUAL[0], DUAL[1]), (DUAL[1], DUAL[0])] {
        let mut pair = Pair::eager(from);
        let next = to.default_store();
        let mut client = pair.client();
        client.words("SET key 1");
        pair.assert_converges();
        pair.server(next).save();
        pair.server_mut(next).kill();
        pair.wait_up(next, false);
        pair.proxy.write_stage_of(INSTANCE, to);
        let held = pair.held_flip();
        assert!(held.contains(to.name()) && held.contains("down"), "{held}");
        pair.proxy.wait_for_log("held back");
        assert_eq!(pair.status()["stage"], from.name());
        assert_eq!(pair.proxy.metric("multistore_flip_held", &[("instance_name", INSTANCE)]), 1.0);
        assert_eq!(client.words("SET key 2"), Value::ok(), "{to}");
        pair.server_mut(next).start_again(Data::Kept);
        poll_until(REPAIRED, "the flip is applied", || pair.status()["stage"] == to.name());
        assert_eq!(pair.status()["held_flip"], Json::Null);
        assert_eq!(client.words("GET key"), "2".into(), "{to}");
        pair.assert_both("GET key", "2");
    }
}

#[test]
fn a_flip_to_a_store_that_is_behind_as_a_whole_waits_for_the_repair() {
    let mut pair = Pair::eager(Stage::DualSecondaryDefault);
    let mut client = pair.client();
    client.words("SET count 1");
    pair.assert_converges();
    pair.stage(Stage::SecondaryOnly);
    client.words("SET count 2");
    pair.primary.stop_signal();
    pair.stage(Stage::DualSecondaryDefault);
    pair.proxy.write_stage_of(INSTANCE, Stage::DualPrimaryDefault);
    let held = pair.held_flip();
    assert!(held.contains("behind as a whole"), "{held}");
    assert_eq!(client.words("INCR count"), 3.into());
    pair.primary.cont();
    poll_until(REPAIRED, "the flip is applied", || pair.status()["stage"] == "dual_primary_default");
    assert_eq!(client.words("INCR count"), 4.into());
    pair.assert_both("GET count", "4");
}

#[test]
fn a_flip_to_a_store_that_lags_waits_until_it_has_caught_up() {
    let mut pair = Pair::eager_with(Stage::DualSecondaryDefault, &[r#"flip_max_lag = "1kb""#]);
    let mut client = pair.client();
    client.words("SET key 0");
    pair.assert_converges();
    pair.primary.stop_signal();
    for n in 0..100 {
        client.words(&format!("SET key {n}"));
    }
    pair.proxy.write_stage_of(INSTANCE, Stage::DualPrimaryDefault);
    let held = pair.held_flip();
    assert!(held.contains("lags") && held.contains("flip_max_lag"), "{held}");
    pair.primary.cont();
    pair.proxy.wait_for_stage(INSTANCE, Stage::DualPrimaryDefault);
    assert_eq!(client.words("GET key"), "99".into());
    pair.assert_both("GET key", "99");
}

#[test]
fn the_only_store_must_lack_nothing() {
    let mut pair = Pair::eager(Stage::DualSecondaryDefault);
    let mut client = pair.client();
    client.words("SET count 1");
    pair.assert_converges();
    pair.primary.words("CONFIG SET maxmemory 1");
    client.words("INCR count");
    pair.wait_suspects(1);
    pair.proxy.write_stage_of(INSTANCE, Stage::PrimaryOnly);
    // While an attempt to copy it is under way it may still succeed.
    poll_until(SOON, "why it is held", || pair.held_flip().contains("suspect on the primary"));
    assert_eq!(client.words("INCR count"), 3.into());
    pair.primary.words("CONFIG SET maxmemory 0");
    pair.proxy.wait_for_stage(INSTANCE, Stage::PrimaryOnly);
    assert_eq!(client.words("GET count"), "3".into());
    assert_eq!(client.words("INCR count"), 4.into());
}

#[test]
fn a_flip_to_a_store_that_refuses_writes_waits_until_it_takes_them() {
    let mut pair = Pair::eager(Stage::DualPrimaryDefault);
    let mut client = pair.client();
    client.words("SET count 1");
    pair.assert_converges();
    pair.secondary.words("CONFIG SET maxmemory 1");
    client.words("INCR count");
    pair.wait_suspects(1);
    // Time and again: one attempt may just have come too early.
    poll_until(SOON, "several attempts", || pair.sync()["copies_failed"].as_u64() >= Some(3));
    pair.proxy.write_stage_of(INSTANCE, Stage::DualSecondaryDefault);
    // While an attempt is under way it may still succeed.
    poll_until(SOON, "why it is held", || pair.held_flip().contains("cannot be copied to the secondary"));
    assert_eq!(client.words("INCR count"), 3.into());
    pair.secondary.words("CONFIG SET maxmemory 0");
    pair.proxy.wait_for_stage(INSTANCE, Stage::DualSecondaryDefault);
    assert_eq!(client.words("INCR count"), 4.into());
    pair.assert_both("GET count", "4");
}

#[test]
fn a_held_flip_that_is_taken_back_never_happens() {
    let mut pair = Pair::eager(Stage::DualSecondaryDefault);
    pair.primary.kill();
    pair.wait_up(StoreId::Primary, false);
    pair.proxy.write_stage_of(INSTANCE, Stage::DualPrimaryDefault);
    pair.held_flip();
    pair.proxy.write_stage_of(INSTANCE, Stage::DualSecondaryDefault);
    poll_until(SOON, "no flip is held", || pair.status()["held_flip"].is_null());
    pair.primary.start_again(Data::Lost);
    pair.wait_up(StoreId::Primary, true);
    pair.wait_settled();
    assert_eq!(pair.status()["stage"], "dual_secondary_default");
}

#[test]
fn what_a_first_start_finds_on_the_primary_is_believed_or_not() {
    for (content, found) in [("trusted", "leftover"), ("untrusted", "ours")] {
        let (primary, secondary) = (RedisServer::start(), RedisServer::start());
        primary.words("MSET key leftover only leftover");
        secondary.words("SET key ours");
        let setting = format!("primary_content = \"{content}\"");
        let pair = Pair::over(primary, secondary, DUAL[0], &[&setting, "read_patience = \"10s\""]);
        let mut client = pair.client();
        if content == "untrusted" {
            // Not to be read before it is known to be ours, nor afterwards.
            assert_eq!(client.words("GET key"), "ours".into());
            assert_eq!(client.words("GET only"), Value::Nil);
            pair.assert_both("GET only", Value::Nil);
        }
        assert_eq!(client.words("GET key"), found.into(), "{content}");
    }
}

#[test]
fn two_flags_at_once_are_two_steps() {
    let mut pair = Pair::eager(Stage::DualSecondaryDefault);
    let mut client = pair.client();
    client.words("SET count 1");
    pair.stage(Stage::DualPrimaryDefault);
    pair.stage(Stage::PrimaryOnly);
    client.words("SET count 41");
    // The store to return to is behind, and full: it cannot be repaired yet.
    pair.secondary.words("CONFIG SET maxmemory 1");
    pair.proxy.write_stage_of(INSTANCE, Stage::DualSecondaryDefault);
    let held = pair.held_flip();
    assert!(held.contains("secondary"), "{held}");
    assert_eq!(pair.status()["stage"], "dual_primary_default");
    assert_eq!(client.words("INCR count"), 42.into());
    pair.secondary.words("CONFIG SET maxmemory 0");
    pair.proxy.wait_for_stage(INSTANCE, Stage::DualSecondaryDefault);
    assert_eq!(client.words("INCR count"), 43.into());
    pair.assert_both("GET count", "43");
}

#[test]
fn a_forced_jump_leaves_a_store_behind_as_well() {
    let (primary, secondary) = (RedisServer::start(), RedisServer::start());
    let config = ProxyConfig::new(INSTANCE, &primary.url(), &secondary.url())
        .text(&format!("allow_stage_jump = [\"{INSTANCE}\"]"));
    let mut pair = Pair { proxy: Proxy::start(config), primary, secondary };
    pair.secondary.words("SET old 1");
    let mut client = pair.client();
    pair.stage(Stage::PrimaryOnly);
    assert_eq!(client.words("GET old"), Value::Nil);
    client.words("SET new 1");
    pair.stage(Stage::DualPrimaryDefault);
    // What the primary alone has said meanwhile stands.
    assert_eq!(client.words("GET old"), Value::Nil);
    pair.assert_both("DBSIZE", 1);
}
