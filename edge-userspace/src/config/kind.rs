//! Kinds of keys: what the file has for one, what a room gets, and what is checked between the two.
//! [`section!`] names one for each key.
//!
//! [`section!`]: super::section

use std::fmt;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::Place;
use super::checker::Checker;
use super::value::{AdminAddress, HostPattern, Network, Size, Time};

/// A kind of key.
pub trait Kind {
    /// As the file has it.
    type Written: Clone + fmt::Debug + PartialEq + for<'de> Deserialize<'de>;
    /// As a room has it.
    type Checked;
    /// The least and the most of it, for kinds that have bounds.
    type Bound;
    /// A file without the key is a mistake.
    const REQUIRED: bool = false;

    /// The value as the file would have it; empty for none.
    fn text(written: &Self::Written) -> String;

    /// A bound as the file would have it, without quotes.
    fn bound(bound: &Self::Bound) -> String;

    /// The value for the room; what is wrong with it is told to `checker`.
    fn check(
        written: &Spanned<Self::Written>,
        bounds: Option<(Self::Bound, Self::Bound)>,
        checker: &mut Checker<'_>,
    ) -> Self::Checked;
}

/// For kinds without bounds.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Unbounded {}

/// Stands for a value that is missing, which is a mistake: no room sees it.
pub trait Blank {
    /// Any value.
    fn blank() -> Self;
}

macro_rules! blank {
    ($($type:ty = $blank:expr),* $(,)?) => { $(impl Blank for $type {
        fn blank() -> Self {
            $blank
        }
    })* };
}

blank! {
    String = Self::new(),
    Arc<str> = "".into(),
    (PathBuf, Place) = (PathBuf::new(), Place::nowhere()),
    SocketAddr = Self::from((Ipv4Addr::LOCALHOST, 1)),
}

impl<T> Blank for Vec<T> {
    fn blank() -> Self {
        Self::new()
    }
}

/// Declares a kind whose value is compared with its bounds: what is written, and the room's form of
/// it.
macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident: $written:ty => $checked:ty, $quote:literal, $to:expr) => {
        $(#[$doc])*
        pub struct $name;

        impl Kind for $name {
            type Written = $written;
            type Checked = $checked;
            type Bound = $written;

            fn text(written: &$written) -> String {
                format!(concat!($quote, "{}", $quote), written)
            }

            fn bound(bound: &$written) -> String {
                bound.to_string()
            }

            fn check(
                written: &Spanned<$written>,
                bounds: Option<($written, $written)>,
                checker: &mut Checker<'_>,
            ) -> $checked {
                checker.within(written, bounds, <$written>::to_string);
                let to: fn($written) -> $checked = $to;
                to(*written.get_ref())
            }
        }
    };
}

bounded! {
    /// A number of bytes.
    Bytes: Size => u64, "\"", |size| size.0
}
bounded! {
    /// A number of bytes that are held in memory.
    Memory: Size => usize, "\"", |size| usize::try_from(size.0).unwrap_or(usize::MAX)
}
bounded! {
    /// A number of bytes of which 0 means no limit.
    Limit: Size => Option<u64>, "\"", |size| Some(size.0).filter(|bytes| *bytes > 0)
}
bounded! {
    /// A duration.
    Span: Time => Duration, "\"", |time| time.0
}
bounded! {
    /// A duration of which 0 means no limit.
    Deadline: Time => Option<Duration>, "\"", |time| Some(time.0).filter(|time| !time.is_zero())
}
bounded! {
    /// A number of threads of which 0 means one per processor.
    Threads: usize => usize, "", |n| match n {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        n => n,
    }
}

/// A count.
pub struct Count<T>(PhantomData<T>);

impl<T: Copy + fmt::Debug + fmt::Display + PartialOrd + for<'de> Deserialize<'de>> Kind for Count<T> {
    type Written = T;
    type Checked = T;
    type Bound = T;

    fn text(written: &T) -> String {
        written.to_string()
    }

    fn bound(bound: &T) -> String {
        bound.to_string()
    }

    fn check(written: &Spanned<T>, bounds: Option<(T, T)>, checker: &mut Checker<'_>) -> T {
        checker.within(written, bounds, T::to_string);
        *written.get_ref()
    }
}

/// A count of which 0 means no limit.
pub struct Unlimited<T>(PhantomData<T>);

impl<T: Copy + Default + fmt::Debug + fmt::Display + PartialOrd + for<'de> Deserialize<'de>> Kind for Unlimited<T> {
    type Written = T;
    type Checked = Option<T>;
    type Bound = T;

    fn text(written: &T) -> String {
        written.to_string()
    }

    fn bound(bound: &T) -> String {
        bound.to_string()
    }

    fn check(written: &Spanned<T>, bounds: Option<(T, T)>, checker: &mut Checker<'_>) -> Option<T> {
        Some(Count::<T>::check(written, bounds, checker)).filter(|n| *n != T::default())
    }
}

/// Declares a kind without bounds: its text, and its check.
macro_rules! unbounded {
    ($(#[$doc:meta])* $name:ident: $written:ty => $checked:ty, $text:expr, $check:expr) => {
        $(#[$doc])*
        pub struct $name;

        impl $crate::config::kind::Kind for $name {
            type Written = $written;
            type Checked = $checked;
            type Bound = $crate::config::kind::Unbounded;

            fn text(written: &$written) -> String {
                let text: fn(&$written) -> String = $text;
                text(written)
            }

            fn bound(bound: &$crate::config::kind::Unbounded) -> String {
                match *bound {}
            }

            fn check(
                written: &toml::Spanned<$written>,
                _: Option<($crate::config::kind::Unbounded, $crate::config::kind::Unbounded)>,
                checker: &mut $crate::config::checker::Checker<'_>,
            ) -> $checked {
                let check: fn(&toml::Spanned<$written>, &mut $crate::config::checker::Checker<'_>) -> $checked = $check;
                check(written, checker)
            }
        }
    };
}
pub(super) use unbounded;

unbounded! {
    /// Yes or no.
    Flag: bool => bool, bool::to_string, |written, _| *written.get_ref()
}
unbounded! {
    /// A file or directory, with its place for errors of the room that opens it.
    File: PathBuf => (PathBuf, Place), |path| format!("\"{}\"", path.display()),
    |written, checker| (checker.path(written), checker.place(written.span()))
}
unbounded! {
    /// The same, of which no room tells an error.
    Directory: PathBuf => PathBuf, |path| format!("\"{}\"", path.display()), |written, checker| checker.path(written)
}
unbounded! {
    /// A network.
    Net: Network => IpNet, |network| format!("\"{}\"", network.0), |written, _| written.get_ref().0
}
unbounded! {
    /// An address and port to listen at or to connect to.
    Address: SocketAddr => SocketAddr, |address| format!("\"{address}\""), |written, checker| {
        let address = *written.get_ref();
        if address.port() == 0 {
            checker.mistake(written.span(), format!("{address} has port 0"), "write the port clients connect to");
        }
        address
    }
}
unbounded! {
    /// Where the admin endpoint is: an address, or the path of a socket.
    Admin: AdminAddress => AdminAddress, |address| format!("\"{address}\""), |written, _| written.get_ref().clone()
}
unbounded! {
    /// Exact names of hosts, or `*.suffix`.
    Host: HostPattern => HostPattern, |host| format!("\"{host}\""), |written, _| written.get_ref().clone()
}
unbounded! {
    /// Any text.
    Text: String => String, |text| format!("{text:?}"), |written, _| written.get_ref().clone()
}
unbounded! {
    /// Levels of the log.
    Level: String => String, |text| format!("{text:?}"), |written, checker| {
        let level = written.get_ref();
        // `Targets` would take an unknown word for a module's name.
        let sound = level.split(',').all(|part| {
            let level = part.split_once('=').map_or(part, |(_, level)| level);
            level.trim().parse::<tracing_subscriber::filter::LevelFilter>().is_ok()
        });
        if !sound {
            let mend = "write error, warn, info, debug or trace, or \"info,edge::origin=debug\"";
            checker.mistake(written.span(), format!("\"{level}\" is not a log level"), mend);
        }
        level.clone()
    }
}
unbounded! {
    /// The name in a server's certificate.
    ServerName: String => String, |text| format!("{text:?}"), |written, checker| {
        let name = written.get_ref();
        if rustls::pki_types::ServerName::try_from(name.as_str()).is_err() {
            let what = format!("\"{name}\" is not a valid server name");
            checker.mistake(written.span(), what, "write the host name or address in the server's certificate");
        }
        name.clone()
    }
}
unbounded! {
    /// Statuses that say that a server could not answer.
    Failures: Vec<u16> => Vec<u16>, |statuses| format!("{statuses:?}"), |written, checker| {
        if written.get_ref().iter().any(|status| !(500..=599).contains(status)) {
            checker.mistake(
                written.span(),
                "a status below 500 is the client's affair, not a failure of the server",
                "write statuses from 500 to 599, as [502, 503, 504]; or [] for none",
            );
        }
        written.get_ref().clone()
    }
}
unbounded! {
    /// Statuses, at least one.
    Statuses: Vec<u16> => Vec<u16>, |statuses| format!("{statuses:?}"), |written, checker| {
        let statuses = written.get_ref();
        if statuses.is_empty() || statuses.iter().any(|status| !(100..=599).contains(status)) {
            checker.mistake(written.span(), "not a list of statuses", "write status = [200, 204]");
        }
        statuses.clone()
    }
}

unbounded! {
    /// A prefix of paths, or a glob.
    Path: String => String, |text| format!("{text:?}"), |written, checker| {
        let path = written.get_ref();
        if !path.starts_with(['/', '*']) {
            let mend = "write a prefix like \"/api/\" or a glob like \"*.php\"";
            checker.mistake(written.span(), format!("\"{path}\" is not a path"), mend);
        }
        path.clone()
    }
}

/// A name of at most `MOST` letters, digits, `-`, `_` and `.`.
pub struct Name<const MOST: usize>;

impl<const MOST: usize> Kind for Name<MOST> {
    type Written = String;
    type Checked = Arc<str>;
    type Bound = Unbounded;

    fn text(written: &String) -> String {
        format!("{written:?}")
    }

    fn bound(bound: &Unbounded) -> String {
        match *bound {}
    }

    fn check(written: &Spanned<String>, _: Option<(Unbounded, Unbounded)>, checker: &mut Checker<'_>) -> Arc<str> {
        let name = written.get_ref();
        let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > MOST || !name.bytes().all(sound) {
            let mend = format!("write letters, digits, `-`, `_`, `.`, at most {MOST}");
            checker.mistake(written.span(), format!("\"{name}\" is not a valid name"), mend);
        }
        name.as_str().into()
    }
}

/// One of a few words.
pub struct Word<T>(PhantomData<T>);

/// A closed set of words.
pub trait Words: Copy + fmt::Debug + PartialEq + for<'de> Deserialize<'de> {
    /// The word for it.
    fn word(self) -> &'static str;
}

impl<T: Words> Kind for Word<T> {
    type Written = T;
    type Checked = T;
    type Bound = Unbounded;

    fn text(written: &T) -> String {
        format!("\"{}\"", written.word())
    }

    fn bound(bound: &Unbounded) -> String {
        match *bound {}
    }

    fn check(written: &Spanned<T>, _: Option<(Unbounded, Unbounded)>, _: &mut Checker<'_>) -> T {
        *written.get_ref()
    }
}

/// Declares a closed set of words, each with its meaning.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $( $(#[$doc:meta])+ $variant:ident = $word:literal, )* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
        pub enum $name {
            $( $(#[$doc])+ #[serde(rename = $word)] $variant, )*
        }

        impl $crate::config::kind::Words for $name {
            fn word(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }
        }
    };
}
pub(super) use words;

/// A key that may be left out, which means nothing else.
pub struct Maybe<K>(PhantomData<K>);

impl<K: Kind> Kind for Maybe<K> {
    type Written = Option<K::Written>;
    type Checked = Option<K::Checked>;
    type Bound = K::Bound;

    fn text(written: &Option<K::Written>) -> String {
        written.as_ref().map(K::text).unwrap_or_default()
    }

    fn bound(bound: &K::Bound) -> String {
        K::bound(bound)
    }

    fn check(
        written: &Spanned<Option<K::Written>>,
        bounds: Option<(K::Bound, K::Bound)>,
        checker: &mut Checker<'_>,
    ) -> Option<K::Checked> {
        let inner = written.get_ref().clone()?;
        Some(K::check(&Spanned::new(written.span(), inner), bounds, checker))
    }
}

/// A key that must be there.
pub struct Must<K>(PhantomData<K>);

impl<K: Kind<Checked: Blank>> Kind for Must<K> {
    type Written = Option<K::Written>;
    type Checked = K::Checked;
    type Bound = K::Bound;
    const REQUIRED: bool = true;

    fn text(written: &Option<K::Written>) -> String {
        Maybe::<K>::text(written)
    }

    fn bound(bound: &K::Bound) -> String {
        K::bound(bound)
    }

    fn check(
        written: &Spanned<Option<K::Written>>,
        bounds: Option<(K::Bound, K::Bound)>,
        checker: &mut Checker<'_>,
    ) -> K::Checked {
        Maybe::<K>::check(written, bounds, checker).unwrap_or_else(|| {
            checker.missing();
            K::Checked::blank()
        })
    }
}

/// A key that stands for one of the node's, if a zone has it.
pub struct Own<K>(PhantomData<K>);

impl<K: Kind<Checked: Default>> Kind for Own<K> {
    type Written = Option<K::Written>;
    type Checked = K::Checked;
    type Bound = K::Bound;

    fn text(written: &Option<K::Written>) -> String {
        Maybe::<K>::text(written)
    }

    fn bound(bound: &K::Bound) -> String {
        K::bound(bound)
    }

    fn check(
        written: &Spanned<Option<K::Written>>,
        bounds: Option<(K::Bound, K::Bound)>,
        checker: &mut Checker<'_>,
    ) -> K::Checked {
        Maybe::<K>::check(written, bounds, checker).unwrap_or_default()
    }
}

/// A table on one line, or several of them, which its section checks itself.
pub(super) struct Inline<T>(PhantomData<T>);

impl<T: Clone + fmt::Debug + PartialEq + for<'de> Deserialize<'de>> Kind for Inline<T> {
    type Written = T;
    type Checked = T;
    type Bound = Unbounded;

    fn text(_: &T) -> String {
        String::new()
    }

    fn bound(bound: &Unbounded) -> String {
        match *bound {}
    }

    fn check(written: &Spanned<T>, _: Option<(Unbounded, Unbounded)>, _: &mut Checker<'_>) -> T {
        written.get_ref().clone()
    }
}

/// Any number of values.
pub struct List<K>(PhantomData<K>);

impl<K: Kind> Kind for List<K> {
    type Written = Vec<Spanned<K::Written>>;
    type Checked = Vec<K::Checked>;
    type Bound = Unbounded;

    fn text(written: &Vec<Spanned<K::Written>>) -> String {
        let texts: Vec<_> = written.iter().map(|one| K::text(one.get_ref())).collect();
        format!("[{}]", texts.join(", "))
    }

    fn bound(bound: &Unbounded) -> String {
        match *bound {}
    }

    fn check(
        written: &Spanned<Vec<Spanned<K::Written>>>,
        _: Option<(Unbounded, Unbounded)>,
        checker: &mut Checker<'_>,
    ) -> Vec<K::Checked> {
        written
            .get_ref()
            .iter()
            .map(|one| K::check(one, None, checker))
            .collect()
    }
}

/// A list as its default.
pub(super) fn list<T>(values: impl IntoIterator<Item = T>) -> Vec<Spanned<T>> {
    values.into_iter().map(|value| Spanned::new(0..0, value)).collect()
}
