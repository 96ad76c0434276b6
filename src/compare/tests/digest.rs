use super::super::Digest;
use super::properties::Rng;

fn of(pieces: &[&[u8]]) -> (u64, u64) {
    let mut digest = Digest::new();
    pieces.iter().for_each(|piece| digest.update(piece));
    digest.finish()
}

#[test]
fn pieces_do_not_matter() {
    let mut rng = Rng::new(7);
    let bytes: Vec<u8> = (0..5_000).map(|_| rng.next() as u8).collect();
    let whole = of(&[&bytes]);
    assert_eq!(whole.0, 5_000);
    for _ in 0..200 {
        let mut digest = Digest::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + rng.below(rest.len().min(700)));
            digest.update(piece);
            rest = after;
        }
        assert_eq!(digest.finish(), whole);
    }
}

#[test]
fn every_byte_counts() {
    for len in [1, 255, 256, 257, 512, 600] {
        let bytes = vec![7_u8; len];
        for place in [0, len / 2, len - 1] {
            let mut other = bytes.clone();
            other[place] ^= 1;
            assert_ne!(of(&[&bytes]), of(&[&other]), "{len} {place}");
        }
    }
    assert_eq!(of(&[]), of(&[b"", b""]));
    assert_ne!(of(&[b"\0"]), of(&[b"\0\0"]));
}

#[test]
fn finishing_changes_nothing() {
    let mut digest = Digest::new();
    digest.update(b"ab");
    assert_eq!(digest.finish(), digest.finish());
    digest.update(b"c");
    assert_eq!(digest.finish(), of(&[b"abc"]));
}
