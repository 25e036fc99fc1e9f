//! `[fleet]`: which fleet a node belongs to, whom it trusts, and how it reaches the engine. The
//! zones come from the fleet's manifest then: [`Release`] joins its files to the node's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::checker::Checker;
use super::kind::{Bytes, Count, Directory, File, Flag, List, Maybe, Must, Span, Text};
use super::mistake::Included;
use super::section::section;
use super::text;
use super::value::{Size, seconds};
use super::{Mistakes, Place};

/// Sections that are always the node's own, whatever a manifest's files say.
const OWN: &[&str] = &["server", "dataplane", "admin", "log", "fleet"];
/// The configuration in a manifest.
const FILE: &str = "edge.toml";

section! {
    /// What `[fleet]` says, key by key.
    FleetText => FleetKeys {
        /// The fleet's name: 1 to 64 of a-z, 0-9 and -.
        fixed name: Must<Text> = None; like "shop";
        /// This node's name, alike.
        fixed node: Must<Text> = None; like "a";
        /// Servers of the engine. nats:// only to this machine: without TLS passwords would cross
        /// the network in the clear.
        fixed engine: Must<List<Text>> = None; like ["tls://nats1.example:4222", "tls://nats2.example:4222"];
        /// Deploy keys (`edge fleet keys`).
        fixed keys: Must<List<Text>> = None; like ["ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="];
        /// How many of them must have signed a manifest.
        fixed threshold: Count<usize> = 1;
        /// Manifests, what was heard, and this node's key (node.key, made by `edge fleet join`).
        fixed directory: File = PathBuf::from(DIRECTORY);
        /// Who this node is to the engine: a user with a password in a file, a certificate with its
        /// key (PEM), or both.
        fixed user: Maybe<Text> = None; like "a";
        /// The file with the user's password.
        fixed password: Maybe<Directory> = None; like "engine.password";
        /// The certificate that this node shows to the engine.
        fixed certificate: Maybe<Directory> = None; like "engine.pem";
        /// The private key of that.
        fixed key: Maybe<Directory> = None; like "engine.key";
        /// Authorities of the engine's certificates instead of the system's.
        fixed ca: Maybe<Directory> = None; like "engine-ca.pem";
        /// Bytes of a manifest's files at most.
        fixed most: Bytes = Size(1 << 30), Size(1 << 20) => Size(1 << 40);
        /// Servers that keep each stream; 3 if there are three.
        fixed replicas: Count<u8> = 1, 1 => 5;
        /// At a start: how long to hear what was purged meanwhile; after that all that is stored is
        /// void.
        fixed wait: Span = seconds(2), seconds(0) => seconds(30);
        /// Whether nodes share the keys that seal TLS session tickets, so that a client that comes
        /// to another node resumes its session there. Takes one `[gate]` secret on all of them.
        fixed tickets: Flag = true;
    }
}

/// Where a node's manifests are if the file does not say.
const DIRECTORY: &str = "/var/lib/edge/fleet";

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
    /// Keys of session tickets are shared with other nodes.
    pub tickets: bool,
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

/// `[fleet]`.
pub(super) fn fleet(spanned: &Spanned<FleetText>, checker: &mut Checker<'_>) -> Fleet {
    let raw = spanned.get_ref();
    let keys = checker.table(spanned, FleetText::check);
    for (name, written) in [(&keys.name, &raw.name), (&keys.node, &raw.node)] {
        if written.get_ref().is_some() && !is_name(name) {
            let what = format!("\"{name}\" is not a name");
            checker.mistake(written.span(), what, "write 1 to 64 of a-z, 0-9 and -");
        }
    }
    let mut engine = Vec::new();
    for text in &keys.engine {
        match text.parse() {
            Ok(address) => engine.push(address),
            Err((what, mend)) => checker.mistake(raw.engine.span(), what, mend),
        }
    }
    if raw.engine.get_ref().as_ref().is_some_and(Vec::is_empty) {
        checker.mistake(raw.engine.span(), "no server", "write [\"tls://nats.example:4222\"]");
    }
    let signers: std::collections::BTreeSet<&String> = keys.keys.iter().collect();
    for key in &signers {
        if !key.starts_with("ed25519:") || key.len() != 52 {
            let what = format!("\"{key}\" is not a public key");
            checker.mistake(
                raw.keys.span(),
                what,
                "write what `edge fleet keys` printed: ed25519:...",
            );
        }
    }
    if signers.is_empty() {
        checker.mistake(raw.keys.span(), "no key", "write what `edge fleet keys` printed");
    } else if keys.threshold == 0 || keys.threshold > signers.len() {
        let what = format!("{} of {} keys cannot sign", keys.threshold, signers.len());
        let mend = "write 1, or as many as must sign together";
        checker.mistake(raw.threshold.span(), what, mend);
    }
    match (&keys.user, &keys.password) {
        (Some(_), None) => checker.mistake(
            raw.user.span(),
            "a user without a password",
            "write password = \"FILE\", too",
        ),
        (None, Some(_)) => checker.mistake(
            raw.password.span(),
            "a password without a user",
            "write user = \"NAME\", too",
        ),
        _ => {}
    }
    if keys.certificate.is_some() != keys.key.is_some() {
        let alone = if keys.key.is_some() {
            raw.key.span()
        } else {
            raw.certificate.span()
        };
        checker.mistake(
            alone,
            "a certificate and its key come together",
            "write both, or neither",
        );
    }
    Fleet {
        engine,
        keys: signers.into_iter().cloned().collect(),
        keys_place: checker.place(raw.keys.span()),
        name: keys.name,
        node: keys.node,
        threshold: keys.threshold,
        directory: keys.directory.0,
        directory_place: keys.directory.1,
        login: keys.user.zip(keys.password),
        ca: keys.ca,
        identity: keys.certificate.zip(keys.key),
        most: keys.most,
        replicas: keys.replicas,
        wait: keys.wait,
        tickets: keys.tickets,
    }
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

/// Adds a manifest's files to the node's own, if the node is in a fleet. The node's own sections
/// stay; of the others that both have, too.
///
/// # Errors
/// As [`text::all`], of the manifest's files.
pub(super) fn join(
    file: &Path,
    own: text::Text,
    release: Release<'_>,
    tell: text::Tell,
) -> Result<text::Text, Mistakes> {
    // What cannot be read is told with its place by who reads all of it.
    let Ok(outline) = toml::from_str::<Outline>(&own.text) else {
        return Ok(own);
    };
    let Some(fleet) = outline.fleet else { return Ok(own) };
    let path = match release {
        Release::Tree(tree) => tree.join(FILE),
        Release::Current => {
            let directory = fleet.directory.unwrap_or_else(|| PathBuf::from(DIRECTORY));
            let directory = file
                .parent()
                .map_or(directory.clone(), |parent| parent.join(&directory));
            // The release itself, not the link to it: what it names stays what it is when the link
            // moves on.
            match std::fs::canonicalize(directory.join("current").join("tree")) {
                Ok(tree) => tree.join(FILE),
                Err(_) => return Ok(own),
            }
        }
    };
    let mut more = text::all(&path, "edge fleet deploy", tell)?;
    let kept = |section: &str| !OWN.contains(&section) && !outline.sections.contains_key(section);
    let many = |section: &str| ["zone", "key_server", "far_end", "origin"].contains(&section);
    let first = more.included.first().map_or(more.text.len(), |included| included.start);
    blank(&mut more.text, first, |section| many(section) || kept(section));
    let text::Text { mut text, mut included } = own;
    text.push('\n');
    let start = text.len();
    included.push(Included { file: path, start });
    included.extend(more.included.into_iter().map(|included| Included {
        start: included.start + start,
        ..included
    }));
    text.push_str(&more.text);
    Ok(text::Text { text, included })
}

/// Blanks out the sections of the first `end` bytes that `keep` does not name, and what stands
/// before all sections. Lines and offsets stay.
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
