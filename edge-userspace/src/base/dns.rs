//! DNS messages (RFC 1035, RFC 2782): a question for names, addresses or a service's servers, and
//! what an answer says to it. Pure: bytes in, names out; `name_servers` sends and receives.
//!
//! Whatever is in a message that is not ours, not whole, or not a name of a host, is passed over:
//! at worst a crawler is not known as one, or a server is not found.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Bytes of a header.
const HEADER: usize = 12;
/// Bytes of a message over UDP that we take (RFC 6891 section 6.2.5, DNS Flag Day 2020).
pub const LONGEST: usize = 1_232;
/// Characters of a name.
const NAME: usize = 253;
/// Records of an answer that are looked at, and aliases that are followed.
const RECORDS: usize = 64;
const ALIASES: usize = 8;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A = 1,
    /// Names of an address.
    Ptr = 12,
    /// IPv6 addresses.
    Aaaa = 28,
    /// Servers of a service.
    Srv = 33,
}

const ALIAS: u16 = 5;

/// A question: a name in lower case, without a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Told by the answer, too.
    pub id: u16,
    /// What is asked about.
    pub name: String,
    /// What of it.
    pub kind: Kind,
}

/// What a server answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Hosts' names, in lower case.
    pub names: Vec<String>,
    /// Addresses of the family that was asked for.
    pub addresses: Vec<IpAddr>,
    /// Servers of the service that was asked for.
    pub services: Vec<Service>,
    /// How long it holds: the least that its records and aliases say; `None` if it has none.
    pub ttl: Option<Duration>,
}

/// A server of a service (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Those of a greater one are asked while none of a lesser one can be.
    pub priority: u16,
    /// Its share among those of its priority.
    pub weight: u16,
    /// Where it listens.
    pub port: u16,
    /// Its name, in lower case.
    pub target: String,
}

/// Why a message is not an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Not to this question, or not whole.
    Foreign,
    /// It did not fit; over TCP it does (RFC 7766).
    Truncated,
    /// The server could not answer.
    Failed,
}

/// The name under which an address's names are (RFC 1035 section 3.5, RFC 3596 section 2.5).
pub fn reversed(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            let mut name: String = nibbles.map(|nibble| format!("{nibble:x}.")).collect();
            name.push_str("ip6.arpa");
            name
        }
    }
}

impl Question {
    /// One for `name`, however it is written.
    pub fn new(id: u16, name: &str, kind: Kind) -> Self {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        Self { id, name, kind }
    }

    /// As it is sent; `None` if the name is not one.
    pub fn message(&self) -> Option<Vec<u8>> {
        let mut message = self.id.to_be_bytes().to_vec();
        // A standard query, recursion desired; one question, one additional record.
        message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        if self.name.len() > NAME {
            return None;
        }
        for label in self.name.split('.') {
            let length = u8::try_from(label.len())
                .ok()
                .filter(|length| (1..=63).contains(length))?;
            message.push(length);
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend((self.kind as u16).to_be_bytes());
        message.extend([0, 1]);
        // EDNS (RFC 6891 section 6.1.2): the root, OPT, how much we take.
        message.extend([0, 0, 41]);
        message.extend((LONGEST as u16).to_be_bytes());
        message.extend([0; 6]);
        Some(message)
    }

    /// What `message` answers to it. That there is no such name is an answer without any.
    ///
    /// # Errors
    /// It is not an answer.
    pub fn answer(&self, message: &[u8]) -> Result<Answer, Unusable> {
        let mut reader = Reader { message, at: HEADER };
        let header: &[u8; HEADER] = message.first_chunk().ok_or(Unusable::Foreign)?;
        let [
            id_high,
            id_low,
            flags,
            code,
            _,
            questions,
            records_high,
            records_low,
            ..,
        ] = *header;
        let response = flags & 0xf8 == 0x80;
        if u16::from_be_bytes([id_high, id_low]) != self.id || !response || questions != 1 {
            return Err(Unusable::Foreign);
        }
        let asked = reader.name().zip(reader.short()).zip(reader.short());
        if asked != Some(((Some(self.name.clone()), self.kind as u16), 1)) {
            return Err(Unusable::Foreign);
        }
        if flags & 2 != 0 {
            return Err(Unusable::Truncated);
        }
        match code & 15 {
            0 => {}
            3 => return Ok(Answer::default()),
            _ => return Err(Unusable::Failed),
        }
        let count = usize::from(u16::from_be_bytes([records_high, records_low]));
        let mut records = Vec::new();
        for _ in 0..count.min(RECORDS) {
            records.push(reader.record().ok_or(Unusable::Foreign)?);
        }
        Ok(self.chosen(&records))
    }

    /// The data under the name, or under what it is an alias of (RFC 1034 section 3.6.2; RFC 2317
    /// has PTR records so).
    fn chosen(&self, records: &[Record]) -> Answer {
        let (mut name, mut least) = (self.name.clone(), u32::MAX);
        for _ in 0..ALIASES {
            let alias = records.iter().find_map(|record| match &record.data {
                Data::Alias(to) if record.owner.as_deref() == Some(&*name) => to.clone().zip(Some(record.ttl)),
                _ => None,
            });
            match alias {
                Some((to, ttl)) => (name, least) = (to, least.min(ttl)),
                None => break,
            }
        }
        let mut answer = Answer::default();
        for record in records.iter().filter(|record| record.owner.as_deref() == Some(&*name)) {
            match (&record.data, self.kind) {
                (Data::Name(Some(name)), Kind::Ptr) => answer.names.push(name.clone()),
                (Data::Address(address @ IpAddr::V4(_)), Kind::A) => answer.addresses.push(*address),
                (Data::Address(address @ IpAddr::V6(_)), Kind::Aaaa) => answer.addresses.push(*address),
                (Data::Service(Some(service)), Kind::Srv) => answer.services.push(service.clone()),
                _ => continue,
            }
            least = least.min(record.ttl);
            answer.ttl = Some(Duration::from_secs(least.into()));
        }
        answer
    }
}

struct Record {
    /// `None`: not a host's name.
    owner: Option<String>,
    /// Seconds.
    ttl: u32,
    data: Data,
}

enum Data {
    Address(IpAddr),
    Name(Option<String>),
    Alias(Option<String>),
    /// `None`: there is no such service, or its target is not a host's name.
    Service(Option<Service>),
    Other,
}

/// A message from some byte on.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.message.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(bytes)
    }

    fn short(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    /// A name, in lower case; `Some(None)` if it is whole, and not a host's. A pointer leads only
    /// to what is before the name that it is in (section 4.1.4), so there is no way round.
    fn name(&mut self) -> Option<Option<String>> {
        let mut text = String::new();
        let (mut at, mut before, mut jumped, mut sound) = (self.at, self.at, false, true);
        loop {
            let length = usize::from(*self.message.get(at)?);
            match length {
                0 => {
                    if !jumped {
                        self.at = at + 1;
                    }
                    return Some((sound && text.len() <= NAME && !text.is_empty()).then_some(text));
                }
                1..=63 => {
                    let label = self.message.get(at + 1..at + 1 + length)?;
                    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/');
                    sound &= label.iter().all(plain) && text.len() <= NAME;
                    if sound {
                        if !text.is_empty() {
                            text.push('.');
                        }
                        text.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
                    }
                    at += 1 + length;
                }
                192.. => {
                    let low = usize::from(*self.message.get(at + 1)?);
                    if !jumped {
                        self.at = at + 2;
                    }
                    at = (length & 63) << 8 | low;
                    if at >= before {
                        return None;
                    }
                    (before, jumped) = (at, true);
                }
                _ => return None,
            }
        }
    }

    fn record(&mut self) -> Option<Record> {
        let owner = self.name()?;
        let (kind, class) = (self.short()?, self.short()?);
        let ttl = u32::from_be_bytes(self.take()?);
        let length = usize::from(self.short()?);
        let end = self.at.checked_add(length).filter(|end| *end <= self.message.len())?;
        let data = match (kind, class) {
            (1, 1) if length == 4 => Data::Address(IpAddr::V4(Ipv4Addr::from(self.take::<4>()?))),
            (28, 1) if length == 16 => Data::Address(IpAddr::V6(Ipv6Addr::from(self.take::<16>()?))),
            (12, 1) => Data::Name(self.name()?),
            (ALIAS, 1) => Data::Alias(self.name()?),
            (33, 1) => {
                let [priority, weight, port] = [self.short()?, self.short()?, self.short()?];
                Data::Service(self.name()?.map(|target| Service {
                    priority,
                    weight,
                    port,
                    target,
                }))
            }
            _ => Data::Other,
        };
        self.at = end;
        Some(Record { owner, ttl, data })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An answer as servers write them: the question, then records (owner, kind, TTL, data), which
    /// point back to it if their owner is empty.
    pub(crate) fn respond(question: &[u8], records: &[(&str, u16, u32, Vec<u8>)], code: u8) -> Vec<u8> {
        let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let mut message = question[..end].to_vec();
        message[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
        for (owner, kind, ttl, data) in records {
            match owner.is_empty() {
                true => message.extend([0xc0, 12]),
                false => message.extend(labels(owner)),
            }
            message.extend(kind.to_be_bytes());
            message.extend([0, 1]);
            message.extend(ttl.to_be_bytes());
            message.extend((data.len() as u16).to_be_bytes());
            message.extend(data);
        }
        message
    }

    pub(crate) fn labels(name: &str) -> Vec<u8> {
        let labels = name
            .split('.')
            .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
        labels.chain([0]).collect()
    }

    fn ptr() -> Question {
        Question {
            id: 7,
            name: reversed("192.0.2.1".parse().unwrap()),
            kind: Kind::Ptr,
        }
    }

    /// A crawler would not be known, or whoever says that it is one would be.
    #[test]
    fn questions_and_answers() {
        assert_eq!(ptr().name, "1.2.0.192.in-addr.arpa");
        let v6 = reversed("2001:db8::1".parse().unwrap());
        assert!(v6.starts_with("1.0.0.0.") && v6.ends_with("8.b.d.0.1.0.0.2.ip6.arpa") && v6.len() == 72);
        let question = ptr();
        let asked = question.message().unwrap();
        let named = respond(&asked, &[("", 12, 60, labels("Crawl-1.Bot.example"))], 0);
        assert_eq!(question.answer(&named).unwrap().names, ["crawl-1.bot.example"]);
        // By an alias, whatever the order; and what is of another name is not taken.
        let alias = [
            ("1.0-25.2.0.192.in-addr.arpa", 12, 60, labels("a.bot.example")),
            ("", 5, 40, labels("1.0-25.2.0.192.in-addr.arpa")),
            ("2.2.0.192.in-addr.arpa", 12, 20, labels("b.bot.example")),
        ];
        let by_alias = question.answer(&respond(&asked, &alias, 0)).unwrap();
        assert_eq!(by_alias.names, ["a.bot.example"]);
        assert_eq!(
            by_alias.ttl,
            Some(Duration::from_secs(40)),
            "the least of those that count"
        );
        let a = Question {
            name: "a.bot.example".to_owned(),
            kind: Kind::A,
            ..ptr()
        };
        let records = [
            ("", 1, 30, vec![192, 0, 2, 1]),
            ("", 28, 5, vec![0; 16]),
            ("", 1, 5, vec![1]),
        ];
        let answer = a.answer(&respond(&a.message().unwrap(), &records, 0)).unwrap();
        assert_eq!(answer.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(answer.ttl, Some(Duration::from_secs(30)));
        assert_eq!(question.answer(&respond(&asked, &[], 3)), Ok(Answer::default()));
        assert_eq!(question.answer(&respond(&asked, &[], 2)), Err(Unusable::Failed));
        let mut long = named.clone();
        long[2] |= 2;
        assert_eq!(question.answer(&long), Err(Unusable::Truncated));
    }

    /// Requests would go to a server that is not of the service, or to none.
    #[test]
    fn servers_of_a_service() {
        let question = Question::new(7, "_http._TCP.api.example.", Kind::Srv);
        let asked = question.message().unwrap();
        let server = |target: &[u8]| [&[0, 10, 0, 5, 0x1f, 0x90][..], target].concat();
        let records = [
            ("", 33, 5, server(&labels("One.example"))),
            // "The service is decidedly not available" (RFC 2782): the root.
            ("", 33, 9, server(&[0])),
        ];
        let answer = question.answer(&respond(&asked, &records, 0)).unwrap();
        let one = Service {
            priority: 10,
            weight: 5,
            port: 8_080,
            target: "one.example".to_owned(),
        };
        assert_eq!((answer.services, answer.ttl), (vec![one], Some(Duration::from_secs(5))));
        let cut = respond(&asked, &[("", 33, 5, vec![0, 10, 0, 5])], 0);
        assert_eq!(question.answer(&cut), Err(Unusable::Foreign));
    }

    /// A message that somebody else sent, or that has been cut or bent, would be believed, or would
    /// end the node.
    #[test]
    fn what_is_no_answer() {
        let question = ptr();
        let asked = question.message().unwrap();
        let good = respond(&asked, &[("", 12, 60, labels("a.bot.example"))], 0);
        for other in [
            Question { id: 8, ..ptr() },
            Question { kind: Kind::A, ..ptr() },
            Question {
                name: "2.2.0.192.in-addr.arpa".to_owned(),
                ..ptr()
            },
        ] {
            assert_eq!(other.answer(&good), Err(Unusable::Foreign));
        }
        assert_eq!(
            question.answer(&asked),
            Err(Unusable::Foreign),
            "a question is not an answer"
        );
        for length in 0..good.len() {
            assert_eq!(question.answer(&good[..length]), Err(Unusable::Foreign), "{length}");
        }
        // Pointers in a circle, and labels that no host has.
        for name in [
            vec![0xc0, good.len() as u8 - 15],
            vec![0xc0, 0xff],
            vec![0x80],
            vec![3, b'a', b'.', b'b', 0],
        ] {
            let bent = respond(&asked, &[("", 12, 60, name)], 0);
            assert!(question.answer(&bent).map_or(true, |answer| answer.names.is_empty()));
        }
        let mut random = 1_u64;
        for _ in 0..200_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut bent = good.clone();
            let at = (random >> 33) as usize % bent.len();
            bent[at] = (random >> 56) as u8;
            let _ = question.answer(&bent);
        }
        let too_long = Question {
            name: "a".repeat(64),
            ..ptr()
        };
        assert_eq!(too_long.message(), None);
        assert_eq!(
            Question {
                name: "a..b".to_owned(),
                ..ptr()
            }
            .message(),
            None
        );
    }
}
