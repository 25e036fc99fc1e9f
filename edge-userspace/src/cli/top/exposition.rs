//! OpenMetrics text, read: `scrape` has it, `model` sums it up. Words that a terminal must not get
//! (control characters, marks of direction) are replaced here, as in all that comes from a node.

use std::collections::HashMap;

/// Longer texts of a node are cut.
const LONGEST: usize = 256;

/// One line: its labels, and the value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    labels: Vec<(String, String)>,
    pub(super) value: f64,
}

impl Sample {
    /// The value of a label; empty if the line does not have it.
    pub(super) fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }
}

/// The samples of a page by their names.
#[derive(Clone, Debug, Default)]
pub(super) struct Exposition(HashMap<String, Vec<Sample>>);

impl Exposition {
    /// Reads a page. `None`: it does not end as the format demands, so a part is missing. Lines
    /// that cannot be read are left out.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let lines = text.trim_end().strip_suffix("# EOF")?.lines();
        let mut families: HashMap<String, Vec<Sample>> = HashMap::new();
        for (name, sample) in lines.filter(|line| !line.starts_with('#')).filter_map(line) {
            families.entry(name.to_owned()).or_default().push(sample);
        }
        Some(Self(families))
    }

    /// All samples of that name.
    pub(super) fn of(&self, name: &str) -> &[Sample] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The sum of the samples of that name that `wanted` chooses.
    pub(super) fn sum(&self, name: &str, wanted: impl Fn(&Sample) -> bool) -> f64 {
        self.of(name)
            .iter()
            .filter(|sample| wanted(sample))
            // An empty `sum()` is -0, which would be shown.
            .fold(0.0, |all, sample| all + sample.value)
    }

    /// The sum of all samples of that name.
    pub(super) fn total(&self, name: &str) -> f64 {
        self.sum(name, |_| true)
    }
}

/// `name{label="value"} number`; what comes after the number (a time, an exemplar) is not read.
fn line(line: &str) -> Option<(&str, Sample)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at_checked(end)?;
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches(',');
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.push((key.to_owned(), clean(&value)));
            rest = after;
        }
    }
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some((name, Sample { labels, value }))
}

/// The text up to the closing quote, without its escapes, and what comes after.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

/// `text` as a terminal may get it: control characters, marks of direction and others that are not
/// seen are replaced by `?`, and what goes beyond 256 characters is cut.
pub(super) fn clean(text: &str) -> String {
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    text.chars()
        .take(LONGEST)
        .map(|c| if unseen(c) { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A figure that is read wrongly sends an operator the wrong way at night.
    #[test]
    fn samples_with_escapes_times_and_exemplars() {
        let text = "# TYPE a counter\na_total{zone=\"x\\\"}\\\\ \\n\",status=\"5xx\"} 3 1700000000\n\
                    a_total{zone=\"y\",status=\"2xx\"} 4\nh_bucket{le=\"+Inf\"} 7 # {trace_id=\"ab\"} 0.5\nplain 1.5\n\
                    broken{zone=\"x 1\nno number\n# EOF\n";
        let page = Exposition::parse(text).unwrap();
        assert_eq!(page.total("a_total"), 7.0);
        assert_eq!(page.sum("a_total", |sample| sample.label("status") == "5xx"), 3.0);
        assert_eq!(page.of("a_total")[0].label("zone"), "x\"}\\ ?");
        assert_eq!((page.total("h_bucket"), page.total("plain")), (7.0, 1.5));
        assert!(page.of("broken").is_empty());
        assert!(
            Exposition::parse("a 1\n").is_none(),
            "half a page is not taken for a whole one"
        );
    }

    /// A tenant's text that moves the cursor or sets the title would own the operator's terminal.
    #[test]
    fn what_a_terminal_would_obey_is_replaced() {
        assert_eq!(
            clean("a\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\r\nb\u{85}"),
            "a?]0;owned??2J???b?"
        );
        assert_eq!(clean(&"é".repeat(1_000)).chars().count(), 256);
    }
}
