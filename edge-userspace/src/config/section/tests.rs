//! What CONTRIBUTING shows of a new key works as it says: the declaration there is compiled here.

#![expect(unreachable_pub, reason = "what section! makes is for rooms")]

use super::{Section, section, with_new_name};
use crate::config::checker::Checker;
use crate::config::kind::Memory;
use crate::config::mistake::{Mistakes, Source};
use crate::config::value::Size;

const CONTRIBUTING: &str = include_str!("../../../../CONTRIBUTING.md");

section! {
    /// A zone.
    ZoneText => Zone {
        /// The longest path of a request. Beyond: 414.
        live path_bytes: Memory = Size(8 << 10), Size(256) => Size(64 << 10); was path_length;
    }
}

/// Who follows CONTRIBUTING would write what does not compile, or get something else than it says.
#[test]
fn the_first_example_of_contributing_is_this_section() {
    let source = include_str!("tests.rs");
    let start = source.find("        /// The longest path").unwrap();
    let declaration: Vec<_> = source[start..].lines().take(2).map(str::trim).collect();
    let shown: Vec<_> = CONTRIBUTING.lines().map(str::trim).collect();
    let shows = |lines: &[&str]| shown.windows(lines.len()).any(|window| window == lines);
    assert!(shows(&declaration), "CONTRIBUTING does not show {declaration:#?}");
    let printed = super::printed("[[zone]]", &ZoneText::entries());
    assert!(
        shows(&printed.lines().skip(1).collect::<Vec<_>>()),
        "CONTRIBUTING does not show\n{printed}"
    );
    let read = |text: &str| {
        let source = Source {
            file: std::path::Path::new("edge.toml"),
            text,
            included: &[],
        };
        let unknown = |e: &_| with_new_name(source.toml_mistake(e), &[("[[zone]]", ZoneText::entries())]);
        let table: std::collections::BTreeMap<String, ZoneText> =
            toml::from_str(text).map_err(|e| Mistakes(vec![unknown(&e)]))?;
        let mut checker = Checker::new(&source);
        let zone = table["zone"].check(&mut checker);
        checker.end(zone).map(|zone| zone.path_bytes)
    };
    assert_eq!(read("[zone]\n").unwrap(), 8 << 10);
    assert_eq!(read("[zone]\npath_bytes = \"1KiB\"\n").unwrap(), 1 << 10);
    for wrong in ["path_bytes = \"1MiB\"", "path_length = \"1KiB\""] {
        let told = read(&format!("[zone]\n{wrong}\n")).unwrap_err().to_string();
        assert!(shows(&[&told]), "CONTRIBUTING does not show\n{told}");
    }
}
