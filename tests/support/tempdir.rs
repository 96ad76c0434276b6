//! A private directory that goes away with its owner.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory readable by this user only, removed on drop.
pub struct TempDir(PathBuf);

// === impl TempDir ===

impl TempDir {
    /// Makes the directory. The name stays short: unix socket paths have about 100 bytes.
    pub fn new() -> TempDir {
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("ms-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return TempDir(path),
                // Left behind by an earlier process of the same id that was killed.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(error) => panic!("cannot make {}: {error}", path.display()),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path inside it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // The directory of a dead server may vanish partly while it is removed; nothing depends on it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
