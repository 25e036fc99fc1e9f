//! Every kind of mistake gets line, key and mend; the printed defaults are the defaults.

use std::path::Path;

use super::*;

const SOUND: &str = "[server]\nlisten = [\"127.0.0.1:7443\"]\ncertificate = \"s.pem\"\nkey = \"s.key\"\nclient_ca = \
                     \"ca.pem\"\n";
const CLIENT: &str = "[[client]]\nname = \"a\"\ndns = \"A.example\"\n[[client.grant]]\nkeys = [\"*\"]\nops = \
                      [\"sign-tls13\"]\n";

/// `edge-keyserver check --print-defaults` must show what a file without the key means.
#[test]
fn printed_defaults_are_the_defaults() {
    let defaults = defaults();
    assert!(!defaults.contains("#@"), "a mark without a section");
    let printed: Raw = toml::from_str(&defaults).unwrap();
    let bare = "[server]\nclient_ca = \"clients-ca.pem\"\ncertificate = \"keyserver.pem\"\nkey = \"keyserver.key\"\n";
    assert_eq!(printed, toml::from_str(bare).unwrap());
    // The commented part is an example: its keys are there.
    let lines = defaults.lines().skip_while(|line| *line != "# [[client]]");
    let keys = lines.filter_map(|line| line.strip_prefix("# ")).filter(|line| {
        line.starts_with('[')
            || line
                .split_once(" = ")
                .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase()))
    });
    let example: Raw = toml::from_str(&keys.collect::<Vec<_>>().join("\n")).unwrap();
    assert_eq!(example.client[0].get_ref().grant.len(), 1);
}

/// An operator sees where the mistake is and how to mend it, whatever it is.
#[test]
fn each_kind_of_mistake() {
    let cases: &[(String, usize, &str, &str)] = &[
        (
            format!("{SOUND}lisen = 1\n{CLIENT}"),
            6,
            "unknown key `lisen`",
            "listen",
        ),
        (CLIENT.to_owned(), 1, "no address to listen on", "write [server]"),
        (SOUND.to_owned(), 1, "nobody could ask", "[[client]]"),
        (
            format!("{SOUND}{CLIENT}{CLIENT}"),
            13,
            "already on line 7",
            "a name of its own",
        ),
        (format!("{SOUND}[[client]]\nname = \"a\"\n"), 6, "no identity", "dns = "),
        (
            format!("{SOUND}[[client]]\nname = \"a\"\nspki = \"ab\"\n"),
            8,
            "not a SHA-256",
            "openssl x509",
        ),
        (
            format!("{SOUND}[[client]]\nname = \"a\"\ndns = \"*.b\"\n"),
            8,
            "not a DNS name",
            "the whole name",
        ),
        (
            format!("{SOUND}[[client]]\nname = \"a b\"\ndns = \"b\"\n"),
            7,
            "not a valid name",
            "letters",
        ),
        (
            format!("{SOUND}{CLIENT}[[client.grant]]\nkeys = []\nops = [\"sign-tls13\"]\n"),
            13,
            "no key",
            "\"*\"",
        ),
        (
            format!("{SOUND}{CLIENT}[admin]\nlisten = \"0.0.0.0:1\"\n"),
            13,
            "other hosts",
            "remote = true",
        ),
        (
            format!("{SOUND}{CLIENT}[process]\nuser = \"a b\"\n"),
            13,
            "not a user",
            "UID:GID",
        ),
        (
            format!("{SOUND}{CLIENT}[keys]\npoll = \"1ms\"\n"),
            13,
            "out of bounds",
            "100ms",
        ),
        (
            format!("{SOUND}{CLIENT}[limits]\nqueue = 0\n"),
            13,
            "out of bounds",
            "write 1 to",
        ),
        (
            format!("{SOUND}{CLIENT}[log]\nlevel = \"loud\"\n"),
            13,
            "not a log level",
            "warn",
        ),
    ];
    for (text, line, what, mend) in cases {
        let mistakes = match Config::parse(Path::new("dir/keyserver.toml"), text) {
            Ok(_) => panic!("accepted:\n{text}"),
            Err(mistakes) => mistakes.0,
        };
        assert!(
            mistakes
                .iter()
                .any(|m| m.line == *line && m.what.contains(what) && m.mend.contains(mend)),
            "{text}\n{mistakes:?}"
        );
    }
}

/// A grant read more widely than it was written would hand keys to the wrong edge.
#[test]
fn grants_and_identities() {
    let id = "0123456789abcdef".repeat(4);
    let text = format!(
        "{SOUND}[process]\nuser = \"7:8\"\n[[client]]\nname = \"a\"\nspki = \"{id}\"\nrate = 5\n[[client.grant]]\nkeys = \
         [\"shop\", \"{id}\"]\nops = [\"kx-start\"]\n"
    );
    let config = Config::parse(Path::new("dir/keyserver.toml"), &text).unwrap();
    let client = &config.clients[0];
    let bytes = hex32(&id).unwrap();
    assert_eq!(bytes[..2], [0x01, 0x23]);
    assert_eq!(client.identity, Identity::Spki(bytes));
    assert_eq!(client.rate, Some((5, 5)));
    assert_eq!(
        client.grants[0].keys,
        [Selector::Name("shop".to_owned()), Selector::Id(bytes)]
    );
    assert_eq!(config.server.certificate.key, Path::new("dir/s.key"));
    assert_eq!(config.process.user.unwrap().0, User::Ids(7, 8));
    assert_eq!(hex32(&"+1".repeat(32)), None);
}
