//! Purges: what was stored before one, and is meant by it, is as if it were not there (RFC 9111
//! section 4.4). They are compared at each look-up, so that a purge costs the same however much is
//! stored, and is in force for responses that were on their way when it came. `store` asks; an
//! operator or an unsafe request adds. Pure but for [`Log`].
//!
//! A soft purge makes stale what a purge makes void: [`Purges`] has the one kind and the other.
//!
//! Bounded: where there is no more room, the oldest purge goes, and with it all that was stored
//! before it.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use super::resource::{self, Variant};
use crate::base::clock::UnixTime;
use crate::zones::path::Path as Target;

/// Purges of one kind that are held at most.
const MOST: usize = 4_096;
/// Purged URLs that are held at most.
const MOST_URLS: usize = 16_384;
/// The longest URL, prefix or tag.
const LONGEST: usize = 4 << 10;

/// What a purge means. Paths are compared in their normal form (`zones::path`): who purges `/a`
/// means `/%61` as well, and whatever else an origin may read as `/a`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ban {
    /// One resource, by its key: see [`Ban::url`].
    Url(String),
    /// All whose key begins so: see [`Ban::prefix`].
    Prefix(String),
    /// All of a zone with this tag: the zone's name, a space, the tag.
    Tag(String),
    /// Everything.
    All,
}

impl Ban {
    /// The resource of `key`, however its path is written.
    pub(super) fn url(key: &str) -> Self {
        Self::Url(normal(key, ""))
    }

    /// All whose key begins so, however their paths are written.
    pub(super) fn prefix(key: &str) -> Self {
        // Its last segment goes on: `/.` is the beginning of `/.well-known` and not a segment `.`.
        Self::Prefix(normal(key, "x"))
    }

    /// Whether what is on its way for the resource `key` may be meant. Tags are known only when a
    /// response has come: until then a tag means all of its zone.
    pub(super) fn may_mean(&self, key: &str) -> bool {
        match self {
            Self::Url(text) => any_reading(key, |key| key == text),
            Self::Prefix(text) => any_reading(key, |key| key.starts_with(text.as_str())),
            Self::Tag(text) => zone(key) == zone(text),
            Self::All => true,
        }
    }

    fn letter(&self) -> (char, &str) {
        match self {
            Self::Url(text) => ('u', text),
            Self::Prefix(text) => ('p', text),
            Self::Tag(text) => ('t', text),
            // As the floor is written, which it becomes.
            Self::All => ('f', "-"),
        }
    }
}

/// What becomes of what is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is as if it were not there.
    Void,
    /// It is stale, and answers for a while as it is brought up to date.
    Stale,
}

/// All purges in force.
#[derive(Debug, Default)]
pub(super) struct Purges {
    pub(super) void: Bans,
    pub(super) stale: Bans,
}

impl Purges {
    /// Adds one at `now`.
    pub(super) fn add(&mut self, effect: Effect, ban: Ban, now: UnixTime) {
        self.of(effect).add(ban, now);
    }

    fn of(&mut self, effect: Effect) -> &mut Bans {
        match effect {
            Effect::Void => &mut self.void,
            Effect::Stale => &mut self.stale,
        }
    }

    /// The log's lines for all that is in force, the oldest first.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut all = self.void.lines(Effect::Void);
        all.extend(self.stale.lines(Effect::Stale));
        all
    }
}

/// The purges in force of one effect.
#[derive(Debug, Default)]
pub(super) struct Bans {
    urls: Timed,
    prefixes: Timed,
    tags: Timed,
    /// What was stored before this is gone.
    floor: Option<UnixTime>,
}

/// Times by text, the oldest droppable.
#[derive(Debug, Default)]
struct Timed {
    at: HashMap<String, UnixTime>,
    order: VecDeque<(String, UnixTime)>,
}

impl Timed {
    /// The time of what had to go. Lines of the log may come in another order than that of their
    /// times: the later one counts.
    fn add(&mut self, text: String, now: UnixTime, most: usize) -> Option<UnixTime> {
        let latest = self.at.get(&text).copied().max(Some(now)).unwrap_or(now);
        self.at.insert(text.clone(), latest);
        let now = latest;
        self.order.push_back((text, now));
        let mut gone = None;
        // Repeats leave old entries in the order; they go first.
        while self.at.len() > most || self.order.len() > most.saturating_mul(2) {
            let (text, time) = self.order.pop_front()?;
            if self.at.get(&text) == Some(&time) {
                self.at.remove(&text);
                gone = Some(time);
            }
        }
        gone
    }
}

impl Bans {
    /// Adds one at `now`.
    pub(super) fn add(&mut self, ban: Ban, now: UnixTime) {
        let gone = match ban {
            Ban::Url(text) => self.urls.add(text, now, MOST_URLS),
            Ban::Prefix(text) => self.prefixes.add(text, now, MOST),
            Ban::Tag(text) => self.tags.add(text, now, MOST),
            Ban::All => Some(now),
        };
        self.floor = self.floor.max(gone);
    }

    /// Whether `variant` of the resource `key` is purged.
    pub(super) fn covers(&self, key: &str, variant: &Variant) -> bool {
        self.since(key, variant).is_some()
    }

    /// When `variant` of the resource `key` was purged last; `None`: not since it was asked for.
    pub(super) fn since(&self, key: &str, variant: &Variant) -> Option<UnixTime> {
        let later = |time: &UnixTime| variant.asked <= *time;
        let mut since = self.floor.filter(later);
        if !self.urls.at.is_empty() || !self.prefixes.at.is_empty() {
            for_each_reading(key, |key| {
                let url = self.urls.at.get(key).copied().filter(later);
                let prefixes = self.prefixes.at.iter();
                let prefixes = prefixes.filter(|(prefix, time)| later(time) && key.starts_with(prefix.as_str()));
                since = since.max(url).max(prefixes.map(|(_, time)| *time).max());
            });
        }
        if !self.tags.at.is_empty() {
            let zone = zone(key);
            let tags = variant
                .tags()
                .filter_map(|tag| self.tags.at.get(&format!("{zone} {tag}")));
            since = since.max(tags.copied().filter(later).max());
        }
        since
    }

    /// The log's lines for all that is in force, the oldest first.
    fn lines(&self, effect: Effect) -> Vec<String> {
        let mut all: Vec<_> = [('u', &self.urls), ('p', &self.prefixes), ('t', &self.tags)]
            .into_iter()
            .flat_map(|(letter, timed)| timed.at.iter().map(move |(text, time)| (letter, text, time)))
            .collect();
        all.sort_by_key(|(_, _, time)| **time);
        let floor = self.floor.map(|floor| line(effect, 'f', floor, "-"));
        let rest = all
            .into_iter()
            .map(|(letter, text, time)| line(effect, letter, *time, text));
        floor.into_iter().chain(rest).collect()
    }
}

/// Of a soft purge the letter is a capital.
fn line(effect: Effect, letter: char, time: UnixTime, text: &str) -> String {
    let letter = match effect {
        Effect::Void => letter,
        Effect::Stale => letter.to_ascii_uppercase(),
    };
    format!("{letter} {} {text}\n", time.millis())
}

/// The purges' file: a line for each, so that what was purged does not come back from the disk's
/// store after a crash.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    lines: usize,
}

impl Log {
    /// Reads the file in `directory`, writes it anew without what is not in force any more, and
    /// keeps it open.
    ///
    /// # Errors
    /// When it cannot be read or written: then purges would be forgotten.
    pub(super) fn open(directory: &Path) -> io::Result<(Self, Purges)> {
        let path = directory.join("purges");
        let mut purges = Purges::default();
        match File::open(&path) {
            Ok(file) => {
                for line in BufReader::new(file).split(b'\n') {
                    // A line that a crash cut off had not been acknowledged.
                    if let Some((effect, ban, time)) = String::from_utf8(line?).ok().as_deref().and_then(parse) {
                        purges.add(effect, ban, time);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut this = Self {
            file: OpenOptions::new().create(true).append(true).open(&path)?,
            path,
            lines: 0,
        };
        this.rewrite(&purges.lines())?;
        Ok((this, purges))
    }

    /// Writes one down. `durable`: returns when it is on the disk. `all` gives the lines of all
    /// that is in force ([`Purges::lines`]), `ban` among them; it is asked when the file has become
    /// too long.
    ///
    /// # Errors
    /// When it could not be written.
    pub(super) fn add(
        &mut self,
        (effect, ban): (Effect, &Ban),
        now: UnixTime,
        durable: bool,
        all: impl FnOnce() -> Vec<String>,
    ) -> io::Result<()> {
        let (letter, text) = ban.letter();
        self.file.write_all(line(effect, letter, now, text).as_bytes())?;
        if durable {
            self.file.sync_data()?;
        }
        self.lines += 1;
        if self.lines > MOST_URLS * 2 {
            self.rewrite(&all())?;
        }
        Ok(())
    }

    fn rewrite(&mut self, lines: &[String]) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        let mut out = io::BufWriter::new(File::create(&fresh)?);
        for line in lines {
            out.write_all(line.as_bytes())?;
        }
        self.lines = lines.len();
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_data()?;
        std::fs::rename(&fresh, &self.path)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        Ok(())
    }
}

/// A line of the log. A floor is what purging everything makes.
fn parse(line: &str) -> Option<(Effect, Ban, UnixTime)> {
    let (letter, rest) = line.split_once(' ')?;
    let (time, text) = rest.split_once(' ')?;
    let time = UnixTime::from_millis(time.parse().ok()?);
    let text = text.to_owned();
    let effect = match letter.bytes().all(|letter| letter.is_ascii_uppercase()) {
        true => Effect::Stale,
        false => Effect::Void,
    };
    let ban = match letter.to_ascii_lowercase().as_str() {
        "u" => Ban::url(&text),
        "p" => Ban::prefix(&text),
        "t" => Ban::Tag(text),
        "f" => Ban::All,
        _ => return None,
    };
    Some((effect, ban, time))
}

/// What stands before a key's path, the path, and what stands after it.
fn parts(key: &str) -> Option<(&str, &str, &str)> {
    let host = key.find("://")? + 3;
    let (host, rest) = key.split_at_checked(host + key.get(host..)?.find('/')?)?;
    let (path, query) = rest.split_at_checked(rest.find('?').unwrap_or(rest.len()))?;
    Some((host, path, query))
}

/// `key` with its path in the usual form. `rest` stands for what follows a path that is not whole.
pub(super) fn normal(key: &str, rest: &str) -> String {
    let Some((host, path, query)) = parts(key) else {
        return key.to_owned();
    };
    let rest = if query.is_empty() { rest } else { "" };
    let whole = format!("{path}{rest}");
    let usual = Target::of(&whole);
    let usual = usual.usual();
    format!("{host}{}{query}", usual.strip_suffix(rest).unwrap_or(usual))
}

/// Whether it is true of `key` with its path in any of the forms that a server may read it in,
/// whichever pool answers.
fn any_reading(key: &str, is: impl Fn(&str) -> bool) -> bool {
    let mut any = false;
    for_each_reading(key, |key| any = any || is(key));
    any
}

/// `key` with its path in each of the forms that a server may read it in, without what follows the
/// URL.
fn for_each_reading(key: &str, mut each: impl FnMut(&str)) {
    let key = resource::url_of(key);
    let Some((host, path, query)) = parts(key) else {
        return each(key);
    };
    for reading in Target::of(path).readings() {
        if reading == path {
            each(key);
        } else {
            each(&format!("{host}{reading}{query}"));
        }
    }
}

/// The zone of a resource's key, or of a tag.
fn zone(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

/// Whether `text` can be purged: it fits a line.
pub(super) fn sound(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST && !text.contains(['\n', '\r'])
}

#[cfg(test)]
mod tests {
    use super::super::resource::tests::variant;
    use super::*;

    const KEY: &str = "z https://h/a/b?c";

    fn at(secs: u64) -> UnixTime {
        UnixTime::from_secs(secs)
    }

    /// The variants here were asked for at second 100.
    fn covered(ban: Ban, secs: u64) -> bool {
        let mut bans = Bans::default();
        bans.add(ban, at(secs));
        bans.covers(
            KEY,
            &variant(&[], &[("cache-tag", "one, two"), ("surrogate-key", "three four")], 1),
        )
    }

    /// What was purged is never served again, and nothing else is touched.
    #[test]
    fn purges() {
        for ban in [
            Ban::Url(KEY.to_owned()),
            Ban::Prefix("z https://h/a/".to_owned()),
            Ban::Tag("z two".to_owned()),
            Ban::Tag("z four".to_owned()),
            Ban::prefix("z "),
            Ban::All,
        ] {
            assert!(
                covered(ban.clone(), 100),
                "{ban:?}: it was under way when the purge came"
            );
            assert!(!covered(ban, 99), "got after the purge");
        }
        assert!(!covered(Ban::Url("y https://h/a/b?c".to_owned()), 100), "another zone");
        assert!(!covered(Ban::Prefix("z https://h/b".to_owned()), 100));
        assert!(!covered(Ban::prefix("y "), 100), "another zone");
        assert!(!covered(Ban::Tag("y two".to_owned()), 100));
    }

    /// A page that was asked for under another spelling of its path would outlive its purge.
    #[test]
    fn every_spelling_of_a_path_is_purged() {
        let covers = |ban: &Ban, key: &str| {
            let mut bans = Bans::default();
            bans.add(ban.clone(), UnixTime::from_secs(100));
            let covered = bans.covers(key, &variant(&[], &[], 1));
            assert_eq!(covered, ban.may_mean(key), "stored and under way alike: {ban:?} {key}");
            covered
        };
        let spelled = [
            "/api/x",
            "/%61pi/x",
            "/a%70i//x",
            "/./api/y/../x",
            "/api;v=1/x",
            "/api%2Fx",
            "/api\\x",
        ];
        for ban in spelled.map(|path| Ban::url(&format!("z https://h{path}?q=%61"))) {
            let usual = covers(&ban, "z https://h/api/x?q=%61");
            assert_eq!(usual, ban == Ban::Url("z https://h/api/x?q=%61".to_owned()), "{ban:?}");
            assert!(!covers(&ban, "z https://h/api/x?q=a"), "a query is the origin's own");
        }
        let below = Ban::prefix("z https://h/%61pi/");
        for path in spelled {
            assert!(covers(&below, &format!("z https://h{path}")), "{path}");
            assert!(
                covers(&Ban::url("z https://h/api/x"), &format!("z https://h{path}")),
                "{path}"
            );
        }
        assert!(!covers(&below, "z https://h/apis"));
        // Whichever pool has answered.
        assert!(covers(&below, "z https://h/api/x#green"));
        assert!(covers(&Ban::url("z https://h/api/x"), "z https://h/%61pi/x#green"));
        // The beginning of a segment is no whole one.
        let hidden = Ban::prefix("z https://h/.");
        assert!(covers(&hidden, "z https://h/.git") && !covers(&hidden, "z https://h/a"));
    }

    /// Purges without end take no memory without end, and none is undone.
    #[test]
    fn the_oldest_takes_all_before_it_along() {
        let mut bans = Bans::default();
        bans.add(Ban::Prefix("z https://h/a/".to_owned()), at(150));
        for n in 0..MOST {
            bans.add(Ban::Prefix(format!("z https://other/{n}")), at(200));
        }
        assert!(bans.prefixes.at.len() <= MOST);
        assert!(bans.covers(KEY, &variant(&[], &[], 1)));
        let mut later = variant(&[], &[], 1);
        later.asked = at(151);
        assert!(!bans.covers(KEY, &later));
    }

    /// A crash must not bring back what was purged, nor make a soft purge a hard one.
    #[test]
    fn survive_a_crash() {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, mut purges) = Log::open(directory.path()).unwrap();
        let tag = Ban::Tag("z two words".to_owned());
        let soft = Ban::prefix("z https://h/a");
        for (effect, ban, secs) in [
            (Effect::Void, &tag, 100),
            (Effect::Void, &Ban::All, 80),
            (Effect::Stale, &soft, 70),
            (Effect::Stale, &Ban::prefix("z "), 75),
            (Effect::Stale, &Ban::All, 60),
        ] {
            purges.add(effect, ban.clone(), at(secs));
            log.add((effect, ban), at(secs), true, || purges.lines()).unwrap();
        }
        // Written later, though it is of before: two threads may overtake each other on the way to
        // the file.
        log.add((Effect::Void, &tag), at(90), true, || purges.lines()).unwrap();
        log.file.write_all(b"u 99").unwrap();
        drop(log);
        for _ in 0..2 {
            let (_, purges) = Log::open(directory.path()).unwrap();
            assert_eq!(purges.void.tags.at.get("z two words"), Some(&at(100)));
            assert!(purges.void.urls.at.is_empty() && purges.void.prefixes.at.is_empty());
            assert_eq!(purges.stale.prefixes.at.get("z https://h/a"), Some(&at(70)));
            assert_eq!(purges.stale.prefixes.at.get("z "), Some(&at(75)), "a whole zone");
            assert_eq!((purges.void.floor, purges.stale.floor), (Some(at(80)), Some(at(60))));
        }
    }

    /// A page would be called stale from a purge that was not the last one, or from one of before
    /// it was asked for.
    #[test]
    fn the_last_purge_counts() {
        let mut bans = Bans::default();
        bans.add(Ban::Prefix("z https://h/a/".to_owned()), at(120));
        bans.add(Ban::url(KEY), at(150));
        bans.add(Ban::All, at(99));
        let variant = variant(&[], &[], 1);
        assert_eq!(bans.since(KEY, &variant), Some(at(150)));
        assert_eq!(bans.since("z https://h/a/x", &variant), Some(at(120)));
        assert_eq!(bans.since("z https://h/b", &variant), None);
    }
}
