//! The elements of an array map (`BPF_F_MMAPABLE`, Linux 5.5) as memory of this process: what is
//! written there the program reads, without a system call.
#![expect(unsafe_code, reason = "the kernel's memory is mapped here")]

use std::ops::Deref;
use std::os::fd::AsFd as _;
use std::ptr::{self, NonNull};

use aya::maps::MapData;
use edge_common::table::{Bucket, Front};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::param::page_size;

use super::error::Error;

/// What an element may be: any bits are one, it is as large as the kernel lays elements out, and it
/// may change while it is read.
///
/// # Safety
/// `repr(C)`, made of atomics alone, its size a multiple of 8.
pub(super) unsafe trait Element {}

// SAFETY: three words and three halves, all of them atomics, and one more half: 64 bytes (asserted
// there).
unsafe impl Element for Bucket {}
// SAFETY: words, all of them atomics: 16 and 65,536 bytes (asserted there).
unsafe impl Element for Front {}

/// All elements of a map, mapped; unmapped when it is dropped. The map lives as long.
#[derive(Debug)]
pub(super) struct Memory<T> {
    start: NonNull<T>,
    count: usize,
    bytes: usize,
}

// SAFETY: the memory belongs to no thread, and its elements are atomics.
unsafe impl<T: Element> Send for Memory<T> {}
// SAFETY: as above.
unsafe impl<T: Element> Sync for Memory<T> {}

impl<T: Element> Memory<T> {
    /// Maps the map of this name, whose elements are `T`s.
    pub(super) fn of(name: &'static str, map: &MapData) -> Result<Self, Error> {
        let info = map.info().map_err(Error::map(name))?;
        let count = usize::try_from(info.max_entries()).unwrap_or_default();
        if count == 0 || usize::try_from(info.value_size()) != Ok(size_of::<T>()) {
            return Err(Error::Missing("elements of a map of penalties"));
        }
        let bytes = (count * size_of::<T>()).next_multiple_of(page_size());
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map.fd().as_fd(),
                0,
            )
        };
        let start = start.map_err(|errno| Error::Memory {
            map: name,
            source: errno.into(),
        })?;
        let start = NonNull::new(start.cast()).ok_or(Error::Missing("memory of a map of penalties"))?;
        Ok(Self { start, count, bytes })
    }
}

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        // SAFETY: mapped in `of`, with that length, and nobody borrows from it any more.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

impl<T: Element> Deref for Memory<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: as many elements as the map has, which begin at a page, and each 8-byte multiple
        // of the size after the one before it, as the kernel lays arrays out. They are atomics, so
        // who else writes them does no harm.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

/// The element of a map that has one.
#[derive(Debug)]
pub(super) struct Single<T>(pub(super) Memory<T>);

impl<T: Element> Deref for Single<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: as in `Memory::deref`; a map has at least one element (seen in `of`).
        unsafe { self.0.start.as_ref() }
    }
}
