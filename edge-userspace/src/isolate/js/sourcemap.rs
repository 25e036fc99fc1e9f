//! Source maps (ECMA-426, version 3) that a bundler put into a script: stack traces in the log then
//! name the source's own files and lines. `maps` reads it when a trace is first logged. The map is
//! a tenant's: bounded, and what is malformed maps nothing.

use data_encoding::BASE64;
use serde::Deserialize;

/// Bytes of a map, decoded; a larger one is not kept.
const LONGEST: usize = 8 << 20;
/// Places of a map; those beyond are not known.
const MOST: usize = 2_000_000;
/// Sources of a map; those beyond have no name.
const SOURCES: usize = 10_000;
/// Bytes of a source's name in a trace, with the root before it; and of the root alone. Each line
/// of what is logged may name one.
const NAME: usize = 512;
const MARK: &str = "//# sourceMappingURL=data:application/json";

/// A map, for look-ups by place.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceMap {
    sources: Vec<String>,
    /// By line and column of the script, both from 0.
    places: Vec<Place>,
    /// Of a script of several modules: the maps of those that have one, by their names.
    modules: Vec<(String, SourceMap)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    line: u32,
    column: u32,
    source: u32,
    source_line: u32,
    source_column: u32,
}

#[derive(Deserialize)]
struct Raw {
    version: u32,
    #[serde(default)]
    sources: Vec<Option<String>>,
    #[serde(default, rename = "sourceRoot")]
    root: Option<String>,
    mappings: String,
}

/// How the JSON of several maps begins, which is none of the format's.
const SEVERAL: &str = "{\"edge:maps\":";

#[derive(Deserialize)]
struct Several {
    #[serde(rename = "edge:maps")]
    maps: Vec<(String, String)>,
}

/// The maps that modules carry, as one: names and texts of the modules.
pub fn several<'a>(modules: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Vec<u8>> {
    let maps: Vec<(&str, String)> = modules
        .filter_map(|(name, text)| Some((name, String::from_utf8(carried(text)?).ok()?)))
        .collect();
    let json = serde_json::json!({ "edge:maps": maps }).to_string().into_bytes();
    (!maps.is_empty() && json.len() <= LONGEST).then_some(json)
}

/// The map's JSON, where a script carries one in its last lines.
pub fn carried(script: &str) -> Option<Vec<u8>> {
    let at = script.rfind(MARK)?;
    let url = script.get(at.checked_add(MARK.len())?..)?.lines().next()?.trim();
    let (options, data) = url.split_once(',')?;
    if !options.ends_with(";base64") || data.len() > LONGEST.saturating_mul(2) {
        return None;
    }
    BASE64.decode(data.as_bytes()).ok().filter(|json| json.len() <= LONGEST)
}

impl SourceMap {
    /// Reads a map's JSON.
    pub fn parse(json: &[u8]) -> Option<Self> {
        if json.len() > LONGEST {
            return None;
        }
        if json.starts_with(SEVERAL.as_bytes()) {
            let several: Several = serde_json::from_slice(json).ok()?;
            let mut modules = Vec::new();
            let mut left = SOURCES;
            for (name, map) in several.maps {
                let Some(map) = Self::one(map.as_bytes()) else { continue };
                // Of all together: with its root, a name is longer than it is in the JSON.
                let Some(after) = left.checked_sub(map.sources.len().max(1)) else {
                    break;
                };
                left = after;
                modules.push((name, map));
            }
            return Some(Self {
                sources: Vec::new(),
                places: Vec::new(),
                modules,
            });
        }
        Self::one(json)
    }

    fn one(json: &[u8]) -> Option<Self> {
        let raw: Raw = serde_json::from_slice(json).ok().filter(|raw: &Raw| raw.version == 3)?;
        let root = raw.root.as_deref().map_or("", start);
        let sources = raw.sources.iter().take(SOURCES);
        let sources = sources.map(|source| match source {
            Some(source) => start(&format!("{root}{}", start(source))).to_owned(),
            None => "?".to_owned(),
        });
        let mut places = Vec::new();
        let (mut source, mut source_line, mut source_column) = (0_i64, 0_i64, 0_i64);
        for (line, groups) in raw.mappings.split(';').enumerate() {
            let mut column = 0_i64;
            for segment in groups.split(',').filter(|segment| !segment.is_empty()) {
                let fields = digits(segment)?;
                column = column.checked_add(*fields.first()?)?;
                let [_, of, at, within, ..] = fields[..] else { continue };
                source = source.checked_add(of)?;
                source_line = source_line.checked_add(at)?;
                source_column = source_column.checked_add(within)?;
                if places.len() >= MOST {
                    break;
                }
                places.push(Place {
                    line: u32::try_from(line).ok()?,
                    column: u32::try_from(column).ok()?,
                    source: u32::try_from(source).ok()?,
                    source_line: u32::try_from(source_line).ok()?,
                    source_column: u32::try_from(source_column).ok()?,
                });
            }
        }
        places.shrink_to_fit();
        // Columns may go back within a line.
        places.sort_by_key(|place| (place.line, place.column));
        Some(Self {
            sources: sources.collect(),
            places,
            modules: Vec::new(),
        })
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        let names: usize = self.sources.iter().map(String::capacity).sum();
        let of_names = self.sources.capacity().saturating_mul(size_of::<String>());
        let of_places = self.places.capacity().saturating_mul(size_of::<Place>());
        let of_modules = self.modules.iter().map(|(name, map)| {
            let own = size_of::<(String, Self)>().saturating_add(name.capacity());
            map.bytes().saturating_add(own)
        });
        names
            .saturating_add(of_names)
            .saturating_add(of_places)
            .saturating_add(of_modules.sum())
    }

    /// Where line and column of the script, from 1, come from: file, line and column, from 1.
    fn origin(&self, line: u32, column: u32) -> Option<(&str, u32, u32)> {
        let (line, column) = (line.checked_sub(1)?, column.saturating_sub(1));
        let after = self
            .places
            .partition_point(|place| (place.line, place.column) <= (line, column));
        let place = self
            .places
            .get(after.checked_sub(1)?)
            .filter(|place| place.line == line)?;
        let source = self.sources.get(usize::try_from(place.source).ok()?)?;
        Some((
            source,
            place.source_line.saturating_add(1),
            place.source_column.saturating_add(1),
        ))
    }

    /// A line of a stack trace (`    at name (file:line:column)`), with the place that the map has for it.
    pub fn frame(&self, frame: &str) -> String {
        let mapped = || {
            let open = frame.rfind(['(', ' '])?.checked_add(1)?;
            let place = frame.get(open..)?;
            let close = if place.ends_with(')') { ")" } else { "" };
            let mut parts = place.trim_end_matches(')').rsplitn(3, ':');
            let (column, line) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let file = parts.next()?;
            let map = match self.modules.as_slice() {
                [] => self,
                modules => &modules.iter().find(|(name, _)| name == file)?.1,
            };
            let (source, line, column) = map.origin(line, column)?;
            Some(format!("{}{source}:{line}:{column}{close}", frame.get(..open)?))
        };
        mapped().unwrap_or_else(|| frame.to_owned())
    }
}

/// As much of a name as is told.
fn start(name: &str) -> &str {
    name.get(..name.floor_char_boundary(NAME)).unwrap_or_default()
}

/// Numbers of a segment that say anything.
const FIELDS: usize = 5;

/// Base64 VLQ: five bits a digit, least first; the lowest bit is the sign.
fn digits(segment: &str) -> Option<Vec<i64>> {
    let mut fields = Vec::with_capacity(FIELDS);
    let (mut value, mut shift) = (0_i64, 0_u32);
    for byte in segment.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte.checked_sub(b'A'),
            b'a'..=b'z' => byte.checked_sub(b'a').and_then(|d| d.checked_add(26)),
            b'0'..=b'9' => byte.checked_sub(b'0').and_then(|d| d.checked_add(52)),
            b'+' => Some(62),
            b'/' => Some(63),
            _ => None,
        }?;
        if shift > 30 {
            return None;
        }
        value |= i64::from(digit & 31).checked_shl(shift)?;
        if digit & 32 != 0 {
            shift = shift.checked_add(5)?;
            continue;
        }
        let size = value >> 1;
        if fields.len() < FIELDS {
            fields.push(if value & 1 == 1 { size.checked_neg()? } else { size });
        }
        (value, shift) = (0, 0);
    }
    (shift == 0).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(mappings: &str) -> Option<SourceMap> {
        let json = serde_json::json!({
            "version": 3, "sources": ["a.ts", "b.ts"], "sourceRoot": "src/", "names": [], "mappings": mappings,
        });
        SourceMap::parse(json.to_string().as_bytes())
    }

    /// A trace of a bundle would name the bundle's one long line.
    #[test]
    fn frames_name_the_source() {
        // Line 1: column 0 is a.ts 1:1, column 8 is b.ts 3:5. Line 3: column 2 is b.ts 2:1.
        let map = map("AAAA,QCEI;;ECDJ").unwrap();
        assert_eq!(map.origin(1, 1), Some(("src/a.ts", 1, 1)));
        assert_eq!(map.origin(1, 9), Some(("src/b.ts", 3, 5)));
        assert_eq!(map.origin(1, 400), Some(("src/b.ts", 3, 5)));
        assert_eq!(map.origin(2, 1), None);
        assert_eq!(map.frame("    at f (worker.js:1:9)"), "    at f (src/b.ts:3:5)");
        assert_eq!(map.frame("    at worker.js:1:1"), "    at src/a.ts:1:1");
        assert_eq!(map.frame("    at g (native)"), "    at g (native)");
    }

    /// A trace through several modules would name lines of another one.
    #[test]
    fn each_module_has_its_own_map() {
        let text = |source: &str, mappings: &str| {
            let json = serde_json::json!({ "version": 3, "sources": [source], "mappings": mappings });
            let data = BASE64.encode(json.to_string().as_bytes());
            format!("x\n//# sourceMappingURL=data:application/json;base64,{data}\n")
        };
        let (a, b) = (text("a.ts", "AAEA"), text("b.ts", "AAIA"));
        let all = [("src/a.ts", a.as_str()), ("b.ts", b.as_str()), ("c.js", "x")];
        let map = SourceMap::parse(&several(all.into_iter()).unwrap()).unwrap();
        assert_eq!(map.frame("    at f (src/a.ts:1:1)"), "    at f (a.ts:3:1)");
        assert_eq!(map.frame("    at b.ts:1:1"), "    at b.ts:5:1");
        assert_eq!(map.frame("    at c.js:1:1"), "    at c.js:1:1");
        assert!(map.bytes() > 200);
        assert!(several([("c.js", "x")].into_iter()).is_none());
        assert!(SourceMap::parse(b"{\"edge:maps\":[1]}").is_none());
        // Names do not grow beyond the bound of one map.
        let json = serde_json::json!({ "version": 3, "sources": vec![""; 6_000], "mappings": "" }).to_string();
        let many = serde_json::json!({ "edge:maps": [["a", json], ["b", json], ["c", json]] }).to_string();
        assert_eq!(SourceMap::parse(many.as_bytes()).unwrap().modules.len(), 1);
    }

    /// A tenant could bring the daemon down by the map of its script.
    #[test]
    fn what_is_malformed_maps_nothing() {
        for bad in ["AAA!", "g", "gggggggggggggB", "D", "AAAD", "AADA"] {
            assert_eq!(map(bad).map(|m| m.places.len()).unwrap_or(0), 0, "{bad}");
        }
        assert!(SourceMap::parse(b"{}").is_none());
        assert!(SourceMap::parse(br#"{"version":2,"mappings":""}"#).is_none());
        assert!(map("AAAAAAAAA").is_some());
    }

    /// A map of a few kilobytes would make names of gigabytes: each source has the root, and each
    /// line of a trace a name.
    #[test]
    fn names_do_not_grow_beyond_their_bound() {
        let json = serde_json::json!({
            "version": 3, "sourceRoot": "\u{e4}".repeat(100_000), "sources": vec!["x"; 50_000], "mappings": "AAAA",
        });
        let map = SourceMap::parse(json.to_string().as_bytes()).unwrap();
        assert!(map.sources.len() <= SOURCES);
        assert!(map.sources.iter().all(|name| name.len() <= NAME));
        let frame = "    at f (worker.js:1:1)";
        assert!(map.frame(frame).len() <= frame.len() + NAME);
    }

    /// A script without a map, or with one elsewhere, would not deploy.
    #[test]
    fn only_a_map_within_the_script_is_taken() {
        let data = BASE64.encode(b"{}");
        let script = format!("x\n//# sourceMappingURL=data:application/json;charset=utf-8;base64,{data}\n");
        assert_eq!(carried(&script).unwrap(), b"{}");
        assert!(carried("x\n//# sourceMappingURL=worker.js.map\n").is_none());
        assert!(carried("//# sourceMappingURL=data:application/json;base64,???").is_none());
    }
}
