//! `edge top` on a made-up node: rates, sorting, filters, and frames of 80 by 24.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use serde_json::json;

use super::board::{After, Board};
use super::draw::{self, Looks};
use super::exposition::Exposition;
use super::keys::Key;
use super::scrape::Look;
use super::table::{bytes, duration, lasting, number};
use crate::admin::Penalty;
use crate::base::penalty::{Level, Subject};

/// A node of three zones that has counted `times` the same.
fn look(pid: u64, times: u64) -> Look {
    let mut metrics = format!(
        "process_start_time_seconds {pid}\nprocess_cpu_seconds_total {}\nprocess_resident_memory_bytes 125829120\n\
         edge_gate_queue_waiting{{zone=\"shop\"}} 7\nedge_http_requests_in_flight 3\n",
        times as f64 / 4.0
    );
    let mut count = |name: &str, labels: &str, each: u64| {
        metrics.push_str(&format!("{name}{{{labels}}} {}\n", each * times));
    };
    for (zone, requests, errors) in [("shop", 200, 2), ("api", 4_000, 0), ("blog", 8, 0)] {
        let requests_total = "edge_http_requests_total";
        count(
            requests_total,
            &format!("zone=\"{zone}\",protocol=\"2\",status=\"2xx\""),
            requests - errors,
        );
        count(
            requests_total,
            &format!("zone=\"{zone}\",protocol=\"3\",status=\"5xx\""),
            errors,
        );
        for (bound, part) in [("0.01", 2), ("0.1", 1), ("+Inf", 1)] {
            let labels = format!("zone=\"{zone}\",le=\"{bound}\"");
            count("edge_http_request_duration_seconds_bucket", &labels, requests / part);
        }
    }
    count("edge_cache_requests_total", "zone=\"shop\",outcome=\"hit\"", 3);
    count("edge_cache_requests_total", "zone=\"shop\",outcome=\"miss\"", 1);
    count("edge_gate_deferred_total", "zone=\"shop\",policy=\"queue\"", 5);
    count("edge_tls_handshakes_total", "version=\"1.3\",resumed=\"false\"", 30);
    count("edge_tls_handshakes_total", "version=\"1.3\",resumed=\"true\"", 90);
    count("edge_quic_handshakes_total", "resumed=\"false\"", 12);
    count("edge_tls_keyserver_requests_total", "server=\"k\",outcome=\"ok\"", 10);
    count(
        "edge_dataplane_packets_total",
        "verdict=\"pass\",reason=\"attempt\"",
        50,
    );
    count(
        "edge_dataplane_packets_total",
        "verdict=\"drop\",reason=\"denied\"",
        20_000,
    );
    count("edge_isolate_requests_total", "zone=\"api\",start=\"warm\"", 40);
    count("edge_isolate_cpu_seconds_total", "zone=\"api\"", 1);
    count("edge_isolate_failures_total", "zone=\"api\",reason=\"trap\"", 2);
    metrics.push_str("# EOF\n");
    let zone = |name: &str, state: &str| json!({ "name": name, "state": state });
    Look {
        status: json!({
            "version": "0.1.0", "pid": pid, "uptime_seconds": 93_784, "phase": "running", "threads": 4, "connections": 1_234,
            "xdp": { "interfaces": [{ "name": "eth0", "mode": "native" }] },
            "zones": [zone("shop", "served"), zone("api", "served"), zone("blog", "out")],
            "origins": [{ "zone": "api", "servers": [
                { "address": "http://10.0.0.1:80", "healthy": true, "drained": false, "reason": null, "in_flight": 2, "weight": 1 },
                { "address": "http://10.0.0.2:80", "healthy": false, "drained": false, "reason": "\u{1b}[2Jowned", "in_flight": 0, "weight": 1 },
            ] }],
            "workers": [{ "zone": "api", "kind": "script", "active": 3 }],
        }),
        metrics: Exposition::parse(&metrics).unwrap(),
        ready: true,
        notes: Vec::new(),
        penalties: Some(vec![Penalty {
            subject: Subject::Client(0xab),
            level: Level::Blocked,
            seconds: 90,
        }]),
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A board after two looks, two seconds apart.
fn board() -> Board {
    let mut board = Board::new();
    board.take(Ok(look(7, 10)), seconds(1));
    board.take(Ok(look(7, 12)), seconds(3));
    board
}

fn press(board: &mut Board, keys: &str) {
    for key in keys.chars() {
        assert_eq!(board.press(Key::Character(key)), After::Watch, "{key}");
    }
}

/// The lines of a frame, and whether any cell of it has a colour.
fn frame(board: &mut Board, (width, height): (u16, u16), colours: bool, now: u64) -> (Vec<String>, bool) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let draw = |frame: &mut ratatui::Frame<'_>| draw::frame(frame, board, Looks { colours }, seconds(now));
    terminal.draw(draw).unwrap();
    let buffer = terminal.backend().buffer();
    let coloured = buffer.content().iter().any(|cell| cell.fg != Color::Reset);
    let row = |cells: &[ratatui::buffer::Cell]| cells.iter().map(|cell| cell.symbol()).collect::<String>();
    let lines = buffer.content().chunks(usize::from(width)).map(row);
    (lines.map(|line| line.trim_end().to_owned()).collect(), coloured)
}

fn zones(board: &Board) -> Vec<Vec<String>> {
    let view = board.view.as_ref().unwrap();
    let shown = view.tables[0].shown(board.sorting[0], &board.filter);
    let texts = |cells: &[super::table::Cell]| cells.iter().map(|cell| cell.text.clone()).collect();
    shown.into_iter().map(texts).collect()
}

/// The figures that an operator decides by at night.
#[test]
fn rates_are_of_the_time_between_two_looks() {
    let board = board();
    assert_eq!(
        zones(&board),
        [
            ["api", "served", "4000", "0", "0", "10ms", "98ms", "-", "-", "-"],
            ["shop", "served", "200", "0", "2", "10ms", "98ms", "75%", "defers", "7"],
            ["blog", "out", "8", "0", "0", "10ms", "98ms", "-", "-", "-"],
        ]
    );
    let view = board.view.as_ref().unwrap();
    let parts = |line: usize| view.figures[line].1.join(", ");
    assert_eq!(parts(1), "local 32, keyless 10, resumed 90, QUIC 12, failed 0");
    assert_eq!(parts(2), "pass 50, drop 20.0k, answer 0, XDP native");
    assert_eq!(parts(3), "denied 20.0k, attempt 50");
    assert!(view.node.contains(&"CPU 25%".to_owned()), "{:?}", view.node);
    let worker: Vec<&str> = view.tables[2].rows[0].1.iter().map(|cell| cell.text.as_str()).collect();
    assert_eq!(worker, ["api", "script", "3", "40", "100%", "2"]);
}

/// After a restart the counters are lower; the rates of that moment would be nonsense.
#[test]
fn a_restart_begins_anew_and_a_counter_may_begin_again() {
    let mut board = board();
    board.take(Ok(look(8, 1)), seconds(4));
    assert!(board.view.as_ref().unwrap().fresh);
    assert_eq!(zones(&board)[0][2], "-", "no rate of two processes");
    board.take(Ok(look(8, 2)), seconds(5));
    assert_eq!(zones(&board)[0][2], "4000");
    // The same process, whose counters began again: it has counted what they show.
    board.take(Ok(look(8, 1)), seconds(6));
    assert_eq!(zones(&board)[0][2], "4000");
}

#[test]
fn keys_sort_filter_pause_and_quit() {
    let mut board = board();
    let names = |board: &Board| zones(board).iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    press(&mut board, "r");
    assert_eq!(names(&board), ["blog", "shop", "api"]);
    board.press(Key::Left);
    board.press(Key::Left);
    assert_eq!(names(&board), ["api", "blog", "shop"], "by name");
    board.press(Key::Left);
    assert_eq!(names(&board)[0], "shop", "round the end: by who waits, none last");
    press(&mut board, "/SHq");
    board.press(Key::Backspace);
    board.press(Key::Enter);
    assert_eq!(names(&board), ["shop"]);
    board.press(Key::Escape);
    assert_eq!(names(&board).len(), 3);
    press(&mut board, "p");
    board.take(Err("gone".to_owned()), seconds(9));
    assert!(board.lost.is_none(), "paused");
    press(&mut board, " ?x");
    board.press(Key::BackTab);
    assert_eq!(board.pane, 4);
    board.press(Key::Tab);
    assert_eq!((board.pane, board.press(Key::Character('q'))), (0, After::Quit));
    assert_eq!(board.press(Key::Interrupt), After::Quit);
}

/// What is seen over a slow line at three in the morning: whole at 80 columns, and without colour
/// if colour is not wanted.
#[test]
fn a_frame_of_80_by_24() {
    let (lines, coloured) = frame(&mut board(), (80, 24), true, 3);
    assert!(coloured);
    assert_eq!(lines.len(), 24);
    let expected = [
        (
            0,
            "edge 0.1.0  up 1d 2h  CPU 25%  120 MiB  1234 connections  4 threads  ready",
        ),
        (1, "requests/s    all 4208  5xx 2  under way 3  held 0 B"),
        (2, "handshakes/s  local 32  keyless 10  resumed 90  QUIC 12  failed 0"),
        (3, "kernel/s      pass 50  drop 20.0k  answer 0  XDP native"),
        (4, "by reason/s   denied 20.0k  attempt 50"),
        (5, ""),
        (6, "[Zones 3] Origins 2  Workers 1  Penalties 1  Kernel 2"),
        (
            7,
            "zone               state   req/sv  4xx/s  5xx/s    p50    p99   hit gate    wait",
        ),
        (
            8,
            "api                served    4000      0      0   10ms   98ms     - -          -",
        ),
        (
            9,
            "shop               served     200      0      2   10ms   98ms   75% defers     7",
        ),
        (
            10,
            "blog               out          8      0      0   10ms   98ms     - -          -",
        ),
        (11, ""),
        (
            23,
            "q quit  p pause  s/arrows sort  r reverse  / filter  tab pane  ? help",
        ),
    ];
    for (place, line) in expected {
        assert_eq!(lines[place], line, "line {place} of\n{}", lines.join("\n"));
    }
    assert!(!frame(&mut board(), (80, 24), false, 3).1, "NO_COLOR");
    for size in [(1, 1), (20, 5), (200, 60)] {
        frame(&mut board(), size, true, 3);
    }
}

/// The words of a tenant, or of who answers for an origin, do not reach the terminal as orders.
#[test]
fn other_panes_and_texts_from_outside() {
    let mut board = board();
    board.press(Key::Tab);
    let (lines, _) = frame(&mut board, (80, 24), false, 3);
    let shown = lines.join("\n");
    assert!(shown.contains("out      ?[2Jowned"), "{shown}");
    assert!(!shown.contains('\u{1b}'));
    press(&mut board, "/nothing");
    let (lines, _) = frame(&mut board, (80, 24), false, 3);
    assert_eq!(
        (lines[8].as_str(), lines[23].as_str()),
        ("No row fits the filter; escape clears it.", "filter: nothing_")
    );
    let plain = draw::plain(&board, board.view.as_ref().unwrap());
    assert!(!plain.contains('\u{1b}') && !plain.contains('~'));
    for part in [
        "\nOrigins\n",
        "client:00000000000000ab blocked      1m 30s\n",
        "\ndenied     drop",
    ] {
        assert!(plain.contains(part), "{part} is missing in\n{plain}");
    }
}

/// A node that is gone must not look like a quiet one.
#[test]
fn a_node_that_does_not_answer_is_told_of_until_it_answers() {
    let mut board = Board::new();
    assert_eq!(
        frame(&mut board, (80, 24), false, 0).0[2],
        "Waiting for the first answer."
    );
    let why = "no daemon answers at 127.0.0.1:9180: Connection refused (os error 111); is `edge run` up? name another address with --admin\u{7}";
    board.take(Err(why.to_owned()), seconds(2));
    board.take(Err(why.to_owned()), seconds(5));
    let (lines, _) = frame(&mut board, (80, 24), false, 7);
    assert!(
        lines[2].starts_with("NO ANSWER for 5s. no daemon answers at 127.0.0.1:9180"),
        "{lines:?}"
    );
    assert!(lines[3].ends_with("with --admin?"), "{lines:?}");
    assert_eq!(lines[5], "It is asked again every second.");
    board.take(Ok(look(7, 1)), seconds(6));
    let (lines, _) = frame(&mut board, (80, 24), false, 7);
    assert_eq!(
        lines[5],
        "The first look at this process: rates come with the next one."
    );
    board.take(Err(why.to_owned()), seconds(8));
    let (lines, _) = frame(&mut board, (80, 24), false, 70);
    assert!(
        lines[5].starts_with("NO ANSWER for 1m 2s. The figures are of then. no daemon"),
        "{lines:?}"
    );
    assert!(lines[8].starts_with("api"), "the last figures stay");
}

/// A name that is not the node's would show nothing for ever.
#[test]
fn metrics_by_the_names_that_there_are() {
    let documented = include_str!("../../../../docs/metrics.md");
    let named = include_str!("model.rs").split('"');
    let mut names = 0;
    for name in named.filter(|part| part.starts_with("edge_") || part.starts_with("process_")) {
        let family = name.trim_end_matches("_bucket");
        assert!(
            documented.contains(&format!("`{family}`")),
            "{name} is in no table of docs/metrics.md"
        );
        names += 1;
    }
    assert!(names > 20, "only {names} metrics were found");
}

#[test]
fn figures_are_short() {
    let written = [0.0, 0.26, 99.96, 9_999.4, 10_000.0, 1.26e6, 3.1e9].map(number);
    assert_eq!(written, ["0", "0.3", "100", "9999", "10.0k", "1.3M", "3.1G"]);
    assert_eq!(
        [0.0004, 0.0025, 0.25, 12.0, f64::INFINITY].map(duration),
        ["400us", "2.5ms", "250ms", "12.0s", "long"]
    );
    assert_eq!([512.0, 1_536.0, 2.5e9].map(bytes), ["512 B", "1.5 KiB", "2.3 GiB"]);
    assert_eq!([9, 61, 7_260, 180_000].map(lasting), ["9s", "1m 1s", "2h 1m", "2d 2h"]);
}
