//! The one engine of a node: how code is compiled and where instances live. Made by `node` and,
//! with room for no instance, by the process that compiles. All workers of all zones, whatever
//! their language, share it.

use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use ring::digest::{Context, SHA256};
use wasmtime::component::Component;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, Module, PoolingAllocationConfig};

use super::artifact::Sound;
use super::error::Error;
use crate::config::isolate::{MEMORY_MOST, TABLE_MOST};

/// Between two ticks of the epoch: as long as a guest runs before others get their turn.
pub const TICK: Duration = Duration::from_millis(1);

/// Ticks without a guest before the ticker sleeps until the next one.
const IDLE_TICKS: u32 = 1_000;

/// How long the ticker sleeps at once while no guest runs.
const ASLEEP: Duration = Duration::from_secs(10);

/// Bytes of a guest's stack; beyond: the trap `stack`.
const WASM_STACK: usize = 3 << 20;
/// Bytes of the stack that guest and host functions share; the host's part is what is left of it.
const HOST_STACK: usize = 4 << 20;

/// Bytes of a memory slot that are cleared by hand rather than given back to the kernel: a page
/// fault costs more than clearing the page that it would bring.
const KEEP_RESIDENT: usize = 1 << 20;

/// Slots that stay warm when they are not in use; each may keep [`KEEP_RESIDENT`].
const WARM_SLOTS: u32 = 64;

/// Core modules, memories and tables of one component. componentize-js makes the most: 9 modules, 1
/// memory, 4 tables.
const MODULES_PER_WORKER: u32 = 16;
const MEMORIES_PER_WORKER: u32 = 2;
const TABLES_PER_WORKER: u32 = 8;

/// The engine, with the clock that interrupts guests.
#[derive(Clone)]
pub struct Engine {
    wasm: wasmtime::Engine,
    ticker: Arc<Ticker>,
}

/// Counts guests that began, and knows whether the thread that ticks sleeps.
struct Ticker {
    begun: AtomicU64,
    asleep: AtomicBool,
    thread: Thread,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine with room for `instances` at once. Reserves their address space and starts the
    /// thread that ticks.
    ///
    /// # Errors
    /// The address space cannot be had, or the thread not be started.
    pub fn new(instances: u32) -> Result<Self, Error> {
        let wasm = wasmtime::Engine::new(&settings(instances)).map_err(|e| Error::Engine(format!("{e:#}")))?;
        let weak = wasm.weak();
        let (hand, handed) = std::sync::mpsc::channel::<Arc<Ticker>>();
        let thread = std::thread::Builder::new()
            .name("epoch".to_owned())
            .spawn(move || {
                if let Ok(ticker) = handed.recv() {
                    ticker.run(&weak);
                }
            })
            .map_err(|e| Error::Engine(format!("the thread that ticks cannot be started: {e}")))?;
        let ticker = Arc::new(Ticker {
            begun: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            thread: thread.thread().clone(),
        });
        // The thread waits for it and cannot have ended.
        let _ = hand.send(ticker.clone());
        Ok(Self { wasm, ticker })
    }

    /// Wasmtime's own.
    pub fn wasm(&self) -> &wasmtime::Engine {
        &self.wasm
    }

    /// A guest begins: the epoch must tick from here on.
    pub fn awake(&self) {
        self.ticker.begun.fetch_add(1, Ordering::SeqCst);
        if self.ticker.asleep.load(Ordering::SeqCst) {
            self.ticker.thread.unpark();
        }
    }

    /// Names what this engine can run: code compiled under another name must be compiled again.
    /// Changes with wasmtime's version, its settings, the processor, and the engine of JavaScript:
    /// a script's image is a heap of that engine.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.wasm, super::js::built())
    }
}

/// As [`Engine::fingerprint`], with `scripts` as the engine of JavaScript.
fn fingerprint(wasm: &wasmtime::Engine, scripts: &[u8]) -> [u8; 32] {
    struct Sha(Context);
    impl Hasher for Sha {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut sha = Sha(Context::new(&SHA256));
    wasm.precompile_compatibility_hash().hash(&mut sha);
    sha.0.update(env!("CARGO_PKG_VERSION").as_bytes());
    sha.0.update(scripts);
    let mut name = [0; 32];
    for (to, from) in name.iter_mut().zip(sha.0.finish().as_ref()) {
        *to = *from;
    }
    name
}

/// Code that is mapped from its file, and whose pages can be had from there again at any time.
pub(super) struct Mapped<C> {
    code: C,
    /// Where it is: alive as long as `code`.
    at: usize,
    length: usize,
}

/// What can give its memory back while nobody runs it.
pub(super) trait Rest: Send + Sync {
    /// Gives its pages back to the kernel's cache of the file. The kernel maps a file in large
    /// pieces, and all of it by the few pages that loading reads, so that thousands of zones hold
    /// code that nobody runs.
    fn rest(&self);
}

impl<C> Mapped<C> {
    /// As it was mapped, at rest.
    fn new(code: C, image: Range<*const u8>) -> Self {
        let this = Self {
            code,
            at: image.start.expose_provenance(),
            length: image.end.addr().saturating_sub(image.start.addr()),
        };
        this.drop_pages();
        this
    }

    /// The code.
    pub(super) fn code(&self) -> &C {
        &self.code
    }

    #[expect(unsafe_code, reason = "madvise can change what memory holds")]
    fn drop_pages(&self) {
        let at = std::ptr::with_exposed_provenance_mut(self.at);
        // SAFETY: `map` and `map_module`, which alone make a `Mapped`, map a file privately, and
        // the mapping lives as long as `code`. Nobody writes to it: wasmtime takes no code with
        // relocations, and changes protections only. So every page that is dropped comes back from
        // the file as it was, also while it is executed.
        let dropped = unsafe { rustix::mm::madvise(at, self.length, rustix::mm::Advice::LinuxDontNeed) };
        // It would have saved memory, no more.
        let _ = dropped;
    }
}

impl<C: Send + Sync> Rest for Mapped<C> {
    fn rest(&self) {
        self.drop_pages();
    }
}

/// Maps compiled code.
///
/// # Errors
/// [`Error::Refused`]: it is of another engine.
pub(super) fn map(engine: &Engine, code: &Sound) -> Result<Mapped<Component>, Error> {
    #[expect(
        unsafe_code,
        reason = "wasmtime trusts compiled code; `Sound` is code that this node wrote"
    )]
    // SAFETY: a `Sound` is a file whose MAC, with a key that only this node has, covers all its
    // bytes, and wasmtime's compiler in a process of this node wrote them. The directory is closed
    // to other users, so nobody changes the mapped file.
    let mapped = unsafe { Component::deserialize_file(&engine.wasm, code.path()) };
    let mapped = mapped.map_err(|e| Error::Refused(format!("{e:#}")))?;
    let image = mapped.image_range();
    Ok(Mapped::new(mapped, image))
}

/// Maps the compiled code of a core module.
///
/// # Errors
/// [`Error::Refused`]: it is of another engine.
pub(super) fn map_module(engine: &Engine, code: &Sound) -> Result<Mapped<Module>, Error> {
    #[expect(
        unsafe_code,
        reason = "wasmtime trusts compiled code; `Sound` is code that this node wrote"
    )]
    // SAFETY: as in `map`.
    let mapped = unsafe { Module::deserialize_file(&engine.wasm, code.path()) };
    let mapped = mapped.map_err(|e| Error::Refused(format!("{e:#}")))?;
    let image = mapped.image_range();
    Ok(Mapped::new(mapped, image))
}

/// Compiled code of a core module, as the daemon handed it to the process that compiles.
///
/// # Errors
/// [`Error::Engine`]: it is of another engine.
pub(super) fn handed(engine: &Engine, code: &[u8]) -> Result<Module, Error> {
    #[expect(
        unsafe_code,
        reason = "wasmtime trusts compiled code; this came from the daemon, which checked it"
    )]
    // SAFETY: the daemon reads it from a `Sound` and writes it to the standard input of a process
    // that it started itself, before anything of a tenant.
    let module = unsafe { Module::deserialize(&engine.wasm, code) };
    module.map_err(|e| Error::Engine(format!("{e:#}")))
}

impl Ticker {
    fn run(&self, weak: &wasmtime::EngineWeak) {
        let (mut seen, mut idle) = (0, 0);
        loop {
            std::thread::sleep(TICK);
            let Some(engine) = weak.upgrade() else { return };
            engine.increment_epoch();
            let begun = self.begun.load(Ordering::SeqCst);
            idle = if begun == seen { idle + 1 } else { 0 };
            seen = begun;
            if idle >= IDLE_TICKS {
                self.asleep.store(true, Ordering::SeqCst);
                // A guest that began before the store above is seen here; one that begins later
                // wakes us.
                let at_rest = engine_is_idle(&engine);
                drop(engine);
                // The wait ends by itself now and then, for a node that is gone.
                while at_rest && self.begun.load(Ordering::SeqCst) == seen {
                    std::thread::park_timeout(ASLEEP);
                    if weak.upgrade().is_none() {
                        return;
                    }
                }
                self.asleep.store(false, Ordering::SeqCst);
                idle = 0;
            }
        }
    }
}

/// Whether no instance lives that a longer tick would let run on: one that began long ago may still
/// loop.
fn engine_is_idle(engine: &wasmtime::Engine) -> bool {
    engine
        .pooling_allocator_metrics()
        .is_none_or(|metrics| metrics.core_instances() == 0)
}

/// The settings that compiling and running must share.
pub(super) fn settings(instances: u32) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    let memory = usize::try_from(MEMORY_MOST).unwrap_or(usize::MAX);
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(4))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(2))
        .total_stacks(instances)
        .max_core_instances_per_component(MODULES_PER_WORKER)
        .max_memories_per_component(MEMORIES_PER_WORKER)
        .max_tables_per_component(TABLES_PER_WORKER)
        .max_memory_size(memory)
        .table_elements(TABLE_MOST)
        .max_core_instance_size(4 << 20)
        .max_component_instance_size(1 << 20)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(64 << 10)
        .max_unused_warm_slots(WARM_SLOTS)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(HOST_STACK)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        // A trap's reason is all that is said of it: no guest's frames, and no tables for them in
        // each zone's code.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code of the process that compiles would be refused by the one that runs it.
    #[test]
    fn room_does_not_change_what_code_is_compiled_to() {
        let small = wasmtime::Engine::new(&settings(1)).unwrap();
        let large = wasmtime::Engine::new(&settings(16)).unwrap();
        assert_eq!(fingerprint(&small, b""), fingerprint(&large, b""));
    }

    /// After an upgrade the kept image of a script would run on code that its pointers do not fit.
    #[test]
    fn another_engine_of_scripts_has_another_name() {
        let engine = wasmtime::Engine::new(&settings(1)).unwrap();
        assert_ne!(fingerprint(&engine, b"one"), fingerprint(&engine, b"two"));
    }

    /// Thousands of zones would hold the memory of code that nobody runs; or code that gave it back
    /// would not run again.
    #[test]
    fn code_at_rest_holds_no_memory_and_runs_again() {
        let engine = Engine::new(4).unwrap();
        // (memory 1) (data (i32.const 8) "*") (func (export "f") (result i32) (i32.load8_u
        // (i32.const 8)))
        let wasm = b"\0asm\x01\0\0\0\x01\x05\x01\x60\0\x01\x7f\x03\x02\x01\0\x05\x03\x01\0\x01\x07\x05\x01\x01f\0\0\
              \x0a\x09\x01\x07\0\x41\x08\x2d\0\0\x0b\x0b\x07\x01\0\x41\x08\x0b\x01*";
        let state = tempfile::tempdir().unwrap();
        let artifacts = super::super::artifact::Artifacts::open(state.path(), engine.fingerprint()).unwrap();
        let digest = crate::base::digest::Digest::of(wasm);
        let kind = super::super::kind::Kind::Script;
        let code = engine.wasm().precompile_module(wasm).unwrap();
        artifacts.write(digest, kind, &code).unwrap();
        let sound = artifacts.read(digest, kind).unwrap().unwrap();
        let mapped = map_module(&engine, &sound).unwrap();
        let resident = || {
            let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let mut ours = false;
            let mut kilobytes = 0_u64;
            let mut found = false;
            for line in maps.lines() {
                if line.contains(&digest.to_string()) {
                    (ours, found) = (true, true);
                } else if let Some(rest) = line.strip_prefix("Rss:") {
                    let size: u64 = rest.trim().trim_end_matches(" kB").parse().unwrap();
                    kilobytes += if ours { size } else { 0 };
                    ours = false;
                }
            }
            assert!(found, "mapped from its file");
            kilobytes
        };
        assert_eq!(resident(), 0, "mapped and at rest");
        for _ in 0..2 {
            let mut store = wasmtime::Store::new(engine.wasm(), ());
            store.set_epoch_deadline(1_000);
            let instance = wasmtime::Instance::new(&mut store, mapped.code(), &[]).unwrap();
            let f = instance.get_typed_func::<(), i32>(&mut store, "f").unwrap();
            assert_eq!(f.call(&mut store, ()).unwrap(), 42);
            mapped.rest();
            assert_eq!(f.call(&mut store, ()).unwrap(), 42, "also while an instance lives");
        }
        mapped.rest();
        let page = rustix::param::page_size() as u64 / 1024;
        assert!(resident() <= page, "at most what the instances' slot has of its data");
    }
}
