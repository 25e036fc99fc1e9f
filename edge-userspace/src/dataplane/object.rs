//! The eBPF object inside the daemon (`build.rs` put it there), and its loading into the kernel.

use std::path::PathBuf;

use aya::programs::{ProgramInfo, Xdp};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader, VerifierLogLevel, include_bytes_aligned};
use edge_common::token::{TRANSLATORS, Translator};
use edge_common::{maps, replay, table};
use ipnet::Ipv6Net;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::error::Error;
use super::tables::TABLES;
use crate::config;

/// Empty if the object had not been built when the daemon was.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/edge.o"));

/// Name of the program, in the object and in `bpftool prog`: one that takes packets of several
/// buffers, so that it runs natively on interfaces with jumbo frames, and the same for kernels that
/// know no such programs.
const PROGRAM: &str = "edge";
const LINEAR: &str = "edge_linear";
/// The first kernel with programs for packets of several buffers, and with the helper that tells
/// how long those are.
const FRAGMENTS_SINCE: KernelVersion = KernelVersion::new(5, 18, 0);
/// Name of the program's constant that says whether it is loaded as such a one.
const FRAGMENTED: &str = "FRAGMENTED";
/// Names of the program's constants that say how many elements the map of tokens' counts has, and
/// that of penalties.
const REPLAY_SETS: &str = "REPLAY_SETS";
const PENALTY_BUCKETS: &str = "PENALTY_BUCKETS";

/// Name of the program's constant that says where translators put IPv4 addresses.
const TRANSLATED: &str = "TRANSLATORS";

const _: () = assert!(TRANSLATORS == config::TRANSLATORS);

/// Whether this build can run XDP at all.
pub(super) const fn built() -> bool {
    !OBJECT.is_empty()
}

/// Creates the maps, or opens those pinned at `paths` (name and path), each list with room for
/// `capacity` entries and that of penalties as `config` says; counts of as many tokens.
pub(super) fn load(
    paths: Option<&[(&'static str, PathBuf)]>,
    capacity: u32,
    config: &config::Dataplane,
) -> Result<Ebpf, Error> {
    let penalties = config.penalty_entries;
    if !built() {
        return Err(Error::NoObject);
    }
    // Kernels before 5.11 charge maps to the memory that a process may lock. Where that does not
    // matter, or where we may not raise it, the load itself tells.
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let _ = setrlimit(Resource::Memlock, unlimited);
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::STATS);
    for name in TABLES {
        loader.map_max_entries(name, capacity);
    }
    let buckets = table::buckets(penalties);
    loader.map_max_entries(maps::PENALTIES, buckets);
    loader.override_global(PENALTY_BUCKETS, &buckets, true);
    let sets = replay::sets(penalties);
    loader.map_max_entries(maps::REPLAY, sets);
    loader.override_global(REPLAY_SETS, &sets, true);
    let fragmented = u32::from(name() == PROGRAM);
    loader.override_global(FRAGMENTED, &fragmented, true);
    let translators = translators(&config.nat64);
    loader.override_global(TRANSLATED, &translators, true);
    for (name, path) in paths.unwrap_or_default() {
        loader.map_pin_path(name, path.as_path());
    }
    loader.load(OBJECT).map_err(Error::object)
}

/// Networks of translators (/96) as the program has them: of each its first eight bytes and the
/// next four, zeros after the last.
fn translators(networks: &[Ipv6Net]) -> [u64; 2 * TRANSLATORS] {
    let mut words = [0; 2 * TRANSLATORS];
    for (pair, network) in words.chunks_exact_mut(2).zip(networks) {
        let Translator { first, second } = Translator::of(network.network());
        pair.copy_from_slice(&[first, second.into()]);
    }
    words
}

/// Which of the two programs this kernel is given.
fn name() -> &'static str {
    match KernelVersion::current() {
        Ok(version) if version < FRAGMENTS_SINCE => LINEAR,
        _ => PROGRAM,
    }
}

/// The program, verified and compiled by the kernel.
pub(super) fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, Error> {
    let program = loaded(ebpf)?;
    program.load().map_err(Error::program)?;
    Ok(program)
}

/// The program, which has been [loaded](program).
pub(super) fn loaded(ebpf: &mut Ebpf) -> Result<&mut Xdp, Error> {
    let program = ebpf.program_mut(name()).ok_or(Error::Missing("program `edge`"))?;
    program.try_into().map_err(Error::program)
}

/// What the kernel says about the loaded program.
pub(super) fn info(ebpf: &Ebpf) -> Result<ProgramInfo, Error> {
    let program = ebpf.program(name()).ok_or(Error::Missing("program `edge`"))?;
    program.info().map_err(Error::program)
}
