//! `edge worker new`: the files of a new worker's project. They build with the language's usual
//! tools.

use std::io;
use std::path::{Path, PathBuf};

/// What a project can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// A component, by cargo.
    Rust,
    /// A script, as it is.
    Js,
    /// A component with a JavaScript engine of its own, by componentize-js.
    Componentize,
}

/// Why no project was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Never over anything.
    #[error("{0} is there already; name a directory that is not")]
    There(PathBuf),
    /// It is the project's name, too.
    #[error("\"{0}\" cannot name a project; use letters, digits, - and _, the first one a letter")]
    Name(String),
    /// The disk.
    #[error("{0} cannot be written: {1}")]
    Write(PathBuf, #[source] io::Error),
}

const RUST: [(&str, &str); 3] = [
    ("Cargo.toml", include_str!("../../templates/worker-rust/Cargo.toml.in")),
    ("README.md", include_str!("../../templates/worker-rust/README.md.in")),
    ("src/lib.rs", include_str!("../../templates/worker-rust/src/lib.rs.in")),
];

const JS: [(&str, &str); 4] = [
    ("worker.js", include_str!("../../templates/worker-js/worker.js.in")),
    (
        "worker.test.js",
        include_str!("../../templates/worker-js/worker.test.js.in"),
    ),
    ("edge.d.ts", include_str!("../../templates/worker-js/edge.d.ts.in")),
    ("README.md", include_str!("../../templates/worker-js/README.md.in")),
];

const COMPONENTIZE: [(&str, &str); 5] = [
    (
        "worker.js",
        include_str!("../../templates/worker-componentize/worker.js.in"),
    ),
    (
        "build.mjs",
        include_str!("../../templates/worker-componentize/build.mjs.in"),
    ),
    (
        "package.json",
        include_str!("../../templates/worker-componentize/package.json.in"),
    ),
    (
        "wit/world.wit",
        include_str!("../../templates/worker-componentize/wit/world.wit.in"),
    ),
    (
        "README.md",
        include_str!("../../templates/worker-componentize/README.md.in"),
    ),
];

/// Writes a project to `directory`.
///
/// # Errors
/// As [`Error`] says.
pub fn write(directory: &Path, language: Language) -> Result<(), Error> {
    let name = name(directory)?;
    if directory.exists() {
        return Err(Error::There(directory.to_owned()));
    }
    let files: &[(&str, &str)] = match language {
        Language::Rust => &RUST,
        Language::Js => &JS,
        Language::Componentize => &COMPONENTIZE,
    };
    for (file, text) in files {
        let path = directory.join(file);
        let text = text.replace("NAME", &name).replace("FILE", &name.replace('-', "_"));
        let write = || {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(&path, text)
        };
        write().map_err(|e| Error::Write(path.clone(), e))?;
    }
    Ok(())
}

/// What to do with it, for who asked.
pub fn next(directory: &Path, language: Language) -> String {
    match language {
        Language::Rust => format!(
            "  cd {} && rustup target add wasm32-wasip2 && cargo build --release --target wasm32-wasip2\n",
            directory.display()
        ),
        Language::Js => format!("  edge worker deploy ZONE {}\n", directory.join("worker.js").display()),
        Language::Componentize => format!("  cd {} && npm install && npm run build\n", directory.display()),
    }
}

fn name(directory: &Path) -> Result<String, Error> {
    let name = directory.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(sound) && name.len() <= 64 {
        Ok(name)
    } else {
        Err(Error::Name(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody's files would be overwritten, or the project not build.
    #[test]
    fn written_once_under_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let project = directory.path().join("my-shop");
        write(&project, Language::Rust).unwrap();
        let manifest = std::fs::read_to_string(project.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("name = \"my-shop\""));
        let readme = std::fs::read_to_string(project.join("README.md")).unwrap();
        assert!(readme.contains("release/my_shop.wasm"), "{readme}");
        assert!(matches!(write(&project, Language::Rust), Err(Error::There(_))));
        let script = directory.path().join("my-script");
        write(&script, Language::Js).unwrap();
        let text = std::fs::read_to_string(script.join("worker.js")).unwrap();
        assert!(text.contains("hello from my-script") && next(&script, Language::Js).contains("my-script/worker.js"));
        let component = directory.path().join("my-component");
        write(&component, Language::Componentize).unwrap();
        let manifest = std::fs::read_to_string(component.join("package.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        assert_eq!(manifest["name"], "my-component");
        assert!(component.join("wit/world.wit").is_file());
        for name in ["1st", "a b", "..", "ünter"] {
            assert!(matches!(
                write(&directory.path().join(name), Language::Rust),
                Err(Error::Name(_))
            ));
        }
    }
}
