//! Which rules may apply to a path, found without asking each: a hash for paths that are written
//! out, a sorted list for prefixes, one automaton for all globs and expressions of a zone.

use std::collections::HashMap;

use regex::{RegexSet, RegexSetBuilder};

use super::Rule;
use super::pattern::Pattern;

/// Bytes of all expressions of a zone in compiled form, and of the states that matching keeps for
/// each thread.
const COMPILED: usize = 64 << 20;
const STATES: usize = 8 << 20;

/// The rules of a zone by their paths. Cost of a look-up: one hash, one binary search in the
/// prefixes, one pass of the automaton over the path; it does not grow with the number of rules but
/// for the logarithm.
#[derive(Clone, Debug, Default)]
pub struct Index {
    exact: HashMap<Box<str>, Vec<u32>>,
    /// Sorted by their text.
    prefixes: Vec<Prefix>,
    expressions: Option<RegexSet>,
    /// The rule of each expression.
    of_expressions: Vec<u32>,
    /// Rules for all paths.
    always: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Prefix {
    text: Box<str>,
    /// The longest other prefix of which this one is a continuation.
    parent: Option<u32>,
    rules: Vec<u32>,
}

/// All expressions of a zone together are larger than the bound.
#[derive(Debug)]
pub struct TooLarge;

impl Index {
    /// The index of `rules`, which are named by their places in it.
    ///
    /// # Errors
    /// They are too large together.
    pub fn new(rules: &[Rule]) -> Result<Self, TooLarge> {
        let mut this = Self::default();
        let mut prefixes: HashMap<&str, Vec<u32>> = HashMap::new();
        let mut expressions = Vec::new();
        for (number, rule) in (0u32..).zip(rules) {
            if rule.when.paths.is_empty() {
                this.always.push(number);
            }
            for pattern in &rule.when.paths {
                match pattern {
                    Pattern::Exact(path) => this.exact.entry(path.clone()).or_default().push(number),
                    Pattern::Prefix(prefix) => prefixes.entry(prefix).or_default().push(number),
                    Pattern::Glob(glob) => {
                        let literals: Vec<String> = glob.split('*').map(regex::escape).collect();
                        expressions.push(format!("(?s)\\A{}\\z", literals.join(".*")));
                        this.of_expressions.push(number);
                    }
                    Pattern::Regex(regex) => {
                        expressions.push(regex.as_str().to_owned());
                        this.of_expressions.push(number);
                    }
                }
            }
        }
        let mut sorted: Vec<_> = prefixes.into_iter().collect();
        sorted.sort_unstable_by_key(|(text, _)| *text);
        for (text, rules) in sorted {
            let parent = this.longest(text);
            let text = text.into();
            this.prefixes.push(Prefix { text, parent, rules });
        }
        if !expressions.is_empty() {
            let set = RegexSetBuilder::new(&expressions)
                .size_limit(COMPILED)
                .dfa_size_limit(STATES)
                .build();
            this.expressions = Some(set.map_err(|_| TooLarge)?);
        }
        Ok(this)
    }

    /// The place of the longest prefix of `path`. Whatever is a prefix of `path` is one of its
    /// predecessor in the order, too: so it is found on the way up from there.
    fn longest(&self, path: &str) -> Option<u32> {
        let after = self.prefixes.partition_point(|prefix| *prefix.text <= *path);
        let mut at = u32::try_from(after.checked_sub(1)?).ok();
        while let Some(place) = at {
            let prefix = self.prefixes.get(place as usize)?;
            if path.starts_with(&*prefix.text) {
                break;
            }
            at = prefix.parent;
        }
        at
    }

    /// The numbers of the rules whose paths fit `path`, ascending, each once, added to `found`.
    pub fn candidates(&self, path: &str, found: &mut Vec<u32>) {
        found.extend_from_slice(&self.always);
        if let Some(rules) = self.exact.get(path) {
            found.extend_from_slice(rules);
        }
        let mut at = self.longest(path);
        while let Some(prefix) = at.and_then(|place| self.prefixes.get(place as usize)) {
            found.extend_from_slice(&prefix.rules);
            at = prefix.parent;
        }
        if let Some(expressions) = &self.expressions {
            let hits = expressions.matches(path);
            found.extend(hits.iter().filter_map(|hit| self.of_expressions.get(hit)));
        }
        found.sort_unstable();
        found.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rule::{Act, When};

    fn rule(paths: &[&str]) -> Rule {
        Rule {
            name: "r".into(),
            when: When {
                paths: paths.iter().map(|path| Pattern::path(path).unwrap()).collect(),
                ..When::default()
            },
            not: None,
            act: Act::default(),
            last: false,
        }
    }

    /// The index is a shortcut: a rule that it forgets is a redirect or a guard that silently does
    /// nothing.
    #[test]
    fn the_index_finds_what_asking_each_rule_finds() {
        let written = [
            "/",
            "/a",
            "/a/",
            "/a/b",
            "/ab",
            "/b/",
            "=/a/b",
            "=/",
            "*.php",
            "/a*c",
            "~^/a/[0-9]+$",
            "~b",
            "/a/b/c/",
        ];
        let mut rules: Vec<Rule> = written.iter().map(|path| rule(&[path])).collect();
        rules.push(rule(&[]));
        rules.push(rule(&["/a/", "=/a/b", "~^/a"]));
        let index = Index::new(&rules).unwrap();
        for path in [
            "/", "/a", "/ab", "/a/b", "/a/b/c/d", "/a/12", "/x.php", "/abc", "/b", "/b/", "*", "/é",
        ] {
            let expected: Vec<u32> = (0u32..)
                .zip(&rules)
                .filter(|(_, rule)| rule.when.paths.is_empty() || rule.when.paths.iter().any(|p| p.matches(path)))
                .map(|(number, _)| number)
                .collect();
            let mut found = Vec::new();
            index.candidates(path, &mut found);
            assert_eq!(found, expected, "{path}");
        }
    }
}
