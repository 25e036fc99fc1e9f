//! `cargo xtask package`: what users install. A `.deb` with the daemon (the XDP program inside),
//! the key server, units, man pages and completions; the same tree as an archive; a list of what is
//! in them (SBOM). [`tried`] installs and runs it in a clean Debian.
//!
//! The same sources and compiler give the same bytes: owners, times and order are fixed.

mod bill;
mod tried;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edge_testbed::process;

use crate::workspace::{self, Profile};

const NAME: &str = "edge";
/// Where each program, unit and text goes.
const UNITS: [&str; 4] = [
    "edge.service",
    "edge.socket",
    "edge-keyserver.service",
    "edge-far-end.service",
];
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// dpkg leaves a file alone that an operator changed.
const CONFIGURATION: &str = "/etc/edge/edge.toml";
const DEPENDS: &str = "libc6 (>= 2.36), libgcc-s1, ca-certificates";
const TIME: Duration = Duration::from_secs(600);

/// Build what users install: a .deb, an archive, and the list of what is in them, in
/// target/package.
#[derive(clap::Args)]
pub(crate) struct Package {
    /// Use the binaries that were built before
    #[arg(long)]
    no_build: bool,
    /// Take the unoptimised build: to try the packaging
    #[arg(long)]
    dev: bool,
    /// Install and run it in a clean Debian root, made with debootstrap; needs root
    #[arg(long = "try")]
    tried: bool,
}

/// A tree to be packed.
struct Tree {
    root: PathBuf,
}

/// Builds.
pub(crate) fn run(package: &Package) -> Result<()> {
    let profile = if package.dev { Profile::Dev } else { Profile::Release };
    if !package.no_build {
        workspace::prepare(&[workspace::SETUP_BUILD, workspace::BUILD_EBPF, workspace::BUILD_JS])?;
        workspace::build_binaries(profile)?;
    }
    let output = workspace::output("package")?;
    for entry in fs::read_dir(&output)? {
        let path = entry?.path();
        match path.is_dir() {
            true => fs::remove_dir_all(&path)?,
            false => fs::remove_file(&path)?,
        }
    }
    let epoch = epoch()?;
    let version = version()?;
    let tree = Tree::lay(&output.join("tree"), profile)?;
    let bill = output.join(format!("{NAME}_{version}.cdx.json"));
    fs::write(&bill, bill::text(&version)?)?;
    tree.file(&bill, "usr/share/doc/edge/sbom.cdx.json", 0o644)?;
    let archive = output.join(format!("{NAME}-{version}-linux-{}.tar.gz", std::env::consts::ARCH));
    tree.archive(&archive, epoch)?;
    let deb = output.join(format!("{NAME}_{version}_{}.deb", architecture()));
    tree.deb(&deb, &version, epoch)?;
    fs::remove_dir_all(&tree.root)?;
    for path in [&deb, &archive, &bill] {
        println!("{} {:>9} KiB", path.display(), fs::metadata(path)?.len() >> 10);
    }
    if package.tried {
        tried::run(&deb, &output.join("root"))?;
    }
    workspace::give_back(&output)
}

/// As Debian calls this machine's.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Of the last commit, so that the day of packing is not in the bytes; else what the environment
/// says.
fn epoch() -> Result<u64> {
    if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
        return text.parse().context("SOURCE_DATE_EPOCH");
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(workspace::root());
    let output = process::output(&mut git, TIME)?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .context("no commit says how old the sources are; set SOURCE_DATE_EPOCH")
}

fn version() -> Result<String> {
    let manifest = fs::read_to_string(workspace::root().join("Cargo.toml"))?;
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = \""));
    Ok(line
        .context("Cargo.toml has no version")?
        .trim_end_matches('"')
        .to_owned())
}

impl Tree {
    /// Everything at its place.
    fn lay(root: &Path, profile: Profile) -> Result<Self> {
        let tree = Self { root: root.to_owned() };
        let scripts = workspace::root().join("scripts");
        for name in ["edge", "edge-keyserver"] {
            let to = format!("usr/bin/{name}");
            tree.file(&workspace::binary(name, profile), &to, 0o755)?;
            let strip = workspace::tool("strip").context("`strip` is missing: install binutils")?;
            workspace::run(Command::new(strip).arg("--strip-debug").arg(root.join(to)))?;
        }
        for unit in UNITS {
            let text = fs::read_to_string(scripts.join(unit))?;
            tree.text(&packed(&text), &format!("lib/systemd/system/{unit}"), 0o644)?;
        }
        let packages = scripts.join("packages");
        tree.file(&packages.join("edge.toml"), &CONFIGURATION[1..], 0o640)?;
        tree.file(&packages.join("index.html"), "usr/share/edge/www/index.html", 0o644)?;
        fs::create_dir_all(root.join("etc/edge-keyserver/keys"))?;
        for directory in ["docs", "scripts/prometheus", "scripts/grafana", "scripts/kubernetes"] {
            let name = directory.rsplit('/').next().unwrap_or(directory);
            for entry in fs::read_dir(workspace::root().join(directory))? {
                let path = entry?.path();
                let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if path.is_file() {
                    let to = match name {
                        "docs" => format!("usr/share/doc/edge/{file}"),
                        other => format!("usr/share/doc/edge/{other}/{file}"),
                    };
                    tree.file(&path, &to, 0o644)?;
                }
            }
        }
        for licence in ["LICENSE-APACHE", "LICENSE-MIT", "CHANGELOG.md"] {
            tree.file(
                &workspace::root().join(licence),
                &format!("usr/share/doc/edge/{licence}"),
                0o644,
            )?;
        }
        tree.generated(profile)?;
        Ok(tree)
    }

    /// What the daemon prints of itself.
    fn generated(&self, profile: Profile) -> Result<()> {
        for (arguments, to) in [
            (["generate", "man", "bash"], "usr/share/man/man1/edge.1"),
            (
                ["generate", "completions", "bash"],
                "usr/share/bash-completion/completions/edge",
            ),
            (
                ["generate", "completions", "zsh"],
                "usr/share/zsh/vendor-completions/_edge",
            ),
            (
                ["generate", "completions", "fish"],
                "usr/share/fish/vendor_completions.d/edge.fish",
            ),
        ] {
            let mut command = Command::new(workspace::binary("edge", profile));
            let output = process::output(command.args(arguments), TIME)?;
            ensure!(output.status.success(), "`{}` failed", workspace::show(&command));
            self.text(&String::from_utf8(output.stdout)?, to, 0o644)?;
        }
        Ok(())
    }

    fn file(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let to = self.place(to)?;
        fs::copy(from, &to).with_context(|| format!("copying {}", from.display()))?;
        Ok(fs::set_permissions(&to, fs::Permissions::from_mode(mode))?)
    }

    fn text(&self, text: &str, to: &str, mode: u32) -> Result<()> {
        let to = self.place(to)?;
        fs::write(&to, text)?;
        Ok(fs::set_permissions(&to, fs::Permissions::from_mode(mode))?)
    }

    fn place(&self, to: &str) -> Result<PathBuf> {
        let path = self.root.join(to);
        fs::create_dir_all(path.parent().context("a file without a directory")?)?;
        Ok(path)
    }

    fn archive(&self, to: &Path, epoch: u64) -> Result<()> {
        let mut tar = Command::new("tar");
        tar.args([
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--format=posix",
        ])
        .arg("--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime")
        .arg(format!("--mtime=@{epoch}"))
        // gzip writes neither name nor time of a stream.
        .args(["--use-compress-program", "gzip --no-name", "--create", "--file"])
        .arg(to)
        .arg("--directory")
        .arg(&self.root)
        .arg(".");
        workspace::run(&mut tar)
    }

    fn deb(&self, to: &Path, version: &str, epoch: u64) -> Result<()> {
        let control = self.root.join("DEBIAN");
        fs::create_dir_all(&control)?;
        fs::write(control.join("control"), self.control(version)?)?;
        fs::write(control.join("conffiles"), format!("{CONFIGURATION}\n"))?;
        for script in SCRIPTS {
            let from = workspace::root().join("scripts/packages").join(script);
            self.file(&from, &format!("DEBIAN/{script}"), 0o755)?;
        }
        let mut dpkg = Command::new(workspace::tool("dpkg-deb").context("`dpkg-deb` is missing: install dpkg")?);
        dpkg.env("SOURCE_DATE_EPOCH", epoch.to_string())
            .args(["--root-owner-group", "-Zxz", "--build"])
            .arg(&self.root)
            .arg(to);
        workspace::run(&mut dpkg)
    }

    fn control(&self, version: &str) -> Result<String> {
        let mut bytes = 0;
        sizes(&self.root, &mut bytes)?;
        Ok(format!(
            "Package: {NAME}\nVersion: {version}\nArchitecture: {}\nMaintainer: the edge authors <security@edge.invalid>\n\
             Installed-Size: {}\nDepends: {DEPENDS}\nSection: httpd\nPriority: optional\n\
             Description: reverse proxy that drops clients in the kernel that retry without waiting\n \
             HTTP/1.1, HTTP/2 and HTTP/3 for many tenants: workers in WebAssembly, a cache, compression by\n \
             differences, files and origins, with private keys that may lie on another machine.\n",
            architecture(),
            bytes >> 10,
        ))
    }
}

fn sizes(directory: &Path, bytes: &mut u64) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sizes(&entry.path(), bytes)?,
            false => *bytes += entry.metadata()?.len(),
        }
    }
    Ok(())
}

/// A unit as a package has it: programs are where packages put them.
fn packed(unit: &str) -> String {
    unit.lines()
        .filter(|line| !line.starts_with("#   "))
        .map(|line| line.replace("/usr/local/bin/", "/usr/bin/") + "\n")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A unit of a package that starts what only a hand-made installation has starts nothing.
    #[test]
    fn units_start_what_the_package_installs() {
        for unit in UNITS {
            let text = fs::read_to_string(workspace::root().join("scripts").join(unit)).unwrap();
            let text = packed(&text);
            assert!(!text.contains("/usr/local"), "{unit}");
            for line in text.lines().filter(|line| line.starts_with("ExecStart=")) {
                let program = line.trim_start_matches("ExecStart=").split(' ').next().unwrap();
                assert!(
                    ["/usr/bin/edge", "/usr/bin/edge-keyserver"].contains(&program),
                    "{line}"
                );
            }
        }
    }

    /// dpkg runs what is there; a script with a mistake leaves a package half installed.
    #[test]
    fn the_scripts_of_packages_are_sound() {
        for script in SCRIPTS {
            let path = workspace::root().join("scripts/packages").join(script);
            let status = Command::new("sh").arg("-n").arg(&path).status().unwrap();
            assert!(status.success(), "{script}");
        }
    }

    /// Dashboards and alerts of a metric that there is not show nothing and never fire.
    #[test]
    fn rules_and_dashboards_name_metrics_that_there_are() {
        let documented = fs::read_to_string(workspace::root().join("docs/metrics.md")).unwrap();
        let known: std::collections::BTreeSet<&str> = documented
            .split('`')
            .filter(|word| word.starts_with("edge_") || word.starts_with("process_"))
            .collect();
        let name = |b: char| b.is_ascii_alphanumeric() || b == '_' || b == ':';
        let mut seen = 0;
        for file in ["scripts/prometheus/rules.yaml", "scripts/grafana/edge.json"] {
            let text = fs::read_to_string(workspace::root().join(file)).unwrap();
            for word in text.split(|b| !name(b)) {
                if word.contains(':') || !(word.starts_with("edge_") || word.starts_with("process_")) {
                    continue;
                }
                let word = word.strip_suffix("_bucket").unwrap_or(word);
                assert!(known.contains(word), "{file}: {word} is in no table of docs/metrics.md");
                seen += 1;
            }
        }
        assert!(seen > 60, "only {seen} names were found");
    }

    /// promtool, where it is installed, evaluates them on series with known answers.
    #[test]
    fn alerts_fire_when_they_should() {
        let Some(promtool) = workspace::tool("promtool") else {
            println!("SKIPPED: promtool is not installed: run `cargo xtask setup test`");
            return;
        };
        let directory = workspace::root().join("scripts/prometheus");
        for words in [["check", "rules", "rules.yaml"], ["test", "rules", "tests.yaml"]] {
            let output = Command::new(&promtool)
                .args(words)
                .current_dir(&directory)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
