//! The words of CLIENT TRACKING. The store judges them; here they are understood well enough to be said again.

use std::collections::BTreeSet;

use crate::command::Args;
use crate::resp::encode;

/// Prefixes of one client.
const MAX_PREFIXES: usize = 10_000;

/// What CLIENT TRACKING asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub on: bool,
    /// The client that messages are for.
    pub redirect: Option<u64>,
    pub broadcast: bool,
    /// OPTIN, OPTOUT, NOLOOP.
    others: Vec<&'static str>,
    /// The empty one: every key.
    prefixes: BTreeSet<Vec<u8>>,
    redirect_at: Option<usize>,
}

// === impl Options ===

impl Options {
    /// Reads what can be read; errors are the store's to find.
    pub(super) fn parse(args: &[Vec<u8>]) -> Options {
        let mut options = Options { on: args.is(2, "ON"), ..Options::default() };
        let mut at = 3;
        while let Some(word) = args.get(at) {
            match word.to_ascii_uppercase().as_slice() {
                b"REDIRECT" => {
                    at += 1;
                    let id = args.int(at).and_then(|id| u64::try_from(id).ok());
                    options.redirect = id.filter(|id| *id > 0);
                    options.redirect_at = options.redirect.and(Some(at));
                }
                b"PREFIX" => {
                    at += 1;
                    options.prefixes.extend(args.get(at).cloned());
                }
                b"BCAST" => options.broadcast = true,
                b"OPTIN" => options.others.push("OPTIN"),
                b"OPTOUT" => options.others.push("OPTOUT"),
                b"NOLOOP" => options.others.push("NOLOOP"),
                _ => {}
            }
            at += 1;
        }
        if options.broadcast && options.prefixes.is_empty() {
            options.prefixes.insert(Vec::new());
        }
        options
    }

    /// The client's request, with the connection that stands in for the client that it names.
    pub(super) fn frame(&self, args: &[Vec<u8>], stand_in: Option<u64>) -> Vec<u8> {
        let mut args = args.to_vec();
        if let (Some(id), Some(slot)) = (stand_in, self.redirect_at.and_then(|at| args.get_mut(at))) {
            *slot = id.to_string().into_bytes();
        }
        let mut frame = Vec::new();
        encode::command(&mut frame, &args);
        frame
    }

    /// What holds when this is asked for after `before`: prefixes add up.
    pub(super) fn after(mut self, before: Option<Options>) -> Options {
        if let Some(before) = before.filter(|before| before.broadcast && self.broadcast) {
            self.prefixes.extend(before.prefixes);
        }
        self
    }

    /// No more prefixes than one client may have?
    pub(super) fn fits(&self) -> bool {
        self.prefixes.len() <= MAX_PREFIXES
    }

    /// What a new connection is told. The empty prefix is not named, as it would overlap with all others.
    pub(super) fn commands(&self, stand_in: Option<u64>) -> Vec<Vec<u8>> {
        let id = stand_in.map(|id| id.to_string());
        let mut words: Vec<&[u8]> = vec![b"CLIENT", b"TRACKING", b"ON"];
        if let Some(id) = &id {
            words.extend([b"REDIRECT".as_slice(), id.as_bytes()]);
        }
        if self.broadcast {
            words.push(b"BCAST");
        }
        words.extend(self.others.iter().map(|word| word.as_bytes()));
        let mut named = words.clone();
        for prefix in self.prefixes.iter().filter(|prefix| !prefix.is_empty()) {
            named.extend([b"PREFIX".as_slice(), prefix]);
        }
        let mut out = Vec::new();
        if named.len() > words.len() {
            out.push(frame(&named));
        }
        if !self.broadcast || self.prefixes.contains(&Vec::new()) {
            out.push(frame(&words));
        }
        out
    }
}

fn frame(words: &[&[u8]]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode::command(&mut frame, words);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Options {
        let args: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        Options::parse(&args)
    }

    fn said(options: &Options, stand_in: Option<u64>) -> Vec<String> {
        let text = |frame: Vec<u8>| {
            let text = String::from_utf8(frame).expect("text");
            let words: Vec<&str> = text.split("\r\n").skip(2).step_by(2).collect();
            words.join(" ")
        };
        options.commands(stand_in).into_iter().map(text).collect()
    }

    #[test]
    fn a_new_connection_is_told_the_same() {
        assert_eq!(said(&parse("CLIENT TRACKING on optin"), None), ["CLIENT TRACKING ON OPTIN"]);
        assert_eq!(
            said(&parse("CLIENT TRACKING ON REDIRECT 7 NOLOOP"), Some(90)),
            ["CLIENT TRACKING ON REDIRECT 90 NOLOOP"]
        );
        assert_eq!(said(&parse("CLIENT TRACKING ON BCAST"), None), ["CLIENT TRACKING ON BCAST"]);
    }

    #[test]
    fn prefixes_add_up() {
        let first = parse("CLIENT TRACKING ON BCAST PREFIX a:");
        let both = parse("CLIENT TRACKING ON BCAST PREFIX b:").after(Some(first));
        assert_eq!(said(&both, None), ["CLIENT TRACKING ON BCAST PREFIX a: PREFIX b:"]);
        let all = parse("CLIENT TRACKING ON BCAST").after(Some(both));
        assert_eq!(
            said(&all, None),
            ["CLIENT TRACKING ON BCAST PREFIX a: PREFIX b:", "CLIENT TRACKING ON BCAST"]
        );
    }
}
