//! docs/from-nginx.md, docs/from-haproxy.md and docs/from-caddy.md: each example of edge's is a
//! configuration that `edge check` takes, and each of nginx's comes to the one beside it.

use std::path::Path;

use super::super::import_text;
use crate::config::{Config, Origin, Zone};

/// The blocks of a page that are written in `languages`, each with its language.
fn blocks(page: &str, languages: &[&str]) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let mut blocks = Vec::new();
    let mut rest = text.as_str();
    while let Some((_, after)) = rest.split_once("\n```") {
        let (language, after) = after.split_once('\n').unwrap();
        let (block, after) = after.split_once("\n```").unwrap();
        if languages.contains(&language) {
            blocks.push((language.to_owned(), format!("{block}\n")));
        }
        rest = after.trim_start_matches(|c| c != '\n');
    }
    blocks
}

/// A whole file made of what the page shows, with the passwords' file and certificates that are
/// there.
fn whole(shown: &str, files: &Path) -> String {
    let mut text = String::new();
    if !shown.contains("[server]\n") {
        text += "[server]\nplain = [\"127.0.0.1:8080\"]\n";
    }
    match shown.contains("[[zone]]\n") {
        true => text += shown,
        false => {
            // Tables of the node first; a zone's own keys may begin the part.
            let (keys, rest) = shown.split_at(shown.find('[').unwrap_or(shown.len()));
            text += "[[zone]]\nname = \"www.example.com\"\nhosts = [\"www.example.com\", \"example.com\"]\ndefault = true\n";
            if !keys.contains("body_bytes") {
                text += "body_bytes = \"1MiB\"\n";
            }
            text += keys;
            text += rest;
            if !shown.contains("[zone.origin]") && !shown.contains("[[zone.rule]]") {
                text += "[zone.origin]\nservers = [{ address = \"http://127.0.0.1:1\" }]\n";
            }
        }
    }
    text.replace("/etc/nginx/htpasswd", &files.join("htpasswd").display().to_string())
}

fn parsed(text: &str) -> Config {
    Config::parse(Path::new("/edge.toml"), text).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"))
}

/// What a zone does, without where it is written and what its rules are called.
fn meaning(zone: &Zone) -> String {
    let mut rules = zone.rules.as_deref().cloned().unwrap_or_default();
    for rule in &mut rules.all {
        rule.name = "".into();
    }
    let origin = match &zone.origin {
        Origin::Servers(upstream) => format!("{upstream:#?}"),
        other => format!("{other:#?}"),
    };
    let gate = zone.gate.as_ref().map(|gate| &gate.rules);
    let clients = zone
        .certificate
        .as_ref()
        .and_then(|certificate| certificate.clients.as_ref());
    let clients = clients.map(|clients| (&clients.ca.0, clients.required));
    format!(
        "default {}\nbounds {} {:?} {:?}\nrules {:#?}\nroutes {:#?}\norigin {origin}\npools {:#?}\ngate {gate:#?}\ncache {:#?}\n\
         coding {:#?}\nclients {clients:#?}\nfiles {:#?}\npages {:#?}\n",
        zone.default,
        zone.body_bytes.unwrap_or_default(),
        zone.body_timeout,
        zone.certificate.is_some(),
        rules.all,
        zone.routes,
        zone.pools,
        zone.cache,
        zone.coding,
        zone.files,
        zone.error_pages,
    )
}

/// Who moves from nginx would find another server than the page says.
#[test]
fn what_the_page_says_of_nginx_is_what_the_importer_makes() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(
        files.path().join("htpasswd"),
        "ann:$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA\n",
    )
    .unwrap();
    let blocks = blocks("from-nginx.md", &["nginx", "toml"]);
    let (pairs, rest) = blocks.as_chunks::<2>();
    assert!(pairs.len() >= 20 && rest.is_empty());
    for [(nginx, theirs), (toml, ours)] in pairs {
        assert_eq!((nginx.as_str(), toml.as_str()), ("nginx", "toml"), "{theirs}\n{ours}");
        let theirs = match theirs.contains("server {\n") {
            true => theirs.clone(),
            false => {
                format!("server {{\nlisten 127.0.0.1:8080;\nserver_name www.example.com example.com;\n{theirs}}}\n")
            }
        };
        let theirs = theirs.replace(
            "/etc/nginx/htpasswd",
            &files.path().join("htpasswd").display().to_string(),
        );
        let imported = import_text(Path::new("/nginx.conf"), &theirs).unwrap();
        let (theirs, ours) = (parsed(&imported.text), parsed(&whole(ours, files.path())));
        assert_eq!(theirs.zones.len(), ours.zones.len(), "{}", imported.text);
        for (theirs, ours) in theirs.zones.iter().zip(&ours.zones) {
            let (theirs, ours) = (meaning(theirs), meaning(ours));
            let differ = theirs.lines().zip(ours.lines()).find(|(a, b)| a != b);
            assert!(
                theirs == ours,
                "{differ:?}\n{}\nmade: {theirs}\nshown: {ours}",
                imported.text
            );
        }
        let names = [&theirs.server.https, &theirs.server.http];
        if theirs.zones.iter().any(|zone| zone.certificate.is_some()) {
            assert_eq!(names, [&ours.server.https, &ours.server.http]);
        }
        assert_eq!(theirs.server.client_address, ours.server.client_address);
    }
}

/// Who copies an example from a page would get a mistake.
#[test]
fn the_examples_of_the_other_pages_are_sound() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(
        files.path().join("htpasswd"),
        "ann:$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA\n",
    )
    .unwrap();
    for (page, language) in [("from-haproxy.md", "haproxy"), ("from-caddy.md", "caddyfile")] {
        let blocks = blocks(page, &[language, "toml"]);
        let (pairs, rest) = blocks.as_chunks::<2>();
        assert!(pairs.len() >= 20 && rest.is_empty(), "{page}");
        for [(theirs, _), (ours, example)] in pairs {
            assert_eq!((theirs.as_str(), ours.as_str()), (language, "toml"), "{example}");
            let config = parsed(&whole(example, files.path()));
            // Certificates are not there to be loaded.
            if config
                .zones
                .iter()
                .all(|zone| zone.certificate.is_none() && zone.acme.is_none())
            {
                crate::node::check(config).unwrap_or_else(|error| panic!("{error}\n{example}"));
            }
        }
    }
}
