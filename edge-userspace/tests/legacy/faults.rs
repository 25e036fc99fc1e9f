//! Key servers that die or are silent, devices that go away: every handshake ends in time by a
//! clean alert, and leaves nothing.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::device::{Device, Inside, alert, encrypt};
use crate::world::{HERE, OLD, PATIENCE, World};

const BAD_RECORD_MAC: u8 = 20;
const INTERNAL_ERROR: u8 = 80;
const SLACK: Duration = Duration::from_secs(2);

/// An outage must be told to devices in time, whenever it comes, and be over when it is over.
#[test]
fn key_servers_that_fail() {
    let mut world = World::start();
    let encrypted = encrypt(&world, OLD, Inside::Sound, 1);
    // Silent.
    let mut device = Device::connect(&world, OLD).met();
    world.wedge();
    let start = Instant::now();
    device.send(&encrypted);
    assert_eq!(device.rest(), alert(INTERNAL_ERROR));
    assert!(
        start.elapsed() + SLACK > PATIENCE && start.elapsed() < PATIENCE + SLACK,
        "{:?}",
        start.elapsed()
    );
    // A key that is here does not care.
    let mut here = Device::connect(&world, HERE).met();
    here.send(&encrypt(&world, HERE, Inside::Sound, 1));
    assert_eq!(here.rest(), alert(BAD_RECORD_MAC));
    // Back again.
    world.bed.signal(Signal::CONT);
    world.until("served again", || {
        let mut device = Device::connect(&world, OLD).met();
        device.send(&encrypted);
        device.rest() == alert(BAD_RECORD_MAC)
    });
    // Killed while it is asked.
    let mut device = Device::connect(&world, OLD).met();
    world.wedge();
    device.send(&encrypted);
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    world.bed.child.kill().unwrap();
    world.bed.child.wait().unwrap();
    assert_eq!(device.rest(), alert(INTERNAL_ERROR));
    assert!(start.elapsed() < PATIENCE + SLACK, "{:?}", start.elapsed());
    // Counted when the edge is done, not when the device is.
    world.until("both are counted", || {
        world.count("edge_tls_handshake_failures_total{reason=\"key_server\"}") >= 2
    });
    world.until("nobody waits", || world.count("edge_tls_handshakes_waiting") == 0);
}

/// An edge that is not granted the op: devices are told, and the operator sees why.
#[test]
fn a_key_server_that_refuses() {
    let world = World::start();
    let grants = crate::bed::ALL.replace(", \"rsa-premaster\"", "");
    assert_ne!(grants, crate::bed::ALL);
    world.bed.configure(&grants);
    world.bed.signal(Signal::HUP);
    let encrypted = encrypt(&world, OLD, Inside::Sound, 1);
    world.until("refused", || {
        let mut device = Device::connect(&world, OLD).met();
        device.send(&encrypted);
        device.rest() == alert(INTERNAL_ERROR)
    });
    assert!(world.count("edge_tls_keyserver_requests_total{server=\"keys\",outcome=\"not-allowed\"}") > 0);
    let said = world.s_client(OLD, &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]);
    assert!(said.contains("HTTP/1.1 200 "), "{said}");
}

/// Devices that go away at any moment: nothing of them stays.
#[test]
fn devices_that_go_away() {
    let world = World::start();
    let encrypted = encrypt(&world, OLD, Inside::Sound, 1);
    let round = || {
        // While the key server is silent, so that all of them wait when they go.
        world.wedge();
        let mut devices: Vec<_> = (0..200).map(|_| Device::connect(&world, OLD).met()).collect();
        for device in devices.iter_mut().step_by(2) {
            device.send(&encrypted);
        }
        world.until("a hundred wait", || world.count("edge_tls_handshakes_waiting") == 100);
        drop(devices);
        world.bed.signal(Signal::CONT);
        world.until("nothing is left", || {
            world.count("edge_tls_handshakes_waiting") == 0 && world.count("edge_tls_connections") == 0
        });
    };
    round();
    let (descriptors, resident) = (world.descriptors(), world.resident());
    (0..3).for_each(|_| round());
    world.until("the descriptors are back", || world.descriptors() <= descriptors);
    let grown = world.resident().saturating_sub(resident);
    assert!(grown < 8 << 20, "{grown} bytes more after 600 devices");
    let said = world.s_client(OLD, &["-tls1_2", "-cipher", "AES128-GCM-SHA256"]);
    assert!(said.contains("HTTP/1.1 200 "), "{said}");
}

/// From before there were extensions: no name, so the default zone, which lets no such device in.
#[test]
fn a_hello_without_extensions() {
    let world = World::start();
    assert_eq!(Device::bare(&world).rest(), alert(40));
}
