//! The process that holds keys, closed to others: no core dumps, no debugger, no swap, no
//! privileges, few system calls. Each step is taken as early as it can be: `run` calls them in this
//! order.

use std::fs;
use std::io;

use anyhow::{Context, bail};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, geteuid, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{Gid, Uid, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::config::Place;
use crate::config::keyserver::{Config, LockMemory, User};

/// Descriptors for what is no client connection.
const SPARE: u64 = 128;

/// No core dumps, and no other process of the same user may look into the memory (ptrace(2),
/// /proc/PID/mem).
pub(super) fn seal() -> anyhow::Result<()> {
    // Read once and kept, for the metrics: /proc/self/auxv is root's when the process is not
    // dumpable.
    let _ = (rustix::param::page_size(), rustix::param::clock_ticks_per_second());
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("cannot forbid core dumps (PR_SET_DUMPABLE)")?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).context("cannot forbid core dumps (RLIMIT_CORE)")
}

/// Raises the descriptor limit to what the configured connections need, as far as allowed. Gives a
/// warning where it is not.
pub(super) fn descriptors(config: &Config) -> Option<String> {
    let wanted = (config.limits.connections as u64).saturating_add(SPARE);
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= wanted) {
        return None;
    }
    let most = now.maximum.unwrap_or(u64::MAX);
    let raise = |current: u64, maximum: u64| {
        let limit = Rlimit {
            current: Some(current),
            maximum: Some(maximum),
        };
        setrlimit(Resource::Nofile, limit).is_ok()
    };
    if raise(wanted, most.max(wanted)) {
        return None;
    }
    raise(most, most);
    Some(format!(
        "the descriptor limit of {most} is too low for limits.connections; raise LimitNOFILE to {wanted}, or lower \
         limits.connections"
    ))
}

/// Keeps all memory, that to come included, out of swap. Gives a warning where that is not allowed
/// and not demanded.
pub(super) fn lock_memory(how: LockMemory) -> anyhow::Result<Option<String>> {
    if how == LockMemory::Off {
        return Ok(None);
    }
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    // Under a limit the next allocation beyond it would fail, so it is all or nothing.
    let allowed = getrlimit(Resource::Memlock).current.is_none() || setrlimit(Resource::Memlock, unlimited).is_ok();
    // Pages are locked when they are touched: reserved stacks cost nothing.
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    let why = match (allowed, if allowed { mlockall(flags) } else { Ok(()) }) {
        (true, Ok(())) => return Ok(None),
        (true, Err(error)) => io::Error::from(error).to_string(),
        (false, _) => "the limit of locked memory is too low".to_owned(),
    };
    let mend =
        "set LimitMEMLOCK=infinity (ulimit -l unlimited), switch swap off, or write [process] lock_memory = \"off\"";
    if how == LockMemory::On {
        bail!("memory cannot be locked: {why}; {mend}");
    }
    Ok(Some(format!("memory is not locked: {why}; {mend}")))
}

/// Becomes the configured user for good. Only the calling thread: it must be the only one yet.
pub(super) fn become_user(user: Option<&(User, Place)>) -> anyhow::Result<()> {
    if let Some((user, place)) = user {
        let ids = match user {
            User::Ids(user, group) => Some((*user, *group)),
            User::Name(name) => {
                let text = fs::read_to_string("/etc/passwd").context("/etc/passwd cannot be read; write UID:GID")?;
                passwd(&text, name)
            }
        };
        let Some((user, group)) = ids.filter(|(user, group)| *user != u32::MAX && *group != u32::MAX) else {
            bail!(place.mistake("no such user", "make it: useradd --system edge-keyserver"));
        };
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(group));
        if geteuid() != uid {
            let done = set_thread_groups(&[])
                .and_then(|()| set_thread_res_gid(gid, gid, gid))
                .and_then(|()| set_thread_res_uid(uid, uid, uid));
            if let Err(error) = done {
                let what = format!("cannot become user {user}: {error}");
                bail!(place.mistake(what, "start as root, or leave `user` out"));
            }
        }
    }
    set_no_new_privs(true).context("cannot give up privileges (PR_SET_NO_NEW_PRIVS)")?;
    // Changing the user sets it anew.
    seal()
}

/// User and primary group of `name` in the text of passwd(5).
fn passwd(text: &str, name: &str) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let mut ids = fields.skip(1);
        Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
    })
}

/// Leaves all threads the system calls that serving needs, and refuses the others with EPERM: no
/// new process or thread, no program, no socket but Unix ones, no tracing, no mounts.
pub(super) fn filter() -> anyhow::Result<()> {
    let unix_only = SeccompRule::new(vec![SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        u64::from(libc::AF_UNIX.unsigned_abs()),
    )?])?;
    let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> =
        CALLS.iter().map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_socket, vec![unix_only]);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter_all_threads(&program)
        .context("system calls cannot be filtered; write [process] seccomp = false")
}

/// What serving, reloading and ending need.
const CALLS: &[libc::c_long] = &[
    // Sockets that exist, and the service manager's.
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    // Files: the configuration, keys, /proc/self, and removing the admin socket.
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_getdents64,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads that exist, waiting, time, randomness, signals, the end.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_membarrier,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    // Modules of PKCS#11 that keep their tokens in files (SoftHSM): they lock them, and write on
    // login.
    #[cfg(feature = "pkcs11")]
    libc::SYS_fdatasync,
    #[cfg(feature = "pkcs11")]
    libc::SYS_flock,
    #[cfg(feature = "pkcs11")]
    libc::SYS_fsync,
    #[cfg(feature = "pkcs11")]
    libc::SYS_ftruncate,
    #[cfg(feature = "pkcs11")]
    libc::SYS_geteuid,
    #[cfg(feature = "pkcs11")]
    libc::SYS_getuid,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The wrong user could read the keys, or not.
    #[test]
    fn users() {
        let text = "root:x:0:0:root:/root:/bin/sh\nedge:x:990:991::/:/bin/false\nbad:x:a:b::/:/\n";
        assert_eq!(passwd(text, "edge"), Some((990, 991)));
        assert_eq!(passwd(text, "root"), Some((0, 0)));
        assert_eq!(passwd(text, "bad"), None);
        assert_eq!(passwd(text, "edg"), None);
    }
}
