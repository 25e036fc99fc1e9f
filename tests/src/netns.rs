//! Network namespaces and the veth pairs between them, removed when dropped.
//!
//! Tests, benches and the demo build their small internets here by iproute2. Names carry the
//! owner's pid, so that processes never collide and [`sweep`] can tell what a crashed one left
//! behind.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process;

const DIRECTORY: &str = "/run/netns";
const PREFIX: &str = "edge-";

/// One named network namespace of this process, with `lo` up and IPv6 duplicate address detection
/// off; or another's.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: File,
    /// It is another process's, and stays.
    lent: bool,
}

/// One end of a veth pair: where it is, what it is called there, and its addresses with prefix
/// length.
#[derive(Debug)]
pub struct End<'a> {
    /// The namespace that gets this end.
    pub netns: &'a Netns,
    /// Interface name, at most 15 bytes; needs to be unique only inside the namespace.
    pub interface: &'a str,
    /// For example `10.77.0.1/24`, `fd77::1/64`.
    pub addresses: &'a [&'a str],
}

impl Netns {
    /// Makes a namespace called `edge-LABEL-PID-N`. Needs root and iproute2.
    pub fn create(label: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{label}-{}-{count}", std::process::id());
        ip(&["netns", "add", &name])?;
        // Opened only now; a failure below must not leave the name behind.
        let path = Path::new(DIRECTORY).join(&name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) => {
                let _ = ip(&["netns", "del", &name]);
                return Err(error).with_context(|| format!("opening {}", path.display()));
            }
        };
        let netns = Self {
            name,
            file,
            lent: false,
        };
        netns.ip(&["link", "set", "lo", "up"])?;
        netns
            .enter(|| -> io::Result<()> {
                for knob in ["all", "default"] {
                    // Duplicate address detection would keep an address unusable for a second or
                    // more.
                    std::fs::write(format!("/proc/sys/net/ipv6/conf/{knob}/accept_dad"), "0")?;
                }
                Ok(())
            })?
            .context("switching IPv6 duplicate address detection off; is IPv6 disabled in this kernel?")?;
        Ok(netns)
    }

    /// One that another process made, and removes.
    pub fn existing(name: &str) -> Result<Self> {
        let path = Path::new(DIRECTORY).join(name);
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        Ok(Self {
            name: name.to_owned(),
            file,
            lent: true,
        })
    }

    /// The name that `ip netns exec` takes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` on this namespace.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend_from_slice(arguments);
        ip(&all)
    }

    /// The index of an interface of this namespace.
    pub fn index(&self, interface: &str) -> Result<u32> {
        let text = self.ip(&["-o", "link", "show", "dev", interface])?;
        let (index, _) = text.split_once(':').context("an interface without an index")?;
        Ok(index.trim().parse()?)
    }

    /// A command that will start inside this namespace.
    ///
    /// Only the network namespace changes. `ip netns exec` would also remount `/sys`, and BPF
    /// objects pinned below `/sys/fs/bpf` would then vanish with the child.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let mut command = Command::new(program);
        process::before_exec_enter(&mut command, self.file.try_clone()?);
        Ok(command)
    }

    /// Runs `work` on a thread that entered this namespace: sockets it opens belong there, for
    /// their whole life.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                        .with_context(|| format!("entering network namespace {}", self.name))?;
                    Ok(work())
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if self.lent {
            return;
        }
        if let Err(error) = ip(&["netns", "del", &self.name]) {
            eprintln!("could not remove network namespace {}: {error:#}", self.name);
        }
    }
}

/// Connects two namespaces (or one with itself) by a veth pair, both ends up and with their
/// addresses usable at once.
pub fn veth(left: &End<'_>, right: &End<'_>) -> Result<()> {
    #[rustfmt::skip]
    left.netns.ip(&[
        "link", "add", left.interface, "type", "veth",
        "peer", "name", right.interface, "netns", right.netns.name(),
    ])?;
    for end in [left, right] {
        for address in end.addresses {
            let mut arguments = vec!["address", "add", *address, "dev", end.interface];
            if address.contains(':') {
                arguments.push("nodad");
            }
            end.netns.ip(&arguments)?;
        }
        end.netns.ip(&["link", "set", end.interface, "up"])?;
    }
    Ok(())
}

/// Removes the namespaces of owners that no longer run, and returns their names. A pid that was
/// given to a new process meanwhile keeps the leftover until that process ends: harmless, as names
/// never collide.
pub fn sweep() -> Result<Vec<String>> {
    let mut removed = Vec::new();
    let Ok(entries) = std::fs::read_dir(DIRECTORY) else {
        return Ok(removed);
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(owner) = owner(&name) else { continue };
        if !PathBuf::from(format!("/proc/{owner}")).exists() && ip(&["netns", "del", &name]).is_ok() {
            removed.push(name);
        }
    }
    Ok(removed)
}

/// The pid in the name of one of our namespaces.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(PREFIX)?.rsplit('-');
    let _count: u32 = parts.next()?.parse().ok()?;
    let pid = parts.next()?.parse().ok()?;
    parts.next().map(|_label| pid)
}

fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                anyhow::anyhow!("`ip` is missing: run `cargo xtask setup test` (package iproute2)")
            }
            _ => anyhow::Error::new(error).context("running `ip`"),
        })?;
    if !output.status.success() {
        let mend = if rustix::process::geteuid().is_root() {
            ""
        } else {
            " (this needs root)"
        };
        bail!(
            "`ip {}`: {}{mend}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn only_our_names_have_an_owner() {
        // A wrong answer here would delete a namespace that belongs to somebody else.
        assert_eq!(owner("edge-client-4711-0"), Some(4711));
        assert_eq!(owner("edge-two-words-4711-12"), Some(4711));
        for name in [
            "client-4711-0",
            "edge-4711-0",
            "edge-client",
            "edge-client-4711",
            "edge-client-x-0",
            "edge-",
        ] {
            assert_eq!(owner(name), None, "{name}");
        }
    }

    #[test]
    fn both_families_work_at_once_and_names_go_with_the_owner() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: needs root to make network namespaces");
            return;
        }
        let left = Netns::create("left").unwrap();
        let right = Netns::create("right").unwrap();
        veth(
            &End {
                netns: &left,
                interface: "veth0",
                addresses: &["10.77.0.1/24", "fd77::1/64"],
            },
            &End {
                netns: &right,
                interface: "veth0",
                addresses: &["10.77.0.2/24", "fd77::2/64"],
            },
        )
        .unwrap();
        for address in ["10.77.0.1:80", "[fd77::1]:80"] {
            let listener = left.enter(|| TcpListener::bind(address).unwrap()).unwrap();
            let mut client = right.enter(|| TcpStream::connect(address).unwrap()).unwrap();
            let mut server = listener.accept().unwrap().0;
            client.write_all(b"x").unwrap();
            let mut byte = [0];
            server.read_exact(&mut byte).unwrap();
            assert_eq!(&byte, b"x");
        }
        // The sweep must leave a living owner's namespaces alone.
        assert!(!sweep().unwrap().contains(&left.name().to_owned()));
        let path = Path::new(DIRECTORY).join(left.name());
        assert!(path.exists());
        let inside = left.command("ip").unwrap().args(["-o", "address"]).output().unwrap();
        assert!(
            String::from_utf8_lossy(&inside.stdout).contains("10.77.0.1"),
            "{inside:?}"
        );
        drop(left);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_owner_is_swept() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: needs root to make network namespaces");
            return;
        }
        // A process that has surely ended by the time we look.
        let mut gone = Command::new("true").spawn().unwrap();
        let pid = gone.id();
        gone.wait().unwrap();
        let name = format!("edge-crashed-{pid}-0");
        ip(&["netns", "add", &name]).unwrap();
        assert!(sweep().unwrap().contains(&name));
        assert!(!Path::new(DIRECTORY).join(&name).exists());
    }
}
