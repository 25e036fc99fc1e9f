//! `cargo xtask soak`: the whole edge under load in every version of HTTP while its surroundings
//! fail, and an oracle that knows every byte of every answer.
//!
//! [`world`] is what runs, [`faults`] what is done to it, [`judge`] which failures of visitors a
//! fault explains, and [`level`] what the daemon holds when nobody asks anything. The load and the
//! oracle are `soak-load`, a program of the test bed.

mod faults;
mod judge;
mod level;
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};
use edge_testbed::changing::Noise;
use edge_testbed::{interrupt, netns, pins};
use serde::Serialize;

use crate::workspace::{self, Profile};
use faults::Kind;
use judge::{Failure, Injected, Verdict};
use level::{Level, Limit};
use world::World;

/// Load before the first fault, so that caches, pools and memory have their size.
const WARM: Duration = Duration::from_secs(20);
/// How long the edge may take to come back to its level.
const SETTLE: Duration = Duration::from_secs(60);
/// The edge itself is not killed in the last part of the run: what leaks needs time to be seen.
const LAST_LIFE: f64 = 0.5;
/// No fault begins so shortly before the end.
const TAIL: Duration = Duration::from_secs(12);

/// Load everything while roles, links, disks and keys fail, and check every byte of every answer.
///
/// Needs root. Writes target/soak/report.json. Fails if one answer was wrong, if one failed that no
/// fault explains, or if memory, descriptors, threads or maps do not come back to their level.
#[derive(clap::Args)]
pub(crate) struct Soak {
    /// How long faults go on
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Visitors at once
    #[arg(long, default_value_t = 12)]
    visitors: u32,
    /// Only faults of this kind; may be repeated
    #[arg(long = "fault", value_enum)]
    faults: Vec<Kind>,
    /// No faults at all
    #[arg(long, conflicts_with = "faults")]
    calm: bool,
    /// Only visitors of these zones, by names with commas
    #[arg(long, default_value = "")]
    zones: String,
    /// The order of faults and requests follows from it; left out: another one each time
    #[arg(long)]
    seed: Option<u64>,
    /// Use the binaries that were built before, without `setup` and building
    #[arg(long)]
    no_build: bool,
    /// Take the unoptimised build
    #[arg(long)]
    dev: bool,
}

#[derive(Serialize)]
struct Report {
    minutes: u64,
    seed: u64,
    dev: bool,
    /// Right answers by zone and version.
    right: BTreeMap<String, u64>,
    injected: Vec<Injected>,
    /// Failures that a fault explains, by the fault's kind.
    explained: BTreeMap<String, u64>,
    wrong: Vec<Failure>,
    unexplained: Vec<Failure>,
    before: Level,
    after: Level,
    beyond: Vec<String>,
}

/// Soaks.
pub(crate) fn run(soak: &Soak) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "network namespaces and XDP need root: `sudo -E env PATH=$PATH cargo xtask soak`"
    );
    let profile = if soak.dev { Profile::Dev } else { Profile::Release };
    if !soak.no_build {
        workspace::prepare(&[
            workspace::SETUP_TEST,
            workspace::BUILD_EBPF,
            workspace::BUILD_JS,
            workspace::BUILD_WORKERS,
        ])?;
        workspace::build_binaries(profile)?;
        let mut arguments = vec![
            "build",
            "-p",
            "edge-testbed",
            "--features",
            "soak",
            "--bin",
            "soak-load",
        ];
        if profile == Profile::Release {
            arguments.push("--release");
        }
        workspace::cargo(&arguments)?;
    }
    netns::sweep()?;
    pins::sweep();
    let directory = workspace::output("soak")?;
    let seed = soak.seed.unwrap_or_else(|| Noise::of_now().draw() >> 32);
    println!("seed {seed}; logs and configuration are in {}", directory.display());
    let mut world = World::start(&directory, profile)?;

    let mut warm = world.visitors("warm", soak.visitors, &soak.zones, WARM, seed)?;
    warm.wait(WARM + Duration::from_secs(60))?;
    let (_, early) = judge::read(&warm.logs())?;
    let early = Verdict::of(early, &[]);
    if let Some(failure) = early.wrong.iter().chain(&early.unexplained).next() {
        bail!("without any fault an answer was not right: {failure}");
    }
    let before = level::settled(&world, None, SETTLE)?;
    println!("level {before}");

    let lasts = Duration::from_secs(soak.minutes * 60);
    let mut visitors = world.visitors("visitors", soak.visitors, &soak.zones, lasts, seed + 1)?;
    let injected = match soak.calm {
        true => Vec::new(),
        false => inject(&mut world, soak, lasts, seed)?,
    };
    visitors.wait(lasts + Duration::from_secs(90))?;
    let (right, failures) = judge::read(&visitors.logs())?;
    let after = level::settled(&world, Some(&before), SETTLE)?;
    let verdict = Verdict::of(failures, &injected);
    let report = Report {
        minutes: soak.minutes,
        seed,
        dev: soak.dev,
        right,
        injected,
        explained: verdict.explained,
        wrong: verdict.wrong,
        unexplained: verdict.unexplained,
        beyond: Limit::STANDARD.beyond(&before, &after),
        before,
        after,
    };
    let file = directory.join("report.json");
    fs::write(&file, serde_json::to_string_pretty(&report)? + "\n")?;
    report.print();
    println!("written to {}", file.display());
    workspace::give_back(&directory)?;
    drop(world);
    report.outcome()
}

/// One fault after the other until the time is nearly over.
fn inject(world: &mut World, soak: &Soak, lasts: Duration, seed: u64) -> Result<Vec<Injected>> {
    let mut noise = Noise::new(seed);
    let start = Instant::now();
    let mut injected = Vec::new();
    let mut deck: Vec<Kind> = Vec::new();
    while start.elapsed() + TAIL < lasts && !interrupt::requested() {
        let calm = 1_000 + noise.below(3_000);
        std::thread::sleep(Duration::from_millis(calm));
        let last_life = start.elapsed().as_secs_f64() > lasts.as_secs_f64() * LAST_LIFE;
        if deck.is_empty() {
            // All kinds before any comes again.
            deck = match soak.faults.is_empty() {
                true => Kind::ALL.to_vec(),
                false => soak.faults.clone(),
            };
        }
        let at = usize::try_from(noise.below(deck.len() as u64)).unwrap_or(0);
        let kind = deck.swap_remove(at);
        if last_life && kind.ends_edge() && soak.faults.is_empty() {
            continue;
        }
        let from_ms = now_ms();
        print!("{:>5.0} s  {}", start.elapsed().as_secs_f64(), kind.name());
        let told = faults::inject(world, kind, &mut noise)?;
        let to_ms = now_ms();
        println!(" ({:.1} s){told}", (to_ms - from_ms) as f64 / 1e3);
        injected.push(Injected { kind, from_ms, to_ms });
        world.check()?;
    }
    Ok(injected)
}

/// Milliseconds since 1970, as the load's lines have them.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}

impl Report {
    fn print(&self) {
        let total: u64 = self.right.values().sum();
        println!("\n{total} answers right to the byte:");
        for (what, count) in &self.right {
            println!("  {what:<12} {count:>8}");
        }
        let mut kinds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for injected in &self.injected {
            let entry = kinds.entry(injected.kind.name()).or_default();
            entry.0 += 1;
        }
        for (kind, count) in &self.explained {
            kinds.entry(kind).or_default().1 = *count;
        }
        println!("{} faults, and failures that each kind explains:", self.injected.len());
        for (kind, (times, failures)) in kinds {
            println!("  {kind:<18} {times:>3}   {failures:>6}");
        }
        for (what, failures) in [("wrong", &self.wrong), ("not explained", &self.unexplained)] {
            println!("{} {what}", failures.len());
            for failure in failures.iter().take(20) {
                println!("  {failure}");
            }
        }
        println!("level before {}\n      after  {}", self.before, self.after);
    }

    fn outcome(&self) -> Result<()> {
        ensure!(self.wrong.is_empty(), "{} answers were wrong", self.wrong.len());
        ensure!(
            self.unexplained.is_empty(),
            "{} answers failed without a reason",
            self.unexplained.len()
        );
        ensure!(
            self.beyond.is_empty(),
            "not back at its level: {}",
            self.beyond.join("; ")
        );
        ensure!(!self.right.is_empty(), "nobody was answered");
        Ok(())
    }
}
