//! `storm.svg`: three panels of bars, one bar for each server, with the figure written on it.

use std::fmt::Write;

use super::Figures;

const PANEL: f64 = 300.0;
const HEIGHT: f64 = 260.0;
/// Bars rise from here, and no higher than `TALL`.
const FLOOR: f64 = 200.0;
const TALL: f64 = 140.0;
const COLOURS: [&str; 3] = ["#1b7f5c", "#8a8f98", "#c07a2c"];

struct Panel {
    title: &'static str,
    logarithmic: bool,
    value: fn(&Figures) -> f64,
}

const PANELS: [Panel; 3] = [
    Panel {
        title: "goodput kept under storm (quiet = 1)",
        logarithmic: false,
        value: |figures| figures.goodput_storm_rps / figures.goodput_quiet_rps.max(0.1),
    },
    Panel {
        title: "p99 under storm, ms (log)",
        logarithmic: true,
        value: |figures| figures.p99_storm_ms,
    },
    Panel {
        title: "CPU s per million rejected (log)",
        logarithmic: true,
        value: |figures| figures.cpu_s_per_million_rejected,
    },
];

/// The whole picture.
pub(super) fn svg(rows: &[(&str, Figures); 3]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>bench storm</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        PANEL * PANELS.len() as f64
    );
    for (index, panel) in PANELS.iter().enumerate() {
        let values = rows.each_ref().map(|(_, figures)| (panel.value)(figures));
        let heights = heights(&values, panel.logarithmic);
        let left = index as f64 * PANEL;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"24\" font-weight=\"bold\">{}</text>",
            left + 20.0,
            panel.title
        );
        for (bar, ((name, _), colour)) in rows.iter().zip(COLOURS).enumerate() {
            let (x, height) = (left + 20.0 + bar as f64 * 90.0, heights[bar]);
            let top = FLOOR - height;
            let middle = x + 30.0;
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{top:.1}\" width=\"60\" height=\"{height:.1}\" fill=\"{colour}\"/>\n\
                 <text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
                 <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\" font-size=\"10\">{name}</text>",
                top - 5.0,
                number(values[bar]),
                FLOOR + 16.0,
            );
        }
    }
    svg + "</svg>\n"
}

/// Logarithmic: from a tenth of the least to the greatest.
fn heights(values: &[f64; 3], logarithmic: bool) -> [f64; 3] {
    let scale = |value: f64| if logarithmic { value.max(1e-6).log10() } else { value };
    let greatest = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    let bottom = if logarithmic { scale(least) - 1.0 } else { 0.0 };
    let span = (scale(greatest) - bottom).max(1e-9);
    values.map(|value| (TALL * (scale(value) - bottom) / span).clamp(0.0, TALL))
}

fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_never_leaves_its_panel() {
        assert_eq!(heights(&[0.5, 1.0, 0.0], false), [TALL / 2.0, TALL, 0.0]);
        let logarithmic = heights(&[1.0, 1000.0, 10.0], true);
        assert_eq!(logarithmic, [TALL / 4.0, TALL, TALL / 2.0]);
        for height in heights(&[0.0, f64::INFINITY, 1.0], true) {
            assert!((0.0..=TALL).contains(&height) || height.is_nan());
        }
    }
}
