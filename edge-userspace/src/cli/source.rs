//! A worker's source on its author's machine, and the one file that is deployed of it: the source
//! itself, TypeScript without its types, several files packed as one, or what esbuild makes of
//! them. For `edge dev` and `edge worker`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, bail};

use super::{gather, typescript};

/// Where a worker's source is looked for in its directory, best first.
const ENTRIES: &[&str] = &[
    "worker.ts",
    "worker.js",
    "src/worker.ts",
    "src/worker.js",
    "src/index.ts",
    "src/index.js",
    "index.ts",
    "index.js",
    "worker.wasm",
];
/// Files that are looked at, at most.
const FILES: usize = 10_000;

/// A worker's source, and what is deployed of it.
pub(super) struct Source {
    /// What is looked at for changes.
    pub(super) directory: PathBuf,
    /// The file that was named, or found.
    pub(super) entry: PathBuf,
    /// What is deployed: the entry itself, or what is made of it.
    pub(super) worker: PathBuf,
    made_by: Maker,
}

/// Who makes what is deployed.
#[derive(Debug, PartialEq, Eq)]
enum Maker {
    /// Nobody: it is deployed as it is.
    Nobody,
    /// esbuild, this program of it.
    Bundler(PathBuf),
    /// We: types are taken out, and files that are imported come along.
    Gatherer,
}

impl Source {
    /// Of a file, or of a directory with one; what is made of it goes to `made`.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn of(path: &Path, made: &Path) -> anyhow::Result<Self> {
        let path = path
            .canonicalize()
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let (directory, entry) = if path.is_dir() {
            let entry = ENTRIES.iter().map(|name| path.join(name)).find(|entry| entry.is_file());
            let entry = entry
                .with_context(|| format!("{} has none of {}; name the file", path.display(), ENTRIES.join(", ")))?;
            (path, entry)
        } else {
            let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
            (directory, path)
        };
        let bundler = bundler(&directory).filter(|_| entry.extension().is_some_and(|ext| ext != "wasm"));
        let made_by = match bundler {
            Some(bundler) => Maker::Bundler(bundler),
            None if entry.extension().is_some_and(|ext| ext == "wasm") => Maker::Nobody,
            None => Maker::Gatherer,
        };
        let worker = match made_by {
            Maker::Nobody => entry.clone(),
            _ => made.join("worker.js"),
        };
        Ok(Self {
            directory,
            entry,
            worker,
            made_by,
        })
    }

    /// Makes what is deployed.
    ///
    /// # Errors
    /// What is wrong with the source, with file and line, as far as whoever makes it sees that.
    pub(super) fn build(&self) -> anyhow::Result<()> {
        match &self.made_by {
            Maker::Nobody => Ok(()),
            Maker::Bundler(program) => bundle(program, &self.entry, &self.directory, &self.worker),
            Maker::Gatherer => {
                let script = gather::packed(&gather::gather(&self.entry, &self.directory)?);
                std::fs::write(&self.worker, script)
                    .with_context(|| format!("{} cannot be written", self.worker.display()))
            }
        }
    }

    /// The script that a file of the same project is, for `edge worker test`: its modules.
    ///
    /// # Errors
    /// As of [`Source::build`].
    pub(super) fn modules(file: &Path, directory: &Path, made: &Path) -> anyhow::Result<Vec<(String, String)>> {
        let Some(program) = bundler(directory) else {
            return gather::gather(file, directory);
        };
        bundle(&program, file, directory, made)?;
        let text = std::fs::read_to_string(made).with_context(|| format!("{} cannot be read", made.display()))?;
        let name = file.strip_prefix(directory).unwrap_or(file);
        Ok(vec![(name.to_string_lossy().into_owned(), text)])
    }

    /// When a source was last changed.
    pub(super) fn changed(&self) -> Option<SystemTime> {
        let mut newest = modified(&self.entry);
        let mut left = FILES;
        let mut directories = vec![self.directory.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                left = left.saturating_sub(1);
                if left == 0 {
                    return newest;
                }
                let (path, name) = (entry.path(), entry.file_name());
                let name = name.to_string_lossy();
                if name.starts_with('.') && name != ".dev.vars" || name == "node_modules" || name == "target" {
                    continue;
                }
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => directories.push(path),
                    Ok(_) => newest = newest.max(modified(&path)),
                    Err(_) => {}
                }
            }
        }
        newest
    }
}

/// Makes one file, `made`, of `entry` and what it imports.
///
/// # Errors
/// esbuild cannot be started, or found mistakes, which it has told.
fn bundle(program: &Path, entry: &Path, directory: &Path, made: &Path) -> anyhow::Result<()> {
    let done = Command::new(program)
        .arg(entry)
        .args([
            "--bundle",
            "--format=esm",
            "--sourcemap=inline",
            "--target=es2024",
            "--log-level=warning",
        ])
        .args([
            "--conditions=workerd,worker,browser",
            "--external:node:*",
            "--external:cloudflare:*",
            "--external:edge:*",
        ])
        .arg(format!("--outfile={}", made.display()))
        .current_dir(directory)
        .status()
        .context("esbuild cannot be started")?;
    if !done.success() {
        bail!("esbuild found mistakes");
    }
    Ok(())
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|about| about.modified()).ok()
}

/// esbuild of the project, or of the machine.
fn bundler(directory: &Path) -> Option<PathBuf> {
    let of_projects = directory
        .ancestors()
        .map(|above| above.join("node_modules/.bin/esbuild"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let of_machine = std::env::split_paths(&path).map(|directory| directory.join("esbuild"));
    of_projects.chain(of_machine).find(|program| program.is_file())
}

/// The worker that is deployed of a file: one in JavaScript and a component as they are, if they
/// are one file; TypeScript, several files and a directory as `edge dev` would serve them. `made`
/// must live until it was read.
///
/// # Errors
/// As of [`Source::of`] and [`Source::build`].
pub(super) fn deployable(file: &Path, made: &Path) -> anyhow::Result<PathBuf> {
    let plain = file.is_file() && !typescript::is_typed(file);
    if plain && file.extension().is_none_or(|ext| ext != "js" && ext != "mjs") {
        return Ok(file.to_owned());
    }
    if plain {
        let path = file
            .canonicalize()
            .with_context(|| format!("{} cannot be read", file.display()))?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        let gathered = gather::gather(&path, directory)?;
        if gathered.len() < 2 {
            return Ok(file.to_owned());
        }
        let worker = made.join("worker.js");
        std::fs::write(&worker, gather::packed(&gathered))
            .with_context(|| format!("{} cannot be written", worker.display()))?;
        return Ok(worker);
    }
    let source = Source::of(file, made)?;
    source.build()?;
    Ok(source.worker)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A change would not be seen, or the tool's own files taken for one.
    #[test]
    fn changes_of_sources_are_seen() {
        let directory = tempfile::tempdir().unwrap();
        let worker = directory.path().join("worker.js");
        std::fs::write(&worker, "1").unwrap();
        let source = Source::of(directory.path(), directory.path()).unwrap();
        let before = source.changed();
        std::fs::create_dir(directory.path().join("node_modules")).unwrap();
        let later = SystemTime::now() + Duration::from_secs(60);
        let touch = |path: &Path| {
            std::fs::write(path, "2").unwrap();
            std::fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(later)
                .unwrap();
        };
        touch(&directory.path().join("node_modules/x.js"));
        assert_eq!(source.changed(), before);
        touch(&directory.path().join("helper.js"));
        assert_eq!(source.changed(), Some(later));
        assert!(Source::of(&directory.path().join("none"), directory.path()).is_err());
    }

    /// A worker in TypeScript would be refused, or one in JavaScript changed on its way.
    #[test]
    fn what_is_deployed_is_what_was_written_without_types() {
        let (source, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let typed = source.path().join("worker.ts");
        std::fs::write(&typed, "const a: number = 1;\nexport default { a };\n").unwrap();
        let script = std::fs::read_to_string(deployable(&typed, made.path()).unwrap()).unwrap();
        assert!(
            script.contains("const a = 1;") && script.contains("sourceMappingURL=data:"),
            "{script}"
        );
        let plain = source.path().join("plain.js");
        std::fs::write(&plain, "export default {}").unwrap();
        assert_eq!(deployable(&plain, made.path()).unwrap(), plain);
    }
}
