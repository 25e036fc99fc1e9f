//! Where an HTTP/1 message begins and ends, read more strictly than hyper reads it, so that nothing two parsers could read
//! in two ways is ever forwarded (request smuggling). Pure: bytes in, verdict out, in pieces of any size. `guard` feeds it
//! with what comes from the socket before hyper sees it.
//!
//! hyper and httparse refuse on their own: characters that are no token in methods and field names, whitespace around
//! names, control characters in values, line folding. They accept, and this does not: bare LF as a line end, `Content-Length`
//! beside `Transfer-Encoding`, equal lengths twice, transfer codings beside `chunked`, lengths with leading zeros beyond
//! reason, fragments, space in chunk lines, any or no Host, and trailer fields that change the framing.

use memchr::memchr;

/// Bytes of a chunk line, extensions included. Extensions have no use; long ones are an attack.
const CHUNK_LINE: usize = 256;
/// Bytes of a trailer section.
const TRAILERS: usize = 8 << 10;
/// Empty lines in front of a request line (RFC 9112 section 2.2: at least one should be ignored).
const EMPTY_LINES: u8 = 2;

/// Why a message was refused. A closed set: a metrics label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// LF without CR before it, or CR without LF after it.
    BareLineEnd,
    /// Not `METHOD SP target SP HTTP/1.x`, or a fragment in the target.
    RequestLine,
    /// A field line without a colon, folded, or with space before the colon.
    FieldLine,
    /// Both lengths, a second one, or one that is no plain number (RFC 9112 section 6.3).
    ContentLength,
    /// Not exactly one `chunked`, or one in HTTP/1.0 or with CONNECT (RFC 9112 section 6.1).
    TransferEncoding,
    /// No Host in HTTP/1.1, or two (RFC 9112 section 3.2).
    Host,
    /// A framing field spelt with an underscore, which some origins read as a hyphen.
    LookAlike,
    /// A chunk line against the grammar, or too long.
    Chunk,
    /// Trailer fields too long, broken, or such as must not be there (RFC 9110 section 6.5.1).
    Trailer,
}

impl Refusal {
    /// The label in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::BareLineEnd => "bare_line_end",
            Self::RequestLine => "request_line",
            Self::FieldLine => "field_line",
            Self::ContentLength => "content_length",
            Self::TransferEncoding => "transfer_encoding",
            Self::Host => "host",
            Self::LookAlike => "look_alike",
            Self::Chunk => "chunk",
            Self::Trailer => "trailer",
        }
    }
}

/// The verdict on one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it may pass.
    Pass,
    /// Bytes up to the offset may pass; those from there on belong to a message whose reading depends on the answer to the
    /// one before (an upgrade). To be fed again after [`Framing::resume`], or passed as they are when it was accepted.
    Hold(usize),
    /// Bytes up to the offset may pass; the one at the offset shows the message to be ambiguous.
    Refuse {
        /// Offset into the piece.
        at: usize,
        /// Why.
        why: Refusal,
        /// In a head, which can still get a 400 as its answer; otherwise in content.
        in_head: bool,
    },
}

#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    lines: u32,
    http11: bool,
    connect: bool,
    host: bool,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Between messages, after so many empty lines.
    Start(u8),
    /// Within a head; the beginning of the current line is in `line`.
    Head(Facts),
    /// Within content of known length, so many bytes to come.
    Body(u64),
    /// In a chunk line.
    Size {
        digits: u8,
        size: u64,
        length: u16,
        part: Part,
    },
    /// Within a chunk, so many bytes to come.
    Data(u64),
    /// In the CRLF behind a chunk.
    DataEnd { cr: bool },
    /// In the trailer section, after so many bytes.
    Trailers(usize),
    /// A message is read, the answer to it decides how to go on.
    Held,
    /// A head beyond the limit: hyper refuses it with 431.
    Overlong,
    /// Another protocol took over, or a message was refused.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Digits,
    Extension,
    Cr,
}

/// The state of one connection's incoming side.
#[derive(Debug)]
pub struct Framing {
    state: State,
    /// A line whose end has not come yet.
    line: Vec<u8>,
    /// Bytes of the current head so far.
    head: usize,
    limit: usize,
    /// What follows the message depends on its answer.
    hold: bool,
}

impl Framing {
    /// For a connection whose heads may have `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            state: State::Start(0),
            line: Vec::new(),
            head: 0,
            limit,
            hold: false,
        }
    }

    /// Between two messages, with nothing of the next.
    pub fn at_rest(&self) -> bool {
        matches!(self.state, State::Start(0) | State::Held) && self.line.is_empty()
    }

    /// Within a head, or the empty lines in front of one.
    pub fn in_head(&self) -> bool {
        match self.state {
            State::Start(empty) => empty > 0 || !self.line.is_empty(),
            State::Head(_) | State::Overlong => true,
            _ => false,
        }
    }

    /// Waiting for [`resume`](Self::resume) or [`switch_off`](Self::switch_off).
    pub fn held(&self) -> bool {
        matches!(self.state, State::Held)
    }

    /// The answer was no upgrade: HTTP goes on.
    pub fn resume(&mut self) {
        if let State::Held = self.state {
            self.state = State::Start(0);
        }
    }

    /// The answer was an upgrade: what follows is not HTTP.
    pub fn switch_off(&mut self) {
        self.state = State::Over;
    }

    /// Judges the next `bytes` of the connection.
    pub fn feed(&mut self, bytes: &[u8]) -> Verdict {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let step = match self.state {
                State::Start(_) | State::Head(_) => self.head(rest),
                State::Body(left) => {
                    let (taken, left) = skip(rest, left);
                    if left == 0 {
                        self.message_end();
                    } else {
                        self.state = State::Body(left);
                    }
                    Ok(taken)
                }
                State::Size { .. } => self.size(rest),
                State::Data(left) => {
                    let (taken, left) = skip(rest, left);
                    self.state = if left == 0 {
                        State::DataEnd { cr: false }
                    } else {
                        State::Data(left)
                    };
                    Ok(taken)
                }
                State::DataEnd { cr } => match (cr, rest.first()) {
                    (false, Some(b'\r')) => {
                        self.state = State::DataEnd { cr: true };
                        Ok(1)
                    }
                    (true, Some(b'\n')) => {
                        self.state = chunk_line();
                        Ok(1)
                    }
                    _ => Err((0, Refusal::Chunk)),
                },
                State::Trailers(_) => self.trailers(rest),
                State::Held => return Verdict::Hold(at),
                State::Overlong | State::Over => return Verdict::Pass,
            };
            match step {
                Ok(taken) => at += taken,
                Err((offset, why)) => {
                    let in_head = matches!(self.state, State::Start(_) | State::Head(_));
                    self.state = State::Over;
                    return Verdict::Refuse {
                        at: at + offset,
                        why,
                        in_head,
                    };
                }
            }
        }
        Verdict::Pass
    }

    fn message_end(&mut self) {
        self.state = if std::mem::take(&mut self.hold) {
            State::Held
        } else {
            State::Start(0)
        };
    }

    /// Takes lines of a head until it ends or the bytes do. How many bytes were taken, or where and why not.
    fn head(&mut self, bytes: &[u8]) -> Result<usize, (usize, Refusal)> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(end) = memchr(b'\n', rest) else {
                // Room for the line is bounded by the head's limit.
                self.head += rest.len();
                if self.head > self.limit {
                    self.state = State::Overlong;
                    self.line = Vec::new();
                } else {
                    self.line.extend_from_slice(rest);
                    // A lone CR may yet be an empty line.
                    if matches!(self.state, State::Start(_)) && self.line != b"\r" {
                        self.state = State::Head(Facts::default());
                    }
                }
                return Ok(bytes.len());
            };
            self.head += end + 1;
            if self.head > self.limit {
                self.state = State::Overlong;
                self.line = Vec::new();
                return Ok(bytes.len());
            }
            let piece = rest.get(..end).unwrap_or_default();
            let outcome = if self.line.is_empty() {
                line(&mut self.state, piece)
            } else {
                self.line.extend_from_slice(piece);
                let outcome = line(&mut self.state, &self.line);
                self.line.clear();
                outcome
            };
            at += end + 1;
            match outcome {
                // The LF is what must not pass: without it hyper never sees the line, or the head, as complete.
                Err(why) => return Err((at - 1, why)),
                Ok(None) => {}
                Ok(Some(facts)) => {
                    self.head = 0;
                    self.hold = facts.connect || facts.upgrade && facts.http11;
                    match facts.length {
                        _ if facts.chunked => self.state = chunk_line(),
                        None | Some(0) => self.message_end(),
                        Some(length) => self.state = State::Body(length),
                    }
                    return Ok(at);
                }
            }
        }
        Ok(at)
    }

    /// Takes bytes of a chunk line: `1*HEXDIG [ extension ] CRLF`, no space (RFC 9112 section 7.1).
    fn size(&mut self, bytes: &[u8]) -> Result<usize, (usize, Refusal)> {
        let State::Size {
            mut digits,
            mut size,
            mut length,
            mut part,
        } = self.state
        else {
            return Ok(0);
        };
        for (at, byte) in bytes.iter().enumerate() {
            let refuse = Err((at, Refusal::Chunk));
            length = length.saturating_add(1);
            if usize::from(length) > CHUNK_LINE {
                return refuse;
            }
            match (part, *byte) {
                (Part::Digits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                    // Fifteen digits cannot overflow, and no one sends an exbibyte.
                    digits += 1;
                    if digits > 15 {
                        return refuse;
                    }
                    let digit = char::from(*byte).to_digit(16).unwrap_or(0);
                    size = size << 4 | u64::from(digit);
                }
                (Part::Digits, b';') if digits > 0 => part = Part::Extension,
                (Part::Digits, b'\r') if digits > 0 => part = Part::Cr,
                (Part::Extension, b'\r') => part = Part::Cr,
                (Part::Extension, b'\t' | 0x20..=0x7e | 0x80..) => {}
                (Part::Cr, b'\n') => {
                    self.state = match size {
                        0 => State::Trailers(0),
                        size => State::Data(size),
                    };
                    return Ok(at + 1);
                }
                _ => return refuse,
            }
        }
        self.state = State::Size {
            digits,
            size,
            length,
            part,
        };
        Ok(bytes.len())
    }

    /// Takes lines of a trailer section.
    fn trailers(&mut self, bytes: &[u8]) -> Result<usize, (usize, Refusal)> {
        let State::Trailers(before) = self.state else {
            return Ok(0);
        };
        let end = memchr(b'\n', bytes);
        let taken = end.map_or(bytes.len(), |end| end + 1);
        let total = before + taken;
        if total > TRAILERS {
            return Err((0, Refusal::Trailer));
        }
        self.line.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        self.state = State::Trailers(total);
        let Some(end) = end else { return Ok(taken) };
        let refuse = |why| Err((end, why));
        let Some(field) = self.line.strip_suffix(b"\r\n") else {
            return refuse(Refusal::BareLineEnd);
        };
        if field.is_empty() {
            self.line.clear();
            self.message_end();
            return Ok(taken);
        }
        let sound = !field.contains(&b'\r')
            && memchr(b':', field).is_some_and(|colon| field.get(..colon).is_some_and(trailer_allowed));
        self.line.clear();
        if sound { Ok(taken) } else { refuse(Refusal::Trailer) }
    }
}

fn chunk_line() -> State {
    State::Size {
        digits: 0,
        size: 0,
        length: 0,
        part: Part::Digits,
    }
}

/// How many of `left` bytes are at hand, and how many are to come.
fn skip(bytes: &[u8], left: u64) -> (usize, u64) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (taken, left - taken as u64)
}

/// Judges one line of a head, its LF cut off. `Some` when it was the last.
fn line(state: &mut State, line: &[u8]) -> Result<Option<Facts>, Refusal> {
    let Some((b'\r', line)) = line.split_last() else {
        return Err(Refusal::BareLineEnd);
    };
    let facts = match state {
        State::Start(empty) if line.is_empty() => {
            *empty += 1;
            return if *empty > EMPTY_LINES {
                Err(Refusal::RequestLine)
            } else {
                Ok(None)
            };
        }
        State::Start(_) => {
            *state = State::Head(Facts::default());
            let State::Head(facts) = state else { return Ok(None) };
            facts
        }
        State::Head(facts) => facts,
        _ => return Ok(None),
    };
    facts.lines += 1;
    if facts.lines == 1 {
        request_line(line, facts)?;
        return Ok(None);
    }
    match line.first() {
        None => head_end(facts).map(Some),
        Some(b' ' | b'\t' | b':') => Err(Refusal::FieldLine),
        Some(first) => {
            match first | 0x20 {
                b'h' | b'c' | b't' | b'u' => framing_field(line, facts)?,
                _ => {}
            }
            Ok(None)
        }
    }
}

/// RFC 9112 section 3: single spaces, three words, version 1.0 or 1.1.
fn request_line(line: &[u8], facts: &mut Facts) -> Result<(), Refusal> {
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
    // `http::Uri` would cut a fragment off silently; a second space would be read as part of the version by some.
    if target.is_empty() || target.iter().any(|b| *b <= b' ' || *b == b'#' || *b == 0x7f) {
        return Err(Refusal::RequestLine);
    }
    Ok(())
}

/// Notes the fields that framing and routing depend on, and refuses those written so that someone may misread them.
fn framing_field(line: &[u8], facts: &mut Facts) -> Result<(), Refusal> {
    const LENGTH: &[u8] = b"content-length";
    const CODING: &[u8] = b"transfer-encoding";
    // By the place of the colon first: a cheap test that nearly all fields fail.
    match (line.get(4), line.get(7), line.get(LENGTH.len()), line.get(CODING.len())) {
        (Some(b':'), ..) if names(line, b"host") => {
            if std::mem::replace(&mut facts.host, true) {
                return Err(Refusal::Host);
            }
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
        // Space or anything else between such a name and its colon: httparse refuses it, but nobody need find out.
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

fn head_end(facts: &Facts) -> Result<Facts, Refusal> {
    if facts.http11 && !facts.host {
        return Err(Refusal::Host);
    }
    if facts.chunked && !facts.http11 {
        return Err(Refusal::TransferEncoding);
    }
    // Content of a CONNECT request has no meaning (RFC 9110 section 9.3.6); a tunnel's first bytes could pass for it.
    if facts.connect && (facts.chunked || facts.length.is_some_and(|n| n > 0)) {
        return Err(Refusal::ContentLength);
    }
    Ok(*facts)
}

/// Names a trailer field may have: tokens, none that frames, routes or authenticates (RFC 9110 section 6.5.1).
fn trailer_allowed(name: &[u8]) -> bool {
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

#[cfg(test)]
mod tests;
