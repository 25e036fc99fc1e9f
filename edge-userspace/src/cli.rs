//! The `edge` command line. `bin/edge.rs` calls [`main`]; `cargo xtask man` prints pages and
//! completions from [`command`].

mod cache;
mod dev;
mod doctor;
mod explain;
mod fleet;
mod gather;
mod import;
mod kv;
mod origin;
mod quick;
mod source;
mod test;
mod top;
mod typescript;
mod worker;
mod wrangler;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::builder::PossibleValue;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use http::Method;

use crate::admin::{Denial, Denied, Lockdown, Penalty, TopSource, client};
use crate::base::clock::UnixTime;
use crate::base::penalty::{Level, Subject};
use crate::config::far::FarConfig;
use crate::config::value::AdminAddress;
use crate::config::{self, Config, LockdownMode, value};
use crate::fleet::event::Action;
use crate::node::Run;
use crate::{dataplane, gate, node};

/// An edge node: XDP in front, TLS and HTTP behind.
#[derive(Debug, Parser)]
#[command(name = "edge", version, arg_required_else_help = true)]
struct Edge {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node until SIGTERM (drains) or SIGINT; SIGHUP reloads zones, certificates, lists and
    /// limits.
    Run(Run),
    /// Serve a folder on this machine, by HTTP and HTTPS, without a configuration: to try things.
    Serve(quick::Serve),
    /// Serve what another server answers, on this machine, without a configuration: to try things.
    Proxy(quick::Proxy),
    /// Run beside origins, and answer the near ends of edges by what changed: until SIGTERM
    /// (drains) or SIGINT; SIGHUP reloads.
    FarEnd(FarEnd),
    /// Check a configuration without starting: files and certificates are read, nothing is bound or
    /// attached.
    Check(Check),
    /// Look at this machine with the configuration in hand: what will hurt, and how to mend it.
    /// Exit status 0: nothing; 1: warnings; 2: failures.
    Doctor(doctor::Doctor),
    /// Show a running node's state as JSON.
    Status(Asked),
    /// Watch a running node in the terminal: rates, zones, origins, workers, penalties, verdicts.
    Top(top::Top),
    /// Show or change the networks whose connection attempts are dropped, on a running node.
    Deny(OnNode<DenyCommand>),
    /// Show where the packets come from that XDP drops on a running node, by its samples of the
    /// last minute or two.
    TopSources(TopSourcesArguments),
    /// Show or change whom a running node's gate penalises.
    Penalty(OnNode<PenaltyCommand>),
    /// Void what a running node's cache has stored, make it stale, or have it filled.
    Cache(OnNode<cache::Command>),
    /// Many nodes that act as one: keys, deployments, what each node holds.
    Fleet(fleet::Arguments),
    /// Show a running node's origin servers, drain one, or give it another weight.
    Origin(OnNode<origin::Command>),
    /// Show or change whether a running node answers QUIC attempts that prove nothing with a Retry.
    Lockdown(LockdownArguments),
    /// Make, verify or inspect a wait token.
    Token(gate::command::Token),
    /// Deploy and watch zones' workers on a running node, or begin a new one.
    Worker(OnNode<worker::Command>),
    /// Try a worker on this machine: plain HTTP on 127.0.0.1, reloaded at each change, its log in
    /// the terminal.
    Dev(dev::Dev),
    /// Show or change what a zone's workers stored, on a running node.
    Kv(OnNode<kv::Command>),
    /// Print the configuration that another server's or platform's file becomes.
    Import(import::Import),
    /// Compile a worker from standard input to standard output, under limits: run by the daemon.
    #[command(hide = true)]
    WorkerCompile(worker::Compile),
    /// Remove XDP programs, maps and pins that a node left behind. Without this, protection
    /// outlives the daemon.
    Detach(Detach),
    /// Show the version and what this build can do.
    Version,
    /// Print a completion script or the manual page.
    #[command(hide = true)]
    Generate {
        /// What to print.
        what: Generated,
        /// With `completions`: for which shell.
        #[arg(default_value = "bash")]
        shell: clap_complete::Shell,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Generated {
    /// A completion script.
    Completions,
    /// Manual pages, one after the other, in roff.
    Man,
}

#[derive(Debug, Args)]
struct Check {
    /// The configuration file.
    #[arg(long, short, default_value = "/etc/edge/edge.toml")]
    config: PathBuf,
    /// Print every key with its default and what it means, and stop.
    #[arg(long)]
    print_defaults: bool,
    /// The same as a page in Markdown.
    #[arg(long, conflicts_with = "print_defaults")]
    print_reference: bool,
    /// Tell which zone rules fit a request, and what comes out: `GET https://shop.example/x?y`.
    #[arg(long, value_name = "REQUEST")]
    explain: Option<explain::Line>,
    /// With --explain: a field of the request, 'Name: value'; may be repeated.
    #[arg(long = "header", short = 'H', requires = "explain")]
    headers: Vec<explain::Field>,
    /// With --explain: the client's address.
    #[arg(long, requires = "explain", default_value = "192.0.2.1")]
    client: std::net::IpAddr,
    /// With --explain: the version the client speaks.
    #[arg(long, requires = "explain", value_enum, default_value = "h2")]
    protocol: explain::Protocol,
}

#[derive(Debug, Args)]
struct FarEnd {
    /// The configuration file.
    #[arg(long, short, default_value = "/etc/edge/far-end.toml")]
    config: PathBuf,
    /// Check the file and what it names, and stop.
    #[arg(long)]
    check: bool,
    /// Print every key with its default and what it means, and stop.
    #[arg(long)]
    print_defaults: bool,
}

#[derive(Debug, Args)]
struct Asked {
    /// The running node's admin endpoint: an address, or unix:/path.
    #[arg(long, global = true, env = "EDGE_ADMIN", default_value_t = AdminAddress::commands())]
    admin: AdminAddress,
}

/// One of several commands, to a running node.
#[derive(Debug, Args)]
struct OnNode<C: Subcommand> {
    #[command(subcommand)]
    command: C,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, Args)]
struct TopSourcesArguments {
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, Subcommand)]
enum DenyCommand {
    /// Drop new connection attempts from a network, across restarts.
    Add {
        #[command(flatten)]
        network: Network,
        /// End the connections that its clients have, too; on this node.
        #[arg(long, conflicts_with = "fleet")]
        cut: bool,
    },
    /// Lift what `edge deny add` denied. Networks of the configuration file are lifted there.
    Del(Network),
    /// List the networks and who denied them.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct Network {
    /// A network such as 192.0.2.0/24 or 2001:db8::/32, or one address.
    cidr: value::Network,
    #[command(flatten)]
    everywhere: fleet::Everywhere,
}

#[derive(Debug, Subcommand)]
enum PenaltyCommand {
    /// Penalise an address or a client in all zones, in the kernel too.
    Add {
        /// An address (of IPv6 its /64), or client: and the 16 hexadecimal digits of an id in
        /// tokens.
        subject: Subject,
        /// How hard.
        #[arg(long, value_enum, default_value = "blocked")]
        level: Level,
        /// For how long: 30s, 10m, 6h.
        #[arg(long = "for", default_value = "10m")]
        lasts: config::value::Time,
        #[command(flatten)]
        everywhere: fleet::Everywhere,
    },
    /// Lift whatever penalty is in force, strikes included.
    Lift {
        /// As for `add`.
        subject: Subject,
        #[command(flatten)]
        everywhere: fleet::Everywhere,
    },
    /// List whom the gate penalises now.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

impl ValueEnum for Level {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Deferred, Self::Blocked]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Deferred => "A few connections a second pass, for those who share the address",
            Self::Blocked => "Nothing passes",
        };
        Some(PossibleValue::new(self.word()).help(help))
    }
}

#[derive(Debug, Args)]
struct LockdownArguments {
    /// What to do.
    #[arg(value_enum)]
    command: LockdownCommand,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LockdownCommand {
    /// Lock the node down until told otherwise, or until it ends.
    On,
    /// Open it, whatever the rate of attempts.
    Off,
    /// Leave it to the rate of attempts.
    Auto,
    /// Show whether it is locked down.
    Status,
}

#[derive(Debug, Args)]
struct Detach {
    /// Where the node pinned its maps and links.
    #[arg(long, default_value = "/sys/fs/bpf/edge")]
    pin_directory: PathBuf,
    /// Though a node runs with it, which then runs without XDP.
    #[arg(long)]
    force: bool,
}

/// The command line as clap knows it.
pub fn command() -> clap::Command {
    Edge::command()
}

/// Reads the arguments and does what they say. Exit status 0: done; 1: failed, with the reason on
/// standard error; 2: the arguments were wrong.
pub fn main() -> ExitCode {
    let edge = Edge::parse();
    let done = match edge.command {
        Command::Run(run) => node::run(&run),
        Command::Serve(serve) => quick::serve(&serve),
        Command::Proxy(proxy) => quick::proxy(&proxy),
        Command::FarEnd(end) => far_end(end),
        Command::Check(check) => self::check(&check),
        Command::Doctor(doctor) => return doctor::run(&doctor),
        Command::Status(asked) => ask(&asked, Method::GET, "/status", String::new()).map(|text| print(&text)),
        Command::Top(top) => top::run(&top),
        Command::Deny(command) => deny(&command),
        Command::TopSources(command) => top_sources(&command),
        Command::Penalty(command) => penalty(&command),
        Command::Cache(arguments) => cache::run(&arguments),
        Command::Fleet(arguments) => fleet::run(&arguments),
        Command::Origin(arguments) => origin::run(&arguments),
        Command::Lockdown(command) => lockdown(&command),
        Command::Token(token) => match token_command(&token) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Command::Worker(command) => worker::run(&command),
        Command::Dev(dev) => dev::run(&dev),
        Command::Kv(command) => kv::run(&command),
        Command::Import(import) => match import::run(&import) {
            Ok(status) => return status,
            Err(error) => Err(error),
        },
        Command::WorkerCompile(arguments) => worker::compile(&arguments),
        Command::Detach(detach) => self::detach(&detach),
        Command::Version => {
            print(&version());
            Ok(())
        }
        Command::Generate { what, shell } => generate(what, shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output; a reader that went away (`edge status | head`) is no failure.
#[expect(clippy::let_underscore_must_use, reason = "nobody is left to tell")]
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn check(check: &Check) -> anyhow::Result<()> {
    if check.print_defaults {
        print(&config::defaults());
        return Ok(());
    }
    if check.print_reference {
        print(&config::reference::page(&config::defaults()));
        return Ok(());
    }
    let config = Config::read(&check.config)?;
    if let Some(line) = &check.explain {
        // Rules whose files cannot be used are explained as if these were empty.
        for fault in config.faults.of_zones().values().flatten() {
            eprintln!("warning: {fault}");
        }
        let request = line.request(&check.headers, check.client, check.protocol);
        print(&node::explain(&config, &request)?);
        return Ok(());
    }
    let zones = config.zones.len();
    for warning in node::check(config)? {
        eprintln!("warning: {warning}");
    }
    print(&format!("{}: {zones} zones, sound\n", check.config.display()));
    Ok(())
}

fn far_end(end: FarEnd) -> anyhow::Result<()> {
    if end.print_defaults {
        print(&config::far::defaults());
        return Ok(());
    }
    if !end.check {
        return node::far::run(end.config);
    }
    let config = FarConfig::read(&end.config)?;
    node::far::check(&config)?;
    let zones = config.zones.len();
    print(&format!("{}: {zones} zones, sound\n", end.config.display()));
    Ok(())
}

fn detach(detach: &Detach) -> anyhow::Result<()> {
    let found = dataplane::detach(&detach.pin_directory, detach.force).context("cannot detach")?;
    let directory = detach.pin_directory.display();
    print(&if found {
        format!("detached; {directory} removed\n")
    } else {
        format!("nothing is pinned in {directory}\n")
    });
    Ok(())
}

fn ask(asked: &Asked, method: Method, path: &str, body: String) -> anyhow::Result<String> {
    Ok(client::ask(&asked.admin, method, path, body)?)
}

fn top_sources(command: &TopSourcesArguments) -> anyhow::Result<()> {
    let text = ask(&command.asked, Method::GET, "/top-sources", String::new())?;
    if command.json {
        print(&text);
        return Ok(());
    }
    let list: Vec<TopSource> = serde_json::from_str(&text).context("the daemon's list cannot be read")?;
    let lines = list.iter().map(|source| {
        let rate = source.packets / source.seconds.max(1);
        format!("{}\t{}\t{rate}/s\n", source.prefix, source.reason)
    });
    print(&lines.collect::<String>());
    Ok(())
}

fn deny(deny: &OnNode<DenyCommand>) -> anyhow::Result<()> {
    match &deny.command {
        DenyCommand::Add { network, .. } if network.everywhere.fleet => {
            fleet::issue(&deny.asked, &network.everywhere, &Action::Deny(network.cidr.0))?;
        }
        DenyCommand::Del(network) if network.everywhere.fleet => {
            fleet::issue(&deny.asked, &network.everywhere, &Action::Lift(network.cidr.0))?;
        }
        DenyCommand::Add { network, cut } => {
            let text = ask(&deny.asked, Method::POST, "/deny", network.cidr.0.to_string())?;
            let what = match serde_json::from_str(&text).context("the daemon's answer cannot be read")? {
                Denial::Denied => "denied",
                Denial::Already => "was denied already:",
                Denial::Allowed => "kept without effect, for the allow list covers it:",
            };
            print(&format!("{what} {}\n", network.cidr.0));
            if *cut {
                let text = ask(&deny.asked, Method::POST, "/deny/cut", network.cidr.0.to_string())?;
                let count: usize = serde_json::from_str(&text).context("the daemon's answer cannot be read")?;
                print(&format!("connections cut: {count}\n"));
            }
        }
        DenyCommand::Del(network) => {
            ask(&deny.asked, Method::DELETE, "/deny", network.cidr.0.to_string())?;
            print(&format!("lifted {}\n", network.cidr.0));
        }
        DenyCommand::List { json } => {
            let text = ask(&deny.asked, Method::GET, "/deny", String::new())?;
            if *json {
                print(&text);
            } else {
                let list: Vec<Denied> = serde_json::from_str(&text).context("the daemon's list cannot be read")?;
                let lines = list.iter().map(|entry| {
                    let sources = [
                        ("file", entry.file),
                        ("operator", entry.operator),
                        ("(allowed)", entry.allowed),
                    ];
                    let sources: Vec<_> = sources.iter().filter(|s| s.1).map(|s| s.0).collect();
                    format!("{}\t{}\n", entry.network, sources.join(" "))
                });
                print(&lines.collect::<String>());
            }
        }
    }
    Ok(())
}

fn penalty(arguments: &OnNode<PenaltyCommand>) -> anyhow::Result<()> {
    match &arguments.command {
        PenaltyCommand::Add {
            subject,
            level,
            lasts,
            everywhere,
        } if everywhere.fleet => {
            let action = Action::Penalise {
                subject: subject.to_string(),
                blocked: *level == Level::Blocked,
                until: UnixTime::now().after(lasts.0).millis(),
            };
            fleet::issue(&arguments.asked, everywhere, &action)?;
        }
        PenaltyCommand::Lift { subject, everywhere } if everywhere.fleet => {
            fleet::issue(&arguments.asked, everywhere, &Action::Forgive(subject.to_string()))?;
        }
        PenaltyCommand::Add {
            subject, level, lasts, ..
        } => {
            let penalty = Penalty {
                subject: *subject,
                level: *level,
                seconds: lasts.0.as_secs().max(1),
            };
            ask(
                &arguments.asked,
                Method::POST,
                "/penalty",
                serde_json::to_string(&penalty)?,
            )?;
            print(&format!("penalised {subject} for {} s\n", penalty.seconds));
        }
        PenaltyCommand::Lift { subject, .. } => {
            ask(&arguments.asked, Method::DELETE, "/penalty", subject.to_string())?;
            print(&format!("lifted {subject}\n"));
        }
        PenaltyCommand::List { json } => {
            let text = ask(&arguments.asked, Method::GET, "/penalty", String::new())?;
            if *json {
                print(&text);
            } else {
                let list: Vec<Penalty> = serde_json::from_str(&text).context("the daemon's list cannot be read")?;
                let lines = list.iter().map(|penalty| {
                    let level = penalty.level.word();
                    format!("{}\t{level}\t{} s\n", penalty.subject, penalty.seconds)
                });
                print(&lines.collect::<String>());
            }
        }
    }
    Ok(())
}

fn lockdown(arguments: &LockdownArguments) -> anyhow::Result<()> {
    let mode = match arguments.command {
        LockdownCommand::On => Some(LockdownMode::On),
        LockdownCommand::Off => Some(LockdownMode::Off),
        LockdownCommand::Auto => Some(LockdownMode::Auto),
        LockdownCommand::Status => None,
    };
    let (method, body) = match mode {
        Some(mode) => (Method::POST, serde_json::to_string(&mode)?),
        None => (Method::GET, String::new()),
    };
    let text = ask(&arguments.asked, method, "/lockdown", body)?;
    let lockdown: Lockdown = serde_json::from_str(&text).context("the daemon's answer cannot be read")?;
    let state = if lockdown.on { "on" } else { "off" };
    let mode = match lockdown.mode {
        LockdownMode::Auto => "auto",
        LockdownMode::On | LockdownMode::Off => "manual",
    };
    let by = if lockdown.kernel { "kernel" } else { "daemon" };
    let rate = lockdown.attempts_per_second;
    let tcp = if lockdown.syn_cookies { "on" } else { "off" };
    print(&format!(
        "{state}\t{mode}\t{rate} attempts/s\tanswered by the {by}\tSYN cookies by XDP {tcp}\n"
    ));
    Ok(())
}

fn token_command(token: &gate::command::Token) -> anyhow::Result<bool> {
    let (mut input, mut out) = (std::io::stdin().lock(), std::io::stdout().lock());
    Ok(gate::command::run(token, UnixTime::now(), &mut input, &mut out)?)
}

fn version() -> String {
    let object = if dataplane::object_embedded() {
        "embedded"
    } else {
        "none (run `cargo xtask build-ebpf`, then build)"
    };
    format!("edge {}\neBPF object: {object}\n", env!("CARGO_PKG_VERSION"))
}

fn generate(what: Generated, shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut command = command();
    let mut out = Vec::new();
    match what {
        Generated::Completions => clap_complete::generate(shell, &mut command, "edge", &mut out),
        Generated::Man => {
            clap_mangen::Man::new(command.clone()).render(&mut out)?;
            for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
                let page = sub.clone().display_name(format!("edge-{}", sub.get_name()));
                clap_mangen::Man::new(page).render(&mut out)?;
            }
        }
    }
    print(&String::from_utf8(out)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A contradiction between arguments would panic at the first use.
    #[test]
    fn arguments_are_sound() {
        command().debug_assert();
        let run = Edge::try_parse_from([
            "edge",
            "run",
            "--config",
            "a.toml",
            "--interface",
            "a",
            "--interface",
            "b",
        ]);
        assert!(matches!(run.unwrap().command, Command::Run(run) if run.interface == ["a", "b"]));
        assert!(Edge::try_parse_from(["edge", "deny", "add", "nowhere"]).is_err());
        let purge = |what: &[&'static str]| {
            let line = ["edge", "cache", "purge"].iter().chain(what);
            Edge::try_parse_from(line).is_ok()
        };
        for wrong in [
            &[][..],
            &["--tag", "t"],
            &["https://a/", "--prefix", "https://a/"],
            &["https://a/", "--zone", "z"],
            &["--all", "--zone", "z"],
            &["--prefix", "https://a/", "--all"],
            &["--soft"],
            &["--soft", "--fleet", "--all"],
        ] {
            assert!(!purge(wrong), "{wrong:?}");
        }
        for right in [
            &["https://a/"][..],
            &["--prefix", "https://a/"],
            &["--zone", "z"],
            &["--zone", "z", "--tag", "t", "--soft"],
            &["--all"],
        ] {
            assert!(purge(right), "{right:?}");
        }
        assert!(Edge::try_parse_from(["edge", "run", "--no-xdp", "--xdp", "native"]).is_err());
    }
}
