//! What a zone's workers store: one database file per zone, so that no key of one zone can name a value of another. Calls
//! block; `wasi` makes them on threads that may.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::Semaphore;

use super::error::Error;
use crate::config::isolate::Keyvalue;

const VALUES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");
/// `bytes` and `keys` of all values.
const USAGE: TableDefinition<'_, &str, u64> = TableDefinition::new("usage");

/// Bytes of one key.
const KEY: usize = 1_024;
/// Keys of one answer to a question for keys.
const PAGE: usize = 256;
/// Keys of one batch.
const BATCH: usize = 256;
/// Calls of one zone that are under way; the rest wait, and their guests with them.
const CALLS: usize = 8;
/// Memory of one zone's database for pages, bytes.
const CACHE: usize = 1 << 20;

/// A zone's database.
pub(super) struct Vault {
    database: Database,
    limits: ArcSwap<Keyvalue>,
    /// To be held during each call.
    pub(super) calls: Arc<Semaphore>,
}

/// Why a value was not stored or read; a guest is told these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The zone's quota of bytes.
    #[error("the zone's quota of bytes is used up")]
    Bytes,
    /// The zone's quota of keys.
    #[error("the zone's quota of keys is used up")]
    Keys,
    /// One value.
    #[error("the value is longer than the zone may store")]
    Value,
    /// One key.
    #[error("a key is empty, or longer than 1024 bytes")]
    Key,
    /// One batch.
    #[error("more than 256 keys in one batch")]
    Batch,
    /// No number is there.
    #[error("the value is no number of 8 bytes")]
    Number,
    /// The disk, or the file on it. The operator's log knows more.
    #[error("the store failed")]
    Failed,
}

impl From<redb::Error> for Refusal {
    fn from(error: redb::Error) -> Self {
        tracing::error!(target: "edge::isolate", %error, "what a zone stores cannot be read or written");
        Self::Failed
    }
}

macro_rules! failed {
    ($($error:ty),*) => { $(impl From<$error> for Refusal {
        fn from(error: $error) -> Self {
            redb::Error::from(error).into()
        }
    })* };
}
failed!(
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

impl Vault {
    /// Opens or makes the database at `path`.
    ///
    /// # Errors
    /// [`Error::Store`]: another process has it, it is damaged, or the disk is full.
    pub(super) fn open(path: &Path, zone: &str, limits: Keyvalue) -> Result<Self, Error> {
        let failed = |what: String| Error::Store {
            zone: zone.to_owned(),
            what,
        };
        let database = Database::builder()
            .set_cache_size(CACHE)
            .create(path)
            .map_err(|e| failed(format!("{}: {e}", path.display())))?;
        let make = || -> Result<(), Refusal> {
            let write = database.begin_write()?;
            write.open_table(VALUES)?;
            write.open_table(USAGE)?;
            write.commit()?;
            Ok(())
        };
        make().map_err(|e| failed(e.to_string()))?;
        Ok(Self {
            database,
            limits: ArcSwap::from_pointee(limits),
            calls: Arc::new(Semaphore::new(CALLS)),
        })
    }

    /// Other limits from now on; what is stored stays.
    pub(super) fn adjust(&self, limits: Keyvalue) {
        self.limits.store(Arc::new(limits));
    }

    #[cfg(test)]
    pub(super) fn limits(&self) -> Arc<Keyvalue> {
        self.limits.load_full()
    }

    /// The values of `keys`, in their order.
    pub(super) fn get(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Refusal> {
        batch(keys.len())?;
        let read = self.database.begin_read()?;
        let values = read.open_table(VALUES)?;
        let mut found = Vec::with_capacity(keys.len());
        let mut bytes = 0_usize;
        for key in keys {
            let value = values.get(key.as_str())?.map(|value| value.value().to_vec());
            bytes = bytes.saturating_add(value.as_ref().map_or(0, Vec::len));
            // A guest's memory is bounded, the host's must be as well.
            if bytes > 64 << 20 {
                return Err(Refusal::Batch);
            }
            found.push(value);
        }
        Ok(found)
    }

    /// Whether `key` has a value.
    pub(super) fn exists(&self, key: &str) -> Result<bool, Refusal> {
        let read = self.database.begin_read()?;
        Ok(read.open_table(VALUES)?.get(key)?.is_some())
    }

    /// Keys behind the first `skip`, in order, and where to go on if there are more.
    pub(super) fn keys(&self, skip: u64) -> Result<(Vec<String>, Option<u64>), Refusal> {
        let read = self.database.begin_read()?;
        let values = read.open_table(VALUES)?;
        let mut keys = Vec::new();
        let from = usize::try_from(skip).unwrap_or(usize::MAX);
        for entry in values.iter()?.skip(from).take(PAGE + 1) {
            keys.push(entry?.0.value().to_owned());
        }
        let more = keys.len() > PAGE;
        keys.truncate(PAGE);
        Ok((keys, more.then(|| skip.saturating_add(PAGE as u64))))
    }

    /// At most `most` keys that begin with `prefix`, in order, behind `after`; and the last of them if there are more.
    pub(super) fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Result<(Vec<String>, Option<String>), Refusal> {
        let read = self.database.begin_read()?;
        let values = read.open_table(VALUES)?;
        let from = after.filter(|after| *after > prefix).unwrap_or(prefix);
        let mut keys = Vec::new();
        for entry in values.range(from..)? {
            let entry = entry?;
            let key = entry.0.value();
            if !key.starts_with(prefix) {
                break;
            }
            if after == Some(key) {
                continue;
            }
            if keys.len() >= most {
                let last = keys.last().cloned();
                return Ok((keys, last));
            }
            keys.push(key.to_owned());
        }
        Ok((keys, None))
    }

    /// Stores all of `entries` or none.
    pub(super) fn set(&self, entries: &[(String, Vec<u8>)]) -> Result<(), Refusal> {
        batch(entries.len())?;
        self.change(|values, usage| {
            for (key, value) in entries {
                self.put(values, usage, key, value)?;
            }
            Ok(())
        })
    }

    /// Removes all of `keys`; those that are not there are no fault.
    pub(super) fn delete(&self, keys: &[String]) -> Result<(), Refusal> {
        batch(keys.len())?;
        self.change(|values, usage| {
            for key in keys {
                if let Some(old) = values.remove(key.as_str())? {
                    usage.release(key, old.value());
                }
            }
            Ok(())
        })
    }

    /// Adds `delta` to the number at `key` (8 bytes, little endian), wrapping, and gives the sum. None there counts as 0.
    pub(super) fn increment(&self, key: &str, delta: u64) -> Result<u64, Refusal> {
        self.change(|values, usage| {
            let old = match values.get(key)? {
                None => 0,
                Some(value) => u64::from_le_bytes(value.value().try_into().map_err(|_| Refusal::Number)?),
            };
            let sum = old.wrapping_add(delta);
            self.put(values, usage, key, &sum.to_le_bytes())?;
            Ok(sum)
        })
    }

    fn put(
        &self,
        values: &mut redb::Table<'_, &'static str, &'static [u8]>,
        usage: &mut Usage,
        key: &str,
        value: &[u8],
    ) -> Result<(), Refusal> {
        if key.is_empty() || key.len() > KEY {
            return Err(Refusal::Key);
        }
        let limits = self.limits.load();
        if value.len() > limits.value_bytes {
            return Err(Refusal::Value);
        }
        if let Some(old) = values.insert(key, value)? {
            usage.release(key, old.value());
        }
        usage.bytes = usage.bytes.saturating_add((key.len() + value.len()) as u64);
        usage.keys = usage.keys.saturating_add(1);
        if usage.bytes > limits.bytes {
            return Err(Refusal::Bytes);
        }
        if usage.keys > limits.keys {
            return Err(Refusal::Keys);
        }
        Ok(())
    }

    /// One transaction: on disk when this returns, or, on a refusal, not at all.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut redb::Table<'_, &'static str, &'static [u8]>, &mut Usage) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let write = self.database.begin_write()?;
        let made = {
            let mut values = write.open_table(VALUES)?;
            let mut totals = write.open_table(USAGE)?;
            let read = |table: &redb::Table<'_, &str, u64>, name| -> Result<u64, Refusal> {
                Ok(table.get(name)?.map_or(0, |value| value.value()))
            };
            let mut usage = Usage {
                bytes: read(&totals, "bytes")?,
                keys: read(&totals, "keys")?,
            };
            let made = change(&mut values, &mut usage)?;
            totals.insert("bytes", usage.bytes)?;
            totals.insert("keys", usage.keys)?;
            made
        };
        write.commit()?;
        Ok(made)
    }
}

struct Usage {
    bytes: u64,
    keys: u64,
}

impl Usage {
    fn release(&mut self, key: &str, value: &[u8]) {
        self.bytes = self.bytes.saturating_sub((key.len() + value.len()) as u64);
        self.keys = self.keys.saturating_sub(1);
    }
}

fn batch(length: usize) -> Result<(), Refusal> {
    if length > BATCH { Err(Refusal::Batch) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(directory: &Path) -> Vault {
        let limits = Keyvalue {
            bytes: 100,
            keys: 3,
            value_bytes: 60,
        };
        Vault::open(&directory.join("a.redb"), "a", limits).unwrap()
    }

    /// A zone would fill the disk, or lose what it was told is stored.
    #[test]
    fn quotas_hold_and_values_last() {
        let directory = tempfile::tempdir().unwrap();
        let first = vault(directory.path());
        let entry = |key: &str, length| (key.to_owned(), vec![7; length]);
        first.set(&[entry("a", 50)]).unwrap();
        assert_eq!(first.set(&[entry("b", 61)]), Err(Refusal::Value));
        assert_eq!(first.set(&[entry("b", 10), entry("c", 60)]), Err(Refusal::Bytes));
        assert!(!first.exists("b").unwrap(), "a batch is stored whole or not at all");
        first.set(&[entry("a", 10)]).unwrap();
        first.set(&[entry("b", 1), entry("c", 1)]).unwrap();
        assert_eq!(first.set(&[entry("d", 1)]), Err(Refusal::Keys));
        first.delete(&["b".to_owned(), "none".to_owned()]).unwrap();
        assert_eq!(first.increment("n", 5).unwrap(), 5);
        assert_eq!(first.increment("n", u64::MAX).unwrap(), 4);
        assert_eq!(first.increment("a", 1), Err(Refusal::Number));
        assert_eq!(first.set(&[entry(&"k".repeat(KEY + 1), 1)]), Err(Refusal::Key));
        drop(first);
        let second = vault(directory.path());
        let found = second.get(&["a".to_owned(), "b".to_owned()]).unwrap();
        assert_eq!(found, [Some(vec![7; 10]), None]);
        assert_eq!(
            second.keys(0).unwrap(),
            (vec!["a".to_owned(), "c".to_owned(), "n".to_owned()], None)
        );
    }
}
