//! Messages as the engine's glue passes them: heads as text, one field a line, each byte above 0x7F
//! as the character of that number.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::code::Code;
use crate::http::kept::Deed;

/// Fields of one message; more are refused.
const MOST: usize = 256;

/// Appends a field's value: bytes as characters, in UTF-8.
fn push(text: &mut Vec<u8>, value: &[u8]) {
    for byte in value {
        match byte {
            0..=0x7F => text.push(*byte),
            _ => text.extend([0xC0 | (byte >> 6), 0x80 | (byte & 0x3F)]),
        }
    }
}

/// Fields as `name:value` lines.
pub fn lines(fields: &HeaderMap) -> Vec<u8> {
    let mut text = Vec::with_capacity(fields.len().saturating_mul(48));
    for (name, value) in fields {
        text.extend(name.as_str().as_bytes());
        text.push(b':');
        push(&mut text, value.as_bytes());
        text.push(b'\n');
    }
    text
}

/// Back again: `name:value` lines as fields.
///
/// # Errors
/// In words, for the zone's log: which field cannot be sent and why, or that there are too many.
pub fn parse(text: &str) -> Result<HeaderMap, String> {
    let mut fields = HeaderMap::new();
    for (count, line) in text.split_terminator('\n').enumerate() {
        if count >= MOST {
            return Err(format!("a message has more than {MOST} fields"));
        }
        let (name, value) = line.split_once(':').ok_or("a field has no name")?;
        let cannot = |why| format!("the field \"{}\" cannot be sent: {why}", name.escape_debug());
        let known = HeaderName::from_bytes(name.as_bytes()).map_err(|_| cannot("its name is none"))?;
        let bytes: Result<Vec<u8>, _> = match value.is_ascii() {
            true => Ok(value.as_bytes().to_vec()),
            false => value.chars().map(u8::try_from).collect(),
        };
        let value = bytes.ok().and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
        let value = value.ok_or_else(|| cannot("its value has a character that no field may have"))?;
        fields
            .try_append(known, value)
            .map_err(|_| cannot("there are too many fields"))?;
    }
    Ok(fields)
}

/// `METHOD\nURL\n` and fields, as `fetch` hands them over.
///
/// # Errors
/// A method or URL that is none: a code; a field: in words.
pub fn request(text: &str) -> Result<(Method, Uri, HeaderMap), (Code, String)> {
    let none = || (Code::Malformed, String::new());
    let (method, rest) = text.split_once('\n').ok_or_else(none)?;
    let (url, rest) = rest.split_once('\n').ok_or_else(none)?;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| none())?;
    let target = url.split('#').next().unwrap_or_default();
    let target: Uri = target.parse().map_err(|_| none())?;
    match target.scheme_str() {
        Some("http" | "https") => {
            let fields = parse(rest).map_err(|words| (Code::Field, words))?;
            Ok((method, target, fields))
        }
        _ => Err(none()),
    }
}

/// What a script wants of a cache: the cache's name, and what.
type Wanted = (String, Deed);

/// `DEED\nNAME`, of `keep` with a line for the status and lines for the fields of the response, as
/// it comes after an empty line behind a request.
///
/// # Errors
/// As of [`request`].
pub fn wanted(text: &str) -> Result<Wanted, (Code, String)> {
    let none = || (Code::Malformed, String::new());
    let (deed, rest) = text.split_once('\n').ok_or_else(none)?;
    match deed {
        "find" => Ok((rest.to_owned(), Deed::Find)),
        "forget" => Ok((rest.to_owned(), Deed::Forget)),
        "keep" => {
            let (name, rest) = rest.split_once('\n').ok_or_else(none)?;
            let (status, fields) = rest.split_once('\n').ok_or_else(none)?;
            let status = status.parse().map_err(|_| none())?;
            let fields = parse(fields).map_err(|words| (Code::Field, words))?;
            Ok((name.to_owned(), Deed::Keep(status, fields)))
        }
        _ => Err(none()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field with a byte above 0x7F would reach the worker, or the origin, as another.
    #[test]
    fn fields_come_back_as_they_were() {
        let mut fields = HeaderMap::new();
        fields.append("x", HeaderValue::from_bytes(b"caf\xe9 \xff").unwrap());
        fields.append("x", HeaderValue::from_static("two:parts"));
        let text = lines(&fields);
        assert_eq!(parse(std::str::from_utf8(&text).unwrap()).unwrap(), fields);
    }

    /// A worker could smuggle a second field, or a request, through what it puts into a name or a
    /// value.
    #[test]
    fn what_is_no_field_is_refused() {
        for bad in ["x\n", ":v\n", "a b:v\n", "x:\u{141}\n", "x:a\rb\n", "x:a\0b\n"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse(&"x:y\n".repeat(MOST + 1)).unwrap_err().contains("256"));
        let named = parse("x-fine:1\nx-odd:a\u{1}b\n").unwrap_err();
        assert!(named.contains("x-odd"), "whoever wrote it looks for it: {named}");
        for bad in [
            "GET",
            "GET\nhttp://a/",
            "G T\nhttp://a/\n",
            "GET\n/path\n",
            "GET\nfile:///etc\n",
            "GET\nhttp://\n",
        ] {
            assert!(request(bad).is_err(), "{bad:?}");
        }
        let (method, uri, fields) = request("PUT\nhttps://a.test/p?q#f\nx:y\n").unwrap();
        assert_eq!(
            (method.as_str(), uri.to_string().as_str(), fields.len()),
            ("PUT", "https://a.test/p?q", 1)
        );
    }

    /// A response would be kept under another status, or with another's fields.
    #[test]
    fn wishes_are_read_as_they_were_written() {
        let (name, deed) = wanted("keep\npages\n203\nx:y\n").unwrap();
        let Deed::Keep(status, fields) = deed else { panic!() };
        assert_eq!((&*name, status.as_u16(), fields.len()), ("pages", 203, 1));
        assert!(matches!(wanted("find\na").unwrap().1, Deed::Find));
        assert!(matches!(wanted("forget\na").unwrap().1, Deed::Forget));
        for bad in [
            "",
            "find",
            "keep\na",
            "keep\na\nx\n",
            "keep\na\n20\n",
            "keep\na\n200\nx\n",
            "else\na",
        ] {
            assert!(wanted(bad).is_err(), "{bad:?}");
        }
    }
}
