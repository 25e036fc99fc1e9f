//! Connections that have not shown who they are: few, few of one address, and when there is no room
//! the oldest goes. They take no place of clients, so that whoever merely reaches the port keeps no
//! edge out. `serve` lets each in, and out again when it is known.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Connections under their handshake at once. An edge shows its certificate in two round trips:
/// with fewer newcomers than this in that time it is let in. Each holds some 20 KiB: 5 MiB in all.
const MOST: usize = 256;
/// Of one IPv4 address or IPv6 /64: an edge's workers connect at once when it starts.
const OF_ADDRESS: usize = 64;

/// Who waits there.
#[derive(Debug, Default)]
pub(super) struct Lobby(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// The oldest first. No more than `MOST`.
    guests: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    prefix: IpAddr,
    /// Dropped, the guest has to go.
    _stay: oneshot::Sender<()>,
}

/// One who waits; dropped, it has left.
#[derive(Debug)]
pub(super) struct Guest {
    lobby: Arc<Lobby>,
    number: u64,
    stay: oneshot::Receiver<()>,
}

impl Lobby {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one in from a client `prefix`, for whom the oldest may have to go: of the same prefix,
    /// if there are many of it.
    pub(super) fn enter(self: &Arc<Self>, prefix: IpAddr) -> Guest {
        let (stay, told) = oneshot::channel();
        let mut waiting = self.waiting();
        let same = |entry: &Entry| entry.prefix == prefix;
        if waiting.guests.iter().filter(|entry| same(entry)).count() >= OF_ADDRESS {
            if let Some(oldest) = waiting.guests.iter().position(same) {
                waiting.guests.remove(oldest);
            }
        } else if waiting.guests.len() >= MOST {
            waiting.guests.pop_front();
        }
        let number = waiting.next;
        waiting.next = number.wrapping_add(1);
        waiting.guests.push_back(Entry {
            number,
            prefix,
            _stay: stay,
        });
        drop(waiting);
        Guest {
            lobby: self.clone(),
            number,
            stay: told,
        }
    }
}

impl Guest {
    /// Waits until it has to go.
    pub(super) async fn sent_away(&mut self) {
        // Nothing is ever said: the sender goes.
        let _ = (&mut self.stay).await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.lobby.waiting().guests.retain(|entry| entry.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(guest: &mut Guest) -> bool {
        matches!(guest.stay.try_recv(), Err(oneshot::error::TryRecvError::Closed))
    }

    /// After a restart no edge would get in while somebody holds silent connections.
    #[test]
    fn the_oldest_goes() {
        let lobby = Arc::new(Lobby::default());
        let address = |n: usize| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
        let mut silent: Vec<_> = (0..OF_ADDRESS).map(|_| lobby.enter(address(1))).collect();
        let mut edge = lobby.enter(address(2));
        silent.push(lobby.enter(address(1)));
        assert!(
            gone(&mut silent[0]) && !gone(&mut silent[1]),
            "the oldest of the address"
        );
        assert!(!gone(&mut edge));
        let others: Vec<_> = (3..3 + MOST - OF_ADDRESS - 1)
            .map(|n| lobby.enter(address(n)))
            .collect();
        assert!(!gone(&mut silent[1]));
        let last = lobby.enter(address(1_000));
        assert!(gone(&mut silent[1]) && !gone(&mut silent[2]), "the oldest of all");
        drop((silent, edge, others, last));
        assert!(lobby.waiting().guests.is_empty());
    }
}
