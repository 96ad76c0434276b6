//! A client's row in docs/compatibility.md.

use crate::is_full;
use crate::support::write_result;
use std::collections::BTreeMap;

/// What a client did: by stage, or `direct`, how much came out right, and of how much.
#[derive(Default)]
pub struct Row(BTreeMap<String, (usize, usize)>);

// === impl Row ===

impl Row {
    /// The name of the column for a lone server.
    pub const DIRECT: &str = "direct";

    pub fn add(&mut self, place: &str, right: usize, all: usize) {
        let cell = self.0.entry(place.to_owned()).or_default();
        *cell = (cell.0 + right, cell.1 + all);
    }

    /// Puts it into the documentation, where clients run at length.
    #[track_caller]
    pub fn write(&self, client: &str) {
        let cells = self.0.iter().map(|(place, (right, all))| (place.as_str(), format!("{right}/{all}")));
        let cells: Vec<(&str, String)> = cells.collect();
        println!("{client}: {cells:?}");
        if is_full() {
            write_result(client, &cells);
        }
    }
}
