//! Sampled drops: from the ring buffer that the program fills into the daemon's log.
#![expect(
    unsafe_code,
    reason = "tokio wants a promise about the file descriptors it is to watch"
)]

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use edge_common::{Event, REASONS, maps};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::Error;
use super::object;

/// The reading end. Dropped, it loses samples and nothing else.
pub struct Events {
    ring: RingBuf<MapData>,
    /// The program's id, where the object was built with `--debug-log`.
    debug: Option<u32>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("debug", &self.debug)
            .finish_non_exhaustive()
    }
}

impl Events {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let map = ebpf.take_map(maps::EVENTS).ok_or(Error::Missing("map EVENTS"))?;
        let ring = map.try_into().map_err(Error::map(maps::EVENTS))?;
        let debug = match ebpf.map("AYA_LOGS") {
            None => None,
            Some(_) => Some(object::info(ebpf)?.id()),
        };
        Ok(Self { ring, debug })
    }

    /// Logs every sample (target `edge::dataplane`, level info) until it is dropped or the ring fails.
    ///
    /// # Errors
    /// If tokio cannot watch the ring buffer.
    pub async fn log(self) -> io::Result<()> {
        let samples = samples(self.ring);
        match self.debug {
            None => samples.await,
            Some(program) => tokio::try_join!(samples, debug(program)).map(|_| ()),
        }
    }

    /// The samples that are waiting now.
    pub fn drain(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(record) = self.ring.next() {
            events.extend(Event::from_bytes(&record));
        }
        events
    }
}

async fn samples(ring: RingBuf<MapData>) -> io::Result<()> {
    // SAFETY: a `RingBuf` owns its map's descriptor, and gives out that one as long as it lives.
    let mut ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
    loop {
        let mut ready = ring.readable_mut().await?;
        while let Some(record) = ready.get_inner_mut().next() {
            if let Some(event) = Event::from_bytes(&record) {
                line(&event);
            }
        }
        ready.clear_ready();
    }
}

async fn debug(program: u32) -> io::Result<()> {
    let logger = EbpfLogger::init_from_id(program).map_err(io::Error::other)?;
    // SAFETY: an `EbpfLogger` owns a `RingBuf`, which see above.
    let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }?;
    loop {
        let mut ready = logger.readable_mut().await?;
        ready.get_inner_mut().flush();
        ready.clear_ready();
    }
}

fn line(event: &Event) {
    let reason = REASONS
        .iter()
        .find(|(reason, _)| *reason == event.reason)
        .map_or("unknown", |(_, name)| *name);
    tracing::info!(
        target: "edge::dataplane",
        reason,
        source = %source(event),
        protocol = event.protocol,
        port = event.port,
        interface = event.interface,
        "dropped (a sample)"
    );
}

fn source(event: &Event) -> IpAddr {
    let [a, b, c, d, ..] = event.source;
    match event.version {
        4 => Ipv4Addr::new(a, b, c, d).into(),
        _ => Ipv6Addr::from(event.source).into(),
    }
}
