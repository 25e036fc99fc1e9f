//! `error_page`: files as `[[zone.error_page]]`. What leads to a login, or to an application's one
//! page, `asked` and `served` translate.

use super::context::{Context, Levels};
use super::draft::Draft;
use super::location::{Location, Site, Way};
use super::syntax::Directive;
use crate::import::Weight;
use crate::import::write::{Entry, quoted};

/// Bytes of a page.
const BYTES: u64 = 256 << 10;

/// An `error_page`, taken apart.
pub(super) struct Page<'t> {
    /// Statuses that it is for.
    pub(super) statuses: Vec<u16>,
    /// `=`, or `=200`: the status that is answered instead.
    pub(super) instead: Option<&'t str>,
    /// A path, a URL, or `@name`.
    pub(super) to: &'t str,
}

/// What an `error_page` says; `None`: it is not one.
pub(super) fn page(directive: &Directive) -> Option<Page<'_>> {
    let (to, words) = directive.arguments.split_last()?;
    let (mut statuses, mut instead) = (Vec::new(), None);
    for word in words {
        match word.strip_prefix('=') {
            Some(status) => instead = Some(status),
            None => statuses.push(word.parse().ok()?),
        }
    }
    (!statuses.is_empty()).then_some(Page { statuses, instead, to })
}

/// The first of the nearest block's that `wanted` wants, as written and taken apart.
pub(super) fn first<'t>(levels: &Levels<'t>, wanted: impl Fn(&Page<'t>) -> bool) -> Option<(&'t Directive, Page<'t>)> {
    let all = levels.all("error_page").into_iter();
    all.filter_map(|directive| Some((directive, page(directive)?)))
        .find(|(_, page)| wanted(page))
}

/// Adds the pages of a server, and tells of those that hold for single locations.
pub(super) fn pages<'t>(cx: &mut Context<'t>, draft: &mut Draft, site: &Site<'t>, levels: &Levels<'t>) {
    let own: Vec<&'t Directive> = levels.all("error_page");
    let root = site
        .all
        .iter()
        .find(|location| matches!(&location.way, Way::Prefix { path, .. } if path == "/"));
    let mut found: Vec<Vec<Entry>> = Vec::new();
    let whole = match (own.is_empty(), root) {
        // The location of all other paths stands for the zone.
        (true, Some(root)) => root.levels.all("error_page"),
        _ => own,
    };
    let intercepted = intercepted(cx, site, levels);
    for directive in whole {
        if cx.is_taken(directive) {
            continue;
        }
        match written(cx, site, directive, intercepted) {
            Ok(entries) => found.push(entries),
            Err(why) => cx.tell(directive, Weight::Missing, why),
        }
    }
    for location in &site.all {
        for directive in location.levels.own().iter().filter(|inner| inner.name == "error_page") {
            if !cx.is_taken(directive) {
                let why = "pages are for a whole zone: write a [[zone.error_page]] (docs/rules.md)";
                cx.tell(directive, Weight::Missing, why);
            }
        }
    }
    if draft.zone.pages.is_empty() {
        draft.zone.pages = found;
    } else if !found.is_empty() && draft.zone.pages != found {
        for directive in levels.all("error_page") {
            let why = "with and without TLS, hosts have the pages of the server with TLS";
            cx.tell(directive, Weight::Different, why);
        }
    }
}

/// Whether what origins answer is replaced, too.
fn intercepted(cx: &mut Context<'_>, site: &Site<'_>, levels: &Levels<'_>) -> bool {
    let mut on = levels.says("proxy_intercept_errors", "on");
    if let Some(directive) = levels.one("proxy_intercept_errors") {
        cx.take(directive);
    }
    for location in &site.all {
        for directive in location.levels.own() {
            if directive.name == "proxy_intercept_errors" {
                on |= directive.argument(0) == "on";
                let why = "a page is shown in place of what all origins of the zone answer, or of none (origin = true)";
                cx.tell(directive, Weight::Different, why);
            }
        }
    }
    on
}

/// `[[zone.error_page]]`
fn written<'t>(
    cx: &mut Context<'t>,
    site: &Site<'t>,
    directive: &'t Directive,
    intercepted: bool,
) -> Result<Vec<Entry>, String> {
    let page = page(directive).ok_or("not statuses and a page")?;
    if page.instead.is_some() {
        return Err("a page has the status of the failure".to_owned());
    }
    if !page.to.starts_with('/') || page.to.contains('$') {
        return Err("pages are files: a [[zone.rule]] redirects before anything fails (docs/rules.md)".to_owned());
    }
    let path = page.to.split('?').next().unwrap_or_default();
    let location = site.find(path, true).filter(|location| location.is_files());
    let location = location.ok_or("its page is not a file of this server")?;
    let file = file(location, path).ok_or("its page is not a file of this server")?;
    let file = cx.path(&file);
    match cx.files.read(file.as_ref(), BYTES) {
        Err(error) => {
            let why = format!("{file}: {error}: `edge check` will say so until the file is there");
            cx.tell(directive, Weight::Different, why);
        }
        Ok(content) => match String::from_utf8(content) {
            Ok(text) if !text.contains("{{") => {}
            _ => {
                return Err(format!(
                    "{file}: not UTF-8, or with {{{{, which is filled in (docs/rules.md)"
                ));
            }
        },
    }
    let statuses: Vec<String> = page
        .statuses
        .iter()
        .filter(|status| (400..=599).contains(*status))
        .map(u16::to_string)
        .collect();
    if statuses.is_empty() {
        return Err("pages are for 400 to 599".to_owned());
    }
    let why = "read with the configuration; who asks for JSON before text gets no page; what a rule says in words of its own stays";
    cx.tell(directive, Weight::Different, why);
    let mut entries = vec![
        ("status".to_owned(), format!("[{}]", statuses.join(", "))),
        ("file".to_owned(), quoted(&file)),
    ];
    if intercepted {
        entries.push(("origin".to_owned(), "true".to_owned()));
    }
    Ok(entries)
}

/// The file of `path` in a location that is answered from files.
fn file(location: &Location<'_>, path: &str) -> Option<String> {
    if let Some(alias) = location.levels.own_one("alias") {
        let rest = path.strip_prefix(location.prefix()?)?;
        return Some(format!("{}{rest}", alias.argument(0)));
    }
    let root = location.levels.one("root")?.argument(0);
    (!root.contains('$')).then(|| format!("{}{path}", root.trim_end_matches('/')))
}
