//! `isolate.svg`: panels of bars from the report, the edge's kinds of workers beside workerd, with
//! the figure written on each.

use std::fmt::Write;

use serde_json::Value;

const PANEL: f64 = 310.0;
const HEIGHT: f64 = 240.0;
/// Panels in a row.
const ROW: usize = 3;
/// Where the bars of a panel stand, from its top, and no higher than `TALL`.
const FLOOR: f64 = 195.0;
const TALL: f64 = 135.0;

/// What each kind of bar is called in the report and in the picture, and its colour.
const BARS: [(&str, &str, &str); 5] = [
    ("rust_fresh", "Rust", "#1b7f5c"),
    ("rust_reused", "Rust, reused", "#7fbfa5"),
    ("js_fresh", "JavaScript", "#c07a2c"),
    ("edge", "edge", "#1b7f5c"),
    ("workerd", "workerd", "#8a8f98"),
];

/// Title, and the key of the report whose value has the bars.
const PANELS: [(&str, &str); 5] = [
    ("hello: CPU us per request", "cpu_us_per_req"),
    ("10 KB of JSON: CPU us per request", "json10k_cpu_us"),
    ("30 zones in JavaScript: RSS, MB", "rss_mb_30_js"),
    ("hello: p99, ms", "p99_ms"),
    ("10 KB of JSON: p99, ms", "json10k_p99_ms"),
];

/// The whole picture of a report.
pub(super) fn svg(report: &Value) -> String {
    let rows = (PANELS.len() + 1).div_ceil(ROW);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>bench isolate</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        PANEL * ROW as f64,
        HEIGHT * rows as f64
    );
    for (index, (title, key)) in PANELS.iter().enumerate() {
        let (left, top) = place(index);
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{title}</text>",
            top + 24.0
        );
        bars(&mut svg, &report[key], left, top);
    }
    let (left, top) = place(PANELS.len());
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let lines = [
        format!(
            "a request within a request: +{:.0} us p50",
            number("/subrequest_added_us_p50")
        ),
        format!(
            "beside a worker that spins: p99 {:.1} ms",
            number("/spinner_neighbour_p99_ms")
        ),
        format!(
            "{} idle zones: {:.0} KB each",
            number("/zones5000/zones"),
            number("/zones5000/bytes_per_zone") / 1e3
        ),
        format!(
            "first request of a zone: {:.2} ms p50",
            number("/zones5000/cold_first_ms_p50")
        ),
    ];
    for (n, line) in lines.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{}\">{line}</text>",
            top + 60.0 + 26.0 * n as f64
        );
    }
    svg + "</svg>\n"
}

fn place(index: usize) -> (f64, f64) {
    let (row, column) = (index / ROW, index % ROW);
    (20.0 + PANEL * column as f64, HEIGHT * row as f64)
}

/// Those bars that `values` has.
fn bars(svg: &mut String, values: &Value, left: f64, top: f64) {
    let there: Vec<(&str, &str, f64)> = BARS
        .iter()
        .filter_map(|(key, name, colour)| Some((*name, *colour, values.get(key)?.as_f64()?)))
        .collect();
    let most = there.iter().map(|(.., value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let floor = top + FLOOR;
    for (n, (name, colour, value)) in there.into_iter().enumerate() {
        let (x, height) = (left + 70.0 * n as f64, (value / most * TALL).clamp(0.0, TALL));
        let (y, middle) = (floor - height, x + 27.0);
        let digits = if value < 10.0 { 2 } else { 0 };
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y:.1}\" width=\"54\" height=\"{height:.1}\" fill=\"{colour}\"/>\n\
             <text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.digits$}</text>\n\
             <text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\">{name}</text>",
            y - 5.0,
            floor + 16.0,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A figure of the report would be missing from the picture, or a bar stand in its neighbour's
    /// panel.
    #[test]
    fn every_figure_has_its_bar() {
        let four = json!({ "rust_fresh": 50.5, "rust_reused": 25.5, "js_fresh": 95.5, "workerd": 1e9 });
        let report = json!({
            "cpu_us_per_req": four, "p99_ms": four, "json10k_cpu_us": four, "json10k_p99_ms": four,
            "rss_mb_30_js": { "edge": 29, "workerd": 98 }, "subrequest_added_us_p50": 61.0,
            "spinner_neighbour_p99_ms": 2.25, "zones5000": { "zones": 50, "bytes_per_zone": 97_000, "cold_first_ms_p50": 0.58 },
        });
        let svg = svg(&report);
        assert_eq!(svg.matches("<rect x=").count(), 4 * 4 + 2);
        for words in [">29<", ">98<", "+61 us", "97 KB", "0.58 ms"] {
            assert!(svg.contains(words), "{words}: {svg}");
        }
        let most = 20.0 + 70.0 * 4.0;
        assert!(most <= PANEL, "{most}");
    }
}
