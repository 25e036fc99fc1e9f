//! The process that compiles, for scripts: it is handed the compiled engine and a script, runs the
//! script's top-level code, and gives the compiled image.

use std::sync::Arc;

use super::engine::Shared;
use super::modules;
use super::snapshot::{self, Source};
use crate::isolate::engine::{Engine, handed};
use crate::isolate::error::Error;

/// The name that the stack traces of a script have that is one file.
const NAME: &str = "worker.js";

/// Two lengths, the engine's code and image, and the script.
pub(super) fn frame(code: &[u8], base: &[u8], script: &[u8]) -> Vec<u8> {
    let lengths = 16_usize;
    let all = lengths
        .saturating_add(code.len())
        .saturating_add(base.len())
        .saturating_add(script.len());
    let mut frame = Vec::with_capacity(all);
    frame.extend((code.len() as u64).to_le_bytes());
    frame.extend((base.len() as u64).to_le_bytes());
    for part in [code, base, script] {
        frame.extend(part);
    }
    frame
}

fn unframe(frame: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (code, rest) = frame.split_first_chunk::<8>()?;
    let (base, rest) = rest.split_first_chunk::<8>()?;
    let length = |bytes: &[u8; 8]| usize::try_from(u64::from_le_bytes(*bytes)).ok();
    let (code, rest) = rest.split_at_checked(length(code)?)?;
    let (base, script) = rest.split_at_checked(length(base)?)?;
    Some((code, base, script))
}

/// Compiles what [`frame`] made. The process is confined already.
///
/// # Errors
/// The reason, for who deploys.
pub(in crate::isolate) fn compile_handed(frame: &[u8]) -> Result<Vec<u8>, String> {
    let (code, base, script) = unframe(frame).ok_or("the daemon's order cannot be read")?;
    let text = std::str::from_utf8(script).map_err(|_| "a script is UTF-8")?;
    let made = || {
        let engine = Engine::new(1)?;
        let shared = Shared::new(handed(&engine, code)?, handed(&engine, base)?)?;
        let image = image_of(&engine, &shared, text)?;
        snapshot::compile(&engine, &image)
    };
    made().map_err(|error| match error {
        Error::Refused(why) => why,
        other => other.to_string(),
    })
}

/// The image of a script, or of one that is several modules.
///
/// # Errors
/// As of [`snapshot::snapshot`].
pub(super) fn image_of(engine: &Engine, shared: &Arc<Shared>, text: &str) -> Result<Vec<u8>, Error> {
    let several = modules::unpack(text).map_err(Error::Refused)?;
    let source = match several.as_deref() {
        Some([(name, text), modules @ ..]) => Source { name, text, modules },
        _ => Source {
            name: NAME,
            text,
            modules: &[],
        },
    };
    snapshot::snapshot(engine, shared, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cut-off order would be run as a shorter script.
    #[test]
    fn orders_are_read_as_they_were_written() {
        let frame = frame(b"code", b"base", b"script");
        assert_eq!(unframe(&frame).unwrap(), (&b"code"[..], &b"base"[..], &b"script"[..]));
        assert!(unframe(&frame[..20]).is_none());
        assert!(unframe(&frame[..9]).is_none());
    }
}
