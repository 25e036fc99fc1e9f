//! The printed defaults as a page: `docs/configuration.md` is written from what `edge check
//! --print-defaults` prints, so that the two cannot say different things.

use std::fmt::Write;

/// The page for `defaults`.
pub fn page(defaults: &str) -> String {
    let mut page = Page::default();
    for line in defaults.lines() {
        page.line(line.trim_end());
    }
    page.end_section();
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
    /// A comment that what follows it is about.
    comment: Vec<String>,
    rows: Vec<Row>,
    /// A value that goes on on the next line.
    open: bool,
}

/// Keys that share one comment.
struct Row {
    keys: Vec<(String, String)>,
    meaning: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        if self.open {
            let last = self.rows.last_mut().and_then(|row| row.keys.last_mut());
            if let Some((_, value)) = last {
                value.push(' ');
                value.push_str(line.trim());
                self.open = unbalanced(value);
            }
            return;
        }
        let written = line.strip_prefix("# ").unwrap_or(line);
        let commented = line.starts_with('#');
        if let Some(table) = table(written) {
            self.section(table);
        } else if let Some((key, value)) = entry(written) {
            self.key(key, value, commented);
        } else if commented {
            self.comment.push(line.trim_start_matches('#').trim().to_owned());
        } else {
            self.paragraph();
        }
    }

    /// Words that stand alone.
    fn paragraph(&mut self) {
        if !self.comment.is_empty() && self.rows.is_empty() {
            let words = std::mem::take(&mut self.comment).join("\n");
            // Writing to a string does not fail.
            let _ = writeln!(self.text, "{}\n", escaped(&words));
        }
    }

    fn section(&mut self, table: &str) {
        self.end_section();
        let intro = std::mem::take(&mut self.comment);
        let _ = writeln!(self.text, "## `{table}`\n");
        if !intro.is_empty() {
            let _ = writeln!(self.text, "{}\n", escaped(&intro.join("\n")));
        }
    }

    fn key(&mut self, key: &str, value: &str, commented: bool) {
        let (value, remark) = match value.split_once("  #") {
            Some((value, remark)) if !value.contains('#') => (value.trim(), remark.trim()),
            _ => (value, ""),
        };
        self.open = unbalanced(value);
        let default = if commented {
            format!("(none) {value}")
        } else {
            value.to_owned()
        };
        let meaning = std::mem::take(&mut self.comment).join(" ");
        match self.rows.last_mut().filter(|_| meaning.is_empty() && remark.is_empty()) {
            Some(row) => row.keys.push((key.to_owned(), default)),
            None => {
                let meaning = if remark.is_empty() {
                    meaning
                } else {
                    format!("{meaning} {remark}").trim().to_owned()
                };
                let keys = vec![(key.to_owned(), default)];
                self.rows.push(Row { keys, meaning });
            }
        }
    }

    fn end_section(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return;
        }
        self.text.push_str("| key | default | |\n|---|---|---|\n");
        for row in rows {
            let keys: Vec<_> = row.keys.iter().map(|(key, _)| format!("`{key}`")).collect();
            let values = row.keys.iter().map(|(_, value)| match value.strip_prefix("(none) ") {
                Some(example) => format!("none; such as `{example}`"),
                None => format!("`{value}`"),
            });
            let values: Vec<_> = values.collect();
            let _ = writeln!(
                self.text,
                "| {} | {} | {} |",
                keys.join(", "),
                cell(&values.join(", ")),
                cell(&escaped(&row.meaning))
            );
        }
        self.text.push('\n');
    }
}

/// The name in `[name]` or `[[name]]`.
fn table(line: &str) -> Option<&str> {
    let inside = line.strip_prefix('[')?.strip_suffix(']')?;
    let name = inside.trim_matches(['[', ']']);
    let sound = |b: u8| b.is_ascii_lowercase() || matches!(b, b'_' | b'.');
    (!name.is_empty() && name.bytes().all(sound)).then_some(line)
}

/// Key and value of `key = value`.
fn entry(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(" = ")?;
    let sound = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (!key.is_empty() && key.bytes().all(sound)).then_some((key, value))
}

fn unbalanced(value: &str) -> bool {
    value.matches('[').count() > value.matches(']').count()
}

/// Angle brackets and stars as themselves.
fn escaped(text: &str) -> String {
    text.replace('<', "&lt;").replace('*', "\\*")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::defaults;

    /// What the page of all keys begins with.
    const HEAD: &str = "# Configuration\n\n\
        Every key of the file of `edge run`, with its default: the page says what `edge check --print-defaults` prints, and is written from \
        it.\nA table that is written here in `[[double brackets]]` may come any number of times.\n\n";

    fn whole() -> String {
        format!("{HEAD}{}", page(&defaults()).trim_end())
    }

    /// The page would tell of keys that are not there, and not of those that are.
    /// `EDGE_WRITE_DOCS=1` writes it anew.
    #[test]
    fn the_page_is_what_the_defaults_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let whole = whole() + "\n";
        if std::env::var_os("EDGE_WRITE_DOCS").is_some() {
            std::fs::write(path, &whole).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        let differs = written.lines().zip(whole.lines()).find(|(a, b)| a != b);
        assert!(
            written == whole,
            "docs/configuration.md is not what the defaults say; EDGE_WRITE_DOCS=1 writes it anew: {differs:?}"
        );
    }

    /// A key would be left out, or get the meaning of another.
    #[test]
    fn comments_go_to_the_keys_after_them() {
        let text = "# Words.\n\n[a]\n# Both\n# of them.\nx = 1\ny = [\n  \"*\",\n]\n# Optional.\n# z = \"<f>\"\n\n# A list of tables.\n\
                    # [[b.c]]\n# path = \"/p\"              # a | b\n";
        assert_eq!(
            page(text),
            "Words.\n\n## `[a]`\n\n| key | default | |\n|---|---|---|\n| `x`, `y` | `1`, `[ \"*\", ]` | Both of them. |\n\
             | `z` | none; such as `\"<f>\"` | Optional. |\n\n## `[[b.c]]`\n\nA list of tables.\n\n| key | default | |\n|---|---|---|\n\
             | `path` | none; such as `\"/p\"` | a \\| b |\n\n"
        );
    }
}
