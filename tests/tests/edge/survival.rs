//! The daemon is killed. If this fails, an attacker who crashes it is no longer kept out, or its
//! crash takes others with it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::http3::{Client, PATIENCE, endpoint, identity, run};
use crate::reload::until;
use crate::world::{CLIENT, EDGE, HOST, World};

/// A port that is not the edge's.
const BYSTANDER: u16 = 7000;

fn exchange(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"ping").unwrap();
    let mut heard = [0; 4];
    server.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"ping");
}

#[test]
fn a_killed_daemon_leaves_the_deny_list_and_nothing_else() {
    let Some(mut world) = World::start() else { return };
    let listener = world
        .edge
        .enter(|| TcpListener::bind((EDGE[0], BYSTANDER)).unwrap())
        .unwrap();
    let mut bystander = world.connect(EDGE[0], BYSTANDER).unwrap();
    let mut accepted = listener.accept().unwrap().0;

    world.control("deny", &["add", CLIENT[0]]);
    assert_eq!(world.connect(EDGE[0], 443).unwrap_err().kind(), ErrorKind::TimedOut);
    until("the operator sees whom the dropped packets came from", || {
        let sources = world.control("top-sources", &[]);
        sources
            .lines()
            .any(|line| line.starts_with(&format!("{}\tdenied\t", CLIENT[0])))
    });

    world.daemon.kill().unwrap();
    // Nobody listens any more: without the program the kernel would refuse.
    assert_eq!(world.connect(EDGE[0], 443).unwrap_err().kind(), ErrorKind::TimedOut);
    // Who is not denied meets the kernel.
    assert_eq!(
        world.connect(EDGE[1], 443).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    // Other programs of the host go on, with what was open and with what is new, even for the
    // denied.
    exchange(&mut bystander, &mut accepted);
    let mut fresh = world.connect(EDGE[0], BYSTANDER).unwrap();
    exchange(&mut fresh, &mut listener.accept().unwrap().0);

    world.restart();
    world.wait_ready(EDGE[1]);
    assert_eq!(world.connect(EDGE[0], 443).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(world.control("deny", &["list"]).contains(CLIENT[0]));
    exchange(&mut bystander, &mut accepted);
    world.control("deny", &["del", CLIENT[0]]);
    let answer = world.get(EDGE[0]);
    assert!(answer.status.success() && answer.stdout == b"the page\n", "{answer:?}");
}

/// Who is denied in an emergency goes on over the connections that it has, for hours.
#[test]
fn a_denied_clients_connections_are_cut_if_asked() {
    let Some(world) = World::start() else { return };
    let mut kept = world.connect(EDGE[0], 80).unwrap();
    let mut neighbour = world.connect(EDGE[1], 80).unwrap();
    for stream in [&mut kept, &mut neighbour] {
        ask(stream).unwrap();
    }
    run(async {
        let address = EDGE[0].parse().unwrap();
        let client = endpoint(&world, "0.0.0.0:0");
        let http3 = Client::dial(&client, identity(&world), EDGE[0], HOST).await.unwrap();
        assert_eq!(http3.connection.remote_address(), SocketAddr::new(address, 443));
        // By itself a denial leaves what exists.
        world.control("deny", &["add", CLIENT[0]]);
        ask(&mut kept).unwrap();
        assert!(http3.connection.close_reason().is_none());
        let said = world.control("deny", &["add", CLIENT[0], "--cut"]);
        assert!(said.contains("connections cut: 2"), "{said}");
        let closed = tokio::time::timeout(PATIENCE, http3.connection.closed()).await;
        assert!(closed.is_ok(), "the HTTP/3 connection goes on");
    });
    assert!(ask(&mut kept).is_err(), "the connection goes on");
    ask(&mut neighbour).unwrap();
}

/// One request on a connection that stays open.
fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.trim().parse().unwrap());
    stream.read_exact(&mut vec![0; length])
}
