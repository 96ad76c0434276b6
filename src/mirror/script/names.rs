//! Which names in a script stand for declared keys.

use std::collections::HashMap;

use super::calls::Call;
use super::lexer::Token;
use crate::command::{Keys, Kind, Shape, Spec, keys};

/// What is known about the names in a source.
#[derive(Debug)]
pub(super) struct Names<'a> {
    /// How often each name is given a value, and how often that is a declared key.
    bound: HashMap<&'a [u8], (u32, u32)>,
    /// KEYS is used for nothing but its elements and their number.
    pub(super) keys_untouched: bool,
    /// There are variables outside of all functions.
    pub(super) outer_locals: bool,
}

// === impl Names ===

impl<'a> Names<'a> {
    pub(super) fn find(tokens: &[Token<'a>]) -> Self {
        let mut names = Self { bound: HashMap::new(), keys_untouched: true, outer_locals: false };
        let mut depth = 0usize;
        for (at, token) in tokens.iter().enumerate() {
            let Token::Name(name) = *token else {
                if *token == Token::Symbol(b'=') {
                    names.assigned(tokens, at);
                }
                continue;
            };
            match name {
                b"function" => {
                    depth += 1;
                    names.parameters(tokens, at);
                }
                b"do" | b"if" | b"repeat" => depth += 1,
                b"end" | b"until" => depth = depth.saturating_sub(1),
                b"local" => {
                    names.outer_locals |= depth == 0 && tokens.get(at + 1) != Some(&Token::Name(b"function"));
                    names.local(tokens, at + 1);
                }
                b"for" => names.loop_names(tokens, at + 1),
                b"KEYS" => names.keys_untouched &= harmless_keys(tokens, at),
                _ => {}
            }
        }
        // They are what they are called only if nobody gives them another meaning.
        names.keys_untouched &=
            [b"unpack", b"ipairs"].iter().all(|name| !names.bound.contains_key(&name[..]));
        names
    }

    /// Whether all keys of a call are declared ones.
    pub(super) fn declared(&self, spec: &Spec, call: &Call<'_>, words: &[&[u8]]) -> bool {
        let other_databases = spec.shape == Shape::Move || (spec.shape == Shape::Copy && call.args.len() > 3);
        if other_databases || matches!(spec.kind, Kind::KeyspaceRead | Kind::KeyspaceWrite) {
            return false;
        }
        let mut found = Keys::new();
        if keys(spec, words, &mut found).is_err() || found.unlisted() {
            return false;
        }
        if found.is_empty() && !spec.keys.is_empty() {
            return false;
        }
        found.iter().all(|key| call.args.get(key.arg as usize).is_some_and(|arg| self.is_key(arg)))
    }

    fn is_key(&self, expression: &[Token<'_>]) -> bool {
        match expression {
            [Token::Name(b"unpack"), Token::Symbol(b'('), Token::Name(b"KEYS"), Token::Symbol(b')')] => true,
            [Token::Name(name)] => self.bound.get(name).is_some_and(|(all, keys)| all == keys),
            _ => element(expression, 0) == Some(expression.len()),
        }
    }

    fn bind(&mut self, name: &'a [u8], key: bool) {
        let (all, keys) = self.bound.entry(name).or_default();
        *all += 1;
        *keys += u32::from(key);
    }

    /// `local a, b = KEYS[1], KEYS[2]`
    fn local(&mut self, tokens: &[Token<'a>], at: usize) {
        let (names, mut at) = list(tokens, at);
        let mut values = Vec::new();
        if tokens.get(at) == Some(&Token::Symbol(b'=')) {
            while let Some(end) = element(tokens, at + 1) {
                values.push(());
                at = end;
                if tokens.get(at) != Some(&Token::Symbol(b',')) {
                    break;
                }
            }
        }
        let keys = values.len() == names.len() && ends(tokens, at);
        names.into_iter().for_each(|name| self.bind(name, keys));
    }

    /// `for i, key in ipairs(KEYS) do`
    fn loop_names(&mut self, tokens: &[Token<'a>], at: usize) {
        let (names, at) = list(tokens, at);
        let over_keys = [
            Token::Name(b"in"),
            Token::Name(b"ipairs"),
            Token::Symbol(b'('),
            Token::Name(b"KEYS"),
            Token::Symbol(b')'),
            Token::Name(b"do"),
        ];
        let over_keys = tokens.get(at..).is_some_and(|rest| rest.starts_with(&over_keys));
        for (place, name) in names.into_iter().enumerate() {
            self.bind(name, over_keys && place == 1);
        }
    }

    fn parameters(&mut self, tokens: &[Token<'a>], at: usize) {
        let Some(open) = (at..tokens.len()).find(|at| tokens.get(*at) == Some(&Token::Symbol(b'('))) else {
            return;
        };
        // The function's own name, too, may be a variable's.
        for token in tokens.get(at + 1..open).unwrap_or_default() {
            if let Token::Name(name) = *token {
                self.bind(name, false);
            }
        }
        list(tokens, open + 1).0.into_iter().for_each(|name| self.bind(name, false));
    }

    /// `a, b = …`: all names in front. (`local` and `for` have counted theirs, which doesn't matter unless they are
    /// keys: those are recognised.)
    fn assigned(&mut self, tokens: &[Token<'a>], equals: usize) {
        let mut at = equals;
        let mut names = Vec::new();
        while let Some(Token::Name(name)) = at.checked_sub(1).and_then(|at| tokens.get(at)) {
            names.push(*name);
            at -= 1;
            match at.checked_sub(1).and_then(|at| tokens.get(at)) {
                Some(Token::Symbol(b',')) => at -= 1,
                Some(Token::Name(b"local" | b"for")) => return,
                _ => break,
            }
        }
        names.into_iter().for_each(|name| self.bind(name, false));
    }
}

/// Names with commas in between, and where they end.
fn list<'a>(tokens: &[Token<'a>], mut at: usize) -> (Vec<&'a [u8]>, usize) {
    let mut names = Vec::new();
    while let Some(Token::Name(name)) = tokens.get(at) {
        names.push(*name);
        at += 1;
        if tokens.get(at) != Some(&Token::Symbol(b',')) {
            break;
        }
        at += 1;
    }
    (names, at)
}

/// Where `KEYS[…]` ends, if it stands here.
fn element(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    if !tokens.get(at..)?.starts_with(&[Token::Name(b"KEYS"), Token::Symbol(b'[')]) {
        return None;
    }
    let mut depth = 0usize;
    for (place, token) in tokens.iter().enumerate().skip(at + 1) {
        match token {
            Token::Symbol(b'[') => depth += 1,
            Token::Symbol(b']') => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(place + 1);
        }
    }
    None
}

/// Whether an expression ends here: what follows begins a statement.
fn ends(tokens: &[Token<'_>], at: usize) -> bool {
    match tokens.get(at) {
        None | Some(Token::Symbol(b';')) => true,
        Some(Token::Name(name)) => !matches!(*name, b"and" | b"or"),
        _ => false,
    }
}

/// `KEYS[…]` that is not assigned to, `#KEYS`, `unpack(KEYS)`, `ipairs(KEYS)`.
fn harmless_keys(tokens: &[Token<'_>], at: usize) -> bool {
    if let Some(end) = element(tokens, at) {
        return !matches!(tokens.get(end), Some(Token::Symbol(b'=' | b',')))
            || tokens.get(end) == Some(&Token::Symbol(b',')) && !assigns(tokens, end);
    }
    let before = |back: usize| at.checked_sub(back).and_then(|at| tokens.get(at));
    let passed = before(1) == Some(&Token::Symbol(b'('))
        && matches!(before(2), Some(Token::Name(b"unpack" | b"ipairs")))
        && tokens.get(at + 1) == Some(&Token::Symbol(b')'));
    passed || before(1) == Some(&Token::Symbol(b'#'))
}

/// Whether names and elements with commas in between are assigned to.
fn assigns(tokens: &[Token<'_>], mut at: usize) -> bool {
    while tokens.get(at) == Some(&Token::Symbol(b',')) {
        at = match (element(tokens, at + 1), tokens.get(at + 1)) {
            (Some(end), _) => end,
            (None, Some(Token::Name(_))) => at + 2,
            _ => return false,
        };
    }
    tokens.get(at) == Some(&Token::Symbol(b'='))
}
