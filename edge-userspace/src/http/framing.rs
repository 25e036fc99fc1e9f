//! Where an HTTP/1 message begins and ends, read more strictly than hyper reads it, so that nothing
//! two parsers could read in two ways is ever forwarded (request smuggling). Pure: bytes in,
//! verdict out, in pieces of any size. `guard` feeds it with what comes from the socket before
//! hyper sees it.
//!
//! hyper and httparse refuse on their own: characters that are no token in methods and field names,
//! whitespace around names, control characters in values, line folding. They accept, and this does
//! not: bare LF as a line end, `Content-Length` beside `Transfer-Encoding`, equal lengths twice,
//! transfer codings beside `chunked`, lengths with leading zeros beyond reason, fragments, space in
//! chunk lines, any or no Host, and trailer fields that change the framing.

mod head;

use memchr::memchr;

use head::{Facts, framing_field, head_end, request_line, trailer_allowed};

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
    /// Bytes up to the offset may pass; those from there on belong to a message whose reading
    /// depends on the answer to the one before (an upgrade). To be fed again after
    /// [`Framing::resume`], or passed as they are when it was accepted.
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

    /// Within content: a part of it is still to come.
    pub fn in_content(&self) -> bool {
        matches!(
            self.state,
            State::Body(_) | State::Size { .. } | State::Data(_) | State::DataEnd { .. } | State::Trailers(_)
        )
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

    /// Takes lines of a head until it ends or the bytes do. How many bytes were taken, or where and
    /// why not.
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
                // The LF is what must not pass: without it hyper never sees the line, or the head,
                // as complete.
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

#[cfg(test)]
mod tests;
