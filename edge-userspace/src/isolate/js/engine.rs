//! The shared code of all scripts, and their images. The engine that `cargo xtask build-js` makes
//! is taken apart: its code is one module, compiled once; its data is an image, as each script's
//! heap is. A request instantiates an image, which is a memory and nothing else, and the code on
//! it.

use std::sync::Arc;

use wasm_encoder::{
    ConstExpr, DataSection, ExportKind, ExportSection, MemorySection, MemoryType, Module as Encoder, RawSection,
};
use wasmtime::{Extern, ExternType, Func, Instance, Linker, Module, Store};

use super::guest::Guest;
use super::host;
use super::maps::Maps;
use crate::isolate::error::Error;

/// As built, or nothing.
static BUILT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/engine.wasm"));

/// The bytes of the engine that this binary carries; none if it was built without.
pub(in crate::isolate) fn built() -> &'static [u8] {
    BUILT
}

const PAGE: usize = 65_536;
/// Images are stored by runs of such pages that are not all zero.
const SYSTEM_PAGE: usize = 4_096;
/// How the name begins by which an image tells of its source map.
const MAP: &str = "map ";
const IMPORT: u8 = 2;
const START: u8 = 8;
const DATA: u8 = 11;
const DATA_COUNT: u8 = 12;

/// The parts of the engine as WebAssembly modules, to be compiled.
#[derive(Debug)]
pub(super) struct Parts {
    /// Its code, which imports its memory.
    pub(super) code: Vec<u8>,
    /// Its memory before any script.
    pub(super) image: Vec<u8>,
}

/// Takes the engine apart that this binary carries; `None` if it was built without.
///
/// # Errors
/// The engine is not what `build-js` makes.
pub(super) fn parts() -> Result<Option<Parts>, Error> {
    if BUILT.is_empty() {
        return Ok(None);
    }
    split(BUILT)
        .map(Some)
        .ok_or_else(|| Error::Engine("the JavaScript engine is malformed".to_owned()))
}

fn split(engine: &[u8]) -> Option<Parts> {
    let (magic, mut rest) = engine.split_at_checked(8)?;
    let mut code = magic.to_vec();
    let mut pages = None;
    let mut data = None;
    while let Some((&id, after)) = rest.split_first() {
        let (length, after) = leb(after)?;
        let (section, next) = after.split_at_checked(length)?;
        match id {
            DATA => data = Some(section),
            // The start function would clear what is clear already, and bring every page in for it.
            DATA_COUNT | START => {}
            _ => {
                let whole = rest.len().checked_sub(next.len())?;
                code.extend_from_slice(rest.get(..whole)?);
            }
        }
        if id == IMPORT {
            pages = Some(memory_pages(section)?);
        }
        rest = next;
    }
    let mut image = memory(pages?, None);
    image.section(&RawSection { id: DATA, data: data? });
    Some(Parts {
        code,
        image: image.finish(),
    })
}

/// Unsigned LEB128, and what follows it.
fn leb(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_usize;
    for (count, byte) in bytes.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7F).checked_shl(u32::try_from(count).ok()?.checked_mul(7)?)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(count.checked_add(1)?..)?));
        }
    }
    None
}

/// The size of `env.memory`, which the linker puts first.
fn memory_pages(section: &[u8]) -> Option<u64> {
    let rest = leb(section)?.1.strip_prefix(b"\x03env\x06memory\x02\x00")?;
    u64::try_from(leb(rest)?.0).ok()
}

/// A module that has a memory of so many pages, and exports it, also under another `name` that says
/// something.
fn memory(pages: u64, name: Option<&str>) -> Encoder {
    let mut module = Encoder::new();
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: pages,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    module.section(&memories);
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    if let Some(name) = name {
        exports.export(name, ExportKind::Memory, 0);
    }
    module.section(&exports);
    module
}

/// A script's heap as a module; where in it a source map lies, and how long that is, become the
/// name of an export.
pub(super) fn image(heap: &[u8], (map, length): (u32, u32)) -> Vec<u8> {
    let name = (length > 0).then(|| format!("{MAP}{map} {length}"));
    let mut module = memory(heap.len().div_ceil(PAGE) as u64, name.as_deref());
    let mut data = DataSection::new();
    let mut run: Option<usize> = None;
    for (number, page) in heap.chunks(SYSTEM_PAGE).chain([&[][..]]).enumerate() {
        let at = number.saturating_mul(SYSTEM_PAGE);
        let empty = page.iter().all(|byte| *byte == 0);
        match (run, empty) {
            (None, false) => run = Some(at),
            (Some(from), true) => {
                let bytes = heap.get(from..at.min(heap.len())).unwrap_or_default();
                let offset = ConstExpr::i32_const(u32::try_from(from).unwrap_or(u32::MAX).cast_signed());
                data.active(0, &offset, bytes.iter().copied());
                run = None;
            }
            _ => {}
        }
    }
    module.section(&data);
    module.finish()
}

/// The source map of an image, as [`image`] was told.
pub(super) fn map(image: &Module) -> Option<(u32, u32)> {
    image.exports().find_map(|export| {
        let (at, length) = export.name().strip_prefix(MAP)?.split_once(' ')?;
        Some((at.parse().ok()?, length.parse().ok()?))
    })
}

/// The engine, compiled, on one wasmtime engine.
pub(in crate::isolate) struct Shared {
    code: Module,
    /// What an image without a script is.
    pub(super) base: Module,
    linker: Linker<Guest>,
    /// Source maps of the scripts that run on it.
    pub(super) maps: Arc<Maps>,
    /// What `code` imports, in its order; `None` for the memory.
    imports: Vec<Option<(String, String)>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// Of the compiled [`Parts`].
    ///
    /// # Errors
    /// They are not the engine's.
    pub(super) fn new(code: Module, base: Module) -> Result<Arc<Self>, Error> {
        let linker = host::functions(code.engine()).map_err(|e| Error::Engine(format!("{e:#}")))?;
        let imports = code
            .imports()
            .map(|import| match import.ty() {
                ExternType::Memory(_) => None,
                _ => Some((import.module().to_owned(), import.name().to_owned())),
            })
            .collect();
        Ok(Arc::new(Self {
            code,
            base,
            linker,
            maps: Arc::default(),
            imports,
        }))
    }

    /// An instance of the code on `image`.
    pub(super) async fn start(&self, store: &mut Store<Guest>, image: &Module) -> wasmtime::Result<Instance> {
        let heap = Instance::new_async(&mut *store, image, &[]).await?;
        let memory = heap
            .get_memory(&mut *store, "memory")
            .ok_or_else(|| wasmtime::Error::msg("an image without a memory"))?;
        store.data_mut().memory = Some(memory);
        let mut imports: Vec<Extern> = Vec::with_capacity(self.imports.len());
        for import in &self.imports {
            imports.push(match import {
                None => memory.into(),
                Some((module, name)) => self
                    .linker
                    .get(&mut *store, module, name)
                    .map_err(|_| wasmtime::Error::msg("an import that the host does not have"))?,
            });
        }
        Instance::new_async(store, &self.code, &imports).await
    }
}

/// A function of the engine.
pub(super) fn door(store: &mut Store<Guest>, instance: &Instance, name: &str) -> wasmtime::Result<Func> {
    instance
        .get_func(store, name)
        .ok_or_else(|| wasmtime::Error::msg("the engine has no such function"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page that is left out of an image is another heap.
    #[test]
    fn an_image_has_every_page_that_is_not_empty() {
        let mut heap = vec![0; 2 * PAGE];
        for at in [0, SYSTEM_PAGE, 5 * SYSTEM_PAGE + 17, 2 * PAGE - 1] {
            heap[at] = 1;
        }
        let engine = wasmtime::Engine::default();
        let module = Module::new(&engine, image(&heap, (7, 9))).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        assert!(memory.data(&store) == heap);
        assert_eq!(map(&module), Some((7, 9)));
        assert!(image(&heap, (0, 0)).len() < 5 * SYSTEM_PAGE);
    }

    /// A cut-off engine would be compiled, or read beyond its end.
    #[test]
    fn what_is_no_engine_is_refused() {
        assert!(split(b"\0asm\x01\0\0\0").is_none());
        assert!(split(b"\0asm").is_none());
        for cut in [9, 20, 300, 5_000] {
            if let Some(short) = BUILT.get(..cut) {
                assert!(split(short).is_none(), "{cut}");
            }
        }
    }
}
