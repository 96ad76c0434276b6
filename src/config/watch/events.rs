//! Events of the directories through which the file is reached.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tracing::debug;

/// How many symbolic links a path may lead through.
const MAX_LINKS: usize = 16;

/// The directories that are watched.
pub struct Directories {
    watcher: RecommendedWatcher,
    watched: Vec<Directory>,
}

/// A directory; its numbers tell when another one has taken its name.
#[derive(Clone, PartialEq, Eq)]
struct Directory {
    path: PathBuf,
    device: u64,
    inode: u64,
}

// === impl Directories ===

impl Directories {
    /// Watches nothing yet; `events` is notified of what happens.
    pub fn new(events: Arc<Notify>) -> notify::Result<Directories> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error may stand for events that were lost.
            if event.map_or(true, |event| may_change_content(&event.kind)) {
                events.notify_one();
            }
        })?;
        Ok(Directories { watcher, watched: Vec::new() })
    }

    /// Watches the directories that now lead to `path`, and no others.
    pub fn follow(&mut self, path: &Path) {
        let wanted = directories_of(path);
        if wanted == self.watched {
            return;
        }
        for old in self.watched.drain(..) {
            // The watch of a removed directory is gone already.
            let _ = self.watcher.unwatch(&old.path);
        }
        for directory in wanted {
            match self.watcher.watch(&directory.path, RecursiveMode::NonRecursive) {
                Ok(()) => self.watched.push(directory),
                Err(error) => debug!(%error, directory = %directory.path.display(), "no events; polled"),
            }
        }
    }
}

/// Our own look at the file is an event, too; it must not cause the next look.
fn may_change_content(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

/// The directory of `path` and of everything its symbolic links lead through.
fn directories_of(path: &Path) -> Vec<Directory> {
    let mut found: Vec<Directory> = Vec::new();
    let mut next = Some(path.to_owned());
    for _ in 0..MAX_LINKS {
        let Some(path) = next.take() else { break };
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if let Ok(metadata) = fs::metadata(&parent) {
            let directory = Directory { path: parent.clone(), device: metadata.dev(), inode: metadata.ino() };
            let known =
                |other: &Directory| (other.device, other.inode) == (directory.device, directory.inode);
            if !found.iter().any(known) {
                found.push(directory);
            }
        }
        next = fs::read_link(&path).ok().map(|target| parent.join(target));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_directory_on_the_way_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let names = ["etc", "conf", "real"].map(|name| root.path().join(name));
        names.iter().for_each(|name| fs::create_dir(name).unwrap());
        fs::write(names[2].join("proxy.toml"), "").unwrap();
        symlink("../real/proxy.toml", names[1].join("link.toml")).unwrap();
        symlink(names[1].join("link.toml"), names[0].join("proxy.toml")).unwrap();
        let inodes = |paths: Vec<PathBuf>| {
            paths.iter().map(|path| fs::metadata(path).unwrap().ino()).collect::<Vec<_>>()
        };
        let found = directories_of(&names[0].join("proxy.toml"))
            .into_iter()
            .map(|directory| directory.path)
            .collect();
        assert_eq!(inodes(found), inodes(names.to_vec()));
        assert_eq!(directories_of(Path::new("proxy.toml"))[0].path, Path::new("."));
    }

    #[test]
    fn a_link_to_itself_ends() {
        let root = tempfile::tempdir().unwrap();
        symlink("loop", root.path().join("loop")).unwrap();
        assert_eq!(directories_of(&root.path().join("loop")).len(), 1);
    }

    #[test]
    fn reading_is_no_change() {
        assert!(!may_change_content(&EventKind::Access(AccessKind::Open(AccessMode::Any))));
        assert!(!may_change_content(&EventKind::Access(AccessKind::Close(AccessMode::Read))));
        assert!(may_change_content(&EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(may_change_content(&EventKind::Any));
    }
}
