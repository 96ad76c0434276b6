//! What Redis says of a request that it doesn't run, word by word.
//!
//! The texts come without the leading `-` and the closing line break; like Redis they carry arguments as they are,
//! cut at a zero byte, with line breaks made into blanks.

use super::{Args, Spec};

/// As much of a name, and of all arguments together, as Redis repeats.
const MAX_ECHOED: usize = 128;

/// `ERR unknown command 'foo', with args beginning with: 'a' 'b' `
pub fn unknown_command_error<A: Args + ?Sized>(args: &A) -> Vec<u8> {
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(echoed(args.arg(0).unwrap_or_default(), MAX_ECHOED));
    text.extend_from_slice(b"', with args beginning with: ");
    let mut length = 0;
    for at in 1..args.argc() {
        if length >= MAX_ECHOED {
            break;
        }
        let arg = echoed(args.arg(at).unwrap_or_default(), MAX_ECHOED - length);
        text.push(b'\'');
        text.extend_from_slice(arg);
        text.extend_from_slice(b"' ");
        length += arg.len() + 3;
    }
    one_line(text)
}

/// `ERR unknown subcommand 'x'. Try CLIENT HELP.`
pub fn unknown_subcommand_error<A: Args + ?Sized>(container: &Spec, args: &A) -> Vec<u8> {
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend_from_slice(echoed(args.arg(1).unwrap_or_default(), MAX_ECHOED));
    text.extend_from_slice(b"'. Try ");
    text.extend_from_slice(container.name.to_ascii_uppercase().as_bytes());
    text.extend_from_slice(b" HELP.");
    one_line(text)
}

/// `ERR wrong number of arguments for 'client|kill' command`
pub fn wrong_arity_error(spec: &Spec) -> Vec<u8> {
    format!("ERR wrong number of arguments for '{}' command", spec.name).into_bytes()
}

/// What C would print of it.
fn echoed(arg: &[u8], max: usize) -> &[u8] {
    let arg = arg.get(..max).unwrap_or(arg);
    arg.get(..memchr::memchr(0, arg).unwrap_or(arg.len())).unwrap_or_default()
}

fn one_line(mut text: Vec<u8>) -> Vec<u8> {
    for byte in &mut text {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    text
}
