//! The dynamic table (RFC 9204 section 3.2): entries by the number of their insertion, within a
//! capacity. A client's entries in `decoder`, those of ours in `encoder`.

use std::collections::VecDeque;

use bytes::Bytes;

use super::fixed::Name;
use crate::http::fields::OVERHEAD;

/// A field line that can be referred to.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: Name,
    /// Its value.
    pub value: Bytes,
}

impl Entry {
    /// What it takes of the capacity.
    pub fn size(&self) -> u64 {
        size(&self.name, self.value.len())
    }
}

/// What a line of these takes of the table's capacity, and of the size of a field section (RFC 9114
/// section 4.2.2).
pub fn size(name: &Name, value: usize) -> u64 {
    (name.length() as u64)
        .saturating_add(value as u64)
        .saturating_add(OVERHEAD)
}

/// Entries, the oldest first. At most `capacity` bytes, by [`Entry::size`].
#[derive(Debug, Default)]
pub struct Table {
    entries: VecDeque<Entry>,
    size: u64,
    capacity: u64,
    /// Entries that were pushed out.
    dropped: u64,
}

impl Table {
    /// Entries that were ever inserted.
    pub fn inserted(&self) -> u64 {
        self.dropped.saturating_add(self.entries.len() as u64)
    }

    /// The bytes that it may hold.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Lets it hold `capacity` bytes; what does not fit goes.
    pub fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
        self.shrink(capacity);
    }

    /// Whether `more` bytes fit without pushing anything out.
    pub fn has_room(&self, more: u64) -> bool {
        self.size.saturating_add(more) <= self.capacity
    }

    /// The entry that was inserted as number `index`, from 0; `None` if it was pushed out, or has
    /// not come.
    pub fn get(&self, index: u64) -> Option<&Entry> {
        let place = index.checked_sub(self.dropped)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    /// Inserts `entry`, and pushes the oldest out for it. False: it is larger than the table.
    #[must_use]
    pub fn insert(&mut self, entry: Entry) -> bool {
        let size = entry.size();
        let Some(room) = self.capacity.checked_sub(size) else {
            return false;
        };
        self.shrink(room);
        self.size = self.size.saturating_add(size);
        self.entries.push_back(entry);
        true
    }

    /// Pushes the oldest out until at most `most` bytes are left.
    pub fn shrink(&mut self, most: u64) {
        while self.size > most
            && let Some(oldest) = self.entries.pop_front()
        {
            self.size = self.size.saturating_sub(oldest.size());
            self.dropped += 1;
        }
    }
}
