//! Nanoseconds a packet costs in XDP: ours against the least that any program costs, and against Debian's xdp-filter with
//! a denied address. By `BPF_PROG_TEST_RUN`, cases interleaved in rounds so that a slow moment hits all of them, medians
//! of the rounds. Run it by `cargo xtask bench xdp`; needs root.
//!
//! Everything happens in network and mount namespaces of this process's own: nothing of the host's is touched, and
//! nothing is left behind, however it ends.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;

use edge::config::{self, XdpMode};
use edge::dataplane::Dataplane;
use edge_testbed::packet::flag::{ACK, SYN};
use edge_testbed::packet::{Frame, quic_initial};
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

struct Case {
    name: &'static str,
    program: usize,
    packet: Vec<u8>,
    verdict: u32,
}

fn main() -> Outcome<()> {
    let mut quick = false;
    let mut output = None;
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
    if !rustix::process::geteuid().is_root() {
        return Err("needs root: run `sudo -E cargo xtask bench xdp`".into());
    }
    isolate()?;
    let dataplane = Dataplane::unattached(&config())?;
    let programs = [
        Program::bare(verdict::DROP)?,
        Program::bare(verdict::PASS)?,
        Program::by_id(dataplane.program_id()?)?,
        xdp_filter("filter0", "ipv4", false)?,
        xdp_filter("filter1", "ipv4", true)?,
        xdp_filter("filter2", "all", false)?,
    ];
    let frame = |address: [u8; 4]| Frame::from(IpAddr::from(address));
    let syn = |address| frame(address).tcp(443, SYN).bytes();
    let case = |name, program, packet, verdict| Case {
        name,
        program,
        packet,
        verdict,
    };
    let cases = [
        case("bare_drop", 0, syn(CLEAN), verdict::DROP),
        case("bare_pass", 1, syn(CLEAN), verdict::PASS),
        case("not_our_port", 2, frame(CLEAN).tcp(8080, SYN).bytes(), verdict::PASS),
        case("established", 2, frame(IN_NETWORK).tcp(443, ACK).bytes(), verdict::PASS),
        case("syn_clean", 2, syn(CLEAN), verdict::PASS),
        case("syn_clean_near", 2, syn(NEIGHBOUR), verdict::PASS),
        case(
            "initial_clean",
            2,
            frame(CLEAN).udp(443, &quic_initial()).bytes(),
            verdict::PASS,
        ),
        case("cidr_deny", 2, syn(IN_NETWORK), verdict::DROP),
        case("address_deny", 2, syn(ADDRESS), verdict::DROP),
        case(
            "cidr_deny_v6",
            2,
            Frame::from("2001:db8:bad::7".parse()?).tcp(443, SYN).bytes(),
            verdict::DROP,
        ),
        case("xdp_filter_deny", 3, syn(ADDRESS), verdict::DROP),
        case("xdp_filter_pass", 3, syn(CLEAN), verdict::PASS),
        case("xdp_filter_dispatched_deny", 4, syn(ADDRESS), verdict::DROP),
        case("xdp_filter_all_deny", 5, syn(ADDRESS), verdict::DROP),
    ];
    let (rounds, repeat) = if quick { (7, 200_000) } else { (11, 1_000_000) };
    let mut runs: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    // Round 0 warms caches and branch predictors, and checks the verdicts.
    for round in 0..=rounds {
        for case in &cases {
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
    report(&cases, &runs, quick, output)
}

fn report(cases: &[Case], runs: &BTreeMap<&str, Vec<u32>>, quick: bool, output: Option<PathBuf>) -> Outcome<()> {
    let mut medians = BTreeMap::new();
    println!("{:<28} {:>6}  {:>4}..{:<4} ns a packet", "case", "median", "min", "max");
    for case in cases {
        let mut sorted = runs.get(case.name).cloned().unwrap_or_default();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        let (min, max) = (
            sorted.first().copied().unwrap_or_default(),
            sorted.last().copied().unwrap_or_default(),
        );
        println!("{:<28} {median:>6}  {min:>4}..{max:<4}", case.name);
        medians.insert(case.name, median);
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
    if let Some(path) = output {
        let json = serde_json::json!({ "quick": quick, "ns": medians, "runs": runs });
        std::fs::write(&path, serde_json::to_string_pretty(&json)? + "\n")?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Namespaces of our own, with a BPF file system in them for xdp-filter.
fn isolate() -> Outcome<()> {
    // SAFETY: this process has one thread so far, and neither namespace changes its memory or its open files.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("bpf", "/sys/fs/bpf", "bpf", MountFlags::empty(), None)?;
    Ok(())
}

/// 10,000 IPv4 networks, lengths mixed as in public block lists (mostly addresses and /24, some larger), as many
/// IPv6 ones as such lists have (few), and those that the cases hit.
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
        allow: vec![],
        deny,
        deny_entries: 262_144,
        penalty_entries: 262_144,
        event_sample: 1_000,
    }
}

/// Debian's xdp-filter on an interface of its own, with `ADDRESS` denied. The peer that counts is the fastest one for the
/// job: its program for addresses only, alone on the interface. By default it runs all features, behind libxdp's
/// dispatcher.
fn xdp_filter(interface: &str, features: &str, dispatched: bool) -> Outcome<Program> {
    run(Command::new("ip").args([
        "link",
        "add",
        interface,
        "type",
        "veth",
        "peer",
        "name",
        &format!("{interface}p"),
    ]))?;
    let mut load = Command::new("xdp-filter");
    load.args(["load", "--mode", "native", "--features", features, interface]);
    if !dispatched {
        load.env("LIBXDP_SKIP_DISPATCHER", "1");
    }
    run(&mut load)?;
    let [a, b, c, d] = ADDRESS;
    run(Command::new("xdp-filter").args(["ip", "--mode", "src", &format!("{a}.{b}.{c}.{d}")]))?;
    let link = run(Command::new("ip").args(["-json", "-details", "link", "show", "dev", interface]))?;
    let link: serde_json::Value = serde_json::from_str(&link)?;
    let id = link
        .pointer("/0/xdp/prog/id")
        .and_then(serde_json::Value::as_u64)
        .ok_or("xdp-filter did not attach")?;
    Ok(Program::by_id(u32::try_from(id)?)?)
}

fn run(command: &mut Command) -> Outcome<String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}: run `cargo xtask setup --bench`"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
