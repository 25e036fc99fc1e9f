//! Permits for requests in flight at a zone's origin. A permit is held until the response's content ends or is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `most` permits, a quarter of them kept for clients that have waited.
#[derive(Debug)]
pub struct Pool {
    most: usize,
    newcomers: usize,
    held: AtomicUsize,
}

/// One request in flight; dropping it makes room.
#[derive(Debug)]
pub struct Permit(Arc<Pool>);

impl Pool {
    /// A pool of `most` permits, at least 1. Newcomers may hold three quarters, and at least one.
    pub fn new(most: usize) -> Arc<Self> {
        let most = most.max(1);
        Arc::new(Self {
            most,
            newcomers: (most - most / 4).max(1),
            held: AtomicUsize::new(0),
        })
    }

    /// A permit, if there is one; the reserve is for those who `waited`.
    pub fn take(self: &Arc<Self>, waited: bool) -> Option<Permit> {
        let limit = if waited { self.most } else { self.newcomers };
        let more = |held: usize| (held < limit).then_some(held + 1);
        self.held
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, more)
            .ok()
            .map(|_| Permit(self.clone()))
    }

    /// Requests in flight.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Permits in all.
    pub fn most(&self) -> usize {
        self.most
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An origin would get more than it can bear, newcomers would starve those who waited, or permits would leak away.
    #[test]
    fn bounded_reserved_returned() {
        let pool = Pool::new(8);
        let newcomers: Vec<_> = (0..20).filter_map(|_| pool.take(false)).collect();
        assert_eq!(newcomers.len(), 6);
        let waited: Vec<_> = (0..20).filter_map(|_| pool.take(true)).collect();
        assert_eq!((waited.len(), pool.held()), (2, 8));
        drop(newcomers);
        assert_eq!(pool.held(), 2);
        assert_eq!((0..20).map_while(|_| pool.take(false).map(std::mem::forget)).count(), 4);
        assert!(Pool::new(1).take(false).is_some());
    }
}
