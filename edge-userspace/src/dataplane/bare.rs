//! The interfaces whose packets begin with the IP header, for the program.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError};
use edge_common::maps;

use super::error::Error;

/// The map `BARE`.
pub(super) struct Bare(Mutex<HashMap<MapData, u32, u32>>);

impl fmt::Debug for Bare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bare").finish_non_exhaustive()
    }
}

impl Bare {
    /// That of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let map = ebpf.take_map(maps::BARE).ok_or(Error::Missing("map BARE"))?;
        Ok(Self(Mutex::new(map.try_into().map_err(Error::map(maps::BARE))?)))
    }

    /// Whether packets of the interface with this number begin with the IP header; as given.
    pub(super) fn set(&self, index: u32, bare: bool) -> Result<bool, Error> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let done = match bare {
            true => map.insert(index, 1, 0),
            false => match map.remove(&index) {
                Err(MapError::KeyNotFound) => Ok(()),
                Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
                other => other,
            },
        };
        done.map_err(Error::map(maps::BARE)).map(|()| bare)
    }
}
