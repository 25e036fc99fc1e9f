//! What an operator writes about content coding is what it does, and each mistake is told with its
//! line and mend.

use std::path::Path;

use super::*;
use crate::config::{Config, Mistakes};

fn parse(text: &str) -> Result<Config, Mistakes> {
    let text = format!(
        "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"a\"\nhosts = [\"a.example\"]\n[zone.origin]\n\
         servers = [{{ address = \"http://127.0.0.1:8080\" }}]\n{text}"
    );
    Config::parse(Path::new("dir/edge.toml"), &text)
}

/// A zone that asked for dictionaries alone gets no ordinary coding, and the other way round.
#[test]
fn opt_in() {
    assert!(parse("").unwrap().zones[0].coding.is_none());
    let config = parse("[[zone.dictionary]]\npath = \"/app.*.js\"\ndestinations = [\"script\"]\n").unwrap();
    let coding = config.zones[0].coding.clone().unwrap();
    assert!(coding.encodings.is_empty());
    assert_eq!(coding.dictionaries[0].matches, "/app.*.js");
    let config = parse("[zone.coding]\nencodings = [\"br\"]\n").unwrap();
    let coding = config.zones[0].coding.clone().unwrap();
    assert_eq!(coding.encodings, [Encoding::Br]);
    assert!(coding.dictionaries.is_empty() && coding.types.contains(&"text/html".to_owned()));
}

/// An operator sees where the mistake is and how to mend it.
#[test]
fn mistakes() {
    let rule = "[[zone.dictionary]]\n";
    for (text, what, mend) in [
        ("[zone.coding]\nencodings = [\"deflate\"]\n".to_owned(), "deflate", ""),
        (
            "[zone.coding]\ntypes = [\"text\"]\n".to_owned(),
            "not a media type",
            "text/*",
        ),
        (format!("{rule}path = \"app.js\"\n"), "not a path pattern", "/app/*.js"),
        (
            format!("{rule}path = \"/app(.*)\"\n"),
            "not a path pattern",
            "/app/*.js",
        ),
        (
            format!("{rule}path = \"/a\"\ndestinations = [\"js\"]\n"),
            "not a destination",
            "script",
        ),
        (
            format!("{rule}path = \"/a\"\nid = \"a b\"\n"),
            "not a dictionary id",
            "letters",
        ),
        (
            format!("{rule}path = \"/a*\"\nlink_from = \"/*\"\n"),
            "no single resource",
            "without `*`",
        ),
    ] {
        let found = parse(&text).unwrap_err().0;
        let hit = |m: &crate::config::Mistake| m.what.contains(what) && m.mend.contains(mend);
        assert!(
            found.iter().any(hit),
            "wanted {what:?} {mend:?}, got {found:#?}\nfor\n{text}"
        );
    }
}
