//! What may fail through the proxy, and why: `exceptions.txt`.

use crate::Results;
use crate::support::Way;

/// The lines of the file: `unit | test | ways | reason`, where ways is `all` or names separated by spaces. A `!` before
/// the unit: the test is not even run through the proxy, because it would not end, or would leave a mess to later ones.
pub struct Exceptions {
    lines: Vec<Exception>,
}

struct Exception {
    unit: String,
    test: String,
    ways: String,
    not_run: bool,
}

// === impl Exceptions ===

impl Exceptions {
    /// Reads the file.
    pub fn read() -> Exceptions {
        let text = include_str!("exceptions.txt");
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Exceptions { lines: lines.map(parse).collect() }
    }

    /// The tests of a unit that are not run through the proxy.
    pub fn not_run(&self, unit: &str) -> Vec<&str> {
        let lines = self.lines.iter().filter(|line| line.not_run && line.unit == unit);
        lines.map(|line| &*line.test).collect()
    }

    /// May this test fail?
    pub fn allow(&self, unit: &str, test: &str, way: Way) -> bool {
        self.lines.iter().any(|line| line.unit == unit && line.test == test && line.is_about(way))
    }

    /// Those that are needed no longer. What has not been run in all of its ways is not judged.
    pub fn outdated(&self, results: &Results) -> Vec<String> {
        let outdated = self.lines.iter().filter(|line| line.is_outdated(results));
        outdated.map(|line| format!("{} | {} | {}", line.unit, line.test, line.ways)).collect()
    }
}

// === impl Exception ===

impl Exception {
    fn is_about(&self, way: Way) -> bool {
        way != Way::DIRECT && (self.ways == "all" || self.ways.split(' ').any(|name| name == way.name()))
    }

    fn is_outdated(&self, results: &Results) -> bool {
        let of = |way: &Way| results.iter().find(|((unit, of), _)| *unit == self.unit && of == way);
        let Some((_, direct)) = of(&Way::DIRECT) else { return false };
        if !direct.passed.contains_key(&self.test) {
            return true;
        }
        let mut ways = Way::ALL.iter().filter(|way| self.is_about(**way));
        !self.not_run
            && ways.all(|way| {
                of(way).is_some_and(|(_, outcome)| outcome.failed.iter().all(|(name, _)| *name != self.test))
            })
    }
}

fn parse(line: &str) -> Exception {
    let parts: Vec<&str> = line.split(" | ").collect();
    let [unit, test, ways, reason] = parts.as_slice() else {
        panic!("exceptions.txt: not 'unit | test | ways | reason': {line}");
    };
    assert!(!reason.is_empty(), "exceptions.txt: no reason: {line}");
    let not_run = unit.starts_with('!');
    let unit = unit.trim_start_matches('!').to_owned();
    Exception { unit, test: (*test).to_owned(), ways: (*ways).to_owned(), not_run }
}
