use super::{ScriptTraits, analyse};

fn traits(literal_commands: bool, may_choose: bool, undeclared_keys_possible: bool) -> ScriptTraits {
    ScriptTraits { literal_commands, may_choose, undeclared_keys_possible }
}

#[test]
fn what_a_source_tells() {
    for (source, expected) in [
        ("return redis.call('SET', KEYS[1], ARGV[1])", traits(true, false, false)),
        (
            "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end",
            traits(true, false, false),
        ),
        ("return redis.call('TIME')", traits(true, true, false)),
        ("return redis.pcall(\"spop\", KEYS[1])", traits(true, true, false)),
        ("return redis.call(ARGV[1], KEYS[1])", traits(false, false, true)),
        ("local c = redis.call return c('SET', KEYS[1], 1)", traits(false, false, true)),
        ("return redis['call']('SET', KEYS[1], 1)", traits(false, false, true)),
        ("return redis.call('SET', 'fixed', 1)", traits(true, false, true)),
        ("return redis.call('SET', KEYS[1] .. ':x', 1)", traits(true, false, true)),
        ("return redis.call('RENAME', KEYS[1], 'x')", traits(true, false, true)),
        ("return redis.call('RENAME', KEYS[1], KEYS[2])", traits(true, false, false)),
        ("return redis.call('DEL', unpack(KEYS))", traits(true, false, true)),
        ("-- redis.call('TIME')\nreturn redis.call('GET', KEYS[1])", traits(true, false, false)),
        ("--[[ redis.call('TIME') ]] return redis.call('GET', KEYS[1])", traits(true, false, false)),
        ("return 'redis.call(\"TIME\")'", traits(true, false, false)),
        ("return redis.call('SET', KEYS[1], math.random())", traits(true, true, false)),
        ("return redis.call('SET', KEYS[1], 'open", traits(false, true, true)),
        ("return redis.call('XADD', KEYS[1], '*', 'a', 1)", traits(true, true, false)),
        ("return redis.sha1hex('x')", traits(true, false, false)),
    ] {
        assert_eq!(analyse(source.as_bytes()), expected, "{source}");
    }
}

#[test]
fn what_is_no_text_is_not_trusted() {
    assert_eq!(analyse(b"\xff"), traits(false, true, true));
}
