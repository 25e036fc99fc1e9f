//! Collects what is wrong with a zone's rules: `file`, `guard` and `ways` tell it, and read through
//! it the files that rules name.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use http::HeaderName;
use toml::Spanned;
use zeroize::Zeroizing;

use crate::base::file;
use crate::config::mistake::{Mistake, Source};
use crate::config::origin::Pools;

/// Bytes of a file that answers or holds keys, and of a list of redirects or of users.
pub(super) const ANSWER_BYTES: u64 = 1 << 20;
pub(super) const LIST_BYTES: u64 = 64 << 20;

/// Fields that decide how a message is read or where it goes, or that the edge writes itself: no
/// rule may.
const OURS: [&str; 19] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "content-length",
    "host",
    "expect",
    "via",
    "cdn-loop",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
    "alt-svc",
];

/// Whether `name`, in lower case, is one of those, or one of all that begin with `x-forwarded-`,
/// which a server is told of by the edge alone (`http::forwarded`).
pub fn is_ours(name: &str) -> bool {
    OURS.contains(&name) || name.starts_with("x-forwarded-")
}

/// What was found so far.
pub(super) struct Checker<'a> {
    pub(super) source: &'a Source<'a>,
    /// What rules may send requests to.
    pub(super) pools: &'a Pools,
    pub(super) mistakes: Vec<Mistake>,
    /// Of files that rules name: their zone's alone.
    pub(super) faults: Vec<Mistake>,
}

impl Checker<'_> {
    pub(super) fn mistake(&mut self, span: Range<usize>, what: impl Into<String>, mend: impl Into<String>) {
        self.mistakes.push(self.source.place(span).mistake(what, mend));
    }

    /// The file that is named at `span` cannot be used: the zone can stand aside.
    pub(super) fn fault(&mut self, span: Range<usize>, what: impl Into<String>, mend: impl Into<String>) {
        self.faults.push(self.source.place(span).mistake(what, mend));
    }

    pub(super) fn field_name(&mut self, written: &Spanned<String>) -> Option<HeaderName> {
        written
            .get_ref()
            .parse()
            .map_err(|_| {
                let what = format!("\"{}\" is not a valid field name", written.get_ref());
                self.mistake(written.span(), what, "write letters, digits and hyphens");
            })
            .ok()
    }

    /// The content of `file`; `None` if it cannot be read, which is told.
    pub(super) fn read(&mut self, file: &Spanned<PathBuf>, most: u64) -> Option<Zeroizing<Vec<u8>>> {
        let path = self.source.path(file);
        let what = match fs::metadata(&path) {
            Err(error) => format!("{}: {error}", path.display()),
            Ok(meta) if !meta.is_file() => format!("{} is not a file", path.display()),
            Ok(meta) if meta.len() > most => format!("{} has {} bytes", path.display(), meta.len()),
            Ok(_) => match file::read_at_most(&path, most) {
                Ok(content) => return Some(content),
                Err(error) => format!("{}: {error}", path.display()),
            },
        };
        self.fault(
            file.span(),
            what,
            format!("name a file that can be read, of at most {most} bytes"),
        );
        None
    }
}
