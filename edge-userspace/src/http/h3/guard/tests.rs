//! Request streams, as clients write and miswrite them.

use super::*;

/// `:method: GET`, `:scheme: https`, `:path: /`, `:authority: a`, as every client writes them.
const GET: [u8; 8] = [0, 0, 0xd1, 0xd7, 0xc1, 0x50, 1, b'a'];
const HEADER_BYTES: usize = 32 << 10;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, u8::try_from(payload.len()).unwrap()], payload].concat()
}

/// What h3 gets of a stream in `pieces`, its end included.
fn passed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, Broken> {
    let mut frames = Frames::new(HEADER_BYTES);
    let mut out = Vec::new();
    for piece in pieces {
        frames.feed(Bytes::copy_from_slice(piece));
        while let Some(bytes) = frames.pull()? {
            out.extend(bytes);
        }
    }
    frames.end().map(|()| out)
}

/// The head, the content and the trailers among what h3 got.
fn message(mut bytes: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let (mut sections, mut content) = (Vec::new(), Vec::new());
    while !bytes.is_empty() {
        let (kind, rest) = varint(bytes).unwrap();
        let (length, rest) = varint(rest).unwrap();
        let (payload, rest) = rest.split_at(length as usize);
        match kind {
            DATA => content.extend(payload),
            HEADERS => sections.push(payload.to_vec()),
            other => panic!("a frame of type {other:#x} went on"),
        }
        bytes = rest;
    }
    let mut sections = sections.into_iter();
    let mut next = || sections.next().unwrap_or_default();
    (next(), content, next())
}

fn verdict(whole: &[u8]) -> Result<(), Broken> {
    let first = passed([whole]);
    // However it is cut.
    for at in 0..whole.len() {
        let (one, two) = whole.split_at(at);
        let again = passed([one, two]);
        let alike = match (&first, &again) {
            (Ok(first), Ok(again)) => message(first) == message(again),
            (first, again) => first == again,
        };
        assert!(alike, "cut at {at}: {first:?} {again:?}");
    }
    let bytewise = passed(whole.chunks(1));
    assert_eq!(first.is_ok(), bytewise.is_ok());
    first.map(drop)
}

fn sound(section: &[u8]) -> bool {
    let whole = [frame(0x21, &[9, 9]), frame(1, section), frame(0, b"x")].concat();
    match verdict(&whole) {
        Ok(()) => true,
        Err(broken) => {
            assert_eq!(broken, stream(Code::H3_MESSAGE_ERROR));
            false
        }
    }
}

/// An origin could be shown one path and the edge's rules another.
#[test]
fn pseudo_headers_come_once_and_first() {
    let with = |line: &[u8]| [&GET[..], line].concat();
    assert!(sound(&GET));
    assert!(sound(&with(&[0x23, b'x', b'-', b'y', 1, b'1'])));
    assert!(!sound(&with(&[0x51, 2, b'/', b'b'])), ":path by its name's index");
    assert!(!sound(&with(&[0xc1])), ":path by its index");
    assert!(!sound(&with(&[0xd4])), "a second :method");
    assert!(!sound(&with(&[0xd9])), ":status");
    assert!(
        !sound(&with(&[0x25, b':', b'p', b'a', b't', b'h', 1, b'/'])),
        ":path by letters"
    );
    assert!(
        !sound(&with(&[0x2c, 0xb9, 0x58, 0xd3, 0x3f, 1, b'/'])),
        ":path by Huffman code"
    );
    assert!(!sound(&with(&[0x22, b':', b'x', 1, b'/'])), "nobody's");
    let late = [&[0, 0, 0x23, b'x', b'-', b'y', 1, b'1'][..], &GET[2..]].concat();
    assert!(!sound(&late), "behind others");
    let protocol = [&[0x27, 2][..], b":protocol", &[1, b'w']].concat();
    assert!(sound(&with(&protocol)), "extended CONNECT's");
    let trailers = [frame(1, &GET), frame(1, &GET)].concat();
    assert_eq!(
        verdict(&trailers),
        Err(stream(Code::H3_MESSAGE_ERROR)),
        "among trailers"
    );
}

/// What cannot be read is h3's to refuse, with its own code.
#[test]
fn leaves_what_is_not_its_own() {
    for section in [&[][..], &[0, 0, 0x80], &[0, 0, 0x10], &[0, 0, 0x51, 9], &[0, 0, 0xff]] {
        assert!(sound(section), "{section:?}");
    }
}

/// A request's content would be cut, or joined with another's.
#[test]
fn content_comes_out_whole_in_frames_of_ours() {
    let trailers = [0, 0, 0x23, b'x', b'-', b'y', 1, b'1'];
    let long = vec![7; 40_000];
    let whole = [
        &frame(1, &GET)[..],
        &frame(0, b""),
        &frame(0x21, b"unknown"),
        &frame(0, b"a"),
        &frame(0, b"bc"),
        &frame(0, b""),
        &[0, 0x80, 0, 0x9c, 0x40],
        &long,
        &[0x40, 0x41, 0],
        &frame(0, b"d"),
        &frame(1, &trailers),
        &frame(0x21, b""),
    ]
    .concat();
    for size in [1, 2, 3, 1200, 50_000] {
        let out = passed(whole.chunks(size)).unwrap();
        let (head, content, after) = message(&out);
        assert_eq!((&head[..], &after[..]), (&GET[..], &trailers[..]), "pieces of {size}");
        assert!(content == [b"abc", &long[..], b"d"].concat(), "pieces of {size}");
    }
    assert_eq!(passed([&frame(1, &GET)[..], &frame(0, b"")]).unwrap(), frame(1, &GET));
}

/// One client could fill the node's memory: h3 keeps what it is given until a frame is whole.
#[test]
fn nothing_is_kept_of_long_frames() {
    let endless = |kind: u8| [kind, 0xc0, 0, 1, 0, 0, 0, 0, 0];
    for begin in [vec![], frame(1, &GET), [frame(1, &GET), frame(0, b"x")].concat()] {
        let mut frames = Frames::new(HEADER_BYTES);
        frames.feed([&begin[..], &endless(0x21)].concat().into());
        while frames.pull().unwrap().is_some() {}
        for _ in 0..256 {
            frames.feed(Bytes::from_static(&[4; 4096]));
            assert_eq!(frames.pull(), Ok(None));
        }
        assert!(frames.part.is_empty() && frames.joined.is_empty() && frames.out.is_empty());
    }
    for begin in [vec![], frame(1, &GET), [frame(1, &GET), frame(0, b"x")].concat()] {
        let whole = [&begin[..], &endless(1)].concat();
        assert_eq!(verdict(&whole), Err(stream(Code::H3_EXCESSIVE_LOAD)));
    }
    let mut frames = Frames::new(HEADER_BYTES);
    frames.feed([1, 0x80, 0x02, 0x04, 0x01].to_vec().into());
    assert_eq!(
        frames.pull(),
        Err(stream(Code::H3_EXCESSIVE_LOAD)),
        "a byte more than four times the limit and 1 KiB"
    );
}

/// h3 takes what is missing for the end of the content, and panics when it is asked for what
/// follows.
#[test]
fn frames_that_are_cut_short_end_the_connection() {
    let cut = Err(connection(Code::H3_FRAME_ERROR));
    let head = frame(1, &GET);
    for rest in [
        &[0, 10][..],
        &[0, 10, 1, 2, 3],
        &[0],
        &[0, 0x40],
        &[1, 3, 0, 0],
        &[0x21, 2, 0],
    ] {
        assert_eq!(verdict(&[&head[..], rest].concat()), cut, "{rest:?}");
    }
    assert_eq!(verdict(&[1, 8, 0, 0, 0xd1]), cut);
}

/// A frame where it must not be is the same mistake in front of, within and behind content.
#[test]
fn frames_out_of_order_end_the_connection() {
    let unexpected = Err(connection(Code::H3_FRAME_UNEXPECTED));
    assert_eq!(verdict(&frame(0, b"x")), unexpected, "content before the head");
    let trailers = [0, 0, 0x23, b'x', b'-', b'y', 1, b'1'];
    let all = [frame(1, &GET), frame(1, &trailers)].concat();
    for kind in [0, 1] {
        assert_eq!(
            verdict(&[&all[..], &frame(kind, &trailers)].concat()),
            unexpected,
            "{kind}"
        );
    }
    for begin in [vec![], frame(1, &GET), all] {
        for kind in [2, 3, 4, 5, 6, 7, 8, 9, 0xd] {
            // As soon as its type and length are there, however long it is.
            let endless = [&begin[..], &[kind, 0xc0, 0, 1, 0, 0, 0, 0, 0]].concat();
            assert_eq!(verdict(&endless), unexpected, "{kind}");
        }
    }
}
