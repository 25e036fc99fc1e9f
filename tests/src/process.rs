//! Child processes that end with their owner, and what `/proc` knows about them.
//!
//! The demo, benches and tests start servers and clients here. Every wait has a timeout, notices a
//! child that died (and then shows the end of its log), and ends early when [`crate::interrupt`]
//! was asked for.
#![expect(unsafe_code, reason = "entering a namespace between fork and exec needs `pre_exec`")]

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::interrupt;

/// How often waits look.
const TICK: Duration = Duration::from_millis(20);
/// How long a child may take to end by itself after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// A running child in a process group of its own, ended when dropped.
///
/// The kernel also sends it SIGTERM when the *thread* that started it ends, so that a crash of the
/// owner leaves nothing: start long-lived children from a thread that outlives them.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: std::process::Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output going to `log`, which is emptied first.
    pub fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let name = Path::new(command.get_program())
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        die_with_owner(command);
        // Ctrl-C on the terminal must reach only the owner, which ends its children in order.
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self {
            name,
            child,
            log: log.to_owned(),
        })
    }

    /// The child's process id, which is also its process group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends a signal to the child itself, not to its group.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid()?, signal).with_context(|| format!("sending a signal to {}", self.name))
    }

    /// Asks it to end (SIGTERM) and waits; after `timeout` the whole group is killed, which is an
    /// error.
    pub fn stop(&mut self, timeout: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            std::thread::sleep(TICK);
        }
        self.kill()?;
        bail!("{} did not end within {timeout:?} of SIGTERM and was killed", self.name)
    }

    /// Ends the whole group at once (SIGKILL): a crash, as far as the child can tell.
    pub fn kill(&mut self) -> Result<()> {
        kill_process_group(self.pid()?, Signal::KILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for the child to end by itself.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!(
                    "{} still runs after {timeout:?}; the end of its log:\n{}",
                    self.name,
                    self.tail()
                );
            }
            pause()?;
        }
    }

    /// Waits until `ready` says yes; an error of `ready` means "not yet" and is shown only if time
    /// runs out.
    pub fn wait_until(&mut self, what: &str, timeout: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let last = match ready() {
                Ok(true) => return Ok(()),
                Ok(false) => String::new(),
                Err(error) => format!(" ({error:#})"),
            };
            if let Some(status) = self.ended()? {
                bail!(
                    "{} ended ({status}) before {what}; the end of its log:\n{}",
                    self.name,
                    self.tail()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "{}: no {what} within {timeout:?}{last}; the end of its log:\n{}",
                    self.name,
                    self.tail()
                );
            }
            pause()?;
        }
    }

    /// Waits until a line of its output contains `text`.
    pub fn wait_line(&mut self, text: &str, timeout: Duration) -> Result<()> {
        let log = self.log.clone();
        self.wait_until(&format!("line with {text:?}"), timeout, || {
            Ok(String::from_utf8_lossy(&fs::read(&log)?)
                .lines()
                .any(|line| line.contains(text)))
        })
    }

    /// Waits until a TCP connection to `address` is accepted, from the namespace of the caller.
    pub fn wait_port(&mut self, address: SocketAddr, timeout: Duration) -> Result<()> {
        self.wait_until(&format!("listener on {address}"), timeout, || {
            TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
            Ok(true)
        })
    }

    /// The end of its log, for error messages.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn pid(&self) -> Result<Pid> {
        Pid::from_raw(self.id().cast_signed()).context("a child's process id")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // After its own end the pid may belong to somebody else; `stop` looks first.
        if let Err(error) = self.stop(GRACE) {
            eprintln!("{error:#}");
        }
    }
}

/// An address on loopback that nobody listens on now.
///
/// # Errors
/// If the kernel has none left.
pub fn free_address() -> Result<SocketAddr> {
    // Given back before it is used: another program could take it, and the start would then say so.
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The cargo that runs this program, for a run of its own: without what it has set for this one
/// (`CARGO_PKG_…`, `CARGO_MANIFEST_…`), which would make build scripts of libraries run again, and
/// all that stands on them.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name.as_ref());
        }
    }
    cargo
}

/// Runs a command to its end and returns what it printed; it is killed after `timeout` or when the
/// user interrupts.
pub fn output(command: &mut Command, timeout: Duration) -> Result<Output> {
    let mut stdout = tempfile::tempfile()?;
    let mut stderr = tempfile::tempfile()?;
    command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let status = run(command.stdin(Stdio::null()), timeout)?;
    // Files, not pipes: a pipe that nobody reads stops the child.
    let read = |file: &mut File| -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    Ok(Output {
        status,
        stdout: read(&mut stdout)?,
        stderr: read(&mut stderr)?,
    })
}

/// Runs a command to its end with the output it was given (by default ours), under the same
/// conditions.
pub fn run(command: &mut Command, timeout: Duration) -> Result<ExitStatus> {
    let name = command.get_program().to_string_lossy().into_owned();
    die_with_owner(command);
    let mut child = command.spawn().with_context(|| format!("starting {name}"))?;
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        let stopped = pause().err().or_else(|| {
            (Instant::now() > deadline).then(|| anyhow::anyhow!("`{name}` still ran after {timeout:?} and was killed"))
        });
        if let Some(error) = stopped {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
    }
}

/// CPU time that `pid` and its living descendants have used, threads included; 10 ms resolution
/// (proc(5), fields utime and stime of `/proc/PID/stat`).
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let mut ticks = stat(pid)?.ticks;
    for child in descendants(pid) {
        // A child may end between the listing and the look.
        ticks += stat(child).map_or(0, |stat| stat.ticks);
    }
    Ok(Duration::from_millis(
        ticks * 1000 / rustix::param::clock_ticks_per_second(),
    ))
}

/// Resident memory of `pid` alone, in bytes.
pub fn resident_memory(pid: u32) -> Result<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .context("/proc/PID/statm has too few fields")?
        .parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// Every living process below `pid`, itself not included.
pub fn descendants(pid: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|candidate| Some((candidate, stat(candidate).ok()?.parent)))
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    found.split_off(1)
}

/// Lets `command` start inside the network namespace that `netns` is open on, and nothing else
/// changed.
pub(crate) fn before_exec_enter(command: &mut Command, netns: File) {
    // SAFETY: the closure runs in the forked child and only calls setns(2), which is
    // async-signal-safe; the descriptor is owned by the closure and close-on-exec.
    unsafe {
        command.pre_exec(move || {
            Ok(move_into_link_name_space(
                netns.as_fd(),
                Some(LinkNameSpaceType::Network),
            )?)
        })
    };
}

fn die_with_owner(command: &mut Command) {
    let owner = rustix::process::getpid();
    // SAFETY: the closure runs in the forked child and only calls prctl(2) and getppid(2), both
    // async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            // Not SIGKILL: nginx's workers outlive a master that could not tell them.
            set_parent_process_death_signal(Some(Signal::TERM))?;
            // The owner may have died before the request was made.
            if rustix::process::getppid() == Some(owner) {
                Ok(())
            } else {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        })
    };
}

fn pause() -> Result<()> {
    std::thread::sleep(TICK);
    if interrupt::requested() {
        bail!("interrupted");
    }
    Ok(())
}

struct Stat {
    parent: u32,
    ticks: u64,
}

fn stat(pid: u32) -> Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may itself contain spaces and parentheses: everything fixed comes
    // after the last one.
    let (_, rest) = text.rsplit_once(") ").context("/proc/PID/stat has no name")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let field = |number: usize| {
        fields
            .get(number - 3)
            .copied()
            .context("/proc/PID/stat has too few fields")
    };
    Ok(Stat {
        parent: field(4)?.parse()?,
        ticks: field(14)?.parse::<u64>()? + field(15)?.parse::<u64>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_dropped_child_is_gone_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = Process::spawn(
            &mut shell("trap '' TERM; sleep 60 & echo up; wait; wait"),
            &directory.path().join("log"),
        )
        .unwrap();
        process.wait_line("up", Duration::from_secs(10)).unwrap();
        let family = descendants(process.id());
        assert_eq!(family.len(), 1, "the sleep");
        assert!(process.stop(Duration::from_millis(100)).is_err(), "it ignores SIGTERM");
        let deadline = Instant::now() + Duration::from_secs(5);
        while family.iter().any(|&pid| stat(pid).is_ok()) {
            assert!(Instant::now() < deadline, "the group outlived its leader");
            std::thread::sleep(TICK);
        }
    }

    #[test]
    fn a_child_that_dies_early_shows_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let mut process =
            Process::spawn(&mut shell("echo no such key; exit 3"), &directory.path().join("log")).unwrap();
        let error = process
            .wait_line("ready", Duration::from_secs(10))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no such key") && error.contains("exit status: 3"),
            "{error}"
        );
    }

    #[test]
    fn cpu_time_counts_children_and_memory_is_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut process = Process::spawn(&mut shell("(while :; do :; done) & echo up; wait"), &log).unwrap();
        process.wait_line("up", Duration::from_secs(10)).unwrap();
        let pid = process.id();
        process
            .wait_until("CPU time", Duration::from_secs(20), || {
                Ok(cpu_time(pid)? >= Duration::from_millis(100))
            })
            .unwrap();
        let memory = resident_memory(pid).unwrap();
        assert!((100_000..100_000_000).contains(&memory), "{memory}");
        process.kill().unwrap();
    }

    #[test]
    fn a_command_that_hangs_is_killed() {
        let error = run(&mut shell("sleep 60"), Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("was killed"), "{error}");
        let output = output(&mut shell("echo out; echo err >&2; exit 4"), Duration::from_secs(10)).unwrap();
        assert_eq!((output.stdout, output.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));
        assert_eq!(output.status.code(), Some(4));
    }
}
