//! `cargo xtask test --kernels`: the XDP program under kernels that people have. Each is booted in
//! qemu, emulated, from an initramfs of busybox and two of the test programs, which load the
//! program, run their packets through it (`BPF_PROG_TEST_RUN`), and say what came of it. (Within
//! virtual machines `/dev/kvm` may be there and still boot nothing.)
//!
//! Kernels come from the environment (`KERNELS`: images, or directories of images, separated by
//! colons) and from what `cargo xtask setup kernels` fetched of Debian's. No module is loaded: XDP,
//! BPF and the BPF file system are built in everywhere.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::workspace::{self, BUILD_EBPF, SETUP_KERNELS};

/// The test programs that run in each kernel.
const PROGRAMS: [&str; 2] = ["verdicts", "penalties"];
/// The tests of each that say something about the kernel, by parts of their names: every helper and
/// every way through the program. In an emulator each takes seconds, nearly all of them the
/// verifier's.
const CHOSEN: [&str; 2] = [
    "the_verifier attempts_are_judged tags_options fragments_that lengths_must",
    "every_verdict_over every_initial_gets what_proves_something an_id_passes a_translated a_deferred_address pinned_maps",
];
/// A kernel that is not done by then hangs. Emulated, it takes less than a minute.
const PATIENCE_SECONDS: &str = "400";
/// What the name of a file ends with that has what a kernel printed.
const CONSOLE: &str = ".console";
/// What the guest's lines begin with that are meant for us.
const MARK: &str = "EDGE-KERNELS";

/// One kernel's outcome.
struct Outcome {
    release: String,
    instructions: String,
    passed: BTreeMap<&'static str, String>,
    seconds: u64,
    fine: bool,
}

/// Runs the tests under every kernel, and fails if any of them fails.
pub(crate) fn run(setup: bool) -> Result<()> {
    if setup {
        workspace::prepare(&[SETUP_KERNELS, BUILD_EBPF])?;
    }
    let images = images()?;
    if images.is_empty() {
        bail!(
            "no kernel: set KERNELS to images or directories of them, or run `cargo xtask setup kernels` where apt is"
        );
    }
    let output = workspace::output("kernels")?;
    let initramfs = output.join("initramfs");
    fs::write(&initramfs, archive(&files(&output)?)).with_context(|| format!("writing {}", initramfs.display()))?;
    println!("kernels: booting {}", images.len());
    // At once: each has two processors, and waits for itself a good part of the time.
    let (initramfs, output) = (initramfs.as_path(), output.as_path());
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let boots: Vec<_> = images
            .iter()
            .map(|image| scope.spawn(move || boot(image, initramfs, output)))
            .collect();
        let ended = boots
            .into_iter()
            .map(|boot| boot.join().unwrap_or_else(|_| bail!("a boot panicked")));
        ended.collect::<Result<_>>()
    })?;
    println!(
        "{:<36} {:>12} {:>16} {:>16} {:>5}",
        "kernel", "instructions", PROGRAMS[0], PROGRAMS[1], "s"
    );
    for outcome in &outcomes {
        let of = |program| outcome.passed.get(program).map_or("did not end", String::as_str);
        println!(
            "{:<36} {:>12} {:>16} {:>16} {:>5}",
            outcome.release,
            outcome.instructions,
            of(PROGRAMS[0]),
            of(PROGRAMS[1]),
            outcome.seconds
        );
    }
    if outcomes.iter().all(|outcome| outcome.fine) {
        return Ok(());
    }
    bail!(
        "not every kernel takes the program; their consoles are in {}",
        output.display()
    )
}

/// Every kernel's image, each once.
fn images() -> Result<Vec<PathBuf>> {
    let mut found = BTreeSet::new();
    let given = std::env::var("KERNELS").unwrap_or_default();
    for path in given.split(':').filter(|path| !path.is_empty()).map(Path::new) {
        if path.is_dir() {
            found.extend(below(path)?);
        } else if path.exists() {
            found.insert(path.to_owned());
        } else {
            bail!("KERNELS names {}, which is not there", path.display());
        }
    }
    found.extend(below(&workspace::output("kernels")?)?);
    Ok(found.into_iter().collect())
}

/// Files `vmlinuz…` in a directory and those in it.
fn below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(below(&path)?);
        } else if path
            .file_name()
            .map(|name| name.to_string_lossy())
            .is_some_and(|name| name.starts_with("vmlinuz") && !name.ends_with(CONSOLE))
        {
            found.push(path);
        }
    }
    Ok(found)
}

/// What is in the initramfs, by path.
fn files(output: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let busybox = workspace::need("busybox", SETUP_KERNELS)?;
    let mut files = BTreeMap::from([("init".to_owned(), init().into_bytes())]);
    let mut binaries = vec![("bin/busybox".to_owned(), busybox)];
    for (name, built) in built()? {
        // Without what only debuggers read: a tenth of the size, and all of it is unpacked into the
        // guest's memory.
        let stripped = output.join(name);
        let mut strip = Command::new("strip");
        workspace::run(strip.arg("-o").arg(&stripped).arg(&built))?;
        binaries.push((name.to_owned(), stripped));
    }
    for (name, path) in binaries {
        for library in libraries(&path)? {
            let key = library.trim_start_matches('/').to_owned();
            if let Entry::Vacant(place) = files.entry(key) {
                place.insert(fs::read(&library).with_context(|| format!("reading {library}"))?);
            }
        }
        files.insert(
            name,
            fs::read(&path).with_context(|| format!("reading {}", path.display()))?,
        );
    }
    Ok(files)
}

/// The test programs, built.
fn built() -> Result<Vec<(&'static str, PathBuf)>> {
    let mut command = workspace::cargo_command();
    command.args([
        "test",
        "--no-run",
        "-p",
        "edge-testbed",
        "--message-format=json-render-diagnostics",
    ]);
    for program in PROGRAMS {
        command.args(["--test", program]);
    }
    let done = command.stderr(Stdio::inherit()).output().context("running cargo")?;
    if !done.status.success() {
        bail!("the test programs were not built");
    }
    let text = String::from_utf8(done.stdout)?;
    let executable = |program: &&str| {
        let named = format!("\"name\":\"{program}\"");
        let line = text
            .lines()
            .rfind(|line| line.contains("compiler-artifact") && line.contains(&named))?;
        let (_, rest) = line.split_once("\"executable\":\"")?;
        rest.split_once('"').map(|(path, _)| PathBuf::from(path))
    };
    PROGRAMS
        .iter()
        .map(|program| {
            Ok((
                *program,
                executable(program).with_context(|| format!("cargo names no program {program}"))?,
            ))
        })
        .collect()
}

/// The shared libraries of a program, the loader included; none of a static one.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let said = Command::new("ldd").arg(program).output().context("running ldd")?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let paths = text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(str::to_owned).collect())
}

/// What the guest does.
fn init() -> String {
    let runs: String = PROGRAMS
        .iter()
        .zip(CHOSEN)
        .map(|(program, chosen)| {
            format!(
                "/{program} --test-threads 2 --nocapture {chosen} >/tmp/log 2>&1
cat /tmp/log
echo {MARK} {program} $(grep '^test result' /tmp/log)
echo {MARK} instructions $(sed -n 's/.*verified instructions: //p' /tmp/log)
"
            )
        })
        .collect();
    format!(
        "#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t bpf bpf /sys/fs/bpf; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
ip link set lo up
export RUST_BACKTRACE=0
echo {MARK} release $(uname -r)
{runs}echo {MARK} done
poweroff -f
"
    )
}

/// An initramfs (cpio, format newc; the kernel's
/// Documentation/driver-api/early-userspace/buffer-format.rst).
fn archive(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut entry = |path: &str, mode: u32, data: &[u8]| {
        let name = path.len() + 1;
        archive.extend(b"070701");
        let inode = archive.len();
        for field in [inode, mode as usize, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name, 0] {
            archive.extend(format!("{field:08x}").bytes());
        }
        archive.extend(path.bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(data);
        archive.resize(archive.len().next_multiple_of(4), 0);
    };
    let mut made = BTreeSet::new();
    for path in files.keys() {
        for (at, _) in path.match_indices('/') {
            let directory = path.get(..at).unwrap_or_default();
            if made.insert(directory.to_owned()) {
                entry(directory, 0o40_755, &[]);
            }
        }
    }
    for (path, data) in files {
        entry(path, 0o100_755, data);
    }
    entry("TRAILER!!!", 0, &[]);
    archive
}

/// Boots one kernel and reads its console.
fn boot(image: &Path, initramfs: &Path, output: &Path) -> Result<Outcome> {
    let qemu = workspace::need("qemu-system-x86_64", SETUP_KERNELS)?;
    let begun = Instant::now();
    let done = Command::new("timeout")
        .arg(PATIENCE_SECONDS)
        .arg(qemu)
        .args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "2048"])
        .args([
            "-display",
            "none",
            "-serial",
            "stdio",
            "-monitor",
            "none",
            "-no-reboot",
            "-net",
            "none",
            "-kernel",
        ])
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        .args([
            "-append",
            "console=ttyS0 rdinit=/init panic=-1 loglevel=3 mitigations=off",
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("running qemu")?;
    let console = String::from_utf8_lossy(&done.stdout).replace('\r', "");
    let name = image
        .file_name()
        .map_or_else(|| "kernel".into(), |name| name.to_string_lossy().into_owned());
    fs::write(output.join(format!("{name}{CONSOLE}")), &console)?;
    let said = |what: &str| {
        let front = format!("{MARK} {what} ");
        let lines = console
            .lines()
            .filter_map(|line| line.split_once(&front).map(|(_, rest)| rest.trim().to_owned()));
        lines.filter(|line| !line.is_empty()).collect::<Vec<_>>()
    };
    let mut fine = console.contains(&format!("{MARK} done"));
    let mut passed = BTreeMap::new();
    for program in PROGRAMS {
        match said(program).first() {
            Some(line) if line.starts_with("test result: ok.") => {
                passed.insert(program, words(line));
            }
            Some(line) => {
                fine = false;
                passed.insert(program, words(line));
            }
            None => fine = false,
        }
    }
    Ok(Outcome {
        release: said("release").first().cloned().unwrap_or(name),
        instructions: said("instructions")
            .first()
            .cloned()
            .unwrap_or_else(|| "not told".to_owned()),
        passed,
        seconds: begun.elapsed().as_secs(),
        fine,
    })
}

/// Of the test runner's summary, how many passed and failed.
fn words(line: &str) -> String {
    let count = |what: &str| {
        let (before, _) = line.split_once(what)?;
        before.split_whitespace().next_back().map(str::to_owned)
    };
    let [passed, failed] = [" passed", " failed"].map(|what| count(what).unwrap_or_else(|| "?".to_owned()));
    if failed == "0" {
        format!("{passed} passed")
    } else {
        format!("{failed} FAILED")
    }
}

/// Fetches the kernels that Debian has for virtual machines, which have all that is asked here and
/// no more: 6.1, 6.12 and what else its release offers. Each is unpacked into target/kernels;
/// nothing is installed.
pub(crate) fn fetch() -> Result<()> {
    let output = workspace::output("kernels")?;
    for package in ["linux-image-cloud-amd64", "linux-image-6.12-cloud-amd64"] {
        let said = Command::new("apt-cache")
            .args(["depends", package])
            .env("LC_ALL", "C")
            .output()?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let Some(real) = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        else {
            println!("setup: apt has no {package}");
            continue;
        };
        let directory = output.join(real);
        if directory.exists() {
            continue;
        }
        let fetched = output.join("fetching");
        let _ = fs::remove_dir_all(&fetched);
        fs::create_dir(&fetched)?;
        // apt's own user writes there.
        fs::set_permissions(&fetched, fs::Permissions::from_mode(0o777))?;
        let mut get = Command::new("apt-get");
        get.args(["download", "--quiet", &format!("linux-image-{real}")]);
        workspace::run(get.current_dir(&fetched))?;
        let packages: Vec<_> = fs::read_dir(&fetched)?.collect::<Result<_, _>>()?;
        for package in packages {
            let unpacked = fetched.join("unpacked");
            let mut unpack = Command::new("dpkg-deb");
            workspace::run(unpack.arg("-x").arg(package.path()).arg(&unpacked))?;
            fs::rename(unpacked.join("boot"), &directory)?;
        }
        fs::remove_dir_all(&fetched)?;
        println!("setup: kernel {real} in {}", directory.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that the kernel does not find is a boot that says nothing.
    #[test]
    fn an_archive_is_what_the_kernel_unpacks() {
        let files = BTreeMap::from([
            ("init".to_owned(), b"#!".to_vec()),
            ("a/b/c".to_owned(), b"12345".to_vec()),
        ]);
        let archive = archive(&files);
        assert!(archive.len().is_multiple_of(4) && archive.starts_with(b"070701"));
        let text = String::from_utf8_lossy(&archive);
        let places: Vec<_> = ["a\0", "a/b\0", "a/b/c\0", "init\0", "TRAILER!!!\0"]
            .iter()
            .map(|name| text.find(name))
            .collect();
        assert!(places.is_sorted() && places.iter().all(Option::is_some), "{places:?}");
        assert_eq!(text.matches("070701").count(), 5);
        assert!(text.contains("12345\0\0\0"));
    }

    #[test]
    fn a_summary_is_read() {
        let line = "test result: ok. 20 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 4.20s";
        assert_eq!(words(line), "20 passed");
        assert_eq!(words("test result: FAILED. 18 passed; 2 failed; 0 ignored"), "2 FAILED");
    }
}
