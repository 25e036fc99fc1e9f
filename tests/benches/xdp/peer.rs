//! The peer of the XDP bench: Debian's xdp-filter, as it comes and with a larger map.

use std::path::Path;
use std::process::Command;

use edge_testbed::test_run::{Program, spread};
use rustix::mount::{MountFlags, mount};

use crate::{ADDRESS, Outcome};

/// Where it pins the map of denied IPv4 addresses.
const DENIED: &str = "/sys/fs/bpf/xdp-filter/filter_ipv4";
/// Where distributions put its objects and libxdp's.
const OBJECTS: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/bpf",
    "/usr/lib/aarch64-linux-gnu/bpf",
    "/usr/lib/bpf",
    "/usr/lib64/bpf",
];
const DISPATCHER: &str = "xdp-dispatcher.o";
/// Entries of its maps as compiled, and as wanted: as many as ours has room for in this bench.
const ENTRIES: u32 = 10_000;
const ROOMY: u32 = 262_144;

/// Debian's xdp-filter on an interface of its own, with `ADDRESS` denied. The peer that counts is
/// the fastest one for the job: its program for addresses only, alone on the interface. By default
/// it runs all features, behind libxdp's dispatcher.
pub(crate) fn attach(interface: &str, features: &str, dispatched: bool) -> Outcome<Program> {
    load(interface, features, dispatched, None)
}

/// Denies as many of these as the map has room for, and says how many those are.
pub(crate) fn deny(addresses: &[[u8; 4]]) -> Outcome<usize> {
    let size = std::thread::available_parallelism()?.get().max(possible_processors()?) * 8;
    Ok(spread(Path::new(DENIED), ADDRESS, addresses, size)?)
}

/// The same program with room for `ROOMY` addresses, with these denied: its object says its size,
/// which is compiled in, in one place, and libxdp loads objects from where it is told to. It hides
/// the pins of those before it.
pub(crate) fn roomy(addresses: &[[u8; 4]]) -> Outcome<Program> {
    let original = OBJECTS
        .into_iter()
        .map(Path::new)
        .find(|directory| directory.join(DISPATCHER).exists())
        .ok_or("xdp-filter's objects are not where Debian has them")?;
    let objects = tempfile::tempdir()?;
    for entry in std::fs::read_dir(original)? {
        let entry = entry?;
        let mut object = std::fs::read(entry.path())?;
        if entry.file_name().to_string_lossy().starts_with("xdpfilt_") {
            let (from, to) = (ENTRIES.to_le_bytes(), ROOMY.to_le_bytes());
            let places: Vec<usize> = (0..object.len())
                .filter(|at| object.get(*at..at + 4) == Some(from.as_slice()))
                .collect();
            let [at] = places[..] else {
                return Err(format!(
                    "{}: {} places say {ENTRIES}, not one",
                    entry.path().display(),
                    places.len()
                )
                .into());
            };
            object.get_mut(at..at + 4).ok_or("no such bytes")?.copy_from_slice(&to);
        }
        std::fs::write(objects.path().join(entry.file_name()), object)?;
    }
    // xdp-filter would use the maps on that are pinned here, and they have another size.
    mount("bpf", "/sys/fs/bpf", "bpf", MountFlags::empty(), None)?;
    let program = load("filter3", "ipv4", false, Some(objects.path()))?;
    match deny(addresses)? {
        all if all == addresses.len() => Ok(program),
        some => Err(format!("the larger map took {some} of {} addresses", addresses.len()).into()),
    }
}

fn possible_processors() -> Outcome<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit(['-', ',']).next().unwrap_or_default();
    Ok(last.parse::<usize>()? + 1)
}

fn load(interface: &str, features: &str, dispatched: bool, objects: Option<&Path>) -> Outcome<Program> {
    run(Command::new("ip").args([
        "link",
        "add",
        interface,
        "type",
        "veth",
        "peer",
        "name",
        &format!("{interface}p"),
    ]))?;
    let mut load = Command::new("xdp-filter");
    load.args(["load", "--mode", "native", "--features", features, interface]);
    if !dispatched {
        load.env("LIBXDP_SKIP_DISPATCHER", "1");
    }
    if let Some(objects) = objects {
        load.env("LIBXDP_OBJECT_PATH", objects);
    }
    run(&mut load)?;
    let [a, b, c, d] = ADDRESS;
    run(Command::new("xdp-filter").args(["ip", "--mode", "src", &format!("{a}.{b}.{c}.{d}")]))?;
    let link = run(Command::new("ip").args(["-json", "-details", "link", "show", "dev", interface]))?;
    let link: serde_json::Value = serde_json::from_str(&link)?;
    let id = link
        .pointer("/0/xdp/prog/id")
        .and_then(serde_json::Value::as_u64)
        .ok_or("xdp-filter did not attach")?;
    Ok(Program::by_id(u32::try_from(id)?)?)
}

fn run(command: &mut Command) -> Outcome<String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}: run `cargo xtask setup --bench`"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
