//! Functions: mirrored as they are changed, repaired as a whole.

use super::*;

fn library(name: &str, answer: u32) -> String {
    format!("#!lua name={name}\nredis.register_function('{name}_f', function() return {answer} end)")
}

#[track_caller]
fn assert_same_functions(pair: &Pair, when: &str) {
    let listed = |server: &RedisServer| {
        let mut libraries: Vec<String> =
            server.words("FUNCTION LIST WITHCODE").items().iter().map(|one| format!("{one:?}")).collect();
        libraries.sort();
        libraries
    };
    let mut last = Default::default();
    let same = poll_for(REPAIRED, || {
        last = (listed(&pair.primary), listed(&pair.secondary));
        (last.0 == last.1).then_some(())
    });
    assert!(same.is_some(), "{when}: {last:?}");
}

#[test]
fn functions_are_changed_on_both_stores() {
    for stage in DUAL {
        let pair = Pair::eager(stage);
        let mut client = pair.client();
        for at in 0..3 {
            let loaded = client.call(&["FUNCTION", "LOAD", &library(&format!("lib{at}"), at)]);
            assert!(!loaded.is_error(), "{stage}: {loaded:?}");
        }
        assert!(!client.call(&["FUNCTION", "LOAD", "REPLACE", &library("lib1", 7)]).is_error());
        assert_eq!(client.words("FUNCTION DELETE lib0"), Value::ok());
        assert_eq!(client.words("FCALL lib1_f 0"), 7.into(), "{stage}");
        assert_same_functions(&pair, &format!("{stage}: loaded, replaced, deleted"));
        let dump = client.words("FUNCTION DUMP");
        assert_eq!(client.words("FUNCTION FLUSH"), Value::ok());
        assert_same_functions(&pair, &format!("{stage}: flushed"));
        assert_eq!(client.call(&[b"FUNCTION".as_slice(), b"RESTORE", dump.bytes()]), Value::ok());
        assert_same_functions(&pair, &format!("{stage}: restored"));
        assert_eq!(client.words("FCALL lib2_f 0"), 2.into(), "{stage}");
        pair.assert_converges();
    }
}

#[test]
fn a_copy_of_all_functions_overwrites_no_newer_change() {
    let mut pair = Pair::eager(DUAL[1]);
    let mut client = pair.client();
    assert!(!client.call(&["FUNCTION", "LOAD", &library("fleeting", 1)]).is_error());
    pair.stage(Stage::PrimaryOnly);
    assert!(!client.call(&["FUNCTION", "LOAD", &library("young", 2)]).is_error());
    // The functions of the store that is right are asked for, and it takes its time to tell.
    pair.primary.stop_signal();
    pair.proxy.write_stage_of(INSTANCE, DUAL[1]);
    pair.proxy.wait_for_log("the store is behind as a whole: repairing it");
    poll_until(SOON, "they are asked for", || pair.status()["stores"]["primary"]["depth"].as_u64() > Some(0));
    client.send(&["FUNCTION", "DELETE", "fleeting"]);
    poll_until(SOON, "the other store has deleted it", || {
        pair.secondary.words("FUNCTION LIST") == Value::Array(Vec::new())
    });
    pair.primary.cont();
    assert_eq!(client.read_reply(), Value::ok());
    pair.assert_converges();
    assert_same_functions(&pair, "what was deleted stays deleted");
    assert_eq!(pair.secondary.words("FUNCTION LIST").items().len(), 1, "young has come");
}

#[test]
fn what_was_changed_while_one_store_was_out_of_use_is_repaired() {
    let mut pair = Pair::eager(DUAL[1]);
    let mut client = pair.client();
    for name in ["kept", "deleted"] {
        assert!(!client.call(&["FUNCTION", "LOAD", &library(name, 1)]).is_error());
    }
    pair.stage(Stage::PrimaryOnly);
    assert!(!client.call(&["FUNCTION", "LOAD", &library("young", 2)]).is_error());
    assert_eq!(client.words("FUNCTION DELETE deleted"), Value::ok());
    pair.stage(DUAL[1]);
    pair.assert_converges();
    assert_same_functions(&pair, "after the repair");
}
