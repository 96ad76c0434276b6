//! Tables in the documentation that tests write.

use std::path::Path;

/// Puts `text` into a file of docs/ where `<!-- NAME: … -->` and `<!-- NAME: end -->` stand.
#[track_caller]
pub fn write_table(file: &str, name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(file);
    let page = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let page = replaced(&page, name, text).unwrap_or_else(|| panic!("no place for {name} in docs/{file}"));
    std::fs::write(&path, page).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn replaced(page: &str, name: &str, text: &str) -> Option<String> {
    let begin = page.find(&format!("<!-- {name}: "))?;
    let begin = begin + page[begin..].find("-->\n")? + "-->\n".len();
    let end = begin + page[begin..].find(&format!("<!-- {name}: end -->"))?;
    Some(format!("{}\n{}\n\n{}", &page[..begin], text.trim_end(), &page[end..]))
}
