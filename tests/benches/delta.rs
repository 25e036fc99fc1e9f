//! What differences cost and save: the codec of the delta hop over pairs of versions, by class of
//! content. Run it by `cargo xtask bench delta`, which makes the corpus:
//! `DIRECTORY/CLASS/NAME/{old,new}`.

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use edge::delta::codec::{Decoder, Dictionary, Level, dcz};
use edge_testbed::changing::{self, Noise};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Better encodings are measured up to this size: they take seconds a megabyte, as in the daemon.
const LATER_UP_TO: usize = 8 << 20;

/// One pair, measured.
struct Measured {
    class: String,
    name: String,
    full: usize,
    now: usize,
    later: Option<usize>,
    plain: usize,
    encode: Duration,
    apply: Duration,
}

fn main() -> Outcome<()> {
    let (mut corpus, mut output, mut quick) = (None, None, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--corpus" => corpus = arguments.next().map(PathBuf::from),
            "--output" => output = arguments.next().map(PathBuf::from),
            "--quick" => quick = true,
            // What cargo adds.
            "--bench" => {}
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let output = output.ok_or("--output FILE is missing")?;
    let pairs = match corpus.as_deref().filter(|corpus| corpus.is_dir()) {
        Some(corpus) => read(corpus)?,
        None => generated(),
    };
    let mut measured = Vec::new();
    for (class, name, old, new) in pairs {
        let one = measure(class, name, old, &new, quick)?;
        println!(
            "{:<12} {:<52} {:>9} B  now {:>7.3} %  later {:>7} %  whole {:>6.2} %  {:>5.0} MB/s  apply {:>5.0} MB/s",
            one.class,
            one.name,
            one.full,
            percent(one.now, one.full),
            one.later
                .map_or("-".to_owned(), |later| format!("{:.3}", percent(later, one.full))),
            percent(one.plain, one.full),
            rate(one.full, one.encode),
            rate(one.full, one.apply),
        );
        measured.push(one);
    }
    let report = report(&measured, corpus.is_some_and(|corpus| corpus.is_dir()));
    std::fs::write(&output, serde_json::to_string_pretty(&report)? + "\n")?;
    Ok(())
}

type Pair = (String, String, Bytes, Bytes);

fn read(corpus: &Path) -> Outcome<Vec<Pair>> {
    let mut pairs = Vec::new();
    for class in std::fs::read_dir(corpus)? {
        let class = class?;
        if !class.path().is_dir() {
            continue;
        }
        for pair in std::fs::read_dir(class.path())? {
            let pair = pair?;
            let (old, new) = (pair.path().join("old"), pair.path().join("new"));
            if new.is_file() && old.is_file() {
                pairs.push((
                    class.file_name().to_string_lossy().into_owned(),
                    pair.file_name().to_string_lossy().into_owned(),
                    std::fs::read(old)?.into(),
                    std::fs::read(new)?.into(),
                ));
            }
        }
    }
    pairs.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    Ok(pairs)
}

/// Without registries: pages with fields, and bundles of which a release changes a few places.
fn generated() -> Vec<Pair> {
    let mut noise = Noise::new(9);
    let mut pairs = Vec::new();
    for length in [20_000, 100_000, 300_000] {
        let bulk = changing::bulk(length);
        let page = |noise: &mut Noise| Bytes::from(changing::page(&bulk, noise));
        let (old, new) = (page(&mut noise), page(&mut noise));
        pairs.push(("dyn_fields".to_owned(), format!("generated-{length}"), old, new));
    }
    for length in [30_000, 150_000, 600_000, 2_000_000] {
        let old = changing::bulk(length);
        let mut new = old.clone().into_bytes();
        for _ in 0..12 {
            let at = usize::try_from(noise.below(new.len() as u64)).unwrap_or(0);
            let put = changing::bulk(200).into_bytes();
            new.splice(at..at, put);
        }
        pairs.push(("js".to_owned(), format!("generated-{length}"), old.into(), new.into()));
    }
    for records in [20, 200, 2_000] {
        let (old, new) = (changing::json(records, &mut noise), changing::json(records, &mut noise));
        pairs.push((
            "json".to_owned(),
            format!("generated-{records}"),
            old.into(),
            new.into(),
        ));
    }
    pairs
}

fn measure(class: String, name: String, old: Bytes, new: &Bytes, quick: bool) -> Outcome<Measured> {
    let old = Dictionary::new(old);
    let (stream, encode) = best(quick, || dcz::encode(Level::Now, &old, new))?;
    let stream = Bytes::from(stream);
    let decode = || -> Result<usize, edge::delta::codec::CodecError> {
        let mut decoder = Decoder::dcz(&old, new.len() as u64)?;
        decoder.feed(stream.clone());
        let mut length = 0;
        while let Some(piece) = decoder.piece()? {
            length += black_box(piece).len();
        }
        decoder.finish()?;
        Ok(length)
    };
    let (length, apply) = best(quick, decode)?;
    if length != new.len() {
        return Err(format!("{name}: {length} bytes came back").into());
    }
    let later = (new.len() <= LATER_UP_TO && !quick)
        .then(|| dcz::encode(Level::Later, &old, new).map(|stream| stream.len()))
        .transpose()?;
    Ok(Measured {
        class,
        name,
        full: new.len(),
        now: stream.len(),
        later,
        plain: dcz::encode_plain(Level::Now, new)?.len(),
        encode,
        apply,
    })
}

/// The best of several runs: what disturbs a run on a shared machine only makes it longer.
fn best<T, E: Error + 'static>(quick: bool, mut run: impl FnMut() -> Result<T, E>) -> Outcome<(T, Duration)> {
    let begun = Instant::now();
    let mut value = run()?;
    let mut best = begun.elapsed();
    let times = if quick || best > Duration::from_secs(1) { 1 } else { 8 };
    for _ in 0..times {
        let begun = Instant::now();
        value = run()?;
        best = best.min(begun.elapsed());
    }
    Ok((value, best))
}

fn percent(part: usize, full: usize) -> f64 {
    part as f64 * 100.0 / full.max(1) as f64
}

fn rate(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn report(measured: &[Measured], from_registries: bool) -> serde_json::Value {
    let mut classes: BTreeMap<&str, Vec<&Measured>> = BTreeMap::new();
    for one in measured {
        classes.entry(&one.class).or_default().push(one);
    }
    let by_bytes = |ones: &[&Measured], part: fn(&Measured) -> usize| {
        percent(
            ones.iter().map(|one| part(one)).sum(),
            ones.iter().map(|one| one.full).sum(),
        )
    };
    // What is too large for the background stays as it was.
    let later = |one: &Measured| one.later.unwrap_or(one.now);
    let class = |name: &str| classes.get(name).map(Vec::as_slice).unwrap_or_default();
    let medians = |ones: &[&Measured]| median(ones.iter().map(|one| percent(one.now, one.full)).collect());
    let speed = |ones: &[&Measured], time: fn(&Measured) -> Duration| {
        rate(
            ones.iter().map(|one| one.full).sum(),
            ones.iter().map(|one| time(one)).sum(),
        )
    };
    // Fonts and pictures are compressed already, and the far end does not encode them.
    let encoded: Vec<&Measured> = measured.iter().filter(|one| one.class != "font").collect();
    let table: serde_json::Map<String, serde_json::Value> = classes
        .iter()
        .map(|(name, ones)| {
            let value = serde_json::json!({
                "pairs": ones.len(),
                "bytes": ones.iter().map(|one| one.full).sum::<usize>(),
                "median_pct": medians(ones),
                "bytes_pct": by_bytes(ones, |one| one.now),
                "background_bytes_pct": by_bytes(ones, later),
                "zstd_alone_bytes_pct": by_bytes(ones, |one| one.plain),
                "encode_mb_per_s": speed(ones, |one| one.encode),
                "apply_mb_per_s": speed(ones, |one| one.apply),
            });
            ((*name).to_owned(), value)
        })
        .collect();
    serde_json::json!({
        "corpus": if from_registries { "registries" } else { "generated" },
        "dyn_fields_pct": by_bytes(class("dyn_fields"), |one| one.now),
        "js_median_pct": medians(class("js")),
        "js_bytes_pct": by_bytes(class("js"), |one| one.now),
        "js_bytes_background_pct": by_bytes(class("js"), later),
        "encode_mb_per_s": speed(&encoded, |one| one.encode),
        "apply_mb_per_s": speed(&encoded, |one| one.apply),
        "classes": table,
    })
}
