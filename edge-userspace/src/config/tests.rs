//! Every kind of mistake gets file, line, key and mend; the printed defaults are the defaults.

mod mistakes;

use std::path::Path;

use super::file::Raw;
use super::value::{Size, Time};
use super::{Config, Mistake, defaults};

const ZONE: &str = "
[[zone]]
name = \"a\"
hosts = [\"a.example\"]
[zone.origin]
servers = [{ address = \"http://127.0.0.1:8080\" }]
";

const KEY_SERVER: &str = "[[key_server]]
name = \"keys-1\"
address = \"127.0.0.1:9443\"
server_name = \"keys.example\"
ca = \"ca.pem\"
certificate = \"edge.pem\"
key = \"edge.key\"
";

fn mistakes(text: &str) -> Vec<Mistake> {
    match Config::parse(Path::new("dir/edge.toml"), text) {
        Ok(config) => match config.faults.or(()) {
            Ok(()) => panic!("accepted:\n{text}"),
            Err(mistakes) => mistakes.0,
        },
        Err(mistakes) => mistakes.0,
    }
}

/// `edge check --print-defaults` must show what a file without the key means, and every key there
/// is.
#[test]
fn printed_defaults_are_the_defaults() {
    let printed: Raw = toml::from_str(&defaults()).unwrap();
    let zone = "[[zone]]\nname = \"example\"\nhosts = [\"example.com\", \"*.example.com\"]\ndefault = false\n\
                [zone.origin]\nservers = [{ address = \"http://127.0.0.1:8080\" }]\n[zone.origin.health]\n[zone.gate]\n\
                [zone.cache]\n[zone.coding]\n\
                [zone.worker]\n[zone.worker.keyvalue]\n";
    let bare: Raw = toml::from_str(zone).unwrap();
    assert_eq!(printed, bare);
}

/// A section would be missing in the printed defaults and in the reference: declared without a
/// place there, or the reverse.
#[test]
fn every_section_has_its_place_in_the_printed_defaults() {
    let printed = defaults();
    assert!(!printed.contains("#@"), "a mark without a section");
    for (header, entries) in super::file::all_sections() {
        assert!(printed.contains(header), "{header} has no mark in defaults.toml");
        for entry in entries {
            let key = entry.key.trim_start_matches("r#");
            let written = printed
                .lines()
                .any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")));
            assert!(written, "{header} {key}");
        }
    }
}

/// The reference would promise bounds that the check does not hold to.
#[test]
fn bounds_are_those_that_are_printed() {
    let mut count = 0;
    for (header, entries) in super::file::all_sections().into_iter().take(13) {
        for (key, (least, most)) in entries.into_iter().filter_map(|entry| Some((entry.key, entry.bounds?))) {
            let beyond = match (most.parse::<u128>(), most.parse::<Size>(), most.parse::<Time>()) {
                (Ok(n), ..) => (n + 1).to_string(),
                (_, Ok(Size(bytes)), _) => format!("\"{}B\"", bytes + 1),
                (.., Ok(Time(time))) => format!("\"{}ms\"", time.as_millis() + 1),
                _ => panic!("{header} {key}: {most}"),
            };
            let zone = ZONE.replace("[[zone]]", "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]");
            let text = match header {
                "[server]" => format!("[server]\nhttp = [\"127.0.0.1:80\"]\n{key} = {beyond}\n{ZONE}"),
                _ => format!("{header}\n{key} = {beyond}\n{zone}"),
            };
            // The largest number that a type holds is a bound of its own.
            if most == u32::MAX.to_string() {
                continue;
            }
            let told = mistakes(&text);
            assert!(
                told.iter()
                    .any(|m| m.key.ends_with(key) && m.mend == format!("write {least} to {most}")),
                "{text}: {told:?}"
            );
            count += 1;
        }
    }
    assert!(count > 25, "only {count} keys have bounds");
}

/// All mistakes of the checks are told at once, so that mending takes one round.
#[test]
fn all_at_once() {
    let text = format!("[server]\nhttp = [\"127.0.0.1:0\"]\nworkers = 9999\n{ZONE}{ZONE}");
    assert!(mistakes(&text).len() >= 4);
}

/// A missing or unreadable file says how to get one.
#[test]
fn missing_file() {
    let error = Config::read(Path::new("/nonexistent/edge.toml"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/nonexistent/edge.toml") && error.contains("--print-defaults"),
        "{error}"
    );
}

/// Whatever bytes a file holds, reading it ends in a configuration or a mistake.
#[test]
fn garbage_does_not_panic() {
    let seeds = [defaults(), format!("[server]\nhttp = [\"127.0.0.1:80\"]\n{ZONE}")];
    for seed in seeds {
        // A long text is parsed whole each time: some 1,500 places are enough of it, and every one
        // of a short text.
        for i in (0..seed.len()).step_by(seed.len() / 1_500 + 1) {
            let Some((head, tail)) = seed.split_at_checked(i) else {
                continue;
            };
            for junk in ["", "[", "\"", "é"] {
                let mut text = head.to_owned();
                text.push_str(junk);
                text.push_str(tail.get(1..).unwrap_or_default());
                // Only that it returns is asked for.
                drop(Config::parse(Path::new("edge.toml"), &text));
            }
        }
    }
}

/// A zone that names a far end that is not there would silently cross whole; a far end without TLS
/// would believe anyone.
#[test]
fn far_ends() {
    let end = "[[far_end]]\nname = \"paris\"\nservers = [{ address = \"https://far.example:8443\" }]\nca = \"ca.pem\"\n\
               certificate = \"near.pem\"\nkey = \"near.key\"\n";
    let listen = "[server]\nhttp = [\"127.0.0.1:80\"]\n";
    let zone = ZONE.replace("[zone.origin]", "delta = \"paris\"\n[zone.origin]");
    let config = Config::parse(Path::new("dir/edge.toml"), &format!("{listen}{end}{zone}")).unwrap();
    assert_eq!(config.zones[0].delta.as_deref(), Some("paris"));
    let upstream = &config.far_ends[0].upstream;
    assert_eq!(upstream.identity.as_ref().unwrap().chain, Path::new("dir/near.pem"));
    let cases = [
        (zone.clone(), "no far end is called \"paris\"", "[[far_end]]"),
        (
            format!("{}{zone}", end.replace("paris", "rome")),
            "no far end is called",
            "\"rome\"",
        ),
        (
            format!("{}{zone}", end.replace("https:", "http:")),
            "without TLS",
            "https://",
        ),
        (format!("{end}{end}{zone}"), "already on line", "name of its own"),
        (format!("{}{zone}", end.replace("key = \"near.key\"\n", "")), "key", ""),
        (
            format!("[delta]\nmemory = \"1KiB\"\n{end}{zone}"),
            "out of bounds",
            "1MiB",
        ),
    ];
    for (text, what, mend) in cases {
        let all = mistakes(&format!("{listen}{text}"));
        assert!(all[0].what.contains(what) && all[0].mend.contains(mend), "{all:?}");
    }
}

/// A zone that gives forward secrecy up must say so, and where it cannot work nobody must believe
/// that it does.
#[test]
fn static_rsa() {
    let zone = ZONE.replace(
        "hosts",
        "certificate = \"a.pem\"\nkey = \"a.key\"\nlegacy_rsa = true\nhosts",
    );
    let listen = "[server]\nhttps = [\"127.0.0.1:443\"]\n";
    let read = |text: &str| Config::parse(Path::new("dir/edge.toml"), &format!("{listen}{text}"));
    let without = read(&zone.replace("true", "false")).unwrap();
    assert!(without.zones[0].certificate.as_ref().unwrap().legacy_rsa.is_none());
    let built = cfg!(feature = "legacy-rsa");
    match read(&zone) {
        Ok(config) => {
            assert!(built);
            assert!(config.zones[0].certificate.as_ref().unwrap().legacy_rsa.is_some());
        }
        Err(mistakes) => {
            assert!(!built, "{mistakes}");
            let said = mistakes.to_string();
            assert!(
                said.contains("zone.legacy_rsa: this edge was built without static RSA") && said.contains("--features"),
                "{said}"
            );
        }
    }
    let wrong = [
        (format!("[tls]\nmin_version = \"1.3\"\n{zone}"), "min_version is 1.3"),
        (
            zone.replace("hosts", "client_certificates = { ca = \"ca.pem\" }\nhosts"),
            "no client is asked for a certificate",
        ),
    ];
    for (text, what) in wrong {
        let mistakes = read(&text).unwrap_err();
        assert!(
            mistakes
                .0
                .iter()
                .any(|m| m.key == "zone.legacy_rsa" && m.what.contains(what)),
            "{mistakes}"
        );
    }
}

/// A zone would be up without a key for its second certificate, or with one that was to be
/// elsewhere.
#[test]
fn keys_of_further_certificates() {
    let read = |keys: &str| {
        let text = format!(
            "[server]\nhttps = [\"127.0.0.1:443\"]\n\
             [[key_server]]\nname = \"k\"\naddress = \"127.0.0.1:1\"\nca = \"c\"\ncertificate = \"c\"\nkey = \"c\"\n\
             [[zone]]\nname = \"a\"\nhosts = [\"a.example\"]\ncertificate = \"a.pem\"\n{keys}\n\
             [zone.origin]\nservers = [{{ address = \"http://127.0.0.1:1\" }}]\n"
        );
        Config::parse(Path::new("dir/edge.toml"), &text).map_err(|mistakes| mistakes.to_string())
    };
    let (with, without) = (
        "{ certificate = \"b.pem\", key = \"b.key\" }",
        "{ certificate = \"b.pem\" }",
    );
    let here = |more: &str| read(&format!("key = \"a.key\"\nmore_certificates = [{more}]"));
    let elsewhere = |more: &str| read(&format!("key_servers = [\"k\"]\nmore_certificates = [{more}]"));
    assert!(here(with).is_ok() && elsewhere(without).is_ok());
    let said = here(without).unwrap_err();
    assert!(
        said.contains("zone.more_certificates.certificate: a certificate without a key"),
        "{said}"
    );
    let said = elsewhere(with).unwrap_err();
    assert!(
        said.contains("a key of its own in a zone with `key_servers`; leave it out"),
        "{said}"
    );
}

/// An operator would believe that requests come early which do not, or that a client was known
/// whose certificate nobody has seen.
#[test]
fn early_data() {
    let read = |text: &str| Config::parse(Path::new("dir/edge.toml"), text);
    let zone = "[server]\nhttps = [\"127.0.0.1:443\"]\n[[zone]]\nname = \"a\"\nhosts = [\"a.example\"]\n\
                certificate = \"a.pem\"\nkey = \"a.key\"\n[zone.origin]\nservers = [{ address = \"http://127.0.0.1:1\" }]\n";
    let on = zone.replace("hosts", "early_data = true\nhosts");
    assert!(!read(zone).unwrap().zones[0].early_data);
    assert!(read(&on).unwrap().zones[0].early_data);
    let wrong = [
        (
            on.replace("hosts", "client_certificates = { ca = \"ca.pem\" }\nhosts"),
            "client_certificates",
        ),
        (on.replace("[[zone]]", "http3 = false\n[[zone]]"), "HTTP/3 alone"),
    ];
    for (text, what) in wrong {
        let mistakes = read(&text).unwrap_err();
        let found = mistakes
            .0
            .iter()
            .any(|m| m.key == "zone.early_data" && m.what.contains(what));
        assert!(found, "{mistakes}");
    }
}

/// An operator who changes a port learns once, or never, that nothing listens there; or is told of
/// changes that are none.
#[test]
fn what_takes_a_restart_is_told_and_nothing_else() {
    let fixed = |text: &str| {
        Config::parse(Path::new("edge.toml"), &format!("{text}{ZONE}"))
            .unwrap()
            .fixed
    };
    let base = "[server]\nhttp = [\"127.0.0.1:80\"]\n";
    let started = fixed(&format!("{base}[gate]\nsecret = \"s\"\n[cache]\nmemory = \"256MiB\"\n"));
    let moved = fixed(&format!(
        "# a line\n\n{base}[gate]\nsecret = \"s\"\n[cache]\nmemory = \"256MiB\"\n"
    ));
    let none = Vec::<String>::new();
    assert_eq!(started.that_differ(&moved), none, "lines that moved are not a change");
    for (text, key) in [
        ("[server]\nhttp = [\"127.0.0.1:81\"]\n", "server.http"),
        ("[server]\nhttp = [\"127.0.0.1:80\"]\nhttp3 = false\n", "server.http3"),
        ("[server]\nhttp = [\"127.0.0.1:80\"]\nworkers = 7\n", "server.workers"),
        (
            "[server]\nhttp = [\"127.0.0.1:80\"]\n[gate]\nclients = 4096\n",
            "gate.clients",
        ),
        (
            "[server]\nhttp = [\"127.0.0.1:80\"]\n[gate]\nsecret = \"s\"\n",
            "gate.secret",
        ),
        (
            "[server]\nhttp = [\"127.0.0.1:80\"]\n[cache]\nmemory = \"64MiB\"\n",
            "cache.memory",
        ),
        (
            "[server]\nhttp = [\"127.0.0.1:80\"]\n[log]\nformat = \"json\"\n",
            "log.format",
        ),
        (
            "[server]\nhttp = [\"127.0.0.1:80\"]\n[dataplane]\nstate_directory = \"x\"\n",
            "dataplane.state_directory",
        ),
    ] {
        let (new, mut started) = (fixed(text), fixed(base));
        for _ in 0..2 {
            assert_eq!(started.that_differ(&new), [key]);
        }
        if key == "log.format" {
            started.overridden("log.format");
            assert_eq!(started.that_differ(&new), none, "the command line speaks for it");
        }
    }
    let live = fixed("[server]\nhttp = [\"127.0.0.1:80\"]\ndrain = \"1s\"\n[limits]\nconnections = 7\n");
    assert_eq!(fixed(base).that_differ(&live), none);
}

/// A proxy that is misspelt would have every visitor judged as one, or let every visitor name
/// another one.
#[test]
fn client_addresses() {
    let read = |keys: &str| {
        let text = format!("[server]\nhttp = [\"127.0.0.1:80\"]\n{keys}\n{ZONE}");
        Config::parse(Path::new("dir/edge.toml"), &text)
    };
    let config = read("client_address = { from = \"cf-connecting-ip\", trusted = [\"10.0.0.0/8\"] }").unwrap();
    let rule = config.server.client_address.clone().unwrap();
    assert!(rule.from == "cf-connecting-ip" && rule.depth.is_none() && rule.trusts("10.1.1.1".parse().unwrap()));
    assert!(config.dataplane.allow.contains(&"10.0.0.0/8".parse().unwrap()));
    for (keys, key, what) in [
        (
            "client_address = { from = \"Cookie\", trusted = [\"10.0.0.0/8\"] }",
            "from",
            "not a field",
        ),
        (
            "client_address = { from = \"a b\", trusted = [\"10.0.0.0/8\"] }",
            "from",
            "not a field",
        ),
        (
            "client_address = { from = \"X-Forwarded-For\", trusted = [] }",
            "trusted",
            "nobody is trusted",
        ),
        (
            "client_address = { from = \"X-Forwarded-For\", trusted = [\"::/0\"] }",
            "trusted",
            "is everybody",
        ),
        (
            "client_address = { from = \"X-Forwarded-For\", trusted = [\"10.0.0.0/8\"], depth = 0 }",
            "depth",
            "out of bounds",
        ),
        (
            "client_address = { from = \"X-Forwarded-For\", trusts = [\"10.0.0.0/8\"] }",
            "trusts",
            "unknown key",
        ),
        ("plain = [\"192.0.2.1:8080\"]", "plain", "other hosts can reach"),
    ] {
        let mistakes = read(keys).unwrap_err().0;
        assert!(
            mistakes
                .iter()
                .any(|m| m.key.ends_with(key) && m.what.contains(what) && m.line == 3 && !m.mend.is_empty()),
            "{keys}: {mistakes:?}"
        );
    }
    let open = read("plain = [\"192.0.2.1:8080\"]\nplain_from = [\"192.0.2.0/24\"]").unwrap();
    assert!(open.dataplane.tcp_ports.contains(&8080), "its packets are judged");
}

/// A pool that is misspelt, or shared by halves, would send requests nowhere, or elsewhere than
/// meant.
#[test]
fn pools() {
    let read = |pool: &str, origin: &str| {
        let text = format!(
            "[server]\nhttp = [\"127.0.0.1:80\"]\n[[origin]]\n{pool}\n[[zone]]\nname = \"a\"\nhosts = [\"a.example\"]\n\
             [zone.origin]\n{origin}\n"
        );
        Config::parse(Path::new("dir/edge.toml"), &text)
    };
    let servers = "servers = [{ address = \"http://127.0.0.1:1\" }]";
    let named = &format!("name = \"one\"\n{servers}");
    let config = read(named, "pool = \"one\"").unwrap();
    let super::Origin::Servers(upstream) = &config.zones[0].origin else {
        panic!("a pool has servers");
    };
    assert_eq!(upstream.pool.as_deref(), Some("one"));
    for (pool, origin, key, what) in [
        (servers, servers, "origin", "a pool without a name"),
        (
            &*format!("name = \"a b\"\n{servers}"),
            servers,
            "name",
            "not a valid name",
        ),
        (
            &format!("{named}\n[[origin]]\n{named}"),
            servers,
            "name",
            "a pool \"one\" already",
        ),
        (
            "name = \"one\"\ndirectory = \"www\"",
            servers,
            "directory",
            "`directory` in a pool",
        ),
        (named, "pool = \"two\"", "pool", "no pool is called \"two\""),
        (named, "pool = \"one\"\nretries = 2", "pool", "beside other keys"),
        (named, &format!("name = \"x\"\n{servers}"), "name", "`name` is of pools"),
        (
            &format!("{named}\nhash = \"path\""),
            servers,
            "hash",
            "without `balance`",
        ),
        (
            &format!("{named}\nbalance = \"hash\"\nhash = \"moon\""),
            servers,
            "hash",
            "not something that servers",
        ),
        (
            &format!("{named}\ncertificate = \"a.pem\""),
            servers,
            "certificate",
            "needs its key",
        ),
        (
            &format!("{named}\nproxy_protocol = true\nhttp = \"2\""),
            servers,
            "proxy_protocol",
            "names one client",
        ),
        (
            "name = \"one\"\nservers = [{ address = \"unix:app.sock\" }]",
            servers,
            "address",
            "not the path of a socket",
        ),
    ] {
        let mistakes = read(pool, origin).unwrap_err().0;
        let found = |m: &Mistake| m.key.ends_with(key) && m.what.contains(what) && m.line > 2 && !m.mend.is_empty();
        assert!(mistakes.iter().any(found), "{pool} {origin}: {mistakes:?}");
    }
}
