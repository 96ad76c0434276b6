//! What is wrong with a file, where, and what to write instead.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A place in a file; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// Does the file have to change?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is accepted; the operator should look.
    Warning,
}

/// One finding. Displays as `proxy.toml:12:3: unknown key 'lisen' …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, as the operator named it.
    pub path: PathBuf,
    /// Where; `None` when the finding is about the file as a whole.
    pub at: Option<Position>,
    /// How bad.
    pub severity: Severity,
    /// What, and what to write instead. Never holds a secret.
    pub message: String,
}

/// Why a file was refused: every error in it, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.diagnostics))]
pub struct LoadError {
    /// Every error, then no warnings: those of a refused file are not kept.
    pub diagnostics: Vec<Diagnostic>,
}

// === impl Position ===

impl Position {
    /// The place of byte `offset` of `text`.
    pub fn of(text: &str, offset: usize) -> Position {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).map_or(0, |line| line.chars().count()) + 1,
        }
    }
}

// === impl Diagnostic ===

impl Diagnostic {
    /// An error at `span` of `text`.
    pub fn error(path: &Path, text: &str, span: Option<Range<usize>>, message: String) -> Diagnostic {
        let at = span.map(|span| Position::of(text, span.start));
        Diagnostic { path: path.to_owned(), at, severity: Severity::Error, message }
    }

    /// An error about the file as a whole.
    pub fn whole(path: &Path, message: String) -> Diagnostic {
        Diagnostic { path: path.to_owned(), at: None, severity: Severity::Error, message }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(Position { line, column }) = self.at {
            write!(f, "{line}:{column}:")?;
        }
        if self.severity == Severity::Warning {
            f.write_str(" warning:")?;
        }
        write!(f, " {}", self.message)
    }
}

// === impl LoadError ===

impl LoadError {
    /// A refusal for one reason that has no place in the file.
    pub fn whole(path: &Path, message: String) -> LoadError {
        LoadError { diagnostics: vec![Diagnostic::whole(path, message)] }
    }
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let text = "a = 1\nü = \"é\" x\n";
        let offset = text.find('x').unwrap();
        assert_eq!(Position::of(text, offset), Position { line: 2, column: 9 });
        assert_eq!(Position::of(text, 0), Position { line: 1, column: 1 });
        assert_eq!(Position::of(text, 10_000).line, 3);
    }

    #[test]
    fn displays_like_a_compiler() {
        let error = Diagnostic::error(Path::new("p.toml"), "\n  x", Some(3..4), "bad".into());
        assert_eq!(error.to_string(), "p.toml:2:3: bad");
        let warning = Diagnostic { severity: Severity::Warning, ..error };
        assert_eq!(warning.to_string(), "p.toml:2:3: warning: bad");
        assert_eq!(Diagnostic::whole(Path::new("p.toml"), "gone".into()).to_string(), "p.toml: gone");
    }
}
