//! Source maps that were read, kept for the next traces: of each script one, of all scripts of a
//! node together so many bytes. `guest` asks when a script logs a trace.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::{Instance, Module, Store};

use super::sourcemap::SourceMap;

/// Bytes of all maps that are kept. The largest one fits.
const KEPT: usize = 64 << 20;
/// How long a script's map that had to make room is not read again: reading a large one takes a
/// worker thread tens of milliseconds, which scripts that throw in turn could else make it spend on
/// each trace.
const PAUSE: Duration = Duration::from_secs(10);

/// The maps of a node.
#[derive(Debug, Default)]
pub(super) struct Maps {
    next: AtomicU64,
    kept: Mutex<HashMap<u64, Kept>>,
}

#[derive(Debug)]
struct Kept {
    /// Nothing: it was malformed, or had to make room.
    map: Option<Arc<SourceMap>>,
    bytes: usize,
    read: Instant,
    used: Instant,
    /// It is not worth reading again.
    malformed: bool,
}

/// One script's map: in its image, as it was deployed, whatever a request's script made of its own
/// copy.
#[derive(Debug)]
pub(super) struct Map {
    maps: Arc<Maps>,
    number: u64,
    image: Module,
    at: usize,
    length: usize,
}

impl Map {
    /// Of a script whose image has `length` bytes of a map's JSON at `at`.
    pub(super) fn new(maps: Arc<Maps>, image: Module, (at, length): (u32, u32)) -> Self {
        Self {
            number: maps.next.fetch_add(1, Relaxed),
            maps,
            image,
            at: at as usize,
            length: length as usize,
        }
    }

    /// The map, read if it has to be; nothing if it is malformed, or not to be had at the moment.
    pub(super) fn read(&self, now: Instant) -> Option<Arc<SourceMap>> {
        let mut kept = self.maps.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.get_mut(&self.number) {
            known.used = now;
            let paused = now.saturating_duration_since(known.read) < PAUSE;
            if known.map.is_some() || known.malformed || paused {
                return known.map.clone();
            }
        }
        // Others wait for the lock: two that read at once would take twice as long.
        let (map, malformed) = match self.json() {
            // No room for an instance at the moment.
            None => (None, false),
            Some(json) => {
                let map = SourceMap::parse(&json).map(Arc::new);
                let malformed = map.is_none();
                (map, malformed)
            }
        };
        let bytes = map.as_ref().map_or(0, |map| map.bytes());
        kept.insert(
            self.number,
            Kept {
                map: map.clone(),
                bytes,
                read: now,
                used: now,
                malformed,
            },
        );
        make_room(&mut kept, self.number);
        map
    }

    /// Its text, from a memory of its own.
    fn json(&self) -> Option<Vec<u8>> {
        let mut store = Store::new(self.image.engine(), ());
        let instance = Instance::new(&mut store, &self.image, &[]).ok()?;
        let memory = instance.get_memory(&mut store, "memory")?;
        let json = memory.data(&store).get(self.at..)?.get(..self.length)?;
        Some(json.to_vec())
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        let mut kept = self.maps.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(&self.number);
    }
}

/// Lets those go that were not used for longest, but `newest`.
fn make_room(kept: &mut HashMap<u64, Kept>, newest: u64) {
    let mut all: usize = kept.values().map(|kept| kept.bytes).sum();
    while all > KEPT {
        let others = kept
            .iter_mut()
            .filter(|(number, kept)| **number != newest && kept.map.is_some());
        let Some((_, oldest)) = others.min_by_key(|(_, kept)| kept.used) else {
            return;
        };
        all = all.saturating_sub(oldest.bytes);
        oldest.map = None;
        oldest.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::image;
    use super::*;

    fn maps_of(engine: &wasmtime::Engine, maps: &Arc<Maps>, json: &str) -> Map {
        let module = Module::new(engine, image(json.as_bytes(), (0, 0))).unwrap();
        Map::new(maps.clone(), module, (0, u32::try_from(json.len()).unwrap()))
    }

    /// Every trace would read the map again, which for a large bundle takes longer than the
    /// request; or read what a new version no longer has.
    #[test]
    fn a_map_is_read_once_for_each_version() {
        let engine = wasmtime::Engine::default();
        let maps = Arc::new(Maps::default());
        let one = maps_of(&engine, &maps, r#"{"version":3,"sources":["a.ts"],"mappings":"AAAA"}"#);
        let other = maps_of(&engine, &maps, r#"{"version":3,"sources":["b.ts"],"mappings":"AAAA"}"#);
        let now = Instant::now();
        let first = one.read(now).unwrap();
        assert!(Arc::ptr_eq(&first, &one.read(now + 2 * PAUSE).unwrap()));
        assert_eq!(first.frame("    at f (worker.js:1:1)"), "    at f (a.ts:1:1)");
        assert_ne!(first, other.read(now).unwrap());
        drop(one);
        assert_eq!(maps.kept.lock().unwrap().len(), 1, "goes with its script");
        let bad = maps_of(&engine, &maps, "{}");
        assert!(bad.read(now).is_none() && bad.read(now).is_none());
    }

    /// Maps of many zones would fill the memory, or scripts that throw in turn keep a thread busy
    /// with reading.
    #[test]
    fn maps_make_room_and_are_not_read_again_at_once() {
        let engine = wasmtime::Engine::default();
        let maps = Arc::new(Maps::default());
        // Some 400,000 places each, 20 bytes a place.
        let mappings = "AAAA,".repeat(400_000);
        let json = format!(r#"{{"version":3,"sources":["a"],"mappings":"{mappings}"}}"#);
        let scripts: Vec<Map> = (0..10).map(|_| maps_of(&engine, &maps, &json)).collect();
        let now = Instant::now();
        for (n, script) in (0..).zip(&scripts) {
            assert!(script.read(now + Duration::from_millis(n)).is_some());
        }
        let held = || maps.kept.lock().unwrap().values().map(|kept| kept.bytes).sum::<usize>();
        assert!(held() <= KEPT && held() > KEPT / 2, "{}", held());
        let soon = now + Duration::from_secs(1);
        assert!(scripts[0].read(soon).is_none(), "it had to go");
        assert!(scripts[9].read(soon).is_some(), "the last one stays");
        assert!(scripts[0].read(soon + PAUSE).is_some(), "after a while it comes back");
        assert!(held() <= KEPT);
    }
}
