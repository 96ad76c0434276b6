//! The commands that need no running proxy: check, feature, healthcheck, manual, and their exit codes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

const BOTH: &str = "use_primary_and_secondary_stores_for_jobs";
const DEFAULT: &str = "use_primary_store_as_default_for_jobs";

const CONFIG: &str = r#"[admin]
listen = "127.0.0.1:9180"

[instances.jobs]
listen = "127.0.0.1:6380"
primary = "redis://127.0.0.1:7001"
secondary = "redis://127.0.0.1:7002"

[feature_flags] # mind the order
"#;

fn multistore(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_multistore")).args(arguments).current_dir(directory).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn directory(config: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.toml");
    std::fs::write(&path, config).unwrap();
    (directory, path)
}

/// The end of each request, and its answer.
type Answers = &'static [(&'static str, &'static str)];

/// A server for one connection that gives the next answer whenever it has read a line that ends it.
/// It returns what it read.
fn serve_once(answers: Answers) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = BufReader::new(stream);
        let mut request = String::new();
        for (end, answer) in answers {
            while stream.read_line(&mut request).unwrap() > 0 && !request.ends_with(end) {}
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
        request
    });
    (address, thread)
}

#[test]
fn check_accepts_and_describes() {
    let (directory, _) = directory(CONFIG);
    let output = multistore(directory.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).starts_with("proxy.toml: valid\n"), "{output:?}");
    assert!(stdout(&output).contains("jobs on 127.0.0.1:6380: secondary_only"), "{output:?}");
    assert_eq!(stderr(&output), "");
}

#[test]
fn check_tells_every_error_with_its_place() {
    let (directory, path) =
        directory(&CONFIG.replace("listen = \"127.0.0.1:6380\"", "lisen = 1\nack = \"all\""));
    let output = multistore(Path::new("/"), &["check", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let errors = stderr(&output);
    for place in [":4:1: [instances.jobs] lacks 'listen'", ":5:1: unknown key 'lisen'", ":6:7: 'ack' in"] {
        assert!(errors.contains(&format!("{}{place}", path.display())), "{errors}");
    }
    assert_eq!(stdout(&output), "");
    drop(directory);
}

#[test]
fn check_of_a_missing_file_says_how_to_get_one() {
    let directory = tempfile::tempdir().unwrap();
    for command in ["check", "run"] {
        let output = multistore(directory.path(), &[command]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("multistore manual > proxy.toml"), "{output:?}");
    }
}

#[test]
fn help_is_a_command_and_a_wrong_admin_address_is_told_the_usual_port() {
    let output = multistore(Path::new("/"), &["help", "verify"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(stdout(&output).contains("Compare both stores"), "{output:?}");
    let output = multistore(Path::new("/"), &["status", "--admin", "foo"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("write 'foo:9180'"), "{output:?}");
}

#[test]
fn check_warns_and_passes() {
    let (directory, _) = directory(&CONFIG.replace("7002", "7001"));
    let output = multistore(directory.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).starts_with("proxy.toml: valid, 1 warning\n"), "{output:?}");
    assert!(stderr(&output).contains("proxy.toml:7:13: warning: primary and secondary"), "{output:?}");
}

#[test]
fn check_connects_when_asked() {
    let (primary, first) = serve_once(&[
        ("hunter2\r\n", "+OK\r\n"),
        ("3\r\n", "+OK\r\n"),
        ("PING\r\n", "+PONG\r\n"),
        ("INFO\r\n", "$10\r\nrun_id:a\r\n\r\n"),
        ("DBSIZE\r\n", ":7\r\n"),
    ]);
    let (secondary, second) = serve_once(&[("PING\r\n", "-NOAUTH Authentication required.\r\n")]);
    let config = CONFIG
        .replace("127.0.0.1:7001", &format!("u:hunter2@{primary}/3"))
        .replace("127.0.0.1:7002", &secondary);
    let (directory, _) = directory(&config);
    let output = multistore(directory.path(), &["check", "--connect"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("jobs: primary answers, and holds 7 keys in database 3"), "{output:?}");
    assert!(stderr(&output).contains("jobs: warning: the primary is not empty"), "{output:?}");
    // The secondary may be the same server, for all that is known.
    assert!(stderr(&output).contains("do not empty it before you know"), "{output:?}");
    assert!(stderr(&output).contains("doesn't answer PING: NOAUTH Authentication required."), "{output:?}");
    assert!(!stderr(&output).contains("hunter2") && !stdout(&output).contains("hunter2"));
    let conversation = first.join().unwrap();
    assert!(conversation.contains("AUTH\r\n$1\r\nu\r\n$7\r\nhunter2\r\n"), "{conversation}");
    assert!(conversation.contains("SELECT\r\n$1\r\n3\r\n"), "{conversation}");
    assert_eq!(second.join().unwrap(), "*1\r\n$4\r\nPING\r\n");
}

#[test]
fn feature_walks_the_rollout_and_keeps_comments() {
    let (directory, path) = directory(CONFIG);
    let steps = [
        (BOTH, "true", "secondary_only -> dual_secondary_default"),
        (DEFAULT, "true", "dual_secondary_default -> dual_primary_default"),
        (BOTH, "false", "dual_primary_default -> primary_only"),
        (BOTH, "false", "primary_only (the file said so already)"),
        (BOTH, "true", "primary_only -> dual_primary_default"),
    ];
    for (flag, value, said) in steps {
        let output = multistore(directory.path(), &["feature", "set", flag, value]);
        assert_eq!(
            (output.status.code(), stdout(&output).lines().next()),
            (Some(0), Some(format!("jobs: {said}").as_str())),
            "{output:?}"
        );
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{CONFIG}{BOTH} = true\n{DEFAULT} = true\n"));
    let output = multistore(directory.path(), &["feature", "list"]);
    assert_eq!(
        stdout(&output),
        format!("jobs: dual_primary_default\n  {BOTH}  true\n  {DEFAULT}      true\n")
    );
}

#[test]
fn feature_refuses_jumps_and_says_the_way() {
    let primary_only = format!("{BOTH} = false\n{DEFAULT} = true\n");
    for (flags, value, through) in
        [("", "true", "dual_secondary_default"), (&primary_only, "false", "dual_primary_default")]
    {
        let (directory, path) = directory(&format!("{CONFIG}{flags}"));
        let output = multistore(directory.path(), &["feature", "set", DEFAULT, value]);
        assert_eq!(output.status.code(), Some(3));
        let said = stderr(&output);
        assert!(said.starts_with("refused: ") && said.contains(&format!("to {through}")), "{said}");
        assert!(said.contains(&format!("multistore feature set {BOTH} true")), "{said}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{CONFIG}{flags}"));

        let output = multistore(directory.path(), &["feature", "set", DEFAULT, value, "--force"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(std::fs::read_to_string(&path).unwrap().contains("allow_stage_jump = [\"jobs\"]\n"));
    }
}

#[test]
fn feature_mistakes_exit_with_2() {
    let (directory, path) = directory(CONFIG);
    for arguments in [
        ["feature", "set", "use_primary_and_secondary_stores_for_job", "true"].as_slice(),
        &["feature", "set", BOTH, "maybe"],
        &["feature", "set", BOTH],
        &["feature"],
        &["nonsense"],
    ] {
        assert_eq!(multistore(directory.path(), arguments).status.code(), Some(2), "{arguments:?}");
    }
    std::fs::write(&path, "broken").unwrap();
    let output = multistore(directory.path(), &["feature", "set", BOTH, "true"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("left alone"), "{output:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "broken");
}

#[test]
fn healthcheck_tells_ready_from_not_ready() {
    let cases: [(Answers, i32, &str); 4] = [
        (&[("\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")], 0, "ready"),
        (
            &[("\r\n\r\n", "HTTP/1.1 503 Service Unavailable\r\n\r\njobs: default store down")],
            1,
            "jobs: default store down",
        ),
        (&[("\r\n\r\n", "-ERR unknown command\r\n")], 1, "not HTTP"),
        (&[("\r\n\r\n", "")], 1, "not HTTP"),
    ];
    for (answers, code, said) in cases {
        let (address, server) = serve_once(answers);
        // What is wrong elsewhere in the file is the running proxy's to ignore.
        let (directory, _) =
            directory(&format!("{}nonsense = [", CONFIG.replace("127.0.0.1:9180", &address)));
        let output = multistore(directory.path(), &["healthcheck"]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(format!("{}{}", stdout(&output), stderr(&output)).contains(said), "{output:?}");
        assert!(server.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\n"));
    }
}

#[test]
fn healthcheck_does_not_wait_for_ever() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    // The file doesn't matter when the address is given.
    let output = multistore(directory.path(), &["healthcheck", "--admin", &address, "--timeout", "50ms"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("no answer in time"), "{output:?}");
    assert_eq!(multistore(directory.path(), &["healthcheck"]).status.code(), Some(2));
}

#[test]
fn the_manual_is_a_valid_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let output = multistore(directory.path(), &["manual"]);
    std::fs::write(directory.path().join("proxy.toml"), &output.stdout).unwrap();
    let output = multistore(directory.path(), &["check"]);
    assert!(stdout(&output).starts_with("proxy.toml: valid\n"), "{output:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_crash() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_multistore"))
        .arg("manual")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn help_explains_exit_codes() {
    let output = multistore(Path::new("/"), &["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("Exit codes:") && stdout(&output).contains("3  refused"));
}
