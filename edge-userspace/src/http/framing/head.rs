//! The rules for single lines: the request line, the fields that framing and routing depend on,
//! trailer fields. `framing` cuts the lines.

use memchr::memchr;

use super::Refusal;

/// What the lines of a head have told so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) lines: u32,
    pub(super) http11: bool,
    pub(super) connect: bool,
    host: bool,
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) upgrade: bool,
}

/// RFC 9112 section 3: single spaces, three words, version 1.0 or 1.1.
pub(super) fn request_line(line: &[u8], facts: &mut Facts) -> Result<(), Refusal> {
    let (rest, version) = line.split_last_chunk::<9>().ok_or(Refusal::RequestLine)?;
    facts.http11 = match version {
        b" HTTP/1.1" => true,
        b" HTTP/1.0" => false,
        _ => return Err(Refusal::RequestLine),
    };
    let space = memchr(b' ', rest).filter(|at| *at > 0).ok_or(Refusal::RequestLine)?;
    let (method, target) = rest.split_at(space);
    let target = target.get(1..).unwrap_or_default();
    facts.connect = method == b"CONNECT";
    // `http::Uri` would cut a fragment off silently; a second space would be read as part of the
    // version by some.
    if target.is_empty() || target.iter().any(|b| *b <= b' ' || *b == b'#' || *b == 0x7f) {
        return Err(Refusal::RequestLine);
    }
    Ok(())
}

/// Notes the fields that framing and routing depend on, and refuses those written so that someone
/// may misread them.
pub(super) fn framing_field(line: &[u8], facts: &mut Facts) -> Result<(), Refusal> {
    const LENGTH: &[u8] = b"content-length";
    const CODING: &[u8] = b"transfer-encoding";
    // By the place of the colon first: a cheap test that nearly all fields fail.
    match (line.get(4), line.get(7), line.get(LENGTH.len()), line.get(CODING.len())) {
        (Some(b':'), ..) if names(line, b"host") => {
            let again = std::mem::replace(&mut facts.host, true);
            return if again { Err(Refusal::Host) } else { Ok(()) };
        }
        (_, Some(b':'), ..) if names(line, b"upgrade") => facts.upgrade = true,
        (_, _, Some(b':'), _) if names(line, LENGTH) => {
            if line.get(7) == Some(&b'_') {
                return Err(Refusal::LookAlike);
            }
            let length = content_length(value(line, LENGTH.len())).ok_or(Refusal::ContentLength)?;
            if facts.chunked || facts.length.replace(length).is_some() {
                return Err(Refusal::ContentLength);
            }
        }
        (.., Some(b':')) if names(line, CODING) => {
            if line.get(8) == Some(&b'_') {
                return Err(Refusal::LookAlike);
            }
            if facts.length.is_some() {
                return Err(Refusal::ContentLength);
            }
            let chunked = value(line, CODING.len()).eq_ignore_ascii_case(b"chunked");
            if !chunked || std::mem::replace(&mut facts.chunked, true) {
                return Err(Refusal::TransferEncoding);
            }
        }
        // Space or anything else between such a name and its colon: httparse refuses it, but nobody
        // need find out.
        _ if ambiguous(line, LENGTH) || ambiguous(line, CODING) || ambiguous(line, b"host") => {
            return Err(Refusal::FieldLine);
        }
        _ => {}
    }
    Ok(())
}

/// Whether `line` begins with `name`, in any case and with `_` for `-`.
fn names(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|begin| {
        begin
            .iter()
            .zip(name)
            .all(|(a, b)| a.to_ascii_lowercase() == *b || *b == b'-' && *a == b'_')
    })
}

/// Whether `line` has `name`, then something that is neither a colon nor part of a longer token.
fn ambiguous(line: &[u8], name: &[u8]) -> bool {
    match line.get(name.len()) {
        Some(b) if b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:".contains(b) => false,
        _ => names(line, name),
    }
}

/// A field's value: behind the colon, without optional whitespace around (RFC 9112 section 5).
fn value(line: &[u8], colon: usize) -> &[u8] {
    let mut value = line.get(colon + 1..).unwrap_or_default();
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A plain number of at most 18 digits.
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 {
        return None;
    }
    value
        .iter()
        .try_fold(0u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
}

pub(super) fn head_end(facts: &Facts) -> Result<Facts, Refusal> {
    if facts.http11 && !facts.host {
        return Err(Refusal::Host);
    }
    if facts.chunked && !facts.http11 {
        return Err(Refusal::TransferEncoding);
    }
    // Content of a CONNECT request has no meaning (RFC 9110 section 9.3.6); a tunnel's first bytes
    // could pass for it.
    if facts.connect && (facts.chunked || facts.length.is_some_and(|n| n > 0)) {
        return Err(Refusal::ContentLength);
    }
    Ok(*facts)
}

/// Names a trailer field may have: tokens, none that frames, routes or authenticates (RFC 9110
/// section 6.5.1).
pub(super) fn trailer_allowed(name: &[u8]) -> bool {
    const FORBIDDEN: [&[u8]; 13] = [
        b"transfer-encoding",
        b"content-length",
        b"host",
        b"trailer",
        b"connection",
        b"upgrade",
        b"te",
        b"keep-alive",
        b"authorization",
        b"cookie",
        b"content-encoding",
        b"content-type",
        b"content-range",
    ];
    !name.is_empty()
        && name
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
        && !FORBIDDEN.iter().any(|f| f.len() == name.len() && names(name, f))
}
