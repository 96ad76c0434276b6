//! The ways in which somebody's suite is run: directly, or through the proxy in one stage with one read policy.

use super::{Pair, RedisServer, Stage};

/// A lone server, or a stage and a read policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    name: &'static str,
    /// An index into the stages in the order of a rollout; none: a lone server.
    stage: Option<usize>,
    reads: &'static str,
}

/// What a suite runs against. Ends when dropped.
pub enum Served {
    /// A lone server.
    Lone(RedisServer),
    /// The proxy before two.
    Proxied(Box<Pair>),
}

/// DEBUG is off by default.
const SERVER_ARGS: &[&str] = &["--enable-debug-command", "yes"];

/// What the variable names, of all.
pub fn narrowed<T: Copy>(variable: &str, all: Vec<T>, name: impl Fn(&T) -> &'static str) -> Vec<T> {
    let Ok(wanted) = std::env::var(variable) else { return all };
    let wanted: Vec<&str> = wanted.split(',').collect();
    all.into_iter().filter(|one| wanted.contains(&name(one))).collect()
}

// === impl Way ===

impl Way {
    /// A lone server.
    pub const DIRECT: Way = Way { name: "direct", stage: None, reads: "" };
    /// The stage in which most can go wrong.
    pub const DUAL_PRIMARY_DEFAULT: Way =
        Way { name: "dual_primary_default", stage: Some(2), reads: "fallback" };

    /// All. A read policy makes no difference where one store is in use.
    pub const ALL: [Way; 7] = [
        Way::DIRECT,
        Way { name: "secondary_only", stage: Some(0), reads: "fallback" },
        Way { name: "dual_secondary_default", stage: Some(1), reads: "fallback" },
        Way { name: "dual_secondary_default/default", stage: Some(1), reads: "default" },
        Way::DUAL_PRIMARY_DEFAULT,
        Way { name: "dual_primary_default/default", stage: Some(2), reads: "default" },
        Way { name: "primary_only", stage: Some(3), reads: "fallback" },
    ];

    /// As in tables, and where a run is narrowed.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Starts what a suite runs against.
    pub fn start(self) -> Served {
        let server = || RedisServer::start_with(SERVER_ARGS);
        let Some(stage) = self.stage.map(|at| Stage::ALL[at]) else { return Served::Lone(server()) };
        let reads = format!("reads = \"{}\"", self.reads);
        // Tests keep a server busy for longer than a client of the proxy would wait.
        let patience = "reply_timeout = \"30s\"";
        Served::Proxied(Box::new(Pair::over(server(), server(), stage, &[&reads, patience])))
    }
}

// === impl Served ===

impl Served {
    /// Where the suite connects.
    pub fn port(&self) -> u16 {
        match self {
            Served::Lone(server) => server.port(),
            Served::Proxied(pair) => pair.proxy.port(),
        }
    }

    /// The stores behind the proxy.
    pub fn stores(&self) -> Vec<u16> {
        match self {
            Served::Lone(_) => Vec::new(),
            Served::Proxied(pair) => vec![pair.primary.port(), pair.secondary.port()],
        }
    }

    /// What the proxy has logged.
    pub fn log(&self) -> String {
        match self {
            Served::Lone(_) => String::new(),
            Served::Proxied(pair) => pair.proxy.log(),
        }
    }
}
