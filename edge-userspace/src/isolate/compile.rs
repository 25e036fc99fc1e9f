//! Compiling a worker in a process of its own: hostile code is given to a large compiler there,
//! under limits, without capabilities, files and sockets, and, where the node is root, as nobody.
//! Asked by `deploy`; the other side is `edge worker-compile`.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};

use super::engine;
use super::error::Error;
use super::kind::Kind;
use crate::config::isolate::Node;

/// Bytes of compiled code.
const CODE: u64 = 512 << 20;
/// Bytes of the reason why not.
const WORDS: u64 = 8 << 10;
/// The user that compiles: nobody, by convention.
const NOBODY: u32 = 65_534;

/// What a worker is, by its first bytes.
///
/// # Errors
/// [`Error::Refused`] with what to do instead.
pub(super) fn kind(bytes: &[u8]) -> Result<Kind, Error> {
    let refused = |what: &str| Err(Error::Refused(what.to_owned()));
    match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(Kind::Component),
        [0, b'a', b's', b'm', ..] => {
            refused("it is a core module, not a component; build it for wasm32-wasip2, or make a component of it")
        }
        [] => refused("it is empty"),
        text if std::str::from_utf8(text).is_ok() => Ok(Kind::Script),
        _ => refused("it is neither a WebAssembly component nor a script"),
    }
}

/// Compiles `bytes` in a process of its own. Blocks for as long as that takes.
///
/// # Errors
/// [`Error::Compile`] with the compiler's reason, or the limit that was met.
pub(super) fn compile(bytes: &[u8], kind: Kind, limits: &Node) -> Result<Vec<u8>, Error> {
    let failed = |what: String| Error::Compile(what);
    let mut child = Command::new("/proc/self/exe")
        .arg("worker-compile")
        .arg(match kind {
            Kind::Component => "component",
            Kind::Script => "script",
        })
        .arg(limits.compile_time.as_secs().max(1).to_string())
        .arg(limits.compile_memory.to_string())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(format!("cannot be begun: {e}")))?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut input), Some(output), Some(words)) = pipes else {
        return Err(failed("cannot be begun".to_owned()));
    };
    let (code, words, status) = std::thread::scope(|scope| {
        // A child that gave up reads no more, and says why.
        scope.spawn(move || drop(input.write_all(bytes)));
        let code = scope.spawn(move || bounded(output, CODE));
        let words = scope.spawn(move || bounded(words, WORDS));
        // The limit of processor time ends what computes; this ends what waits.
        let deadline = Instant::now() + limits.compile_time * 3 + Duration::from_secs(5);
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
                Ok(None) => {
                    // It may have ended by itself in between.
                    let _ = child.kill();
                    break child.wait();
                }
                Err(error) => break Err(error),
            }
        };
        (code.join(), words.join(), status)
    });
    let status = status.map_err(|e| failed(format!("was lost: {e}")))?;
    let words = words.unwrap_or_default();
    let words = String::from_utf8_lossy(&words);
    match status.signal() {
        Some(signal) if signal == libc::SIGXCPU || signal == libc::SIGKILL => {
            return Err(failed(format!(
                "took longer than compile_time, {} s",
                limits.compile_time.as_secs()
            )));
        }
        Some(signal) => {
            return Err(failed(format!(
                "broke off (signal {signal}): more than compile_memory, {} bytes, or a defect of the compiler",
                limits.compile_memory
            )));
        }
        None if !status.success() => {
            let words: String = words
                .chars()
                .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
                .collect();
            return Err(failed(format!("failed: {}", words.trim())));
        }
        None => {}
    }
    match code {
        Ok(code) if (code.len() as u64) < CODE && !code.is_empty() => Ok(code),
        _ => Err(failed("gave no code, or too much".to_owned())),
    }
}

fn bounded(from: impl Read, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What came before an error is what there is.
    let _ = from.take(most).read_to_end(&mut bytes);
    bytes
}

/// `edge worker-compile`: reads a worker from standard input and writes its compiled code to
/// standard output, under limits that are set before a byte is read.
///
/// # Errors
/// The reason, for the daemon that asked.
pub(crate) fn child(kind: Kind, seconds: u64, memory: u64) -> Result<(), Box<dyn std::error::Error>> {
    // A script's image lies in a file that has no name (memfd), and is no larger than this.
    let files = match kind {
        Kind::Component => 0,
        Kind::Script => 128 << 20,
    };
    confine(seconds, memory, files)?;
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    let code = match kind {
        Kind::Component => {
            let engine = wasmtime::Engine::new(&engine::settings(1)).map_err(|e| format!("{e:#}"))?;
            engine.precompile_component(&bytes).map_err(|e| format!("{e:#}"))?
        }
        Kind::Script => super::js::compile_handed(&bytes)?,
    };
    std::io::stdout().lock().write_all(&code)?;
    Ok(())
}

/// Limits this process, and takes from it what compiling does not need.
fn confine(seconds: u64, memory: u64, files: u64) -> Result<(), Box<dyn std::error::Error>> {
    let limit = |resource, most| {
        let most = Some(most);
        setrlimit(
            resource,
            Rlimit {
                current: most,
                maximum: most,
            },
        )
    };
    limit(Resource::Cpu, seconds)?;
    // Not the address space: the pool reserves more than there is memory. What can be written
    // counts.
    limit(Resource::Data, memory)?;
    limit(Resource::Fsize, files)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, 64)?;
    rustix::thread::set_no_new_privs(true)?;
    if rustix::process::geteuid().is_root() {
        use rustix::thread::{UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
        let (user, group) = (
            rustix::process::Uid::from_raw(NOBODY),
            rustix::process::Gid::from_raw(NOBODY),
        );
        // A container may forbid it; then there is a network, and nothing here that would use it.
        #[expect(
            unsafe_code,
            reason = "rustix marks unshare so, for FILES would break std; NEWNET shares no memory"
        )]
        // SAFETY: only the network namespace changes, and no thread but this one runs yet.
        let _ = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) };
        set_thread_groups(&[])?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)?;
    }
    // What the daemon may do by capabilities (its unit file hands some on), this process may not,
    // whoever its user is.
    rustix::thread::clear_ambient_capability_set()?;
    let none = rustix::thread::CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        rustix::thread::CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    filter().map_err(|error| format!("system calls cannot be filtered: {error}"))?;
    Ok(())
}

/// Leaves this process the system calls that computing needs, and refuses the others with EPERM: it
/// opens no file, where the daemon's user could read the zones' keys, and no socket, and starts no
/// program.
fn filter() -> Result<(), Box<dyn std::error::Error>> {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let rules = CALLS.iter().map(|call| (*call, Vec::new())).collect();
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter_all_threads(&program)?)
}

/// What reading the order, compiling, running a script's top-level code, and writing the result
/// need.
const CALLS: &[libc::c_long] = &[
    // Pipes, and files without a name.
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_lseek,
    libc::SYS_memfd_create,
    libc::SYS_newfstatat,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads: the compiler has several, and a clock.
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    // Time.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Who deploys the wrong file is told what to do, before minutes of compiling.
    #[test]
    fn what_can_be_a_worker() {
        assert_eq!(kind(b"\0asm\x0d\0\x01\0rest").unwrap(), Kind::Component);
        assert_eq!(kind(b"export default {}").unwrap(), Kind::Script);
        for (bytes, words) in [
            (b"\0asm\x01\0\0\0".as_slice(), "wasm32-wasip2"),
            (b"", "empty"),
            (b"\xff\xfe\0", "neither"),
        ] {
            assert!(kind(bytes).unwrap_err().to_string().contains(words));
        }
    }
}
