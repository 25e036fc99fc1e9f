//! Locations that are answered from files: root, alias, index, try_files.

use super::context::Context;
use super::draft::Draft;
use super::location::{Location, Way};
use super::syntax::Directive;
use crate::import::Weight;
use crate::import::write::{Entry, When, quoted};

/// The directory of the location for all other paths, if it is answered from files.
pub(super) fn main(ordered: &[(&Location<'_>, When)]) -> Option<String> {
    let (location, _) = ordered.last()?;
    let other = |directive: &Directive| {
        let name = directive.name.as_str();
        name.ends_with("_pass")
            || name == "return"
            || name == "alias"
            || directive.arguments.last().is_some_and(|last| last.starts_with('@'))
    };
    let root = location.levels.one("root")?.argument(0);
    let plain = !location.levels.own().iter().any(other);
    plain.then(|| root.to_owned())
}

/// Has `location` answered from files; `main`: as the zone's origin.
pub(super) fn files<'t>(
    cx: &mut Context<'t>,
    draft: &mut Draft,
    location: &Location<'t>,
    tried: Option<&Directive>,
    act: &mut Vec<Entry>,
    main: bool,
) {
    if let Some(tried) = tried {
        self::tried(cx, tried);
    }
    for directive in location.levels.all("index") {
        if directive.argument(0) == "index.html" {
            cx.take(directive);
        }
    }
    let alias = location.levels.own().iter().find(|directive| directive.name == "alias");
    let Some(root) = alias.or_else(|| location.levels.one("root")) else {
        // Beside an origin, its requests would go there.
        act.push(("respond".to_owned(), "{ status = 404 }".to_owned()));
        if let Some(directive) = location.directive {
            cx.tell(
                directive,
                Weight::Different,
                "nothing answers it: nginx looks in a directory of its own, edge says 404",
            );
        }
        return;
    };
    cx.take(root);
    let directory = root.argument(0);
    if directory.contains('$') {
        cx.tell(
            root,
            Weight::Missing,
            "a directory that depends on variables. Answered 501 instead",
        );
        act.push(("respond".to_owned(), "{ status = 501 }".to_owned()));
        return;
    }
    let directory = cx.path(directory);
    if alias.is_some() {
        self::alias(cx, draft, location, (root, &directory), act);
        return;
    }
    if main && draft.zone.origin.is_empty() {
        draft.zone.origin.push(("directory".to_owned(), quoted(&directory)));
        return;
    }
    if draft.files.as_ref().is_some_and(|files| cx.path(files) == directory) {
        return;
    }
    let alone = match &location.way {
        // A route holds for all of the zone, and so for what another server of it answers.
        Way::Prefix { path, .. } if path.contains('*') || path == "/" => false,
        Way::Prefix { path, .. } => draft.route(path, &directory),
        Way::Exact(path) => {
            cx.tell(
                root,
                Weight::Different,
                "paths that continue this one are looked for there, too",
            );
            draft.route(path, &directory)
        }
        Way::Expression { text, .. } => match endings(text) {
            Some(globs) => globs.iter().all(|glob| draft.route(glob, &directory)),
            None => false,
        },
        Way::Named(_) => false,
    };
    if !alone {
        cx.tell(
            root,
            Weight::Missing,
            "no [[zone.route]] leads to this directory for these paths alone. Answered 404 instead",
        );
        act.push(("respond".to_owned(), "{ status = 404 }".to_owned()));
    }
}

/// What is tried, and what comes after it.
fn tried(cx: &mut Context<'_>, tried: &Directive) {
    let plain = |word: &String| matches!(word.as_str(), "$uri" | "$uri/" | "$uri/index.html");
    let Some((last, first)) = tried.arguments.split_last() else {
        return;
    };
    match (first.iter().all(plain), last.as_str()) {
        (true, "=404") => cx.take(tried),
        (true, status) if status.starts_with('=') => {
            cx.tell(tried, Weight::Different, "what is not there is answered 404")
        }
        (true, _) => cx.tell(
            tried,
            Weight::Missing,
            "what is not there is answered 404: nothing is tried after it",
        ),
        (false, _) => cx.tell(
            tried,
            Weight::Missing,
            "a file is looked for under its own path, and as a directory's index.html",
        ),
    }
}

/// A directory in place of the location's path.
fn alias(
    cx: &mut Context<'_>,
    draft: &mut Draft,
    location: &Location<'_>,
    (root, directory): (&Directive, &str),
    act: &mut Vec<Entry>,
) {
    let Way::Prefix { path, .. } = &location.way else {
        cx.tell(
            root,
            Weight::Missing,
            "an alias of paths that are no prefix. Answered 404 instead",
        );
        act.push(("respond".to_owned(), "{ status = 404 }".to_owned()));
        return;
    };
    let (front, target) = (path.trim_end_matches('/'), directory.trim_end_matches('/'));
    if path.ends_with('/') != directory.ends_with('/') {
        cx.tell(
            root,
            Weight::Different,
            "the path is replaced at a `/`, as if both ended in one",
        );
    }
    // `/static/` at `/srv/static/` is the root `/srv`.
    if let Some(parent) = target
        .strip_suffix(front)
        .filter(|parent| !parent.is_empty() && !front.is_empty())
    {
        if draft.files.as_ref().is_some_and(|files| cx.path(files) == parent) {
            return;
        }
        if draft.route(path, parent) {
            return;
        }
    }
    let Some((parent, name)) = target
        .rsplit_once('/')
        .filter(|(parent, name)| !parent.is_empty() && !name.is_empty())
    else {
        cx.tell(root, Weight::Missing, "no directory above it. Answered 404 instead");
        act.push(("respond".to_owned(), "{ status = 404 }".to_owned()));
        return;
    };
    let there = format!("/{}/", super::pattern::normal(name));
    if there.contains('*') || !draft.route(&there, parent) {
        cx.tell(
            root,
            Weight::Missing,
            "another directory is at that path already. Answered 404 instead",
        );
        act.push(("respond".to_owned(), "{ status = 404 }".to_owned()));
        return;
    }
    let why =
        format!("its files are looked for as {there} of the directory above, and who asks for that path gets 404");
    cx.tell(root, Weight::Different, why);
    draft.hide(location.owner, &there);
    let strip = match front {
        "" => String::new(),
        front => format!("strip = {}, ", quoted(front)),
    };
    act.retain(|(key, _)| key != "rewrite");
    act.push((
        "rewrite".to_owned(),
        format!("{{ {strip}add = {} }}", quoted(there.trim_end_matches('/'))),
    ));
}

/// The globs of an expression such as `\.(css|js)$`.
fn endings(expression: &str) -> Option<Vec<String>> {
    let bare = expression.strip_prefix("(?i)").unwrap_or(expression);
    let words = bare.strip_prefix("\\.")?.strip_suffix('$')?;
    let words = match words.strip_prefix('(') {
        Some(inner) => inner.strip_suffix(')')?.trim_start_matches("?:"),
        None => words,
    };
    let mut globs = Vec::new();
    for word in words.split('|') {
        // `jpe?g` is two words.
        let word = match word.split_once('?') {
            Some((before, after)) => {
                let mut shorter = before.to_owned();
                shorter.pop()?;
                globs.push(format!("*.{shorter}{after}"));
                format!("{before}{after}")
            }
            None => word.to_owned(),
        };
        globs.push(format!("*.{word}"));
    }
    let plain =
        |glob: &String| glob.trim_start_matches("*.").bytes().all(|b| b.is_ascii_alphanumeric()) && glob.len() > 2;
    globs.iter().all(plain).then_some(globs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files would be asked of the origin, or others' paths be taken for files.
    #[test]
    fn endings_of_names() {
        let globs = |text: &str| endings(text).map(|globs| globs.join(" "));
        assert_eq!(globs("(?i)\\.(css|js)$").unwrap(), "*.css *.js");
        assert_eq!(globs("\\.(?:jpe?g|png)$").unwrap(), "*.jpg *.jpeg *.png");
        assert_eq!(globs("\\.php$").unwrap(), "*.php");
        for text in ["\\.ph.$", "\\.(a|b", "^/x\\.php$", "\\.$", "\\.(a|)$"] {
            assert_eq!(globs(text), None, "{text}");
        }
    }
}
