//! Bytes of a NATS server to operations, and back. Sans I/O: [`next`] takes what is whole from the
//! front of a buffer. Every line and message is bounded before it is held.

use bytes::{Buf as _, Bytes, BytesMut};

/// Bytes of a line at most; `INFO` may be longer.
const MOST_LINE: usize = 4 << 10;
const MOST_INFO: usize = 64 << 10;
/// Bytes of a message at most, headers included.
pub const MOST_MESSAGE: usize = 2 << 20;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub subject: String,
    /// Which subscription it is for.
    pub subscription: u64,
    /// A number in place of a message: 404, say.
    pub status: Option<u16>,
    /// Header lines, without the first.
    headers: Bytes,
    /// Its content.
    pub payload: Bytes,
}

impl Message {
    /// The same with this content, and headers of their own.
    pub(super) fn with(self, payload: Bytes) -> Self {
        let headers = Bytes::copy_from_slice(&self.headers);
        Self {
            headers,
            payload,
            ..self
        }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let text = std::str::from_utf8(&self.headers).ok()?;
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Of itself, JSON.
    Info(Bytes),
    /// A message.
    Message(Message),
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
    /// Well.
    Ok,
    /// No, and why.
    Refused(String),
}

/// The next operation, taken from the front of `buffer`; `None`: it is not whole yet.
///
/// # Errors
/// It is not of the protocol, or longer than it may be. The connection is of no use any more.
pub fn next(buffer: &mut BytesMut) -> Result<Option<Op>, &'static str> {
    let window = buffer.get(..buffer.len().min(MOST_INFO)).unwrap_or_default();
    let Some(end) = memchr::memmem::find(window, b"\r\n") else {
        let most = if window.starts_with(b"INFO ") {
            MOST_INFO
        } else {
            MOST_LINE
        };
        return if window.len() >= most {
            Err("a line is too long")
        } else {
            Ok(None)
        };
    };
    let line = window.get(..end).unwrap_or_default();
    let info = line.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"INFO "));
    if line.len() > MOST_LINE && !info {
        return Err("a line is too long");
    }
    let text = std::str::from_utf8(line).map_err(|_| "a line is not text")?;
    let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    let simple = match word.to_ascii_uppercase().as_str() {
        "INFO" => Op::Info(Bytes::copy_from_slice(rest.trim().as_bytes())),
        "PING" => Op::Ping,
        "PONG" => Op::Pong,
        "+OK" => Op::Ok,
        "-ERR" => Op::Refused(rest.trim().trim_matches('\'').to_owned()),
        "MSG" => return message(buffer, end, false),
        "HMSG" => return message(buffer, end, true),
        _ => return Err("an operation is unknown"),
    };
    buffer.advance(end + 2);
    Ok(Some(simple))
}

/// `MSG subject sid [reply] length` and `HMSG subject sid [reply] of-headers length`, with their
/// content after the line.
fn message(buffer: &mut BytesMut, end: usize, with_headers: bool) -> Result<Option<Op>, &'static str> {
    const WRONG: &str = "a message's line is malformed";
    let line = buffer.get(..end).unwrap_or_default();
    let text = std::str::from_utf8(line).map_err(|_| WRONG)?;
    let fields: Vec<&str> = text.split_ascii_whitespace().skip(1).collect();
    let number = |text: &&str| text.parse::<usize>().map_err(|_| WRONG);
    let (subject, subscription, of_headers, length) = match (with_headers, fields.as_slice()) {
        (false, [subject, subscription, length] | [subject, subscription, _, length]) => {
            (*subject, subscription, 0, number(length)?)
        }
        (true, [subject, subscription, headers, length] | [subject, subscription, _, headers, length]) => {
            (*subject, subscription, number(headers)?, number(length)?)
        }
        _ => return Err(WRONG),
    };
    if length > MOST_MESSAGE || of_headers > length {
        return Err("a message is too long");
    }
    let (subject, subscription) = (subject.to_owned(), subscription.parse().map_err(|_| WRONG)?);
    let whole = end + 2 + length + 2;
    if buffer.len() < whole {
        return Ok(None);
    }
    buffer.advance(end + 2);
    let mut payload = buffer.split_to(length).freeze();
    if buffer.get(..2) != Some(b"\r\n") {
        return Err("a message is not as long as it says");
    }
    buffer.advance(2);
    let mut headers = payload.split_to(of_headers);
    let mut status = None;
    if with_headers {
        let first = memchr::memmem::find(&headers, b"\r\n").ok_or(WRONG)?;
        let line = headers.split_to(first);
        let line = std::str::from_utf8(&line).map_err(|_| WRONG)?;
        let rest = line.strip_prefix("NATS/1.0").ok_or(WRONG)?;
        status = rest
            .split_ascii_whitespace()
            .next()
            .and_then(|number| number.parse().ok());
    }
    Ok(Some(Op::Message(Message {
        subject,
        subscription,
        status,
        headers,
        payload,
    })))
}

/// `PUB`.
pub(super) fn publish(subject: &str, reply: Option<&str>, payload: &[u8]) -> Bytes {
    let reply = reply.map_or(String::new(), |reply| format!("{reply} "));
    let line = format!("PUB {subject} {reply}{}\r\n", payload.len());
    [line.as_bytes(), payload, b"\r\n"].concat().into()
}

/// `SUB`.
pub(super) fn subscribe(subject: &str, subscription: u64) -> Bytes {
    format!("SUB {subject} {subscription}\r\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<Op>, &'static str> {
        let mut buffer = BytesMut::from(bytes);
        let mut ops = Vec::new();
        while let Some(op) = next(&mut buffer)? {
            ops.push(op);
        }
        Ok(ops)
    }

    const TALK: &[u8] = b"INFO {\"a\":1}\r\nPING\r\n+OK\r\nMSG a.b 7 5\r\nhello\r\nMSG a 7 reply 0\r\n\r\n\
        HMSG a 8 r 31 33\r\nNATS/1.0\r\nNats-Sequence: 12\r\n\r\nhi\r\nHMSG a 8 26 26\r\nNATS/1.0 404 Not Found\r\n\r\n\r\n\
        -ERR 'Permissions Violation'\r\n";

    /// A fleet would hear nothing, or something else, depending on how the bytes are cut.
    #[test]
    fn operations_come_whole_wherever_the_bytes_are_cut() {
        let ops = all(TALK).unwrap();
        assert_eq!(ops.len(), 8);
        let Op::Message(message) = &ops[5] else {
            panic!("{:?}", ops[5])
        };
        assert_eq!(
            (message.header("nats-sequence"), &message.payload[..]),
            (Some("12"), &b"hi"[..])
        );
        assert_eq!((message.status, message.subscription), (None, 8));
        assert!(matches!(&ops[6], Op::Message(message) if message.status == Some(404) && message.payload.is_empty()));
        assert_eq!(ops[7], Op::Refused("Permissions Violation".to_owned()));
        for cut in 0..TALK.len() {
            let mut buffer = BytesMut::from(&TALK[..cut]);
            let mut again = Vec::new();
            while let Some(op) = next(&mut buffer).unwrap() {
                again.push(op);
            }
            buffer.extend_from_slice(&TALK[cut..]);
            while let Some(op) = next(&mut buffer).unwrap() {
                again.push(op);
            }
            assert_eq!(again, ops, "cut at {cut}");
        }
    }

    /// A server would make a node hold what it likes, or stop it.
    #[test]
    fn what_is_too_long_or_malformed_ends_the_connection() {
        for wrong in [
            &b"MSG a 7 99999999\r\n"[..],
            b"MSG a 7 -1\r\n",
            b"MSG a\r\n",
            b"MSG a x 0\r\n\r\n",
            b"HMSG a 7 9 5\r\n",
            b"HMSG a 7 5 5\r\nhello\r\n",
            b"HMSG a 7 7 7\r\nHTTP\r\n\r\r\n",
            b"MSG a 7 2\r\nhello\r\n",
            b"HELLO\r\n",
            b"\xff\r\n",
            b"\r\n",
            &vec![b'x'; MOST_LINE],
            &[b"INFO ", &vec![b'x'; MOST_INFO][..]].concat(),
            &[b"PING ", &vec![b' '; MOST_LINE][..], b"\r\n"].concat(),
        ] {
            assert!(
                all(wrong).is_err(),
                "{:?}",
                String::from_utf8_lossy(wrong.get(..40).unwrap_or(wrong))
            );
        }
    }
}
