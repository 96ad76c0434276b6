use super::*;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn commands() {
    assert_eq!(written(|out| command(out, &["GET", "kéy"])), "*2\r\n$3\r\nGET\r\n$4\r\nkéy\r\n");
    assert_eq!(written(|out| command(out, &[b"".to_vec()])), "*1\r\n$0\r\n\r\n");
}

#[test]
fn lines_never_end_early() {
    assert_eq!(written(|out| simple(out, "a\r\nb")), "+a  b\r\n");
    assert_eq!(written(|out| error(out, b"ERR x\ny\r")), "-ERR x y \r\n");
}

#[test]
fn what_differs_between_versions() {
    for (proto, expected) in [
        (Proto::Resp2, "*4\r\n*3\r\n*2\r\n$-1\r\n*-1\r\n:1\r\n$3\r\n1.5\r\n$3\r\ninf\r\n"),
        (Proto::Resp3, "%2\r\n~3\r\n>2\r\n_\r\n_\r\n#t\r\n,1.5\r\n,inf\r\n"),
    ] {
        let all = written(|out| {
            map_header(out, 2, proto);
            set_header(out, 3, proto);
            push_header(out, 2, proto);
            nil(out, proto);
            nil_array(out, proto);
            bool(out, true, proto);
            double(out, 1.5, proto);
            double(out, f64::INFINITY, proto);
        });
        assert_eq!(all, expected);
    }
}

#[test]
fn numbers() {
    assert_eq!(written(|out| int(out, i64::MIN)), ":-9223372036854775808\r\n");
    assert_eq!(written(|out| double(out, f64::NEG_INFINITY, Proto::Resp3)), ",-inf\r\n");
    assert_eq!(written(|out| double(out, f64::NAN, Proto::Resp3)), ",nan\r\n");
    assert_eq!(written(|out| double(out, 3.0, Proto::Resp3)), ",3\r\n");
}
