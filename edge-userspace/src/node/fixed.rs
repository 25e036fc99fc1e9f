//! Keys that a reload does not carry out: what the node was started with stays until a restart. Compared with each reload, so
//! that the operator is told as long as the file says something else.

use crate::config::Config;

/// The keys in which `new` differs from what the node was started with.
pub(super) fn changed(started: &Config, new: &Config) -> Vec<String> {
    let (server, new_server) = (&started.server, &new.server);
    let (dataplane, new_dataplane) = (&started.dataplane, &new.dataplane);
    let keys = [
        ("server.https", server.https != new_server.https),
        ("server.http", server.http != new_server.http),
        ("server.plain", server.plain != new_server.plain),
        ("server.http3", server.http3 != new_server.http3),
        ("server.workers", server.workers != new_server.workers),
        ("dataplane.interfaces", dataplane.interfaces != new_dataplane.interfaces),
        ("dataplane.xdp", dataplane.mode != new_dataplane.mode),
        (
            "dataplane.pin_directory",
            dataplane.pin_directory != new_dataplane.pin_directory,
        ),
        (
            "dataplane.deny_entries",
            dataplane.deny_entries != new_dataplane.deny_entries,
        ),
        (
            "dataplane.penalty_entries",
            dataplane.penalty_entries != new_dataplane.penalty_entries,
        ),
        ("admin.listen", started.admin.listen != new.admin.listen),
        ("admin.read", started.admin.read != new.admin.read),
        ("gate", started.gate != new.gate),
        ("fleet", started.fleet != new.fleet),
        ("isolate", started.isolate != new.isolate),
        ("log.format", started.log.format != new.log.format),
    ];
    let differ = keys
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(key, _)| key.to_owned());
    // Of sections that are declared key by key, each key says itself that it takes a restart.
    let declared = [
        ("acme", started.acme.fixed_keys_that_differ(&new.acme)),
        ("cache", started.cache.fixed_keys_that_differ(&new.cache)),
        ("coding", started.coding.fixed_keys_that_differ(&new.coding)),
        ("delta", started.delta.fixed_keys_that_differ(&new.delta)),
        ("limits", started.limits.fixed_keys_that_differ(&new.limits)),
        ("quic", started.quic.fixed_keys_that_differ(&new.quic)),
    ];
    let declared = declared
        .into_iter()
        .flat_map(|(section, keys)| keys.into_iter().map(move |key| format!("{section}.{key}")));
    differ.chain(declared).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        let zone = "[[zone]]\nname = \"a\"\nhosts = [\"a\"]\n[zone.origin]\nservers = [{ address = \"http://127.0.0.1:1\" }]\n";
        Config::parse(Path::new("edge.toml"), &format!("{text}{zone}")).unwrap()
    }

    /// An operator who changes a port learns once, or never, that nothing listens there; or is told of changes that are none.
    #[test]
    fn what_takes_a_restart_is_told_and_nothing_else() {
        let base = "[server]\nhttp = [\"127.0.0.1:80\"]\n";
        let started = config(&format!("{base}[gate]\nsecret = \"s\"\n[cache]\nmemory = \"256MiB\"\n"));
        let moved = config(&format!(
            "# a line\n\n{base}[gate]\nsecret = \"s\"\n[cache]\nmemory = \"256MiB\"\n"
        ));
        assert_eq!(
            changed(&started, &moved),
            Vec::<String>::new(),
            "lines that moved are not a change"
        );
        for (text, key) in [
            ("[server]\nhttp = [\"127.0.0.1:81\"]\n", "server.http"),
            ("[server]\nhttp = [\"127.0.0.1:80\"]\nhttp3 = false\n", "server.http3"),
            ("[server]\nhttp = [\"127.0.0.1:80\"]\nworkers = 7\n", "server.workers"),
            ("[server]\nhttp = [\"127.0.0.1:80\"]\n[gate]\nclients = 4096\n", "gate"),
            (
                "[server]\nhttp = [\"127.0.0.1:80\"]\n[cache]\nmemory = \"64MiB\"\n",
                "cache.memory",
            ),
        ] {
            let new = config(text);
            let started = config(base);
            for _ in 0..2 {
                assert_eq!(changed(&started, &new), [key]);
            }
        }
    }
}
