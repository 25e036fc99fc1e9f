//! The sockets of QUIC, for the program `steer`: `node` hands in those that the workers have bound;
//! the kernel then gives each worker the datagrams of its own connections, whatever address they
//! come from, and a daemon that is being replaced those of the connections that it still has.
//!
//! The maps are pinned with the others, so that daemon after daemon uses the same. A socket that is
//! closed leaves its slot by itself.

use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, ReusePortSockArray};
use aya::programs::SkReuseport;
use edge_common::cid::{GENERATIONS, Route};
use edge_common::maps;
use edge_common::steering::{self, LISTENERS, Listener, WORKERS, slot};

use super::error::Error;

/// Name of the program, in the object and in `bpftool prog`.
const PROGRAM: &str = "steer";

/// The maps of the program, as this daemon uses them.
pub(super) struct Steering {
    present: Array<MapData, steering::Steering>,
    listeners: HashMap<MapData, Listener, u32>,
    sockets: ReusePortSockArray<MapData>,
    generation: u16,
    workers: u32,
}

impl fmt::Debug for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steering")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// The key of a bound address.
fn listener(address: SocketAddr) -> Listener {
    let mut words = [0; 4];
    let family = match address.ip() {
        IpAddr::V4(v4) => {
            words[0] = u32::from_ne_bytes(v4.octets());
            4
        }
        IpAddr::V6(v6) => {
            for (word, bytes) in words.iter_mut().zip(v6.octets().as_chunks::<4>().0) {
                *word = u32::from_ne_bytes(*bytes);
            }
            6
        }
    };
    Listener {
        address: words,
        port: address.port().into(),
        family,
    }
}

impl Steering {
    /// Those of a loaded object. The daemon's generation is the one behind the last that served.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let mut map = |name| ebpf.take_map(name).ok_or(Error::Missing("map for steering"));
        let present: Array<_, steering::Steering> =
            map(maps::STEERING)?.try_into().map_err(Error::map(maps::STEERING))?;
        let listeners = map(maps::LISTENERS)?.try_into().map_err(Error::map(maps::LISTENERS))?;
        let sockets = map(maps::SOCKETS)?.try_into().map_err(Error::map(maps::SOCKETS))?;
        let last = present.get(&0, 0).map_err(Error::map(maps::STEERING))?;
        let generation = last.generation.wrapping_add(1) % u32::from(GENERATIONS);
        Ok(Self {
            present,
            listeners,
            sockets,
            generation: u16::try_from(generation).unwrap_or_default(),
            workers: 0,
        })
    }

    /// What this daemon's connection ids say.
    pub(super) const fn generation(&self) -> u16 {
        self.generation
    }

    /// Puts `sockets`, by worker and each bound to `address`, into this daemon's slots, and the
    /// program before them.
    pub(super) fn place(&mut self, ebpf: &mut Ebpf, listening: &[(SocketAddr, Vec<&UdpSocket>)]) -> Result<(), Error> {
        let addresses: Vec<_> = listening.iter().map(|(address, _)| listener(*address)).collect();
        let program = ebpf.program_mut(PROGRAM).ok_or(Error::Missing("program `steer`"))?;
        let program: &mut SkReuseport = program.try_into().map_err(Error::program)?;
        program.load().map_err(Error::program)?;
        for (address, sockets) in listening {
            let number = self.number(listener(*address), &addresses)?;
            for (worker, socket) in (0..).zip(sockets) {
                let route = Route {
                    generation: self.generation,
                    worker,
                };
                let slot = slot(number, route).ok_or(Error::TooManyToSteer)?;
                self.sockets.set(slot, *socket, 0).map_err(Error::map(maps::SOCKETS))?;
            }
            self.workers = self.workers.max(u32::try_from(sockets.len()).unwrap_or(u32::MAX));
            if let Some(socket) = sockets.first() {
                program.attach(socket).map_err(Error::program)?;
            }
        }
        Ok(())
    }

    /// The number of an address: the one it has, or a free one, or that of an address that nobody
    /// listens on any more.
    fn number(&mut self, wanted: Listener, addresses: &[Listener]) -> Result<u32, Error> {
        let mut known = Vec::new();
        for item in self.listeners.iter() {
            known.push(item.map_err(Error::map(maps::LISTENERS))?);
        }
        if let Some((_, number)) = known.iter().find(|(key, _)| *key == wanted) {
            return Ok(*number);
        }
        let free = (0..LISTENERS).find(|number| known.iter().all(|(_, taken)| taken != number));
        let number = match free {
            Some(number) => number,
            None => {
                let gone = known.iter().find(|(key, _)| !addresses.contains(key));
                let (key, number) = gone.ok_or(Error::TooManyToSteer)?;
                self.listeners.remove(key).map_err(Error::map(maps::LISTENERS))?;
                *number
            }
        };
        self.listeners
            .insert(wanted, number, 0)
            .map_err(Error::map(maps::LISTENERS))?;
        Ok(number)
    }

    /// New connections are this daemon's from now on.
    pub(super) fn take_over(&mut self) -> Result<(), Error> {
        let present = steering::Steering {
            generation: self.generation.into(),
            workers: self.workers.min(WORKERS),
        };
        self.present.set(0, present, 0).map_err(Error::map(maps::STEERING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another key than the program's is a listener that is never found.
    #[test]
    fn keys_are_in_network_order() {
        let v4 = listener("192.0.2.7:443".parse().unwrap());
        assert_eq!(v4.address[0].to_ne_bytes(), [192, 0, 2, 7]);
        assert_eq!((v4.port, v4.family), (443, 4));
        let v6 = listener("[2001:db8::1]:8443".parse().unwrap());
        assert_eq!(v6.address[0].to_ne_bytes(), [0x20, 1, 0x0d, 0xb8]);
        assert_eq!(v6.address[3].to_ne_bytes(), [0, 0, 0, 1]);
    }
}
