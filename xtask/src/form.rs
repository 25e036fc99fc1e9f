//! The form that rustfmt and clippy do not look at: comments of at most 100 columns, functions of
//! at most 100 lines, files of at most 800. `cargo xtask lint` checks all three; `cargo xtask lint
//! --wrap` wraps the comments.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::workspace;

/// Columns of a comment's line, its indentation included.
const COLUMNS: usize = 100;
/// Lines of a file.
const LINES: usize = 800;
/// Lines of a function, from `fn` to its last brace.
const FUNCTION: usize = 100;
/// Where the code is.
const SOURCES: &[&str] = &["edge-common", "edge-ebpf", "edge-userspace", "tests", "xtask"];

/// Fails for comments that are too wide, and for functions and files with too many lines.
pub(crate) fn check() -> Result<()> {
    let mut wrong = 0;
    for file in files()? {
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let name = file.strip_prefix(workspace::root()).unwrap_or(&file).display();
        let lines = text.lines().count();
        if lines > LINES {
            eprintln!("{name}: {lines} lines\n    mend: split it below {LINES}, one idea a file");
            wrong += 1;
        }
        let tokens: TokenStream = text.parse().map_err(|error| anyhow!("{name}: {error}"))?;
        for long in long_functions(tokens) {
            eprintln!(
                "{name}:{}: `{}` has {} lines\n    mend: give its phases names: steps of at most {FUNCTION} lines each, or types \
                 that one hands to the next; a table becomes a constant",
                long.line, long.name, long.lines
            );
            wrong += 1;
        }
        let wrapped = wrapped(&text);
        let differ = text.lines().zip(wrapped.lines()).position(|(is, should)| is != should);
        if let Some(at) = differ {
            eprintln!("{name}:{}: a comment wider than {COLUMNS} columns", at + 1);
            wrong += 1;
        }
    }
    if wrong > 0 {
        bail!("{wrong} place(s) are out of form");
    }
    Ok(())
}

/// A function with too many lines.
#[derive(Debug, PartialEq, Eq)]
struct Long {
    name: String,
    /// Where it begins, from 1.
    line: usize,
    lines: usize,
}

/// The functions with more than [`FUNCTION`] lines, those within others and within macros included.
fn long_functions(tokens: TokenStream) -> Vec<Long> {
    let mut found = Vec::new();
    let mut begun: Option<(String, usize)> = None;
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            // `fn(u8)` is a type.
            TokenTree::Ident(word) if word == "fn" => {
                if let Some(TokenTree::Ident(name)) = tokens.peek() {
                    begun = Some((name.to_string(), word.span().start().line));
                }
            }
            // A declaration without a body.
            TokenTree::Punct(end) if end.as_char() == ';' => begun = None,
            TokenTree::Group(group) => {
                if group.delimiter() == Delimiter::Brace
                    && let Some((name, line)) = begun.take()
                {
                    let lines = group.span_close().end().line + 1 - line;
                    if lines > FUNCTION {
                        found.push(Long { name, line, lines });
                    }
                }
                found.extend(long_functions(group.stream()));
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    found
}

/// Wraps the comments of each file.
pub(crate) fn wrap() -> Result<()> {
    for file in files()? {
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let wrapped = wrapped(&text);
        if wrapped != text {
            fs::write(&file, wrapped).with_context(|| format!("writing {}", file.display()))?;
        }
    }
    Ok(())
}

fn files() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for source in SOURCES {
        list(&workspace::root().join(source), &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn list(directory: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            list(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
    Ok(())
}

/// A line that is a comment: its indentation with the marker, and its words as they stand.
fn comment(line: &str) -> Option<(&str, &str)> {
    let indentation = line.len() - line.trim_start().len();
    let rest = line.get(indentation..)?;
    let marker = ["///", "//!", "//"]
        .into_iter()
        .find(|marker| rest.starts_with(marker))?;
    let (head, words) = line.split_at(indentation + marker.len());
    Some((head, words.strip_prefix(' ').unwrap_or(words)))
}

/// `text` with the paragraphs of comments wrapped in which a line is too wide. Tables, code and
/// drawings stay.
fn wrapped(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((head, words)) = comment(line) else {
            out.push(line.to_owned());
            continue;
        };
        let mut block = vec![words];
        while let Some((_, words)) = lines
            .peek()
            .and_then(|next| comment(next))
            .filter(|(other, _)| *other == head)
        {
            block.push(words);
            lines.next();
        }
        for words in reflowed(head, &block) {
            out.push(format!("{head} {words}").trim_end().to_owned());
        }
    }
    out.join("\n") + if text.ends_with('\n') { "\n" } else { "" }
}

/// The lines of one comment.
fn reflowed(head: &str, block: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    let mut paragraph: Vec<&str> = Vec::new();
    let mut code = false;
    for words in block {
        let fence = words.trim_start().starts_with("```");
        let alone = code || fence || words.trim().is_empty() || words.trim_start().starts_with(['|', '#']);
        let begins =
            item(words) > 0 || words.starts_with(' ') && paragraph.first().is_none_or(|first| item(first) == 0);
        if alone || begins {
            flow(head, &std::mem::take(&mut paragraph), &mut out);
        }
        code ^= fence;
        if alone {
            out.push((*words).to_owned());
        } else {
            paragraph.push(words);
        }
    }
    flow(head, &paragraph, &mut out);
    out
}

/// The length of `- `, `* ` or `1. ` with what stands before it; 0: it is no item of a list.
fn item(words: &str) -> usize {
    let inner = words.trim_start();
    let digits = inner.len() - inner.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let marker = match inner.as_bytes() {
        [b'-' | b'*', b' ', ..] => 2,
        _ if digits > 0 && inner[digits..].starts_with(". ") => digits + 2,
        _ => return 0,
    };
    words.len() - inner.len() + marker
}

fn flow(head: &str, paragraph: &[&str], out: &mut Vec<String>) {
    let width = |words: &str| head.chars().count() + 1 + words.chars().count();
    let drawn = |words: &&str| words.trim().contains("   ");
    if paragraph.iter().all(|words| width(words) <= COLUMNS) || paragraph.iter().any(drawn) {
        out.extend(paragraph.iter().map(|words| (*words).to_owned()));
        return;
    }
    let first = paragraph.first().copied().unwrap_or_default();
    let lead = match item(first) {
        0 => first.len() - first.trim_start().len(),
        n => n,
    };
    let (lead, rest) = first.split_at(lead);
    let mut line = lead.to_owned();
    let mut empty = true;
    for word in std::iter::once(&rest)
        .chain(paragraph.iter().skip(1))
        .flat_map(|words| words.split_whitespace())
    {
        if !empty && width(&line) + 1 + word.chars().count() > COLUMNS {
            out.push(std::mem::replace(&mut line, " ".repeat(lead.chars().count())));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A function would grow until nobody reads it to its end; or one that is short be refused.
    #[test]
    fn functions_that_are_too_long() {
        let body = "    step();\n".repeat(FUNCTION - 1);
        let text = format!(
            "trait T {{\n    fn declared(&self);\n}}\ntype F = fn(u8);\nstruct S {{\n{}}}\nimpl T for S {{\n// A comment.\nfn \
             long(\n    f: fn(u8),\n) -> [u8; 2] {{\n{body}}}\n}}\nfn short() {{\n{}}}\n",
            "    f: u8,\n".repeat(FUNCTION),
            &body["    step();\n".len()..],
        );
        let found = long_functions(text.parse().unwrap());
        let name = "long".to_owned();
        let line = text.lines().position(|line| line.starts_with("fn long")).unwrap() + 1;
        let lines = FUNCTION + 3;
        assert_eq!(found, [Long { name, line, lines }]);
    }

    /// A table, code or a drawing would be run together; or words would be lost.
    #[test]
    fn only_paragraphs_are_wrapped() {
        let long = "word ".repeat(30);
        let long = long.trim();
        let text = format!(
            "    /// {long}\n    /// more.\n    ///\n    /// - {long}\n    ///   more\n    /// | {long} |\n    /// ```\n    /// {long}\n    /// ```\n\
             //! a    {long}\nlet x = \"// {long}\"; // {long}\n"
        );
        let once = wrapped(&text);
        let comments = once
            .lines()
            .filter(|line| line.trim_start().starts_with("///") && !line.contains('|'));
        let mut widths: Vec<_> = comments.map(|line| line.len()).collect();
        widths.sort_unstable();
        assert!(
            widths.iter().filter(|width| **width > COLUMNS).count() == 1,
            "the code alone: {once}"
        );
        let words = |text: &str| {
            text.split(|c: char| !c.is_alphanumeric())
                .filter(|w| !w.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(&once), words(&text));
        assert!(
            once.contains("\n    ///   word") && once.contains(&format!("//! a    {long}")),
            "{once}"
        );
        assert_eq!(wrapped(&once), once);
        assert_eq!(wrapped("/// short\n/// lines\n"), "/// short\n/// lines\n");
    }
}
