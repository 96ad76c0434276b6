//! Redis's glob patterns: `*`, `?`, `[a-c]`, `[^a]`, `\x`. Iterative, and at most pattern times text steps.

/// Does `text` match `pattern` as a whole?
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last star does not fit: the star takes one byte more.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match one(pattern, p, text.get(t).copied().unwrap_or_default()) {
            Step::Star => {
                star = Some((p + 1, t));
                p += 1;
            }
            Step::Fits(next) => {
                p = next;
                t += 1;
            }
            Step::Differs => match star {
                Some((behind, from)) => {
                    star = Some((behind, from + 1));
                    p = behind;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

enum Step {
    /// A star stands here.
    Star,
    /// The byte fits; the pattern goes on there.
    Fits(usize),
    Differs,
}

fn one(pattern: &[u8], p: usize, byte: u8) -> Step {
    let literal = |expected: u8, next: usize| if expected == byte { Step::Fits(next) } else { Step::Differs };
    match pattern.get(p) {
        None => Step::Differs,
        Some(b'*') => Step::Star,
        Some(b'?') => Step::Fits(p + 1),
        Some(b'[') => class(pattern, p + 1, byte),
        Some(b'\\') => match pattern.get(p + 1) {
            Some(escaped) => literal(*escaped, p + 2),
            None => literal(b'\\', p + 1),
        },
        Some(expected) => literal(*expected, p + 1),
    }
}

/// A class from behind its `[`; one that is not closed ends with the pattern, as in Redis.
fn class(pattern: &[u8], mut p: usize, byte: u8) -> Step {
    let negated = pattern.get(p) == Some(&b'^');
    p += usize::from(negated);
    let mut found = false;
    loop {
        match (pattern.get(p), pattern.get(p + 1), pattern.get(p + 2)) {
            (Some(b'\\'), Some(escaped), _) => {
                found |= *escaped == byte;
                p += 2;
            }
            (Some(b']'), ..) => {
                p += 1;
                break;
            }
            (None, ..) => break,
            (Some(low), Some(b'-'), Some(high)) => {
                found |= (*low.min(high)..=*low.max(high)).contains(&byte);
                p += 3;
            }
            (Some(literal), ..) => {
                found |= *literal == byte;
                p += 1;
            }
        }
    }
    if found != negated { Step::Fits(p) } else { Step::Differs }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn as_redis_does() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbcd", false),
            ("a*b*c", "aXbXbXc", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hbllo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hxllo", false),
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("a**", "a", true),
            ("[a", "a", true),
            ("a\\", "a\\", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let (pattern, text) = ("*a".repeat(200), "a".repeat(5_000) + "b");
        assert!(!matches(pattern.as_bytes(), text.as_bytes()));
    }
}
