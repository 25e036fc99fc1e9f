//! Request streams, as clients write and miswrite them.

use super::*;

/// `:method: GET`, `:scheme: https`, `:path: /`, `:authority: a`, as every client writes them.
const GET: [u8; 8] = [0, 0, 0xd1, 0xd7, 0xc1, 0x50, 1, b'a'];
/// `x-y: 1`.
const TRAILERS: [u8; 8] = [0, 0, 0x23, b'x', b'-', b'y', 1, b'1'];
const HEADER_BYTES: usize = 32 << 10;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, u8::try_from(payload.len()).unwrap()], payload].concat()
}

/// Sections and content of a stream that comes in `pieces`, its end included; content as one piece
/// between sections.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Piece>, Broken> {
    let mut frames = Frames::new(HEADER_BYTES);
    let mut out: Vec<Piece> = Vec::new();
    for piece in pieces {
        frames.feed(Bytes::copy_from_slice(piece));
        while let Some(piece) = frames.pull()? {
            match (out.last_mut(), piece) {
                (Some(Piece::Content(before)), Piece::Content(more)) => *before = [&before[..], &more].concat().into(),
                (_, piece) => out.push(piece),
            }
        }
    }
    frames.end().map(|_| out)
}

fn verdict(whole: &[u8]) -> Result<Vec<Piece>, Broken> {
    let first = read([whole]);
    // However it is cut.
    for at in 0..whole.len() {
        let (one, two) = whole.split_at(at);
        assert_eq!(read([one, two]), first, "cut at {at}");
    }
    assert_eq!(read(whole.chunks(1)), first);
    first
}

fn section(bytes: &[u8]) -> Piece {
    Piece::Section(Bytes::copy_from_slice(bytes))
}

fn content(bytes: &[u8]) -> Piece {
    Piece::Content(Bytes::copy_from_slice(bytes))
}

/// A request's content would be cut, or joined with another's.
#[test]
fn content_comes_out_whole() {
    let long = vec![7; 40_000];
    let whole = [
        &frame(0x21, b"unknown")[..],
        &frame(1, &GET),
        &frame(0, b""),
        &frame(0x21, b"unknown"),
        &frame(0, b"a"),
        &frame(0, b"bc"),
        &frame(0, b""),
        &[0, 0x80, 0, 0x9c, 0x40],
        &long,
        &[0x40, 0x41, 0],
        &frame(0, b"d"),
        &frame(1, &TRAILERS),
        &frame(0x21, b""),
    ]
    .concat();
    let right = [
        section(&GET),
        content(&[b"abc", &long[..], b"d"].concat()),
        section(&TRAILERS),
    ];
    for size in [1, 2, 3, 1200, 50_000] {
        assert!(read(whole.chunks(size)).unwrap() == right, "pieces of {size}");
    }
    assert_eq!(
        verdict(&[frame(1, &GET), frame(0, b"")].concat()).unwrap(),
        [section(&GET)]
    );
    let short = [frame(1, &GET), frame(0, b"x"), frame(1, &TRAILERS)].concat();
    assert_eq!(
        verdict(&short).unwrap(),
        [section(&GET), content(b"x"), section(&TRAILERS)]
    );
}

/// Frames of a byte would cost every hop as much as long ones.
#[test]
fn small_frames_are_joined() {
    let mut frames = Frames::new(HEADER_BYTES);
    frames.feed([frame(1, &GET), frame(0, b"x").repeat(400)].concat().into());
    assert_eq!(frames.pull(), Ok(Some(section(&GET))));
    assert_eq!(frames.pull(), Ok(Some(content(&[b'x'; 400]))));
    assert_eq!(frames.pull(), Ok(None));
}

/// One client could fill the node's memory.
#[test]
fn nothing_is_kept_of_long_frames() {
    let endless = |kind: u8| [kind, 0xc0, 0, 1, 0, 0, 0, 0, 0];
    let begins = [vec![], frame(1, &GET), [frame(1, &GET), frame(0, b"x")].concat()];
    for begin in &begins {
        let mut frames = Frames::new(HEADER_BYTES);
        frames.feed([&begin[..], &endless(0x21)].concat().into());
        while frames.pull().unwrap().is_some() {}
        for _ in 0..256 {
            frames.feed(Bytes::from_static(&[4; 4096]));
            assert_eq!(frames.pull(), Ok(None));
        }
        assert!(frames.part.is_empty() && frames.joined.is_empty());
        let whole = [&begin[..], &endless(1)].concat();
        assert_eq!(verdict(&whole), Err(Broken::Stream(Code::EXCESSIVE_LOAD)));
    }
    let mut frames = Frames::new(HEADER_BYTES);
    frames.feed(Bytes::from_static(&[1, 0x80, 0x02, 0x04, 0x00, 1, 2]));
    assert_eq!((frames.pull(), frames.gathers()), (Ok(None), 4 * 32 * 1024 + 1024));
    frames.feed(Bytes::from_static(&[3]));
    assert_eq!((frames.pull(), frames.gathers()), (Ok(None), 4 * 32 * 1024 + 1024));
    let mut frames = Frames::new(HEADER_BYTES);
    frames.feed(Bytes::from_static(&[1, 0x80, 0x02, 0x04, 0x01]));
    assert_eq!(
        frames.pull(),
        Err(Broken::Stream(Code::EXCESSIVE_LOAD)),
        "a byte more than four times the limit and 1 KiB"
    );
    // Trailers of every request at once would be four times what was paid for.
    for (length, verdict) in [
        (33 * 1024_u32, Ok(None)),
        (33 * 1024 + 1, Err(Broken::Stream(Code::EXCESSIVE_LOAD))),
    ] {
        let mut frames = Frames::new(HEADER_BYTES);
        let front = [&[1][..], &(length | 0x8000_0000).to_be_bytes()].concat();
        frames.feed([&frame(1, &GET)[..], &front].concat().into());
        assert_eq!(frames.pull(), Ok(Some(section(&GET))));
        assert_eq!(frames.pull(), verdict, "{length}");
    }
}

/// Half a message would be taken for a whole one.
#[test]
fn frames_that_are_cut_short_end_the_connection() {
    let cut = Err(Broken::Connection(Code::FRAME_ERROR));
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
    assert_eq!(Frames::new(HEADER_BYTES).end(), Ok(false), "a stream without a head");
}

/// A frame where it must not be is the same mistake in front of, within and behind content.
#[test]
fn frames_out_of_order_end_the_connection() {
    let unexpected = Err(Broken::Connection(Code::FRAME_UNEXPECTED));
    assert_eq!(verdict(&frame(0, b"x")), unexpected, "content before the head");
    let all = [frame(1, &GET), frame(1, &TRAILERS)].concat();
    for kind in [0, 1] {
        assert_eq!(
            verdict(&[&all[..], &frame(kind, &TRAILERS)].concat()),
            unexpected,
            "{kind}"
        );
    }
    for begin in [vec![], frame(1, &GET), all] {
        let kinds = [2, 3, 4, 5, 6, 7, 8, 9, 0xd].map(|kind| vec![kind]);
        let updates = [vec![0x80, 0x0f, 0x07, 0], vec![0x80, 0x0f, 0x07, 1]];
        for kind in kinds.iter().chain(&updates) {
            // As soon as its type and length are there, however long it is.
            let endless = [&begin[..], kind, &[0xc0, 0, 1, 0, 0, 0, 0, 0]].concat();
            assert_eq!(verdict(&endless), unexpected, "{kind:?}");
        }
    }
    let empty = Err(Broken::Connection(Code::DECOMPRESSION_FAILED));
    assert_eq!(verdict(&frame(1, b"")), empty, "a field section without its prefix");
}

/// What the fuzzer begins with: the same however it is cut.
#[test]
fn seeds_of_the_fuzzer() {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/h3_frames");
    let mut read = 0;
    for seed in std::fs::read_dir(seeds).unwrap() {
        let bytes = std::fs::read(seed.unwrap().path()).unwrap();
        let _ = verdict(&bytes[1..]);
        read += 1;
    }
    assert!(read > 0);
}
