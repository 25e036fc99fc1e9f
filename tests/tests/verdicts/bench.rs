//! A program with the lists of these tests, and what is expected of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use edge::config::{self, XdpMode};
use edge::dataplane::Dataplane;
use edge_testbed::packet::Frame;
use edge_testbed::test_run::{Program, verdict};

/// EtherType of an 802.1Q tag.
pub(crate) const TAG: u16 = 0x8100;

/// What the test expects: the label pair of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Pass(&'static str),
    Drop(&'static str),
}
pub(crate) use Expect::{Drop, Pass};

pub(crate) const NOT_OURS: Expect = Pass("not_ours");
pub(crate) const ESTABLISHED: Expect = Pass("established");
pub(crate) const ATTEMPT: Expect = Pass("attempt");
pub(crate) const ALLOWED: Expect = Pass("allowed");
pub(crate) const LATER_FRAGMENT: Expect = Pass("fragment");
pub(crate) const DENIED: Expect = Drop("denied");
pub(crate) const FRAGMENT: Expect = Drop("fragment");
pub(crate) const MALFORMED: Expect = Drop("malformed");
pub(crate) const HEADERS: Expect = Drop("headers");
pub(crate) const MARTIAN: Expect = Drop("martian");

pub(crate) fn config() -> config::Dataplane {
    let nets = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
    config::Dataplane {
        interfaces: Vec::new(),
        mode: XdpMode::Auto,
        pin_directory: PathBuf::from("/sys/fs/bpf/edge-verdicts"),
        tcp_ports: vec![80, 443],
        udp_ports: vec![443],
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        allow: nets(&[
            "203.0.113.128/25",
            "203.0.113.9/32",
            "2001:db8:d:a::/64",
            "198.51.100.250/32",
        ]),
        deny: nets(&[
            "198.51.100.0/24",
            "203.0.113.0/24",
            "203.0.113.200/32",
            "192.0.2.66/32",
            "10.0.0.0/8",
            "2001:db8:d::/48",
            "2001:db8:bad::66/128",
            "2001:db8:d:a::1/128",
            "2002::/16",
        ]),
        deny_entries: 1000,
        state_directory: None,
        syn_cookies: true,
        databases: Vec::new(),
        groups: config::Groups::default(),
        nat64: Vec::new(),
        penalty_entries: 1024,
        event_sample: 0,
    }
}

pub(crate) struct Bench {
    pub(crate) dataplane: Dataplane,
    pub(crate) program: Program,
    pub(crate) before: BTreeMap<(&'static str, &'static str), u64>,
}

impl Bench {
    pub(crate) fn new(config: &config::Dataplane) -> Self {
        let dataplane = Dataplane::unattached(config).unwrap();
        let program = Program::by_id(dataplane.program_id().unwrap()).unwrap();
        let mut bench = Self {
            dataplane,
            program,
            before: BTreeMap::new(),
        };
        bench.before = bench.counters();
        bench
    }

    pub(crate) fn counters(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        let counts = self.dataplane.counters().unwrap();
        counts
            .into_iter()
            .map(|count| ((count.verdict.name(), count.name), count.packets))
            .collect()
    }

    /// Runs one packet, and reads its reason off the counters: exactly one must have moved, by one,
    /// and it must belong to the verdict.
    pub(crate) fn judge(&mut self, packet: &[u8]) -> Expect {
        let verdict = self.program.run(packet, 1).unwrap().verdict;
        let after = self.counters();
        let moved: Vec<_> = after
            .iter()
            .filter(|(key, count)| self.before.get(*key) != Some(*count))
            .collect();
        let [((name, reason), count)] = moved[..] else {
            panic!("counters moved: {moved:?}")
        };
        assert_eq!(*count, self.before[&(*name, *reason)] + 1);
        let found = match (verdict, *name) {
            (verdict::PASS, "pass") => Pass(reason),
            (verdict::DROP, "drop") => Drop(reason),
            other => panic!("verdict and counter differ: {other:?} {reason}"),
        };
        self.before = after;
        found
    }

    pub(crate) fn all(&mut self, table: Vec<(&str, Frame, Expect)>) {
        let mut wrong = Vec::new();
        for (name, frame, expected) in table {
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

/// A client on no list, and one on the deny list, of either IP version.
pub(crate) const CLEAN: &str = "100.64.0.1";
pub(crate) const CLEAN6: &str = "2001:db8:c::1";
pub(crate) const BAD: &str = "192.0.2.66";
pub(crate) const BAD6: &str = "2001:db8:bad::66";
