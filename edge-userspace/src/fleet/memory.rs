//! An engine in memory, for tests and benches: a process's nodes share it. It can be told to be
//! hostile: it withholds, replays, reorders, forges and forgets, as whoever runs a real one could.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use super::Digest;
use super::carrier::{Arrival, Carrier, Channel, Engine, Error, Extent, Log, Pending};

/// Arrivals that a connection holds; more are dropped, as a real engine drops those of a slow
/// reader.
const HELD: usize = 4_096;

/// What becomes of an entry on its way to one connection.
pub type Twist = Box<dyn Fn(&Arrival) -> Vec<Arrival> + Send + Sync>;

#[derive(Default)]
struct State {
    blobs: HashMap<(Digest, u32), Bytes>,
    logs: HashMap<Log, Vec<Option<Bytes>>>,
    series: u64,
    links: Vec<Link>,
    next: u64,
    down: bool,
    /// What it does to arrivals; `None`: it is honest.
    twist: Option<Arc<Twist>>,
    /// Reads of entries find nothing.
    withholds: bool,
}

struct Link {
    id: u64,
    to: mpsc::Sender<Arrival>,
    channels: Vec<Channel>,
}

/// See the module. Cheap to clone: a clone is the same engine.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<State>>);

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all connections, and takes no new ones until [`Memory::rise`].
    pub fn fall(&self) {
        let mut state = self.state();
        state.down = true;
        state.links.clear();
    }

    /// Takes connections again.
    pub fn rise(&self) {
        self.state().down = false;
    }

    /// Forgets everything that it kept.
    pub fn wipe(&self) {
        let mut state = self.state();
        state.blobs.clear();
        state.logs.clear();
        state.series += 1;
        state.links.clear();
    }

    /// Treats arrivals so from now on; `None`: honestly.
    pub fn twist(&self, twist: Option<Twist>) {
        self.state().twist = twist.map(Arc::new);
    }

    /// Whether reads of entries find nothing.
    pub fn withhold(&self, withholds: bool) {
        self.state().withholds = withholds;
    }

    /// Sends something to everybody.
    pub fn inject(&self, arrival: &Arrival) {
        let state = self.state();
        for link in &state.links {
            // A full queue loses it, as a real engine does.
            let _ = link.to.try_send(arrival.clone());
        }
    }

    /// Replaces all blobs by others of the same names.
    pub fn forge_blobs(&self) {
        let forged = Bytes::from_static(b"\0forged");
        self.state()
            .blobs
            .values_mut()
            .for_each(|bytes| *bytes = forged.clone());
    }

    /// What it keeps of a log.
    pub fn kept(&self, log: Log) -> Vec<Bytes> {
        let state = self.state();
        let entries = state.logs.get(&log).map(Vec::as_slice).unwrap_or_default();
        entries.iter().flatten().cloned().collect()
    }
}

impl Engine for Memory {
    fn connect(&self) -> Pending<'_, Box<dyn Carrier>> {
        Box::pin(async move {
            let mut state = self.state();
            if state.down {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
            }
            let (to, arrivals) = mpsc::channel(HELD);
            state.next += 1;
            let id = state.next;
            state.links.push(Link {
                id,
                to,
                channels: Vec::new(),
            });
            let connection: Box<dyn Carrier> = Box::new(Connection {
                engine: self.clone(),
                id,
                arrivals: AsyncMutex::new(arrivals),
            });
            Ok(connection)
        })
    }
}

struct Connection {
    engine: Memory,
    id: u64,
    arrivals: AsyncMutex<mpsc::Receiver<Arrival>>,
}

fn gone() -> Error {
    io::Error::from(io::ErrorKind::ConnectionReset).into()
}

impl Connection {
    fn state(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.engine.state();
        let here = state.links.iter().any(|link| link.id == self.id);
        if here { Ok(state) } else { Err(gone()) }
    }

    fn spread(state: &State, arrival: &Arrival) {
        let twisted = match &state.twist {
            Some(twist) => twist(arrival),
            None => vec![arrival.clone()],
        };
        for arrival in twisted {
            for link in &state.links {
                let wanted = match &arrival {
                    Arrival::Entry { .. } => true,
                    Arrival::Message { channel, .. } => link.channels.contains(channel),
                };
                if wanted {
                    // A full queue loses it, as a real engine does.
                    let _ = link.to.try_send(arrival.clone());
                }
            }
        }
    }
}

impl Carrier for Connection {
    fn put<'a>(&'a self, digest: &'a Digest, part: u32, bytes: Bytes) -> Pending<'a, ()> {
        Box::pin(async move {
            self.state()?.blobs.insert((*digest, part), bytes);
            Ok(())
        })
    }

    fn part<'a>(&'a self, digest: &'a Digest, part: u32) -> Pending<'a, Option<Bytes>> {
        Box::pin(async move { Ok(self.state()?.blobs.get(&(*digest, part)).cloned()) })
    }

    fn append(&self, log: Log, bytes: Bytes) -> Pending<'_, u64> {
        Box::pin(async move {
            let mut state = self.state()?;
            let entries = state.logs.entry(log).or_default();
            entries.push(Some(bytes.clone()));
            let number = entries.len() as u64;
            Self::spread(&state, &Arrival::Entry { log, number, bytes });
            Ok(number)
        })
    }

    fn entry(&self, log: Log, number: u64) -> Pending<'_, Option<Bytes>> {
        Box::pin(async move {
            let state = self.state()?;
            let at = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
            let entry = state
                .logs
                .get(&log)
                .and_then(|entries| entries.get(at).cloned().flatten());
            Ok(entry.filter(|_| !state.withholds))
        })
    }

    fn extent(&self, log: Log) -> Pending<'_, Extent> {
        Box::pin(async move {
            let state = self.state()?;
            let last = state.logs.get(&log).map_or(0, |entries| entries.len() as u64);
            Ok(Extent {
                first: last.min(1),
                last,
                series: format!("memory-{}", state.series),
            })
        })
    }

    fn say<'a>(&'a self, channel: &'a Channel, bytes: Bytes) -> Pending<'a, ()> {
        Box::pin(async move {
            let channel = channel.clone();
            Self::spread(&*self.state()?, &Arrival::Message { channel, bytes });
            Ok(())
        })
    }

    fn listen<'a>(&'a self, channel: &'a Channel) -> Pending<'a, ()> {
        Box::pin(async move {
            let mut state = self.state()?;
            if let Some(link) = state.links.iter_mut().find(|link| link.id == self.id) {
                link.channels.push(channel.clone());
            }
            Ok(())
        })
    }

    fn arrival(&self) -> Pending<'_, Arrival> {
        Box::pin(async move { self.arrivals.lock().await.recv().await.ok_or_else(gone) })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.engine.state().links.retain(|link| link.id != self.id);
    }
}
