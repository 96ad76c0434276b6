//! Pictures: one bar for each peer.

use std::fmt::Write as _;

use super::measure::Measured;
use super::peers::Peer;

const BAR: usize = 22;
const LABEL: usize = 250;
const WIDTH: usize = 640;

/// CPU of the proxy per request, as bars.
pub fn bars(measured: &Measured) -> String {
    let values: Vec<(Peer, f64)> = measured
        .samples
        .iter()
        .filter(|(peer, _)| *peer != Peer::Direct)
        .filter_map(|(peer, _)| Some((*peer, measured.median(*peer, |sample| sample.proxy)?)))
        .collect();
    let most = values.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let height = BAR * (values.len() + 2);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"16\">CPU of the proxy, µs per request: {}</text>\n",
        measured.cell.name()
    );
    for (at, (peer, value)) in values.iter().enumerate() {
        let top = BAR * (at + 1) + 6;
        let length = (value / most * (WIDTH - LABEL - 70) as f64) as usize;
        let color = if peer.name().starts_with("multistore") { "#b8322a" } else { "#8795a1" };
        let _ = writeln!(
            out,
            "<text x=\"8\" y=\"{}\">{}</text><rect x=\"{LABEL}\" y=\"{top}\" width=\"{length}\" height=\"{}\" \
             fill=\"{color}\"/><text x=\"{}\" y=\"{}\">{value:.2}</text>",
            top + 14,
            peer.name(),
            BAR - 5,
            LABEL + length + 6,
            top + 14
        );
    }
    out + "</svg>\n"
}
