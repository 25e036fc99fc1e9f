//! The eBPF object inside the daemon (`build.rs` put it there), and its loading into the kernel.

use std::path::PathBuf;

use aya::programs::{ProgramInfo, Xdp};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel, include_bytes_aligned};
use edge_common::{maps, replay};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::error::Error;
use super::penalties;
use super::tables::TABLES;

/// Empty if the object had not been built when the daemon was.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/edge.o"));

/// Name of the program, in the object and in `bpftool prog`.
const PROGRAM: &str = "edge";
/// Name of the program's constant that says how many elements the map of tokens' counts has.
const REPLAY_SETS: &str = "REPLAY_SETS";

/// Whether this build can run XDP at all.
pub(super) const fn built() -> bool {
    !OBJECT.is_empty()
}

/// Creates the maps, or opens those pinned at `paths` (name and path), each list with room for `capacity` entries
/// and each map of penalties for `penalties`; counts of as many tokens.
pub(super) fn load(paths: Option<&[(&'static str, PathBuf)]>, capacity: u32, penalties: u32) -> Result<Ebpf, Error> {
    if !built() {
        return Err(Error::NoObject);
    }
    // Kernels before 5.11 charge maps to the memory that a process may lock. Where that does not matter, or where we may
    // not raise it, the load itself tells.
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
    for name in penalties::TABLES {
        loader.map_max_entries(name, penalties);
    }
    let sets = replay::sets(penalties);
    loader.map_max_entries(maps::REPLAY, sets);
    loader.override_global(REPLAY_SETS, &sets, true);
    for (name, path) in paths.unwrap_or_default() {
        loader.map_pin_path(name, path.as_path());
    }
    loader.load(OBJECT).map_err(Error::object)
}

/// The program, verified and compiled by the kernel.
pub(super) fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, Error> {
    let program = ebpf.program_mut(PROGRAM).ok_or(Error::Missing("program `edge`"))?;
    let program: &mut Xdp = program.try_into().map_err(Error::program)?;
    program.load().map_err(Error::program)?;
    Ok(program)
}

/// What the kernel says about the loaded program.
pub(super) fn info(ebpf: &Ebpf) -> Result<ProgramInfo, Error> {
    let program = ebpf.program(PROGRAM).ok_or(Error::Missing("program `edge`"))?;
    program.info().map_err(Error::program)
}
