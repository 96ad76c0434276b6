//! Tables in the documentation that tests write.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Tests of one process that write at once.
static WRITING: Mutex<()> = Mutex::new(());

/// Puts `text` into a file of docs/ where `<!-- NAME: … -->` and `<!-- NAME: end -->` stand.
#[track_caller]
pub fn write_table(file: &str, name: &str, text: &str) {
    change(file, name, |_| text.to_owned());
}

/// Puts the row of a suite into the table of results in docs/compatibility.md. `cells` are the table's columns, by their
/// names; those that are not given get a dash.
#[track_caller]
pub fn write_result(suite: &str, cells: &[(&str, String)]) {
    change("compatibility.md", "results", |table| with_row(table, suite, cells));
}

#[track_caller]
fn change(file: &str, name: &str, text: impl FnOnce(&str) -> String) {
    let _writing = WRITING.lock().expect("nobody failed while writing");
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "docs", file].iter().collect();
    let page = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let page = replaced(&page, name, text).unwrap_or_else(|| panic!("no place for {name} in docs/{file}"));
    std::fs::write(&path, page).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn replaced(page: &str, name: &str, text: impl FnOnce(&str) -> String) -> Option<String> {
    let begin = page.find(&format!("<!-- {name}: "))?;
    let begin = begin + page[begin..].find("-->\n")? + "-->\n".len();
    let end = begin + page[begin..].find(&format!("<!-- {name}: end -->"))?;
    let text = text(page[begin..end].trim());
    Some(format!("{}\n{}\n\n{}", &page[..begin], text.trim_end(), &page[end..]))
}

/// The table with this row in place of the one of the same name, or below all others.
fn with_row(table: &str, suite: &str, cells: &[(&str, String)]) -> String {
    let header = table.lines().next().unwrap_or_default();
    let columns = header.split('|').map(str::trim).filter(|name| !name.is_empty()).skip(1);
    let cell = |column: &str| {
        let found = cells.iter().find(|(name, _)| *name == column);
        found.map_or("–", |(_, cell)| cell.as_str())
    };
    let row = columns.fold(format!("| {suite} |"), |row, column| format!("{row} {} |", cell(column)));
    let mut lines: Vec<&str> = table.lines().collect();
    match lines.iter().position(|line| line.starts_with(&format!("| {suite} |"))) {
        Some(at) => lines[at] = &row,
        None => lines.push(&row),
    }
    lines.join("\n")
}
