//! Cache directives as written: `Cache-Control` of requests and responses (RFC 9111 section 5.2),
//! `Pragma`, and `CDN-Cache-Control` (RFC 9213), a structured field. Pure; the judges `worth` and
//! `reuse` ask it.
//!
//! The library behind `worth` splits at commas inside quoted strings, knows only lower case and
//! gives up on the first value that is no number; so the fields are read here, and it gets them
//! written anew.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::http::fields::CDN_CACHE_CONTROL;

/// A longer time is this one (RFC 9111 section 1.2.2): it neither overflows nor ends in practice.
pub const FOREVER: u64 = 1 << 31;
/// Beyond that many directives a field is taken as `no-store`: nobody writes so many, and reading
/// them is work.
const MOST: usize = 64;

/// What a response says of its reuse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `max-age`, seconds.
    pub max_age: Option<u64>,
    /// `s-maxage`, seconds.
    pub s_maxage: Option<u64>,
    /// `stale-while-revalidate` (RFC 5861 section 3), seconds.
    pub stale_while_revalidate: Option<u64>,
    /// `stale-if-error` (RFC 5861 section 4), seconds.
    pub stale_if_error: Option<u64>,
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache` without field names.
    pub no_cache: bool,
    /// `private` without field names.
    pub private: bool,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `immutable` (RFC 8246).
    pub immutable: bool,
    /// `no-transform`.
    pub no_transform: bool,
    /// Fields that `no-cache` or `private` name: not to be stored, or only after validation.
    pub withheld: Vec<HeaderName>,
    /// The directives came from a targeted field: `Expires` and `Pragma` do not count (RFC 9213
    /// section 2.1).
    pub targeted: bool,
}

/// What a request asks of caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `max-age`, seconds.
    pub max_age: Option<u64>,
    /// `min-fresh`, seconds.
    pub min_fresh: Option<u64>,
    /// `max-stale`, seconds; without a value, [`FOREVER`].
    pub max_stale: Option<u64>,
    /// `stale-if-error`, seconds.
    pub stale_if_error: Option<u64>,
    /// `no-cache`, or `Pragma: no-cache` where there is no `Cache-Control` (RFC 9111 section 5.4).
    pub no_cache: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
}

/// One directive: name in lower case, value without quotes.
struct Directive {
    name: String,
    value: Option<String>,
}

/// A number of seconds: digits alone (RFC 9111 section 1.2.2).
pub fn seconds(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(FOREVER).min(FOREVER))
}

/// Splits `#( token [ "=" ( token / quoted-string ) ] )`; `None` where there are too many.
fn split(field: &[u8], out: &mut Vec<Directive>) -> Option<()> {
    let mut rest = field;
    loop {
        rest = rest.trim_ascii_start();
        while let Some(after) = rest.strip_prefix(b",") {
            rest = after.trim_ascii_start();
        }
        if rest.is_empty() {
            return Some(());
        }
        if out.len() >= MOST {
            return None;
        }
        let end = rest.iter().position(|b| matches!(b, b',' | b'=')).unwrap_or(rest.len());
        let (name, after) = rest.split_at_checked(end)?;
        let name = String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase();
        let value = match after.strip_prefix(b"=") {
            None => {
                rest = after;
                None
            }
            Some(value) => {
                let (value, after) = value_of(value);
                rest = after;
                Some(value)
            }
        };
        out.push(Directive { name, value });
    }
}

/// A token or a quoted string, and what follows its element. Junk behind a quoted string stays part
/// of the value, so that it is no number.
fn value_of(text: &[u8]) -> (String, &[u8]) {
    let mut value = Vec::new();
    let mut quoted = false;
    let mut bytes = text.iter().enumerate();
    let mut end = text.len();
    let starts = text.trim_ascii_start().first() == Some(&b'"');
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' if starts => quoted = !quoted,
            b'\\' if quoted => {
                if let Some((_, escaped)) = bytes.next() {
                    value.push(*escaped);
                }
            }
            b',' if !quoted => {
                end = at;
                break;
            }
            other => value.push(*other),
        }
    }
    let rest = text.get(end..).unwrap_or_default();
    let value = if starts { value.as_slice() } else { value.trim_ascii() };
    (String::from_utf8_lossy(value).into_owned(), rest)
}

fn read(headers: &HeaderMap, name: &HeaderName) -> (Vec<Directive>, bool) {
    let mut list = Vec::new();
    let mut sound = true;
    for field in headers.get_all(name) {
        sound &= split(field.as_bytes(), &mut list).is_some();
    }
    (list, sound)
}

impl Directives {
    /// Those in force for us: of `CDN-Cache-Control` where it is sound, else of `Cache-Control` and
    /// `Pragma`.
    pub fn of(headers: &HeaderMap) -> Self {
        targeted(headers).unwrap_or_else(|| Self::plain(headers))
    }

    fn plain(headers: &HeaderMap) -> Self {
        let (list, sound) = read(headers, &header::CACHE_CONTROL);
        let mut this = Self {
            no_store: !sound,
            ..Self::default()
        };
        for directive in &list {
            this.take(&directive.name, directive.value.as_deref());
        }
        if !headers.contains_key(header::CACHE_CONTROL) && pragma(headers) {
            this.no_cache = true;
        }
        this
    }

    /// A value that is no number makes the response stale (RFC 9111 section 4.2.1), and so does a
    /// smaller one beside a larger.
    fn take(&mut self, name: &str, value: Option<&str>) {
        let number = || value.and_then(seconds).unwrap_or(0);
        let least = |known: &mut Option<u64>| *known = Some(known.map_or(number(), |known| known.min(number())));
        match name {
            "max-age" => least(&mut self.max_age),
            "s-maxage" => least(&mut self.s_maxage),
            "stale-while-revalidate" => least(&mut self.stale_while_revalidate),
            "stale-if-error" => least(&mut self.stale_if_error),
            "no-store" => self.no_store = true,
            "no-cache" | "private" => {
                let before = self.withheld.len();
                let names = value.unwrap_or_default().split(',').take(MOST);
                self.withheld
                    .extend(names.filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok()));
                // Without field names, or with what is none, all of it is meant.
                if self.withheld.len() == before {
                    match name {
                        "private" => self.private = true,
                        _ => self.no_cache = true,
                    }
                }
            }
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            "immutable" => self.immutable = true,
            "no-transform" => self.no_transform = true,
            _ => {}
        }
    }

    /// Whether a stale response must never be given, whatever else allows it (RFC 9111 section
    /// 4.2.4).
    pub fn forbids_stale(&self) -> bool {
        self.must_revalidate || self.proxy_revalidate || self.no_cache || self.s_maxage.is_some()
    }

    /// As `Cache-Control` in plain form, for the library.
    pub fn plainly(&self) -> Option<HeaderValue> {
        let mut text = String::new();
        let mut add = |part: &str| {
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(part);
        };
        for (name, seconds) in [("max-age", self.max_age), ("s-maxage", self.s_maxage)] {
            if let Some(seconds) = seconds {
                add(&format!("{name}={seconds}"));
            }
        }
        for (name, on) in [
            ("no-store", self.no_store),
            ("no-cache", self.no_cache),
            ("private", self.private),
            ("public", self.public),
            ("must-revalidate", self.must_revalidate),
            ("immutable", self.immutable),
        ] {
            if on {
                add(name);
            }
        }
        HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
            .ok()
            .filter(|v| !v.is_empty())
    }
}

impl Wishes {
    /// What the fields of a request say.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut this = Self::default();
        if !headers.contains_key(header::CACHE_CONTROL) {
            this.no_cache = pragma(headers);
            return this;
        }
        for Directive { name, value } in read(headers, &header::CACHE_CONTROL).0 {
            let number = value.as_deref().and_then(seconds);
            match name.as_str() {
                "max-age" => this.max_age = Some(number.unwrap_or(0)),
                "min-fresh" => this.min_fresh = number,
                "max-stale" if value.is_none() => this.max_stale = Some(FOREVER),
                "max-stale" => this.max_stale = number,
                "stale-if-error" => this.stale_if_error = number,
                "no-cache" => this.no_cache = true,
                "no-store" => this.no_store = true,
                "only-if-cached" => this.only_if_cached = true,
                _ => {}
            }
        }
        this
    }
}

fn pragma(headers: &HeaderMap) -> bool {
    let mut list = headers.get_all(header::PRAGMA).iter();
    list.any(|field| {
        field
            .as_bytes()
            .split(|b| *b == b',')
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(b"no-cache"))
    })
}

/// Reads the dictionary of RFC 9213; `None` where it is absent, empty or unsound: then it is as if
/// it were not there (section 2.2). Values that a directive cannot have make it unsound; unknown
/// keys do not.
fn targeted(headers: &HeaderMap) -> Option<Directives> {
    let mut text = String::new();
    for field in headers.get_all(CDN_CACHE_CONTROL) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(field.to_str().ok()?);
    }
    let mut this = Directives {
        targeted: true,
        ..Directives::default()
    };
    let mut rest = text.trim_matches(' ');
    let mut count = 0;
    while !rest.is_empty() {
        count += 1;
        let end = rest
            .find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.*".contains(c)))
            .unwrap_or(rest.len());
        let (key, after) = rest.split_at_checked(end)?;
        if !key.starts_with(|c: char| c.is_ascii_lowercase() || c == '*') || count > MOST {
            return None;
        }
        let (value, after) = match after.strip_prefix('=') {
            None => (Item::True, after),
            Some(value) => item(value)?,
        };
        this.take_item(key, &value)?;
        let after = parameters(after)?.trim_start_matches([' ', '\t']);
        rest = match after.strip_prefix(',') {
            // A comma with nothing behind it is an error (RFC 9651 section 4.2.2).
            Some(more) => Some(more.trim_start_matches([' ', '\t'])).filter(|more| !more.is_empty())?,
            None if after.is_empty() => after,
            None => return None,
        };
    }
    (count > 0).then_some(this)
}

/// A value of a structured field, as far as directives have one.
enum Item {
    True,
    False,
    Integer(i64),
    Text(String),
    Other,
}

impl Directives {
    fn take_item(&mut self, key: &str, value: &Item) -> Option<()> {
        let numeric = matches!(
            key,
            "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error"
        );
        match value {
            Item::Integer(n) if numeric => self.take(key, Some(&u64::try_from(*n).unwrap_or(0).to_string())),
            _ if numeric => return None,
            Item::True => self.take(key, None),
            Item::Text(names) if matches!(key, "no-cache" | "private") => self.take(key, Some(names)),
            _ => {}
        }
        Some(())
    }
}

/// A bare item or an inner list at the start of `text` (RFC 9651 sections 4.2.1 and 4.2.3.1).
fn item(text: &str) -> Option<(Item, &str)> {
    match text.as_bytes().first()? {
        b'"' => {
            let mut out = String::new();
            let mut chars = text.char_indices().skip(1);
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => return Some((Item::Text(out), text.get(at + 1..)?)),
                    '\\' => out.push(chars.next().map(|(_, c)| c).filter(|c| matches!(c, '"' | '\\'))?),
                    c if c.is_ascii_graphic() || c == ' ' => out.push(c),
                    _ => return None,
                }
            }
            None
        }
        b'?' => match text.as_bytes().get(1)? {
            b'1' => Some((Item::True, text.get(2..)?)),
            b'0' => Some((Item::False, text.get(2..)?)),
            _ => None,
        },
        b'-' | b'0'..=b'9' => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let length = digits.len() - digits.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let whole = digits.get(..length)?;
            let after = digits.get(length..)?;
            if whole.is_empty() || whole.len() > 15 {
                return None;
            }
            if let Some(fraction) = after.strip_prefix('.') {
                let n = fraction.len() - fraction.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                return (1..=3).contains(&n).then_some((Item::Other, fraction.get(n..)?));
            }
            let n: i64 = whole.parse().ok()?;
            let n = if text.starts_with('-') { n.saturating_neg() } else { n };
            Some((Item::Integer(n), after))
        }
        b':' => {
            let end = text.get(1..)?.find(':')?.checked_add(2)?;
            let body = text.get(1..end - 1)?;
            let sound = body.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
            sound.then_some((Item::Other, text.get(end..)?))
        }
        b'(' => {
            let mut rest = text.get(1..)?;
            for _ in 0..MOST {
                rest = rest.trim_start_matches(' ');
                if let Some(after) = rest.strip_prefix(')') {
                    return Some((Item::Other, after));
                }
                // No list within a list.
                if rest.starts_with('(') {
                    return None;
                }
                rest = parameters(item(rest)?.1)?;
                if !rest.starts_with([' ', ')']) {
                    return None;
                }
            }
            None
        }
        b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(c);
            let length = text.len() - text.trim_start_matches(token).len();
            Some((Item::Other, text.get(length..)?))
        }
        _ => None,
    }
}

/// Skips `*( ";" key [ "=" bare-item ] )`.
fn parameters(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(after) = rest.strip_prefix(';') {
        let after = after.trim_start_matches(' ');
        let key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.*".contains(c);
        if !after.starts_with(|c: char| c.is_ascii_lowercase() || c == '*') {
            return None;
        }
        rest = after.trim_start_matches(key);
        if let Some(value) = rest.strip_prefix('=') {
            if value.starts_with('(') {
                return None;
            }
            rest = item(value)?.1;
        }
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::super::resource::tests::headers;
    use super::*;

    fn plain(value: &str) -> Directives {
        Directives::of(&headers(&[("cache-control", value)]))
    }

    /// A directive that is read wrongly keeps what should be forgotten, or shows one client's page
    /// to another.
    #[test]
    fn responses() {
        assert_eq!(plain("Max-Age=60, PUBLIC").max_age, Some(60));
        assert_eq!(plain("max-age=\"60\"").max_age, Some(60));
        assert_eq!(plain("max-age=003600").max_age, Some(3_600));
        assert_eq!(
            plain("max-age=60, max-age=5").max_age,
            Some(5),
            "RFC 9111 section 4.2.1"
        );
        assert_eq!(plain("max-age=99999999999999999999").max_age, Some(FOREVER));
        for wrong in [
            "max-age=-5",
            "max-age='60'",
            "max-age=6.0",
            "max-age",
            "max-age=60a",
            "max-age=\"60\"0x",
        ] {
            assert_eq!(plain(wrong).max_age, Some(0), "{wrong}");
        }
        let quoted = plain("ext=\"max-age=100, no-store, \\\"\", max-age=1");
        assert_eq!(
            (quoted.max_age, quoted.no_store),
            (Some(1), false),
            "section 5.2: quoted strings are opaque"
        );
        let named = plain("private=\"set-cookie, x-user\", no-cache=\"b\"");
        assert!(!named.private && !named.no_cache && named.withheld.len() == 3);
        assert!(
            plain("private=\"\"").private && plain("no-cache=\"a b\"").no_cache,
            "no field names: all of it"
        );
        assert!(plain(&"a,".repeat(100)).no_store, "too many directives");
        assert!(Directives::of(&headers(&[("pragma", "No-Cache")])).no_cache);
        assert!(!Directives::of(&headers(&[("pragma", "no-cache"), ("cache-control", "max-age=1")])).no_cache);
    }

    /// RFC 9111 section 5.2.1.
    #[test]
    fn requests() {
        let wishes = |value: &str| Wishes::of(&headers(&[("cache-control", value)]));
        assert_eq!(wishes("max-stale").max_stale, Some(FOREVER));
        assert_eq!(wishes("max-stale=5, min-fresh=2, only-if-cached").max_stale, Some(5));
        assert_eq!(wishes("max-age=x").max_age, Some(0));
        assert!(Wishes::of(&headers(&[("pragma", "no-cache")])).no_cache);
        assert!(wishes("no-cache").no_cache && wishes("No-Store").no_store);
    }

    /// RFC 9213 section 2.2: sound, it stands before `Cache-Control`; unsound, it is ignored.
    #[test]
    fn targeted_fields() {
        let both = |cdn: &str| Directives::of(&headers(&[("cdn-cache-control", cdn), ("cache-control", "max-age=1")]));
        assert_eq!(both("max-age=60").max_age, Some(60));
        assert_eq!(
            both("max-age=60;x=\"a,b\", foo=(1 \"b\";c), no-cache").max_age,
            Some(60)
        );
        assert!(both("no-store").no_store && both("private").private && both("max-age=-1").max_age == Some(0));
        for unsound in [
            "max-age=\"60\"",
            "max-age=6.5",
            "Max-Age=60",
            "max-age=60,",
            "max-age",
            "max-age=60 x",
            "a=(((",
            "max-age=&",
            "",
        ] {
            let read = both(unsound);
            assert!(!read.targeted && read.max_age == Some(1), "{unsound}");
        }
    }
}
