//! `edge fleet`: keys, a fleet's files, a node's place in it, deployments. Talks to the engine
//! itself; what needs a running node (`edge cache purge --fleet`) goes through that node's admin
//! endpoint, which [`issue`] asks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;

use super::{Asked, print};
use crate::admin::client;
use crate::base::clock::UnixTime;
use crate::config::fleet::EngineAddress;
use crate::config::value::Time;
use crate::fleet::agent::Report;
use crate::fleet::deploy::{self, Deployer, Draft, Fleet, Outcome};
use crate::fleet::event::{Action, Order};
use crate::fleet::index::Standing;
use crate::fleet::key::{Identity, Public, Signer};
use crate::fleet::nats::{Login, Nats, trust};
use crate::node;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a deploy key, or an operator's, and print its public half.
    Keys {
        /// Where the secret half goes; a file that is not there yet.
        #[arg(long)]
        out: PathBuf,
    },
    /// Begin a fleet: write fleet.toml and a first edge.toml into a directory.
    Init(Init),
    /// Make this machine's node key, and print what to write into fleet.toml and into this node's
    /// configuration.
    Join(Join),
    /// Sign what a directory holds and give it to the fleet: edge.toml and all that it names, as
    /// `edge run` takes them.
    Deploy(Deploy),
    /// Show what every node holds.
    Status {
        #[command(flatten)]
        at: At,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Go back to an earlier manifest, under a new counter.
    Rollback {
        #[command(flatten)]
        signed: Signed,
        /// Its counter; else the one before the newest.
        #[arg(long)]
        to: Option<u64>,
    },
    /// Take a node out of service: nothing waits for it any more.
    Cordon(OfNode),
    /// Take a node out of service, and have it say that it is not ready, so that clients are sent
    /// elsewhere.
    Drain(OfNode),
    /// Put a node back into service.
    Uncordon(OfNode),
}

#[derive(Debug, Args)]
struct Init {
    /// The directory; made if it is not there.
    directory: PathBuf,
    /// The fleet's name: a-z, 0-9 and -.
    #[arg(long)]
    name: String,
    /// A server of the engine: tls://nats.example:4222; may be repeated.
    #[arg(long, required = true)]
    engine: Vec<String>,
    /// A deploy key, as `edge fleet keys` printed it; may be repeated.
    #[arg(long = "deploy-key", required = true)]
    keys: Vec<Public>,
    /// How many of them must sign.
    #[arg(long, default_value_t = 1)]
    threshold: usize,
    /// An operator's key; may be repeated. Without one, the deploy keys are the operators'.
    #[arg(long)]
    operator: Vec<Public>,
}

#[derive(Debug, Args)]
struct Join {
    /// This node's name: a-z, 0-9 and -.
    #[arg(long)]
    node: String,
    /// The fleet's directory, or a copy of its fleet.toml's directory.
    #[arg(long, default_value = ".")]
    fleet: PathBuf,
    /// Where the node keeps its key and manifests.
    #[arg(long, default_value = "/var/lib/edge/fleet")]
    directory: PathBuf,
    /// Add the node to fleet.toml instead of printing what to add.
    #[arg(long)]
    add: bool,
}

/// Which fleet, and who asks its engine.
#[derive(Debug, Args)]
struct At {
    /// The directory with fleet.toml.
    directory: PathBuf,
    /// The user at the engine.
    #[arg(long, requires = "password")]
    user: Option<String>,
    /// The file with the password.
    #[arg(long, requires = "user")]
    password: Option<PathBuf>,
    /// How long nodes may take to answer.
    #[arg(long, default_value = "10s")]
    wait: Time,
}

#[derive(Debug, Args)]
struct Signed {
    #[command(flatten)]
    at: At,
    /// A deploy key's file; as many as the fleet demands.
    #[arg(long, required = true)]
    key: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct Deploy {
    #[command(flatten)]
    signed: Signed,
    /// Put it into force on this node first, and on all others if it does well there; may be
    /// repeated.
    #[arg(long)]
    canary: Vec<String>,
    /// How long canaries must do well.
    #[arg(long, default_value = "30s", requires = "canary")]
    hold: Time,
}

#[derive(Debug, Args)]
struct OfNode {
    /// The node's name.
    node: String,
    #[command(flatten)]
    signed: Signed,
}

/// For commands that make something happen on every node.
#[derive(Debug, Args)]
pub(super) struct Everywhere {
    /// On every node of the fleet, through the node that is asked.
    #[arg(long)]
    pub(super) fleet: bool,
    /// With --fleet: how long to wait until it holds on every node in service.
    #[arg(long, requires = "fleet", default_value = "5s", num_args = 0..=1, default_missing_value = "5s")]
    wait: Time,
    /// With --fleet: an operator's key, for what a node may not say by itself.
    #[arg(long, requires = "fleet")]
    key: Option<PathBuf>,
}

/// Carries the command out.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Keys { out } => {
            let signer = Signer::generate()?;
            signer.write(out)?;
            print(&format!("{}\n", signer.public()));
            Ok(())
        }
        Command::Init(init) => self::init(init),
        Command::Join(join) => self::join(join),
        Command::Deploy(deploy) => within(self::deploy(deploy)),
        Command::Status { at, json } => within(status(at, *json)),
        Command::Rollback { signed, to } => within(async {
            let fleet = Fleet::read(&signed.at.directory)?;
            let deployer = connect(&signed.at, &fleet).await?;
            let (counter, draft) = deployer.earlier(*to).await?;
            print(&format!("back to manifest {counter}\n"));
            publish(&deployer, draft, signed).await
        }),
        Command::Cordon(of) => within(stand(of, Standing::Cordoned)),
        Command::Drain(of) => within(stand(of, Standing::Drained)),
        Command::Uncordon(of) => within(stand(of, Standing::InService)),
    }
}

fn within<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}

fn init(init: &Init) -> anyhow::Result<()> {
    std::fs::create_dir_all(&init.directory).with_context(|| init.directory.display().to_string())?;
    for text in &init.engine {
        if let Err((what, mend)) = text.parse::<EngineAddress>() {
            bail!("{what}; {mend}");
        }
    }
    let operators = if init.operator.is_empty() {
        &init.keys
    } else {
        &init.operator
    };
    let fleet = Fleet {
        name: init.name.clone(),
        engine: init.engine.clone(),
        keys: init.keys.clone(),
        threshold: init.threshold,
        replicas: 1,
        ca: None,
        operators: operators.clone(),
        secrets: Vec::new(),
        vault: Vec::new(),
        node: Vec::new(),
    };
    let path = init.directory.join(deploy::FLEET_FILE);
    write_new(&path, &toml::to_string(&fleet)?)?;
    Fleet::read(&init.directory)?;
    let config = init.directory.join("edge.toml");
    if !config.exists() {
        write_new(
            &config,
            "# The zones of the fleet: [[zone]] and all that they share. Listeners are each node's own.\n",
        )?;
    }
    print(&format!(
        "{}: now `edge fleet join` on each node, then `edge fleet deploy`\n",
        path.display()
    ));
    Ok(())
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(|| path.display().to_string())?;
    Ok(file.write_all(text.as_bytes())?)
}

fn join(join: &Join) -> anyhow::Result<()> {
    let fleet = Fleet::read(&join.fleet)?;
    if !crate::fleet::is_name(&join.node) {
        bail!("\"{}\" is not a name; write 1 to 64 of a-z, 0-9 and -", join.node);
    }
    crate::base::directory::make(&join.directory)?;
    let path = join.directory.join(node::fleet::KEY);
    let identity = match path.exists() {
        true => Identity::read(&path)?,
        false => {
            let identity = Identity::generate()?;
            identity.write(&path)?;
            identity
        }
    };
    let member = format!(
        "[[node]]\nname = \"{}\"\nkey = \"{}\"\nseal = \"{}\"\n",
        join.node,
        identity.signer.public(),
        identity.recipient()
    );
    if join.add {
        use std::io::Write as _;
        if fleet.node.iter().any(|node| node.name == join.node) {
            bail!("fleet.toml has a node \"{}\" already", join.node);
        }
        let path = join.fleet.join(deploy::FLEET_FILE);
        let mut file = std::fs::OpenOptions::new().append(true).open(&path)?;
        file.write_all(format!("\n{member}").as_bytes())?;
    } else {
        print(&format!("# into fleet.toml, before the next deployment:\n{member}\n"));
    }
    let engine: Vec<String> = fleet.engine.iter().map(|text| format!("\"{text}\"")).collect();
    let keys: Vec<String> = fleet.keys.iter().map(|key| format!("\"{key}\"")).collect();
    print(&format!(
        "# into this node's edge.toml:\n[fleet]\nname = \"{}\"\nnode = \"{}\"\nengine = [{}]\nkeys = [{}]\nthreshold = {}\nreplicas = {}\n\
         directory = \"{}\"\n",
        fleet.name,
        join.node,
        engine.join(", "),
        keys.join(", "),
        fleet.threshold,
        fleet.replicas,
        join.directory.display()
    ));
    Ok(())
}

async fn connect<'a>(at: &At, fleet: &'a Fleet) -> anyhow::Result<Deployer<'a>> {
    let mut servers = Vec::new();
    for text in &fleet.engine {
        match text.parse::<EngineAddress>() {
            Ok(address) => servers.push((&address).into()),
            Err((what, mend)) => bail!("{what}; {mend}"),
        }
    }
    let ca = fleet.ca.as_ref().map(|ca| at.directory.join(ca));
    let tls = trust::tls(ca.as_deref(), None).map_err(anyhow::Error::msg)?;
    let login = at.user.as_ref().zip(at.password.as_ref());
    let login = login.map(|(user, password)| Login::read(user, password)).transpose();
    let login = login.map_err(anyhow::Error::msg)?;
    let engine = Nats::new(&fleet.name, servers, tls, login, fleet.replicas);
    Ok(Deployer::connect(&engine, fleet).await?)
}

async fn publish(deployer: &Deployer<'_>, draft: Draft, signed: &Signed) -> anyhow::Result<()> {
    let outcome = publish_for(deployer, draft, signed).await?;
    tell(&outcome)
}

async fn publish_for(deployer: &Deployer<'_>, draft: Draft, signed: &Signed) -> anyhow::Result<Outcome> {
    let signers = signed
        .key
        .iter()
        .map(|path| Signer::read(path))
        .collect::<Result<Vec<_>, _>>()?;
    let index = draft.index.clone();
    let (head, sent) = deployer.publish(draft, &signers).await?;
    let said = head.said();
    print(&format!(
        "manifest {} of fleet {}: {} files\n",
        said.counter,
        said.fleet,
        index.files.len()
    ));
    Ok(deployer.outcome(&head, &index, sent, signed.at.wait.0).await?)
}

fn tell(outcome: &Outcome) -> anyhow::Result<()> {
    for (node, (millis, prepared)) in &outcome.in_force {
        print(&format!(
            "{node}\tin force after {millis} ms, {prepared} of them to prepare\n"
        ));
    }
    for node in &outcome.fetched {
        print(&format!("{node}\tfetched\n"));
    }
    for (node, why) in &outcome.refused {
        print(&format!("{node}\trefused: {}\n", why.replace('\n', "\n\t")));
    }
    for node in &outcome.silent {
        print(&format!("{node}\thas not answered\n"));
    }
    match outcome.is_whole() {
        true => Ok(()),
        false => bail!("manifest {} is not in force on every node in service", outcome.counter),
    }
}

async fn deploy(deploy: &Deploy) -> anyhow::Result<()> {
    let signed = &deploy.signed;
    let fleet = Fleet::read(&signed.at.directory)?;
    if fleet.node.is_empty() {
        bail!("fleet.toml names no node; run `edge fleet join` on each, and add what it prints");
    }
    let draft = deploy::draft(&signed.at.directory, &fleet)?;
    if !draft.index.files.iter().any(|file| file.path == "edge.toml") {
        bail!("{} has no edge.toml", signed.at.directory.display());
    }
    let deployer = connect(&signed.at, &fleet).await?;
    if deploy.canary.is_empty() {
        return publish(&deployer, draft, signed).await;
    }
    staged(&deployer, draft, deploy).await
}

/// First on canaries, then on all; back if canaries do worse than the others.
async fn staged(deployer: &Deployer<'_>, draft: Draft, deploy: &Deploy) -> anyhow::Result<()> {
    let signed = &deploy.signed;
    if let Some(stranger) = deploy.canary.iter().find(|node| draft.index.member(node).is_none()) {
        bail!("fleet.toml has no node \"{stranger}\"");
    }
    let before = deployer.heads().await?.first().map(|head| head.said().counter);
    let mut first = Draft {
        index: draft.index.clone(),
        blobs: draft.blobs.clone(),
    };
    first.index.only.clone_from(&deploy.canary);
    let begun = deployer.roll(&draft.index, Duration::from_secs(2)).await?;
    let outcome = publish_for(deployer, first, signed).await?;
    let sound = outcome.is_whole();
    tell(&outcome).ok();
    if sound {
        print(&format!(
            "canaries {} are watched for {} s\n",
            deploy.canary.join(", "),
            deploy.hold.0.as_secs()
        ));
        tokio::time::sleep(deploy.hold.0).await;
        let ended = deployer.roll(&draft.index, Duration::from_secs(2)).await?;
        match deploy::judge(&deploy.canary, &begun, &ended) {
            Ok(words) => {
                print(&format!("{words}\n"));
                return publish(deployer, draft, signed).await;
            }
            Err(words) => print(&format!("{words}\n")),
        }
    }
    let Some(before) = before else {
        bail!("the canaries could not take the fleet's first manifest")
    };
    let (counter, draft) = deployer.earlier(Some(before)).await?;
    print(&format!("back to manifest {counter}\n"));
    publish(deployer, draft, signed).await?;
    bail!("the manifest was taken back")
}

async fn stand(of: &OfNode, standing: Standing) -> anyhow::Result<()> {
    let fleet = Fleet::read(&of.signed.at.directory)?;
    let deployer = connect(&of.signed.at, &fleet).await?;
    let draft = deployer.restanding(&of.node, standing).await?;
    publish(&deployer, draft, &of.signed).await?;
    print("write the same `state` into fleet.toml, or the next deployment undoes it\n");
    Ok(())
}

async fn status(at: &At, json: bool) -> anyhow::Result<()> {
    let fleet = Fleet::read(&at.directory)?;
    let deployer = connect(at, &fleet).await?;
    let heads = deployer.heads().await?;
    let head = heads
        .first()
        .context("the engine holds no manifest of this fleet; deploy one first")?;
    let index = deployer.index(head).await?;
    let roll = deployer.roll(&index, at.wait.0.min(Duration::from_secs(3))).await?;
    if json {
        let value = serde_json::json!({ "counter": head.said().counter, "nodes": index.nodes, "held": roll });
        print(&format!("{}\n", serde_json::to_string_pretty(&value)?));
        return Ok(());
    }
    let said = head.said();
    let age = UnixTime::now().since(said.time).as_secs();
    print(&format!(
        "manifest {} of {} files, signed {age} s ago\n",
        said.counter,
        index.files.len()
    ));
    for node in &index.nodes {
        let state = match node.state {
            Standing::InService => "in service",
            Standing::Cordoned => "cordoned",
            Standing::Drained => "drained",
        };
        let held = match roll.get(&node.name) {
            None => "has not answered".to_owned(),
            Some(receipt) => match &receipt.refused {
                Some((counter, why)) => format!("holds {}, refused {counter}: {why}", receipt.counter),
                None => format!("holds {}", receipt.counter),
            },
        };
        print(&format!("{}\t{state}\t{held}\n", node.name));
    }
    Ok(())
}

/// Makes `action` happen on every node, through the node that is asked; fails if it does not hold
/// on every node in service.
pub(super) fn issue(asked: &Asked, everywhere: &Everywhere, action: &Action) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Status {
        fleet: Option<Of>,
    }
    #[derive(Deserialize)]
    struct Of {
        fleet: String,
    }
    let order = match &everywhere.key {
        None => None,
        Some(path) => {
            let signer = Signer::read(path)?;
            let status = client::ask(&asked.admin, Method::GET, "/status", String::new())?;
            let status: Status = serde_json::from_str(&status).context("the daemon's answer cannot be read")?;
            let fleet = status.fleet.context("the node that was asked is in no fleet")?.fleet;
            Some(Order::new(&fleet, action, UnixTime::now(), &signer))
        }
    };
    let patience = everywhere.wait.0;
    let body = serde_json::json!({ "action": action, "order": order, "patience_millis": patience.as_millis() as u64 });
    let answer = client::send(
        &asked.admin,
        Method::POST,
        "/fleet/event",
        body.to_string().into(),
        patience + Duration::from_secs(10),
    )?;
    let report: Report = serde_json::from_str(&answer).context("the daemon's answer cannot be read")?;
    for (node, why) in &report.failed {
        print(&format!("{node}\tcould not: {why}\n"));
    }
    for node in &report.silent {
        print(&format!(
            "{node}\thas not answered: it is down, or cut off and serves what it had\n"
        ));
    }
    if !report.out.is_empty() {
        print(&format!("out of service, not waited for: {}\n", report.out.join(", ")));
    }
    if !report.is_proven() {
        bail!("it does not hold everywhere: proven on {}", report.proven.join(", "));
    }
    print(&format!(
        "proven on {} after {} ms\n",
        report.proven.join(", "),
        report.millis
    ));
    Ok(())
}
