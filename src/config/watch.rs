//! Follows `proxy.toml` and hands every valid change over as one whole snapshot.
//!
//! The directory is watched, not the file: editors write a new file and rename it, Kubernetes swaps a symbolic link.
//! SIGHUP asks for a look at once; a slow poll finds what no event told (network file systems, a directory that was
//! replaced). A half-written file must not count: it may be valid, and lack the flags at its end. So a content counts
//! only when two looks [`SETTLE`] apart agree on it.

mod events;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tracing::{error, info, warn};

use super::diagnostic::{Diagnostic, LoadError};
use super::load::{self, Loaded};
use super::{Config, Reloaded};
use events::Directories;

/// How often to look without being told.
pub const POLL: Duration = Duration::from_secs(5);
/// How long a content must stay the same before it counts.
pub const SETTLE: Duration = Duration::from_millis(50);

/// What became of one change of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// It is in effect, but for these restart-only keys.
    Applied {
        /// Changed keys that keep their old values until the next start.
        restart_only: Vec<String>,
    },
    /// The file was looked at, on request or because its text changed, and means what is in effect already.
    Unchanged,
    /// The file is invalid, missing, or asks for a forbidden jump of stages; nothing changed.
    Invalid(LoadError),
}

/// Follows one file. Made inside a runtime, run as a task.
pub struct Watcher<F> {
    path: PathBuf,
    snapshots: watch::Sender<Arc<Config>>,
    on_outcome: F,
    hangups: Signal,
    events: Arc<Notify>,
    directories: Option<Directories>,
    /// What the last look found; the same again is not news.
    seen: Option<Content>,
}

/// The text of the file and its permission bits, or why it can't be read.
type Content = Result<(String, u32), String>;

// === impl ReloadOutcome ===

impl ReloadOutcome {
    /// The word for a metric's label.
    pub fn name(&self) -> &'static str {
        match self {
            ReloadOutcome::Applied { .. } => "applied",
            ReloadOutcome::Unchanged => "unchanged",
            ReloadOutcome::Invalid(_) => "invalid",
        }
    }

    /// Every value of [`ReloadOutcome::name`].
    pub const NAMES: [&str; 3] = ["applied", "unchanged", "invalid"];
}

// === impl Watcher ===

impl<F: Fn(&ReloadOutcome)> Watcher<F> {
    /// Follows the file that the snapshot in `snapshots` comes from. From here on SIGHUP no longer ends the process.
    ///
    /// Call it inside a runtime. What was changed between loading the file and this call is found at the first look.
    pub fn new(snapshots: watch::Sender<Arc<Config>>, on_outcome: F) -> std::io::Result<Watcher<F>> {
        let path = snapshots.borrow().path.clone();
        let events = Arc::new(Notify::new());
        // The first look compares with what is in effect, and starts the watch of the directories.
        events.notify_one();
        let hangups = signal(SignalKind::hangup())?;
        let directories = Directories::new(events.clone())
            .inspect_err(|error| warn!(%error, "no events for the configuration; it is only polled"))
            .ok();
        Ok(Watcher { path, snapshots, on_outcome, hangups, events, directories, seen: None })
    }

    /// Follows the file until nobody receives snapshots any more.
    pub async fn run(mut self) {
        let mut poll = interval_at(Instant::now() + POLL, POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let receivers = self.snapshots.clone();
        loop {
            let asked = tokio::select! {
                () = receivers.closed() => return,
                _ = self.events.notified() => false,
                _ = poll.tick() => false,
                Some(()) = self.hangups.recv() => true,
            };
            self.look(asked).await;
        }
    }

    async fn look(&mut self, asked: bool) {
        // Before reading: a change after the read is then an event.
        if let Some(directories) = &mut self.directories {
            directories.follow(&self.path);
        }
        let glance = read(self.path.clone()).await;
        if !asked && self.seen.as_ref() == Some(&glance) {
            return;
        }
        let content = settled(glance, || read(self.path.clone())).await;
        let first = self.seen.is_none();
        let news = self.seen.as_ref() != Some(&content);
        if !asked && !news {
            return;
        }
        self.seen = Some(content.clone());
        let outcome = self.take(content).await;
        if outcome == ReloadOutcome::Unchanged {
            // A start is no reload.
            if first && !asked {
                return;
            }
            info!("the configuration was looked at; nothing in it has changed");
        }
        (self.on_outcome)(&outcome);
    }

    async fn take(&mut self, content: Content) -> ReloadOutcome {
        let judged = match judge(self.path.clone(), content).await {
            Ok(loaded) => self.merge(loaded),
            Err(error) => Err(error),
        };
        match judged {
            Ok((reloaded, warnings)) => self.hand_over(reloaded, &warnings),
            Err(error) => {
                for diagnostic in &error.diagnostics {
                    error!("{diagnostic}");
                }
                error!(
                    errors = error.diagnostics.len(),
                    "the changed configuration is refused; nothing has changed"
                );
                ReloadOutcome::Invalid(error)
            }
        }
    }

    fn merge(&self, loaded: Loaded) -> Result<(Reloaded, Vec<Diagnostic>), LoadError> {
        let running = self.snapshots.borrow().clone();
        let reloaded = running.reloaded(loaded.config).map_err(|jumps| LoadError {
            diagnostics: jumps.iter().map(|jump| Diagnostic::whole(&self.path, jump.to_string())).collect(),
        })?;
        Ok((reloaded, loaded.warnings))
    }

    fn hand_over(&self, reloaded: Reloaded, warnings: &[Diagnostic]) -> ReloadOutcome {
        let Reloaded { config, restart_only } = reloaded;
        let changed = self.snapshots.send_if_modified(|current| {
            let changed = **current != config;
            if changed {
                *current = Arc::new(config);
            }
            changed
        });
        if !changed && restart_only.is_empty() {
            return ReloadOutcome::Unchanged;
        }
        for warning in warnings {
            warn!("{warning}");
        }
        if !restart_only.is_empty() {
            warn!(keys = restart_only.join(", "), "these changes need a restart and are not in effect");
        }
        if changed {
            info!("the changed configuration is in effect");
        }
        ReloadOutcome::Applied { restart_only }
    }
}

/// The first content that two looks in a row agree on, the first of all being `glance`.
async fn settled<R: Future<Output = Content>>(glance: Content, mut read: impl FnMut() -> R) -> Content {
    let mut content = glance;
    loop {
        sleep(SETTLE).await;
        let again = read().await;
        if again == content {
            return content;
        }
        content = again;
    }
}

/// Reading blocks, on a slow file system for long: not on the thread that serves clients.
async fn read(path: PathBuf) -> Content {
    let joined = tokio::task::spawn_blocking(move || load::read_text(&path)).await;
    joined.unwrap_or_else(|error| Err(format!("reading failed: {error}")))
}

/// Judging may read password files.
async fn judge(path: PathBuf, content: Content) -> Result<Loaded, LoadError> {
    let of_file = path.clone();
    let task = tokio::task::spawn_blocking(move || {
        let (text, mode) = content.map_err(|problem| LoadError::whole(&path, problem))?;
        load::parse(&path, &text, Some(mode), &|name| std::env::var(name).ok())
    });
    task.await.unwrap_or_else(|error| Err(LoadError::whole(&of_file, format!("judging failed: {error}"))))
}

#[cfg(test)]
mod tests;
