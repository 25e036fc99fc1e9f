//! Finds the paths that code outside tests uses: files of a crate in, imports out.
//!
//! Works on tokens, so that comments, strings and formatting never matter and the insides of macros
//! are seen as well.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// One path that reaches out of its module.
#[derive(Clone, Debug)]
pub(super) struct Import {
    /// Where it starts, from 1.
    pub(super) line: usize,
    /// The library it starts with; `None` for this crate.
    pub(super) library: Option<String>,
    /// Segments below the crate's or the library's root.
    pub(super) path: Vec<String>,
}

impl fmt::Display for Import {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.library.as_deref().unwrap_or("crate"))?;
        self.path.iter().try_for_each(|segment| write!(out, "::{segment}"))
    }
}

/// One source file and the module it is.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    /// For example `["http", "h1"]`; empty for the crate root.
    pub(super) module: Vec<String>,
    tokens: Vec<TokenTree>,
}

impl File {
    /// Every path of this file that starts at the crate's root, above its own module, or at one of
    /// `libraries`.
    pub(super) fn imports(&self, libraries: &[&str]) -> Result<Vec<Import>> {
        let mut scan = Scan {
            module: self.module.clone(),
            libraries,
            imports: Vec::new(),
            test_modules: Vec::new(),
        };
        scan.tokens(&self.tokens);
        Ok(scan.imports)
    }
}

/// The files below `source` that are not test modules.
pub(super) fn files(source: &Path) -> Result<Vec<File>> {
    let mut paths = Vec::new();
    list(source, &mut paths)?;
    // Parents before children: a parent says which of its modules are only for tests.
    paths.sort_by_key(|path| (path.components().count(), path.clone()));
    let mut test_modules: Vec<Vec<String>> = Vec::new();
    let mut files: Vec<File> = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let tokens: TokenStream = text.parse().map_err(|error| anyhow!("{}: {error}", path.display()))?;
        let module = module(path.strip_prefix(source).unwrap_or(&path));
        let file = File {
            path,
            module,
            tokens: tokens.into_iter().collect(),
        };
        let mut scan = Scan {
            module: file.module.clone(),
            libraries: &[],
            imports: Vec::new(),
            test_modules: Vec::new(),
        };
        scan.tokens(&file.tokens);
        test_modules.append(&mut scan.test_modules);
        files.push(file);
    }
    files.retain(|file| !test_modules.iter().any(|test| file.module.starts_with(test)));
    Ok(files)
}

fn list(directory: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
    Ok(())
}

fn module(relative: &Path) -> Vec<String> {
    let mut module: Vec<String> = relative
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    let root = module.len() == 1 && matches!(module[0].as_str(), "lib" | "main");
    if root || module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

struct Scan<'a> {
    module: Vec<String>,
    libraries: &'a [&'a str],
    imports: Vec<Import>,
    test_modules: Vec<Vec<String>>,
}

impl Scan<'_> {
    fn tokens(&mut self, tokens: &[TokenTree]) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            if let Some((content, length, inner)) = attribute(&tokens[at..]) {
                if !only_for_tests(&content) {
                    self.attribute(&content);
                    at += length;
                } else if inner {
                    return;
                } else {
                    at = self.skip_item(tokens, at + length);
                }
                continue;
            }
            match token {
                TokenTree::Ident(word) if word == "mod" => {
                    if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                        (tokens.get(at + 1), tokens.get(at + 2))
                        && body.delimiter() == Delimiter::Brace
                    {
                        self.module.push(name.to_string());
                        self.tokens(&collect(body.stream()));
                        self.module.pop();
                        at += 3;
                        continue;
                    }
                }
                TokenTree::Ident(word) => {
                    if let Some((library, base)) = self.start(&word.to_string(), tokens, at) {
                        let line = word.span().start().line;
                        at = self.tree(
                            tokens,
                            at + 1,
                            &Import {
                                line,
                                library,
                                path: base,
                            },
                        );
                        continue;
                    }
                }
                TokenTree::Group(group) => self.tokens(&collect(group.stream())),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }

    /// Whether a path begins with this word, and where it points before the first `::`.
    fn start(&self, word: &str, tokens: &[TokenTree], at: usize) -> Option<(Option<String>, Vec<String>)> {
        if !separator(tokens, at + 1) {
            // `use aya;`, `use aya as x;`, `extern crate aya;`
            let previous = at.checked_sub(1).and_then(|before| tokens.get(before));
            let named = matches!(previous, Some(TokenTree::Ident(before)) if before == "use" || before == "crate");
            return (named && self.libraries.contains(&word)).then(|| (Some(word.to_owned()), Vec::new()));
        }
        match word {
            "crate" => Some((None, Vec::new())),
            "self" => Some((None, self.module.clone())),
            "super" => Some((None, above(&self.module))),
            // `a::aya::b` is a segment of another path; `::aya::b` is the library.
            _ if self.libraries.contains(&word) => {
                let segment = at >= 3 && separator(tokens, at - 2) && matches!(tokens[at - 3], TokenTree::Ident(_));
                (!segment).then(|| (Some(word.to_owned()), Vec::new()))
            }
            _ => None,
        }
    }

    /// Follows `::a::{b, c::*}` from `at`, notes every leaf, and returns the index behind it.
    fn tree(&mut self, tokens: &[TokenTree], mut at: usize, base: &Import) -> usize {
        let mut import = base.clone();
        while separator(tokens, at) {
            match tokens.get(at + 2) {
                Some(TokenTree::Ident(word)) if word == "super" => import.path = above(&import.path),
                Some(TokenTree::Ident(word)) if word == "self" => {}
                Some(TokenTree::Ident(word)) => {
                    import.path.push(word.to_string());
                    import.line = word.span().start().line;
                }
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    for leaf in collect(group.stream()).split(|token| is_punct(token, ',')) {
                        self.leaf(leaf, &import);
                    }
                    return at + 3;
                }
                // A glob, or the `<` of a turbofish, whose inside is scanned by the caller.
                other => {
                    if import.path.is_empty() && other.is_some_and(|token| is_punct(token, '*')) {
                        import.path.push("*".to_owned());
                    }
                    at += 2;
                    break;
                }
            }
            at += 3;
        }
        self.imports.push(import);
        at
    }

    fn leaf(&mut self, leaf: &[TokenTree], base: &Import) {
        let mut import = base.clone();
        match leaf.first() {
            Some(TokenTree::Ident(word)) if word == "super" => import.path = above(&import.path),
            Some(TokenTree::Ident(word)) if word == "self" => {}
            Some(TokenTree::Ident(word)) => {
                import.path.push(word.to_string());
                import.line = word.span().start().line;
            }
            // A glob of what is above, or a trailing comma.
            Some(glob) if is_punct(glob, '*') && import.path.is_empty() => import.path.push("*".to_owned()),
            Some(_) => {}
            None => return,
        }
        self.tree(leaf, 1, &import);
    }

    /// Attributes name paths too, often in strings (`#[serde(with = "crate::…")]`).
    fn attribute(&mut self, content: &[TokenTree]) {
        self.tokens(content);
        let mut inside: Vec<TokenTree> = content.to_vec();
        while let Some(token) = inside.pop() {
            match token {
                TokenTree::Group(group) => inside.extend(group.stream()),
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    let path = text.trim_matches('"');
                    // The text of a doc comment may mention a path; it does not import it.
                    if path.starts_with("crate::") && !path.contains(char::is_whitespace) {
                        let path = path.split("::").skip(1).map(str::to_owned).collect();
                        self.imports.push(Import {
                            line: literal.span().start().line,
                            library: None,
                            path,
                        });
                    }
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }

    /// The index behind the item, field or statement that starts at `at` and exists only in tests.
    fn skip_item(&mut self, tokens: &[TokenTree], mut at: usize) -> usize {
        while let Some((_, length, _)) = attribute(tokens.get(at..).unwrap_or_default()) {
            at += length;
        }
        let mut words = tokens[at.min(tokens.len())..].iter().filter_map(|token| match token {
            TokenTree::Ident(word) if word != "pub" => Some(word.to_string()),
            _ => None,
        });
        let first = words.next().unwrap_or_default();
        if let ("mod", Some(name)) = (first.as_str(), words.next()) {
            self.test_modules
                .push(self.module.iter().cloned().chain([name]).collect());
        }
        const ITEMS: &[&str] = &[
            "async",
            "const",
            "enum",
            "extern",
            "fn",
            "impl",
            "macro_rules",
            "mod",
            "static",
            "struct",
            "trait",
            "type",
            "union",
            "unsafe",
            "use",
        ];
        // A comma ends a field or a match arm, but only parts the generics of an item.
        let item = ITEMS.contains(&first.as_str());
        while let Some(token) = tokens.get(at) {
            at += 1;
            let braces = matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
            if is_punct(token, ';') || braces || (!item && is_punct(token, ',')) {
                break;
            }
        }
        at
    }
}

/// `#[…]` or `#![…]` at the start: what is inside, how many tokens, and whether it speaks of the
/// enclosing module.
fn attribute(tokens: &[TokenTree]) -> Option<(Vec<TokenTree>, usize, bool)> {
    if !is_punct(tokens.first()?, '#') {
        return None;
    }
    let inner = is_punct(tokens.get(1)?, '!');
    let index = if inner { 2 } else { 1 };
    match tokens.get(index)? {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
            Some((collect(group.stream()), index + 1, inner))
        }
        _ => None,
    }
}

/// `cfg(test)` and `cfg(all(test, …))`; `any` and `not` also hold outside tests.
fn only_for_tests(attribute: &[TokenTree]) -> bool {
    let [TokenTree::Ident(name), TokenTree::Group(group)] = attribute else {
        return false;
    };
    let inside = collect(group.stream());
    match name.to_string().as_str() {
        "cfg" | "all" => inside.split(|token| is_punct(token, ',')).any(|predicate| {
            matches!(predicate, [TokenTree::Ident(word)] if word == "test") || only_for_tests(predicate)
        }),
        _ => false,
    }
}

fn above(module: &[String]) -> Vec<String> {
    module[..module.len().saturating_sub(1)].to_vec()
}

fn separator(tokens: &[TokenTree], at: usize) -> bool {
    let joint = matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':' && punct.spacing() == Spacing::Joint);
    joint && tokens.get(at + 1).is_some_and(|token| is_punct(token, ':'))
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn collect(stream: TokenStream) -> Vec<TokenTree> {
    stream.into_iter().collect()
}
