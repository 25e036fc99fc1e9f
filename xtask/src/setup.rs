//! `cargo xtask setup`: finds what building, testing, linting and benches need, and installs what
//! is missing.
//!
//! Programs of the distribution (`packages`), a toolchain that can build eBPF (`toolchain`), a
//! compiler for the JavaScript engine (`clang`), and cargo programs, which go to `target/tools` and
//! never over a user's own. All of it may be run again at any time.

mod clang;
mod clients;
mod packages;
mod toolchain;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::workspace;

pub(crate) use clang::Clang;
pub(crate) use toolchain::Toolchain;

/// Find or install what is missing on this machine.
///
/// Uses what is there first: a rustup toolchain with `rust-src`, a bpf-linker of the right LLVM,
/// programs in the search path. What is missing comes from Debian's or Ubuntu's packages (as root,
/// or by sudo), or is built into target/tools.
#[derive(clap::Args)]
pub(crate) struct Setup {
    /// What to set up for
    #[arg(value_enum, default_values_t = [Purpose::Build, Purpose::Test])]
    purposes: Vec<Purpose>,
    /// Only report; fail if anything is missing
    #[arg(long)]
    check: bool,
}

/// What a tool is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Purpose {
    /// Building the daemon and its XDP program
    Build,
    /// The tests and the demo
    Test,
    /// `cargo xtask lint`
    Lint,
    /// `cargo xtask bench`
    Bench,
    /// Feature `legacy-rsa` and `cargo xtask test --legacy-rsa`
    Legacy,
    /// `cargo xtask test --componentize-js`
    Componentize,
    /// `cargo xtask conform`
    Conform,
    /// `cargo xtask test --kernels`
    Kernels,
    /// `cargo xtask package --try`
    Package,
    /// `cargo xtask docs`
    Docs,
}

/// A program that comes in a package.
struct Tool {
    program: &'static str,
    package: &'static str,
    purposes: &'static [Purpose],
}

const TOOLS: &[Tool] = {
    use Purpose::{Bench, Build, Componentize, Conform, Kernels, Legacy, Lint, Package, Test};
    &[
        tool("cc", "gcc", &[Build]),
        tool("make", "make", &[Build]),
        tool("ip", "iproute2", &[Test, Bench, Conform]),
        tool("curl", "curl", &[Test, Bench]),
        tool("openssl", "openssl", &[Test, Bench, Conform, Legacy]),
        tool("python3", "python3", &[Test]),
        tool("taskset", "util-linux", &[Bench]),
        tool("nginx", "nginx-light", &[Bench]),
        tool("caddy", "caddy", &[Bench]),
        tool("h2load", "nghttp2-client", &[Bench]),
        tool("python3", "python3", &[Bench]),
        tool("zstd", "zstd", &[Test]),
        tool("nft", "nftables", &[Bench]),
        tool("ethtool", "ethtool", &[Bench]),
        tool("xdp-filter", "xdp-tools", &[Bench]),
        tool("npm", "npm", &[Bench, Componentize, Conform]),
        tool("softhsm2-util", "softhsm2", &[Test]),
        // BoringSSL's; its libclang comes with the clang of the JavaScript engine. Lints look at
        // every feature.
        tool("git", "git", &[Lint, Legacy]),
        tool("cmake", "cmake", &[Lint, Legacy]),
        tool("c++", "g++", &[Lint, Legacy]),
        tool("testssl", "testssl.sh", &[Conform]),
        tool("node", "nodejs", &[Conform]),
        tool("go", "golang-go", &[Conform]),
        tool("qemu-system-x86_64", "qemu-system-x86", &[Kernels]),
        tool("busybox", "busybox-static", &[Kernels]),
        tool("strip", "binutils", &[Kernels, Package]),
        tool("debootstrap", "debootstrap", &[Package]),
        tool("cmake", "cmake", &[Conform]),
        tool("c++", "g++", &[Conform]),
    ]
};

/// What a test says SKIPPED without: where the distribution has no such package (Ubuntu's Chromium
/// is a snap), setup goes on.
const OPTIONAL: &[Tool] = &[
    tool("pebble", "pebble", &[Purpose::Test]),
    tool("promtool", "prometheus", &[Purpose::Test]),
    tool("chromium", "chromium", &[Purpose::Test]),
    tool("chromedriver", "chromium-driver", &[Purpose::Test]),
    // An engine that distributions have; one without known holes comes from PyPI (`clients`).
    tool("nats-server", "nats-server", &[Purpose::Test]),
];

/// Libraries that h2spec is built of, each with where its package puts it.
const GO_LIBRARIES: &[(&str, &str)] = &[
    (
        "golang-golang-x-net-dev",
        "/usr/share/gocode/src/golang.org/x/net/http2",
    ),
    (
        "golang-github-spf13-cobra-dev",
        "/usr/share/gocode/src/github.com/spf13/cobra",
    ),
    (
        "golang-github-fatih-color-dev",
        "/usr/share/gocode/src/github.com/fatih/color",
    ),
];

const fn tool(program: &'static str, package: &'static str, purposes: &'static [Purpose]) -> Tool {
    Tool {
        program,
        package,
        purposes,
    }
}

/// Sets the machine up.
pub(crate) fn run(setup: &Setup) -> Result<()> {
    let mut machine = Machine {
        setup,
        missing: Vec::new(),
    };
    machine.programs()?;
    machine.go_libraries()?;
    machine.optional_programs();
    machine.clients()?;
    machine.ebpf_toolchain()?;
    machine.clang()?;
    machine.cargo_programs()?;
    machine.finish()
}

/// The machine that is set up, or only looked at.
struct Machine<'a> {
    setup: &'a Setup,
    /// What only a look has found missing, or nobody here can install.
    missing: Vec<String>,
}

impl Machine<'_> {
    fn wants(&self, purposes: &[Purpose]) -> bool {
        purposes.iter().any(|purpose| self.setup.purposes.contains(purpose))
    }

    /// Programs of the distribution.
    fn programs(&mut self) -> Result<()> {
        let absent: Vec<_> = TOOLS
            .iter()
            .filter(|tool| self.wants(tool.purposes) && workspace::tool(tool.program).is_none())
            .collect();
        if self.setup.check {
            let words = |tool: &&Tool| format!("{} (package {})", tool.program, tool.package);
            self.missing.extend(absent.iter().map(words));
        } else if !absent.is_empty() {
            let packages: Vec<_> = absent.iter().map(|tool| tool.package).collect();
            packages::install(&packages)?;
            for tool in absent {
                workspace::need(tool.program, workspace::SETUP_BENCH)?;
            }
        }
        Ok(())
    }

    /// Libraries of Go that h2spec is built of.
    fn go_libraries(&mut self) -> Result<()> {
        if !self.wants(&[Purpose::Conform]) {
            return Ok(());
        }
        let absent: Vec<_> = GO_LIBRARIES
            .iter()
            .filter(|(_, path)| !Path::new(path).is_dir())
            .map(|(package, _)| *package)
            .collect();
        if self.setup.check {
            self.missing
                .extend(absent.iter().map(|package| format!("package {package}")));
        } else if !absent.is_empty() {
            packages::install(&absent)?;
        }
        Ok(())
    }

    fn optional_programs(&self) {
        for tool in OPTIONAL {
            let wanted = self.wants(tool.purposes) && workspace::tool(tool.program).is_none();
            if wanted && (self.setup.check || !packages::install_optional(tool.package)) {
                println!(
                    "setup: without {} (package {}): its test is skipped",
                    tool.program, tool.package
                );
            }
        }
    }

    /// Clients, peers and kernels, from elsewhere than the distribution.
    fn clients(&self) -> Result<()> {
        let check = self.setup.check;
        if self.wants(&[Purpose::Test]) {
            clients::aioquic(check)?;
            clients::nats(check)?;
        }
        if self.wants(&[Purpose::Bench]) {
            clients::peers(check)?;
        }
        if self.wants(&[Purpose::Kernels]) && !check && packages::available() {
            packages::refresh()?;
            crate::kernels::fetch()?;
        }
        Ok(())
    }

    fn ebpf_toolchain(&mut self) -> Result<()> {
        let Some(toolchain) = toolchain::ensure(self.setup.check)? else {
            self.missing
                .push("a Rust toolchain with the source of `core`, and a bpf-linker of its LLVM".into());
            return Ok(());
        };
        println!("setup: eBPF by {toolchain}");
        if self.wants(&[Purpose::Lint]) && !toolchain.has_clippy() {
            match self.setup.check {
                true => self.missing.push("clippy for the eBPF toolchain".into()),
                false => toolchain.install_clippy()?,
            }
        }
        Ok(())
    }

    /// The compiler of the JavaScript engine.
    fn clang(&mut self) -> Result<()> {
        match clang::ensure(self.setup.check)? {
            Some(clang) => println!("setup: JavaScript engine by {clang}"),
            None => self.missing.push("clang, wasm-ld and libclang-rt for wasm32".into()),
        }
        Ok(())
    }

    /// Programs that cargo builds, and its own parts.
    fn cargo_programs(&mut self) -> Result<()> {
        if self.wants(&[Purpose::Docs]) {
            self.cargo_program("mdbook")?;
        }
        if self.wants(&[Purpose::Lint]) {
            for component in ["fmt", "clippy"] {
                let found = Command::new("cargo")
                    .args([component, "--version"])
                    .output()
                    .is_ok_and(|o| o.status.success());
                if !found {
                    let name = rustup_name(component);
                    self.missing
                        .push(format!("cargo {component} (`rustup component add {name}`)"));
                }
            }
            self.cargo_program("cargo-deny")?;
        }
        Ok(())
    }

    fn cargo_program(&mut self, name: &str) -> Result<()> {
        if workspace::tool(name).is_some() {
            return Ok(());
        }
        match self.setup.check {
            true => self.missing.push(name.to_owned()),
            false => cargo_install(name, &[], &[])?,
        }
        Ok(())
    }

    /// # Errors
    /// Something is missing.
    fn finish(self) -> Result<()> {
        if self.missing.is_empty() {
            println!("setup: everything is there");
            return Ok(());
        }
        let again = self
            .setup
            .purposes
            .iter()
            .map(|purpose| format!(" {purpose:?}").to_lowercase())
            .collect::<String>();
        bail!(
            "missing: {}; `cargo xtask setup{again}` installs what can be installed",
            self.missing.join(", ")
        );
    }
}

fn rustup_name(component: &str) -> &str {
    if component == "fmt" { "rustfmt" } else { component }
}

/// Builds a program from crates.io into `target/tools`.
fn cargo_install(name: &str, arguments: &[&str], environment: &[(&str, &OsStr)]) -> Result<()> {
    let root = workspace::output("tools")?;
    println!(
        "setup: building {name} into {} (a few minutes)",
        root.join("bin").display()
    );
    let build = root.join("build");
    let mut command = workspace::cargo_command();
    command
        .args(["install", "--locked", "--force", "--root"])
        .arg(&root)
        .arg("--target-dir")
        .arg(&build)
        .arg(name)
        .args(arguments)
        .envs(environment.iter().copied());
    let done = workspace::run(&mut command);
    // Half a gigabyte that nobody needs again.
    let _ = std::fs::remove_dir_all(build);
    done
}
