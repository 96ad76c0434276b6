//! The live picture: redrawn in place on a terminal, a line per second elsewhere.

use super::gauges::{Picture, Reading};
use super::world::INSTANCE;
pub(super) use crate::cli::progress::thousands;
use crate::stage::{Stage, StoreId};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;
use tokio::time::Instant;

/// Cells of the bar that shows a store's share.
const BAR_CELLS: u64 = 20;
/// Flips that stay on the screen. With them the picture fits a terminal of 80 by 24.
const EVENTS_SHOWN: usize = 6;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const REVERSE: &str = "\x1b[7m";
const PLAIN: &str = "\x1b[0m";
/// Without a cursor, and with lines cut at the edge: a wrapped line could not be overdrawn.
const BEGIN: &str = "\x1b[?25l\x1b[?7l";
const END: &str = "\x1b[?7h\x1b[?25h";

/// Where the demo is on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The stage that rules.
    pub(super) stage: Stage,
    /// Counted from 1.
    pub(super) step: usize,
    /// How many there are.
    pub(super) steps: usize,
    /// Until the next flip.
    pub(super) left: Duration,
}

/// Where the picture goes.
pub(super) struct Screen {
    begun: Instant,
    redraws: bool,
    /// Lines that the last picture took, to be overdrawn.
    drawn: usize,
    events: VecDeque<String>,
}

// === impl Screen ===

impl Screen {
    /// Redraws on a terminal, unless asked for `plain` lines.
    pub(super) fn new(plain: bool) -> Screen {
        let terminal =
            std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let screen =
            Screen { begun: Instant::now(), redraws: terminal && !plain, drawn: 0, events: VecDeque::new() };
        say(if screen.redraws { BEGIN } else { "" });
        screen
    }

    /// Is the picture redrawn in place?
    pub(super) fn redraws(&self) -> bool {
        self.redraws
    }

    /// A flag was set, and the proxy has followed.
    pub(super) fn flipped(&mut self, line: &str, to: Stage, took: Duration) {
        let seconds = self.begun.elapsed().as_secs();
        if !self.redraws {
            say(&format!("{seconds:>4} s  {line}  ⇒  {to} after {} ms\n", took.as_millis()));
        }
        let line = line.replace(INSTANCE, "…");
        self.events.push_back(format!("{seconds:>3} s {line} → {to}"));
        while self.events.len() > EVENTS_SHOWN {
            self.events.pop_front();
        }
    }

    /// Something happened.
    pub(super) fn told(&mut self, line: &str) {
        let seconds = self.begun.elapsed().as_secs();
        if !self.redraws {
            say(&format!("{seconds:>4} s  {line}\n"));
        }
        self.events.push_back(format!("{seconds:>3} s {line}"));
        while self.events.len() > EVENTS_SHOWN {
            self.events.pop_front();
        }
    }

    /// Shows the picture.
    pub(super) fn show(&mut self, place: Place, picture: &Picture) {
        if !self.redraws {
            let seconds = self.begun.elapsed().as_secs();
            say(&format!("{seconds:>4} s  {}\n", one_line(place, picture)));
            return;
        }
        let text = self.whole(place, picture);
        let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        self.drawn = text.lines().count();
        // Each line is cleared to its end, so that nothing of the last picture shows through.
        let text: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
        say(&format!("{up}{text}\x1b[J"));
    }

    fn whole(&self, place: Place, picture: &Picture) -> String {
        let mut out = String::new();
        // A String takes everything: the results say nothing.
        let _ = writeln!(
            out,
            "{BOLD}multistore{PLAIN}  two redis-servers, the proxy before them, a busy application\n"
        );
        let _ = writeln!(out, "{}", stages(place.stage));
        let Place { step, steps, left, .. } = place;
        let _ = writeln!(out, "  {DIM}step {step} of {steps}, next in {} s{PLAIN}\n", left.as_secs());
        let _ = writeln!(
            out,
            "  requests        {:>8} /s {:>12} in all",
            thousands(picture.per_second(|reading| reading.tally.requests)),
            thousands(picture.now.tally.requests)
        );
        for (store, name) in [(StoreId::Secondary, "old"), (StoreId::Primary, "new")] {
            let _ = writeln!(out, "{}", store_line(store, name, picture));
        }
        out.push('\n');
        counters(picture).iter().for_each(|line| out.push_str(line));
        let _ = writeln!(out, "\n{}", people(picture));
        for event in &self.events {
            let _ = writeln!(out, "  {DIM}{event}{PLAIN}");
        }
        out
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        say(if self.redraws { END } else { "" });
    }
}

/// Prints. A closed pipe ends the show, not the demo: what was started must be ended in order.
pub(super) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn stages(current: Stage) -> String {
    let named = Stage::ALL.map(|stage| match stage == current {
        true => format!("{REVERSE}{BOLD} {stage} {PLAIN}"),
        false => format!("{DIM} {stage} {PLAIN}"),
    });
    named.join("─")
}

fn store_line(store: StoreId, name: &str, picture: &Picture) -> String {
    let share = picture.share(store);
    let full = usize::try_from((share * BAR_CELLS + 50) / 100).unwrap_or(0);
    let empty = usize::try_from(BAR_CELLS).unwrap_or(0).saturating_sub(full);
    format!(
        "  {name} {DIM}{:<11}{PLAIN} {}{DIM}{}{PLAIN} {share:>3} % {:>7} commands/s {:>8} keys",
        format!("({store})"),
        "█".repeat(full),
        "░".repeat(empty),
        thousands(picture.per_second(|reading| reading.commands[store.index()])),
        thousands(picture.now.keys[store.index()]),
    )
}

fn counters(picture: &Picture) -> [String; 3] {
    let Reading { fallbacks, diffs, missing, .. } = picture.now;
    let rate = |number: fn(&Reading) -> u64| picture.per_second(number);
    [
        ("read_fallback", fallbacks, rate(|now| now.fallbacks), "the new store missed, the old had it"),
        ("pipelined_diff_error", diffs, rate(|now| now.diffs), "pipelines answered differently"),
        ("method_missing", missing, rate(|now| now.missing), "commands that nobody described"),
    ]
    .map(|(name, total, rate, what)| {
        format!("  {name:<20} {:>8} {rate:>+6} /s  {DIM}{what}{PLAIN}\n", thousands(total))
    })
}

fn people(picture: &Picture) -> String {
    let tally = &picture.now.tally;
    let alarm = if tally.errors + tally.wrong > 0 { RED } else { "" };
    format!(
        "  jobs     {} enqueued, {} fetched, {} waiting, {} duplicates dropped\n  \
         workers  {alarm}{} errors, {} wrong answers{PLAIN}, {} reads of old data found nothing\n",
        thousands(tally.enqueued),
        thousands(tally.fetched),
        thousands(tally.not_fetched()),
        thousands(tally.duplicates),
        thousands(tally.errors),
        thousands(tally.wrong),
        thousands(tally.cold_reads),
    )
}

fn one_line(place: Place, picture: &Picture) -> String {
    let Reading { fallbacks, diffs, missing, .. } = &picture.now;
    format!(
        "{:<22} {:>6} req/s  fallback {fallbacks} (+{}/s)  diff {diffs} (+{}/s)  missing {missing}  \
         old {}% new {}%  errors {} wrong {}",
        place.stage.name(),
        picture.per_second(|reading| reading.tally.requests),
        picture.per_second(|reading| reading.fallbacks),
        picture.per_second(|reading| reading.diffs),
        picture.share(StoreId::Secondary),
        picture.share(StoreId::Primary),
        picture.now.tally.errors,
        picture.now.tally.wrong,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let shown = [0, 999, 1_000, 1_234_567].map(thousands);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }
}
