//! Progress of something that takes a while: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// The bar's width.
const WIDTH: usize = 30;
/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// One bar, on standard error.
pub struct Progress {
    terminal: bool,
    drawn: bool,
    told_at: Option<Instant>,
}

// === impl Progress ===

impl Progress {
    /// Nothing is shown yet.
    pub fn new() -> Progress {
        Progress { terminal: std::io::stderr().is_terminal(), drawn: false, told_at: None }
    }

    /// Shows that `share` (0 to 1) of it is done.
    pub fn show(&mut self, what: &str, share: f64, detail: &str) {
        let percent = (share.clamp(0.0, 1.0) * 100.0) as usize;
        let mut err = std::io::stderr();
        if self.terminal {
            let filled = percent * WIDTH / 100;
            let bar = format!("{}{}", "#".repeat(filled), ".".repeat(WIDTH - filled));
            // A terminal that has gone away is no reason to stop.
            let _ = write!(err, "\r\x1b[K{what} [{bar}] {percent:>3}%  {detail}");
            let _ = err.flush();
            self.drawn = true;
        } else if self.told_at.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
            self.told_at = Some(Instant::now());
            let _ = writeln!(err, "{what} {percent}%  {detail}");
        }
    }

    /// Takes the bar away.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

/// `1,234,567`
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `17 b`, `3.2 mb`
pub fn bytes(number: f64) -> String {
    let units = [("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10)];
    match units.into_iter().find(|(_, size)| number >= f64::from(*size)) {
        Some((unit, size)) => format!("{:.1} {unit}", number / f64::from(size)),
        None => format!("{number:.0} b"),
    }
}

#[cfg(test)]
mod tests {
    use super::{bytes, thousands};

    #[test]
    fn numbers_are_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 1536.0, 5e6].map(bytes), ["0 b", "1.5 kb", "4.8 mb"]);
    }
}
