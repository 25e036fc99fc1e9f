//! What this machine is: kernel, BPF file system, settings, limits, clock, interfaces, disks.
//! Everything is read from files of the kernel's, and judged by functions that take their text.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};

use super::{Finding, Fix};
use crate::config::gate::Secret;
use crate::config::{Config, UDP_BUFFER, XdpMode};

/// The oldest kernel that the XDP program is tested on.
const OLDEST: (u32, u32) = (5, 15);
/// Drivers with native XDP (Linux 6.12), so that a packet is dropped before memory is taken for it.
const NATIVE: &[&str] = &[
    "atlantic",
    "bnxt_en",
    "ena",
    "enetc",
    "fsl_dpaa2_eth",
    "fec",
    "gve",
    "hv_netvsc",
    "i40e",
    "iavf",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "mana",
    "mlx4_en",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "netsec",
    "nfp",
    "qede",
    "sfc",
    "stmmac",
    "thunder-nicvf",
    "ti_cpsw",
    "tun",
    "veth",
    "virtio_net",
    "vmxnet3",
    "xen-netfront",
];
/// Above, most drivers refuse a program without fragments in native mode: a page, less what they
/// keep for themselves.
const LONGEST_FRAME: u32 = 3_498;
/// Listen queues of a busy node.
const BACKLOG: u64 = 4_096;

/// Kernel, BPF file system, clock.
pub(super) fn kernel() -> Vec<Finding> {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut findings = vec![
        version(text("/proc/sys/kernel/osrelease").trim()),
        bpf_file_system(&text("/proc/mounts")),
    ];
    let synchronised = [
        "/run/systemd/timesync/synchronized",
        "/run/chrony/chronyd.pid",
        "/run/ntpd.pid",
    ];
    findings.push(match synchronised.iter().find(|path| Path::new(path).exists()) {
        Some(path) => Finding::sound("clock", format!("synchronised ({path})")),
        None => Finding::warning(
            "clock",
            "nothing is seen that keeps the clock right; tokens and certificates are judged by it",
            "run systemd-timesyncd or chrony, or look after it where this machine runs",
        ),
    });
    findings
}

fn version(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => Finding::sound("kernel", release),
        (Some(_), Some(_)) => Finding::failure(
            "kernel",
            format!("{release} is older than {}.{}", OLDEST.0, OLDEST.1),
            "take a newer kernel, or write [dataplane] xdp = \"off\"",
        ),
        _ => Finding::warning("kernel", format!("{release:?} is no version"), "see `uname -r`"),
    }
}

fn bpf_file_system(mounts: &str) -> Finding {
    let place = "/sys/fs/bpf";
    let mounted = mounts.lines().any(|line| {
        let mut parts = line.split(' ');
        parts.nth(1) == Some(place) && parts.next() == Some("bpf")
    });
    match mounted {
        true => Finding::sound("BPF file system", format!("mounted on {place}")),
        false => Finding::failure(
            "BPF file system",
            format!("not mounted on {place}: the filter would end with the daemon"),
            format!("mount -t bpf bpf {place}"),
        )
        .with(Fix::BpfFileSystem(PathBuf::from(place))),
    }
}

/// Kernel settings and limits.
pub(super) fn settings(config: &Config) -> Vec<Finding> {
    let read = |name: &str| {
        let path = Path::new("/proc/sys").join(name);
        let value = fs::read_to_string(&path).ok()?.trim().parse::<u64>().ok()?;
        Some((path, value))
    };
    let mut findings = Vec::new();
    let mut wanted = vec![(
        "net/core/somaxconn",
        BACKLOG,
        "connections that wait to be accepted are refused in a crowd",
    )];
    if config.server.http3 && !config.server.https.is_empty() {
        let why = "QUIC loses datagrams while a thread is busy";
        wanted.extend([
            ("net/core/rmem_max", UDP_BUFFER as u64, why),
            ("net/core/wmem_max", UDP_BUFFER as u64, why),
        ]);
    }
    for (name, least, why) in wanted {
        // Of another network namespace's, perhaps: what cannot be read is not judged.
        if let Some((path, value)) = read(name) {
            findings.push(setting(name, path, value, least, why));
        }
    }
    let most = getrlimit(Resource::Nofile).maximum;
    let wanted = config.limits.descriptors();
    findings.push(match most {
        Some(most) if most < wanted => Finding::warning(
            "descriptors",
            format!("at most {most} of this user's processes, and {wanted} are wanted for limits.connections"),
            "raise LimitNOFILE of the unit (the shipped one has 1048576), or lower limits.connections",
        ),
        _ => Finding::sound(
            "descriptors",
            most.map_or("no limit".to_owned(), |most| format!("at most {most}")),
        ),
    });
    findings
}

fn setting(name: &str, path: PathBuf, value: u64, least: u64, why: &str) -> Finding {
    let key = name.replace('/', ".");
    if value >= least {
        return Finding::sound(key, value.to_string());
    }
    let mend = format!("sysctl -w {key}={least}, and the same line in /etc/sysctl.d/60-edge.conf");
    Finding::warning(key, format!("{value} is less than {least}: {why}"), mend)
        .with(Fix::Setting(path, least.to_string()))
}

/// The interfaces that XDP is to be attached to.
pub(super) fn interfaces(config: &Config) -> Vec<Finding> {
    let dataplane = &config.dataplane;
    if dataplane.mode == XdpMode::Off {
        return vec![Finding::sound("XDP", "off")];
    }
    if dataplane.interfaces.is_empty() {
        let mend = "write [dataplane] interfaces, or xdp = \"off\" to say that this is meant";
        return vec![Finding::warning(
            "XDP",
            "no interface: nothing is dropped in the kernel",
            mend,
        )];
    }
    let mut findings = Vec::new();
    for name in &dataplane.interfaces {
        let about = format!("interface {name}");
        let place = Path::new("/sys/class/net").join(name);
        let read = |file: &str| {
            fs::read_to_string(place.join(file))
                .map(|text| text.trim().to_owned())
                .ok()
        };
        if !place.exists() {
            findings.push(Finding::failure(
                about,
                "not there",
                "write the name that `ip link` shows",
            ));
            continue;
        }
        let state = read("operstate").unwrap_or_default();
        if state == "down" {
            findings.push(Finding::warning(&about, "down", format!("ip link set {name} up")));
        }
        let mtu = read("mtu").and_then(|text| text.parse().ok()).unwrap_or(0);
        let driver = fs::read_link(place.join("device/driver")).ok();
        let driver = driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        findings.push(native(&about, driver.as_deref(), mtu, dataplane.mode));
    }
    findings
}

/// Whether the program can run in the driver.
fn native(about: &str, driver: Option<&str>, mtu: u32, mode: XdpMode) -> Finding {
    if mode == XdpMode::Generic {
        return Finding::sound(about, "generic, as the file says");
    }
    let hurts = |seen: String, mend: &str| match mode {
        XdpMode::Native => Finding::failure(about, seen, mend),
        _ => Finding::warning(about, seen, mend),
    };
    match driver {
        Some(driver) if !NATIVE.contains(&driver) => hurts(
            format!("its driver {driver} is not known for native XDP: a dropped packet costs ten times as much"),
            "take another interface, or write xdp = \"generic\" to say that this is meant",
        ),
        _ if mtu > LONGEST_FRAME => hurts(
            format!("an MTU of {mtu} is more than most drivers take in native mode ({LONGEST_FRAME})"),
            "lower the MTU, or see whether the log says `native` at the start",
        ),
        Some(driver) => Finding::sound(about, format!("driver {driver}, MTU {mtu}")),
        None => Finding::sound(about, format!("virtual, MTU {mtu}")),
    }
}

/// The directories that the node writes to, and the room in them.
pub(super) fn disk(config: &Config) -> Vec<Finding> {
    let mut places = Vec::new();
    if let Secret::Own(directory, _) = &config.gate.secret {
        places.push(("the gate's secret", directory.clone(), 1 << 20));
    }
    if config.cache.disk > 0 {
        places.push(("the cache", config.cache.directory.0.clone(), config.cache.disk));
    }
    if config.acme.is_on() {
        places.push(("certificates", config.acme.state_directory.0.clone(), 1 << 20));
    }
    places
        .into_iter()
        .map(|(about, path, wanted)| room(about, &path, wanted))
        .collect()
}

fn room(about: &str, path: &Path, wanted: u64) -> Finding {
    let about = format!("directory of {about}");
    let shown = path.display();
    if !path.exists() {
        let mend = format!("install -d -o edge -g edge -m 0700 {shown}");
        let finding = Finding::warning(
            about,
            format!("{shown} is not there; the node makes it if it may"),
            mend,
        );
        return finding.with(Fix::Directory(path.to_owned()));
    }
    match statvfs(path) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            // What the cache has taken already is its own.
            let taken = fs::read_dir(path).into_iter().flatten().flatten();
            let taken: u64 = taken.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum();
            match free + taken >= wanted {
                true => Finding::sound(about, format!("{shown}, {} MiB free", free >> 20)),
                false => Finding::failure(
                    about,
                    format!("{shown} has {} MiB free, and {} are wanted", free >> 20, wanted >> 20),
                    "make room, or write less in the file",
                ),
            }
        }
        Err(error) => Finding::warning(about, format!("{shown}: {error}"), "see the system's message"),
    }
}

/// Mends one thing.
///
/// # Errors
/// It takes rights that this process does not have, mostly.
pub(super) fn apply(fix: &Fix) -> io::Result<()> {
    match fix {
        Fix::Setting(path, value) => fs::write(path, value),
        Fix::BpfFileSystem(path) => Ok(rustix::mount::mount(
            "bpf",
            path.as_path(),
            "bpf",
            rustix::mount::MountFlags::empty(),
            None::<&std::ffi::CStr>,
        )?),
        Fix::Directory(path) => crate::base::directory::make(path),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Weight;
    use super::*;

    /// An operator is sent to change what is right, or is told nothing of what is wrong.
    #[test]
    fn kernels_and_mounts() {
        for (release, weight) in [
            ("6.1.0-21-amd64", Weight::Sound),
            ("5.15.0", Weight::Sound),
            ("5.10.0-29-amd64", Weight::Failure),
            ("4.19.3", Weight::Failure),
            ("strange", Weight::Warning),
        ] {
            assert_eq!(version(release).weight, weight, "{release}");
        }
        let mounted = "proc /proc proc rw 0 0\nbpf /sys/fs/bpf bpf rw,nosuid 0 0\n";
        assert_eq!(bpf_file_system(mounted).weight, Weight::Sound);
        let missing = bpf_file_system("tmpfs /sys/fs/bpf tmpfs rw 0 0\n");
        assert_eq!(missing.weight, Weight::Failure);
        assert!(missing.fix.is_some());
    }

    #[test]
    fn drivers_and_frames() {
        let weight = |driver, mtu, mode| native("x", driver, mtu, mode).weight;
        assert_eq!(weight(Some("mlx5_core"), 1_500, XdpMode::Native), Weight::Sound);
        assert_eq!(weight(Some("r8169"), 1_500, XdpMode::Auto), Weight::Warning);
        assert_eq!(weight(Some("r8169"), 1_500, XdpMode::Native), Weight::Failure);
        assert_eq!(weight(Some("r8169"), 1_500, XdpMode::Generic), Weight::Sound);
        assert_eq!(weight(Some("ice"), 9_000, XdpMode::Auto), Weight::Warning);
        assert_eq!(weight(None, 1_500, XdpMode::Auto), Weight::Sound);
    }

    /// `--fix` does what it says, and nothing that was not found.
    #[test]
    fn what_is_too_small_is_mended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("somaxconn");
        fs::write(&path, "128").unwrap();
        assert!(setting("a/b", path.clone(), 4_096, 4_096, "").fix.is_none());
        let finding = setting("net/core/somaxconn", path.clone(), 128, 4_096, "why");
        assert!(finding.mend.contains("net.core.somaxconn=4096"), "{}", finding.mend);
        apply(&finding.fix.unwrap()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "4096");
        let missing = directory.path().join("a/b");
        apply(&room("x", &missing, 1).fix.unwrap()).unwrap();
        assert_eq!(room("x", &missing, 1).weight, Weight::Sound);
        assert_eq!(room("x", &missing, u64::MAX / 2).weight, Weight::Failure);
    }
}
