//! A worker's modules without a bundler: the entry and the files that it imports by relative paths,
//! TypeScript without its types, as one text that deploys (`isolate::js::modules`). For `edge dev`
//! and `edge worker`, where esbuild is not there; packages want it.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use oxc_allocator::Allocator;
use oxc_parser::Parser;
use oxc_span::SourceType;

use super::typescript;
use crate::isolate::js::modules::{self, MOST};

/// What may follow a path that is imported.
const ENDINGS: &[&str] = &["ts", "js", "mts", "mjs"];

/// The modules of a worker, the entry first: names, which are their paths from `root`, and texts.
/// What a module imports by a relative path is named by that in its text.
///
/// # Errors
/// A file that is imported and is not there, what is wrong with TypeScript, or more than [`MOST`]
/// modules.
pub(super) fn gather(entry: &Path, root: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let entry = plain(entry);
    let mut names = HashMap::from([(entry.clone(), name(&entry, root))]);
    let mut wanted = VecDeque::from([entry]);
    let mut gathered = Vec::new();
    while let Some(file) = wanted.pop_front() {
        let mut text = script(&file)?;
        let directory = file.parent().unwrap_or(Path::new("/"));
        // From the back, so that places stay good.
        for (from, to, specifier) in imports(&text).into_iter().rev() {
            let found = resolve(directory, &specifier)
                .with_context(|| format!("{} imports {specifier}, which is not there", file.display()))?;
            if !names.contains_key(&found) {
                names.insert(found.clone(), name(&found, root));
                wanted.push_back(found.clone());
            }
            if let Some(known) = names.get(&found) {
                text.replace_range(from..to, &serde_json::to_string(known)?);
            }
        }
        if names.len() > MOST {
            bail!("{} has more than {MOST} modules; bundle them", file.display());
        }
        let known = names.get(&file).cloned().unwrap_or_default();
        gathered.push((known, text));
    }
    Ok(gathered)
}

/// What is deployed: the text itself, if there is one module alone.
pub(super) fn packed(gathered: &[(String, String)]) -> String {
    match gathered {
        [(_, text)] => text.clone(),
        several => modules::pack(several),
    }
}

/// A file as JavaScript.
///
/// # Errors
/// It cannot be read, or is not TypeScript.
fn script(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    if typescript::is_typed(file) {
        typescript::strip(file, &text)
    } else {
        Ok(text)
    }
}

/// A module's name: its path from `root`, or all of it if it is elsewhere.
fn name(file: &Path, root: &Path) -> String {
    let short = file.strip_prefix(plain(root)).unwrap_or(file);
    short.to_string_lossy().trim_start_matches('/').to_owned()
}

/// A path without `.` and `..`, as it is written.
fn plain(path: &Path) -> PathBuf {
    let mut made = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(made.pop()),
            other => made.push(other),
        }
    }
    made
}

/// The file that a relative specifier means: itself, TypeScript in its place, or with an ending.
fn resolve(directory: &Path, specifier: &str) -> Option<PathBuf> {
    let path = plain(&directory.join(specifier));
    let typed = match path.extension().and_then(OsStr::to_str) {
        Some("js") => Some(path.with_extension("ts")),
        Some("mjs") => Some(path.with_extension("mts")),
        _ => None,
    };
    let ended = ENDINGS.iter().map(|ending| {
        let mut name = path.as_os_str().to_owned();
        name.push(".");
        name.push(ending);
        PathBuf::from(name)
    });
    let within = ENDINGS.iter().map(|ending| path.join(format!("index.{ending}")));
    [path.clone()]
        .into_iter()
        .chain(typed)
        .chain(ended)
        .chain(within)
        .find(|path| path.is_file())
}

/// Where a script names a module by a relative path, quotes included, and the path: in order.
fn imports(text: &str) -> Vec<(usize, usize, String)> {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, text, SourceType::mjs()).parse();
    let record = &parsed.module_record;
    let stated = record
        .requested_modules
        .iter()
        .flat_map(|(_, requests)| requests.iter());
    let stated = stated.map(|request| request.span);
    let spans = stated.chain(record.dynamic_imports.iter().map(|import| import.module_request));
    let mut found: Vec<_> = spans
        .filter_map(|span| {
            let (from, to) = (span.start as usize, span.end as usize);
            let quoted = text.get(from..to)?;
            let quote = quoted.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
            let path = quoted.strip_prefix(quote)?.strip_suffix(quote)?;
            let relative = path.starts_with("./") || path.starts_with("../");
            (relative && !path.contains('\\')).then(|| (from, to, path.to_owned()))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolate::js::modules::unpack;

    fn write(directory: &Path, file: &str, text: &str) -> PathBuf {
        let path = directory.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A worker of several files would lack one, have one twice, or have types in it.
    #[test]
    fn what_is_imported_comes_along() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let entry = write(
            &root,
            "src/worker.ts",
            "import type { T } from './types'; import { b } from './b.js'; import { d } from \"../d\";\n\
             import path from 'node:path'; export { c } from './c'; const x: string = './b.js';\n\
             export default { fetch: async () => new Response(x + b + d + path.sep + (await import('./late.js')).late) };",
        );
        write(
            &root,
            "src/b.ts",
            "export const b: number = 1; export * from './c/index.js';",
        );
        write(
            &root,
            "src/c/index.js",
            "import { b } from '../b'; export const c = () => b;",
        );
        write(&root, "d.mjs", "export const d = 'é'; // import './none.js'");
        write(&root, "src/late.js", "export const late = 1;");
        let gathered = gather(&entry, &root).unwrap();
        let names: Vec<&str> = gathered.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.first(), Some(&"src/worker.ts"));
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(
            sorted,
            ["d.mjs", "src/b.ts", "src/c/index.js", "src/late.js", "src/worker.ts"]
        );
        let main = &gathered[0].1;
        for part in [
            "from \"src/b.ts\"",
            "from \"d.mjs\"",
            "from \"src/c/index.js\"",
            "import(\"src/late.js\")",
            "node:path",
        ] {
            assert!(main.contains(part), "{part}: {main}");
        }
        assert!(!main.contains(": string") && main.contains("./b.js"), "{main}");
        assert_eq!(unpack(&packed(&gathered)).unwrap().unwrap(), gathered);
    }

    /// A script of one file would be another one when it is deployed.
    #[test]
    fn one_file_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let text = "with (Math) addEventListener('fetch', e => e.respondWith(new Response('./x')));\n";
        let entry = write(directory.path(), "worker.js", text);
        assert_eq!(packed(&gather(&entry, directory.path()).unwrap()), text);
        let entry = write(directory.path(), "other.js", "import './none.js';");
        let said = format!("{:#}", gather(&entry, directory.path()).unwrap_err());
        assert!(
            said.contains("other.js imports ./none.js, which is not there"),
            "{said}"
        );
    }
}
