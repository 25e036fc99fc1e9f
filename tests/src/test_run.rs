//! Runs XDP programs on packets of our own by `BPF_PROG_TEST_RUN`: verdicts for tests, nanoseconds
//! for benches. Raw system calls, because the programs come from everywhere: the daemon's own,
//! another tool's, or two instructions made here.
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

const MAP_CREATE: i64 = 0;
pub(crate) const MAP_LOOKUP: i64 = 1;
pub(crate) const MAP_UPDATE: i64 = 2;
const OBJ_GET: i64 = 7;
const PROG_LOAD: i64 = 5;
const PROG_TEST_RUN: i64 = 10;
const PROG_GET_FD_BY_ID: i64 = 13;
const OBJ_GET_INFO_BY_FD: i64 = 15;
const LINK_CREATE: i64 = 28;
const ENABLE_STATS: i64 = 32;
/// `enum bpf_attach_type`.
const ATTACH_XDP: u32 = 37;
/// In the driver or not at all (linux/if_link.h).
const XDP_HAS_FRAGS: u32 = 1 << 5;
const XDP_FLAGS_DRV_MODE: u32 = 4;
/// Frames are not looked at and given back, but do what the verdict says.
const TEST_XDP_LIVE_FRAMES: u32 = 2;
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

/// `struct xdp_md` (linux/bpf.h): where the packet lies in what is handed in.
#[repr(C)]
#[derive(Default)]
struct Context {
    data: u32,
    data_end: u32,
    rest: [u32; 4],
}

/// The first fields of `struct bpf_prog_info` (linux/bpf.h), as many as have meant the same since
/// Linux 5.1.
#[repr(C)]
struct Info {
    others: [u64; 24],
    run_time: u64,
    runs: u64,
}

/// `bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
#[derive(Default)]
struct GetInfo {
    program: u32,
    length: u32,
    info: u64,
}

/// The first fields of `bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach: u32,
    flags: u32,
}

/// What the kernel counts of a program while somebody holds [`Stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Nanoseconds inside of it, a read of the clock included.
    pub nanoseconds: u64,
    /// How often.
    pub runs: u64,
}

/// The kernel counts how long programs run, all of the machine's, until this is dropped. That costs
/// some time itself.
#[derive(Debug)]
pub struct Stats {
    _kept: OwnedFd,
}

impl Stats {
    /// From now on.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn enable() -> io::Result<Self> {
        // BPF_STATS_RUN_TIME
        descriptor(bpf(ENABLE_STATS, &mut 0_u32)?).map(|kept| Self { _kept: kept })
    }
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
    device: u32,
    /// A program that goes on with another one is made for the same place.
    attach: u32,
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

/// The first fields of `bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
#[derive(Default)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
}

/// Kinds of maps: an array, and one of programs to go on with.
pub(crate) const ARRAY: u32 = 2;
pub(crate) const PROG_ARRAY: u32 = 3;

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
    // SAFETY: the kernel reads and writes `size_of::<T>()` bytes of `attributes`, which is one of
    // the structures above; pointers in them are to buffers that outlive the call.
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

/// A map with one value of `size` bytes.
pub(crate) fn array(kind: u32, size: usize) -> io::Result<OwnedFd> {
    let mut create = MapCreate {
        kind,
        key_size: 4,
        value_size: u32::try_from(size).map_err(io::Error::other)?,
        entries: 1,
    };
    descriptor(bpf(MAP_CREATE, &mut create)?)
}

/// Reads or writes the only value of a map made by [`array()`] for it.
pub(crate) fn element<T>(map: &OwnedFd, command: i64, value: &mut T) -> io::Result<()> {
    let key = 0_u32;
    let mut element = Element {
        map: u32::try_from(map.as_raw_fd()).map_err(io::Error::other)?,
        key: std::ptr::from_ref(&key).addr() as u64,
        value: std::ptr::from_mut(value).addr() as u64,
        ..Element::default()
    };
    bpf(command, &mut element).map(drop)
}

/// Copies the value of `from` to every key of `to`, in another tool's pinned map, as far as the map
/// has room; says how many it took. `size` is that of a whole value: of a per-CPU map, 8 bytes a
/// possible CPU at least.
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
        Self::load(&[0xb7 | u64::from(verdict) << 32, 0x95_u64], "edge_bare")
    }

    /// The program of these instructions, under a name of at most 15 bytes.
    ///
    /// # Errors
    /// Without CAP_BPF, or if the verifier refuses.
    pub fn load(code: &[u64], name: &str) -> io::Result<Self> {
        Self::load_with(0, code, name)
    }

    /// The same, for packets that may lie in several buffers (Linux 5.18): only such a program goes
    /// on with one that was loaded so.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_fragments(code: &[u64], name: &str) -> io::Result<Self> {
        Self::load_with(XDP_HAS_FRAGS, code, name)
    }

    fn load_with(flags: u32, code: &[u64], name: &str) -> io::Result<Self> {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(name.bytes().take(15)) {
            *to = from;
        }
        let mut load = ProgLoad {
            kind: PROG_TYPE_XDP,
            instructions: u32::try_from(code.len()).map_err(io::Error::other)?,
            code: code.as_ptr().addr() as u64,
            license: c"GPL".as_ptr().addr() as u64,
            flags,
            name: bytes,
            attach: ATTACH_XDP,
            ..ProgLoad::default()
        };
        descriptor(bpf(PROG_LOAD, &mut load)?).map(Self)
    }

    pub(crate) fn descriptor(&self) -> io::Result<u32> {
        u32::try_from(self.0.as_raw_fd()).map_err(io::Error::other)
    }

    /// In the driver of an interface of this thread's network namespace, until the link is dropped.
    ///
    /// # Errors
    /// If there is no such interface, it has a program, or its driver takes none.
    pub fn attach(&self, interface: u32) -> io::Result<OwnedFd> {
        let mut create = LinkCreate {
            program: u32::try_from(self.0.as_raw_fd()).map_err(io::Error::other)?,
            interface,
            attach: ATTACH_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        };
        descriptor(bpf(LINK_CREATE, &mut create)?)
    }

    /// What the kernel has counted of it so far.
    ///
    /// # Errors
    /// None but the kernel's own.
    pub fn ran(&self) -> io::Result<Ran> {
        let mut info = Info {
            others: [0; 24],
            run_time: 0,
            runs: 0,
        };
        let mut get = GetInfo {
            program: u32::try_from(self.0.as_raw_fd()).map_err(io::Error::other)?,
            length: size_of::<Info>() as u32,
            info: std::ptr::from_mut(&mut info).addr() as u64,
        };
        bpf(OBJ_GET_INFO_BY_FD, &mut get)?;
        Ok(Ran {
            nanoseconds: info.run_time,
            runs: info.runs,
        })
    }

    /// Runs it `repeat` times on live frames, `batch` at a time: what it redirects goes out. The
    /// frames begin as `packet`.
    ///
    /// # Errors
    /// As [`Program::run`]; a signal interrupts it.
    pub fn run_live(&self, packet: &[u8], repeat: u32, batch: u32) -> io::Result<()> {
        let mut context = Context {
            data_end: u32::try_from(packet.len()).map_err(io::Error::other)?,
            ..Context::default()
        };
        let mut attributes = TestRun {
            program: u32::try_from(self.0.as_raw_fd()).map_err(io::Error::other)?,
            size_in: context.data_end,
            data_in: packet.as_ptr().addr() as u64,
            repeat,
            context_in: size_of::<Context>() as u32,
            context_in_data: std::ptr::from_mut(&mut context).addr() as u64,
            flags: TEST_XDP_LIVE_FRAMES,
            batch,
            ..TestRun::default()
        };
        bpf(PROG_TEST_RUN, &mut attributes).map(drop)
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
