//! The text of an edge.toml: values of TOML, rules, zones and pools as the rooms of the daemon read
//! them. What an importer has made of another server's configuration is written here.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Note;

/// A key and its value, as TOML.
pub(super) type Entry = (String, String);

/// Conditions of a rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct When {
    /// As a rule writes them; one must fit.
    pub(super) paths: Vec<String>,
    pub(super) hosts: Vec<String>,
    pub(super) methods: Vec<String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) cookies: BTreeMap<String, String>,
    pub(super) query: BTreeMap<String, String>,
    pub(super) networks: Vec<String>,
    pub(super) secure: Option<bool>,
    pub(super) certificate: Option<bool>,
    pub(super) not: Option<Box<Self>>,
}

impl When {
    /// Both conditions at once; `None`: a rule cannot say that.
    pub(super) fn and(&self, other: &Self) -> Option<Self> {
        fn list(a: &[String], b: &[String]) -> Option<Vec<String>> {
            match (a, b) {
                (some, []) | ([], some) => Some(some.to_vec()),
                (a, b) => (a == b).then(|| a.to_vec()),
            }
        }
        fn named(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
            let mut both = a.clone();
            for (name, value) in b {
                if both
                    .insert(name.clone(), value.clone())
                    .is_some_and(|other| other != *value)
                {
                    return None;
                }
            }
            Some(both)
        }
        fn one(a: Option<bool>, b: Option<bool>) -> Option<Option<bool>> {
            match (a, b) {
                (Some(a), Some(b)) if a != b => None,
                (a, b) => Some(a.or(b)),
            }
        }
        let not = match (&self.not, &other.not) {
            (some, None) | (None, some) => some.clone(),
            (a, b) => Some(a.clone().filter(|_| a == b)?),
        };
        Some(Self {
            paths: list(&self.paths, &other.paths)?,
            hosts: list(&self.hosts, &other.hosts)?,
            methods: list(&self.methods, &other.methods)?,
            headers: named(&self.headers, &other.headers)?,
            cookies: named(&self.cookies, &other.cookies)?,
            query: named(&self.query, &other.query)?,
            networks: list(&self.networks, &other.networks)?,
            secure: one(self.secure, other.secure)?,
            certificate: one(self.certificate, other.certificate)?,
            not,
        })
    }

    /// The opposite, of a condition that has no `not` of its own.
    pub(super) fn negated(self) -> Self {
        Self {
            not: Some(Box::new(self)),
            ..Self::default()
        }
    }

    /// As an inline table; `None` if every request fits.
    fn toml(&self) -> Option<String> {
        let mut parts = Vec::new();
        let lists = [
            ("paths", &self.paths),
            ("hosts", &self.hosts),
            ("methods", &self.methods),
            ("networks", &self.networks),
        ];
        for (name, values) in lists {
            if !values.is_empty() {
                parts.push(format!("{name} = {}", list(values)));
            }
        }
        let tables = [
            ("headers", &self.headers),
            ("cookies", &self.cookies),
            ("query", &self.query),
        ];
        for (name, values) in tables {
            if !values.is_empty() {
                parts.push(format!("{name} = {}", table(values)));
            }
        }
        for (name, value) in [("secure", self.secure), ("certificate", self.certificate)] {
            if let Some(value) = value {
                parts.push(format!("{name} = {value}"));
            }
        }
        if let Some(not) = self.not.as_ref().and_then(|not| not.toml()) {
            parts.push(format!("not = {not}"));
        }
        (!parts.is_empty()).then(|| format!("{{ {} }}", parts.join(", ")))
    }
}

/// A rule of a zone.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    /// What it was made of: notes with this number stand in front of it.
    pub(super) owner: usize,
    pub(super) name: String,
    pub(super) when: When,
    /// Its actions, as TOML.
    pub(super) act: Vec<Entry>,
    pub(super) last: bool,
}

/// A route of a zone to files.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Route {
    pub(super) path: String,
    pub(super) directory: String,
}

/// A zone.
#[derive(Clone, Debug, Default)]
pub(super) struct Zone {
    /// What it was made of.
    pub(super) owners: Vec<usize>,
    pub(super) name: String,
    pub(super) keys: Vec<Entry>,
    /// Tables with one set of keys: `requests`, `cache`, `coding`.
    pub(super) tables: Vec<(String, Vec<Entry>)>,
    /// `[[zone.gate.rule]]`
    pub(super) limits: Vec<Vec<Entry>>,
    pub(super) routes: Vec<Route>,
    pub(super) rules: Vec<Rule>,
    /// `[[zone.error_page]]`
    pub(super) pages: Vec<Vec<Entry>>,
    /// `[zone.origin]`
    pub(super) origin: Vec<Entry>,
    /// What else it was made of: told of after the rules, if no rule stands for it.
    pub(super) after: Vec<usize>,
}

/// A pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    /// What it was made of.
    pub(super) owner: Option<usize>,
    pub(super) name: String,
    pub(super) servers: Vec<String>,
    pub(super) keys: Vec<Entry>,
    /// `[origin.passive]`
    pub(super) passive: Vec<Entry>,
}

/// A whole file.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    /// Comments at the top.
    pub(super) head: String,
    /// `[server]` and the like.
    pub(super) tables: Vec<(String, Vec<Entry>)>,
    pub(super) pools: Vec<Pool>,
    pub(super) zones: Vec<Zone>,
}

/// A string of TOML on one line: a literal one if that is easier to read, else a basic one, in
/// which `${NAME}` would be a variable of the environment.
pub(super) fn quoted(text: &str) -> String {
    if text.contains(['\\', '"']) && !text.contains('\'') && !text.chars().any(char::is_control) {
        return format!("'{text}'");
    }
    let mut quoted = String::from("\"");
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            '$' if rest.peek() == Some(&'{') => {
                let mut ahead = rest.clone();
                ahead.next();
                let template = ahead
                    .peek()
                    .is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
                quoted.push_str(if template { "$" } else { "$$" });
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A list of strings.
pub(super) fn list(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

/// An inline table of strings.
pub(super) fn table(pairs: &BTreeMap<String, String>) -> String {
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, value)| format!("{} = {}", key(name), quoted(value)))
        .collect();
    format!("{{ {} }}", pairs.join(", "))
}

/// A key of TOML.
fn key(name: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match !name.is_empty() && name.bytes().all(bare) {
        true => name.to_owned(),
        false => quoted(name),
    }
}

/// A comment, one line for each of `text`'s.
fn comment(text: &str, out: &mut String) {
    for line in text.lines() {
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        out.push_str(format!("# {line}").trim_end());
        out.push('\n');
    }
}

fn entries(entries: &[Entry], out: &mut String) {
    for (key, value) in entries {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{key} = {value}");
    }
}

/// Writes a file, each note in front of what its directive belongs to: once, where it comes first.
pub(super) struct Writer<'n> {
    /// By the block that they belong to.
    notes: BTreeMap<usize, Vec<&'n Note>>,
    out: String,
}

impl<'n> Writer<'n> {
    /// `notes` with the block that each belongs to.
    pub(super) fn new(notes: impl Iterator<Item = (usize, &'n Note)>) -> Self {
        let mut by_owner: BTreeMap<usize, Vec<&'n Note>> = BTreeMap::new();
        for (owner, note) in notes {
            by_owner.entry(owner).or_default().push(note);
        }
        Self {
            notes: by_owner,
            out: String::new(),
        }
    }

    /// The text of `file`; notes that belong to nothing that is written stand at the top.
    pub(super) fn file(mut self, file: &File) -> String {
        for (name, keys) in &file.tables {
            if !keys.is_empty() {
                let _ = writeln!(self.out, "\n[{name}]");
                entries(keys, &mut self.out);
            }
        }
        for pool in &file.pools {
            self.pool(pool);
        }
        for zone in &file.zones {
            self.zone(zone);
        }
        let mut text = String::new();
        comment(&file.head, &mut text);
        let body = std::mem::take(&mut self.out);
        let left: Vec<usize> = self.notes.keys().copied().collect();
        for owner in left {
            self.tell(owner);
        }
        text + &self.out + &body
    }

    fn tell(&mut self, owner: usize) {
        for note in self.notes.remove(&owner).unwrap_or_default() {
            comment(&note.to_string(), &mut self.out);
        }
    }

    fn pool(&mut self, pool: &Pool) {
        self.out.push('\n');
        if let Some(owner) = pool.owner {
            self.tell(owner);
        }
        let _ = writeln!(self.out, "[[origin]]\nname = {}", quoted(&pool.name));
        match pool.servers.as_slice() {
            [server] => drop(writeln!(self.out, "servers = [{server}]")),
            servers => drop(writeln!(self.out, "servers = [\n    {},\n]", servers.join(",\n    "))),
        }
        entries(&pool.keys, &mut self.out);
        if !pool.passive.is_empty() {
            self.out.push_str("[origin.passive]\n");
            entries(&pool.passive, &mut self.out);
        }
    }

    fn zone(&mut self, zone: &Zone) {
        self.out.push('\n');
        for owner in &zone.owners {
            self.tell(*owner);
        }
        let _ = writeln!(self.out, "[[zone]]\nname = {}", quoted(&zone.name));
        entries(&zone.keys, &mut self.out);
        for (name, keys) in &zone.tables {
            let _ = writeln!(self.out, "[zone.{name}]");
            entries(keys, &mut self.out);
        }
        for limit in &zone.limits {
            self.out.push_str("[[zone.gate.rule]]\n");
            entries(limit, &mut self.out);
        }
        for route in &zone.routes {
            let (path, directory) = (quoted(&route.path), quoted(&route.directory));
            let _ = writeln!(
                self.out,
                "[[zone.route]]\npath = {path}\nto = \"files\"\ndirectory = {directory}"
            );
        }
        for rule in &zone.rules {
            self.tell(rule.owner);
            let _ = writeln!(self.out, "[[zone.rule]]\nname = {}", quoted(&rule.name));
            if let Some(when) = rule.when.toml() {
                let _ = writeln!(self.out, "match = {when}");
            }
            entries(&rule.act, &mut self.out);
            if rule.last {
                self.out.push_str("last = true\n");
            }
        }
        for owner in &zone.after {
            self.tell(*owner);
        }
        for page in &zone.pages {
            self.out.push_str("[[zone.error_page]]\n");
            entries(page, &mut self.out);
        }
        if !zone.origin.is_empty() {
            self.out.push_str("[zone.origin]\n");
            entries(&zone.origin, &mut self.out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value would become another one, or a line of the file something else than a value.
    #[test]
    fn strings_come_back_as_they_were() {
        for text in [
            "plain",
            "a\"b",
            "\\.php$",
            "it's \\ \"",
            "a\nb\tc\u{7f}",
            "${client}",
            "a ${1}",
            "é",
            "",
            "'''",
            "\"\"\"",
        ] {
            let read: toml::Table = format!("a = {}", quoted(text)).parse().unwrap();
            assert_eq!(read["a"].as_str().unwrap(), text);
            assert_eq!(quoted(text).lines().count(), 1, "{text}");
        }
        assert_eq!(quoted("${HOME}"), "\"$${HOME}\"");
        let read: toml::Table = format!("a = {}", table(&[("x y\"".to_owned(), "z".to_owned())].into()))
            .parse()
            .unwrap();
        assert_eq!(read["a"]["x y\""].as_str().unwrap(), "z");
    }

    /// A comment would end at a line's end, and what follows be read as keys.
    #[test]
    fn comments_stay_comments() {
        let mut out = String::new();
        comment("a\nb = 1\rc\u{85}d\n", &mut out);
        assert!(out.lines().all(|line| line.starts_with('#')), "{out}");
        assert!(out.parse::<toml::Table>().unwrap().is_empty());
    }

    /// A rule would apply where one of its two conditions holds.
    #[test]
    fn both_conditions_or_none() {
        let paths = |path: &str| When {
            paths: vec![path.to_owned()],
            ..When::default()
        };
        let secure = When {
            secure: Some(true),
            ..When::default()
        };
        let both = paths("/a").and(&secure).unwrap();
        assert_eq!(both.toml().unwrap(), "{ paths = [\"/a\"], secure = true }");
        assert!(paths("/a").and(&paths("/b")).is_none());
        assert!(paths("/a").negated().and(&secure.clone().negated()).is_none());
        assert_eq!(
            secure.and(&secure.clone().negated()).unwrap().toml().unwrap(),
            "{ secure = true, not = { secure = true } }"
        );
        assert!(When::default().toml().is_none());
    }
}
