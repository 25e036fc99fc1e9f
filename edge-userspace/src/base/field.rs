//! Fields of messages, as every room reads them: one that may be there once, and the parts of one
//! that has quoted strings. Pure.

use http::header::{AsHeaderName, HeaderMap, HeaderValue};

/// Tells of one character after the other of a field whether it is `separator` and not within a
/// quoted string (RFC 9110 section 5.6.4).
pub fn outside_quotes(separator: char) -> impl FnMut(char) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    move |c| {
        let plain = !std::mem::take(&mut escaped);
        match c {
            '\\' if quoted && plain => escaped = true,
            '"' if plain => quoted = !quoted,
            _ => return c == separator && !quoted,
        }
        false
    }
}

/// The field, if it is there once and no more.
pub fn alone(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&HeaderValue> {
    let mut fields = headers.get_all(name).iter();
    fields.next().filter(|_| fields.next().is_none())
}
