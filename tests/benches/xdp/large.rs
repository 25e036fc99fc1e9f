//! Tables as large as they get: ten million penalties, and a deny list of a million networks, as a
//! country or two have. Each packet comes from another address, in an order without a pattern, so
//! that no table is in the processor's caches.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use edge::base::penalty::{Origin, Subject};
use edge::config;
use edge::dataplane::{Dataplane, Penalty, Severity};
use edge_testbed::packet::Frame;
use edge_testbed::packet::flag::SYN;
use edge_testbed::test_run::{Program, verdict};
use ipnet::{IpNet, Ipv4Net};

use crate::Outcome;

const PENALTIES: u32 = 10_000_000;
const NETWORKS: u32 = 1_000_000;
/// Penalties that are written at once.
const BATCH: u32 = 100_000;

/// How many there are, and packets for each case.
pub(crate) struct Sizes {
    penalties: u32,
    networks: u32,
    packets: u32,
}

impl Sizes {
    pub(crate) const fn new(quick: bool) -> Self {
        if quick {
            Self {
                penalties: PENALTIES / 10,
                networks: NETWORKS / 10,
                packets: 4_000,
            }
        } else {
            Self {
                penalties: PENALTIES,
                networks: NETWORKS,
                packets: 40_000,
            }
        }
    }
}

/// The cases `syn_penalised_10m` and `deny_country`. Each fills its table first, which takes
/// seconds.
pub(crate) fn runs(base: &config::Dataplane, sizes: &Sizes) -> Outcome<BTreeMap<&'static str, Vec<u32>>> {
    Ok(BTreeMap::from([
        ("syn_penalised_10m", penalised(base, sizes)?),
        ("deny_country", country(base, sizes)?),
    ]))
}

fn penalised(base: &config::Dataplane, sizes: &Sizes) -> Outcome<Vec<u32>> {
    let dataplane = Dataplane::unattached(&config::Dataplane {
        deny: Vec::new(),
        penalty_entries: sizes.penalties,
        ..base.clone()
    })?;
    dataplane.switch_gate(true)?;
    for first in (0..sizes.penalties).step_by(usize::try_from(BATCH)?) {
        let batch = (first..sizes.penalties.min(first + BATCH)).map(|n| Penalty {
            who: Subject::Address(IpAddr::V4(client(n))),
            origin: Origin::Gate,
            severity: Severity::Blocked,
            remaining: Duration::from_secs(86_400),
            probation: Duration::ZERO,
        });
        dataplane.penalties().write(&batch.collect::<Vec<_>>())?;
    }
    dataplane.penalties().sweep();
    let (held, _) = dataplane.penalties().counted();
    println!("{held} of {} penalties are held", sizes.penalties);
    drops(&dataplane, sizes, sizes.penalties, client)
}

fn country(base: &config::Dataplane, sizes: &Sizes) -> Outcome<Vec<u32>> {
    let network = |n| Ipv4Net::new(client(n), 24).map(|network| IpNet::from(network.trunc()));
    let dataplane = Dataplane::unattached(&config::Dataplane {
        deny: (0..sizes.networks).map(network).collect::<Result<_, _>>()?,
        deny_entries: 2 * sizes.networks,
        ..base.clone()
    })?;
    drops(&dataplane, sizes, sizes.networks, |n| {
        let [a, b, c, _] = client(n).octets();
        Ipv4Addr::new(a, b, c, 77)
    })
}

/// The first `n` of these are `n` addresses, in as many /24 networks while there are any left, and
/// none that no packet comes from.
fn client(n: u32) -> Ipv4Addr {
    // 2^24 networks, of whose first bytes 1 to 100 are used; an odd number goes through all of
    // them.
    let networks = 100 << 16;
    let network = u64::from(n % networks) * 9_999_991 % u64::from(networks);
    let network = (1 << 16) + u32::try_from(network).unwrap_or_default();
    Ipv4Addr::from_bits(network << 8 | ((n / networks) & 0xff))
}

fn drops(dataplane: &Dataplane, sizes: &Sizes, among: u32, source: impl Fn(u32) -> Ipv4Addr) -> Outcome<Vec<u32>> {
    let program = Program::by_id(dataplane.program_id()?)?;
    let mut runs = Vec::new();
    let mut state = 1_u64;
    for round in 0..sizes.packets {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let address = source(u32::try_from(state >> 33)? % among);
        let packet = Frame::from(address.into()).tcp(443, SYN).bytes();
        let run = program.run(&packet, 1)?;
        if run.verdict != verdict::DROP {
            return Err(format!("{address} passed").into());
        }
        if round > sizes.packets / 10 {
            runs.push(run.nanoseconds);
        }
    }
    Ok(runs)
}
