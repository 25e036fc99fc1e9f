//! What is done to the world, one at a time, each undone and seen to be undone before it returns.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edge_testbed::changing::Noise;
use serde::Serialize;

use super::world::{EDGE_INTERFACE, ORIGIN_ZONES, Role, World};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The daemon is killed, and started anew.
    KillEdge,
    /// The daemon drains while a successor starts beside it.
    Restart,
    /// The key server is killed, and started anew.
    KillKeyServer,
    /// The key server takes everything and answers nothing.
    StallKeyServer,
    /// The far end is killed, and started anew.
    KillFarEnd,
    /// The far end takes everything and answers nothing.
    StallFarEnd,
    /// The origin is killed, and started anew.
    KillOrigin,
    /// The origin takes everything and answers nothing.
    StallOrigin,
    /// The clients' interface goes down.
    CutLink,
    /// The edge's interface, with the program on it, goes down.
    InterfaceDown,
    /// The disk with the node's state and cache is full.
    FillDisk,
    /// New certificates and keys, local and at the key server.
    RotateKeys,
    /// A changed configuration and a changed worker.
    Reload,
    /// A configuration that cannot be.
    ReloadBad,
    /// SYNs from addresses that are nobody's.
    SynFlood,
    /// QUIC Initials from addresses that are nobody's.
    InitialFlood,
    /// QUIC attempts and SYNs are answered in the kernel.
    Lockdown,
    /// Purges of everything that is stored.
    Purge,
    /// Networks and penalties of others come and go.
    Deny,
}

impl Kind {
    pub(super) const ALL: [Self; 19] = [
        Self::KillEdge,
        Self::Restart,
        Self::KillKeyServer,
        Self::StallKeyServer,
        Self::KillFarEnd,
        Self::StallFarEnd,
        Self::KillOrigin,
        Self::StallOrigin,
        Self::CutLink,
        Self::InterfaceDown,
        Self::FillDisk,
        Self::RotateKeys,
        Self::Reload,
        Self::ReloadBad,
        Self::SynFlood,
        Self::InitialFlood,
        Self::Lockdown,
        Self::Purge,
        Self::Deny,
    ];

    /// As reports write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KillEdge => "kill-edge",
            Self::Restart => "restart",
            Self::KillKeyServer => "kill-key-server",
            Self::StallKeyServer => "stall-key-server",
            Self::KillFarEnd => "kill-far-end",
            Self::StallFarEnd => "stall-far-end",
            Self::KillOrigin => "kill-origin",
            Self::StallOrigin => "stall-origin",
            Self::CutLink => "cut-link",
            Self::InterfaceDown => "interface-down",
            Self::FillDisk => "fill-disk",
            Self::RotateKeys => "rotate-keys",
            Self::Reload => "reload",
            Self::ReloadBad => "reload-bad",
            Self::SynFlood => "syn-flood",
            Self::InitialFlood => "initial-flood",
            Self::Lockdown => "lockdown",
            Self::Purge => "purge",
            Self::Deny => "deny",
        }
    }

    /// Whether another daemon serves after it.
    pub(super) fn ends_edge(self) -> bool {
        matches!(self, Self::KillEdge | Self::Restart)
    }

    /// Whether visitors of `zone` may notice it.
    pub(super) fn touches(self, zone: &str) -> bool {
        match self {
            Self::KillEdge | Self::Restart | Self::CutLink | Self::InterfaceDown => true,
            Self::KillKeyServer | Self::StallKeyServer => zone == "keys",
            Self::KillFarEnd | Self::StallFarEnd => zone == "delta",
            Self::KillOrigin | Self::StallOrigin => ORIGIN_ZONES.contains(&zone),
            // What the worker stores is on that disk.
            Self::FillDisk => zone == "script",
            Self::RotateKeys
            | Self::Reload
            | Self::ReloadBad
            | Self::SynFlood
            | Self::InitialFlood
            | Self::Lockdown
            | Self::Purge
            | Self::Deny => false,
        }
    }
}

/// Injects one, undoes it, and waits until all works again; words for the log.
///
/// # Errors
/// What should not fail, failed: a role that does not come back, a reload that is refused.
pub(super) fn inject(world: &mut World, kind: Kind, noise: &mut Noise) -> Result<String> {
    let mut for_a_while = || std::thread::sleep(Duration::from_millis(1_500 + noise.below(3_000)));
    match kind {
        Kind::KillEdge => world.kill(Role::Edge)?,
        Kind::Restart => world.restart()?,
        Kind::KillKeyServer => {
            world.end(Role::KeyServer)?;
            for_a_while();
            world.begin(Role::KeyServer)?;
        }
        Kind::KillFarEnd => {
            world.end(Role::FarEnd)?;
            for_a_while();
            world.begin(Role::FarEnd)?;
        }
        Kind::KillOrigin => {
            world.end(Role::Origin)?;
            for_a_while();
            world.begin(Role::Origin)?;
        }
        Kind::StallKeyServer => world.stall(Role::KeyServer, &mut for_a_while)?,
        Kind::StallFarEnd => world.stall(Role::FarEnd, &mut for_a_while)?,
        Kind::StallOrigin => world.stall(Role::Origin, &mut for_a_while)?,
        Kind::CutLink => {
            world.link(false, false)?;
            for_a_while();
            world.link(false, true)?;
        }
        Kind::InterfaceDown => {
            world.link(true, false)?;
            for_a_while();
            world.link(true, true)?;
        }
        Kind::FillDisk => {
            let path = world.disk().join("filler");
            fill(&path)?;
            for_a_while();
            std::fs::remove_file(&path).context("emptying the disk")?;
        }
        Kind::RotateKeys => world.rotate()?,
        Kind::Reload => world.reload()?,
        Kind::ReloadBad => world.reload_bad()?,
        Kind::SynFlood => return world.flood("syn", 20_000.0, 4.0),
        Kind::InitialFlood => return world.flood("initial", 8_000.0, 4.0),
        Kind::Lockdown => {
            world.command(&["lockdown", "on"])?;
            for_a_while();
            world.command(&["lockdown", "auto"])?;
        }
        Kind::Purge => {
            for _ in 0..5 {
                world.command(&["cache", "purge", "--prefix", "https://cached.soak.test/"])?;
                std::thread::sleep(Duration::from_millis(300));
            }
        }
        Kind::Deny => {
            world.command(&["deny", "add", "203.0.113.0/24"])?;
            world.command(&["penalty", "add", "198.51.100.7", "--for", "30s"])?;
            for_a_while();
            world.command(&["penalty", "lift", "198.51.100.7"])?;
            world.command(&["deny", "del", "203.0.113.0/24"])?;
        }
    }
    world.answered()?;
    if kind == Kind::InterfaceDown {
        let attached = super::level::sum(&world.metrics()?, "edge_dataplane_attached");
        ensure!(attached >= 1.0, "{EDGE_INTERFACE} has come back without the program");
    }
    Ok(String::new())
}

/// Takes all room that the disk has.
fn fill(path: &std::path::Path) -> Result<()> {
    let mut file = File::create(path).context("filling the disk")?;
    let piece = vec![0; 1 << 20];
    while file.write_all(&piece).is_ok() {}
    // The last bytes, too.
    while file.write_all(&[0; 512]).is_ok() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    /// A fault that is left out of the list is never injected, and nobody notices.
    #[test]
    fn every_kind_is_injected_and_has_its_name() {
        assert_eq!(Kind::ALL.as_slice(), Kind::value_variants());
        for kind in Kind::ALL {
            let name = kind.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(name.as_deref(), Some(kind.name()));
        }
    }
}
