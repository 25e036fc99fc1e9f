//! `[fleet]`: which fleet a node belongs to, whom it trusts, and how it reaches the engine. The zones come from the fleet's
//! manifest then: [`Release`] joins its files to the node's own.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::mistake::{Included, Mistake, Source};
use super::text::{self, Text};
use super::value::{Size, Time};
use super::{Mistakes, Place};

/// Sections that are always the node's own, whatever a manifest's files say.
const OWN: &[&str] = &["server", "dataplane", "admin", "log", "fleet"];
/// The configuration in a manifest.
const FILE: &str = "edge.toml";

/// The raw form.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    name: Spanned<String>,
    node: Spanned<String>,
    engine: Spanned<Vec<String>>,
    keys: Spanned<Vec<String>>,
    #[serde(default = "one")]
    threshold: Spanned<usize>,
    #[serde(default = "directory")]
    directory: Spanned<PathBuf>,
    user: Option<Spanned<String>>,
    password: Option<Spanned<PathBuf>>,
    ca: Option<Spanned<PathBuf>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
    #[serde(default = "most")]
    most: Spanned<Size>,
    #[serde(default = "one_server")]
    replicas: Spanned<u8>,
    #[serde(default = "wait")]
    wait: Spanned<Time>,
}

fn one() -> Spanned<usize> {
    Spanned::new(0..0, 1)
}

fn one_server() -> Spanned<u8> {
    Spanned::new(0..0, 1)
}

fn directory() -> Spanned<PathBuf> {
    Spanned::new(0..0, PathBuf::from("/var/lib/edge/fleet"))
}

fn most() -> Spanned<Size> {
    Spanned::new(0..0, Size(1 << 30))
}

fn wait() -> Spanned<Time> {
    Spanned::new(0..0, Time(Duration::from_secs(2)))
}

/// The checked form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// The fleet's name: 1 to 64 of a-z, 0-9 and `-`.
    pub name: String,
    /// This node's name, alike.
    pub node: String,
    /// Servers of the engine, at least one.
    pub engine: Vec<EngineAddress>,
    /// Deploy keys as text, at least one.
    pub keys: Vec<String>,
    /// Where the keys are written.
    pub keys_place: Place,
    /// How many of them must have signed.
    pub threshold: usize,
    /// Manifests, the journal and this node's key.
    pub directory: PathBuf,
    /// Where it is named.
    pub directory_place: Place,
    /// The user at the engine, and the file with the password.
    pub login: Option<(String, PathBuf)>,
    /// Authorities of the engine's certificates instead of the system's.
    pub ca: Option<PathBuf>,
    /// What this node shows to the engine: certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Bytes of a manifest's files at most.
    pub most: u64,
    /// Servers that keep each stream.
    pub replicas: u8,
    /// How long a start waits to hear what was purged meanwhile.
    pub wait: Duration,
}

/// Where a server of the engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineAddress {
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// By TLS.
    pub tls: bool,
}

impl std::str::FromStr for EngineAddress {
    type Err = (String, &'static str);

    /// `tls://HOST:PORT`, or `nats://` for addresses of this machine; without a port 4222.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            (
                format!("\"{text}\" is not a server's address"),
                "write tls://nats.example:4222",
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let tls = match scheme {
            "tls" => true,
            "nats" => false,
            _ => return Err(wrong()),
        };
        let authority: http::uri::Authority = rest.parse().map_err(|_| wrong())?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() || rest.contains('@') {
            return Err(wrong());
        }
        let here = host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        if !tls && !here {
            let mend = "write tls://; passwords and what is not sealed would cross the network in the clear";
            return Err((format!("\"{text}\" is another machine, and is not encrypted"), mend));
        }
        let port = match authority.port() {
            None if rest.ends_with(':') => return Err(wrong()),
            None => 4_222,
            Some(port) => port.as_str().parse().map_err(|_| wrong())?,
        };
        Ok(Self { host, port, tls })
    }
}

fn is_name(name: &str) -> bool {
    let sound = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(sound)
}

/// `[fleet]`, and what is wrong with it.
pub(super) fn check(raw: &Raw, source: &Source<'_>) -> (Fleet, Vec<Mistake>) {
    let mut mistakes = Vec::new();
    let mut wrong = |span: Range<usize>, what: String, mend: &str| {
        mistakes.push(source.place(span).mistake(what, mend));
    };
    for name in [&raw.name, &raw.node] {
        if !is_name(name.get_ref()) {
            let what = format!("\"{}\" is not a name", name.get_ref());
            wrong(name.span(), what, "write 1 to 64 of a-z, 0-9 and -");
        }
    }
    let mut engine = Vec::new();
    for text in raw.engine.get_ref() {
        match text.parse() {
            Ok(address) => engine.push(address),
            Err((what, mend)) => wrong(raw.engine.span(), what, mend),
        }
    }
    if raw.engine.get_ref().is_empty() {
        wrong(
            raw.engine.span(),
            "no server".to_owned(),
            "write [\"tls://nats.example:4222\"]",
        );
    }
    let keys: std::collections::BTreeSet<&String> = raw.keys.get_ref().iter().collect();
    for key in &keys {
        if !key.starts_with("ed25519:") || key.len() != 52 {
            let what = format!("\"{key}\" is not a public key");
            wrong(
                raw.keys.span(),
                what,
                "write what `edge fleet keys` printed: ed25519:...",
            );
        }
    }
    let threshold = *raw.threshold.get_ref();
    if keys.is_empty() {
        wrong(
            raw.keys.span(),
            "no key".to_owned(),
            "write what `edge fleet keys` printed",
        );
    } else if threshold == 0 || threshold > keys.len() {
        let what = format!("{threshold} of {} keys cannot sign", keys.len());
        wrong(raw.threshold.span(), what, "write 1, or as many as must sign together");
    }
    let login = match (&raw.user, &raw.password) {
        (Some(user), Some(password)) => Some((user.get_ref().clone(), source.path(password))),
        (None, None) => None,
        (Some(alone), None) => {
            wrong(
                alone.span(),
                "a user without a password".to_owned(),
                "write password = \"FILE\", too",
            );
            None
        }
        (None, Some(alone)) => {
            wrong(
                alone.span(),
                "a password without a user".to_owned(),
                "write user = \"NAME\", too",
            );
            None
        }
    };
    let identity = match (&raw.certificate, &raw.key) {
        (Some(certificate), Some(key)) => Some((source.path(certificate), source.path(key))),
        (None, None) => None,
        (Some(alone), None) | (None, Some(alone)) => {
            let what = "a certificate and its key come together".to_owned();
            wrong(alone.span(), what, "write both, or neither");
            None
        }
    };
    let most = raw.most.get_ref().0;
    if !(1 << 20..=1 << 40).contains(&most) {
        wrong(raw.most.span(), "out of bounds".to_owned(), "write 1MiB to 1024GiB");
    }
    if !(1..=5).contains(raw.replicas.get_ref()) {
        wrong(
            raw.replicas.span(),
            "out of bounds".to_owned(),
            "write 1 to 5; 3 for three servers",
        );
    }
    let wait = raw.wait.get_ref().0;
    if wait > Duration::from_secs(30) {
        wrong(raw.wait.span(), "out of bounds".to_owned(), "write 0s to 30s");
    }
    let fleet = Fleet {
        name: raw.name.get_ref().clone(),
        node: raw.node.get_ref().clone(),
        engine,
        keys: keys.into_iter().cloned().collect(),
        keys_place: source.place(raw.keys.span()),
        threshold,
        directory: source.path(&raw.directory),
        directory_place: source.place(raw.directory.span()),
        login,
        ca: raw.ca.as_ref().map(|path| source.path(path)),
        identity,
        most,
        replicas: *raw.replicas.get_ref(),
        wait,
    };
    (fleet, mistakes)
}

/// What of a node's own file says where its manifests are.
#[derive(Deserialize)]
struct Outline {
    #[serde(default)]
    fleet: Option<OutlineOfFleet>,
    #[serde(flatten)]
    sections: std::collections::BTreeMap<String, toml::Value>,
}

#[derive(Deserialize)]
struct OutlineOfFleet {
    #[serde(default)]
    directory: Option<PathBuf>,
}

/// Which of a node's manifests its configuration is read with.
#[derive(Clone, Copy, Debug)]
pub enum Release<'a> {
    /// The one in force, if there is one.
    Current,
    /// The files in this directory.
    Tree(&'a Path),
}

/// Adds a manifest's files to the node's own, if the node is in a fleet. The node's own sections stay; of the others that both
/// have, too.
///
/// # Errors
/// As [`text::all`], of the manifest's files.
pub(super) fn join(file: &Path, own: Text, release: Release<'_>) -> Result<Text, Mistakes> {
    // What cannot be read is told with its place by who reads all of it.
    let Ok(outline) = toml::from_str::<Outline>(&own.text) else {
        return Ok(own);
    };
    let Some(fleet) = outline.fleet else { return Ok(own) };
    let path = match release {
        Release::Tree(tree) => tree.join(FILE),
        Release::Current => {
            let directory = fleet.directory.unwrap_or_else(|| directory().into_inner());
            let directory = file
                .parent()
                .map_or(directory.clone(), |parent| parent.join(&directory));
            // The release itself, not the link to it: what it names stays what it is when the link moves on.
            match std::fs::canonicalize(directory.join("current").join("tree")) {
                Ok(tree) => tree.join(FILE),
                Err(_) => return Ok(own),
            }
        }
    };
    let mut more = text::all(&path, "edge fleet deploy")?;
    let kept = |section: &str| !OWN.contains(&section) && !outline.sections.contains_key(section);
    let many = |section: &str| ["zone", "key_server", "far_end"].contains(&section);
    let first = more.included.first().map_or(more.text.len(), |included| included.start);
    blank(&mut more.text, first, |section| many(section) || kept(section));
    let Text { mut text, mut included } = own;
    text.push('\n');
    let start = text.len();
    included.push(Included { file: path, start });
    included.extend(more.included.into_iter().map(|included| Included {
        start: included.start + start,
        ..included
    }));
    text.push_str(&more.text);
    Ok(Text { text, included })
}

/// Blanks out the sections of the first `end` bytes that `keep` does not name, and what stands before all sections. Lines and
/// offsets stay.
fn blank(text: &mut String, end: usize, keep: impl Fn(&str) -> bool) {
    let part = text.get(..end).unwrap_or_default();
    let mut gone = Vec::new();
    let mut start = (0, false);
    for (at, section) in text::headers(part) {
        if !start.1 {
            gone.push(start.0..at);
        }
        start = (at, keep(section));
    }
    if !start.1 {
        gone.push(start.0..part.len());
    }
    let mut bytes = std::mem::take(text).into_bytes();
    for range in gone {
        for byte in bytes.get_mut(range).unwrap_or_default() {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    // Whole characters were replaced by spaces: it is text still.
    *text = String::from_utf8_lossy(&bytes).into_owned();
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const KEY: &str = "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    fn own(more: &str) -> String {
        format!(
            "[server]\nplain = [\"127.0.0.1:8080\"]\n[fleet]\nname = \"shop\"\nnode = \"a\"\nengine = [\"nats://127.0.0.1\"]\n\
             keys = [\"{KEY}\"]\ndirectory = \"state\"\n{more}"
        )
    }

    const DEPLOYED: &str = "include = [\"zones.d/*.toml\"]\n[server]\nplain = [\"127.0.0.1:9999\"]\nworkers = 3\n\
        [limits]\nheader_count = 77\n[cache]\nmemory = \"99MiB\"\n[[zone]]\nname = \"one\"\nhosts = [\"one.example\"]\n\
        [zone.origin]\nservers = [\n  { address = \"http://127.0.0.1:1\" },\n]\n[zone.requests]\n";

    fn zone(name: &str) -> String {
        format!("[[zone]]\nname = \"{name}\"\nhosts = [\"{name}\"]\n[zone.origin]\ndirectory = \"www\"\n")
    }

    /// A deployment would move a node's listeners, or a node would serve nothing of it.
    #[test]
    fn a_manifest_brings_zones_and_leaves_the_node_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("edge.toml");
        std::fs::write(&file, own("[cache]\nmemory = \"64MiB\"\n")).unwrap();
        let config = Config::read(&file).unwrap();
        assert!(
            config.zones.is_empty(),
            "a node of a fleet starts before it has a manifest"
        );
        let tree = directory.path().join("state/releases/7/tree");
        std::fs::create_dir_all(tree.join("zones.d")).unwrap();
        std::fs::create_dir_all(tree.join("zones.d/www")).unwrap();
        std::fs::write(tree.join("edge.toml"), DEPLOYED.replace("[zone.requests]\n", "")).unwrap();
        std::fs::write(tree.join("zones.d/two.toml"), zone("two")).unwrap();
        std::os::unix::fs::symlink("releases/7", directory.path().join("state/current")).unwrap();
        let config = Config::read(&file).unwrap();
        let names: Vec<_> = config.zones.iter().map(|zone| &*zone.name).collect();
        assert_eq!(names, ["one", "two"]);
        assert_eq!(config.server.plain, ["127.0.0.1:8080".parse().unwrap()]);
        assert_eq!((config.limits.header_count, config.cache.memory), (77, 64 << 20));
        assert!(config.faults.is_empty(), "{:?}", config.faults);
        // A mistake is told where it is written.
        std::fs::write(tree.join("zones.d/two.toml"), zone("two").replace("www", "none")).unwrap();
        let config = Config::read_with(&file, Release::Tree(&tree)).unwrap();
        let told = format!("{:?}", config.faults);
        assert!(told.contains("zones.d/two.toml") && told.contains("line: 5"), "{told}");
        std::fs::write(
            tree.join("edge.toml"),
            DEPLOYED.replace("header_count = 77", "header_count = 1"),
        )
        .unwrap();
        let told = Config::read(&file).unwrap_err().to_string();
        assert!(told.contains("tree/edge.toml:6: limits.header_count"), "{told}");
    }

    /// Half a section would be left, or a string taken for one.
    #[test]
    fn sections_are_found_wherever_brackets_stand() {
        let text = "x = 1\n[a]\nb = [\n  [1, 2],\n[3],\n]\nc = \"\"\"\n[server]\n\"\"\" # [log]\n d = '[x'\n [ \"server\" . x ]\ny = 2\n\
                    [[zone]]\nz = { a = \"}\" }\n[zone.origin]\n";
        let found: Vec<_> = text::headers(text).into_iter().map(|(_, root)| root).collect();
        assert_eq!(found, ["a", "server", "zone", "zone"]);
        let mut blanked = text.to_owned();
        let end = blanked.len();
        blank(&mut blanked, end, |section| section != "server");
        assert_eq!(blanked.len(), text.len());
        assert!(!blanked.contains("x = 1") && !blanked.contains("y = 2") && blanked.contains("[3],"));
    }

    /// A password would cross the network in the clear, or a fleet have no key that could sign.
    #[test]
    fn mistakes() {
        let told = |from: &str, to: &str| {
            let text = own("").replacen(from, to, 1);
            Config::parse(Path::new("edge.toml"), &text).unwrap_err().to_string()
        };
        for (from, to, words) in [
            ("nats://127.0.0.1", "nats://192.0.2.1", "not encrypted"),
            ("nats://127.0.0.1", "http://127.0.0.1", "is not a server's address"),
            ("nats://127.0.0.1", "tls://user:pass@h", "is not a server's address"),
            ("node = \"a\"", "node = \"A b\"", "is not a name"),
            (KEY, "ed25519:AAAA", "is not a public key"),
            ("node = \"a\"", "node = \"a\"\nthreshold = 2", "2 of 1 keys"),
            ("node = \"a\"", "node = \"a\"\nuser = \"u\"", "without a password"),
            ("node = \"a\"", "node = \"a\"\ncertificate = \"c\"", "come together"),
            ("node = \"a\"", "node = \"a\"\nmost = \"1KiB\"", "out of bounds"),
        ] {
            let told = told(from, to);
            assert!(told.contains(words) && told.contains("fleet."), "{to}: {told}");
        }
        let address: EngineAddress = "tls://[2001:db8::1]:9".parse().unwrap();
        assert_eq!(
            (address.host.as_str(), address.port, address.tls),
            ("2001:db8::1", 9, true)
        );
    }
}
