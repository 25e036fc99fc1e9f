//! Packets by reason, as the program counts them on each CPU.

use std::fmt;

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};
use edge_common::{REASONS, Verdict, maps, verdict};

use super::error::Error;

/// A reason and its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// What happened to them.
    pub verdict: Verdict,
    /// Index of the reason, one of `edge_common`'s `PASS_…` and `DROP_…`.
    pub reason: u32,
    /// The reason's name in metrics.
    pub name: &'static str,
    /// Packets since the map was made.
    pub packets: u64,
}

/// The kernel's counters.
pub struct Counters {
    map: PerCpuArray<MapData, u64>,
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").finish_non_exhaustive()
    }
}

impl Counters {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let map = ebpf.take_map(maps::COUNTERS).ok_or(Error::Missing("map COUNTERS"))?;
        let map = map.try_into().map_err(Error::map(maps::COUNTERS))?;
        Ok(Self { map })
    }

    /// Every reason, also those that never happened, in the order of `edge_common::REASONS`. The
    /// counts are read one by one while packets go on: their sum is no moment's.
    ///
    /// # Errors
    /// [`Error::Map`] if the kernel refuses to read.
    pub fn read(&self) -> Result<Vec<Count>, Error> {
        REASONS
            .iter()
            .map(|&(reason, name)| {
                let packets = self.one(reason)?;
                Ok(Count {
                    verdict: verdict(reason),
                    reason,
                    name,
                    packets,
                })
            })
            .collect()
    }

    /// One counter, over all CPUs.
    pub(super) fn one(&self, index: u32) -> Result<u64, Error> {
        let values = self.map.get(&index, 0).map_err(Error::map(maps::COUNTERS))?;
        Ok(values.iter().fold(0, |sum: u64, value| sum.wrapping_add(*value)))
    }
}
