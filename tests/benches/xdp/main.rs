//! Nanoseconds a packet costs in XDP: ours against the least that any program costs, and against
//! Debian's xdp-filter with a denied address; the gate's verdicts with penalties and tokens. By
//! `BPF_PROG_TEST_RUN`, cases interleaved in rounds so that a slow moment hits all of them, medians
//! of the rounds. Run it by `cargo xtask bench xdp`; needs root.
//!
//! Everything happens in network and mount namespaces of this process's own: nothing of the host's
//! is touched, and nothing is left behind, however it ends.

mod large;
mod peer;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use edge::base::penalty::{Origin, Subject};
use edge::config::{self, XdpMode};
use edge::dataplane::{Dataplane, Penalty, Severity, clock_offset};
use edge_common::lockdown::{Lockdown, ON};
use edge_common::token::{Header, Prefix, QUIC, TokenKey, to_bytes};
use edge_testbed::packet::flag::{ACK, SYN};
use edge_testbed::packet::{Frame, quic_initial, quic_long, quic_short, quic_token};
use edge_testbed::rewriting::{PIECE, PIECES, Rewriting};
use edge_testbed::test_run::{Program, verdict};
use ipnet::{IpNet, Ipv4Net};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// On no list; no entry in the same /16.
const CLEAN: [u8; 4] = [100, 64, 7, 7];
/// On no list, but with listed neighbours: takes the look-ups.
const NEIGHBOUR: [u8; 4] = [198, 51, 99, 7];
/// Denied by 198.51.100.0/24.
const IN_NETWORK: [u8; 4] = [198, 51, 100, 77];
/// Denied by itself.
const ADDRESS: [u8; 4] = [198, 51, 98, 66];
/// On no list, blocked by the gate, and so is a client behind it.
const PENALISED: [u8; 4] = [100, 64, 9, 9];
/// On no list, deferred by the gate with the largest budget.
const BUDGETED: [u8; 4] = [100, 64, 9, 10];
const BUDGET: Penalty = Penalty {
    who: Subject::Address(IpAddr::V4(Ipv4Addr::from_octets(BUDGETED))),
    origin: Origin::Gate,
    severity: Severity::Deferred(u16::MAX),
    remaining: Duration::from_secs(86_400),
    probation: Duration::ZERO,
};
/// On no list, deferred without a budget.
const DEFERRED: [u8; 4] = [100, 64, 9, 11];
const PENALISED_CLIENT: u64 = 0x0bad_c11e_0000_0001;
/// Random addresses that are penalised. Debian's xdp-filter denies as many of them as its map
/// holds, which is 10,000; one whose map was made larger denies all.
const MANY: usize = 200_000;
/// Initials with each token, after its first one: fewer than are dropped as copies.
const COPIES: u32 = 20;

const HOW: &[&str] = &[
    "nanoseconds a packet by BPF_PROG_TEST_RUN, cases interleaved in rounds, medians",
    "token_valid: a token passes 32 times, so a program in front writes the next of 1,024 tokens into the packet each time and goes on with edge's; less what it takes with bare PASS behind it, plus bare PASS. Each token was seen before, as a client's further Initials'; token_valid_first: each for the first time, which the kernel notes in a map",
    "retry_minted: kernel runs of one packet, less what such a run of bare DROP takes",
    "…_alone, …_10k, …_200k, …_10m, deny_country: kernel runs of one packet, each from another address; compare with each other",
    "syn_penalised_10m: among 10 million penalised addresses, deny_country: among 1 million denied /24 networks; a tenth of that in a quick run",
    "handshake_not_ours: in a lockdown, a QUIC Handshake packet whose connection id nobody has given out",
    "xdp_filter_deny_200k: Debian's object with its one constant of 10,000 entries made 262,144, loaded by xdp-filter itself",
];

struct Case {
    name: &'static str,
    program: usize,
    packet: Vec<u8>,
    verdict: u32,
}

/// What the command line says.
struct Arguments {
    /// Fewer and shorter rounds.
    quick: bool,
    output: Option<PathBuf>,
}

fn arguments() -> Outcome<Arguments> {
    let (mut quick, mut output) = (false, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => quick = true,
            "--output" => output = Some(PathBuf::from(arguments.next().ok_or("--output takes a path")?)),
            // cargo bench says so.
            "--bench" => {}
            other => return Err(format!("unknown argument `{other}`: --quick, --output PATH").into()),
        }
    }
    Ok(Arguments { quick, output })
}

fn main() -> Outcome<()> {
    let Arguments { quick, output } = arguments()?;
    if !rustix::process::geteuid().is_root() {
        return Err("needs root: run `sudo -E cargo xtask bench xdp`".into());
    }
    isolate()?;
    let dataplane = Dataplane::unattached(&config())?;
    // The same without the gate, which is how it runs for who does not use it.
    let gated = Dataplane::unattached(&config())?;
    let mint = Mint::new(penalise(&gated)?)?;
    let programs = [
        Program::bare(verdict::DROP)?,
        Program::bare(verdict::PASS)?,
        Program::by_id(dataplane.program_id()?)?,
        peer::attach("filter0", "ipv4", false)?,
        peer::attach("filter1", "ipv4", true)?,
        peer::attach("filter2", "all", false)?,
        Program::by_id(gated.program_id()?)?,
    ];
    let many = many();
    let denied = peer::deny(&many)?;
    println!("xdp-filter's map took {denied} of {MANY} addresses");
    let roomy = peer::roomy(&many)?;

    let cases: Vec<Case> = lists()?.into_iter().chain(gate(&mint)).collect();
    let (rounds, repeat) = if quick { (7, 200_000) } else { (11, 1_000_000) };
    let few = if quick { 4_000 } else { 40_000 };
    let runs = in_turns(&cases, &programs, &gated, rounds, repeat)?;
    let mut others = spread_runs(&programs, &roomy, (&many, denied), few)?;
    let valid = mint.initial(mint.header, PENALISED, 0);
    others.extend(tokens(&programs, |nonce| mint.piece(nonce), &valid, rounds * 8)?);
    let count = u32::try_from(few)?;
    others.insert("retry_minted", retries(&programs, &gated, count)?);
    others.insert("syn_cookie", cookies(&programs, &gated, count)?);
    others.insert("handshake_not_ours", foreign(&programs, &gated, rounds, repeat)?);
    others.extend(large::runs(&config(), &large::Sizes::new(quick))?);
    report(&cases, &runs, &others, quick, output)
}

/// Makes tokens.
struct Mint {
    key: TokenKey,
    /// Of one that is valid now.
    header: Header,
}

impl Mint {
    fn new(key: TokenKey) -> Outcome<Self> {
        let now = u32::try_from(std::time::UNIX_EPOCH.elapsed()?.as_secs())?;
        let header = Header {
            key_id: 0,
            family: 0,
            flags: QUIC,
            not_before: now - 10,
            expires: now + 86_400,
            nonce: 7,
            client: 7,
        };
        Ok(Self { key, header })
    }

    /// An Initial from [`PENALISED`] with a token of `address`, the MAC of which is changed by
    /// `flip`: if the token is not good for anything, the penalty of the packet's address decides.
    fn initial(&self, header: Header, address: [u8; 4], flip: u8) -> Vec<u8> {
        let mut token = to_bytes(header.encode(Prefix::v4(address), &self.key)).to_vec();
        token[31] ^= flip;
        token.resize(96, 0x55);
        frame(PENALISED)
            .udp(443, &quic_token(1, &[1; 8], &[2; 8], &token, 2))
            .bytes()
    }

    /// The part of such a token that tells it from others.
    fn piece(&self, nonce: u32) -> [u8; PIECE] {
        to_bytes(Header { nonce, ..self.header }.encode(Prefix::v4(PENALISED), &self.key))
    }
}

fn frame(address: [u8; 4]) -> Frame {
    Frame::from(IpAddr::from(address))
}

fn syn(address: [u8; 4]) -> Vec<u8> {
    frame(address).tcp(443, SYN).bytes()
}

fn case(name: &'static str, program: usize, packet: Vec<u8>, verdict: u32) -> Case {
    Case {
        name,
        program,
        packet,
        verdict,
    }
}

/// The least that a program costs, the operator's lists, and xdp-filter's.
fn lists() -> Outcome<Vec<Case>> {
    let v6 = Frame::from("2001:db8:bad::7".parse()?).tcp(443, SYN).bytes();
    let initial = frame(CLEAN).udp(443, &quic_initial()).bytes();
    let other = frame(CLEAN).tcp(8080, SYN).bytes();
    let established = frame(IN_NETWORK).tcp(443, ACK).bytes();
    Ok(vec![
        case("bare_drop", 0, syn(CLEAN), verdict::DROP),
        case("bare_pass", 1, syn(CLEAN), verdict::PASS),
        case("not_our_port", 2, other, verdict::PASS),
        case("established", 2, established, verdict::PASS),
        case("syn_clean", 2, syn(CLEAN), verdict::PASS),
        case("syn_clean_near", 2, syn(NEIGHBOUR), verdict::PASS),
        case("initial_clean", 2, initial, verdict::PASS),
        case("cidr_deny", 2, syn(IN_NETWORK), verdict::DROP),
        case("address_deny", 2, syn(ADDRESS), verdict::DROP),
        case("cidr_deny_v6", 2, v6, verdict::DROP),
        case("xdp_filter_deny", 3, syn(ADDRESS), verdict::DROP),
        case("xdp_filter_pass", 3, syn(CLEAN), verdict::PASS),
        case("xdp_filter_dispatched_deny", 4, syn(ADDRESS), verdict::DROP),
        case("xdp_filter_all_deny", 5, syn(ADDRESS), verdict::DROP),
    ])
}

/// Penalties and tokens.
fn gate(mint: &Mint) -> Vec<Case> {
    let header = mint.header;
    let expired = Header {
        expires: header.not_before,
        ..header
    };
    let penalised = Header {
        client: PENALISED_CLIENT,
        ..header
    };
    let early = Header {
        not_before: header.expires - 6_400,
        ..header
    };
    let initial = |address| frame(address).udp(443, &quic_initial()).bytes();
    let token = |header, address, flip| mint.initial(header, address, flip);
    let short = frame(PENALISED).udp(443, &quic_short()).bytes();
    vec![
        case("syn_gated", 6, syn(CLEAN), verdict::PASS),
        case("syn_penalised", 6, syn(PENALISED), verdict::DROP),
        case("syn_budgeted", 6, syn(BUDGETED), verdict::PASS),
        case("syn_deferred", 6, syn(DEFERRED), verdict::DROP),
        case("initial_no_token", 6, initial(CLEAN), verdict::PASS),
        case("initial_penalised", 6, initial(PENALISED), verdict::DROP),
        // Not in this round robin: see `tokens`. This one has come too often after the first few.
        case("token_replayed", 6, token(header, PENALISED, 0), verdict::DROP),
        case("token_bad_mac", 6, token(header, PENALISED, 1), verdict::DROP),
        case("token_expired", 6, token(expired, PENALISED, 0), verdict::DROP),
        case("token_early", 6, token(early, PENALISED, 0), verdict::DROP),
        case("token_other_address", 6, token(header, CLEAN, 0), verdict::DROP),
        case(
            "token_penalised_client",
            6,
            token(penalised, PENALISED, 0),
            verdict::DROP,
        ),
        case("short_header", 6, short, verdict::PASS),
    ]
}

/// The cases, each in each round. Round 0 warms caches and branch predictors, and checks the
/// verdicts.
fn in_turns(
    cases: &[Case],
    programs: &[Program],
    gated: &Dataplane,
    rounds: u32,
    repeat: u32,
) -> Outcome<BTreeMap<&'static str, Vec<u32>>> {
    let mut runs: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for round in 0..=rounds {
        for case in cases {
            let repeat = if case.name == "syn_budgeted" {
                // A new penalty has its budget whole.
                gated.penalties().write(&[BUDGET])?;
                repeat.min(u32::from(u16::MAX) / 2)
            } else {
                repeat
            };
            let run = programs
                .get(case.program)
                .ok_or("no such program")?
                .run(&case.packet, repeat)?;
            if run.verdict != case.verdict {
                return Err(format!("{}: verdict {}, expected {}", case.name, run.verdict, case.verdict).into());
            }
            if round > 0 {
                runs.entry(case.name).or_default().push(run.nanoseconds);
            }
        }
    }
    Ok(runs)
}

/// A Handshake packet with a connection id that nobody has given out, in a lockdown, as [`retries`]
/// has set it.
fn foreign(programs: &[Program], locked: &Dataplane, rounds: u32, repeat: u32) -> Outcome<Vec<u32>> {
    let ours = programs.get(6).ok_or("no such program")?;
    locked.switch_lockdown(true)?;
    let packet = Frame::from(IpAddr::from(CLEAN)).udp(443, &quic_long(1, 2)).bytes();
    let mut runs = Vec::new();
    for round in 0..=rounds {
        let run = ours.run(&packet, repeat)?;
        if run.verdict != verdict::DROP {
            return Err(format!(
                "handshake_not_ours: verdict {}, expected {}",
                run.verdict,
                verdict::DROP
            )
            .into());
        }
        if round > 0 {
            runs.push(run.nanoseconds);
        }
    }
    Ok(runs)
}

/// As [`retries`], of SYN cookies: to a listener of this process, on an address of this
/// namespace's.
fn cookies(programs: &[Program], locked: &Dataplane, count: u32) -> Outcome<Vec<u32>> {
    let of = |index: usize| programs.get(index).ok_or("no such program");
    let (ours, bare) = (of(6)?, of(0)?);
    for words in [
        &["link", "set", "lo", "up"][..],
        &["addr", "add", "192.0.2.1/32", "dev", "lo"],
    ] {
        if !std::process::Command::new("ip").args(words).status()?.success() {
            return Err(format!("ip {words:?} failed").into());
        }
    }
    let _listener = std::net::TcpListener::bind((Ipv4Addr::new(192, 0, 2, 1), 443))?;
    locked.cookies().raise(1_500)?;
    // With the options of a Linux client.
    let options = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
    let question = Frame::from(IpAddr::from(CLEAN)).tcp_options(443, SYN, &options).bytes();
    let mut runs = Vec::new();
    for n in 0..count {
        let cookie = ours.run(&question, 1)?;
        if cookie.verdict != verdict::TX {
            return Err(format!("syn_cookie: verdict {}, expected {}", cookie.verdict, verdict::TX).into());
        }
        let nothing = bare.run(&question, 1)?;
        if n > count / 10 {
            runs.push(cookie.nanoseconds.saturating_sub(nothing.nanoseconds));
        }
    }
    locked.cookies().lower()?;
    locked.cookies().restore()?;
    Ok(runs)
}

/// A Retry takes the place of the packet that it answers, so that each is a kernel run of its own;
/// what such a run of bare DROP takes with the same packet, right after it, is taken off.
fn retries(programs: &[Program], locked: &Dataplane, count: u32) -> Outcome<Vec<u32>> {
    let of = |index: usize| programs.get(index).ok_or("no such program");
    let (ours, bare) = (of(6)?, of(0)?);
    let lockdown = Lockdown {
        flags: ON,
        key_id: 1,
        cid: [1, 2],
    };
    locked.penalties().set_lockdown(lockdown)?;
    let question = Frame::from(IpAddr::from(CLEAN)).udp(443, &quic_initial()).bytes();
    let mut runs = Vec::new();
    for n in 0..count {
        let retry = ours.run(&question, 1)?;
        if retry.verdict != verdict::TX {
            return Err(format!("retry_minted: verdict {}, expected {}", retry.verdict, verdict::TX).into());
        }
        let nothing = bare.run(&question, 1)?;
        if n > count / 10 {
            runs.push(retry.nanoseconds.saturating_sub(nothing.nanoseconds));
        }
    }
    Ok(runs)
}

/// The cases of many addresses: each packet from another one, in an order without a pattern, once.
/// That is a kernel run for each, and what it reports includes reading the clock and waking up
/// caches; `bare_drop_alone` says how much that is.
fn spread_runs(
    programs: &[Program],
    roomy: &Program,
    (many, denied): (&[[u8; 4]], usize),
    packets: usize,
) -> Outcome<BTreeMap<&'static str, Vec<u32>>> {
    let of = |index: usize| programs.get(index).ok_or("no such program");
    let cases = [
        ("bare_drop_alone", of(0)?, 1),
        ("syn_penalised_alone", of(6)?, 1),
        ("syn_penalised_10k", of(6)?, denied.max(1)),
        ("xdp_filter_deny_10k", of(3)?, denied.max(1)),
        ("syn_penalised_200k", of(6)?, MANY),
        ("xdp_filter_deny_200k", roomy, MANY),
    ];
    let mut runs: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    let mut state = 1_u64;
    for round in 0..packets {
        for (name, program, among) in cases {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let at = usize::try_from(state >> 33)? % among;
            let address = *many.get(at).ok_or("no such address")?;
            let packet = Frame::from(IpAddr::from(address)).tcp(443, SYN).bytes();
            let run = program.run(&packet, 1)?;
            if run.verdict != verdict::DROP {
                return Err(format!("{name}: {address:?} passed").into());
            }
            if round > packets / 10 {
                runs.entry(name).or_default().push(run.nanoseconds);
            }
        }
    }
    Ok(runs)
}

/// A valid token passes so often and no oftener, so each packet has another one, which a program in
/// front writes there. What that takes with nothing but PASS behind it is taken off.
fn tokens(
    programs: &[Program],
    mint: impl Fn(u32) -> [u8; PIECE],
    packet: &[u8],
    rounds: u32,
) -> Outcome<BTreeMap<&'static str, Vec<u32>>> {
    let of = |index: usize| programs.get(index).ok_or("no such program");
    let at = packet
        .windows(PIECE)
        .position(|bytes| bytes == mint(7))
        .ok_or("the packet has no token")?;
    let (ours, nothing) = (Rewriting::new(at, of(6)?)?, Rewriting::new(at, of(1)?)?);
    let all = u32::try_from(PIECES)?;
    let mut runs: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for round in 0..=rounds {
        let mut pieces = Box::new([[0; PIECE]; PIECES]);
        for (n, piece) in (1_000 + round * all..).zip(pieces.iter_mut()) {
            *piece = mint(n);
        }
        ours.set(&pieces)?;
        nothing.set(&pieces)?;
        for (name, repeat) in [("token_valid_first", all), ("token_valid", all * COPIES)] {
            // What stands between two runs leaves cold caches, which many packets make up for, but
            // not so few.
            nothing.run(packet, all)?;
            let run = ours.run(packet, repeat)?;
            let way = nothing.run(packet, repeat)?;
            let bare = of(1)?.run(packet, repeat)?;
            if (run.verdict, way.verdict) != (verdict::PASS, verdict::PASS) {
                return Err(format!("{name}: verdicts {} and {}, expected PASS", run.verdict, way.verdict).into());
            }
            if round > 0 {
                let cost = (run.nanoseconds + bare.nanoseconds).saturating_sub(way.nanoseconds);
                runs.entry(name).or_default().push(cost);
            }
        }
    }
    Ok(runs)
}

/// Random client addresses outside of the cases' own and the lists' networks, the same in every
/// run.
fn many() -> Vec<[u8; 4]> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut all = BTreeSet::new();
    while all.len() < MANY {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        // 100.64.0.0/10 less 100.64.0.0/16, where the cases are.
        let low = u32::try_from(state >> 42).unwrap_or_default() & 0x003f_ffff;
        if low >> 16 != 0 {
            all.insert((0x6440_0000 | low).to_be_bytes());
        }
    }
    all.into_iter().collect()
}

fn report(
    cases: &[Case],
    runs: &BTreeMap<&str, Vec<u32>>,
    alone: &BTreeMap<&str, Vec<u32>>,
    quick: bool,
    output: Option<PathBuf>,
) -> Outcome<()> {
    let mut medians = BTreeMap::new();
    println!("{:<28} {:>6}  {:>4}..{:<4} ns a packet", "case", "median", "min", "max");
    for (name, runs) in cases
        .iter()
        .filter_map(|case| runs.get_key_value(case.name))
        .chain(alone)
    {
        let mut sorted = runs.clone();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        let (min, max) = (
            sorted.first().copied().unwrap_or_default(),
            sorted.last().copied().unwrap_or_default(),
        );
        println!("{name:<28} {median:>6}  {min:>4}..{max:<4}");
        medians.insert(*name, median);
    }
    let ns = |name| f64::from(medians.get(name).copied().unwrap_or_default());
    println!(
        "not our port: bare PASS + {} ns (at most 6)",
        ns("not_our_port") - ns("bare_pass")
    );
    println!(
        "CIDR deny: {:.2} of xdp-filter (at most 1.25)",
        ns("cidr_deny") / ns("xdp_filter_deny")
    );
    println!(
        "penalised SYN: {:.2} of xdp-filter (at most 0.6)",
        ns("syn_penalised") / ns("xdp_filter_deny")
    );
    println!(
        "penalised SYN, each packet from another of 10,000 addresses: {:.2} of xdp-filter",
        ns("syn_penalised_10k") / ns("xdp_filter_deny_10k")
    );
    println!(
        "penalised SYN, each packet from another of {MANY} addresses: {:.2} of xdp-filter (at most 0.8)",
        ns("syn_penalised_200k") / ns("xdp_filter_deny_200k")
    );
    println!(
        "the same of {}: {:.2} of xdp-filter with {MANY} (at most 0.8); of a million denied networks: {:.2}",
        if quick { "a million" } else { "ten million" },
        ns("syn_penalised_10m") / ns("xdp_filter_deny_200k"),
        ns("deny_country") / ns("xdp_filter_deny_200k"),
    );
    println!(
        "clean SYN with a gate: bare PASS + {} ns (at most 14); not our Handshake: bare DROP + {} ns",
        ns("syn_gated") - ns("bare_pass"),
        ns("handshake_not_ours") - ns("bare_drop"),
    );
    println!(
        "short header: bare PASS + {} ns (at most 6); Retry minted: {} ns (below 800)",
        ns("short_header") - ns("bare_pass"),
        ns("retry_minted")
    );
    println!(
        "SYN cookie with its look-up: {:.2} of xdp-filter (at most 4.5)",
        ns("syn_cookie") / ns("xdp_filter_deny")
    );
    println!(
        "token_valid_first: {:.2} of xdp-filter (at most 2); token_valid at most 1.2",
        ns("token_valid_first") / ns("xdp_filter_deny")
    );
    for name in [
        "token_valid",
        "token_replayed",
        "token_bad_mac",
        "token_expired",
        "token_other_address",
    ] {
        println!(
            "{name}: {:.2} of xdp-filter (at most 2.4)",
            ns(name) / ns("xdp_filter_deny")
        );
    }
    if let Some(path) = output {
        let json = serde_json::json!({ "quick": quick, "how": HOW, "ns": medians, "runs": runs });
        std::fs::write(&path, serde_json::to_string_pretty(&json)? + "\n")?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Namespaces of our own, with a BPF file system in them for xdp-filter.
fn isolate() -> Outcome<()> {
    // SAFETY: this process has one thread so far, and neither namespace changes its memory or its
    // open files.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("bpf", "/sys/fs/bpf", "bpf", MountFlags::empty(), None)?;
    Ok(())
}

/// 10,000 IPv4 networks, lengths mixed as in public block lists (mostly addresses and /24, some
/// larger), as many IPv6 ones as such lists have (few), and those that the cases hit.
fn config() -> config::Dataplane {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut deny: Vec<IpNet> = Vec::new();
    while deny.len() < 10_000 {
        let [length, ..] = random().to_be_bytes();
        let length = match length {
            0..=140 => 32,
            141..=205 => 24,
            206..=220 => 25 + length % 7,
            _ => 16 + length % 8,
        };
        let bits = u32::try_from(random() >> 32).unwrap_or_default();
        let address = Ipv4Addr::from_bits(bits);
        let spared = [CLEAN, NEIGHBOUR]
            .map(|[a, b, ..]| [a, b])
            .contains(&[address.octets()[0], address.octets()[1]]);
        if let (false, Ok(network)) = (spared, Ipv4Net::new(address, length)) {
            deny.push(network.trunc().into());
        }
    }
    for index in 0..500_u128 {
        let bits = (0x2a00_0000 + u128::from(random() % 4096)) << 96 | index << 80;
        deny.extend(IpNet::new(std::net::Ipv6Addr::from_bits(bits).into(), 48));
    }
    for text in ["198.51.100.0/24", "198.51.98.66/32", "2001:db8:bad::/48"] {
        deny.extend(text.parse::<IpNet>());
    }
    config::Dataplane {
        interfaces: Vec::new(),
        mode: XdpMode::Auto,
        pin_directory: PathBuf::from("/sys/fs/bpf/edge-bench"),
        tcp_ports: vec![80, 443],
        udp_ports: vec![443],
        addresses: vec![
            Ipv4Addr::new(192, 0, 2, 1).into(),
            std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        ],
        allow: vec![],
        deny,
        deny_entries: 262_144,
        state_directory: None,
        syn_cookies: true,
        databases: Vec::new(),
        groups: config::Groups::default(),
        // Room to spare: the kernel evicts before an LRU map is quite full.
        nat64: Vec::new(),
        penalty_entries: 262_144,
        event_sample: 1_000,
    }
}

/// Puts the gate's cases in force, and returns a key that tokens are checked with.
fn penalise(dataplane: &Dataplane) -> Outcome<TokenKey> {
    let key = TokenKey {
        k0: 0x0706_0504_0302_0100,
        k1: 0x0f0e_0d0c_0b0a_0908,
        epoch: 1,
        valid: 1,
        reserved: 0,
    };
    let penalties = dataplane.penalties();
    penalties.set_keys(&[TokenKey::NONE, key, TokenKey::NONE, TokenKey::NONE])?;
    penalties.set_clock(clock_offset())?;
    let penalty = |who, severity| Penalty {
        who,
        origin: Origin::Gate,
        severity,
        remaining: Duration::from_secs(86_400),
        probation: Duration::ZERO,
    };
    let address = |address: [u8; 4]| Subject::Address(address.into());
    let many = many()
        .into_iter()
        .map(|a| penalty(Subject::Address(a.into()), Severity::Blocked));
    let mut all: Vec<Penalty> = many.collect();
    all.push(penalty(address(PENALISED), Severity::Blocked));
    all.push(penalty(address(DEFERRED), Severity::Deferred(0)));
    all.push(penalty(Subject::Client(PENALISED_CLIENT), Severity::Blocked));
    penalties.write(&all)?;
    dataplane.switch_gate(true)?;
    Ok(key)
}
