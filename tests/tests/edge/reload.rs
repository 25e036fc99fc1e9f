//! SIGHUP and SIGTERM, on a daemon with clients. If this fails, operators cannot change or stop an
//! edge without hurting them.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::world::{CLIENT, EDGE, HOST, World};

const PATIENCE: Duration = Duration::from_secs(10);

fn signal(world: &World, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(world.daemon.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// One request on an open connection; the answer's head.
fn ask(connection: &mut TcpStream) -> String {
    write!(connection, "GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").unwrap();
    answer(connection)
}

/// Reads up to the end of the redirect's content.
fn answer(connection: &mut TcpStream) -> String {
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    let mut piece = [0; 1024];
    while !bytes.ends_with(b"Use https.\n") {
        let n = connection.read(&mut piece).unwrap();
        assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&piece[..n]);
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_reload_swaps_lists_and_refuses_mistakes_under_an_open_connection() {
    let Some(world) = World::start() else { return };
    let file = world.file("edge.toml");
    let before = fs::read_to_string(&file).unwrap();
    let mut connection = world.connect(EDGE[1], 80).unwrap();
    assert!(ask(&mut connection).starts_with("HTTP/1.1 308"));

    let denies = before.replace("xdp = ", &format!("deny = [\"{}\"]\nxdp = ", CLIENT[0]));
    fs::write(&file, &denies).unwrap();
    signal(&world, Signal::HUP);
    until("the file's deny list is in force", || {
        world.control("deny", &["list"]).contains(CLIENT[0])
    });
    assert_eq!(world.connect(EDGE[0], 443).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(ask(&mut connection).starts_with("HTTP/1.1 308"));

    fs::write(&file, denies.replace("xdp = ", "xpd = ")).unwrap();
    signal(&world, Signal::HUP);
    until("the mistake is told with its line and mend", || {
        let log = fs::read_to_string(world.file("log")).unwrap();
        log.contains("not reloaded: ") && log.contains("edge.toml:7: ") && log.contains("did you mean `xdp`?")
    });
    assert!(
        world.control("deny", &["list"]).contains(CLIENT[0]),
        "the old one is gone"
    );
    assert!(world.get(EDGE[1]).status.success());

    fs::write(&file, &before).unwrap();
    signal(&world, Signal::HUP);
    until("the denial is lifted", || {
        !world.control("deny", &["list"]).contains(CLIENT[0])
    });
    assert!(world.get(EDGE[0]).status.success());
    assert!(ask(&mut connection).starts_with("HTTP/1.1 308"));
}

/// A file that was refused drops clients all the same; or listeners that it names, and that nobody
/// opened, are what XDP judges from then on.
#[test]
fn the_kernel_keeps_to_what_is_in_force_and_open() {
    let Some(world) = World::start() else { return };
    let file = world.file("edge.toml");
    let before = fs::read_to_string(&file).unwrap();
    let log = || fs::read_to_string(world.file("log")).unwrap();
    let denies = before.replace("xdp = ", &format!("deny = [\"{}\"]\nxdp = ", CLIENT[0]));

    let spoilt = denies.replacen(
        "[zone.origin]\n",
        "[zone.gate]\npage = \"gone.html\"\n[zone.origin]\n",
        1,
    );
    assert_ne!(spoilt, denies);
    let rule = "[[zone.gate.rule]]\nmanual = { wait = \"5s\" }\n[zone.origin]\n";
    let spoilt = spoilt.replacen("[zone.origin]\n", rule, 1);
    fs::write(&file, spoilt).unwrap();
    signal(&world, Signal::HUP);
    until("the reload is refused for the page", || log().contains("gone.html"));
    assert!(!world.control("deny", &["list"]).contains(CLIENT[0]));
    assert!(
        world.get(EDGE[0]).status.success(),
        "dropped by a file that was refused"
    );

    fs::write(&file, denies.replace(":443\", \"[::]:443", ":4443\", \"[::]:4443")).unwrap();
    for times in 1..=2 {
        signal(&world, Signal::HUP);
        until("what takes a restart is told each time", || {
            log()
                .matches("server.https is not what the node was started with")
                .count()
                == times
        });
        let refused = || {
            world
                .connect(EDGE[0], 443)
                .is_err_and(|error| error.kind() == ErrorKind::TimedOut)
        };
        until("the denied client is dropped at the open port", refused);
    }
}

#[test]
fn a_drain_lets_requests_finish_and_takes_no_new_ones() {
    let Some(mut world) = World::start() else { return };
    let mut idle = world.connect(EDGE[0], 80).unwrap();
    assert!(ask(&mut idle).starts_with("HTTP/1.1 308"));
    let mut busy = world.connect(EDGE[0], 80).unwrap();
    write!(busy, "GET / HTTP/1.1\r\nHost: {HOST}\r\n").unwrap();
    // Long enough that the daemon has read it.
    std::thread::sleep(Duration::from_millis(300));

    signal(&world, Signal::TERM);
    until("new connections are refused", || {
        world
            .connect(EDGE[0], 80)
            .is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
    });
    idle.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0, "an idle connection is closed");
    busy.write_all(b"\r\n").unwrap();
    let last = answer(&mut busy);
    assert!(
        last.starts_with("HTTP/1.1 308") && last.contains("connection: close"),
        "{last}"
    );
    until("the daemon ends", || world.daemon.ended().unwrap().is_some());
    assert!(world.daemon.ended().unwrap().is_some_and(|status| status.success()));
}

/// After logrotate lines would go into the file that was renamed, and those of the last tenth of a
/// second before the end nowhere.
#[test]
fn access_lines_have_a_file_of_their_own() {
    let Some(mut world) = World::configured("", "[log]\naccess_file = \"access.log\"\n") else {
        return;
    };
    let (file, renamed) = (world.file("access.log"), world.file("access.log.1"));
    let told = |file: &std::path::Path, path: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines()
            .filter(|line| line.contains(&format!("\"path\":\"{path}\"")))
            .count()
    };
    let ask = |path: &str| {
        let mut connection = world.connect(EDGE[1], 80).unwrap();
        write!(connection, "GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").unwrap();
        answer(&mut connection);
    };
    ask("/first");
    until("the first line", || told(&file, "/first") == 1);
    fs::rename(&file, &renamed).unwrap();
    until("a new file", || {
        ask("/second");
        told(&file, "/second") > 0
    });
    ask("/last");
    signal(&world, Signal::TERM);
    until("the end", || world.daemon.ended().unwrap().is_some());
    assert_eq!((told(&file, "/last"), told(&file, "/first")), (1, 0));
}
