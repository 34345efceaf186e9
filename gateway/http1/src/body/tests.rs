//! Bodies: what is read, what is refused, and that it does not matter in which pieces it comes.

use proptest::prelude::*;

use super::*;

/// Reads all of the input in pieces of this size: the data, and what is left behind the body.
fn read(mut body: Body, input: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), BadBody> {
    let (mut data, mut taken) = (Vec::new(), 0);
    while taken < input.len() && !body.is_done() {
        let end = input.len().min(taken + piece);
        let (count, part) = body.next(&input[taken..end])?;
        assert!(count > 0 && part.len() <= count);
        data.extend_from_slice(part);
        taken += count;
    }
    Ok((data, taken, body.is_done()))
}

#[test]
fn chunks_are_read_strictly() {
    let whole: [(&str, &str); 6] = [
        ("0\r\n\r\n", ""),
        ("3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("00003;a=\"b\";c\r\nabc\r\n1 \r\nd\r\n0;x\r\n\r\n", "abcd"),
        ("A\r\n0123456789\r\n0\r\nTrailer: x\r\nb: c\r\n\r\n", "0123456789"),
        ("1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n", "\r\n"),
        ("0\r\n x\r\n\r\n", ""),
    ];
    for (input, data) in whole {
        let found = read(Body::chunked(), format!("{input}GET /").as_bytes(), 1_000);
        assert_eq!(found, Ok((data.as_bytes().to_vec(), input.len(), true)), "{input:?}");
    }
    for input in [
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        ";\r\n",
        " 1\r\n",
        "1\n",
        "1\ra",
        "1\r\nab",
        "1\r\na\n",
        "1\r\na\r0",
        "1\r\na0",
        "1;\n",
        "1;\0\r\n",
        "0\r\n\n",
        "0\r\na\n",
        "0\r\n\ra",
        "1234567890123456\r\n",
        "0\r\na\0\r\n",
    ] {
        assert_eq!(read(Body::chunked(), input.as_bytes(), 1_000), Err(BadBody), "{input:?}");
    }
}

#[test]
fn what_is_thrown_away_is_bounded() {
    let extension = format!("1;{}\r\n", "x".repeat(SMALL_PRINT_MAX as usize + 1));
    assert_eq!(read(Body::chunked(), extension.as_bytes(), 4096), Err(BadBody));
    let trailers = format!("0\r\n{}", "x: y\r\n".repeat(SMALL_PRINT_MAX as usize));
    assert_eq!(read(Body::chunked(), trailers.as_bytes(), 4096), Err(BadBody));
}

#[test]
fn lengths_end_where_they_say() {
    let found = read(Body::Length(3), b"abcGET", 2);
    assert_eq!(found, Ok((b"abc".to_vec(), 3, true)));
    assert_eq!(read(Body::Length(9), b"abc", 2), Ok((b"abc".to_vec(), 3, false)));
    assert_eq!(read(Body::UntilClose, b"abc", 2), Ok((b"abc".to_vec(), 3, false)));
}

proptest! {
    #[test]
    fn what_is_written_in_chunks_is_read_again(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6),
        piece in 1usize..40,
    ) {
        let mut out = Vec::new();
        parts.iter().for_each(|part| write_chunk(&mut out, part));
        out.extend_from_slice(LAST_CHUNK);
        let length = out.len();
        out.extend_from_slice(b"rest");
        prop_assert_eq!(read(Body::chunked(), &out, piece), Ok((parts.concat(), length, true)));
    }

    #[test]
    fn pieces_make_no_difference(input in "[0-3a;\r\n]{0,40}", piece in 1usize..10) {
        let whole = read(Body::chunked(), input.as_bytes(), 1_000);
        prop_assert_eq!(read(Body::chunked(), input.as_bytes(), piece), whole);
    }
}
