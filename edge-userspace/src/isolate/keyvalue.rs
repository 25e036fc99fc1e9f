//! What a zone's workers store: one database file per zone, so that no key of one zone can name a
//! value of another. Calls block; `wasi` makes them on threads that may.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::Semaphore;

use super::error::Error;
use crate::base::clock::UnixTime;
use crate::config::isolate::Keyvalue;

const VALUES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");
/// Of values that end or have something stored about them: when they end, milliseconds since 1970
/// (0: never), and that.
const ABOUT: TableDefinition<'_, &str, (u64, &str)> = TableDefinition::new("about");
/// Values that end, by when.
const ENDS: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("ends");
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
/// Values whose time is over that one write removes beside its own work, and one sweep.
const SWEPT: usize = 64;
const SWEPT_AT_ONCE: usize = 1_000;
/// Bytes of what is stored about a value.
const ABOUT_BYTES: usize = 1_024;
/// Memory of one zone's database for pages, bytes.
const CACHE: usize = 1 << 20;

/// A zone's database.
pub(super) struct Vault {
    path: PathBuf,
    /// Empty while a daemon that drains still has it: the first call after that opens it.
    database: OnceLock<Database>,
    /// Held while it is opened.
    opening: Mutex<()>,
    limits: ArcSwap<Keyvalue>,
    /// To be held during each call.
    pub(super) calls: Arc<Semaphore>,
}

/// A value as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) value: Vec<u8>,
    /// When it ends, milliseconds since 1970; 0: never.
    pub(super) until: u64,
    /// What its writer says about it, at most [`ABOUT_BYTES`].
    pub(super) about: String,
}

/// A key in a list: its end and what is stored about it.
pub type Listed = (String, u64, String);

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
    /// Another daemon has the file, which drains.
    #[error("the store is still in use by the daemon before this one")]
    Busy,
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
    /// Opens or makes the database at `path`. One that another process has is opened later, by the
    /// first call that finds it free: a daemon that drains keeps it for its last requests, and its
    /// successor serves meanwhile.
    ///
    /// # Errors
    /// [`Error::Store`]: it is damaged, or the disk is full.
    pub(super) fn open(path: &Path, zone: &str, limits: Keyvalue) -> Result<Self, Error> {
        let database = OnceLock::new();
        match opened(path) {
            Ok(open) => drop(database.set(open)),
            Err(Unopened::Busy) => tracing::warn!(
                target: "edge::isolate",
                zone,
                file = %path.display(),
                "another daemon has what the zone stores; its workers can read and store again when that has ended"
            ),
            Err(Unopened::Failed(what)) => {
                return Err(Error::Store {
                    zone: zone.to_owned(),
                    what,
                });
            }
        }
        Ok(Self {
            path: path.to_owned(),
            database,
            opening: Mutex::default(),
            limits: ArcSwap::from_pointee(limits),
            calls: Arc::new(Semaphore::new(CALLS)),
        })
    }

    /// The database; opened now if it could not be before.
    fn database(&self) -> Result<&Database, Refusal> {
        if let Some(database) = self.database.get() {
            return Ok(database);
        }
        let _one = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = self.database.get() {
            return Ok(database);
        }
        match opened(&self.path) {
            Ok(open) => Ok(self.database.get_or_init(|| open)),
            Err(Unopened::Busy) => Err(Refusal::Busy),
            Err(Unopened::Failed(what)) => {
                tracing::error!(target: "edge::isolate", what, "what a zone stores cannot be opened");
                Err(Refusal::Failed)
            }
        }
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
        let items = self.items(keys)?;
        Ok(items.into_iter().map(|item| item.map(|item| item.value)).collect())
    }

    /// As [`Vault::get`], with what is stored about them.
    pub(super) fn items(&self, keys: &[String]) -> Result<Vec<Option<Stored>>, Refusal> {
        batch(keys.len())?;
        let now = now();
        let read = self.database()?.begin_read()?;
        let (values, about) = (read.open_table(VALUES)?, read.open_table(ABOUT)?);
        let mut found = Vec::with_capacity(keys.len());
        let mut bytes = 0_usize;
        for key in keys {
            let (until, about) = told(&about, key)?;
            let value = values.get(key.as_str())?.filter(|_| lives(until, now));
            let value = value.map(|value| value.value().to_vec());
            bytes = bytes.saturating_add(value.as_ref().map_or(0, Vec::len));
            // A guest's memory is bounded, the host's must be as well.
            if bytes > 64 << 20 {
                return Err(Refusal::Batch);
            }
            found.push(value.map(|value| Stored { value, until, about }));
        }
        Ok(found)
    }

    /// Whether `key` has a value.
    pub(super) fn exists(&self, key: &str) -> Result<bool, Refusal> {
        let read = self.database()?.begin_read()?;
        let (until, _) = told(&read.open_table(ABOUT)?, key)?;
        Ok(lives(until, now()) && read.open_table(VALUES)?.get(key)?.is_some())
    }

    /// Keys behind the first `skip`, in order, and where to go on if there are more.
    pub(super) fn keys(&self, skip: u64) -> Result<(Vec<String>, Option<u64>), Refusal> {
        let now = now();
        let read = self.database()?.begin_read()?;
        let (values, about) = (read.open_table(VALUES)?, read.open_table(ABOUT)?);
        let mut keys = Vec::new();
        let mut seen = skip;
        let from = usize::try_from(skip).unwrap_or(usize::MAX);
        for entry in values.iter()?.skip(from) {
            let entry = entry?;
            let key = entry.0.value();
            if keys.len() >= PAGE {
                return Ok((keys, Some(seen)));
            }
            seen = seen.saturating_add(1);
            if lives(told(&about, key)?.0, now) {
                keys.push(key.to_owned());
            }
        }
        Ok((keys, None))
    }

    /// At most `most` keys that begin with `prefix`, in order, behind `after`; and the last of them
    /// if there are more.
    pub(super) fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Result<(Vec<Listed>, Option<String>), Refusal> {
        let now = now();
        let read = self.database()?.begin_read()?;
        let (values, about) = (read.open_table(VALUES)?, read.open_table(ABOUT)?);
        let from = after.filter(|after| *after > prefix).unwrap_or(prefix);
        let mut keys: Vec<Listed> = Vec::new();
        for entry in values.range(from..)? {
            let entry = entry?;
            let key = entry.0.value();
            if !key.starts_with(prefix) {
                break;
            }
            let (until, about) = told(&about, key)?;
            if after == Some(key) || !lives(until, now) {
                continue;
            }
            if keys.len() >= most {
                let last = keys.last().map(|(key, ..)| key.clone());
                return Ok((keys, last));
            }
            keys.push((key.to_owned(), until, about));
        }
        Ok((keys, None))
    }

    /// Stores all of `entries` or none. What was stored about a key goes with its value.
    pub(super) fn set(&self, entries: &[(String, Vec<u8>)]) -> Result<(), Refusal> {
        batch(entries.len())?;
        self.change(|tables| {
            entries
                .iter()
                .try_for_each(|(key, value)| self.put(tables, key, value, 0, ""))
        })
    }

    /// As [`Vault::set`], with when each ends and what is stored about it.
    pub(super) fn store(&self, entries: &[(String, Stored)]) -> Result<(), Refusal> {
        batch(entries.len())?;
        self.change(|tables| {
            let mut entries = entries.iter();
            entries.try_for_each(|(key, item)| self.put(tables, key, &item.value, item.until, &item.about))
        })
    }

    /// Removes all of `keys`; those that are not there are no fault.
    pub(super) fn delete(&self, keys: &[String]) -> Result<(), Refusal> {
        batch(keys.len())?;
        self.change(|tables| keys.iter().try_for_each(|key| tables.remove(key)))
    }

    /// Adds `delta` to the number at `key` (8 bytes, little endian), wrapping, and gives the sum.
    /// None there counts as 0. Its end, and what is stored about it, stay.
    pub(super) fn increment(&self, key: &str, delta: u64) -> Result<u64, Refusal> {
        self.change(|tables| {
            let (until, about) = match tables.about.get(key)? {
                Some(told) => (told.value().0, told.value().1.to_owned()),
                None => (0, String::new()),
            };
            let old = match tables.values.get(key)? {
                Some(value) if lives(until, now()) => Some(u64::from_le_bytes(
                    value.value().try_into().map_err(|_| Refusal::Number)?,
                )),
                _ => None,
            };
            let (until, about) = if old.is_some() {
                (until, about.as_str())
            } else {
                (0, "")
            };
            let sum = old.unwrap_or(0).wrapping_add(delta);
            self.put(tables, key, &sum.to_le_bytes(), until, about)?;
            Ok(sum)
        })
    }

    /// Removes values whose time is over, a bounded number of them; whether there were any.
    pub(super) fn sweep(&self) -> Result<bool, Refusal> {
        let read = self.database()?.begin_read()?;
        let over = match read.open_table(ENDS)?.first()? {
            Some(first) => first.0.value().0 <= now(),
            None => false,
        };
        if over {
            self.change(|tables| tables.sweep(now(), SWEPT_AT_ONCE))?;
        }
        Ok(over)
    }

    fn put(&self, tables: &mut Tables<'_>, key: &str, value: &[u8], until: u64, about: &str) -> Result<(), Refusal> {
        if key.is_empty() || key.len() > KEY {
            return Err(Refusal::Key);
        }
        let limits = self.limits.load();
        if value.len() > limits.value_bytes || about.len() > ABOUT_BYTES {
            return Err(Refusal::Value);
        }
        tables.remove(key)?;
        tables.values.insert(key, value)?;
        if until > 0 || !about.is_empty() {
            tables.about.insert(key, (until, about))?;
        }
        if until > 0 {
            tables.ends.insert((until, key), ())?;
        }
        let usage = &mut tables.usage;
        usage.bytes = usage.bytes.saturating_add(size(key, value, about));
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
    fn change<T>(&self, change: impl FnOnce(&mut Tables<'_>) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let write = self.database()?.begin_write()?;
        let made = {
            let mut totals = write.open_table(USAGE)?;
            let read = |table: &redb::Table<'_, &str, u64>, name| -> Result<u64, Refusal> {
                Ok(table.get(name)?.map_or(0, |value| value.value()))
            };
            let mut tables = Tables {
                values: write.open_table(VALUES)?,
                about: write.open_table(ABOUT)?,
                ends: write.open_table(ENDS)?,
                usage: Usage {
                    bytes: read(&totals, "bytes")?,
                    keys: read(&totals, "keys")?,
                },
            };
            // What is over counts no more, also where it is not swept yet.
            tables.sweep(now(), SWEPT)?;
            let made = change(&mut tables)?;
            totals.insert("bytes", tables.usage.bytes)?;
            totals.insert("keys", tables.usage.keys)?;
            made
        };
        write.commit()?;
        Ok(made)
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    UnixTime::now().millis()
}

fn lives(until: u64, now: u64) -> bool {
    until == 0 || until > now
}

fn size(key: &str, value: &[u8], about: &str) -> u64 {
    (key.len().saturating_add(value.len()).saturating_add(about.len())) as u64
}

/// When the value of `key` ends, and what is stored about it.
fn told(about: &impl ReadableTable<&'static str, (u64, &'static str)>, key: &str) -> Result<(u64, String), Refusal> {
    Ok(about.get(key)?.map_or((0, String::new()), |told| {
        let (until, about) = told.value();
        (until, about.to_owned())
    }))
}

/// A transaction's tables.
struct Tables<'a> {
    values: redb::Table<'a, &'static str, &'static [u8]>,
    about: redb::Table<'a, &'static str, (u64, &'static str)>,
    ends: redb::Table<'a, (u64, &'static str), ()>,
    usage: Usage,
}

impl Tables<'_> {
    fn remove(&mut self, key: &str) -> Result<(), Refusal> {
        let Some(value) = self.values.remove(key)? else {
            return Ok(());
        };
        let mut bytes = size(key, value.value(), "");
        if let Some(told) = self.about.remove(key)? {
            let (until, about) = told.value();
            bytes = bytes.saturating_add(about.len() as u64);
            if until > 0 {
                self.ends.remove((until, key))?;
            }
        }
        self.usage.bytes = self.usage.bytes.saturating_sub(bytes);
        self.usage.keys = self.usage.keys.saturating_sub(1);
        Ok(())
    }

    /// Removes at most `most` values that ended by `now`.
    fn sweep(&mut self, now: u64, most: usize) -> Result<(), Refusal> {
        let mut over = Vec::new();
        for entry in self.ends.range(..=(now, "\u{10ffff}"))?.take(most) {
            over.push(entry?.0.value().1.to_owned());
        }
        over.iter().try_for_each(|key| self.remove(key))
    }
}

struct Usage {
    bytes: u64,
    keys: u64,
}

/// Why a database is not open.
enum Unopened {
    /// Another process has it.
    Busy,
    /// In words for the operator.
    Failed(String),
}

/// The database at `path`, with its tables.
fn opened(path: &Path) -> Result<Database, Unopened> {
    let database = Database::builder().set_cache_size(CACHE).create(path);
    let database = database.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => Unopened::Busy,
        error => Unopened::Failed(format!("{}: {error}", path.display())),
    })?;
    let make = || -> Result<(), Refusal> {
        let write = database.begin_write()?;
        write.open_table(VALUES)?;
        write.open_table(USAGE)?;
        write.open_table(ABOUT)?;
        write.open_table(ENDS)?;
        write.commit()?;
        Ok(())
    };
    make().map_err(|error| Unopened::Failed(error.to_string()))?;
    Ok(database)
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

    /// A successor beside a daemon that drains had the zone out of service for good, because of a
    /// file that is free a second later.
    #[test]
    fn what_another_daemon_has_is_opened_when_it_is_free() {
        let directory = tempfile::tempdir().unwrap();
        let draining = vault(directory.path());
        draining.set(&[("a".to_owned(), b"1".to_vec())]).unwrap();
        let successor = vault(directory.path());
        assert_eq!(successor.get(&["a".to_owned()]), Err(Refusal::Busy));
        drop(draining);
        assert_eq!(successor.get(&["a".to_owned()]).unwrap(), [Some(b"1".to_vec())]);
        // What is damaged is told at once.
        let damaged = directory.path().join("damaged.redb");
        std::fs::write(&damaged, "no database").unwrap();
        assert!(matches!(
            Vault::open(
                &damaged,
                "a",
                Keyvalue {
                    bytes: 1,
                    keys: 1,
                    value_bytes: 1
                }
            ),
            Err(Error::Store { .. })
        ));
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

    /// Sessions and rate counters would never end, or what ended would count against the quota for
    /// ever.
    #[test]
    fn values_end_and_free_their_room() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(directory.path());
        let item = |until, length| Stored {
            value: vec![7; length],
            until,
            about: "{}".to_owned(),
        };
        let soon = now() + 60;
        vault.store(&[("a".to_owned(), item(soon, 40))]).unwrap();
        vault.store(&[("b".to_owned(), item(soon + 3_600_000, 10))]).unwrap();
        let found = vault.items(&["a".to_owned()]).unwrap();
        assert_eq!(found, [Some(item(soon, 40))]);
        assert_eq!(vault.list("", None, 10).unwrap().0.len(), 2);
        std::thread::sleep(std::time::Duration::from_millis(80));
        assert_eq!(vault.get(&["a".to_owned()]).unwrap(), [None], "also before it is swept");
        assert!(!vault.exists("a").unwrap());
        assert_eq!(vault.keys(0).unwrap().0, ["b"]);
        assert_eq!(
            vault.list("", None, 10).unwrap().0,
            [("b".to_owned(), soon + 3_600_000, "{}".to_owned())]
        );
        vault.set(&[("c".to_owned(), vec![7; 60])]).unwrap();
        assert!(!vault.sweep().unwrap(), "the write has swept");
        vault.store(&[("c".to_owned(), item(now() + 20, 1))]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(40));
        assert!(vault.sweep().unwrap());
        vault.store(&[("b".to_owned(), item(0, 1))]).unwrap();
        assert!(!vault.sweep().unwrap(), "another value has another end");
        assert!(vault.exists("b").unwrap());
    }
}
