//! What may fail through the proxy, and why: `suites/exceptions.txt`.

use super::{Protocol, Results};
use crate::support::*;

/// The lines of the file: `test | protocols | ways | reason`. A test stands for all of its name, whatever its file and
/// parameters; protocols are `2`, `3` or `2 3`; ways are `all` or names separated by blanks.
pub struct Exceptions(Vec<Exception>);

struct Exception {
    test: String,
    protocols: String,
    ways: String,
}

// === impl Exceptions ===

impl Exceptions {
    pub fn read() -> Exceptions {
        let text = include_str!("../suites/exceptions.txt");
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Exceptions(lines.map(parse).collect())
    }

    /// May this test fail?
    pub fn allow(&self, id: &str, protocol: Protocol, way: Way) -> bool {
        self.0.iter().any(|line| line.is_of(id) && line.is_about(protocol, way))
    }

    /// Those whose tests pass in every protocol and way that they name. What has not been run everywhere is not judged.
    pub fn outdated(&self, results: &Results) -> Vec<&str> {
        self.0.iter().filter(|line| line.is_outdated(results)).map(|line| line.test.as_str()).collect()
    }
}

// === impl Exception ===

impl Exception {
    fn is_of(&self, id: &str) -> bool {
        let name = id.rsplit("::").next().unwrap_or(id);
        name.split('[').next() == Some(&*self.test)
    }

    fn is_about(&self, protocol: Protocol, way: Way) -> bool {
        let is_way = self.ways == "all" || self.ways.split(' ').any(|name| name == way.name());
        way != Way::DIRECT && is_way && self.protocols.split(' ').any(|name| name == protocol.0)
    }

    fn is_outdated(&self, results: &Results) -> bool {
        let all = super::PROTOCOLS.iter().flat_map(|protocol| Way::ALL.map(|way| (*protocol, way)));
        let mut own = all.filter(|(protocol, way)| self.is_about(*protocol, *way));
        own.all(|run| results.get(&run).is_some_and(|outcome| outcome.all_pass(|id| self.is_of(id))))
    }
}

fn parse(line: &str) -> Exception {
    let parts: Vec<&str> = line.split(" | ").collect();
    let [test, protocols, ways, reason] = parts.as_slice() else {
        panic!("exceptions.txt: not 'test | protocols | ways | reason': {line}");
    };
    assert!(!reason.is_empty(), "exceptions.txt: no reason: {line}");
    let [test, protocols, ways] = [test, protocols, ways].map(|part| (*part).to_owned());
    Exception { test, protocols, ways }
}
