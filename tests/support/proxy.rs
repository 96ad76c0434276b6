//! The proxy as its users run it: a process with a `proxy.toml`.

use super::process::{print_log_if_panicking, signal, wait_with_deadline};
use super::{Client, HttpAnswer, SOON, Stage, TempDir, free_port, http_get, kill_now, poll_for, poll_until};
use multistore::stage::{Flags, primary_default_flag, use_both_flag};
use rustix::process::Signal;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How many sets of ports are tried before a start fails.
const START_ATTEMPTS: usize = 3;
/// How long the proxy may take until it is ready.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long the proxy may take to end after SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// What stands in a `proxy.toml`, without the ports.
#[derive(Clone, Debug, Default)]
pub struct ProxyConfig {
    instances: Vec<Instance>,
    top: String,
}

#[derive(Clone, Debug)]
struct Instance {
    name: String,
    primary: String,
    secondary: String,
    settings: String,
    flags: Flags,
}

// === impl ProxyConfig ===

impl ProxyConfig {
    /// One instance, both flags off.
    pub fn new(name: &str, primary: &str, secondary: &str) -> ProxyConfig {
        ProxyConfig::default().instance(name, primary, secondary)
    }

    /// Adds an instance; what follows is about it.
    pub fn instance(mut self, name: &str, primary: &str, secondary: &str) -> ProxyConfig {
        self.instances.push(Instance {
            name: name.to_owned(),
            primary: format!("\"{primary}\""),
            secondary: format!("\"{secondary}\""),
            settings: String::new(),
            flags: Flags::default(),
        });
        self
    }

    /// Sets what stands behind `primary =` and `secondary =` of the last instance: quoted URLs, or inline tables.
    pub fn stores(mut self, primary: &str, secondary: &str) -> ProxyConfig {
        let instance = self.instances.last_mut().expect("an instance to set this for");
        (instance.primary, instance.secondary) = (primary.to_owned(), secondary.to_owned());
        self
    }

    /// Adds a line to the last instance, such as `reads = "compare"`.
    pub fn setting(mut self, line: &str) -> ProxyConfig {
        let instance = self.instances.last_mut().expect("an instance to set this for");
        instance.settings.push_str(line);
        instance.settings.push('\n');
        self
    }

    /// The stage in which the last instance starts.
    pub fn stage(mut self, stage: Stage) -> ProxyConfig {
        self.instances.last_mut().expect("an instance to set this for").flags = stage.flags();
        self
    }

    /// Adds text after everything else: further tables.
    pub fn text(mut self, toml: &str) -> ProxyConfig {
        self.top.push_str(toml);
        self.top.push('\n');
        self
    }

    fn render(&self, admin: u16, listeners: &[u16]) -> String {
        let mut out = format!("[admin]\nlisten = \"127.0.0.1:{admin}\"\n");
        for (instance, port) in self.instances.iter().zip(listeners) {
            let Instance { name, primary, secondary, settings, .. } = instance;
            let _ = write!(
                out,
                "\n[instances.{name}]\nlisten = \"127.0.0.1:{port}\"\nprimary = {primary}\n\
                 secondary = {secondary}\n{settings}"
            );
        }
        out.push_str("\n[feature_flags]\n");
        for Instance { name, flags, .. } in &self.instances {
            let _ = writeln!(out, "{} = {}", use_both_flag(name), flags.use_both);
            let _ = writeln!(out, "{} = {}", primary_default_flag(name), flags.primary_default);
        }
        out.push('\n');
        out.push_str(&self.top);
        out
    }
}

/// A running proxy. Ends when dropped.
pub struct Proxy {
    child: Child,
    config: ProxyConfig,
    admin: u16,
    listeners: Vec<u16>,
    dir: TempDir,
}

// === impl Proxy ===

impl Proxy {
    /// Starts it and waits until it is ready.
    pub fn start(config: ProxyConfig) -> Proxy {
        let proxy = Proxy::launch(config, "/readyz");
        proxy.assert_stages();
        proxy
    }

    /// Starts it and waits until it is alive: for tests in which a store is down from the start.
    pub fn start_not_ready(config: ProxyConfig) -> Proxy {
        Proxy::launch(config, "/livez")
    }

    fn launch(config: ProxyConfig, until: &str) -> Proxy {
        for attempt in 1..=START_ATTEMPTS {
            let dir = TempDir::new();
            let admin = free_port();
            let listeners: Vec<u16> = config.instances.iter().map(|_| free_port()).collect();
            std::fs::write(config_in(dir.path()), config.render(admin, &listeners))
                .expect("write proxy.toml");
            let child = spawn(&dir);
            let mut proxy = Proxy { child, config: config.clone(), admin, listeners, dir };
            if proxy.comes_up(until) {
                return proxy;
            }
            // Dropping the last one shows its log.
            assert!(attempt < START_ATTEMPTS, "the proxy did not come up: no 200 from {until}");
        }
        unreachable!("the last attempt returns or panics")
    }

    /// Waits for 200 from `until`; false when the process ended instead (a port was taken).
    fn comes_up(&mut self, until: &str) -> bool {
        let found = poll_for(START_DEADLINE, || {
            if self.child.try_wait().expect("wait for a child").is_some() {
                return Some(false);
            }
            http_get(self.admin, until).is_ok_and(|answer| answer.status == 200).then_some(true)
        });
        found.unwrap_or(false)
    }

    fn assert_stages(&self) {
        for instance in &self.config.instances {
            self.wait_for_stage(&instance.name, instance.flags.stage());
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The port of the first instance.
    pub fn port(&self) -> u16 {
        self.listeners[0]
    }

    /// The port of the named instance.
    pub fn port_of(&self, name: &str) -> u16 {
        self.listeners[self.position(name)]
    }

    /// The port of the admin server.
    pub fn admin_port(&self) -> u16 {
        self.admin
    }

    /// A new client of the first instance.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.port())
    }

    /// A new client of the named instance.
    #[track_caller]
    pub fn client_of(&self, name: &str) -> Client {
        Client::connect(self.port_of(name))
    }

    /// A new client of the first instance that speaks RESP3.
    #[track_caller]
    pub fn client3(&self) -> Client {
        let mut client = self.client();
        let hello = client.call(&["HELLO", "3"]);
        assert!(!hello.is_error(), "HELLO 3: {hello:?}");
        client
    }

    /// GET of an admin path.
    #[track_caller]
    pub fn get(&self, path: &str) -> HttpAnswer {
        http_get(self.admin, path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// What `/status` says.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let answer = self.get("/status");
        assert_eq!(answer.status, 200, "GET /status: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
    }

    /// What `/status` says about the named instance.
    #[track_caller]
    pub fn instance_status(&self, name: &str) -> serde_json::Value {
        let status = self.status();
        let mut instances = status["instances"].as_array().into_iter().flatten();
        let found = instances.find(|one| one["name"] == name).cloned();
        found.unwrap_or_else(|| panic!("no instance {name}: {status}"))
    }

    /// What `/metrics` says.
    #[track_caller]
    pub fn metrics(&self) -> String {
        self.get("/metrics").body
    }

    /// The sum of all series of `name` that carry these labels; panics when there is none.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.metrics();
        sum_of_series(&text, name, labels).unwrap_or_else(|| panic!("no series {name}{labels:?} in\n{text}"))
    }

    /// The same; `None` when no series carries these labels.
    pub fn metric_opt(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        sum_of_series(&self.metrics(), name, labels)
    }

    /// Where its `proxy.toml` is.
    pub fn config_path(&self) -> PathBuf {
        config_in(self.dir.path())
    }

    /// What stands in `proxy.toml` now.
    pub fn config_text(&self) -> String {
        std::fs::read_to_string(self.config_path()).expect("read proxy.toml")
    }

    /// Replaces `proxy.toml` as an editor does: a new file beside it, renamed over it.
    pub fn write_config(&self, text: &str) {
        let beside = self.dir.join("proxy.toml.new");
        std::fs::write(&beside, text).expect("write the new proxy.toml");
        std::fs::rename(&beside, self.config_path()).expect("rename the new proxy.toml");
    }

    /// Sets the flags of the first instance in the file and waits until they rule.
    #[track_caller]
    pub fn set_flags(&mut self, use_both: bool, primary_default: bool) {
        let name = self.config.instances[0].name.clone();
        self.set_stage_of(&name, Flags { use_both, primary_default }.stage());
    }

    /// Moves the first instance to `stage` and waits until it is there.
    #[track_caller]
    pub fn stage(&mut self, stage: Stage) {
        let name = self.config.instances[0].name.clone();
        self.set_stage_of(&name, stage);
    }

    /// Moves the named instance to `stage` and waits until it is there.
    #[track_caller]
    pub fn set_stage_of(&mut self, name: &str, stage: Stage) {
        self.write_stage_of(name, stage);
        self.wait_for_stage(name, stage);
    }

    /// Writes the flags of `stage` and does not wait.
    pub fn write_stage_of(&mut self, name: &str, stage: Stage) {
        let at = self.position(name);
        self.config.instances[at].flags = stage.flags();
        self.write_config(&self.config.render(self.admin, &self.listeners));
    }

    /// Waits until `/status` shows `stage`.
    #[track_caller]
    pub fn wait_for_stage(&self, name: &str, stage: Stage) {
        poll_until(SOON, &format!("{name} in stage {stage}"), || {
            self.instance_status(name)["stage"] == stage.name()
        });
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("proxy.log")).unwrap_or_default()
    }

    /// Waits until its log contains `text`.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        poll_until(SOON, &format!("{text:?} in the log"), || self.log().contains(text));
    }

    /// Sends a signal.
    pub fn signal(&self, which: Signal) {
        signal(&self.child, which);
    }

    /// SIGTERM; returns the exit code.
    #[track_caller]
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait_exit()
    }

    /// Waits for the end; returns the exit code, `None` after a signal.
    #[track_caller]
    pub fn wait_exit(&mut self) -> Option<i32> {
        let status = wait_with_deadline(&mut self.child, STOP_DEADLINE);
        status.unwrap_or_else(|| panic!("the proxy still runs after {STOP_DEADLINE:?}")).code()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        kill_now(&mut self.child);
    }

    /// Starts it again with the same file and ports, after it ended.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.launch_again("/readyz");
    }

    /// The same where its default store may be out of reach.
    #[track_caller]
    pub fn start_again_not_ready(&mut self) {
        self.launch_again("/livez");
    }

    #[track_caller]
    fn launch_again(&mut self, until: &str) {
        kill_now(&mut self.child);
        self.child = spawn(&self.dir);
        assert!(self.comes_up(until), "the proxy did not come up again");
    }

    /// Is it still running?
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait for a child").is_none()
    }

    fn position(&self, name: &str) -> usize {
        let found = self.config.instances.iter().position(|instance| instance.name == name);
        found.unwrap_or_else(|| panic!("no instance {name}"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        kill_now(&mut self.child);
        print_log_if_panicking("the proxy", &self.dir.join("proxy.log"));
    }
}

fn spawn(dir: &TempDir) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("proxy.log")).expect("open a log");
    let errors = log.try_clone().expect("share the log");
    Command::new(program())
        .args(["run", "--config"])
        .arg(config_in(dir.path()))
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .expect("start the proxy")
}

/// The proxy of this build, or what `MULTISTORE` names: a release build, or one that stays what it is during a long run.
pub fn program() -> PathBuf {
    std::env::var_os("MULTISTORE").map_or_else(|| env!("CARGO_BIN_EXE_multistore").into(), PathBuf::from)
}

fn config_in(dir: &Path) -> PathBuf {
    dir.join("proxy.toml")
}

/// The sum over a Prometheus text; `None` when no series of `name` carries all `labels`.
pub fn sum_of_series(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let wanted: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let mut sum = None;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        let (series, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}').unwrap_or(("", rest)),
            None if rest.starts_with(' ') => ("", rest),
            None => continue,
        };
        let present: Vec<&str> = series.split(',').collect();
        if wanted.iter().all(|label| present.contains(&label.as_str())) {
            let value: f64 = value.split_whitespace().next()?.parse().ok()?;
            *sum.get_or_insert(0.0) += value;
        }
    }
    sum
}
