//! The outline of a PEM file (RFC 7468): which sections it has, and whether each of them can be
//! read. Parsers pass over what they do not know, so a boundary that is indented, glued to another
//! line or a dash short makes its section vanish without a word. Every room that reads PEM reads it
//! here: each section is read, or the file is refused.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::prelude::FromDer;

/// One section: its label, and the line of its `BEGIN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What is between `-----BEGIN ` and `-----`.
    pub label: String,
    /// From 1.
    pub line: usize,
}

/// A file whose sections cannot all be read; the words quote nothing but labels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A boundary that is not alone on its line, from the line's first character on (RFC 7468
    /// section 3).
    #[error("line {0} is not a PEM boundary as it is written, so its section would be left out")]
    Boundary(usize),
    /// A `BEGIN` within a section.
    #[error("line {0} begins a section within another one")]
    Nested(usize),
    /// A section whose `END` is missing, or has another label.
    #[error("the section that begins on line {0} does not end")]
    Endless(usize),
    /// An `END` without a `BEGIN`.
    #[error("line {0} ends a section that did not begin")]
    Beginless(usize),
}

/// Why a file is refused. The operator's mistake; the words quote nothing but labels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// Its sections cannot all be told apart.
    #[error("{0}")]
    Broken(#[from] Broken),
    /// A section that looks like what is wanted, of a kind that is not read.
    #[error("the section on line {} is of the kind \"{}\", which is not read", .0.line, .0.label)]
    Kind(Section),
    /// What is in a section is not base64, or not what its label says.
    #[error("the section on line {0} is damaged")]
    Damaged(usize),
    /// Nothing of what is wanted.
    #[error("it has no \"-----BEGIN {0}-----\" section")]
    Missing(&'static str),
    /// More than one private key.
    #[error("it has several private keys")]
    Several,
    /// A private key that needs a pass phrase.
    #[error("its private key is encrypted")]
    Encrypted,
}

impl Unread {
    /// The mend, for the operator.
    pub const fn mend(&self) -> &'static str {
        match self {
            Self::Broken(_) => {
                "write each \"-----BEGIN …-----\" and \"-----END …-----\" on a line of its own, from its first column on"
            }
            Self::Kind(_) => "convert it: `openssl x509` for certificates, `openssl pkey` for keys",
            Self::Damaged(_) => "copy it again from where it was made",
            Self::Missing(_) => "name a file in PEM form (RFC 7468) that has one",
            Self::Several => "keep the certificate's own",
            Self::Encrypted => "decrypt it: openssl pkey -in OLD -out NEW",
        }
    }
}

/// The certificates of a file, at least one: every section that says it is one, as X.509.
///
/// # Errors
/// The file has none, or one that would be left out.
pub fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unread> {
    let sound = |der: &CertificateDer<'_>| {
        x509_parser::certificate::X509Certificate::from_der(der).is_ok_and(|(rest, _)| rest.is_empty())
    };
    items(bytes, "CERTIFICATE", |label| label.ends_with("CERTIFICATE"), sound)
}

/// The certificate revocation lists of a file, at least one.
///
/// # Errors
/// As [`certificates`].
pub fn revocations(bytes: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, Unread> {
    items(bytes, "X509 CRL", |label| label.ends_with("CRL"), |_| true)
}

/// The one private key of a file, in PKCS#8, SEC1 or PKCS#1. Certificates and parameters beside it
/// are passed over.
///
/// # Errors
/// There is none, or more than one, or one that cannot be read.
pub fn private_key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, Unread> {
    let is_key = |label: &str| label.ends_with("PRIVATE KEY");
    let sections = outline(bytes)?;
    let mut keys = sections.iter().filter(|section| is_key(&section.label));
    let section = keys.next().ok_or(Unread::Missing("PRIVATE KEY"))?;
    if keys.next().is_some() {
        return Err(Unread::Several);
    }
    let old = bytes.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED);
    match section.label.as_str() {
        "ENCRYPTED PRIVATE KEY" => return Err(Unread::Encrypted),
        _ if old => return Err(Unread::Encrypted),
        "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => {}
        _ => return Err(Unread::Kind(section.clone())),
    }
    // The parser's words are not passed on: they can quote the file.
    PrivateKeyDer::from_pem_slice(bytes).map_err(|_| Unread::Damaged(section.line))
}

/// Marks a key that is encrypted in the way of RFC 1421.
const ENCRYPTED: &[u8] = b"Proc-Type: 4,ENCRYPTED";

/// All sections with `label`, each of them `sound`; another section for which `alike` holds is one
/// that would be left out.
fn items<T: PemObject>(
    bytes: &[u8],
    label: &'static str,
    alike: impl Fn(&str) -> bool,
    sound: impl Fn(&T) -> bool,
) -> Result<Vec<T>, Unread> {
    let sections = outline(bytes)?;
    let mut wanted = Vec::new();
    for section in &sections {
        if section.label == label {
            wanted.push(section);
        } else if alike(&section.label) {
            return Err(Unread::Kind(section.clone()));
        }
    }
    let mut items = Vec::with_capacity(wanted.len());
    let mut parsed = T::pem_slice_iter(bytes);
    for section in wanted {
        match parsed.next() {
            Some(Ok(item)) if sound(&item) => items.push(item),
            _ => return Err(Unread::Damaged(section.line)),
        }
    }
    if items.is_empty() || parsed.next().is_some() {
        return Err(Unread::Missing(label));
    }
    Ok(items)
}

/// The sections of a PEM file, in its order. Text between sections is allowed (RFC 7468 section 2).
///
/// # Errors
/// The first line that keeps a section from being read.
pub fn outline(bytes: &[u8]) -> Result<Vec<Section>, Broken> {
    let mut sections: Vec<Section> = Vec::new();
    let mut open = false;
    for (line, number) in lines(bytes).zip(1..) {
        match boundary(line) {
            Some(Boundary::Begin(_)) if open => return Err(Broken::Nested(number)),
            Some(Boundary::Begin(label)) => {
                sections.push(Section {
                    label: String::from_utf8_lossy(label).into_owned(),
                    line: number,
                });
                open = true;
            }
            Some(Boundary::End(label)) => match sections.last().filter(|_| open) {
                Some(section) if section.label.as_bytes() == label => open = false,
                Some(section) => return Err(Broken::Endless(section.line)),
                None => return Err(Broken::Beginless(number)),
            },
            None if resembles(line) => return Err(Broken::Boundary(number)),
            None => {}
        }
    }
    match sections.last().filter(|_| open) {
        Some(section) => Err(Broken::Endless(section.line)),
        None => Ok(sections),
    }
}

enum Boundary<'a> {
    Begin(&'a [u8]),
    End(&'a [u8]),
}

/// Lines by any of the line ends of RFC 7468 section 2; CRLF counts once.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let Some(end) = bytes.iter().position(|b| matches!(b, b'\n' | b'\r')) else {
            rest = None;
            return Some(bytes);
        };
        let (line, after) = bytes.split_at_checked(end)?;
        rest = after.strip_prefix(b"\r\n").or_else(|| after.get(1..));
        Some(line)
    })
}

/// A boundary as RFC 7468 section 3 has it; white space may follow.
fn boundary(line: &[u8]) -> Option<Boundary<'_>> {
    let line = line.trim_ascii_end().strip_suffix(b"-----")?;
    let (make, label): (fn(&[u8]) -> Boundary<'_>, _) = match line.strip_prefix(b"-----BEGIN ") {
        Some(label) => (|label| Boundary::Begin(label), label),
        None => (|label| Boundary::End(label), line.strip_prefix(b"-----END ")?),
    };
    let sound = label.iter().all(|b| matches!(b, b' '..=b'~')) && !label.windows(2).any(|two| two == b"--");
    let edge = |b: Option<&u8>| b.is_some_and(|b| !matches!(b, b'-' | b' '));
    (sound && edge(label.first()) && edge(label.last())).then(|| make(label))
}

/// Whether a person would take the line for a boundary, or see one in it.
fn resembles(line: &[u8]) -> bool {
    let upper = line.to_ascii_uppercase();
    let dashed = [&b"-BEGIN "[..], b"-END ", b"- BEGIN ", b"- END "];
    if dashed
        .iter()
        .any(|mark| upper.windows(mark.len()).any(|window| window == *mark))
    {
        return true;
    }
    // Dashes of a word processor, or none at all.
    let inside = |b: &u8| !b.is_ascii_alphanumeric();
    let start = upper.iter().position(|b| !inside(b)).unwrap_or(upper.len());
    let end = upper.iter().rposition(|b| !inside(b)).map_or(start, |at| at + 1);
    let words = upper.get(start..end).unwrap_or_default();
    let begins = words.starts_with(b"BEGIN ") || words.starts_with(b"END ");
    begins
        && [&b" CERTIFICATE"[..], b" KEY", b" CRL"]
            .iter()
            .any(|kind| words.ends_with(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(label: &str) -> String {
        format!("-----BEGIN {label}-----\nAAEC\n-----END {label}-----\n")
    }

    fn labels(text: &str) -> Result<Vec<String>, Broken> {
        Ok(outline(text.as_bytes())?.into_iter().map(|s| s.label).collect())
    }

    /// Files that any tool writes would be refused: text between sections, other line ends, no line
    /// end at the end.
    #[test]
    fn files_as_tools_write_them() {
        let (one, two) = (section("CERTIFICATE"), section("EC PRIVATE KEY"));
        let both = Ok(vec!["CERTIFICATE".to_owned(), "EC PRIVATE KEY".to_owned()]);
        assert_eq!(labels(&format!("{one}{two}")), both);
        assert_eq!(
            labels(&format!("subject=CN = a\n\n{one}\nBag Attributes\n  x: 1\n{two}")),
            both
        );
        assert_eq!(labels(&format!("{one}{two}").replace('\n', "\r\n")), both);
        assert_eq!(labels(&format!("{one}{two}").replace('\n', "\r")), both);
        assert_eq!(labels(format!("{one}{two}").trim_end()), both);
        assert_eq!(labels(&format!("{one}{two}").replace("-----\n", "-----  \n")), both);
        assert_eq!(labels(""), Ok(vec![]));
        assert_eq!(
            labels("The end of the certificate.\nTo begin with the key\n"),
            Ok(vec![])
        );
        let lines: Vec<usize> = outline(format!("x\n{one}{two}").as_bytes())
            .unwrap()
            .iter()
            .map(|s| s.line)
            .collect();
        assert_eq!(lines, [2, 5]);
    }

    /// A certificate that a parser cannot read, or another kind of one, would be left out.
    #[test]
    fn every_certificate_is_read() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
        let good = params.self_signed(&key).unwrap().pem();
        let both = format!("{good}{}", key.serialize_pem());
        assert_eq!(
            certificates(both.as_bytes()).unwrap().len(),
            1,
            "a key may stand beside it"
        );
        assert_eq!(certificates(format!("{good}{good}").as_bytes()).unwrap().len(), 2);
        assert!(private_key(both.as_bytes()).is_ok());
        let line = good.lines().count() + 1;
        let damaged = Err(Unread::Damaged(line));
        assert_eq!(
            certificates(format!("{good}{}", section("CERTIFICATE")).as_bytes()),
            damaged
        );
        let cut = section("CERTIFICATE").replace("AAEC", "AA=C");
        assert_eq!(certificates(format!("{good}{cut}").as_bytes()), damaged);
        let trusted = format!("{good}{}", section("TRUSTED CERTIFICATE"));
        assert!(matches!(certificates(trusted.as_bytes()), Err(Unread::Kind(s)) if s.line == line));
        assert_eq!(certificates(b"-----BEGIN"), Err(Unread::Missing("CERTIFICATE")));
        assert_eq!(private_key(good.as_bytes()), Err(Unread::Missing("PRIVATE KEY")));
        assert_eq!(
            private_key(format!("{both}{}", key.serialize_pem()).as_bytes()),
            Err(Unread::Several)
        );
        assert_eq!(
            private_key(section("ENCRYPTED PRIVATE KEY").as_bytes()),
            Err(Unread::Encrypted)
        );
        let old = section("RSA PRIVATE KEY").replace("AAEC", "Proc-Type: 4,ENCRYPTED\n\nAAEC");
        assert_eq!(private_key(old.as_bytes()), Err(Unread::Encrypted));
        let ssh = private_key(section("OPENSSH PRIVATE KEY").as_bytes());
        assert!(matches!(ssh, Err(Unread::Kind(_))));
    }

    /// An intermediate certificate would be left out, and some clients could not connect.
    #[test]
    fn no_section_vanishes() {
        let (one, two) = (section("CERTIFICATE"), section("CERTIFICATE"));
        let second = |from: &str, to: &str| format!("{one}{}", two.replace(from, to));
        let indented: String = two.lines().map(|line| format!("  {line}\n")).collect();
        for (text, broken) in [
            (format!("{}{two}", one.trim_end()), Broken::Boundary(3)),
            (format!("{one}{indented}"), Broken::Boundary(4)),
            (format!("{one}{}", indented.replace("  ", "\t")), Broken::Boundary(4)),
            (format!("\u{feff}{one}"), Broken::Boundary(1)),
            (second("-----BEGIN", "----BEGIN"), Broken::Boundary(4)),
            (second("-----BEGIN", "------BEGIN"), Broken::Boundary(4)),
            (second("TE-----\nAA", "TE----\nAA"), Broken::Boundary(4)),
            (
                second("-----BEGIN CERTIFICATE-----", "—BEGIN CERTIFICATE—"),
                Broken::Boundary(4),
            ),
            (
                second("-----BEGIN CERTIFICATE-----", "BEGIN CERTIFICATE"),
                Broken::Boundary(4),
            ),
            (
                second("-----BEGIN CERTIFICATE-----", "# -----BEGIN CERTIFICATE-----"),
                Broken::Boundary(4),
            ),
            (second("BEGIN CERTIFICATE", "Begin certificate"), Broken::Boundary(4)),
            (second("-----BEGIN CERTIFICATE-----\n", ""), Broken::Beginless(5)),
            (second("-----END CERTIFICATE-----\n", ""), Broken::Endless(4)),
            (one.replace("-----END CERTIFICATE-----\n", "") + &two, Broken::Nested(3)),
            (second("END CERTIFICATE", "END PRIVATE KEY"), Broken::Endless(4)),
        ] {
            assert_eq!(outline(text.as_bytes()), Err(broken), "{text}");
        }
    }
}
