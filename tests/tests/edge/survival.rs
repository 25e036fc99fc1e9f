//! The daemon is killed. If this fails, an attacker who crashes it is no longer kept out, or its crash takes others with it.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::world::{CLIENT, EDGE, World};

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

    world.daemon.kill().unwrap();
    // Nobody listens any more: without the program the kernel would refuse.
    assert_eq!(world.connect(EDGE[0], 443).unwrap_err().kind(), ErrorKind::TimedOut);
    // Who is not denied meets the kernel.
    assert_eq!(
        world.connect(EDGE[1], 443).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    // Other programs of the host go on, with what was open and with what is new, even for the denied.
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
