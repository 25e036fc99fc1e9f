//! From a script to its image: the top-level code runs once, here, under limits; the heap that it
//! leaves is what every request starts from. Done where workers are compiled: in a process of its
//! own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmtime::Module;

use super::engine::{self, Shared};
use super::guest::{Guest, Work};
use super::sourcemap;
use crate::config::isolate::Limits;
use crate::isolate::budget::{Meter, Metered};
use crate::isolate::engine::Engine;
use crate::isolate::error::{Ended, Error};
use crate::isolate::memory::Account;
use crate::isolate::store::{self, Base};

/// Processor time of a script's top-level code.
const CPU: Duration = Duration::from_secs(1);
/// Bytes of the heap that it may leave: every request of the zone starts with them.
const MEMORY: usize = 64 << 20;
/// Characters of what it said that a refusal repeats.
const SAID: usize = 2_000;

/// A script as it was handed in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    /// The name that stack traces have.
    pub(super) name: &'a str,
    /// The script.
    pub(super) text: &'a str,
    /// Other modules that it imports, by their names: relative to where the script is.
    pub(super) modules: &'a [(String, String)],
}

/// Runs the script's top-level code; the image as a WebAssembly module, to be compiled.
///
/// # Errors
/// [`Error::Refused`] with what the script threw, or which limit it met.
pub(super) fn snapshot(engine: &Engine, shared: &Arc<Shared>, source: Source<'_>) -> Result<Vec<u8>, Error> {
    let refused = |why: String| Error::Refused(why);
    let zero = |text: &str| text.contains('\0');
    let more = source.modules.iter().any(|(name, text)| zero(name) || zero(text));
    if zero(source.text) || zero(source.name) || more {
        return Err(refused("a script has no zero bytes".to_owned()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|e| Error::Engine(format!("a runtime for scripts cannot be started: {e}")))?;
    let guess = !source.modules.is_empty() || looks_like_a_module(source.text);
    let mut first = None;
    for module in [guess, !guess] {
        match runtime.block_on(evaluate(engine, shared, source, module)) {
            Ok(image) => return Ok(image),
            // Read the wrong way, perhaps.
            Err(why) if why.contains("SyntaxError") && first.is_none() => first = Some(why),
            Err(why) => return Err(refused(first.unwrap_or(why))),
        }
    }
    Err(refused(first.unwrap_or_default()))
}

/// `export` or `import` where a statement begins.
fn looks_like_a_module(text: &str) -> bool {
    ["export", "import"].iter().any(|word| {
        text.match_indices(word).any(|(at, _)| {
            let before = text.get(..at).unwrap_or_default().trim_end_matches([' ', '\t']);
            let after = text
                .get(at.saturating_add(word.len())..)
                .and_then(|rest| rest.chars().next());
            let begins = before.is_empty() || before.ends_with(['\n', ';', '}', '\r']) || before.ends_with("*/");
            begins && matches!(after, Some(' ' | '{' | '*' | '"' | '\'' | '\t' | '\n'))
        })
    })
}

async fn evaluate(engine: &Engine, shared: &Arc<Shared>, source: Source<'_>, module: bool) -> Result<Vec<u8>, String> {
    let limits = Limits {
        reuse: 1,
        memory: MEMORY,
        table_elements: usize::MAX,
        cpu: CPU,
        wall: CPU,
        concurrency: 1,
        nested: 1,
        subrequests: 1,
        response_bytes: None,
        log_bytes: 0,
        log_rate: 0,
    };
    let meter = Meter::new(CPU, Arc::new(Semaphore::new(1)));
    let guest = Guest {
        base: Base::new(meter.clone(), &limits, Account::alone(MEMORY)),
        memory: None,
        work: Work::Loading(String::new()),
        takes: Default::default(),
    };
    let mut store = store::open(engine, guest);
    engine.awake();
    let run = Metered::new(meter, run(&mut store, shared, source, module)).await;
    let said = match &store.data().work {
        Work::Loading(said) => said.trim_end().chars().take(SAID).collect(),
        Work::Request(_) => String::new(),
    };
    let below = if said.is_empty() {
        String::new()
    } else {
        format!("\n{said}")
    };
    match run {
        Ok(Ok(image)) => Ok(image),
        Ok(Err(code)) => Err(match code {
            1 => format!("its top-level code threw{below}"),
            3 => format!("its top-level code wants more memory than {} MiB{below}", MEMORY >> 20),
            4 => "it has no handler: neither `export default { fetch(request) {…} }` nor `addEventListener(\"fetch\", …)`"
                .to_owned(),
            5 => "its top-level `await` waits for what never comes: there are no requests and timers while a script is loaded"
                .to_owned(),
            code => format!("the engine said {code}{below}"),
        }),
        Err(error) => Err(match Ended::of(&error) {
            Ended::Cpu => format!("its top-level code runs for longer than {} s", CPU.as_secs()),
            Ended::Memory => format!("its top-level code wants more memory than {} MiB", MEMORY >> 20),
            ended => format!("its top-level code: {ended}{below}"),
        }),
    }
}

/// The image, or what `init` returned.
async fn run(
    store: &mut wasmtime::Store<Guest>,
    shared: &Shared,
    source: Source<'_>,
    module: bool,
) -> wasmtime::Result<Result<Vec<u8>, i32>> {
    let instance = shared.start(store, &shared.base).await?;
    let alloc = engine::door(store, &instance, "alloc")?.typed::<u32, u32>(&mut *store)?;
    let init = engine::door(store, &instance, "init")?.typed::<(u32, u32, u32, u32), i32>(&mut *store)?;
    let more = engine::door(store, &instance, "module")?.typed::<(u32, u32, u32), i32>(&mut *store)?;
    let place = async |store: &mut wasmtime::Store<Guest>, bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).map_err(|_| Ended::Memory)?;
        // And the zero behind it.
        let at = alloc
            .call_async(&mut *store, length.checked_add(1).ok_or(Ended::Memory)?)
            .await?;
        if at == 0 {
            return Err(Ended::Memory.into());
        }
        let memory = store.data().memory.ok_or(Ended::Host)?;
        memory.write(&mut *store, at as usize, bytes)?;
        memory.write(&mut *store, (at as usize).saturating_add(bytes.len()), &[0])?;
        Ok::<_, wasmtime::Error>((at, length))
    };
    for (name, text) in source.modules {
        let (name, _) = place(store, name.as_bytes()).await?;
        let (text, length) = place(store, text.as_bytes()).await?;
        let code = more.call_async(&mut *store, (name, text, length)).await?;
        if code != 0 {
            return Ok(Err(code));
        }
    }
    let carried = match source.modules {
        [] => sourcemap::carried(source.text),
        modules => {
            let others = modules.iter().map(|(name, text)| (name.as_str(), text.as_str()));
            sourcemap::several(std::iter::once((source.name, source.text)).chain(others))
        }
    };
    let map = carried.unwrap_or_default();
    let map = if map.is_empty() {
        (0, 0)
    } else {
        place(store, &map).await?
    };
    let (script, length) = place(store, source.text.as_bytes()).await?;
    let (name, _) = place(store, source.name.as_bytes()).await?;
    let code = init
        .call_async(&mut *store, (script, length, name, u32::from(module)))
        .await?;
    if code != 0 {
        return Ok(Err(code));
    }
    let memory = store.data().memory.ok_or(Ended::Host)?;
    Ok(Ok(engine::image(memory.data(&*store), map)))
}

/// Compiles an image: no code, so a few milliseconds.
///
/// # Errors
/// A defect of ours.
pub(super) fn compile(engine: &Engine, image: &[u8]) -> Result<Vec<u8>, Error> {
    engine
        .wasm()
        .precompile_module(image)
        .map_err(|e| Error::Engine(format!("a script's image: {e:#}")))
}

/// Whether a module is an image of this engine's making.
pub(super) fn is_image(module: &Module) -> bool {
    module.imports().next().is_none() && module.get_export("memory").is_some()
}
