//! Runs XDP programs on packets of our own by `BPF_PROG_TEST_RUN`: verdicts for tests, nanoseconds for benches. Raw system
//! calls, because the programs come from everywhere: the daemon's own, another tool's, or two instructions made here.
#![expect(unsafe_code, reason = "no library offers BPF_PROG_TEST_RUN on programs of others")]

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// XDP's verdicts, as the program returns them.
pub mod verdict {
    /// Forget the packet.
    pub const DROP: u32 = 1;
    /// Hand it to the stack.
    pub const PASS: u32 = 2;
    /// Send it back where it came from.
    pub const TX: u32 = 3;
}

const MAP_LOOKUP: i64 = 1;
const MAP_UPDATE: i64 = 2;
const OBJ_GET: i64 = 7;
const PROG_LOAD: i64 = 5;
const PROG_TEST_RUN: i64 = 10;
const PROG_GET_FD_BY_ID: i64 = 13;
const PROG_TYPE_XDP: u32 = 6;

/// An XDP program in the kernel.
#[derive(Debug)]
pub struct Program(OwnedFd);

/// What a run gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The program's return value.
    pub verdict: u32,
    /// Nanoseconds a packet, as the kernel averages them over the repeats.
    pub nanoseconds: u32,
}

/// `bpf_attr` for `BPF_PROG_TEST_RUN` (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    verdict: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_in: u32,
    context_out: u32,
    context_in_data: u64,
    context_out_data: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    padding: u32,
}

/// The first fields of `bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// `bpf_attr` for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// `bpf_attr` for `BPF_OBJ_GET`.
#[repr(C)]
#[derive(Default)]
struct Pinned {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// `bpf_attr` for `BPF_MAP_LOOKUP_ELEM` and `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
#[derive(Default)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn bpf<T>(command: i64, attributes: &mut T) -> io::Result<i64> {
    // SAFETY: the kernel reads and writes `size_of::<T>()` bytes of `attributes`, which is one of the structures above;
    // pointers in them are to buffers that outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn descriptor(number: i64) -> io::Result<OwnedFd> {
    let number = i32::try_from(number).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Copies the value of `from` to every key of `to`, in another tool's pinned map, as far as the map has room; says how many
/// it took. `size` is that of a whole value: of a per-CPU map, 8 bytes a possible CPU at least.
///
/// # Errors
/// If there is no such map, or no such key in it.
pub fn spread(pinned: &Path, from: [u8; 4], to: &[[u8; 4]], size: usize) -> io::Result<usize> {
    let path = CString::new(pinned.as_os_str().as_bytes())?;
    let map = descriptor(bpf(
        OBJ_GET,
        &mut Pinned {
            path: path.as_ptr().addr() as u64,
            ..Pinned::default()
        },
    )?)?;
    let mut value = vec![0_u64; size.div_ceil(8)];
    let mut element = Element {
        map: u32::try_from(map.as_raw_fd()).map_err(io::Error::other)?,
        key: from.as_ptr().addr() as u64,
        value: value.as_mut_ptr().addr() as u64,
        ..Element::default()
    };
    bpf(MAP_LOOKUP, &mut element)?;
    for (taken, key) in to.iter().enumerate() {
        element.key = key.as_ptr().addr() as u64;
        match bpf(MAP_UPDATE, &mut element) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) => return Ok(taken),
            Err(error) => return Err(error),
        }
    }
    Ok(to.len())
}

impl Program {
    /// The program with this id.
    ///
    /// # Errors
    /// If there is none, or without CAP_SYS_ADMIN.
    pub fn by_id(id: u32) -> io::Result<Self> {
        descriptor(bpf(PROG_GET_FD_BY_ID, &mut ById { id, ..ById::default() })?).map(Self)
    }

    /// A program that returns `verdict` and does nothing else: what any XDP program costs at least.
    ///
    /// # Errors
    /// Without CAP_BPF.
    pub fn bare(verdict: u32) -> io::Result<Self> {
        // r0 = verdict; exit
        let code = [0xb7 | u64::from(verdict) << 32, 0x95_u64];
        let mut name = [0; 16];
        name[..9].copy_from_slice(b"edge_bare");
        let mut load = ProgLoad {
            kind: PROG_TYPE_XDP,
            instructions: 2,
            code: code.as_ptr().addr() as u64,
            license: c"GPL".as_ptr().addr() as u64,
            name,
            ..ProgLoad::default()
        };
        descriptor(bpf(PROG_LOAD, &mut load)?).map(Self)
    }

    /// Runs it once on a packet: the verdict, and the packet as the program has left it.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn rewritten(&self, packet: &[u8]) -> io::Result<(u32, Vec<u8>)> {
        let mut after = vec![0; packet.len() + 256];
        let mut attributes = TestRun {
            program: u32::try_from(self.0.as_raw_fd()).map_err(io::Error::other)?,
            size_in: u32::try_from(packet.len()).map_err(io::Error::other)?,
            size_out: u32::try_from(after.len()).map_err(io::Error::other)?,
            data_in: packet.as_ptr().addr() as u64,
            data_out: after.as_mut_ptr().addr() as u64,
            repeat: 1,
            ..TestRun::default()
        };
        bpf(PROG_TEST_RUN, &mut attributes)?;
        after.truncate(usize::try_from(attributes.size_out).map_err(io::Error::other)?);
        Ok((attributes.verdict, after))
    }

    /// Runs it `repeat` times on a packet.
    ///
    /// # Errors
    /// If the kernel refuses, as it does for a packet shorter than an Ethernet header.
    pub fn run(&self, packet: &[u8], repeat: u32) -> io::Result<Run> {
        let mut attributes = TestRun {
            program: u32::try_from(self.0.as_raw_fd()).map_err(io::Error::other)?,
            size_in: u32::try_from(packet.len()).map_err(io::Error::other)?,
            data_in: packet.as_ptr().addr() as u64,
            repeat,
            ..TestRun::default()
        };
        bpf(PROG_TEST_RUN, &mut attributes)?;
        Ok(Run {
            verdict: attributes.verdict,
            nanoseconds: attributes.duration,
        })
    }
}
