//! From a server's blocks to the rules of a zone, in the order in which nginx goes: what rewrites
//! (`return`, `rewrite`, `if`), who may come, and what answers.

use super::asked;
use super::branch::{conditions, flagged};
use super::context::{Context, Levels};
use super::draft::Draft;
use super::fields::{self, Which};
use super::guards::guards;
use super::location::{Location, Site, Way};
use super::maps;
use super::pages;
use super::passed::{Variant, parted, passed};
use super::paths::{Rewritten, both, groups, redirect, respond};
use super::pattern::{self, Of};
use super::served;
use super::spot::Spot;
use super::stored;
use super::syntax::Directive;
use super::text::{Known, Piece, Text};
use crate::config::rule::RULES;
use crate::import::Weight;
use crate::import::write::{Entry, When, quoted};

/// Locations that lead to each other by `rewrite … last`.
const JUMPS: usize = 8;

/// Directives that answer in ways that edge does not have.
const HANDLERS: &[&str] = &[
    "fastcgi_pass",
    "uwsgi_pass",
    "scgi_pass",
    "memcached_pass",
    "stub_status",
    "status",
    "empty_gif",
    "perl",
    "js_content",
    "content_by_lua",
    "content_by_lua_file",
    "content_by_lua_block",
    "dav_methods",
    "random_index",
    "api",
    "upload_pass",
    "rtmp_stat",
    "hls",
    "postgres_pass",
    "redis_pass",
    "image_filter",
];

/// Whether requests go on after what rewrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    On,
    Ended,
}

/// Adds to `draft` what the server whose blocks are `levels` does with requests that fulfil `base`.
/// `first` names it; `main`: its answer to all other paths is the zone's origin.
pub(super) fn server<'t>(
    cx: &mut Context<'t>,
    draft: &mut Draft,
    (owner, levels): (usize, &Levels<'t>),
    (base, known): (&When, &Known),
    main: bool,
) {
    let site = Site::of(cx, owner, levels);
    let spot = Spot::new((owner, levels), "server".to_owned(), base.clone(), known.clone());
    let (flow, known) = phase(cx, draft, &site, spot);
    if flow == Flow::Ended {
        for location in &site.all {
            location.levels.own().iter().for_each(|directive| dead(cx, directive));
        }
        return;
    }
    asked::led(cx, &site, levels);
    let ordered = site.ordered(cx);
    draft.files = served::main(&ordered);
    served::table(cx, draft, &site, &ordered);
    draft.zone.after.extend(site.all.iter().map(|location| location.owner));
    let most = ordered.len();
    for (at, (location, when)) in ordered.into_iter().enumerate() {
        let Some(when) = when.and(base) else { continue };
        let last = at + 1 == most;
        let of = (location.owner, &location.levels);
        let spot = Spot::new(of, location.name(), when, known.clone());
        self::location(cx, draft, &site, location, spot, (last, last && main));
    }
    pages::pages(cx, draft, &site, levels);
    for location in &site.all {
        if matches!(location.way, Way::Named(_))
            && let Some(directive) = location.directive
        {
            let named = || location.levels.own().iter().any(|inner| cx.is_taken(inner));
            if !named() {
                cx.tell(directive, Weight::Missing, "only error_page and try_files lead there");
            }
        }
    }
}

/// A directive that nginx never comes to.
fn dead(cx: &mut Context<'_>, directive: &Directive) {
    if !cx.is_taken(directive) {
        cx.tell(directive, Weight::Idle, "a return of the server answers before it");
    }
    directive.inner().iter().for_each(|inner| dead(cx, inner));
}

/// `return`, `rewrite`, `if`, `set` and `break` of a block, one after the other.
fn phase<'t>(cx: &mut Context<'t>, draft: &mut Draft, site: &Site<'t>, mut spot: Spot<'_, 't>) -> (Flow, Known) {
    for directive in spot.levels.own() {
        match directive.name.as_str() {
            "set" => set(cx, directive, &mut spot.known),
            "break" => {
                cx.take(directive);
                break;
            }
            "return" if answer(cx, draft, directive, &spot) => return (Flow::Ended, spot.known),
            "rewrite" => rewrite(cx, draft, site, directive, &spot),
            "if" => branch(cx, draft, site, directive, &mut spot),
            _ => {}
        }
    }
    (Flow::On, spot.known)
}

fn set(cx: &mut Context<'_>, directive: &Directive, known: &mut Known) {
    let name = directive.argument(0).trim_start_matches('$').to_ascii_lowercase();
    match Text::of(directive.argument(1), known) {
        Ok(value) => {
            cx.take(directive);
            known.flags.remove(&name);
            known.set.insert(name, value);
        }
        Err(why) => cx.tell(directive, Weight::Missing, why),
    }
}

/// `return`; whether a rule was made of it.
fn answer(cx: &mut Context<'_>, draft: &mut Draft, directive: &Directive, spot: &Spot<'_, '_>) -> bool {
    let (first, second) = (directive.argument(0), directive.argument(1));
    let (status, text) = match (first.parse::<u16>(), directive.arguments.len()) {
        (Ok(status), 1) => (status, None),
        (Ok(status), 2) => (status, Some(second)),
        (Err(_), 1) => (302, Some(first)),
        _ => {
            cx.tell(directive, Weight::Missing, "not a status, with a text or a URL");
            return false;
        }
    };
    let known = Known {
        groups: groups(&spot.when),
        ..spot.known.clone()
    };
    let text = match text.map(|text| Text::of(text, &known)).transpose() {
        Ok(text) => text,
        Err(why) => {
            refuse(cx, draft, directive, spot, &why);
            return true;
        }
    };
    let entry = match (status, text) {
        (301 | 302 | 303 | 307 | 308, Some(text)) => redirect(&text, status, false, &known),
        (444, _) => {
            cx.tell(
                directive,
                Weight::Different,
                "answered 403, where nginx closes the connection",
            );
            respond(403, None, None, &known)
        }
        (200..=599, text) => {
            let media = spot
                .levels
                .one("default_type")
                .map(|directive| directive.argument(0).to_owned());
            let media = media.unwrap_or_else(|| "text/plain".to_owned());
            if text.is_some() {
                let why = format!("its type is {media}; nginx goes by the path's ending first");
                cx.tell(directive, Weight::Different, why);
            }
            respond(status, text.as_ref(), Some(&media), &known)
        }
        _ => Err("not the status of an answer".to_owned()),
    };
    match entry {
        Ok(entry) => {
            cx.take(directive);
            let which = if status >= 400 { Which::Always } else { Which::All };
            let response = fields::response(cx, spot.levels, &known, which);
            let mut act = vec![entry];
            act.extend(response.entry());
            spot.rule(draft, &format!("{}-return", spot.name), act);
        }
        Err(why) => refuse(cx, draft, directive, spot, &why),
    }
    true
}

/// In place of a `return` that cannot be translated: 403 if it refused, else 501, so that nothing
/// answers that nginx would not have let answer.
fn refuse(cx: &mut Context<'_>, draft: &mut Draft, directive: &Directive, spot: &Spot<'_, '_>, why: &str) {
    let refuses = directive.argument(0).starts_with('4');
    let (status, weight) = if refuses {
        (403, Weight::Protection)
    } else {
        (501, Weight::Missing)
    };
    cx.tell(directive, weight, format!("{why}. Answered {status} instead"));
    let act = vec![("respond".to_owned(), format!("{{ status = {status} }}"))];
    spot.rule(draft, &format!("{}-return", spot.name), act);
}

/// `if`: what it does with the requests that fulfil its condition.
fn branch<'t>(
    cx: &mut Context<'t>,
    draft: &mut Draft,
    site: &Site<'t>,
    directive: &'t Directive,
    spot: &mut Spot<'_, 't>,
) {
    let inner = directive.inner();
    let refuses = inner
        .iter()
        .any(|inner| inner.name == "return" && inner.argument(0).starts_with('4'));
    let whens = conditions(cx, &directive.arguments, &spot.known);
    let name = format!("{}-if", spot.name);
    let made = match (whens, inner) {
        (Ok(whens), [one]) if matches!(one.name.as_str(), "return" | "rewrite") => {
            // Each with what a variable of it has then.
            let spots = whens.into_iter().map(|(when, given)| {
                let mut known = spot.known.clone();
                if let Some((name, value)) = given {
                    known.give(&name, &value);
                }
                let when = spot.when.and(&when).ok_or("a rule cannot have both conditions")?;
                Ok::<_, String>((when, known))
            });
            spots.collect::<Result<Vec<_>, String>>()
        }
        (Ok(whens), [one]) if one.name == "set" && whens.iter().all(|(_, given)| given.is_none()) => {
            let whens = whens.into_iter().map(|(when, _)| when);
            flagged(cx, one, whens.collect(), &mut spot.known).map(|()| Vec::new())
        }
        (Err(why), _) => Err(why),
        (Ok(_), _) => Err("only `return`, `rewrite` or `set` alone within it are translated".to_owned()),
    };
    match made {
        Ok(spots) => {
            cx.take(directive);
            let levels = spot.levels.within(inner);
            for (when, known) in spots {
                let spot = Spot {
                    levels: &levels,
                    name: name.clone(),
                    when,
                    known,
                    ..spot.clone()
                };
                phase(cx, draft, site, spot);
            }
        }
        Err(why) if refuses => {
            closed(cx, draft, directive, &why, spot);
            inner.iter().for_each(|inner| cx.take(inner));
        }
        Err(why) => cx.tell(directive, Weight::Missing, why),
    }
}

/// Shuts a spot whose guard cannot be translated.
fn closed(cx: &mut Context<'_>, draft: &mut Draft, directive: &Directive, why: &str, spot: &Spot<'_, '_>) {
    let why = format!("{why}. It is closed instead (403): write the condition as a rule, then remove the rule closed");
    cx.tell(directive, Weight::Protection, why);
    close(draft, spot);
}

fn close(draft: &mut Draft, spot: &Spot<'_, '_>) {
    let act = vec![("respond".to_owned(), "{ status = 403 }".to_owned())];
    spot.rule(draft, &format!("closed-{}", spot.name), act);
}

/// `rewrite`: another path, by a rule for the paths that its expression fits.
fn rewrite<'t>(
    cx: &mut Context<'t>,
    draft: &mut Draft,
    site: &Site<'t>,
    directive: &'t Directive,
    spot: &Spot<'_, 't>,
) {
    if let Err(why) = rewritten(cx, draft, site, directive, spot) {
        cx.tell(directive, Weight::Missing, why);
    }
}

fn rewritten<'t>(
    cx: &mut Context<'t>,
    draft: &mut Draft,
    site: &Site<'t>,
    directive: &'t Directive,
    spot: &Spot<'_, 't>,
) -> Result<(), String> {
    let expression = pattern::regex(directive.argument(0), false, Of::Path)?;
    if let Some(new) = &spot.rewritten {
        let fits = regex::Regex::new(&expression).is_ok_and(|regex| regex.is_match(&new.to));
        // A path that is not known in full may fit or not.
        return match fits || new.to.contains('$') {
            true => Err("it looks at a path that another rewrite has made".to_owned()),
            false => Ok(()),
        };
    }
    let (replacement, flag) = (directive.argument(1), directive.argument(2));
    let (replacement, arguments) = match replacement.strip_suffix('?') {
        Some(replacement) => (replacement, false),
        None => (replacement, true),
    };
    let (when, expression) =
        both(&spot.when, &expression).ok_or("a rule cannot have both its path and the location's")?;
    let known = Known {
        groups: pattern::groups(&expression),
        ..spot.known.clone()
    };
    let text = Text::of(replacement, &known)?;
    let whole = Piece::Variable("request_uri".to_owned());
    let within = text.0.contains(&whole);
    let away = ["http://", "https://", "$scheme"]
        .iter()
        .any(|head| replacement.starts_with(head));
    let spot = Spot {
        name: format!("{}-rewrite", spot.name),
        when,
        known,
        ..spot.clone()
    };
    if within && (!away || text.without(std::slice::from_ref(&whole)).is_none()) {
        return Err("$request_uri within a path".to_owned());
    }
    if away || matches!(flag, "redirect" | "permanent") {
        let status = if flag == "permanent" { 301 } else { 302 };
        let mut act = vec![redirect(&text, status, arguments, &spot.known)?];
        cx.take(directive);
        act.extend(fields::response(cx, spot.levels, &spot.known, Which::All).entry());
        draft.rule(spot.owner, &spot.name, spot.when, act, false);
        return Ok(());
    }
    let later = spot.levels.own().iter().filter(|other| other.id > directive.id);
    if flag.is_empty()
        && later
            .clone()
            .any(|other| matches!(other.name.as_str(), "rewrite" | "if" | "return"))
    {
        return Err("what follows it looks at the new path: a rule looks at the one that came".to_owned());
    }
    let (path, query) = text.split_query();
    let to = path.template(&spot.known)?;
    if !to.starts_with('/') || !to.is_ascii() {
        return Err(format!("\"{to}\" does not begin with /"));
    }
    let query = match (query, arguments) {
        (None, true) => None,
        (None, false) => Some(String::new()),
        (Some(query), false) => Some(query.template(&spot.known)?),
        (Some(query), true) => Some(format!("{}&${{query}}", query.template(&spot.known)?)),
    };
    let new = Rewritten { to, query };
    let (head, exact) = (path.head().to_owned(), path.literal().is_some());
    // `break` within a location stays in it; all else looks for the location of the new path.
    let stays = site
        .all
        .iter()
        .find(|location| location.owner == spot.owner && location.directive.is_some());
    let target = match stays.filter(|_| flag == "break") {
        Some(location) => location,
        None => site
            .find(&head, exact)
            .ok_or("the new path may belong to several locations")?,
    };
    if spot.jumps >= JUMPS {
        return Err("locations that lead to each other".to_owned());
    }
    cx.take(directive);
    let spot = Spot {
        levels: &target.levels,
        rewritten: Some(new),
        fields: Which::All,
        jumps: spot.jumps + 1,
        ..spot
    };
    match flag == "break" {
        true => content(cx, draft, site, target, spot, (false, false)),
        false => location(cx, draft, site, target, spot, (false, false)),
    }
    Ok(())
}

/// All that a location does. `last`: nothing comes after it; `main`: its answer is the zone's
/// origin.
fn location<'t>(
    cx: &mut Context<'t>,
    draft: &mut Draft,
    site: &Site<'t>,
    location: &Location<'t>,
    spot: Spot<'_, 't>,
    (last, main): (bool, bool),
) {
    if draft.zone.rules.len() > RULES {
        return;
    }
    let mut spot = spot;
    if location.directive.is_some() {
        let (flow, known) = phase(cx, draft, site, spot.clone());
        if flow == Flow::Ended {
            // `return` comes before who may come, and before what answers.
            for directive in location
                .levels
                .own()
                .iter()
                .filter(|directive| directive.name != "location")
            {
                if !cx.is_taken(directive) {
                    cx.tell(directive, Weight::Idle, "the location's return answers before it");
                }
            }
            return;
        }
        spot.known = known;
    }
    content(cx, draft, site, location, spot, (last, main));
}

/// Who may come, and what answers.
fn content<'t>(
    cx: &mut Context<'t>,
    draft: &mut Draft,
    site: &Site<'t>,
    location: &Location<'t>,
    spot: Spot<'_, 't>,
    (last, main): (bool, bool),
) {
    let mut spot = spot;
    let guards = guards(cx, site, &location.levels, &mut spot.known);
    if guards.closed {
        close(draft, &spot);
        // What would answer is still told of, and still there when the rule has gone.
    }
    let refusal = fields::response(cx, spot.levels, &spot.known, Which::Always);
    if guards.internal && spot.rewritten.is_none() {
        let mut act = vec![("respond".to_owned(), "{ status = 404 }".to_owned())];
        act.extend(refusal.entry());
        draft.rule(spot.owner, &spot.name, spot.when, act, false);
        if let Some(directive) = location.directive.filter(|directive| !cx.led.contains(&directive.id)) {
            let why = "internal: 404 to whoever asks; X-Accel-Redirect, which leads there, has no equal";
            cx.tell(directive, Weight::Missing, why);
            cx.cover(directive);
        }
        return;
    }
    for (at, refused) in guards.refused.iter().enumerate() {
        match spot.when.and(refused) {
            Some(when) => {
                let mut act = vec![("respond".to_owned(), "{ status = 403 }".to_owned())];
                act.extend(refusal.entry());
                let name = if at == 0 { "networks" } else { "methods" };
                draft.rule(spot.owner, &format!("{}-{name}", spot.name), when, act, false);
            }
            None => close_told(cx, draft, location, &spot),
        }
    }
    if let Some(fields) = refusal.entry().filter(|_| guards.auth.is_some()) {
        // A rule of their own: of the one that asks for a password, who has none gets nothing.
        spot.rule(draft, &format!("{}-field", spot.name), vec![fields]);
        spot.fields = Which::Others;
    }
    let mut act = Vec::new();
    match (guards.auth, guards.asked) {
        (Some(auth), None) => act.push(auth),
        (Some(auth), Some(asked)) => match spot.when.and(&asked) {
            Some(when) => draft.rule(spot.owner, &format!("{}-password", spot.name), when, vec![auth], false),
            None => close_told(cx, draft, location, &spot),
        },
        (None, _) => {}
    }
    spot.known.groups = match &spot.rewritten {
        Some(_) => spot.known.groups,
        None => groups(&spot.when),
    };
    serve(cx, draft, site, location, spot, act, (last, main));
}

/// Shuts a location for which a rule cannot say who may come.
fn close_told(cx: &mut Context<'_>, draft: &mut Draft, location: &Location<'_>, spot: &Spot<'_, '_>) {
    if let Some(directive) = location.directive {
        let why = "a rule cannot say both which paths it is for and who may come. It is closed instead (403)";
        cx.tell(directive, Weight::Protection, why);
    }
    close(draft, spot);
}

/// The rule that leads to what answers, with all that has no condition of its own.
fn serve<'t>(
    cx: &mut Context<'t>,
    draft: &mut Draft,
    site: &Site<'t>,
    location: &Location<'t>,
    spot: Spot<'_, 't>,
    mut act: Vec<Entry>,
    (last, main): (bool, bool),
) {
    let own = spot.levels.own();
    let handler = own.iter().find(|directive| HANDLERS.contains(&directive.name.as_str()));
    let pass = own
        .iter()
        .find(|directive| matches!(directive.name.as_str(), "proxy_pass" | "grpc_pass"));
    let tried = own.iter().find(|directive| directive.name == "try_files");
    if let Some(pass) = pass.filter(|_| handler.is_none())
        && let Some(of) = Variant::of(cx, pass, &spot.known)
    {
        return by_value(cx, draft, site, location, spot, (act, of), (last, main));
    }
    act.extend(asked::mirror(cx, site, spot.levels, &spot.known));
    let mut when = spot.when.clone();
    if let Some(handler) = handler {
        let (weight, why) = super::told::reason(&handler.name);
        cx.tell(
            handler,
            weight,
            format!("{why}. Answered 501 until then, so that nobody reads the program's files"),
        );
        act.push(("respond".to_owned(), "{ status = 501 }".to_owned()));
    } else if let Some(pass) = pass {
        match passed(cx, location, pass, &mut when, &spot, &mut act) {
            Ok(pool) if main && draft.zone.origin.is_empty() => {
                draft.zone.origin.push(("pool".to_owned(), quoted(&pool)));
            }
            Ok(pool) => act.push(("origin".to_owned(), quoted(&pool))),
            Err(why) => {
                cx.tell(pass, Weight::Missing, format!("{why}. Answered 502 instead"));
                act.push(("respond".to_owned(), "{ status = 502 }".to_owned()));
            }
        }
        cached(cx, draft, &spot, &mut act);
    } else if let Some((tried, to)) = tried.and_then(|tried| Some((tried, fallback(site, tried)?))) {
        let why = "all requests go to the last one: write a [[zone.route]] to files for those that are there";
        cx.tell(tried, Weight::Missing, why);
        if !act.is_empty() {
            draft.rule(spot.owner, &spot.name, when, act, false);
        }
        if spot.jumps < JUMPS {
            let spot = Spot {
                levels: &to.levels,
                jumps: spot.jumps + 1,
                ..spot
            };
            self::location(cx, draft, site, to, spot, (last, main));
        }
        return;
    } else {
        act.extend(spot.rewritten.as_ref().map(Rewritten::entry));
        served::files(cx, draft, location, &mut act, main);
    }
    let response = fields::response(cx, spot.levels, &spot.known, spot.fields);
    for (name, value) in &response.again {
        let one = std::iter::once((name.clone(), value.clone())).collect();
        let entry = (
            "response".to_owned(),
            format!("{{ add = {} }}", crate::import::write::table(&one)),
        );
        draft.rule(
            spot.owner,
            &format!("{}-field", spot.name),
            when.clone(),
            vec![entry],
            false,
        );
    }
    act.extend(response.entry());
    if !(act.is_empty() && last) {
        draft.rule(spot.owner, &spot.name, when, act, !last);
    }
}

/// Where `try_files` ends: a named location.
fn fallback<'s, 't>(site: &'s Site<'t>, tried: &Directive) -> Option<&'s Location<'t>> {
    site.named(tried.arguments.last()?)
}

/// A rule for each value of the variable: the first that fits answers.
fn by_value<'t>(
    cx: &mut Context<'t>,
    draft: &mut Draft,
    site: &Site<'t>,
    location: &Location<'t>,
    mut spot: Spot<'_, 't>,
    (mut act, of): (Vec<Entry>, Variant<'t>),
    ends: (bool, bool),
) {
    let value = |value: &str, known: &Known| Text::of(value, known).unwrap_or_default();
    if spot.jumps >= JUMPS {
        return unserved(cx, draft, spot, &of, act, "variables that lead to each other");
    }
    spot.jumps += 1;
    if of.made.name == "split_clients" {
        match parted(cx, &spot, &of) {
            Ok((split, rest)) => {
                act.push(split);
                let rest = value(&rest, &spot.known);
                spot.known.give(&of.name, &rest);
                return serve(cx, draft, site, location, spot, act, ends);
            }
            Err(why) => return unserved(cx, draft, spot, &of, act, &why),
        }
    }
    let cases = match maps::cases(of.made) {
        Ok(cases) => cases,
        Err(why) => return unserved(cx, draft, spot, &of, act, &why),
    };
    cx.take(of.made);
    cx.cover(of.made);
    for case in cases.all {
        if draft.zone.rules.len() > RULES {
            return;
        }
        let Some(when) = spot.when.and(&case.when) else {
            let why = format!("{}: a rule cannot have both its path and this condition", case.value);
            cx.tell(of.pass, Weight::Missing, why);
            continue;
        };
        let mut one = Spot { when, ..spot.clone() };
        one.known.give(&of.name, &value(&case.value, &spot.known));
        serve(cx, draft, site, location, one, act.clone(), (false, false));
    }
    let default = value(&cases.default, &spot.known);
    spot.known.give(&of.name, &default);
    serve(cx, draft, site, location, spot, act, ends);
}

/// 502 in place of a target that is not known.
fn unserved(
    cx: &mut Context<'_>,
    draft: &mut Draft,
    spot: Spot<'_, '_>,
    of: &Variant<'_>,
    mut act: Vec<Entry>,
    why: &str,
) {
    cx.tell(
        of.pass,
        Weight::Missing,
        format!("${}: {why}. Answered 502 instead", of.name),
    );
    act.push(("respond".to_owned(), "{ status = 502 }".to_owned()));
    draft.rule(spot.owner, &spot.name, spot.when, act, false);
}

/// What is stored: `cache = false` for what nginx does not store, in a zone that stores something.
fn cached<'t>(cx: &mut Context<'t>, draft: &mut Draft, spot: &Spot<'_, 't>, act: &mut Vec<Entry>) {
    let stored = stored::stored(cx, spot.levels, &spot.known);
    if !draft.cached {
        return;
    }
    let Some(stored) = stored else {
        return act.push(stored::never());
    };
    for when in &stored.by {
        let Some(when) = spot.when.and(when) else {
            if let Some(directive) = spot.levels.one("proxy_cache") {
                let why = "a rule cannot say both its path and who passes the cache by. Nothing is stored";
                cx.tell(directive, Weight::Missing, why);
            }
            return act.push(stored::never());
        };
        let name = format!("{}-uncached", spot.name);
        draft.rule(spot.owner, &name, when, vec![stored::never()], false);
    }
    act.extend(stored.entry);
}
