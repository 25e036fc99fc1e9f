//! HTTP/3 against other hands than quinn's and h3's: aioquic's, and those of clients that break the
//! protocol. If this fails, somebody's clients cannot talk to us, or a broken one is not told what
//! it did wrong.

use std::time::Duration;

use edge_testbed::process;

use crate::checkout;
use crate::http3::{PATIENCE, endpoint, identity, run};
use crate::world::{EDGE, HOST, World};

/// What aioquic gets for these paths, a line each; `None`, and why, where there is no aioquic.
fn aioquic(world: &World, address: &str, paths: &[&str]) -> Option<Vec<String>> {
    let python = checkout::root().join("target/tools/aioquic/bin/python");
    if !python.exists() {
        eprintln!("SKIPPED: no aioquic, `cargo xtask setup test` installs it (PyPI)");
        return None;
    }
    let mut command = world.client.command(python).unwrap();
    command
        .arg(checkout::root().join("tests/tests/edge/h3_client.py"))
        .args([address, HOST])
        .arg(world.file("ca.pem"))
        .args(paths);
    let output = process::output(&mut command, Duration::from_secs(60)).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.lines().map(str::to_owned).collect())
}

/// Another implementation of QUIC and HTTP/3 gets its pages, over both families, and by the
/// kernel's Retry.
#[test]
fn aioquic_gets_its_pages() {
    let Some(world) = World::start() else { return };
    let page = format!("200 9 {}", data(b"the page\n"));
    let expected = |lines: &[String]| {
        assert_eq!(lines[0], page);
        assert!(lines[1].starts_with("404 "), "{lines:?}");
        assert!(lines[2].starts_with("405 "), "{lines:?}");
        assert_eq!(lines[3], page);
    };
    let paths = ["/", "/none", "POST:/", "/"];
    for address in EDGE {
        let Some(lines) = aioquic(&world, address, &paths) else {
            return;
        };
        expected(&lines);
    }
    world.control("lockdown", &["on"]);
    for address in EDGE {
        expected(&aioquic(&world, address, &paths).unwrap());
    }
    let metrics = world.metrics();
    let answered = metrics
        .lines()
        .find_map(|line| line.strip_prefix("edge_dataplane_packets_total{verdict=\"answer\",reason=\"retry\"} "));
    assert!(answered.is_some_and(|count| count != "0"), "{answered:?}");
}

fn data(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Frames of a client: on a unidirectional stream, or on a request's.
enum On {
    Uni(&'static [u8]),
    /// The second part when the first one has been read; none ends the stream.
    Slowly(&'static [u8], &'static [u8]),
    Request(&'static [u8]),
}

/// Long enough for what was sent to be read.
const READ: Duration = Duration::from_millis(200);

/// Sends frames, and keeps their streams open.
async fn send(connection: &quinn::Connection, frames: Vec<On>) -> Vec<quinn::SendStream> {
    let mut open = Vec::new();
    for on in frames {
        match on {
            On::Uni(bytes) => {
                let mut stream = connection.open_uni().await.unwrap();
                let _ = stream.write_all(bytes).await;
                open.push(stream);
            }
            On::Slowly(first, second) => {
                let mut stream = connection.open_uni().await.unwrap();
                let _ = stream.write_all(first).await;
                tokio::time::sleep(READ).await;
                if second.is_empty() {
                    let _ = stream.finish();
                } else {
                    let _ = stream.write_all(second).await;
                }
                open.push(stream);
            }
            On::Request(bytes) => {
                let (mut stream, _) = connection.open_bi().await.unwrap();
                let _ = stream.write_all(bytes).await;
                let _ = stream.finish();
                open.push(stream);
            }
        }
    }
    open
}

/// RFC 9114 section 8.1 and RFC 9204 section 6: each fault has its code, and ends the connection.
#[test]
fn broken_frames_get_their_codes() {
    let Some(world) = World::start() else { return };
    // An empty SETTINGS frame on the control stream.
    const CONTROL: On = On::Uni(&[0x00, 0x04, 0x00]);
    let cases: Vec<(&str, Vec<On>, u64)> = vec![
        (
            "the control stream begins with DATA",
            vec![On::Uni(&[0x00, 0x00, 0x00])],
            0x10a,
        ),
        ("two control streams", vec![CONTROL, CONTROL], 0x103),
        ("two SETTINGS", vec![On::Uni(&[0x00, 0x04, 0x00, 0x04, 0x00])], 0x105),
        (
            "a setting of HTTP/2",
            vec![On::Uni(&[0x00, 0x04, 0x02, 0x02, 0x00])],
            0x109,
        ),
        (
            "DATA before HEADERS",
            vec![CONTROL, On::Request(&[0x00, 0x01, b'x'])],
            0x105,
        ),
        (
            "SETTINGS on a request's stream",
            vec![CONTROL, On::Request(&[0x04, 0x00])],
            0x105,
        ),
        (
            "a field section that refers to nothing",
            vec![CONTROL, On::Request(&[0x01, 0x03, 0x00, 0x00, 0xff])],
            0x200,
        ),
        (
            "a frame of HTTP/2",
            vec![On::Uni(&[0x00, 0x04, 0x00, 0x06, 0x00])],
            0x105,
        ),
        (
            "the encoder's stream ends",
            vec![CONTROL, On::Slowly(&[0x02], &[])],
            0x104,
        ),
        (
            "the decoder's stream ends",
            vec![CONTROL, On::Slowly(&[0x03, 0x44], &[])],
            0x104,
        ),
        (
            "an insertion into no table",
            vec![CONTROL, On::Slowly(&[0x02, 0x20], &[0x43, b'a', b'b', b'c', 0x00])],
            0x201,
        ),
        (
            "an acknowledgement of nothing",
            vec![CONTROL, On::Slowly(&[0x03], &[0x80])],
            0x202,
        ),
    ];
    run(async {
        let endpoint = endpoint(&world, "0.0.0.0:0");
        let mut wrong = Vec::new();
        for (what, sent, expected) in cases {
            let remote = std::net::SocketAddr::new(EDGE[0].parse().unwrap(), 443);
            let connection = endpoint
                .connect_with(identity(&world), remote, HOST)
                .unwrap()
                .await
                .unwrap();
            let _open = send(&connection, sent).await;
            let closed = tokio::time::timeout(PATIENCE, connection.closed()).await;
            match &closed {
                Ok(quinn::ConnectionError::ApplicationClosed(close)) if close.error_code.into_inner() == expected => {}
                other => wrong.push(format!("{what}: {other:?}, not {expected:#x}")),
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}
