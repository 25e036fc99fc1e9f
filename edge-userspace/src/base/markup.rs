//! Text within markup (HTML, XML), where it must stay text.

/// Appends `c` as it stands in text and in quoted attributes.
pub fn push(text: &mut String, c: char) {
    match c {
        '&' => text.push_str("&amp;"),
        '<' => text.push_str("&lt;"),
        '>' => text.push_str("&gt;"),
        '"' => text.push_str("&quot;"),
        '\'' => text.push_str("&#39;"),
        c => text.push(c),
    }
}

/// Appends all of `value` so.
pub fn escape(text: &mut String, value: &str) {
    value.chars().for_each(|c| push(text, c));
}
