//! Sampled drops: from the ring buffer that the program fills into the daemon's log. A flood is
//! sampled thousands of times a second, and the log is shared with access lines: so a few lines a
//! second of each reason are written, and of the rest one that sums it up.
#![expect(
    unsafe_code,
    reason = "tokio wants a promise about the file descriptors it is to watch"
)]

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use edge_common::{Event, REASONS, maps};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::Error;
use super::object;
use super::top::TopSources;
use crate::base::peer::client_prefix;

/// Samples of a reason that are logged in a second, one line each.
const LINES: u32 = 10;
/// Client prefixes of a reason that are told apart in a second, beyond those lines: some 12 KiB.
const PREFIXES: usize = 256;

/// The reading end. Dropped, it loses samples and nothing else.
pub struct Events {
    ring: RingBuf<MapData>,
    /// The program's id, where the object was built with `--debug-log`.
    debug: Option<u32>,
    top: Arc<TopSources>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("debug", &self.debug)
            .finish_non_exhaustive()
    }
}

impl Events {
    pub(super) fn take(ebpf: &mut Ebpf, top: Arc<TopSources>) -> Result<Self, Error> {
        let map = ebpf.take_map(maps::EVENTS).ok_or(Error::Missing("map EVENTS"))?;
        let ring = map.try_into().map_err(Error::map(maps::EVENTS))?;
        let debug = match ebpf.map("AYA_LOGS") {
            None => None,
            Some(_) => Some(object::info(ebpf)?.id()),
        };
        Ok(Self { ring, debug, top })
    }

    /// Logs every sample (target `edge::dataplane`, level info) until it is dropped or the ring
    /// fails.
    ///
    /// # Errors
    /// If tokio cannot watch the ring buffer.
    pub async fn log(self) -> io::Result<()> {
        let samples = samples(self.ring, self.top);
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

async fn samples(ring: RingBuf<MapData>, top: Arc<TopSources>) -> io::Result<()> {
    // SAFETY: a `RingBuf` owns its map's descriptor, and gives out that one as long as it lives.
    let mut ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut throttle = Throttle::default();
    loop {
        tokio::select! {
            _ = second.tick() => throttle.sum_up().for_each(|(reason, rest)| summary(reason, &rest)),
            ready = ring.readable_mut() => {
                let mut ready = ready?;
                while let Some(record) = ready.get_inner_mut().next() {
                    let Some(event) = Event::from_bytes(&record) else { continue };
                    top.note(Instant::now(), event.reason, client_prefix(source(&event)));
                    if throttle.is_told(&event) {
                        line(&event);
                    }
                }
                ready.clear_ready();
            }
        }
    }
}

/// How many samples of each reason were logged in this second, and what the others were.
#[derive(Debug, Default)]
struct Throttle(HashMap<u32, Second>);

/// One reason's second.
#[derive(Debug, Default)]
struct Second {
    told: u32,
    rest: Rest,
}

/// Samples that were not logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rest {
    samples: u64,
    /// By client prefix, of the first [`PREFIXES`] that came.
    from: HashMap<IpAddr, u64>,
}

impl Rest {
    /// Whom most came from.
    fn most(&self) -> Option<(IpAddr, u64)> {
        let most = self.from.iter().max_by_key(|(prefix, count)| (**count, **prefix))?;
        Some((*most.0, *most.1))
    }
}

impl Throttle {
    /// Whether a sample is to be logged by itself; counts it.
    fn is_told(&mut self, event: &Event) -> bool {
        let second = self.0.entry(event.reason).or_default();
        if second.told < LINES {
            second.told += 1;
            return true;
        }
        second.rest.samples += 1;
        let prefix = client_prefix(source(event));
        if let Some(count) = second.rest.from.get_mut(&prefix) {
            *count += 1;
        } else if second.rest.from.len() < PREFIXES {
            second.rest.from.insert(prefix, 1);
        }
        false
    }

    /// The second is over: what was not logged of it.
    fn sum_up(&mut self) -> impl Iterator<Item = (u32, Rest)> {
        let over = std::mem::take(&mut self.0).into_iter();
        over.map(|(reason, second)| (reason, second.rest))
            .filter(|(_, rest)| rest.samples != 0)
    }
}

fn summary(reason: u32, rest: &Rest) {
    let (most, of_most) = rest.most().map_or((None, 0), |(prefix, count)| (Some(prefix), count));
    tracing::info!(
        target: "edge::dataplane",
        reason = name(reason),
        samples = rest.samples,
        most = ?most,
        of_most,
        "dropped (more samples of this second)"
    );
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

/// The name of a reason.
pub fn name(reason: u32) -> &'static str {
    REASONS
        .iter()
        .find(|(known, _)| *known == reason)
        .map_or("unknown", |(_, name)| *name)
}

fn line(event: &Event) {
    tracing::info!(
        target: "edge::dataplane",
        reason = name(event.reason),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A flood would push access lines out of the log's queue; or nobody would hear who it is.
    #[test]
    fn a_flood_is_a_few_lines_and_a_sum() {
        let event = |reason, last: u8| Event {
            reason,
            interface: 1,
            source: [192, 0, 2, last, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            port: 443,
            protocol: 6,
            version: 4,
        };
        let mut throttle = Throttle::default();
        let told =
            (0..10_000_u32).filter(|n| throttle.is_told(&event(32, if n % 3 == 0 { 9 } else { (n % 200) as u8 })));
        assert_eq!(told.count(), 10);
        assert!(throttle.is_told(&event(33, 1)), "another reason has lines of its own");
        let sums: Vec<_> = throttle.sum_up().collect();
        let [(32, rest)] = &sums[..] else { panic!("{sums:?}") };
        assert_eq!(rest.samples, 9_990);
        let (most, count) = rest.most().unwrap();
        assert_eq!(most, IpAddr::from([192, 0, 2, 9]));
        assert!(count > 3_000, "{count}");
        assert!(throttle.is_told(&event(32, 9)), "a second later");
        let mut many = Throttle::default();
        for n in 0..100_000_u32 {
            let mut event = event(34, 0);
            event.source[1..4].copy_from_slice(&n.to_be_bytes()[1..]);
            many.is_told(&event);
        }
        let (_, rest) = many.sum_up().next().unwrap();
        assert_eq!((rest.samples, rest.from.len()), (99_990, PREFIXES));
    }
}
