//! What may fail through the proxy, and why: `exceptions.txt`.

use crate::way::Way;

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
        self.lines.iter().any(|line| {
            line.unit == unit
                && line.test == test
                && (line.ways == "all" || line.ways.split(' ').any(|name| name == way.name()))
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
