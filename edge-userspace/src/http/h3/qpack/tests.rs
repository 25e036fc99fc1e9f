//! RFC 9204 appendix B, both sides against each other, and what clients get wrong.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::decoder::{Decoder, Enough, Lines, Section, Undecodable, acknowledge, cancel};
use super::encoder::Encoder;
use super::fixed::{Name, Pseudo};
use super::*;

/// Lines as text, of at most some bytes.
struct Text(Vec<(String, String)>, usize);

impl Lines for Text {
    fn line(&mut self, name: &Name, value: Bytes) -> Result<(), Enough> {
        let name = match name {
            Name::Field(name) => name.as_str().to_owned(),
            Name::Pseudo(pseudo) => format!(":{}", format!("{pseudo:?}").to_lowercase()),
            Name::Unsound(_) => "?".to_owned(),
        };
        self.1 = self.1.checked_sub(name.len() + value.len() + 32).ok_or(Enough)?;
        self.0.push((name, String::from_utf8_lossy(&value).into_owned()));
        Ok(())
    }

    fn room(&self) -> usize {
        self.1
    }
}

fn section(decoder: &Decoder, bytes: &[u8]) -> (Result<Section, Undecodable>, Vec<(String, String)>) {
    let mut text = Text(Vec::new(), 1 << 14);
    (decoder.section(bytes, &mut text), text.0)
}

fn lines(lines: &[(&str, &str)]) -> Vec<(String, String)> {
    lines
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

const REFERRED: Result<Section, Undecodable> = Ok(Section::Read { referred: true });
const PLAIN: Result<Section, Undecodable> = Ok(Section::Read { referred: false });

/// Every other implementation writes so.
#[test]
fn the_rfcs_examples() {
    let mut decoder = Decoder::default();
    let mut told = Vec::new();
    // B.1
    let (read, told_lines) = section(&decoder, &hex("0000 510b 2f69 6e64 6578 2e68 746d 6c"));
    assert_eq!((read, told_lines), (PLAIN, lines(&[(":path", "/index.html")])));
    // B.2, its section before what it refers to.
    let refers = hex("0381 10 11");
    assert_eq!(section(&decoder, &refers).0, Ok(Section::Blocked(2)));
    let instructions = hex("3fbd01 c00f 7777 772e 6578 616d 706c 652e 636f 6d c10c 2f73 616d 706c 652f 7061 7468");
    for byte in &instructions {
        decoder.instructions(&[*byte]).unwrap();
    }
    let both = lines(&[(":authority", "www.example.com"), (":path", "/sample/path")]);
    assert_eq!(section(&decoder, &refers), (REFERRED, both));
    acknowledge(4, &mut told);
    assert_eq!(told, hex("84"));
    told.clear();
    decoder.tell(&mut told);
    assert_eq!(told, hex("02"));
    // B.3
    let custom = hex("4a63 7573 746f 6d2d 6b65 790c 6375 7374 6f6d 2d76 616c 7565");
    assert_eq!(decoder.instructions(&custom), Ok(true));
    told.clear();
    decoder.tell(&mut told);
    decoder.tell(&mut told);
    assert_eq!(told, hex("01"));
    // B.4
    assert_eq!(decoder.instructions(&hex("02")), Ok(true));
    let (read, told_lines) = section(&decoder, &hex("0500 80 c1 81"));
    let right = lines(&[
        (":authority", "www.example.com"),
        (":path", "/"),
        ("custom-key", "custom-value"),
    ]);
    assert_eq!((read, told_lines), (REFERRED, right));
    told.clear();
    cancel(8, &mut told);
    assert_eq!(told, hex("48"));
    // B.5
    assert_eq!(
        decoder.instructions(&hex("810d 6375 7374 6f6d 2d76 616c 7565 32")),
        Ok(true)
    );
    assert_eq!(decoder.inserted(), 5);
    assert_eq!(
        section(&decoder, &hex("0600 80")).1,
        lines(&[("custom-key", "custom-value2")])
    );
    assert_eq!(section(&decoder, &hex("0600 84")).0, Err(Undecodable), "pushed out");
}

/// A client that breaks these rules would have us read other fields than it means, or keep more
/// than we say.
#[test]
fn instructions_that_are_wrong() {
    for wrong in [
        // More capacity than there is, and an entry without any.
        "3fe2 1f",
        "c001 61",
        // Names that are nowhere, duplicates of nothing.
        "3fe11f ff40 00",
        "3fe11f 8000",
        "3fe11f 00",
        // An entry larger than the table, before it has come.
        "3f01 c0 7f ffff 7f",
        // No Huffman code, and integers without end.
        "3fe11f c0 81ff",
        "3fff ffff ffff ffff ffff ffff",
    ] {
        let mut decoder = Decoder::default();
        assert_eq!(
            decoder.instructions(&hex(wrong)),
            Err(Code::ENCODER_STREAM_ERROR),
            "{wrong}"
        );
    }
    let mut decoder = Decoder::default();
    assert_eq!(decoder.instructions(&hex("3fe11f")), Ok(false), "4096 is allowed");
    for _ in 0..200 {
        assert_eq!(
            decoder.instructions(&hex("c07f 01").iter().copied().chain([b'a'; 128]).collect::<Vec<_>>()),
            Ok(true)
        );
    }
    assert_eq!(decoder.inserted(), 200);
    assert_eq!(section(&decoder, &[201, 0, 0x80]).1.len(), 1);
}

/// A name would be decoded anew with each byte of its value: a few packets would cost seconds.
#[test]
fn instructions_that_come_byte_by_byte() {
    let mut decoder = Decoder::default();
    decoder.instructions(&hex("3fe11f")).unwrap();
    // A name of 2,000 `a`, by Huffman code of five bits each, and a value of as many bytes.
    let mut long = Vec::new();
    put_text(&mut long, 0x40, 5, &[b'a'; 2_000]);
    put_text(&mut long, 0, 7, &[0xff; 2_000]);
    long.extend(hex("c0 01 62"));
    for byte in &long {
        decoder.instructions(&[*byte]).unwrap();
    }
    assert_eq!(decoder.inserted(), 2);
    let told = section(&decoder, &hex("0300 80 81")).1;
    assert_eq!(
        (told[0].clone(), told[1].0.len()),
        ((":authority".to_owned(), "b".to_owned()), 2_000)
    );
}

/// A section that cannot be read ends the connection; one that is too large does not.
#[test]
fn sections_that_are_wrong() {
    let decoder = Decoder::default();
    for wrong in [
        "",
        "00",
        "0000 ff40",
        "0000 ff",
        "0000 80",
        "0000 10",
        "0000 4000",
        "0000 00 00",
        "0000 5109",
        "0000 51 81ff",
        "0000 2d",
        "0080",
        "00ff ffff ffff ffff ffff ffff 01",
        "ff80 8080",
    ] {
        assert_eq!(section(&decoder, &hex(wrong)).0, Err(Undecodable), "{wrong}");
    }
    assert_eq!(section(&decoder, &hex("0200 80")).0, Ok(Section::Blocked(1)));
    let mut few = Text(Vec::new(), 55);
    let long = hex("0000 d1 51 8a 0000 0000 0000 0000 0000");
    assert_eq!(
        decoder.section(&long, &mut few),
        Ok(Section::TooLarge { referred: false })
    );
    // Names that nobody may send are the message's fault alone.
    assert_eq!(section(&decoder, &hex("0000 2158 0161")).1, lines(&[("?", "a")]));
}

fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    fields
}

/// What is written, and the client's view of it.
fn write(
    encoder: &mut Encoder,
    client: &mut Decoder,
    stream: u64,
    fields: &HeaderMap,
) -> (usize, Vec<(String, String)>) {
    let mut lines = Vec::new();
    let front = encoder.section(stream, Some(StatusCode::OK), fields, &mut lines);
    let mut whole = Vec::new();
    front.put(&mut whole);
    whole.extend(lines);
    client.instructions(&encoder.instructions()).unwrap();
    let (read, told) = section(client, &whole);
    let mut acknowledged = Vec::new();
    if read.unwrap() == (Section::Read { referred: true }) {
        acknowledge(stream, &mut acknowledged);
    }
    client.tell(&mut acknowledged);
    encoder.acknowledged(&acknowledged).unwrap();
    (whole.len(), told)
}

/// Clients would see other fields than the origin sent, or pay for the same ones with each answer.
#[test]
fn what_repeats_is_sent_once() {
    let (mut encoder, mut client) = (Encoder::default(), Decoder::default());
    encoder.settings(1 << 12);
    let long = "default-src 'self'; img-src *; frame-ancestors 'none'";
    let mut lengths = Vec::new();
    for stream in 0..200_u64 {
        let number = stream.to_string();
        let sent = [
            ("content-type", "text/html; charset=utf-8"),
            ("server", "origin"),
            ("x-frame-options", "other"),
            ("content-security-policy", long),
            ("x-number", &number),
            ("set-cookie", "a=b"),
        ];
        let (length, told) = write(&mut encoder, &mut client, stream * 4, &fields(&sent));
        let right = [&lines(&[(":status", "200")])[..], &lines(&sent)].concat();
        assert_eq!(told, right);
        lengths.push(length);
    }
    let (first, last) = (lengths[0], lengths[199]);
    assert!(last * 2 < first, "{first} {last}");
}

/// Entries of long-gone answers would fill the table for good, or be pushed out while somebody
/// refers to them.
#[test]
fn the_table_turns_over() {
    let (mut encoder, mut client) = (Encoder::default(), Decoder::default());
    encoder.settings(1 << 12);
    for round in 0..100_u64 {
        let value = format!("a value that is of round {round} alone");
        let sent = fields(&[("x-a", &value), ("x-b", &value)]);
        for turn in 0..3 {
            let (length, told) = write(&mut encoder, &mut client, round * 12 + turn * 4, &sent);
            assert_eq!(told.len(), 3);
            assert!(
                turn < 2 || length < 12,
                "{length} bytes in turn {turn} of round {round}"
            );
        }
    }
}

/// A client that acknowledges what was not sent would have us refer to what it has not.
#[test]
fn acknowledgements_that_are_wrong() {
    for wrong in ["80", "00", "01", "84", "ffff ffff ffff ffff ffff ffff"] {
        let mut encoder = Encoder::default();
        encoder.settings(1 << 12);
        assert_eq!(
            encoder.acknowledged(&hex(wrong)),
            Err(Code::DECODER_STREAM_ERROR),
            "{wrong}"
        );
    }
    let mut encoder = Encoder::default();
    assert_eq!(
        encoder.acknowledged(&hex("44 7f 81 01")),
        Ok(()),
        "streams may be given up"
    );
    // Without a table nothing is inserted.
    let sent = fields(&[("x-a", "a")]);
    for stream in 0..4 {
        let _ = encoder.section(stream, Some(StatusCode::OK), &sent, &mut Vec::new());
    }
    assert!(!encoder.has_instructions());
}

/// Answers that the client never acknowledges must not make us keep more and more.
#[test]
fn nothing_grows_without_acknowledgements() {
    let (mut encoder, mut client) = (Encoder::default(), Decoder::default());
    encoder.settings(1 << 12);
    let sent = fields(&[("x-a", "a value that comes again")]);
    for stream in 0..4 {
        write(&mut encoder, &mut client, stream, &sent);
    }
    let mut lengths = Vec::new();
    for stream in 4..2_000 {
        let mut lines = Vec::new();
        let _ = encoder.section(stream, Some(StatusCode::OK), &sent, &mut lines);
        lengths.push(lines.len());
    }
    assert_eq!(lengths.iter().filter(|length| **length == 2).count(), 256);
    assert!(lengths[1_000] > 15);
    assert!(!encoder.has_instructions());
}

/// Secrets are marked, so that nobody behind the client keeps them (section 7.1.3).
#[test]
fn secrets_are_in_no_table() {
    let mut encoder = Encoder::default();
    encoder.settings(1 << 12);
    encoder.instructions();
    let mut value = HeaderValue::from_static("secret");
    value.set_sensitive(true);
    let mut sent = HeaderMap::new();
    sent.insert("x-key", value.clone());
    sent.insert("server", value);
    for _ in 0..3 {
        let mut lines = Vec::new();
        let _ = encoder.section(0, Some(StatusCode::OK), &sent, &mut lines);
        assert!(
            lines.windows(2).any(|two| two == [0x7f, 92 - 15]),
            "N and the static name: {lines:x?}"
        );
        assert!(
            lines.iter().any(|byte| byte & 0xf0 == 0x30),
            "N and a literal name: {lines:x?}"
        );
    }
    assert!(!encoder.has_instructions());
    assert_eq!(Name::read(b":status"), Name::Pseudo(Pseudo::Status));
}
