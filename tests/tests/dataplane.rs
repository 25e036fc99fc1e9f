//! The data plane on real interfaces: veth pairs between network namespaces, TCP connections as
//! clients make them. What is proven here is what an operator counts on when daemons are restarted,
//! upgraded, killed and removed. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edge::config::{self, XdpMode};
use edge::dataplane::{Added, Dataplane, Error, Mode, Offer, Penalties, detach};
use edge_testbed::netns::{End, Netns, veth};
use edge_testbed::pins::Pins;
use edge_testbed::privilege::root;
use edge_testbed::test_run::{Program, verdict};

const PORT: u16 = 443;
/// Longer than a connection over a veth pair ever takes, shorter than the second try of a SYN that
/// was dropped.
const PATIENCE: Duration = Duration::from_millis(400);

/// An edge and a client with several addresses, a veth pair between them, and a pin directory.
struct World {
    edge: Netns,
    client: Netns,
    pins: Pins,
}

impl World {
    fn new() -> Self {
        let edge = Netns::create("dpe").unwrap();
        let client = Netns::create("dpc").unwrap();
        let world = Self {
            edge,
            client,
            pins: Pins::prepare("test").unwrap(),
        };
        world.wire();
        world
    }

    fn wire(&self) {
        let left = End {
            netns: &self.edge,
            interface: "edge.0",
            addresses: &["10.77.0.1/24", "fd77::1/64"],
        };
        let addresses = [
            "10.77.0.2/24",
            "10.77.0.3/24",
            "10.77.0.4/24",
            "fd77::2/64",
            "fd77::3/64",
        ];
        let right = End {
            netns: &self.client,
            interface: "wan",
            addresses: &addresses,
        };
        veth(&left, &right).unwrap();
    }

    fn config(&self, deny: &[&str]) -> config::Dataplane {
        config::Dataplane {
            interfaces: vec!["edge.0".into()],
            mode: XdpMode::Native,
            pin_directory: self.pins.path().to_owned(),
            tcp_ports: vec![PORT],
            udp_ports: vec![PORT],
            addresses: vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()],
            allow: Vec::new(),
            deny: deny.iter().map(|text| text.parse().unwrap()).collect(),
            deny_entries: 100,
            state_directory: None,
            syn_cookies: true,
            databases: Vec::new(),
            groups: config::Groups::default(),
            nat64: Vec::new(),
            penalty_entries: 1024,
            event_sample: 0,
        }
    }

    fn start(&self, config: &config::Dataplane) -> Result<Dataplane, Error> {
        self.edge.enter(|| Dataplane::start(config)).unwrap()
    }

    fn listen(&self, address: &str) -> TcpListener {
        let address: IpAddr = address.parse().unwrap();
        self.edge.enter(|| TcpListener::bind((address, PORT))).unwrap().unwrap()
    }

    /// Tries to connect from one of the client's addresses.
    fn connect(&self, source: &str) -> Option<TcpStream> {
        let source: IpAddr = source.parse().unwrap();
        let edge: IpAddr = if source.is_ipv4() { "10.77.0.1" } else { "fd77::1" }.parse().unwrap();
        self.client
            .enter(|| {
                let domain = if source.is_ipv4() {
                    socket2::Domain::IPV4
                } else {
                    socket2::Domain::IPV6
                };
                let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
                socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
                socket
                    .connect_timeout(&SocketAddr::new(edge, PORT).into(), PATIENCE)
                    .ok()?;
                Some(socket.into())
            })
            .unwrap()
    }

    fn attached(&self) -> bool {
        self.edge
            .ip(&["link", "show", "dev", "edge.0"])
            .unwrap()
            .contains("prog/xdp")
    }
}

fn packets(dataplane: &Dataplane, reason: u32) -> u64 {
    let counts = dataplane.counters().unwrap();
    counts.iter().find(|count| count.reason == reason).unwrap().packets
}

fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn denied_clients_cannot_connect_and_others_can() {
    if !root() {
        return;
    }
    let world = World::new();
    let _listeners = (world.listen("10.77.0.1"), world.listen("fd77::1"));
    let dataplane = world.start(&world.config(&["10.77.0.3/32", "fd77::3/128"])).unwrap();
    let interfaces = dataplane.interfaces();
    let [interface] = &interfaces[..] else {
        panic!("{interfaces:?}")
    };
    assert_eq!(
        (interface.name.as_str(), interface.mode, interface.taken_over),
        ("edge.0", Mode::Native, false)
    );
    assert!(world.attached());
    for (source, admitted) in [
        ("10.77.0.2", true),
        ("10.77.0.3", false),
        ("fd77::2", true),
        ("fd77::3", false),
    ] {
        assert_eq!(world.connect(source).is_some(), admitted, "{source}");
    }
    assert!(packets(&dataplane, edge_common::DROP_DENIED) >= 2);
    assert!(packets(&dataplane, edge_common::PASS_ESTABLISHED) >= 2);
    assert_eq!(
        dataplane.lists().add("10.77.0.0/24".parse().unwrap()).unwrap(),
        Added::Denied
    );
    assert!(world.connect("10.77.0.2").is_none(), "denied at run time");
    dataplane.lists().delete("10.77.0.0/24".parse().unwrap()).unwrap();
    assert!(world.connect("10.77.0.2").is_some());
}

#[test]
fn a_restart_takes_over_links_counters_and_run_time_entries() {
    if !root() {
        return;
    }
    let world = World::new();
    let _listener = world.listen("10.77.0.1");
    let first = world.start(&world.config(&["10.77.0.3/32"])).unwrap();
    first.lists().add("10.77.0.4/32".parse().unwrap()).unwrap();
    assert!(world.connect("10.77.0.3").is_none());
    let before = packets(&first, edge_common::DROP_DENIED);
    assert!(before > 0);
    let second = world.start(&world.config(&[]));
    assert!(
        matches!(second, Err(Error::Owned { .. })),
        "two daemons on one pin directory"
    );
    drop(first);
    assert!(world.attached(), "the program stays without its daemon");
    assert!(world.connect("10.77.0.3").is_none());

    // The file no longer denies .3.
    let second = world.start(&world.config(&[])).unwrap();
    assert!(second.interfaces()[0].taken_over);
    assert!(packets(&second, edge_common::DROP_DENIED) > before);
    assert!(world.connect("10.77.0.3").is_some(), "entries that left the file go");
    assert!(world.connect("10.77.0.4").is_none(), "run-time entries stay");
    drop(second);

    // Another capacity: new maps, same entries.
    let mut config = world.config(&["10.77.0.3/32"]);
    config.deny_entries = 200;
    let third = world.start(&config).unwrap();
    assert!(world.connect("10.77.0.3").is_none());
    assert!(world.connect("10.77.0.4").is_none());
    let listed = third.lists().list();
    assert_eq!(listed.iter().filter(|denied| denied.runtime).count(), 1);
    // What is pinned is what the program uses.
    third.lists().add("10.77.0.2/32".parse().unwrap()).unwrap();
    assert!(world.connect("10.77.0.2").is_none());
    assert!(
        !files(&world.pins.path().join("v2"))
            .iter()
            .any(|name| name.ends_with("_new"))
    );
}

/// While daemons come and go, a denied client tries without pause, and never gets in.
#[test]
fn no_packet_slips_through_a_swap() {
    if !root() {
        return;
    }
    let world = World::new();
    let _listener = world.listen("10.77.0.1");
    let config = world.config(&["10.77.0.3/32"]);
    let first = world.start(&config).unwrap();
    let before = packets(&first, edge_common::DROP_DENIED);
    drop(first);
    let done = AtomicBool::new(false);
    let last = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            world.client.enter(|| {
                let edge: SocketAddr = "10.77.0.1:443".parse().unwrap();
                let mut sockets = std::collections::VecDeque::new();
                while !done.load(Ordering::Relaxed) {
                    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                    socket
                        .bind(&"10.77.0.3:0".parse::<SocketAddr>().unwrap().into())
                        .unwrap();
                    socket.set_nonblocking(true).unwrap();
                    let _ = socket.connect(&edge.into());
                    sockets.push_back(socket);
                    if sockets.len() > 200 {
                        let oldest = sockets.pop_front().unwrap();
                        assert!(oldest.peer_addr().is_err(), "a denied client is connected");
                    }
                    std::thread::sleep(Duration::from_micros(100));
                }
                std::thread::sleep(Duration::from_millis(50));
                assert!(
                    sockets.iter().all(|socket| socket.peer_addr().is_err()),
                    "a denied client is connected"
                );
            })
        });
        /// Ends the flood also where a start fails, or nobody would hear of that.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let end = End(&done);
        let mut last = None;
        for round in 0..12 {
            drop(last.take());
            let mut config = config.clone();
            // Now and then the maps are replaced too.
            config.deny_entries += round % 2;
            last = Some(world.start(&config).unwrap());
        }
        drop(end);
        flood.join().unwrap().unwrap();
        last.unwrap()
    });
    assert!(packets(&last, edge_common::DROP_DENIED) > before, "the client did try");
}

/// Runs as the victim of the next test, in a process of its own.
#[test]
fn a_daemon_for_another_test() {
    let Ok(arguments) = std::env::var("EDGE_TEST_DAEMON") else {
        return;
    };
    let (pins, deny) = arguments.split_once(' ').unwrap();
    let config = config::Dataplane {
        interfaces: vec!["edge.0".into()],
        mode: XdpMode::Native,
        pin_directory: pins.into(),
        tcp_ports: vec![PORT],
        udp_ports: vec![PORT],
        addresses: vec!["0.0.0.0".parse().unwrap()],
        allow: Vec::new(),
        deny: vec![deny.parse().unwrap()],
        deny_entries: 100,
        state_directory: None,
        syn_cookies: true,
        databases: Vec::new(),
        groups: config::Groups::default(),
        nat64: Vec::new(),
        penalty_entries: 1024,
        event_sample: 0,
    };
    let _dataplane = Dataplane::start(&config).unwrap();
    println!("started");
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_daemon_leaves_its_verdicts_and_the_next_one_takes_over() {
    if !root() {
        return;
    }
    let world = World::new();
    let listener = world.listen("10.77.0.1");
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = world.edge.command(std::env::current_exe().unwrap()).unwrap();
    command
        .args(["--exact", "a_daemon_for_another_test", "--nocapture"])
        .env(
            "EDGE_TEST_DAEMON",
            format!("{} 10.77.0.3/32", world.pins.path().display()),
        );
    let mut daemon = edge_testbed::process::Process::spawn(&mut command, log.path()).unwrap();
    daemon.wait_line("started", Duration::from_secs(20)).unwrap();
    let mut client = world.connect("10.77.0.2").unwrap();
    let (mut served, _) = listener.accept().unwrap();
    assert!(world.connect("10.77.0.3").is_none());

    daemon.kill().unwrap();
    assert!(world.attached());
    assert!(world.connect("10.77.0.3").is_none(), "still denied");
    assert!(world.connect("10.77.0.2").is_some(), "still admitted");
    let mut echo = |text: &[u8]| {
        client.write_all(text).unwrap();
        let mut buffer = vec![0; text.len()];
        served.read_exact(&mut buffer).unwrap();
        assert_eq!(buffer, text);
    };
    echo(b"across the kill");

    let next = world.start(&world.config(&["10.77.0.2/32", "10.77.0.3/32"])).unwrap();
    assert!(next.interfaces()[0].taken_over);
    assert!(world.connect("10.77.0.2").is_none());
    echo(b"established connections pass, denied or not");
}

#[test]
fn detach_removes_everything_whatever_is_left() {
    if !root() {
        return;
    }
    let world = World::new();
    let root = world.pins.path().to_owned();
    assert!(!detach(&root, false).unwrap(), "nothing there yet");
    drop(world.start(&world.config(&["10.77.0.3/32"])).unwrap());
    assert!(world.attached());
    assert!(detach(&root, false).unwrap());
    assert!(!root.exists());
    let deadline = Instant::now() + Duration::from_secs(5);
    while world.attached() {
        assert!(Instant::now() < deadline, "still attached");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!detach(&root, false).unwrap());
    assert!(matches!(Penalties::open(&root), Err(Error::NotPinned { .. })));

    // Half of it, as after a kill in the middle of a start; and maps of a version to come.
    drop(world.start(&world.config(&[])).unwrap());
    std::fs::remove_file(root.join("v2/V6_PREFIX")).unwrap();
    std::fs::rename(root.join("v2/V4"), root.join("v2/V4_new")).unwrap();
    std::fs::create_dir(root.join("v99")).unwrap();
    std::fs::rename(root.join("v2/COUNTERS"), root.join("v99/COUNTERS")).unwrap();
    let dataplane = world.start(&world.config(&["10.77.0.3/32"])).unwrap();
    assert!(!root.join("v99").exists(), "maps of other versions go after the swap");
    assert!(dataplane.interfaces()[0].taken_over);
    drop(dataplane);
    std::fs::remove_file(root.join("v2/CONFIG")).unwrap();
    assert!(detach(&root, false).unwrap());
    assert!(!root.exists());
}

#[test]
fn an_interface_made_anew_is_attached_anew() {
    if !root() {
        return;
    }
    let world = World::new();
    let _first = world.listen("10.77.0.1");
    drop(world.start(&world.config(&["10.77.0.3/32"])).unwrap());
    world.edge.ip(&["link", "del", "edge.0"]).unwrap();
    let error = world.start(&world.config(&[])).unwrap_err();
    assert!(matches!(error, Error::UnknownInterface { .. }));
    let message = error.to_string();
    assert!(message.contains("`edge.0`") && message.contains("lo"), "{message}");
    world.wire();
    let dataplane = world.start(&world.config(&["10.77.0.3/32"])).unwrap();
    assert!(!dataplane.interfaces()[0].taken_over);
    assert!(world.connect("10.77.0.3").is_none());
    assert_eq!(
        files(&world.pins.path().join("links")).len(),
        1,
        "the dead link is gone"
    );
}

/// Whether something becomes so within the time that an operator is promised.
fn soon(mut so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// A driver that is loaded again, or a program that another tool took off, would leave the node
/// open without a word.
#[test]
fn what_has_lost_the_program_is_attached_again_and_said_meanwhile() {
    if !root() {
        return;
    }
    let world = World::new();
    let _first = world.listen("10.77.0.1");
    let mut config = world.config(&["10.77.0.3/32"]);
    config.mode = XdpMode::Auto;
    let dataplane = world.start(&config).unwrap();
    let links = dataplane.links().clone();
    assert_eq!((links.attached().len(), links.missing().len()), (1, 0));
    let index = links.attached()[0].index;

    world.edge.ip(&["link", "del", "edge.0"]).unwrap();
    assert!(soon(|| links.missing().len() == 1), "nobody has noticed");
    let open = &links.missing()[0];
    assert!(
        open.name == "edge.0" && open.reason.contains("no network interface"),
        "{open:?}"
    );
    world.wire();
    assert!(
        soon(|| links.attached().first().is_some_and(|link| link.index != index)),
        "not attached again"
    );
    assert!(links.missing().is_empty());
    assert!(world.connect("10.77.0.3").is_none());
    assert!(soon(|| world.connect("10.77.0.2").is_some()));
    assert_eq!(
        files(&world.pins.path().join("links")).len(),
        1,
        "the dead link is gone"
    );

    // The last handle on the link: the kernel takes the program off.
    let pinned = world
        .pins
        .path()
        .join("links")
        .join(&files(&world.pins.path().join("links"))[0]);
    std::fs::remove_file(pinned).unwrap();
    assert!(soon(
        || world.attached() && !files(&world.pins.path().join("links")).is_empty()
    ));
    assert!(world.connect("10.77.0.3").is_none());

    let mut registry = prometheus_client::registry::Registry::default();
    registry.register_collector(Box::new(links.metrics()));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(
        text.contains("edge_dataplane_attached{interface=\"edge.0\"} 1\n"),
        "{text}"
    );
}

/// An address that the machine gets later must be judged, too, and what is only forwarded must not.
#[test]
fn addresses_are_the_nodes_as_long_as_the_machine_has_them() {
    if !root() {
        return;
    }
    let world = World::new();
    let _listener = world
        .edge
        .enter(|| TcpListener::bind(("0.0.0.0", PORT)))
        .unwrap()
        .unwrap();
    let dataplane = world.start(&world.config(&["10.77.0.3/32"])).unwrap();
    let dropped = || packets(&dataplane, edge_common::DROP_DENIED);
    let try_at = |address: &str| {
        let address = SocketAddr::new(address.parse().unwrap(), PORT);
        let tried = world.client.enter(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket
                .bind(&"10.77.0.3:0".parse::<SocketAddr>().unwrap().into())
                .unwrap();
            socket.connect_timeout(&address.into(), PATIENCE).is_ok()
        });
        tried.unwrap()
    };
    assert!(!try_at("10.77.0.1") && dropped() > 0);
    world
        .client
        .ip(&["route", "add", "10.78.0.0/16", "via", "10.77.0.1"])
        .unwrap();
    let before = dropped();
    let _ = try_at("10.78.0.9");
    assert_eq!(dropped(), before, "an attempt at somebody else's address");
    world
        .edge
        .ip(&["addr", "add", "10.78.0.9/32", "dev", "edge.0"])
        .unwrap();
    assert!(
        soon(|| !try_at("10.78.0.9") && dropped() > before),
        "a new address is not judged"
    );
}

/// What `ss` says of the accepted connection from this address.
fn options(world: &World, client: SocketAddr) -> String {
    let told = world
        .edge
        .command("ss")
        .unwrap()
        .args(["-tinH", "state", "established"])
        .output()
        .unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.contains(&format!(":{}", client.port())))
        .unwrap();
    lines[at + 1].to_owned()
}

/// The options that a connection's handshake has settled, as TCP_INFO tells them.
fn negotiated(stream: &TcpStream) -> u8 {
    // SAFETY: integers alone, for which zeroes are a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).unwrap();
    // SAFETY: the kernel writes at most `length` bytes, which `info` has.
    let done = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    assert_eq!(done, 0);
    info.tcpi_options
}

/// A flood would be held, and with it every client: the listener must take the answers for its own,
/// with all that makes a connection fast, and the system must be as before when it is over.
#[test]
fn syns_are_answered_with_cookies_that_the_listener_accepts() {
    if !root() {
        return;
    }
    let world = World::new();
    // One end of a veth pair takes the other end's answers only if it has a program, too.
    let passing = Program::bare(verdict::PASS).unwrap();
    let _end = {
        let wan = world.client.index("wan").unwrap();
        world.client.enter(|| passing.attach(wan)).unwrap().unwrap()
    };
    let listeners = [
        ("10.77.0.2", world.listen("10.77.0.1")),
        ("fd77::2", world.listen("fd77::1")),
    ];
    let dataplane = world.start(&world.config(&["10.77.0.3/32"])).unwrap();
    let setting = |name: &str| {
        let path = format!("/proc/sys/net/ipv4/{name}");
        world
            .edge
            .enter(|| std::fs::read_to_string(path))
            .unwrap()
            .unwrap()
            .trim()
            .to_owned()
    };
    let names = ["tcp_syncookies", "tcp_timestamps"];
    let before = names.map(setting);
    let offer = world.edge.enter(|| dataplane.cookies().raise(1_500)).unwrap().unwrap();
    assert_eq!(offer, Offer::Options);
    assert_eq!(names.map(setting), ["2", "2"]);
    dataplane.switch_lockdown(true).unwrap();
    for (n, (source, listener)) in (1..).zip(&listeners) {
        let mut client = world.connect(source).unwrap();
        assert_eq!(packets(&dataplane, edge_common::ANSWER_COOKIE), n, "{source}");
        let (mut accepted, _) = listener.accept().unwrap();
        let told = options(&world, client.local_addr().unwrap());
        // Timestamps, selective acknowledgements, window scale: <linux/tcp.h>, TCPI_OPT_*.
        assert_eq!(negotiated(&accepted) & 7, 7, "{source}: {told}");
        // The scale that the client was told is the one that the listener reckons with.
        let scales = |text: &str| {
            let (_, rest) = text.split_once("wscale:").unwrap();
            let (a, b) = rest.split_whitespace().next().unwrap().split_once(',').unwrap();
            (a.to_owned(), b.to_owned())
        };
        let theirs = world
            .client
            .command("ss")
            .unwrap()
            .args(["-tinH", "state", "established"])
            .output()
            .unwrap();
        let (a, b) = scales(&told);
        assert_eq!(scales(&String::from_utf8(theirs.stdout).unwrap()), (b, a));
        let sent: Vec<u8> = (0..2_000_000_u32).map(|n| n as u8).collect();
        let upload = sent.clone();
        let sender = std::thread::spawn(move || {
            client.write_all(&upload).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let mut back = Vec::new();
            client.read_to_end(&mut back).unwrap();
            back
        });
        let mut got = Vec::new();
        accepted.read_to_end(&mut got).unwrap();
        assert!(got == sent);
        accepted.write_all(&got).unwrap();
        drop(accepted);
        assert!(sender.join().unwrap() == sent);
    }
    assert!(world.connect("10.77.0.3").is_none(), "the deny list holds");
    let no_listener = world
        .client
        .enter(|| TcpStream::connect_timeout(&"10.77.0.1:80".parse().unwrap(), PATIENCE));
    assert!(no_listener.unwrap().is_err());

    // A daemon that was killed leaves the note; what comes next puts the settings back.
    drop(dataplane);
    let next = world.start(&world.config(&[])).unwrap();
    assert!(next.cookies().is_on().unwrap());
    next.cookies().lower().unwrap();
    assert_eq!(names.map(setting), ["2", "2"], "answers may be on their way");
    world.edge.enter(|| next.cookies().restore()).unwrap().unwrap();
    assert_eq!(names.map(setting), before);
    assert!(world.connect("10.77.0.2").is_some());
    world.edge.enter(|| next.cookies().raise(1_500)).unwrap().unwrap();
    drop(next);
    assert!(world.edge.enter(|| detach(world.pins.path(), false)).unwrap().unwrap());
    assert_eq!(names.map(setting), before, "detach puts them back, too");
}

/// One slip, and the node would run open and call itself protected.
#[test]
fn a_running_daemons_pins_are_removed_by_force_only() {
    if !root() {
        return;
    }
    let world = World::new();
    let _first = world.listen("10.77.0.1");
    let dataplane = world.start(&world.config(&["10.77.0.3/32"])).unwrap();
    let root = world.pins.path();
    let error = detach(root, false).unwrap_err();
    assert!(
        matches!(error, Error::InUse { .. }) && error.to_string().contains("--force"),
        "{error}"
    );
    assert!(world.attached() && world.connect("10.77.0.3").is_none());
    assert!(detach(root, true).unwrap());
    assert!(soon(|| !dataplane.links().missing().is_empty()));
    let open = &dataplane.links().missing()[0];
    assert!(open.reason.contains("--force"), "{open:?}");
    assert!(!world.attached());
}

/// In mode `auto` one device that refuses must not keep the node from starting; in the others it
/// must.
#[test]
fn a_device_that_cannot_be_read_is_left_open_or_refused() {
    if !root() {
        return;
    }
    let world = World::new();
    if world
        .edge
        .ip(&[
            "link",
            "add",
            "gre7",
            "type",
            "gre",
            "local",
            "10.77.0.1",
            "remote",
            "10.77.0.2",
        ])
        .is_err()
    {
        println!("SKIPPED: no GRE here");
        return;
    }
    let mut config = world.config(&[]);
    config.interfaces = vec!["edge.0".into(), "gre7".into()];
    let error = world.start(&config).unwrap_err();
    assert!(matches!(error, Error::Header { kind: 778, .. }), "{error}");
    config.mode = XdpMode::Auto;
    let dataplane = world.start(&config).unwrap();
    let missing = dataplane.links().missing();
    assert_eq!(missing.iter().map(|open| &*open.name).collect::<Vec<_>>(), ["gre7"]);
}

#[test]
fn modes_fall_back_change_and_end() {
    if !root() {
        return;
    }
    let world = World::new();
    let mut config = world.config(&["10.77.0.3/32"]);
    let _listener = world.listen("10.77.0.1");

    config.mode = XdpMode::Off;
    assert!(matches!(world.start(&config), Err(Error::Off)));

    // The loopback driver knows no XDP.
    config.interfaces = vec!["edge.0".into(), "lo".into()];
    config.mode = XdpMode::Native;
    let error = world.start(&config).unwrap_err().to_string();
    assert!(
        error.contains("`lo` in native mode") && error.contains("--xdp auto"),
        "{error}"
    );
    config.mode = XdpMode::Auto;
    let dataplane = world.start(&config).unwrap();
    let modes: Vec<_> = dataplane.interfaces().iter().map(|interface| interface.mode).collect();
    assert_eq!(modes, [Mode::Native, Mode::Generic]);
    drop(dataplane);

    config.mode = XdpMode::Generic;
    let dataplane = world.start(&config).unwrap();
    assert!(
        dataplane
            .interfaces()
            .iter()
            .all(|interface| interface.mode == Mode::Generic)
    );
    assert!(world.connect("10.77.0.3").is_none());
    assert!(world.connect("10.77.0.2").is_some());
    drop(dataplane);

    config.interfaces = vec!["lo".into()];
    let dataplane = world.start(&config).unwrap();
    assert_eq!(dataplane.interfaces().len(), 1);
    assert!(!world.attached(), "an interface that left the file is let go");
}

#[test]
fn somebody_elses_program_is_left_alone() {
    if !root() {
        return;
    }
    let world = World::new();
    let theirs = Pins::prepare("test").unwrap();
    let mut config = world.config(&[]);
    config.pin_directory = theirs.path().to_owned();
    let _theirs = world.start(&config).unwrap();
    let error = world.start(&world.config(&[])).unwrap_err();
    assert!(matches!(error, Error::Occupied { .. }), "{error}");
    assert!(error.to_string().contains("ip link set dev edge.0 xdp off"));
}
