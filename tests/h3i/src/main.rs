//! Requests over HTTP/3 by h3i (quiche), right ones and malformed ones, each with what RFC 9114 or
//! RFC 9204 asks a server to do.
//!
//! `edge-h3i ADDRESS HOST` needs a server that answers `GET /` with 200 and sends back what is
//! posted to `/echo`. Prints a line for each case and fails if any is not met. `cargo xtask conform
//! h3i` starts the server.

use std::process::ExitCode;
use std::time::Duration;

use h3i::actions::h3::{
    Action, StreamEvent, StreamEventType, WaitType, send_headers_frame, send_headers_frame_literal,
};
use h3i::client::connection_summary::ConnectionSummary;
use h3i::client::sync_client;
use h3i::config::Config;
use h3i::frame::H3iFrame;
use h3i::quiche::ConnectionError;
use h3i::quiche::h3::Header;

/// Streams of the client (RFC 9000 section 2.1).
const REQUEST: u64 = 0;
const NEXT_REQUEST: u64 = 4;
const CONTROL: u64 = 2;
const OTHER: u64 = 6;

/// Types of unidirectional streams (RFC 9114 section 6.2, RFC 9204 section 4.2).
const TYPE_CONTROL: u8 = 0;
const TYPE_PUSH: u8 = 1;
const TYPE_ENCODER: u8 = 2;
const TYPE_DECODER: u8 = 3;

/// Frames (RFC 9114 section 7.2).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CANCEL_PUSH: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;
const MAX_PUSH_ID: u8 = 13;

/// Codes (RFC 9114 section 8.1, RFC 9204 section 6).
const STREAM_CREATION: u64 = 0x103;
const CLOSED_CRITICAL: u64 = 0x104;
const UNEXPECTED: u64 = 0x105;
const FRAME: u64 = 0x106;
const ID: u64 = 0x108;
const SETTING: u64 = 0x109;
const MISSING_SETTINGS: u64 = 0x10a;
const INCOMPLETE: u64 = 0x10d;
const MESSAGE: u64 = 0x10e;
const DECOMPRESSION: u64 = 0x200;
const ENCODER: u64 = 0x201;
const DECODER: u64 = 0x202;

/// What a server has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// Answer with this status.
    Status(u16),
    /// End the connection with this code.
    Close(u64),
    /// End the stream with this code, or answer 400 (RFC 9114 section 4.1.2).
    Stream(u64),
    /// End the connection with this code, or do not mind and answer: the RFC lets a server choose.
    CloseOrStatus(u64, u16),
}

/// What it did.
#[derive(Clone, Copy, Debug, Default)]
struct Did {
    status: Option<u16>,
    closed: Option<u64>,
    reset: Option<u64>,
}

struct Case {
    name: &'static str,
    section: &'static str,
    actions: Vec<Action>,
    want: Want,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(host), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("usage: edge-h3i ADDRESS HOST");
        return ExitCode::FAILURE;
    };
    let cases = cases(&host);
    let (all, mut failed) = (cases.len(), 0);
    for case in cases {
        let config = Config::new()
            .with_host_port(format!("{host}:443"))
            .with_connect_to(address.clone())
            .with_idle_timeout(3_000)
            // The certificate's authority is the bench's own; who signs what is another client's
            // matter.
            .verify_peer(false);
        let verdict = match sync_client::connect(config, case.actions, None) {
            Err(error) => Err(format!("no connection: {error:?}")),
            Ok(summary) => {
                let did = did(&summary);
                if meets(case.want, did) {
                    Ok(did)
                } else {
                    Err(format!("{did:x?}"))
                }
            }
        };
        match verdict {
            Ok(did) => println!("ok      {:<44} {:<22} {did:x?}", case.name, case.section),
            Err(what) => {
                failed += 1;
                println!(
                    "FAILED  {:<44} {:<22} wanted {:x?}, got {what}",
                    case.name, case.section, case.want
                );
            }
        }
    }
    println!("{} of {all} met", all - failed);
    ExitCode::from(u8::from(failed > 0))
}

fn meets(want: Want, did: Did) -> bool {
    match want {
        Want::Status(status) => did.status == Some(status) && did.closed.is_none(),
        Want::Close(code) => did.closed == Some(code),
        Want::Stream(code) => did.closed.is_none() && (did.reset == Some(code) || did.status == Some(400)),
        Want::CloseOrStatus(code, status) => {
            did.closed == Some(code) || (did.closed.is_none() && did.status == Some(status))
        }
    }
}

fn did(summary: &ConnectionSummary) -> Did {
    let mut did = Did {
        closed: summary.conn_close_details.peer_error().map(|error| error.error_code),
        ..Did::default()
    };
    for stream in [REQUEST, NEXT_REQUEST] {
        for frame in summary.stream_map.stream(stream) {
            match frame {
                H3iFrame::Headers(headers) => {
                    let status = headers
                        .status_code()
                        .and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
                    did.status = did.status.or(status);
                }
                H3iFrame::ResetStream(reset) => did.reset = Some(reset.error_code),
                H3iFrame::QuicheH3(_) => {}
            }
        }
    }
    did
}

fn cases(host: &str) -> Vec<Case> {
    let get = |stream| send_headers_frame(stream, true, head(host, "GET", "/"));
    let post = |stream| send_headers_frame(stream, false, head(host, "POST", "/echo"));
    let mut cases = vec![
        case("GET", "4.1", with_control([get(REQUEST)]), Want::Status(200)),
        case(
            "POST",
            "4.1",
            with_control([post(REQUEST), bytes(REQUEST, true, &[DATA, 4, b't', b'e', b's', b't'])]),
            Want::Status(200),
        ),
        case(
            "two requests",
            "4.1",
            with_control([get(REQUEST), finished(REQUEST), get(NEXT_REQUEST)]),
            Want::Status(200),
        ),
        case(
            "unknown frames, streams, settings are ignored",
            "9",
            vec![
                bytes(CONTROL, false, &[TYPE_CONTROL, SETTINGS, 2, 0x21, 7, 0x21, 1, 9]),
                bytes(OTHER, false, &[0x21, 1, 2, 3]),
                bytes(REQUEST, false, &[0x21, 2, 1, 2]),
                get(REQUEST),
            ],
            Want::Status(200),
        ),
    ];
    cases.extend(unexpected(host));
    cases.extend(control(host));
    cases.extend(one_way());
    cases.extend(qpack(host));
    cases.extend(messages(host));
    // Who only waits for an answer goes when it has come, or when its stream was ended.
    for case in &mut cases {
        if matches!(case.want, Want::Status(_) | Want::Stream(_) | Want::CloseOrStatus(..)) {
            let last = if case.name == "two requests" {
                NEXT_REQUEST
            } else {
                REQUEST
            };
            case.actions.extend([finished(last), goodbye()]);
        }
    }
    cases
}

/// Frames where they may not be.
fn unexpected(host: &str) -> Vec<Case> {
    let get = || send_headers_frame(REQUEST, false, head(host, "GET", "/"));
    let mut cases = vec![
        case(
            "DATA before HEADERS",
            "4.1",
            with_control([bytes(REQUEST, false, &[DATA, 4, b't', b'e', b's', b't'])]),
            Want::Close(UNEXPECTED),
        ),
        case(
            "HEADERS behind trailers",
            "4.1",
            with_control([
                send_headers_frame(REQUEST, false, head(host, "POST", "/echo")),
                bytes(REQUEST, false, &[DATA, 1, b'x']),
                send_headers_frame(REQUEST, false, vec![Header::new(b"x-sum", b"1")]),
                send_headers_frame(REQUEST, true, vec![Header::new(b"x-sum", b"2")]),
            ]),
            Want::Close(UNEXPECTED),
        ),
        case(
            "DATA behind trailers",
            "4.1",
            with_control([
                send_headers_frame(REQUEST, false, head(host, "POST", "/echo")),
                bytes(REQUEST, false, &[DATA, 1, b'x']),
                send_headers_frame(REQUEST, false, vec![Header::new(b"x-sum", b"1")]),
                bytes(REQUEST, true, &[DATA, 1, b'x']),
            ]),
            Want::Close(UNEXPECTED),
        ),
        case(
            "frame cut by the stream's end",
            "7.1",
            with_control([get(), bytes(REQUEST, true, &[DATA, 16, 1, 2])]),
            Want::Close(FRAME),
        ),
        case(
            "head cut by the stream's end",
            "7.1",
            with_control([bytes(REQUEST, true, &[HEADERS, 16, 0, 0])]),
            Want::Close(FRAME),
        ),
        case(
            "stream ends without a head",
            "4.1.2, 8.1",
            with_control([bytes(REQUEST, true, &[])]),
            Want::Stream(INCOMPLETE),
        ),
    ];
    for (name, frame) in [
        ("SETTINGS on a request stream", &[SETTINGS, 0][..]),
        ("GOAWAY on a request stream", &[GOAWAY, 1, 0]),
        ("MAX_PUSH_ID on a request stream", &[MAX_PUSH_ID, 1, 0]),
        ("CANCEL_PUSH on a request stream", &[CANCEL_PUSH, 1, 0]),
        ("PUSH_PROMISE of a client", &[PUSH_PROMISE, 3, 0, 0, 0]),
        ("HTTP/2's PRIORITY", &[2, 0]),
        ("HTTP/2's PING", &[6, 0]),
        ("HTTP/2's WINDOW_UPDATE", &[8, 0]),
        ("HTTP/2's CONTINUATION", &[9, 0]),
    ] {
        let actions = with_control([get(), bytes(REQUEST, false, frame)]);
        cases.push(case(name, "7.2", actions, Want::Close(UNEXPECTED)));
    }
    cases
}

/// The control stream.
fn control(host: &str) -> Vec<Case> {
    let control = |payload: &[u8]| bytes(CONTROL, false, &[&[TYPE_CONTROL][..], payload].concat());
    let after = |frames: &[u8]| vec![control(&[&[SETTINGS, 0][..], frames].concat())];
    let get = send_headers_frame(REQUEST, true, head(host, "GET", "/"));
    let mut cases = vec![
        case(
            "SETTINGS twice",
            "7.2.4",
            after(&[SETTINGS, 0]),
            Want::Close(UNEXPECTED),
        ),
        case(
            "no SETTINGS first",
            "6.2.1",
            vec![control(&[GOAWAY, 1, 0])],
            Want::Close(MISSING_SETTINGS),
        ),
        case(
            "a setting twice",
            "7.2.4",
            vec![control(&[SETTINGS, 4, 6, 1, 6, 2]), get],
            Want::CloseOrStatus(SETTING, 200),
        ),
        case(
            "SETTINGS cut in a value",
            "7.1",
            vec![control(&[SETTINGS, 2, 6, 0x40])],
            Want::Close(FRAME),
        ),
        case(
            "DATA on the control stream",
            "7.2.1",
            after(&[DATA, 0]),
            Want::Close(UNEXPECTED),
        ),
        case(
            "HEADERS on the control stream",
            "7.2.2",
            after(&[HEADERS, 0]),
            Want::Close(UNEXPECTED),
        ),
        case(
            "PUSH_PROMISE on the control stream",
            "7.2.5",
            after(&[PUSH_PROMISE, 1, 0]),
            Want::Close(UNEXPECTED),
        ),
        case(
            "HTTP/2's PING on the control stream",
            "7.2.8",
            after(&[6, 0]),
            Want::Close(UNEXPECTED),
        ),
        case(
            "CANCEL_PUSH of no push",
            "7.2.3",
            after(&[CANCEL_PUSH, 1, 5]),
            Want::Close(ID),
        ),
        case(
            "MAX_PUSH_ID falls",
            "7.2.7",
            after(&[MAX_PUSH_ID, 1, 5, MAX_PUSH_ID, 1, 1]),
            Want::Close(ID),
        ),
        case(
            "GOAWAY's id rises",
            "5.2",
            after(&[GOAWAY, 1, 0, GOAWAY, 1, 4]),
            Want::Close(ID),
        ),
        case("GOAWAY too long", "7.1", after(&[GOAWAY, 2, 0, 0]), Want::Close(FRAME)),
    ];
    for (name, id) in [
        ("HTTP/2's ENABLE_PUSH", 2),
        ("HTTP/2's MAX_CONCURRENT_STREAMS", 3),
        ("HTTP/2's INITIAL_WINDOW_SIZE", 4),
        ("HTTP/2's MAX_FRAME_SIZE", 5),
    ] {
        let actions = vec![control(&[SETTINGS, 2, id, 1])];
        cases.push(case(name, "7.2.4.1", actions, Want::Close(SETTING)));
    }
    cases
}

/// Streams of one direction, and how they end.
fn one_way() -> Vec<Case> {
    vec![
        case(
            "second control stream",
            "6.2.1",
            with_control([bytes(OTHER, false, &[TYPE_CONTROL, SETTINGS, 0])]),
            Want::Close(STREAM_CREATION),
        ),
        case(
            "control stream ends",
            "6.2.1",
            vec![bytes(CONTROL, true, &[TYPE_CONTROL, SETTINGS, 0])],
            Want::Close(CLOSED_CRITICAL),
        ),
        case(
            "control stream is reset",
            "6.2.1",
            with_control([
                Action::FlushPackets,
                Action::Wait {
                    wait_type: WaitType::WaitDuration(Duration::from_millis(100)),
                },
                Action::ResetStream {
                    stream_id: CONTROL,
                    error_code: 0x100,
                },
            ]),
            Want::Close(CLOSED_CRITICAL),
        ),
        case(
            "push stream of a client",
            "6.2.2",
            with_control([bytes(OTHER, false, &[TYPE_PUSH, 0])]),
            Want::Close(STREAM_CREATION),
        ),
    ]
}

/// Compressed fields (RFC 9204).
fn qpack(host: &str) -> Vec<Case> {
    let get = send_headers_frame(REQUEST, false, head(host, "GET", "/"));
    vec![
        case(
            "QPACK: no such static entry",
            "9204 3.1",
            with_control([bytes(REQUEST, true, &[HEADERS, 4, 0, 0, 0xff, 0x3f])]),
            Want::Close(DECOMPRESSION),
        ),
        case(
            "QPACK: an entry that the prefix does not cover",
            "9204 2.2.3",
            with_control([bytes(REQUEST, true, &[HEADERS, 3, 0, 0, 0x80])]),
            Want::Close(DECOMPRESSION),
        ),
        case(
            "QPACK: a field cut short",
            "9204 2.2",
            with_control([bytes(REQUEST, true, &[HEADERS, 4, 0, 0, 0x51, 9])]),
            Want::Close(DECOMPRESSION),
        ),
        case(
            "QPACK: more capacity than allowed",
            "9204 4.3.1",
            with_control([bytes(OTHER, false, &[TYPE_ENCODER, 0x3f, 0xe1, 0xff, 0x7f])]),
            Want::Close(ENCODER),
        ),
        case(
            "QPACK: increment of zero",
            "9204 4.4.3",
            with_control([bytes(OTHER, false, &[TYPE_DECODER, 0])]),
            Want::Close(DECODER),
        ),
        case(
            "QPACK: second encoder stream",
            "9204 4.2",
            with_control([
                bytes(OTHER, false, &[TYPE_ENCODER]),
                bytes(OTHER + 4, false, &[TYPE_ENCODER]),
            ]),
            Want::Close(STREAM_CREATION),
        ),
        case(
            "QPACK: encoder stream ends",
            "9204 4.2",
            with_control([bytes(OTHER, true, &[TYPE_ENCODER]), get]),
            Want::Close(CLOSED_CRITICAL),
        ),
    ]
}

/// Malformed requests (RFC 9114 section 4.1.2): the stream's fault alone.
fn messages(host: &str) -> Vec<Case> {
    let fields = |drop: &str, add: &[(&str, &str)]| -> Vec<Header> {
        let mut fields = head(host, "GET", "/");
        fields.retain(|field| h3i::quiche::h3::NameValue::name(field) != drop.as_bytes());
        fields.extend(
            add.iter()
                .map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes())),
        );
        fields
    };
    let mut late = vec![Header::new(b"x-first", b"1")];
    late.extend(head(host, "GET", "/"));
    let mut cases = Vec::new();
    for (name, section, fields) in [
        ("no :method", "4.3.1", fields(":method", &[])),
        ("no :scheme", "4.3.1", fields(":scheme", &[])),
        ("no :path", "4.3.1", fields(":path", &[])),
        ("no :authority and no host", "4.3.1", fields(":authority", &[])),
        ("empty :path", "4.3.1", {
            let mut all = fields(":path", &[]);
            all.push(Header::new(b":path", b""));
            all
        }),
        (":path twice", "4.3.1", {
            let mut all = head(host, "GET", "/");
            all.push(Header::new(b":path", b"/other"));
            all
        }),
        (":method twice", "4.3.1", {
            let mut all = head(host, "GET", "/");
            all.push(Header::new(b":method", b"POST"));
            all
        }),
        ("unknown pseudo-header", "4.3", {
            let mut all = head(host, "GET", "/");
            all.push(Header::new(b":colour", b"red"));
            all
        }),
        (":status in a request", "4.3", {
            let mut all = head(host, "GET", "/");
            all.push(Header::new(b":status", b"200"));
            all
        }),
        ("pseudo-headers behind fields", "4.3", late),
        ("connection", "4.2", fields("", &[("connection", "close")])),
        (
            "transfer-encoding",
            "4.2",
            fields("", &[("transfer-encoding", "chunked")]),
        ),
        ("te of more than trailers", "4.2", fields("", &[("te", "gzip")])),
        (
            "two lengths",
            "4.1.2",
            fields("", &[("content-length", "1"), ("content-length", "2")]),
        ),
        ("line feed in a value", "10.3", fields("", &[("x-field", "a\nb: c")])),
        ("space in a name", "10.3", fields("", &[("x field", "1")])),
    ] {
        let actions = with_control([send_headers_frame(REQUEST, true, fields)]);
        cases.push(case(name, section, actions, Want::Stream(MESSAGE)));
    }
    let upper = fields("", &[("X-Upper", "1")]);
    cases.push(case(
        "name in capitals",
        "4.2",
        with_control([send_headers_frame_literal(REQUEST, true, upper)]),
        Want::Stream(MESSAGE),
    ));
    for (name, length, content) in [
        ("content shorter than its length", "5", &[DATA, 2, b'a', b'b'][..]),
        ("content longer than its length", "1", &[DATA, 2, b'a', b'b']),
    ] {
        let mut fields = head(host, "POST", "/echo");
        fields.push(Header::new(b"content-length", length.as_bytes()));
        let actions = with_control([
            send_headers_frame(REQUEST, false, fields),
            bytes(REQUEST, true, content),
        ]);
        cases.push(case(name, "4.1.2", actions, Want::Stream(MESSAGE)));
    }
    cases
}

fn head(host: &str, method: &str, path: &str) -> Vec<Header> {
    vec![
        Header::new(b":method", method.as_bytes()),
        Header::new(b":scheme", b"https"),
        Header::new(b":authority", host.as_bytes()),
        Header::new(b":path", path.as_bytes()),
        Header::new(b"user-agent", b"h3i"),
    ]
}

fn case(name: &'static str, section: &'static str, actions: Vec<Action>, want: Want) -> Case {
    Case {
        name,
        section,
        actions,
        want,
    }
}

/// Behind a control stream as it should be.
fn with_control(actions: impl IntoIterator<Item = Action>) -> Vec<Action> {
    let mut all = vec![bytes(CONTROL, false, &[TYPE_CONTROL, SETTINGS, 0])];
    all.extend(actions);
    all
}

fn bytes(stream_id: u64, fin_stream: bool, bytes: &[u8]) -> Action {
    Action::StreamBytes {
        stream_id,
        fin_stream,
        bytes: bytes.to_vec(),
    }
}

fn finished(stream_id: u64) -> Action {
    let event_type = StreamEventType::Finished;
    Action::Wait {
        wait_type: WaitType::StreamEvent(StreamEvent { stream_id, event_type }),
    }
}

fn goodbye() -> Action {
    Action::ConnectionClose {
        error: ConnectionError {
            is_app: true,
            error_code: 0x100,
            reason: Vec::new(),
        },
    }
}
