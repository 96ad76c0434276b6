//! Replaces a file at once: write another one beside it, then rename.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Why the file was not replaced.
#[derive(Debug)]
pub enum ReplaceError {
    /// It no longer holds the text that the new one was made from.
    Changed,
    /// The system refused.
    Io(String),
}

impl From<io::Error> for ReplaceError {
    fn from(error: io::Error) -> Self {
        let hint = match error.kind() {
            ErrorKind::PermissionDenied => "; the directory has to be writable, too",
            ErrorKind::ResourceBusy | ErrorKind::CrossesDevices => {
                "; a file that is mounted by itself can't be replaced: mount its directory"
            }
            ErrorKind::ReadOnlyFilesystem => "; change the source of the mount instead (a ConfigMap?)",
            _ => "",
        };
        ReplaceError::Io(format!("cannot replace the file: {error}{hint}"))
    }
}

/// The directory that a file is in.
pub fn directory_of(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Puts `new` in the place of a `target` that still holds `old`. Owner and permissions stay.
pub fn replace(target: &Path, old: &str, new: &str) -> Result<(), ReplaceError> {
    let temporary = Temporary::create(target)?;
    write(&temporary, target, new)?;
    if fs::read(target)? != old.as_bytes() {
        return Err(ReplaceError::Changed);
    }
    fs::rename(&temporary.path, target)?;
    // The rename is durable only with its directory; the file is in place either way.
    File::open(directory_of(target))?.sync_all()?;
    Ok(())
}

fn write(temporary: &Temporary, target: &Path, text: &str) -> Result<(), ReplaceError> {
    let mut file = &temporary.file;
    let (wanted, have) = (fs::metadata(target)?, file.metadata()?);
    if (wanted.uid(), wanted.gid()) != (have.uid(), have.gid()) {
        fchown(file, Some(wanted.uid()), Some(wanted.gid())).map_err(|error| {
            ReplaceError::Io(format!("cannot keep the owner of the file: {error}; run as its owner"))
        })?;
    }
    file.set_permissions(Permissions::from_mode(wanted.mode() & 0o7777))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(())
}

/// A file beside the target that is removed unless it was renamed.
struct Temporary {
    path: PathBuf,
    file: File,
}

// === impl Temporary ===

impl Temporary {
    fn create(target: &Path) -> Result<Temporary, ReplaceError> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = directory_of(target).join(format!(".{name}.{}.new", std::process::id()));
        // One that a crashed run with the same process id left behind is in nobody's use: the directory is locked.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Temporary { path, file })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename there is nothing to remove, and a failure has been reported already.
        let _ = fs::remove_file(&self.path);
    }
}
