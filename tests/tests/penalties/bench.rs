//! What the gate's tests share: a program with its maps that is attached to nothing, packets for
//! it, tokens in them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use edge::base::penalty::{Origin, Subject};
use edge::config::{self, XdpMode};
use edge::dataplane::{Dataplane, Penalties, Penalty, Severity};
use edge_common::retry::{self, Source};
use edge_common::token::{Header, KEYS, Prefix, QUIC, TokenKey, to_bytes};
use edge_testbed::packet::{Frame, quic_token};
use edge_testbed::test_run::{Program, verdict};
use rustix::time::{ClockId, clock_gettime};

/// What the test expects: the label pair of the metrics.
pub(crate) type Expect = (&'static str, &'static str);

pub(crate) const ATTEMPT: Expect = ("pass", "attempt");
pub(crate) const ESTABLISHED: Expect = ("pass", "established");
pub(crate) const ALLOWED: Expect = ("pass", "allowed");
pub(crate) const BUDGETED: Expect = ("pass", "budgeted");
pub(crate) const TOKEN: Expect = ("pass", "token");
pub(crate) const DENIED: Expect = ("drop", "denied");
pub(crate) const MALFORMED: Expect = ("drop", "malformed");
pub(crate) const BLOCKED: Expect = ("drop", "penalty_blocked");
pub(crate) const DEFERRED: Expect = ("drop", "penalty_deferred");
pub(crate) const CLIENT: Expect = ("drop", "client_penalty");
pub(crate) const EARLY: Expect = ("drop", "token_early");
pub(crate) const BAD: Expect = ("drop", "token_bad");
pub(crate) const REPLAYED: Expect = ("drop", "token_replayed");

pub(crate) const CAPACITY: u32 = 1024;
pub(crate) const LONG: Duration = Duration::from_secs(600);
/// The second since 1970 in which the kernel believes to be.
pub(crate) const NOW: u32 = 1_800_000_000;
pub(crate) const V1: u32 = 1;
pub(crate) const TAG: u16 = 0x8100;
pub(crate) const PROVIDER_TAG: u16 = 0x88a8;
/// The source port of the test bed's frames.
pub(crate) const PORT: u16 = 40_000;
pub(crate) const ALICE: u64 = 0xa11c_e000_0000_0001;
pub(crate) const MALLORY: u64 = 0x3a11_0124_0000_0002;

pub(crate) fn config() -> config::Dataplane {
    let nets = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
    config::Dataplane {
        interfaces: Vec::new(),
        mode: XdpMode::Auto,
        pin_directory: PathBuf::from("/sys/fs/bpf/edge-penalties"),
        tcp_ports: vec![443],
        udp_ports: vec![443],
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        allow: nets(&["203.0.113.0/24", "2001:db8:a::/48"]),
        deny: nets(&["198.51.100.0/24", "2001:db8:d::/48"]),
        deny_entries: 1000,
        state_directory: None,
        syn_cookies: true,
        databases: Vec::new(),
        groups: config::Groups::default(),
        nat64: vec!["2001:db8:64::/96".parse().unwrap()],
        penalty_entries: CAPACITY,
        event_sample: 0,
    }
}

/// Of epochs 4 to 6; 7 is no key yet.
pub(crate) fn keys() -> [TokenKey; KEYS] {
    let key = |epoch| TokenKey {
        k0: 0x0706_0504_0302_0100 ^ epoch,
        k1: 0x0f0e_0d0c_0b0a_0908,
        epoch,
        valid: 1,
        reserved: 0,
    };
    [key(4), key(5), key(6), TokenKey::NONE]
}

pub(crate) struct Bench {
    pub(crate) dataplane: Dataplane,
    pub(crate) program: Program,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with_room(CAPACITY)
    }

    /// With room for so many penalties of each kind, and counts of as many tokens.
    pub(crate) fn with_room(entries: u32) -> Self {
        let config = config::Dataplane {
            penalty_entries: entries,
            ..config()
        };
        let dataplane = Dataplane::unattached(&config).unwrap();
        let program = Program::by_id(dataplane.program_id().unwrap()).unwrap();
        let bench = Self { dataplane, program };
        bench.penalties().set_keys(&keys()).unwrap();
        bench.dataplane.switch_gate(true).unwrap();
        bench.freeze();
        bench
    }

    pub(crate) fn penalties(&self) -> &Penalties {
        self.dataplane.penalties()
    }

    /// Sets the kernel's wall clock to the middle of the second `NOW`.
    pub(crate) fn freeze(&self) {
        let time = clock_gettime(ClockId::Monotonic);
        let monotonic = u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap();
        let now = u64::from(NOW) * 1_000_000_000 + 500_000_000;
        self.penalties().set_clock(now - monotonic).unwrap();
    }

    pub(crate) fn penalise(&self, who: Subject, severity: Severity, remaining: Duration) {
        let penalty = Penalty {
            who,
            origin: Origin::Gate,
            severity,
            remaining,
            probation: Duration::ZERO,
        };
        self.penalties().write(&[penalty]).unwrap();
    }

    pub(crate) fn block(&self, address: &str) {
        self.penalise(Subject::Address(address.parse().unwrap()), Severity::Blocked, LONG);
    }

    pub(crate) fn counters(&self) -> BTreeMap<Expect, u64> {
        let counts = self.dataplane.counters().unwrap();
        counts
            .into_iter()
            .map(|count| ((count.verdict.name(), count.name), count.packets))
            .collect()
    }

    /// Runs one packet, and reads its reason off the counters: exactly one must have moved, by one,
    /// and it must belong to the verdict.
    pub(crate) fn judge(&self, packet: &[u8]) -> Expect {
        let before = self.counters();
        let verdict = self.program.run(packet, 1).unwrap().verdict;
        let after = self.counters();
        let moved: Vec<_> = after.iter().filter(|(key, count)| before[*key] != **count).collect();
        let [(found, count)] = moved[..] else {
            panic!("counters moved: {moved:?}")
        };
        assert_eq!(*count, before[found] + 1);
        let expected = match verdict {
            verdict::PASS => "pass",
            verdict::TX => "answer",
            _ => "drop",
        };
        assert_eq!(found.0, expected, "{found:?}");
        *found
    }

    pub(crate) fn passes(&self, packet: &[u8]) -> bool {
        self.program.run(packet, 1).unwrap().verdict == verdict::PASS
    }

    pub(crate) fn all(&self, table: Vec<(&str, Frame, Expect)>) {
        let mut wrong = Vec::new();
        for (name, frame, expected) in table {
            self.freeze();
            let found = self.judge(&frame.bytes());
            if found != expected {
                wrong.push(format!("{name}: expected {expected:?}, got {found:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

pub(crate) fn from(source: &str) -> Frame {
    Frame::from(source.parse::<IpAddr>().unwrap())
}

pub(crate) fn prefix(address: &str) -> Prefix {
    Prefix::of(address.parse().unwrap())
}

pub(crate) fn header() -> Header {
    Header {
        key_id: 0,
        family: 0,
        flags: QUIC,
        not_before: NOW - 10,
        expires: NOW + 1000,
        nonce: 0x1234_5678,
        client: ALICE,
    }
}

/// A token for this address, with the body behind it that the daemon would seal.
pub(crate) fn minted(header: Header, address: &str, key: &TokenKey) -> Vec<u8> {
    let mut token = to_bytes(header.encode(prefix(address), key)).to_vec();
    token.extend([0x55; 60]);
    token
}

/// A Retry token for this address.
pub(crate) fn retried(address: &str, port: u16, issued: u64) -> Vec<u8> {
    let address: IpAddr = address.parse().unwrap();
    let bytes = match address {
        IpAddr::V4(v4) => u128::from(u32::from_le_bytes(v4.octets())).to_le_bytes(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let (first, second) = bytes.split_at(8);
    let source = Source {
        address: [first, second].map(|half| u64::from_le_bytes(half.try_into().unwrap())),
        port,
        family: if address.is_ipv4() { 4 } else { 6 },
    };
    retry::encode(source, [1, 2, 3], 20, 9, &keys()[1], issued)
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
}

pub(crate) fn initial(token: &[u8]) -> Vec<u8> {
    quic_token(V1, &[1; 8], &[2; 8], token, 2)
}
