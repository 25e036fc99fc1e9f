//! HTTP/3 byte by byte: what breaks RFC 9114 and RFC 9204 gets its code, and field sections refer
//! to tables both ways.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edge::base::shutdown::Phase;
use edge::http::h3::qpack::decoder::{Decoder, Enough, Lines, Section, acknowledge};
use edge::http::h3::qpack::fixed::Name;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, ReadError, ReadToEndError, RecvStream, SendStream};

use On::{Ended, One, Request, Reset, Whole};

use crate::harness::Edge;

const PATIENCE: Duration = Duration::from_secs(10);

/// Codes (RFC 9114 section 8.1, RFC 9204 section 6).
const STREAM_CREATION: u64 = 0x103;
const CLOSED_CRITICAL: u64 = 0x104;
const UNEXPECTED: u64 = 0x105;
const FRAME: u64 = 0x106;
const LOAD: u64 = 0x107;
const ID: u64 = 0x108;
const SETTINGS: u64 = 0x109;
const MISSING_SETTINGS: u64 = 0x10a;
const REJECTED: u64 = 0x10b;
const INCOMPLETE: u64 = 0x10d;
const MESSAGE: u64 = 0x10e;
const DECOMPRESSION: u64 = 0x200;
const ENCODER: u64 = 0x201;
const DECODER: u64 = 0x202;

/// A connection without a word on it.
struct Raw {
    connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

impl Raw {
    async fn to(edge: &Edge) -> Self {
        let tls = QuicClientConfig::try_from(edge.client(&["h3"])).unwrap();
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(tls));
        let connection = endpoint.connect_with(config, edge.h3, "a.example").unwrap();
        Self {
            connection: connection.await.unwrap(),
            _endpoint: endpoint,
        }
    }

    async fn one_way(&self, bytes: &[u8]) -> SendStream {
        let mut stream = self.connection.open_uni().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    async fn request(&self, bytes: &[u8]) -> (SendStream, RecvStream) {
        let (mut send, receive) = self.connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        (send, receive)
    }

    /// The streams that the edge opens, by their type.
    async fn theirs(&self) -> [RecvStream; 3] {
        let mut streams = Vec::new();
        for _ in 0..3 {
            let mut stream = self.connection.accept_uni().await.unwrap();
            let mut kind = [0];
            stream.read_exact(&mut kind).await.unwrap();
            streams.push((kind[0], stream));
        }
        streams.sort_by_key(|(kind, _)| *kind);
        let kinds: Vec<u8> = streams.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [0, 2, 3]);
        let mut streams = streams.into_iter().map(|(_, stream)| stream);
        std::array::from_fn(|_| streams.next().unwrap())
    }

    async fn closed(&self) -> Option<u64> {
        match tokio::time::timeout(PATIENCE, self.connection.closed()).await {
            Ok(ConnectionError::ApplicationClosed(close)) => Some(close.error_code.into_inner()),
            _ => None,
        }
    }
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap() | 0x8000_0000;
    [&[kind][..], &length.to_be_bytes(), payload].concat()
}

/// `:method: GET` or POST, `:scheme: https`, `:authority: a.example`, and the path, with `more`
/// lines.
fn section(method: u8, path: &str, more: &[u8]) -> Vec<u8> {
    let mut section = vec![0, 0, method, 0xd7, 0x50, 9];
    section.extend(b"a.example");
    section.extend([0x51, u8::try_from(path.len()).unwrap()]);
    section.extend(path.as_bytes());
    section.extend(more);
    section
}

const GET: u8 = 0xd1;
const POST: u8 = 0xd4;

fn get(path: &str) -> Vec<u8> {
    frame(1, &section(GET, path, &[]))
}

/// A literal line.
fn line(name: &str, value: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    let mut line = if length < 7 {
        vec![0x20 | length]
    } else {
        vec![0x27, length - 7]
    };
    line.extend(name.as_bytes());
    line.push(u8::try_from(value.len()).unwrap());
    line.extend(value.as_bytes());
    line
}

/// All of a response; or the code that its stream was reset with.
async fn response(receive: &mut RecvStream) -> Result<Vec<u8>, u64> {
    match tokio::time::timeout(PATIENCE, receive.read_to_end(1 << 20))
        .await
        .expect("an answer in time")
    {
        Ok(bytes) => Ok(bytes),
        Err(ReadToEndError::Read(ReadError::Reset(code))) => Err(code.into_inner()),
        Err(error) => panic!("{error}"),
    }
}

/// The frames of a stream, which are short.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [kind, rest @ ..] = bytes {
        let (length, rest) = match rest {
            [short @ 0..0x40, rest @ ..] => (usize::from(*short), rest),
            [high @ 0x40..0x80, low, rest @ ..] => (usize::from(u16::from_be_bytes([high & 0x3f, *low])), rest),
            other => panic!("a length {:x?}", other.get(..4)),
        };
        let (payload, rest) = rest.split_at(length);
        frames.push((*kind, payload.to_vec()));
        bytes = rest;
    }
    frames
}

/// The field section and the content of a response.
fn message(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut section, mut content) = (Vec::new(), Vec::new());
    for (kind, payload) in frames(bytes) {
        match kind {
            0 => content.extend(payload),
            1 if section.is_empty() => section.extend(payload),
            other => panic!("frame {other}"),
        }
    }
    (section, content)
}

#[derive(Default)]
struct Text(Vec<(String, String)>);

impl Lines for Text {
    fn line(&mut self, name: &Name, value: Bytes) -> Result<(), Enough> {
        let name = match name {
            Name::Field(name) => name.as_str().to_owned(),
            Name::Pseudo(pseudo) => format!(":{pseudo:?}").to_lowercase(),
            Name::Unsound(_) => panic!("an unsound name"),
        };
        self.0.push((name, String::from_utf8_lossy(&value).into_owned()));
        Ok(())
    }

    fn room(&self) -> usize {
        1 << 16
    }
}

fn status(decoder: &Decoder, response: &[u8]) -> String {
    let mut text = Text::default();
    decoder.section(&message(response).0, &mut text).unwrap();
    assert_eq!(text.0[0].0, ":status");
    text.0[0].1.clone()
}

/// What a client sends.
enum On {
    /// On a stream of one direction.
    One(Vec<u8>),
    /// The same, which is ended then.
    Ended(Vec<u8>),
    /// The same, which is reset then.
    Reset(Vec<u8>),
    /// On a request stream that is not ended.
    Request(Vec<u8>),
    /// On one that is.
    Whole(Vec<u8>),
}

fn control(frames: &[u8]) -> On {
    One([&[0, 4, 0], frames].concat())
}

fn head(more: &[u8]) -> On {
    Whole(frame(1, &section(GET, "/echo", more)))
}

fn post(more: &[u8]) -> Vec<u8> {
    frame(1, &section(POST, "/collect", more))
}

fn with(first: &[u8], more: &[u8]) -> Vec<u8> {
    [first, more].concat()
}

/// What a client sends, and the code that its connection ends with.
type Broken = (&'static str, Vec<On>, u64);

fn on_streams_of_one_way() -> Vec<Broken> {
    vec![
        ("DATA on the control stream", vec![control(&[0, 0])], UNEXPECTED),
        ("HEADERS on the control stream", vec![control(&[1, 0])], UNEXPECTED),
        (
            "PUSH_PROMISE on the control stream",
            vec![control(&[5, 1, 0])],
            UNEXPECTED,
        ),
        (
            "HTTP/2's PING on the control stream",
            vec![control(&[6, 0])],
            UNEXPECTED,
        ),
        ("SETTINGS twice", vec![control(&[4, 0])], UNEXPECTED),
        ("another frame first", vec![One(vec![0, 7, 1, 0])], MISSING_SETTINGS),
        ("a reserved frame first", vec![One(vec![0, 0x21, 0])], MISSING_SETTINGS),
        ("a setting of HTTP/2", vec![One(vec![0, 4, 2, 4, 1])], SETTINGS),
        ("a setting twice", vec![One(vec![0, 4, 4, 6, 1, 6, 1])], SETTINGS),
        ("SETTINGS cut", vec![One(vec![0, 4, 1, 6])], FRAME),
        ("SETTINGS of 64 KiB", vec![One(vec![0, 4, 0x80, 1, 0, 0])], LOAD),
        ("GOAWAY with more", vec![control(&[7, 2, 0, 0])], FRAME),
        ("GOAWAY that rises", vec![control(&[7, 1, 0, 7, 1, 4])], ID),
        ("MAX_PUSH_ID that falls", vec![control(&[13, 1, 4, 13, 1, 3])], ID),
        ("CANCEL_PUSH of nothing", vec![control(&[3, 1, 0])], ID),
        ("the control stream ends", vec![Ended(vec![0, 4, 0])], CLOSED_CRITICAL),
        (
            "the control stream is reset",
            vec![Reset(vec![0, 4, 0])],
            CLOSED_CRITICAL,
        ),
        ("the encoder stream ends", vec![Ended(vec![2])], CLOSED_CRITICAL),
        ("the decoder stream is reset", vec![Reset(vec![3])], CLOSED_CRITICAL),
        (
            "a second control stream",
            vec![control(&[]), control(&[])],
            STREAM_CREATION,
        ),
        (
            "a second encoder stream",
            vec![One(vec![2]), One(vec![2])],
            STREAM_CREATION,
        ),
        ("a push stream", vec![One(vec![1, 0])], STREAM_CREATION),
        (
            "more capacity than there is",
            vec![One(vec![2, 0x3f, 0xe2, 0x1f])],
            ENCODER,
        ),
        (
            "an entry larger than the table",
            vec![One(vec![2, 0x3f, 1, 0xc0, 0x7f, 0x7f])],
            ENCODER,
        ),
        (
            "a name of no entry",
            vec![One(vec![2, 0x3f, 0xe1, 0x1f, 0x80, 0])],
            ENCODER,
        ),
        ("an increment of nothing", vec![One(vec![3, 0])], DECODER),
        ("an increment beyond", vec![One(vec![3, 1])], DECODER),
        ("a section that was not sent", vec![One(vec![3, 0x84])], DECODER),
    ]
}

fn on_request_streams() -> Vec<Broken> {
    vec![
        ("DATA before HEADERS", vec![Request(vec![0, 1, b'x'])], UNEXPECTED),
        ("SETTINGS on a request stream", vec![Request(vec![4, 0])], UNEXPECTED),
        (
            "GOAWAY behind a head",
            vec![Request(with(&get("/collect"), &[7, 1, 0]))],
            UNEXPECTED,
        ),
        (
            "HTTP/2's CONTINUATION",
            vec![Request(with(&get("/collect"), &[9, 0]))],
            UNEXPECTED,
        ),
        ("DATA cut", vec![Whole(with(&post(&[]), &[0, 9, b'x']))], FRAME),
        ("HEADERS cut", vec![Whole(vec![1, 9, 0, 0])], FRAME),
        ("a type without a length", vec![Whole(with(&post(&[]), &[0]))], FRAME),
        ("HEADERS without a section", vec![Whole(vec![1, 0])], DECOMPRESSION),
        (
            "no such static entry",
            vec![Whole(frame(1, &[0, 0, 0xff, 0x40]))],
            DECOMPRESSION,
        ),
        (
            "an entry that the prefix does not cover",
            vec![Whole(frame(1, &[0, 0, 0x80]))],
            DECOMPRESSION,
        ),
        (
            "a count that cannot be",
            vec![Whole(frame(1, &[0xff, 0x80, 0x02, 0, 0x80]))],
            DECOMPRESSION,
        ),
        ("a value cut", vec![Whole(frame(1, &[0, 0, 0x51, 9]))], DECOMPRESSION),
        (
            "Huffman code with the end in it",
            vec![Whole(frame(1, &[0, 0, 0x51, 0x84, 255, 255, 255, 255]))],
            DECOMPRESSION,
        ),
    ]
}

/// A client that breaks a rule must be told which: by the connection's code.
#[tokio::test]
async fn broken_rules_get_their_codes() {
    let edge = Edge::start("");
    let mut wrong = Vec::new();
    for (what, sent, code) in on_streams_of_one_way().into_iter().chain(on_request_streams()) {
        let raw = Raw::to(&edge).await;
        let mut kept = Vec::new();
        for on in sent {
            match on {
                One(bytes) => kept.push((raw.one_way(&bytes).await, None)),
                Ended(bytes) => raw.one_way(&bytes).await.finish().unwrap(),
                Reset(bytes) => {
                    let mut stream = raw.one_way(&bytes).await;
                    // Its type has to come before its end.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    stream.reset(0_u32.into()).unwrap();
                }
                Request(bytes) => {
                    let (send, receive) = raw.request(&bytes).await;
                    kept.push((send, Some(receive)));
                }
                Whole(bytes) => {
                    let (mut send, receive) = raw.request(&bytes).await;
                    send.finish().unwrap();
                    kept.push((send, Some(receive)));
                }
            }
        }
        match raw.closed().await {
            Some(closed) if closed == code => {}
            other => wrong.push(format!("{what}: {other:x?}, not {code:x}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Or by its stream's, and that stream's alone.
#[tokio::test]
async fn broken_requests_end_their_streams() {
    let edge = Edge::start("");
    let mut wrong = Vec::new();
    let stream: Vec<(&str, On, u64)> = vec![
        ("no head", Whole(Vec::new()), INCOMPLETE),
        ("unknown frames and no head", Whole(vec![0x21, 1, 0]), INCOMPLETE),
        (":path twice", head(&line(":path", "/b")), MESSAGE),
        (":status", head(&line(":status", "200")), MESSAGE),
        (":colour", head(&line(":colour", "red")), MESSAGE),
        (
            ":scheme late",
            Whole(frame(
                1,
                &[&[0, 0, GET][..], &line("x-a", "1"), &[0xd7, 0xc1, 0x50, 1, b'a']].concat(),
            )),
            MESSAGE,
        ),
        ("no :path", Whole(frame(1, &[0, 0, GET, 0xd7, 0x50, 1, b'a'])), MESSAGE),
        ("a name in capitals", head(&line("X-a", "1")), MESSAGE),
        ("a line feed in a value", head(&line("x-a", "1\n2")), MESSAGE),
        ("a space around a value", head(&line("x-a", " 1")), MESSAGE),
        ("connection", head(&line("connection", "close")), MESSAGE),
        ("te", head(&line("te", "gzip")), MESSAGE),
        ("a section of 1 MiB announced", Request(vec![1, 0x80, 0x10, 0, 0]), LOAD),
    ];
    for (what, on, code) in stream {
        let raw = Raw::to(&edge).await;
        let (Whole(bytes) | Request(bytes) | One(bytes) | Ended(bytes) | Reset(bytes)) = &on;
        let (mut send, mut receive) = raw.request(bytes).await;
        if matches!(on, Whole(_)) {
            send.finish().unwrap();
        }
        match response(&mut receive).await {
            Err(reset) if reset == code => {}
            other => wrong.push(format!("{what}: {other:x?}, not {code:x}")),
        }
        let (mut send, mut receive) = raw.request(&get("/slow/1")).await;
        send.finish().unwrap();
        if status(&Decoder::default(), &response(&mut receive).await.unwrap()) != "200" {
            wrong.push(format!("{what}: the next request"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Content that is not what was announced, and trailers that must not be, would be taken for whole:
/// 400, since the head was good.
#[tokio::test]
async fn content_is_what_was_announced() {
    let edge = Edge::start("");
    let mut wrong = Vec::new();
    let contents: Vec<(&str, Vec<u8>)> = vec![
        ("short", with(&post(&line("content-length", "5")), &[0, 1, b'x'])),
        ("long", with(&post(&line("content-length", "1")), &[0, 2, b'x', b'y'])),
        ("trailers with a path", [post(&[]), vec![0, 1, b'x'], get("/")].concat()),
        (
            "trailers of 40 KB",
            [
                post(&[]),
                vec![0, 1, b'x'],
                frame(1, &[&[0, 0][..], &line("x-a", &"y".repeat(120)).repeat(300)].concat()),
            ]
            .concat(),
        ),
    ];
    for (what, bytes) in contents {
        let raw = Raw::to(&edge).await;
        let (mut send, mut receive) = raw.request(&bytes).await;
        send.finish().unwrap();
        match response(&mut receive).await {
            Err(MESSAGE) => {}
            Ok(bytes) if status(&Decoder::default(), &bytes) == "400" => {}
            other => wrong.push(format!("{what}: {other:x?}")),
        }
    }
    let raw = Raw::to(&edge).await;
    let large = section(GET, "/echo", &line("x-a", &"y".repeat(120)).repeat(300));
    let (mut send, mut receive) = raw.request(&frame(1, &large)).await;
    send.finish().unwrap();
    assert_eq!(
        status(&Decoder::default(), &response(&mut receive).await.unwrap()),
        "431"
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What RFC 9114 section 9 has everybody ignore must not end anything.
#[tokio::test]
async fn what_is_unknown_is_passed_over() {
    let edge = Edge::start("");
    let raw = Raw::to(&edge).await;
    let _control = raw
        .one_way(&[0, 4, 2, 0x21, 7, 0x21, 1, 9, 13, 1, 5, 0x40, 0x41, 2, 1, 2])
        .await;
    let mut reserved = raw.one_way(&[0x40, 0x21, 1, 2, 3]).await;
    let stopped = tokio::time::timeout(PATIENCE, reserved.stopped())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stopped.map(quinn::VarInt::into_inner), Some(STREAM_CREATION));
    drop(reserved.reset(0_u32.into()));
    drop(raw.connection.open_uni().await.unwrap());
    let whole = [
        &[0x21, 2, 1, 2][..],
        &frame(1, &section(POST, "/collect", &[])),
        &[0x21, 0, 0, 2, b'a', b'b', 0x40, 0x41, 1, 0],
    ];
    let (mut send, mut receive) = raw.request(&whole.concat()).await;
    send.finish().unwrap();
    let answer = response(&mut receive).await.unwrap();
    assert_eq!(message(&answer).1, b"2 bytes, 0 trailers");
}

/// Requests may come before the entries that they refer to; more of them than we say is an attack.
#[tokio::test]
async fn requests_wait_for_the_table() {
    let edge = Edge::start("");
    let raw = Raw::to(&edge).await;
    let [_, _, mut acknowledgements] = raw.theirs().await;
    let _control = raw.one_way(&[0, 4, 0]).await;
    let mut encoder = raw.one_way(&[2, 0x3f, 0xe1, 0x1f]).await;
    // Its path is entry 0.
    let refers = frame(1, &[&[2, 0, GET, 0xd7, 0x50, 9][..], b"a.example", &[0x80]].concat());
    let mut waiting = Vec::new();
    for _ in 0..16 {
        let (mut send, receive) = raw.request(&refers).await;
        send.finish().unwrap();
        waiting.push(receive);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    encoder.write_all(&[0xc1, 7]).await.unwrap();
    encoder.write_all(b"/slow/1").await.unwrap();
    for receive in &mut waiting {
        assert_eq!(status(&Decoder::default(), &response(receive).await.unwrap()), "200");
    }
    // An increment, and an acknowledgement of each section.
    let mut told = [0; 17];
    tokio::time::timeout(PATIENCE, acknowledgements.read_exact(&mut told))
        .await
        .unwrap()
        .unwrap();
    let mut streams: Vec<u8> = told[1..].iter().map(|byte| byte ^ 0x80).collect();
    streams.sort_unstable();
    assert_eq!((told[0], streams), (1, (0..16).map(|stream| stream * 4).collect()));
    // Seventeen that wait for what never comes.
    let refers = frame(1, &[&[3, 0, GET, 0xd7, 0x50, 9][..], b"a.example", &[0x80]].concat());
    let mut waiting = Vec::new();
    for _ in 0..17 {
        let Ok((mut send, receive)) = raw.connection.open_bi().await else {
            break;
        };
        if send.write_all(&refers).await.is_err() {
            break;
        }
        waiting.push((send, receive));
    }
    assert_eq!(raw.closed().await, Some(DECOMPRESSION));
}

/// Fields that every answer has would be sent whole each time.
#[tokio::test]
async fn answers_refer_to_the_clients_table() {
    let edge = Edge::start("");
    let raw = Raw::to(&edge).await;
    let [mut control, mut encoder, _decoder] = raw.theirs().await;
    let mut settings = [0; 2];
    control.read_exact(&mut settings).await.unwrap();
    assert_eq!(settings[0], 4);
    let mut pairs = vec![0; usize::from(settings[1])];
    control.read_exact(&mut pairs).await.unwrap();
    assert!(
        pairs.windows(3).any(|three| three == [1, 0x50, 0]),
        "a table of 4096: {pairs:x?}"
    );
    assert!(
        pairs.ends_with(&[7, 16, 8, 1]),
        "16 may wait, and CONNECT is extended: {pairs:x?}"
    );
    let _control = raw.one_way(&[0, 4, 3, 1, 0x50, 0]).await;
    let mut acknowledgements = raw.one_way(&[3]).await;
    // What the table may have is to be read before the first request.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut decoder = Decoder::default();
    let mut lengths = Vec::new();
    for turn in 0..6_u64 {
        let (mut send, mut receive) = raw.request(&get("/fields")).await;
        send.finish().unwrap();
        let answer = response(&mut receive).await.unwrap();
        let (section, _) = message(&answer);
        let mut text = Text::default();
        let read = decoder.section(&section, &mut text).unwrap();
        assert!(
            text.0
                .iter()
                .any(|(name, value)| name == "x-repeats" && value.len() == 64),
            "{:?}",
            text.0
        );
        lengths.push(section.len());
        let mut told = Vec::new();
        if read == (Section::Read { referred: true }) {
            acknowledge(turn * 4, &mut told);
        }
        if turn == 1 {
            // The second sight of a line has it inserted.
            while !decoder
                .instructions(&encoder.read_chunk(1 << 12, true).await.unwrap().unwrap().bytes)
                .unwrap()
            {}
            decoder.tell(&mut told);
        }
        acknowledgements.write_all(&told).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(lengths[5] + 40 < lengths[0], "{lengths:?}");
}

/// Requests that are on their way when the edge drains would be lost.
#[tokio::test]
async fn draining_takes_what_is_on_its_way() {
    let edge = Edge::start("");
    let raw = Raw::to(&edge).await;
    let [mut control, _encoder, _decoder] = raw.theirs().await;
    let _control = raw.one_way(&[0, 4, 0]).await;
    let (mut send, mut receive) = raw.request(&get("/slow/1500")).await;
    send.finish().unwrap();
    edge.counts("edge_http_requests_in_flight 1").await;
    edge.trigger.advance(Phase::Draining);
    let mut settings = [0; 2];
    control.read_exact(&mut settings).await.unwrap();
    let mut pairs = vec![0; usize::from(settings[1])];
    control.read_exact(&mut pairs).await.unwrap();
    let mut goaway = [0; 10];
    control.read_exact(&mut goaway).await.unwrap();
    assert_eq!(goaway, [7, 8, 255, 255, 255, 255, 255, 255, 255, 252]);
    let (mut late, mut answer) = raw.request(&get("/slow/1")).await;
    late.finish().unwrap();
    assert_eq!(
        status(&Decoder::default(), &response(&mut answer).await.unwrap()),
        "200"
    );
    let mut goaway = [0; 3];
    control.read_exact(&mut goaway).await.unwrap();
    assert_eq!(goaway, [7, 1, 8]);
    let (_too_late, mut answer) = raw.request(&get("/slow/1")).await;
    assert_eq!(response(&mut answer).await, Err(REJECTED));
    assert_eq!(
        status(&Decoder::default(), &response(&mut receive).await.unwrap()),
        "200"
    );
}

/// A page's images would come before its styles.
#[tokio::test]
async fn what_is_urgent_comes_first() {
    let edge = Edge::start("");
    for (field, update) in [(true, false), (false, true)] {
        let raw = Raw::to(&edge).await;
        let mut control = vec![0, 4, 0];
        if update {
            // PRIORITY_UPDATE of a stream that has not come: 4.
            control.extend([0x80, 0x0f, 0x07, 0, 4, 4, b'u', b'=', b'0']);
        }
        let _control = raw.one_way(&control).await;
        let late = frame(1, &section(GET, "/big/40000", &line("priority", "u=7")));
        let more = if field { line("priority", "u=0") } else { Vec::new() };
        let urgent = frame(1, &section(GET, "/big/40000", &more));
        let (mut one, mut other) = (raw.request(&late).await, raw.request(&urgent).await);
        one.0.finish().unwrap();
        other.0.finish().unwrap();
        let lately = async {
            let mut came = 0;
            while let Some(chunk) = one.1.read_chunk(1 << 12, true).await.unwrap() {
                came += chunk.bytes.len();
                tokio::task::yield_now().await;
                if came > 40_000 {
                    break;
                }
            }
            came
        };
        let urgently = response(&mut other.1);
        tokio::select! {
            biased;
            urgent = urgently => assert!(urgent.unwrap().len() > 40_000),
            came = lately => panic!("all {came} bytes of what can wait came before"),
        }
    }
}

/// A browser would wait for the page to learn what it needs beside it.
#[tokio::test]
async fn interim_responses_come_first() {
    let edge = Edge::start("");
    let raw = Raw::to(&edge).await;
    let (mut send, mut receive) = raw.request(&get("/hints")).await;
    send.finish().unwrap();
    let answer = response(&mut receive).await.unwrap();
    let sections: Vec<Vec<(String, String)>> = frames(&answer)
        .into_iter()
        .filter(|(kind, _)| *kind == 1)
        .map(|(_, section)| {
            let mut text = Text::default();
            Decoder::default().section(&section, &mut text).unwrap();
            text.0
        })
        .collect();
    let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let hint = [
        line(":status", "103"),
        line("link", "</a.css>; rel=preload"),
        line("via", "1.1 edge"),
    ];
    assert_eq!(sections.len(), 3, "{sections:?}");
    assert_eq!((&sections[0][..], &sections[1][..]), (&hint[..], &hint[..]));
    assert_eq!(sections[2][0], line(":status", "200"));
}

/// WebSockets over HTTP/3 (RFC 9220) would fail.
#[tokio::test]
async fn extended_connect() {
    let edge = Edge::start("");
    let raw = Raw::to(&edge).await;
    let connect = |protocol: &str| {
        let mut section = section(0xcf, "/connect", &[]);
        let line = line(":protocol", protocol);
        section.splice(3..3, line);
        frame(1, &section)
    };
    let (mut send, mut receive) = raw.request(&[connect("websocket"), frame(0, b"ping")].concat()).await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"ping") {
        let chunk = tokio::time::timeout(PATIENCE, receive.read_chunk(1 << 10, true))
            .await
            .unwrap();
        answer.extend_from_slice(&chunk.unwrap().unwrap().bytes);
    }
    assert_eq!(status(&Decoder::default(), &answer), "200");
    edge.counts("edge_http_requests_in_flight 1").await;
    send.write_all(&frame(0, b"pong")).await.unwrap();
    send.finish().unwrap();
    assert_eq!(message(&response(&mut receive).await.unwrap()).1, b"pong");
    edge.counts("edge_http_requests_in_flight 0").await;
    // Who is reset resets.
    let (mut send, mut receive) = raw.request(&connect("websocket")).await;
    let mut head = [0; 4];
    receive.read_exact(&mut head).await.unwrap();
    send.reset(0x10c_u32.into()).unwrap();
    assert_eq!(response(&mut receive).await, Err(0x10f));
    // Another protocol is not to be had, nor a mere CONNECT.
    let plain = frame(1, &[&[0, 0, 0xcf, 0x50, 9][..], b"a.example"].concat());
    for refused in [connect("connect-udp"), plain] {
        let (mut send, mut receive) = raw.request(&refused).await;
        send.finish().unwrap();
        assert_eq!(
            status(&Decoder::default(), &response(&mut receive).await.unwrap()),
            "405"
        );
    }
    assert_eq!(raw.connection.close_reason(), None);
}
