//! `cargo xtask docs`: the documentation as a site, by mdBook.

use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace;

/// Build the documentation as a site in target/book; mdBook comes from crates.io if it is not
/// there.
#[derive(clap::Args)]
pub(crate) struct Docs {}

/// Builds it.
pub(crate) fn run(_: &Docs) -> Result<()> {
    if workspace::tool("mdbook").is_none() {
        workspace::prepare(&[&["setup", "build", "docs"]])?;
    }
    let mdbook = workspace::tool("mdbook").context("`mdbook` is missing: run `cargo xtask setup docs`")?;
    let directory = workspace::root().join("docs");
    workspace::run(Command::new(mdbook).arg("build").arg(&directory))?;
    println!(
        "written to {}",
        workspace::root().join("target/book/index.html").display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    /// A page that no list names is found by nobody; a link that leads nowhere costs its reader the
    /// thread.
    #[test]
    fn every_page_is_listed_and_every_link_leads_somewhere() {
        let directory = workspace::root().join("docs");
        let summary = fs::read_to_string(directory.join("SUMMARY.md")).unwrap();
        let listed: BTreeSet<&str> = summary.split(['(', ')']).filter(|word| word.ends_with(".md")).collect();
        let mut pages = BTreeSet::new();
        for entry in fs::read_dir(&directory).unwrap() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            if name.ends_with(".md") && name != "SUMMARY.md" {
                pages.insert(name);
            }
        }
        assert_eq!(pages.iter().map(String::as_str).collect::<BTreeSet<_>>(), listed);
        for page in pages.iter().map(String::as_str).chain(["SUMMARY.md"]) {
            let text = fs::read_to_string(directory.join(page)).unwrap();
            for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let file = link.split('#').next().unwrap_or_default();
                if file.is_empty() || link.contains("://") || link.contains(' ') {
                    continue;
                }
                assert!(directory.join(file).exists(), "{page}: {link} leads nowhere");
            }
        }
    }
}
