//! The two stores, and everything that may stand before them.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Process, free_port};

/// What clients talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    Direct,
    Haproxy,
    Nutcracker,
    Envoy,
    EnvoyMirror,
    /// With two workers, as it comes on two cores.
    EnvoyMirrorTwo,
    Floor,
    SecondaryOnly,
    DualSecondary,
    DualPrimary,
    PrimaryOnly,
}

/// A peer that runs.
pub struct Target {
    pub peer: Peer,
    pub addr: SocketAddr,
    pub process: Option<Process>,
}

/// Two stores, as long as this lives.
pub struct Stores {
    pub primary: (Process, SocketAddr),
    pub secondary: (Process, SocketAddr),
    dir: tempfile::TempDir,
}

// === impl Peer ===

impl Peer {
    pub const ALL: [Peer; 10] = [
        Peer::Direct,
        Peer::Haproxy,
        Peer::Nutcracker,
        Peer::Envoy,
        Peer::EnvoyMirror,
        Peer::Floor,
        Peer::SecondaryOnly,
        Peer::DualSecondary,
        Peer::DualPrimary,
        Peer::PrimaryOnly,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Peer::Direct => "direct",
            Peer::Haproxy => "haproxy (TCP)",
            Peer::Nutcracker => "twemproxy",
            Peer::Envoy => "Envoy",
            Peer::EnvoyMirror => "Envoy, mirroring",
            Peer::EnvoyMirrorTwo => "Envoy, mirroring, two workers",
            Peer::Floor => "floor (mirroring)",
            Peer::SecondaryOnly => "multistore secondary_only",
            Peer::DualSecondary => "multistore dual_secondary_default",
            Peer::DualPrimary => "multistore dual_primary_default",
            Peer::PrimaryOnly => "multistore primary_only",
        }
    }

    /// The flags of a stage: both stores in use, primary the default.
    fn flags(self) -> Option<(bool, bool)> {
        match self {
            Peer::SecondaryOnly => Some((false, false)),
            Peer::DualSecondary => Some((true, false)),
            Peer::DualPrimary => Some((true, true)),
            Peer::PrimaryOnly => Some((false, true)),
            _ => None,
        }
    }

    fn file_name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

// === impl Stores ===

impl Stores {
    pub fn start() -> io::Result<Stores> {
        let dir = tempfile::tempdir()?;
        let primary = store("primary", dir.path())?;
        let secondary = store("secondary", dir.path())?;
        Ok(Stores { primary, secondary, dir })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn addresses(&self) -> [SocketAddr; 2] {
        [self.primary.1, self.secondary.1]
    }

    /// Starts a peer before these stores. `None`: it is not installed.
    pub fn target(&self, peer: Peer) -> io::Result<Option<Target>> {
        let addr = free_port();
        let [primary, secondary] = self.addresses();
        let command = match peer {
            Peer::Direct => return Ok(Some(Target { peer, addr: secondary, process: None })),
            Peer::Haproxy => haproxy(self.dir(), addr, secondary)?,
            Peer::Nutcracker => nutcracker(self.dir(), addr, secondary)?,
            Peer::Envoy => envoy(self.dir(), addr, secondary, None, 1)?,
            Peer::EnvoyMirror => envoy(self.dir(), addr, secondary, Some(primary), 1)?,
            Peer::EnvoyMirrorTwo => envoy(self.dir(), addr, secondary, Some(primary), 2)?,
            Peer::Floor => Some(floor(addr, [secondary, primary])?),
            _ => Some(multistore(self.dir(), &[addr], peer, self.addresses())?),
        };
        let Some(mut command) = command else { return Ok(None) };
        let mut process = Process::start(&peer.file_name(), &mut command, self.dir())?;
        process.answers(addr)?;
        Ok(Some(Target { peer, addr, process: Some(process) }))
    }
}

/// A redis-server on a free port; `name` is that of its log.
pub fn store(name: &str, dir: &Path) -> io::Result<(Process, SocketAddr)> {
    let addr = free_port();
    Ok((store_at(name, dir, addr)?, addr))
}

/// A redis-server on this port.
pub fn store_at(name: &str, dir: &Path, addr: SocketAddr) -> io::Result<Process> {
    let server = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    let mut command = Command::new(server);
    command.args(["--bind", "127.0.0.1", "--bind-source-addr", "127.0.0.1", "--maxclients", "20000"]);
    command.args(["--port", &addr.port().to_string(), "--save", "", "--appendonly", "no"]);
    command.current_dir(dir);
    let mut process = Process::start(name, &mut command, dir)?;
    process.answers(addr)?;
    Ok(process)
}

/// The proxy with one instance for each address, all in the stage of `peer`.
pub fn multistore(
    dir: &Path,
    listen: &[SocketAddr],
    peer: Peer,
    [primary, secondary]: [SocketAddr; 2],
) -> io::Result<Command> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_multistore"));
    command.args(["run", "--config"]).arg(config(dir, listen, peer, [primary, secondary], "")?);
    Ok(command)
}

/// Its configuration file; `more` goes into `[process]`.
pub fn config(
    dir: &Path,
    listen: &[SocketAddr],
    peer: Peer,
    [primary, secondary]: [SocketAddr; 2],
    more: &str,
) -> io::Result<PathBuf> {
    let Some((both, primary_default)) = peer.flags() else { return Err(io::Error::other("no stage")) };
    let admin = free_port();
    let mut text = format!("[admin]\nlisten = \"{admin}\"\n[log]\nlevel = \"warn\"\n[process]\n{more}\n");
    let mut flags = "[feature_flags]\n".to_owned();
    for (at, listen) in listen.iter().enumerate() {
        let name = format!("{}_{at}", peer.file_name());
        text += &format!(
            "[instances.{name}]\nlisten = \"{listen}\"\nprimary = \"redis://{primary}\"\n\
             secondary = \"redis://{secondary}\"\nmax_clients = 20000\n"
        );
        flags += &format!("use_primary_and_secondary_stores_for_{name} = {both}\n");
        flags += &format!("use_primary_store_as_default_for_{name} = {primary_default}\n");
    }
    let file = dir.join(format!("{}.toml", peer.file_name()));
    fs::write(&file, text + &flags)?;
    Ok(file)
}

fn floor(listen: SocketAddr, [store, mirror]: [SocketAddr; 2]) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["floor", &listen.to_string(), &store.to_string(), &mirror.to_string()]);
    Ok(command)
}

fn haproxy(dir: &Path, listen: SocketAddr, store: SocketAddr) -> io::Result<Option<Command>> {
    let Some(program) = installed("haproxy") else { return Ok(None) };
    let file = dir.join("haproxy.cfg");
    fs::write(
        &file,
        format!(
            "global\n  maxconn 9000\n  nbthread 1\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  \
             timeout server 1h\nlisten redis\n  bind {listen}\n  server store {store}\n"
        ),
    )?;
    let mut command = Command::new(program);
    command.args(["-db", "-f"]).arg(file);
    Ok(Some(command))
}

fn nutcracker(dir: &Path, listen: SocketAddr, store: SocketAddr) -> io::Result<Option<Command>> {
    let Some(program) = installed("nutcracker") else { return Ok(None) };
    let file = dir.join("nutcracker.yml");
    fs::write(
        &file,
        format!(
            "redis:\n  listen: {listen}\n  redis: true\n  hash: fnv1a_64\n  distribution: ketama\n  preconnect: true\n  \
             timeout: 20000\n  backlog: 1024\n  servers:\n   - {store}:1\n"
        ),
    )?;
    let mut command = Command::new(program);
    command.args(["-a", "127.0.0.1", "-s", &free_port().port().to_string(), "-c"]).arg(file);
    Ok(Some(command))
}

fn envoy(
    dir: &Path,
    listen: SocketAddr,
    store: SocketAddr,
    mirror: Option<SocketAddr>,
    workers: usize,
) -> io::Result<Option<Command>> {
    let given = std::env::var_os("ENVOY").map(PathBuf::from).filter(|file| file.is_file());
    let Some(program) = given.or_else(|| installed("envoy")) else {
        return Ok(None);
    };
    let address = |addr: SocketAddr| {
        format!("{{socket_address: {{address: {}, port_value: {}}}}}", addr.ip(), addr.port())
    };
    let cluster = |name: &str, addr: SocketAddr| {
        format!(
            "  - name: {name}\n    type: STATIC\n    connect_timeout: 5s\n    load_assignment:\n      cluster_name: {name}\n      \
             endpoints: [{{lb_endpoints: [{{endpoint: {{address: {}}}}}]}}]\n",
            address(addr)
        )
    };
    let policy = match mirror {
        Some(_) => ", request_mirror_policy: [{cluster: mirror, exclude_read_commands: true}]",
        None => "",
    };
    let text = format!(
        "static_resources:\n  listeners:\n  - name: redis\n    address: {}\n    filter_chains:\n    - filters:\n      \
         - name: envoy.filters.network.redis_proxy\n        typed_config:\n          \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy\n          \
         stat_prefix: redis\n          settings: {{op_timeout: 20s}}\n          \
         prefix_routes: {{catch_all_route: {{cluster: store{policy}}}}}\n  clusters:\n{}{}",
        address(listen),
        cluster("store", store),
        mirror.map(|addr| cluster("mirror", addr)).unwrap_or_default(),
    );
    let file =
        dir.join(format!("envoy-{}-{workers}.yaml", if mirror.is_some() { "mirror" } else { "plain" }));
    fs::write(&file, text)?;
    let mut command = Command::new(program);
    command
        .args([
            "--concurrency",
            &workers.to_string(),
            "--disable-hot-restart",
            "--log-level",
            "warning",
            "-c",
        ])
        .arg(file);
    Ok(Some(command))
}

/// Where a program lies, if it is installed.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    places.map(|dir| dir.join(name)).find(|file| file.is_file())
}
