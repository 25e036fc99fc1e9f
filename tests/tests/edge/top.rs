//! `edge top` on a running daemon. If this fails, an operator over SSH sees wrong figures, or is
//! left with a terminal that shows nothing of what they type.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use rustix::process::Signal;

use crate::checkout;
use crate::reload::until;
use crate::world::{EDGE, World};

/// A row of that pane, by its first word.
fn row<'a>(text: &'a str, pane: &str, name: &str) -> Vec<&'a str> {
    let pane = text.split("\n\n").find(|part| part.starts_with(pane)).unwrap_or(text);
    let row = pane.lines().find(|line| line.split_whitespace().next() == Some(name));
    row.unwrap_or_else(|| panic!("no row {name} in\n{text}"))
        .split_whitespace()
        .collect()
}

#[test]
fn one_frame_as_text_and_many_in_a_terminal() {
    let Some(world) = World::start() else { return };
    world.control("penalty", &["add", "198.51.100.7"]);
    assert!(world.get(EDGE[0]).status.success());
    let text = world.control("top", &["--once"]);
    assert!(
        text.starts_with(concat!("edge ", env!("CARGO_PKG_VERSION"), "  up ")),
        "{text}"
    );
    assert!(text.lines().next().unwrap().ends_with("  ready"), "{text}");
    assert_eq!(row(&text, "Zones", "site")[1], "served");
    assert_eq!(row(&text, "Zones", "limited")[1], "served");
    assert_eq!(row(&text, "Penalties", "198.51.100.7")[1], "blocked");
    assert_ne!(row(&text, "Kernel", "attempt")[3], "0", "the client's SYN was judged");
    assert!(text.contains("No zone has a worker."), "{text}");
    // Rates are of requests that come meanwhile.
    let edge = checkout::binaries().join("edge");
    let mut top = world.edge.command(&edge).unwrap();
    let top = top
        .args(["top", "--once", "--admin", "127.0.0.1:9180"])
        .stdout(Stdio::piped());
    let mut top = top.spawn().unwrap();
    until("it ends", || {
        assert!(world.get(EDGE[0]).status.success());
        top.try_wait().unwrap().is_some()
    });
    let counted = String::from_utf8(top.wait_with_output().unwrap().stdout).unwrap();
    let rate: f64 = row(&counted, "Zones", "site")[2].parse().unwrap();
    assert!(rate > 0.0, "{counted}");

    let terminal = world.file("terminal");
    let shell = format!(
        "stty rows 24 cols 80; stty -a > {0}/before; {1} top --admin 127.0.0.1:9180; stty -a > {0}/after",
        world.file("").display(),
        edge.display()
    );
    let mut script = world.edge.command("script").unwrap();
    script
        .args(["--quiet", "--flush", "--return", "--command", &shell])
        .arg(&terminal);
    let mut script = script
        .env("TERM", "xterm")
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut keys = script.stdin.take().unwrap();
    let shown = || String::from_utf8_lossy(&fs::read(&terminal).unwrap_or_default()).into_owned();
    until("zones are shown", || shown().contains("limited"));
    keys.write_all(b"/sit\r\t").unwrap();
    until("the filter and the next pane are shown", || {
        shown().contains("filter: sit")
    });
    // A node that is gone is told of, and does not end it.
    world.daemon.signal(Signal::KILL).unwrap();
    until("the loss is told", || shown().contains("NO ANSWER"));
    keys.write_all(b"q").unwrap();
    until("it ends", || script.try_wait().unwrap().is_some());
    let modes = |name| fs::read_to_string(world.file(name)).unwrap();
    assert_eq!(modes("before"), modes("after"), "the terminal is as it was");
    let shown = shown();
    assert!(
        shown.contains("\u{1b}[?1049h") && shown.contains("\u{1b}[?1049l"),
        "{shown:?}"
    );
    assert!(
        !shown.contains("\u{1b}[0;31") && !shown.contains(";31m"),
        "NO_COLOR: {shown:?}"
    );

    let mut top = world.edge.command(edge).unwrap();
    let output = top
        .args(["top", "--once", "--admin", "127.0.0.1:9180"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("no daemon answers at 127.0.0.1:9180"), "{words}");
}
