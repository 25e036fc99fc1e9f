//! The far end's file: its defaults are what the code has, and mistakes say how to mend them.

use super::*;

const HEAD: &str =
    "[server]\nlisten = [\"127.0.0.1:8443\"]\ncertificate = \"f.pem\"\nkey = \"f.key\"\nnear_ends = \"ca.pem\"\n";
const ZONE: &str = "[[zone]]\nname = \"a\"\nhosts = [\"a.example\"]\n[zone.origin]\nservers = [{ address = \"http://127.0.0.1:1\" }]\n";

/// `edge far-end --print-defaults` must show what a file without the key means.
#[test]
fn printed_defaults_are_the_defaults() {
    let printed: Raw = toml::from_str(&defaults()).unwrap();
    let bare = format!("{HEAD}{ZONE}")
        .replace("127.0.0.1:8443", "0.0.0.0:8443")
        .replace("\"f.pem\"", "\"far-end.pem\"")
        .replace("\"f.key\"", "\"far-end.key\"")
        .replace("\"ca.pem\"", "\"near-ends-ca.pem\"")
        .replace("name = \"a\"", "name = \"example\"")
        .replace("\"a.example\"", "\"example.com\", \"*.example.com\"")
        .replace("127.0.0.1:1\"", "127.0.0.1:8080\"");
    assert_eq!(printed, toml::from_str(&bare).unwrap());
    let config = FarConfig::parse(Path::new("dir/far.toml"), &defaults()).unwrap();
    assert_eq!(config.identity.chain, Path::new("dir/far-end.pem"));
    assert_eq!(config.store.memory, 256 << 20);
}

/// An operator who leaves out what makes the hop safe, or asks for what a far end cannot do, is
/// told where and how to mend it.
#[test]
fn mistakes() {
    let cases = [
        (
            format!("{}{ZONE}", HEAD.replace("near_ends = \"ca.pem\"\n", "")),
            "near_ends",
        ),
        (
            format!("{}{ZONE}", HEAD.replace("\"127.0.0.1:8443\"", "")),
            "no listener",
        ),
        (format!("{HEAD}[store]\nmemory = \"1KiB\"\n{ZONE}"), "1MiB to"),
        (
            format!("{HEAD}[store]\nobject_bytes = \"1GiB\"\n{ZONE}"),
            "64KiB to 128MiB",
        ),
        (
            format!("{HEAD}{}", ZONE.replace("hosts", "delta = \"x\"\nhosts")),
            "not for a far end's zone",
        ),
        (
            format!(
                "{HEAD}{}",
                ZONE.replace("hosts", "certificate = \"x\"\nkey = \"y\"\nhosts")
            ),
            "remove it",
        ),
        (format!("{HEAD}{ZONE}[zone.gate]\n"), "no gate"),
    ];
    for (text, part) in cases {
        let Err(mistakes) = FarConfig::parse(Path::new("far.toml"), &text) else {
            panic!("accepted: {text}");
        };
        assert!(mistakes.to_string().contains(part), "{mistakes} has no {part}");
    }
}
