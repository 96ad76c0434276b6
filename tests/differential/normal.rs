//! What two servers cannot have in common is made equal: ids, addresses, ports, ages, sizes.

/// Fields of CLIENT LIST and CLIENT INFO that tell of one connection.
const OF_A_CONNECTION: [&str; 17] = [
    "id",
    "addr",
    "laddr",
    "fd",
    "age",
    "idle",
    "qbuf",
    "qbuf-free",
    "argv-mem",
    "multi-mem",
    "rbs",
    "rbp",
    "obl",
    "oll",
    "omem",
    "tot-mem",
    "events",
];

/// Everything that must differ, replaced.
pub fn normalised(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match std::str::from_utf8(line) {
            Ok(text) if text.contains("id=") && text.contains(" laddr=") => {
                drop_length(&mut out);
                out.extend_from_slice(client_line(text).as_bytes());
            }
            _ if out.ends_with(b"$2\r\nid\r\n") && line.starts_with(b":") => {
                out.extend_from_slice(b":ID\r\n")
            }
            _ => out.extend_from_slice(line),
        }
    }
    out
}

/// The line before a text tells its length, which depends on the fields.
fn drop_length(out: &mut Vec<u8>) {
    let end = out.strip_suffix(b"\r\n").unwrap_or(out);
    let start = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let is_length = matches!(end.get(start), Some(b'$' | b'='));
    if is_length {
        out.truncate(start);
        out.extend_from_slice(b"LENGTH\r\n");
    }
}

fn client_line(line: &str) -> String {
    let fields = line.split(' ').map(|field| match field.split_once('=') {
        Some((name, _)) if OF_A_CONNECTION.contains(&name.trim_start_matches("txt:")) => format!("{name}=?"),
        _ => field.to_owned(),
    });
    fields.collect::<Vec<_>>().join(" ")
}
