//! The node's one engine for scripts: compiled when the first script is deployed, kept on disk,
//! mapped at later starts.

use std::sync::{Arc, OnceLock};

use super::engine::{self, Parts, Shared};
use super::handed;
use crate::base::digest::Digest;
use crate::isolate::artifact::Sound;
use crate::isolate::engine::{Engine, map_module};
use crate::isolate::error::Error;
use crate::isolate::isolates::Isolates;
use crate::isolate::kind::Kind;

/// What a node needs for scripts.
pub(in crate::isolate) struct Scripts {
    parts: Option<Parts>,
    shared: OnceLock<Arc<Shared>>,
}

impl Scripts {
    /// As this binary was built.
    ///
    /// # Errors
    /// The engine in it is malformed.
    pub(in crate::isolate) fn new() -> Result<Self, Error> {
        Ok(Self {
            parts: engine::parts()?,
            shared: OnceLock::new(),
        })
    }

    fn parts(&self) -> Result<&Parts, Error> {
        let none = "this edge was built without its JavaScript engine; `cargo xtask build-js`, then build it again";
        self.parts.as_ref().ok_or_else(|| Error::Refused(none.to_owned()))
    }

    /// Names of compiled code that is the engine's own.
    pub(in crate::isolate) fn digests(&self) -> impl Iterator<Item = String> {
        let parts = self.parts.iter().flat_map(|parts| [&parts.code, &parts.image]);
        parts.map(|part| Digest::of(part).to_string())
    }

    /// The engine, ready. Blocks; the first time on a node, for the seconds that compiling it
    /// takes.
    ///
    /// # Errors
    /// There is none in this build, or the state directory failed.
    pub(in crate::isolate) fn shared(&self, isolates: &Isolates) -> Result<Arc<Shared>, Error> {
        if let Some(shared) = self.shared.get() {
            return Ok(shared.clone());
        }
        let parts = self.parts()?;
        let code = map_module(isolates.engine(), &compiled(isolates, &parts.code)?)?;
        let base = map_module(isolates.engine(), &compiled(isolates, &parts.image)?)?;
        let made = Shared::new(code.code().clone(), base.code().clone())?;
        Ok(self.shared.get_or_init(|| made).clone())
    }

    /// What the process that compiles reads for `script`: the compiled engine, and the script.
    ///
    /// # Errors
    /// As [`Scripts::shared`].
    pub(in crate::isolate) fn to_compile(&self, isolates: &Isolates, script: &[u8]) -> Result<Vec<u8>, Error> {
        let parts = self.parts()?;
        let lost = |e: std::io::Error| Error::Engine(format!("the compiled JavaScript engine cannot be read: {e}"));
        let code = compiled(isolates, &parts.code)?.bytes().map_err(lost)?;
        let base = compiled(isolates, &parts.image)?.bytes().map_err(lost)?;
        Ok(handed::frame(&code, &base, script))
    }
}

/// From disk, or compiled and then from disk. It is our own code: no process of its own.
fn compiled(isolates: &Isolates, wasm: &[u8]) -> Result<Sound, Error> {
    let digest = Digest::of(wasm);
    if let Some(sound) = isolates.artifacts.read(digest, Kind::Script)? {
        return Ok(sound);
    }
    let code = compile(isolates.engine(), wasm)?;
    isolates.artifacts.write(digest, Kind::Script, &code)?;
    let none = || Error::Engine("the compiled JavaScript engine was removed at once".to_owned());
    isolates.artifacts.read(digest, Kind::Script)?.ok_or_else(none)
}

fn compile(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, Error> {
    let compiled = engine.wasm().precompile_module(wasm);
    compiled.map_err(|e| Error::Engine(format!("the JavaScript engine: {e:#}")))
}
