//! TypeScript without its types: types are taken out, and what types do at run time (`enum`,
//! `namespace`, parameter properties) is written as JavaScript, with a source map, so that stack
//! traces name the author's lines. For `edge dev` and `edge worker`, which run with their user's
//! rights; the daemon never parses TypeScript.

use std::path::Path;

use anyhow::bail;
use oxc_allocator::Allocator;
use oxc_codegen::{Codegen, CodegenOptions, CodegenReturn};
use oxc_parser::Parser;
use oxc_semantic::SemanticBuilder;
use oxc_span::SourceType;
use oxc_transformer::{EnvOptions, TransformOptions, Transformer};

/// What the engine speaks; what is newer is written in older words.
const TARGET: &str = "es2024";
/// Mistakes that are told of one file, at most.
const MISTAKES: usize = 20;

/// Whether a file is TypeScript by its name.
pub(super) fn is_typed(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ext| ext == "ts" || ext == "tsx" || ext == "mts")
}

/// The script that a file in TypeScript is. What is imported stays so, but for types.
///
/// # Errors
/// What is wrong with it, each with file, line and column.
pub(super) fn strip(file: &Path, text: &str) -> anyhow::Result<String> {
    if file.extension().is_some_and(|ext| ext == "tsx") {
        bail!(
            "{} may have JSX in it, which esbuild makes JavaScript of: `npm install esbuild`",
            file.display()
        );
    }
    // Stack traces name the file as it is called, wherever it is.
    let name = Path::new(file.file_name().unwrap_or(file.as_os_str()));
    let mut said = Vec::new();
    let mut tell = |message: &str, at: Option<usize>| {
        let (line, column) = place(text, at.unwrap_or(0));
        said.push(format!("{}:{line}:{column}: {message}", name.display()));
    };
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, text, SourceType::ts().with_module(true)).parse();
    let mut program = parsed.program;
    for mistake in &parsed.diagnostics {
        tell(
            &mistake.message,
            mistake.labels.first().map(|label| label.span().start as usize),
        );
    }
    let semantic = SemanticBuilder::new()
        .with_check_syntax_error(true)
        .with_enum_eval(true)
        .with_excess_capacity(2.0)
        .build(&program);
    if parsed.diagnostics.is_empty() {
        for mistake in &semantic.diagnostics {
            tell(
                &mistake.message,
                mistake.labels.first().map(|label| label.span().start as usize),
            );
        }
    }
    let options = TransformOptions {
        env: EnvOptions::from_target(TARGET).unwrap_or_default(),
        ..TransformOptions::default()
    };
    if parsed.diagnostics.is_empty() && semantic.diagnostics.is_empty() {
        let scoping = semantic.semantic.into_scoping();
        let made = Transformer::new(&allocator, name, &options).build_with_scoping(scoping, &mut program);
        for mistake in &made.diagnostics {
            tell(
                &mistake.message,
                mistake.labels.first().map(|label| label.span().start as usize),
            );
        }
    }
    if !said.is_empty() {
        said.truncate(MISTAKES);
        bail!("{} cannot be read:\n{}", file.display(), said.join("\n"));
    }
    let options = CodegenOptions {
        source_map_path: Some(name.to_owned()),
        ..CodegenOptions::default()
    };
    let CodegenReturn { code, map, .. } = Codegen::new().with_options(options).build(&program);
    Ok(match map {
        Some(map) => format!("{code}\n//# sourceMappingURL={}\n", map.to_data_url()),
        None => code,
    })
}

/// Line and column of byte `at`, from 1, as editors count them.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count().saturating_add(1);
    let start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let column = before.get(start..).unwrap_or_default().chars().count();
    (line, column.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(text: &str) -> String {
        let script = strip(Path::new("dir/a.ts"), text).unwrap();
        let (code, map) = script.split_once("//# sourceMappingURL=data:application/json").unwrap();
        assert!(map.contains("base64,"), "{map}");
        code.to_owned()
    }

    /// A worker in TypeScript would be refused, or would do something else.
    #[test]
    fn types_go_and_everything_else_stays() {
        let script = stripped(
            "import type { A } from './a';\nimport { B } from './b';\nimport { C } from 'node:assert';\n\
             interface I extends A { a: string }\ntype D = B | null;\ndeclare const E: D;\nabstract class F<T> implements I {\n  \
             declare x: number;\n  private a: string = \"a\";\n  abstract z(): void;\n  \
             get<K extends keyof T>(k: K, t?: T): T[K] | undefined { return t![k] as T[K]; }\n}\n\
             const f = async <T,>(this_: T): Promise<T> => C(this_) satisfies T;\n\
             export default { async fetch(request: Request, env: Env): Promise<Response> { return new Response(`${1 as number}`); } };\n",
        );
        for gone in [
            "interface",
            "implements",
            "declare",
            "satisfies",
            "Promise<",
            " as ",
            "./a",
            "./b",
            "abstract",
        ] {
            assert!(!script.contains(gone), "{gone}: {script}");
        }
        for kept in [
            "node:assert",
            "async fetch(request, env)",
            "t[k]",
            "class F",
            "a = \"a\"",
        ] {
            assert!(script.contains(kept), "{kept}: {script}");
        }
    }

    /// Half of TypeScript's programs have an enum somewhere.
    #[test]
    fn what_types_do_at_run_time_is_written() {
        let script = stripped(
            "export enum Plan { Free, Gold = 5, Name = \"n\" }\nnamespace N { export const a = 1; }\n\
             class A { constructor(public plan: Plan) {} }\nexport const b = [N.a, A];\n",
        );
        for part in ["Gold", "this.plan = plan", "N"] {
            assert!(script.contains(part), "{part}: {script}");
        }
        assert!(!script.contains("enum ") && !script.contains("namespace"), "{script}");
    }

    /// An author would look for a mistake in a file that has none.
    #[test]
    fn mistakes_name_their_place() {
        let said = strip(Path::new("dir/a.ts"), "const a = 1;\nconst b: = 2;\n").unwrap_err();
        let said = said.to_string();
        assert!(said.contains("dir/a.ts") && said.contains("a.ts:2:10: "), "{said}");
        let said = strip(Path::new("dir/a.ts"), "let é = 1; let é = 2;\n")
            .unwrap_err()
            .to_string();
        assert!(said.contains("a.ts:1:"), "{said}");
        let said = strip(Path::new("a.tsx"), "").unwrap_err().to_string();
        assert!(said.contains("esbuild"), "{said}");
    }
}
