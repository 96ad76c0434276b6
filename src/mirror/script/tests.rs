use super::*;
use crate::cli::demo::dice::Dice;

fn traits(source: &str) -> ScriptTraits {
    analyse(source.as_bytes())
}

#[track_caller]
fn clear(source: &str) {
    let found = traits(source);
    let may_expire = found.may_expire;
    assert_eq!(found, ScriptTraits { writes: true, may_expire, ..ScriptTraits::CLEAR }, "{source}");
    assert_eq!(found.way(), Way::Verbatim);
}

#[track_caller]
fn chooses(source: &str) {
    let found = traits(source);
    assert!(found.may_choose, "{source}: {found:?}");
}

#[track_caller]
fn undeclared(source: &str) {
    let found = traits(source);
    assert!(found.undeclared_keys_possible, "{source}: {found:?}");
}

#[track_caller]
fn dynamic(source: &str) {
    assert_eq!(traits(source), ScriptTraits::DOUBTFUL, "{source}");
}

#[test]
fn lists_are_sorted() {
    assert!(EXACT_READS.is_sorted());
}

#[test]
fn what_may_give_a_key_a_time_to_live() {
    for (source, expected) in [
        ("redis.call('SET', KEYS[1], ARGV[1])", false),
        ("redis.call('SET', KEYS[1], ARGV[1], 'PX', 5)", true),
        ("redis.call('SET', KEYS[1], unpack(ARGV))", true),
        ("redis.call('EXPIRE', KEYS[1], 10)", true),
        ("redis.call('RENAME', KEYS[1], KEYS[2])", true),
        ("redis.call('DEL', KEYS[1])", false),
        ("redis.call(ARGV[1], KEYS[1])", true),
    ] {
        assert_eq!(traits(source).may_expire, expected, "{source}");
    }
}

#[test]
fn plain_scripts_are_clear() {
    clear("return redis.call('SET', KEYS[1], ARGV[1])");
    clear(
        "if redis.call(\"get\",KEYS[1]) == ARGV[1] then return redis.call(\"del\",KEYS[1]) else return 0 end",
    );
    clear(
        "local key = KEYS[1] local n = redis.call('INCR', key) if n == 1 then redis.call('EXPIRE', key, 10) end",
    );
    clear("local a, b = KEYS[1], KEYS[2]; redis.call('RENAME', a, b)");
    clear("for i, key in ipairs(KEYS) do redis.call('DEL', key) end");
    clear("for i = 1, #KEYS do redis.call('DEL', KEYS[i]) end");
    clear("redis.call('DEL', unpack(KEYS))");
    clear("redis.call('RPUSH', KEYS[1], unpack(ARGV))");
    clear("redis.call('MSET', KEYS[1], 'a', KEYS[2], 'b')");
    clear("redis.call('ZUNIONSTORE', KEYS[1], '2', KEYS[2], KEYS[3])");
    clear("redis.call('XADD', KEYS[1], 'MAXLEN', '10', '1-1', 'f', ARGV[1])");
    clear("-- redis.call(x)\n--[[ math.random ]] --[==[ ]] os ]==]\nserver.call([[SET]], KEYS[1], 'a\\n')");
    clear(
        "redis.pcall('SET', KEYS[tonumber(ARGV[1])], math.floor(1.5) .. cjson.decode(ARGV[1])[1] .. tostring(x))",
    );
    clear("redis.call('XGROUP', 'CREATE', KEYS[1], 'g', '0')");
}

#[test]
fn reads_alone_need_no_mirroring() {
    let found = traits("return redis.call('SMEMBERS', KEYS[1])");
    assert!(found.may_choose && !found.writes && found.literal_commands);
    assert_eq!(found.way(), Way::Nothing);
    assert_eq!(traits("return 1").way(), Way::Nothing);
}

#[test]
fn choosing_is_seen() {
    for command in [
        "'TIME'",
        "'SPOP', KEYS[1]",
        "'SRANDMEMBER', KEYS[1]",
        "'RANDOMKEY'",
        "'SMEMBERS', KEYS[1]",
        "'KEYS', '*'",
        "'HGETALL', KEYS[1]",
        "'SCAN', '0'",
        "'XADD', KEYS[1], '*', 'f', 'v'",
        "'XADD', KEYS[1], ARGV[1], 'f', 'v'",
        "'XADD', KEYS[1], 'MAXLEN', '~', '5', '1-1', 'f', 'v'",
        "'XTRIM', KEYS[1], 'MAXLEN', ARGV[1], '5'",
        "'INCRBYFLOAT', KEYS[1], '1'",
        "'TTL', KEYS[1]",
        "'DBSIZE'",
        "'INFO'",
        "'SORT', KEYS[1], 'STORE', KEYS[2]",
        "'XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', KEYS[1], '>'",
        "'ZSCORE', KEYS[1], 'm'",
        "'EVAL', 'x', '0'",
        "'SELECT', '1'",
        "'OBJECT', 'FREQ', KEYS[1]",
    ] {
        chooses(&format!("redis.call('SET', KEYS[1], redis.call({command}))"));
    }
    for code in [
        "math.random(5)",
        "local m = math",
        "os.clock()",
        "pairs(x)",
        "next(x)",
        "tostring({})",
        "collectgarbage()",
        "redis.REDIS_VERSION",
        "cjson.encode(x)",
        "map(tostring)",
    ] {
        chooses(&format!("local v = {code} redis.call('SET', KEYS[1], v)"));
    }
    chooses(
        "#!lua name=lib\nlocal seen = {}\nredis.register_function('f', function(keys, args) return 1 end)",
    );
}

#[test]
fn leaving_the_database_is_seen() {
    let leaves = |source: &str| traits(source).leaves_database;
    assert!(leaves("redis.call('SELECT', 1)"));
    assert!(leaves("redis.call(\"copy\", KEYS[1], KEYS[2], 'DB', '2')"));
    assert!(leaves("local f = 'move' redis.call(f, KEYS[1], 1)"));
    assert!(!leaves("redis.call('SET', KEYS[1], 'selected') -- select"));
}

#[test]
fn keys_that_are_not_declared_are_seen() {
    for code in [
        "redis.call('SET', 'fixed', 1)",
        "redis.call('SET', ARGV[1], 1)",
        "redis.call('SET', KEYS[1] .. ':x', 1)",
        "redis.call('SET', prefix .. KEYS[1], 1)",
        "redis.call('DEL', KEYS[1], 'x')",
        "redis.call('DEL', unpack(ARGV))",
        "local key = KEYS[1] .. 'x' redis.call('DEL', key)",
        "local key = KEYS[1] or 'x' redis.call('DEL', key)",
        "local key = KEYS[1] key = 'other' redis.call('DEL', key)",
        "local key = KEYS[1] a, key = 1, 2 redis.call('DEL', key)",
        "local key = KEYS[1] key, a = 1, 2 redis.call('DEL', key)",
        "local key = KEYS[1] local function f(key) redis.call('DEL', key) end f('x')",
        "local key = KEYS[1] for _, key in ipairs(ARGV) do redis.call('DEL', key) end",
        "local key, x = KEYS[1] redis.call('DEL', x)",
        "KEYS[1] = 'x' redis.call('DEL', KEYS[1])",
        "a, KEYS[1] = 1, 'x' redis.call('DEL', KEYS[1])",
        "KEYS[1], a = 'x', 1 redis.call('DEL', KEYS[1])",
        "KEYS = {'x'} redis.call('DEL', KEYS[1])",
        "table.insert(KEYS, 'x') redis.call('DEL', KEYS[2])",
        "local k = KEYS k[1] = 'x' redis.call('DEL', KEYS[1])",
        "redis.call('ZUNIONSTORE', KEYS[1], ARGV[1], KEYS[2])",
        "redis.call('SORT', KEYS[1], 'BY', 'w_*')",
        "redis.call('FLUSHALL')",
        "redis.call('MOVE', KEYS[1], '1')",
        "redis.call('COPY', KEYS[1], KEYS[2], unpack(ARGV))",
        "redis.call('XREAD', unpack(ARGV))",
        "redis.call('DEL', KEYS[1], unpack(ARGV))",
        "local function unpack(x) return 'y' end redis.call('DEL', unpack(KEYS))",
        "redis.register_function('f', function(keys, args) return redis.call('DEL', keys[1]) end)",
    ] {
        undeclared(code);
    }
}

#[test]
fn what_cannot_be_followed_is_all_doubt() {
    for code in [
        "redis.call(ARGV[1], KEYS[1])",
        "redis.call('G' .. 'ET', KEYS[1])",
        "redis.call(unpack(ARGV))",
        "redis.call('\\071ET', KEYS[1])",
        "local call = redis.call call('TIME')",
        "local r = redis r.call('TIME')",
        "redis['call']('TIME')",
        "(redis).call('TIME')",
        "x.call('TIME')",
        "x.redis.call('TIME')",
        "redis.call {'TIME'}",
        "redis.call = f",
        "loadstring(ARGV[1])()",
        "_G.redis.call('TIME')",
        "getfenv(0)",
        "redis.call('NONSENSE')",
        "redis.call('XGROUP', ARGV[1], KEYS[1])",
        "return 'unfinished",
        "--[[ unfinished",
        "redis.call('GET', KEYS[1]",
    ] {
        dynamic(code);
    }
    dynamic(&" ".repeat(MAX_SOURCE + 1));
}

#[test]
fn words_within_comments_and_strings_are_nothing() {
    for source in [
        "-- redis.call('TIME')\nreturn redis.call('GET', KEYS[1])",
        "--[[ redis.call('TIME') ]] return redis.call('GET', KEYS[1])",
        "return 'redis.call(\"TIME\")'",
        "return redis.sha1hex('x')",
        "return redis.call('GET', KEYS[1]) -- \u{fe}",
    ] {
        assert_eq!(traits(source), ScriptTraits::CLEAR, "{source}");
    }
}

#[test]
fn any_bytes_are_taken() {
    let mut dice = Dice::new(5);
    let words = [
        "redis", ".", "call", "(", ")", "'GET'", "KEYS", "[", "]", ",", "=", "local", "for", "in", "--",
        "[[", "#", "function", "end", "\\", "\"", "1.5e+3", "\u{fe}",
    ];
    for _ in 0..3000 {
        let mut source = String::new();
        for _ in 0..20 {
            source.push_str(words[dice.below(words.len() as u64) as usize]);
            source.push(' ');
        }
        traits(&source);
    }
}
