//! The figures as a picture: bars of bytes on the link and of time to the last byte, by kind of
//! content and by who carried it.

use std::fmt::Write;

use serde_json::Value;

use super::ends::{KINDS, PEERS};

const COLOURS: [&str; 3] = ["#1b7f5c", "#c98a1b", "#6b7280"];
const WIDTH: f64 = 720.0;
const CHART: f64 = 220.0;
const LEFT: f64 = 60.0;
const GROUP: f64 = 210.0;

/// Two charts, one above the other.
pub(super) fn svg(report: &Value) -> String {
    let height = 2.0 * (CHART + 90.0) + 30.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let link = report["link"].as_str().unwrap_or_default();
    let charts = [
        ("hop_pct_by", "bytes on the link, both ways, percent of the content"),
        ("last_byte_ms", "time to the last byte, ms, median"),
    ];
    for (n, (key, title)) in charts.into_iter().enumerate() {
        let top = 50.0 + n as f64 * (CHART + 90.0);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{title} ({link})</text>",
            top - 22.0
        );
        chart(&mut out, report, key, top);
    }
    for (n, (peer, colour)) in PEERS.iter().zip(COLOURS).enumerate() {
        let x = LEFT + n as f64 * 150.0;
        let y = height - 16.0;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"{y}\">{}</text>",
            y - 10.0,
            x + 18.0,
            peer.replace('_', " + ")
        );
    }
    out + "</svg>\n"
}

fn chart(out: &mut String, report: &Value, key: &str, top: f64) {
    let value = |kind: &str, peer: &str| report["end_to_end"][kind][key][peer].as_f64().unwrap_or(0.0);
    let most = KINDS
        .iter()
        .flat_map(|kind| PEERS.iter().map(move |peer| value(kind, peer)))
        .fold(f64::MIN_POSITIVE, f64::max);
    let floor = top + CHART;
    let _ = writeln!(
        out,
        "<line x1=\"{LEFT}\" y1=\"{floor}\" x2=\"{}\" y2=\"{floor}\" stroke=\"black\"/>",
        WIDTH - 20.0
    );
    for (k, kind) in KINDS.iter().enumerate() {
        let left = LEFT + 20.0 + k as f64 * GROUP;
        for (p, (peer, colour)) in PEERS.iter().zip(COLOURS).enumerate() {
            let value = value(kind, peer);
            let height = value / most * (CHART - 10.0);
            let (x, y) = (left + p as f64 * 56.0, floor - height);
            let _ = writeln!(
                out,
                "<rect x=\"{x}\" y=\"{y:.1}\" width=\"46\" height=\"{height:.1}\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.2}</text>",
                x + 23.0,
                y - 4.0
            );
        }
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{kind}</text>",
            left + 79.0,
            floor + 18.0
        );
    }
}
