//! An operator sees where each kind of mistake is and how to mend it.

use std::path::Path;

use super::{KEY_SERVER, ZONE, mistakes};

const LISTEN: &str = "[server]\nhttp = [\"127.0.0.1:80\"]\n";

/// A text, and of the mistake in it: line, key, part of what it is, part of the mend.
type Case<'a> = (String, usize, &'a str, &'a str, &'a str);

fn are_told(cases: &[Case<'_>]) {
    for (text, line, key, what, mend) in cases {
        let found = mistakes(text);
        let hit = found.iter().any(|m| {
            m.file == Path::new("dir/edge.toml")
                && m.line == *line
                && m.key == *key
                && m.what.contains(what)
                && m.mend.contains(mend)
                && !m.mend.is_empty()
        });
        assert!(
            hit,
            "wanted {line} {key:?} {what:?} {mend:?}, got {found:#?}\nfor\n{text}"
        );
    }
}

/// The node would not start, and its operator would have to guess which of the settings keeps it
/// from that.
#[test]
fn of_the_node() {
    are_told(&[
        (
            format!("{LISTEN}[limit]\n{ZONE}"),
            3,
            "limit",
            "unknown key `limit`",
            "`limits`",
        ),
        (
            format!("{LISTEN}[quic]\nlockdown_above = 9\nlockdown_below = 10\n{ZONE}"),
            5,
            "quic.lockdown_below",
            "begin and end at once",
            "less than lockdown_above",
        ),
        (
            format!("{LISTEN}[quic]\nlockdown = \"yes\"\n{ZONE}"),
            4,
            "quic.lockdown",
            "unknown variant `yes`",
            "",
        ),
        (LISTEN.to_owned(), 1, "server", "no zone", "[[zone]]"),
        (format!("[server\n{ZONE}"), 1, "server", "unclosed table", ""),
        (
            format!("{LISTEN}[admin]\nlisten = \"0.0.0.0:9180\"\n{ZONE}"),
            4,
            "admin.listen",
            "other hosts",
            "remote = true",
        ),
        (
            format!("{LISTEN}[admin]\nlisten = \"nowhere\"\n{ZONE}"),
            4,
            "admin.listen",
            "no admin address",
            "unix:",
        ),
        (
            format!("{LISTEN}[log]\nlevel = \"loud\"\n{ZONE}"),
            4,
            "log.level",
            "not a log level",
            "debug",
        ),
        (
            format!("{LISTEN}[dataplane]\ndeny = [\"10.0.0.0/33\"]\n{ZONE}"),
            4,
            "dataplane.deny",
            "",
            "",
        ),
        (
            format!("{LISTEN}[dataplane]\nxdp = \"fast\"\n{ZONE}"),
            4,
            "dataplane.xdp",
            "unknown variant",
            "",
        ),
        (
            format!("{LISTEN}[limits]\nheader_bytes = \"1KiB\"\n{ZONE}"),
            4,
            "limits.header_bytes",
            "out of bounds",
            "8KiB",
        ),
    ]);
}

/// A file that listens nowhere, or twice, would be refused without a word where.
#[test]
fn of_listeners() {
    are_told(&[
        (
            format!("{LISTEN}worker = 2\n{ZONE}"),
            3,
            "server.worker",
            "unknown key `worker`",
            "`workers`",
        ),
        (
            format!("{LISTEN}drain = \"10\"\n{ZONE}"),
            3,
            "server.drain",
            "no duration",
            "10s",
        ),
        (
            format!("{LISTEN}workers = \"two\"\n{ZONE}"),
            3,
            "server.workers",
            "invalid type",
            "--print-defaults",
        ),
        (
            format!("{LISTEN}workers = 4096\n{ZONE}"),
            3,
            "server.workers",
            "out of bounds",
            "1024",
        ),
        (
            format!("[server]\nhttp = [\"127.0.0.1\"]\n{ZONE}"),
            2,
            "server.http",
            "socket address",
            "",
        ),
        (
            format!("[server]\nhttp = [\"127.0.0.1:0\"]\n{ZONE}"),
            2,
            "server.http",
            "port 0",
            "port",
        ),
        (
            format!("[server]\nhttp = [\"127.0.0.1:1\", \"127.0.0.1:1\"]\n{ZONE}"),
            2,
            "server.http",
            "twice",
            "remove",
        ),
        (ZONE.to_owned(), 1, "", "no listener", "https ="),
    ]);
}

/// Two zones could be taken for one another, or one be reached by nobody.
#[test]
fn of_zones() {
    are_told(&[
        (
            format!("{LISTEN}{ZONE}{ZONE}"),
            11,
            "zone.name",
            "already on line 5",
            "name of its own",
        ),
        (
            format!("{LISTEN}{}", ZONE.replace("a.example", "a b")),
            6,
            "zone.hosts",
            "no host name",
            "letters",
        ),
        (
            format!("{LISTEN}{ZONE}{}", ZONE.replace("\"a\"", "\"b\"")),
            12,
            "zone.hosts",
            "already a host of zone \"a\"",
            "remove",
        ),
        (
            format!("[server]\nhttps = [\"127.0.0.1:443\"]\n{ZONE}"),
            5,
            "zone.name",
            "no certificate",
            "`certificate`",
        ),
    ]);
}

/// A zone would be served without its key, or an operator search for it at the wrong server.
#[test]
fn of_certificates_and_keys() {
    are_told(&[
        (
            format!("{LISTEN}{}", ZONE.replace("hosts", "certificate = \"a.pem\"\nhosts")),
            6,
            "zone.certificate",
            "without a key",
            "key =",
        ),
        (
            format!(
                "{LISTEN}{}",
                ZONE.replace("hosts", "key_servers = [\"a\"]\nkey = \"a.key\"\nhosts")
            ),
            6,
            "zone.key_servers",
            "both `key` and `key_servers`",
            "keep `key_servers`",
        ),
        (
            format!(
                "{LISTEN}{}",
                ZONE.replace("hosts", "certificate = \"a.pem\"\nkey_servers = [\"b\"]\nhosts")
            ),
            7,
            "zone.key_servers",
            "no key server \"b\"",
            "[[key_server]]",
        ),
        (
            format!(
                "{LISTEN}{KEY_SERVER}{}",
                ZONE.replace("hosts", "certificate = \"a.pem\"\nkey_servers = [\"b\"]\nhosts")
            ),
            14,
            "zone.key_servers",
            "no key server \"b\"",
            "or one of: keys-1",
        ),
        (
            format!("{LISTEN}{KEY_SERVER}{KEY_SERVER}{ZONE}"),
            11,
            "key_server.name",
            "already",
            "name of its own",
        ),
        (
            format!("{LISTEN}{}{ZONE}", KEY_SERVER.replace("keys.example", "not a name")),
            6,
            "key_server.server_name",
            "not a valid server name",
            "certificate",
        ),
        (
            format!(
                "{LISTEN}{}",
                ZONE.replace(
                    "hosts",
                    "certificate = \"a.pem\"\nkey = \"a.key\"\nkey_exchange = \"remote\"\nhosts"
                )
            ),
            8,
            "zone.key_exchange",
            "no key server",
            "`key_servers`",
        ),
        (
            format!("{LISTEN}[tls]\nkey_server_timeout = \"0s\"\n{ZONE}"),
            4,
            "tls.key_server_timeout",
            "out of bounds",
            "1m",
        ),
    ]);
}

/// A zone would be served by nobody, and its operator not see which server was meant.
#[test]
fn of_origins() {
    are_told(&[
        (
            format!("{LISTEN}{ZONE}conections = 5\n"),
            9,
            "zone.origin.conections",
            "unknown key",
            "`connections`",
        ),
        (
            format!("{LISTEN}{}", ZONE.replace("http://127", "ftp://127")),
            8,
            "zone.origin.servers.address",
            "scheme",
            "https://",
        ),
        (
            format!("{LISTEN}{}", ZONE.replace("[{", "[{ weight = 0,")),
            8,
            "zone.origin.servers",
            "weight 0",
            "1 or more",
        ),
        (
            format!("{LISTEN}{ZONE}ca = 5\n"),
            9,
            "zone.origin.ca",
            "invalid type",
            "",
        ),
        (
            format!("{LISTEN}{ZONE}directory = \"nowhere\"\n"),
            9,
            "zone.origin.directory",
            "both",
            "keep one",
        ),
        (
            format!("{LISTEN}{ZONE}[zone.origin.health]\npath = \"x\"\n"),
            10,
            "zone.origin.health.path",
            "not a path",
            "/",
        ),
        (
            format!("{LISTEN}{ZONE}[zone.origin.health]\ninterval = \"1ms\"\n"),
            10,
            "zone.origin.health.interval",
            "out of bounds",
            "100ms",
        ),
    ]);
}
