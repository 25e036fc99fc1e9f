//! `auth_request` as `auth.forward` of a rule, and `mirror` as a rule's: what nginx asks of a
//! location of the server, edge asks of that location's pool.

use std::collections::BTreeMap;

use super::context::{Context, Levels, span, time};
use super::fields::{self, Towards};
use super::location::{Location, Site, Way};
use super::pages;
use super::pools;
use super::syntax::Directive;
use super::text::{Known, Text};
use crate::import::Weight;
use crate::import::write::{self, Entry, quoted};

/// The client's fields that a service gets. nginx sends all of them.
const SENT: [&str; 8] = [
    "Accept",
    "Accept-Language",
    "Authorization",
    "Cookie",
    "Origin",
    "Referer",
    "User-Agent",
    "X-Requested-With",
];

/// The locations that `auth_request`, `mirror` and `error_page` lead to, anywhere within `levels`:
/// they are asked from inside.
pub(super) fn led(cx: &mut Context<'_>, site: &Site<'_>, levels: &Levels<'_>) {
    let all = site.all.iter().map(|location| &location.levels).chain([levels]);
    let leading: Vec<&Directive> = all
        .flat_map(|levels| ["auth_request", "mirror", "error_page"].map(|name| levels.all(name)))
        .flatten()
        .collect();
    for directive in leading {
        let last = directive.arguments.last().map(String::as_str).unwrap_or_default();
        let path = last.split('?').next().unwrap_or_default();
        let to = site.find(path, true).and_then(|location| location.directive);
        if let Some(location) = to.filter(|_| path.starts_with('/')) {
            cx.led.insert(location.id);
        }
    }
}

/// `forward = { … }` for a location, and the variables that the service's answer gives. `None`:
/// nobody is asked.
///
/// # Errors
/// What of it has no equal, with its directive.
pub(super) fn forward<'t>(
    cx: &mut Context<'t>,
    site: &Site<'t>,
    levels: &Levels<'t>,
    known: &mut Known,
) -> Result<Option<String>, (&'t Directive, String)> {
    let Some(directive) = levels.one("auth_request") else {
        return Ok(None);
    };
    if directive.argument(0) == "off" {
        cx.take(directive);
        return Ok(None);
    }
    let value = asked(cx, site, directive, known).map_err(|why| (directive, why))?;
    cx.take(directive);
    let mut parts = vec![value];
    let (to_origin, to_client) = answered(cx, levels, known);
    if !to_origin.is_empty() {
        let same = to_origin.iter().all(|(to, from)| to.eq_ignore_ascii_case(from));
        let names: Vec<String> = to_origin.keys().cloned().collect();
        let value = if same {
            write::list(&names)
        } else {
            write::table(&to_origin)
        };
        parts.push(format!("to_origin = {value}"));
    }
    if !to_client.is_empty() {
        parts.push(format!("to_client = {}", write::list(&to_client)));
    }
    parts.extend(login(cx, site, levels, known));
    Ok(Some(format!("forward = {{ {} }}", parts.join(", "))))
}

/// Whom to ask for what, with which fields.
fn asked<'t>(cx: &mut Context<'t>, site: &Site<'t>, directive: &Directive, known: &Known) -> Result<String, String> {
    let written = directive.argument(0);
    let (path, query) = written
        .split_once('?')
        .map_or((written, None), |(path, query)| (path, Some(query)));
    let location = site
        .find(path, true)
        .ok_or("its path may belong to several locations")?;
    let pass = location.levels.own_one("proxy_pass");
    let pass = pass.ok_or("what is asked is not a server: its location has no proxy_pass")?;
    let request = fields::request(cx, &location.levels, known, Towards::Service);
    let target = pools::target(cx, pass, &location.levels, &request, known)?;
    let path = target_path(location, path, target.uri.as_ref())?;
    cx.take(pass);
    let mut parts = vec![format!("to = {}", quoted(&target.pool))];
    let whole = match query {
        Some(query) if !path.contains('?') => format!("{path}?{query}"),
        _ => path,
    };
    if whole != "/" {
        parts.push(format!("path = {}", quoted(&whole)));
    }
    let sent: Vec<String> = SENT.map(str::to_owned).into();
    parts.push(format!("send = {}", write::list(&sent)));
    if !request.set().is_empty() {
        parts.push(format!("set = {}", write::table(request.set())));
    }
    if let Some(read) = location.levels.one("proxy_read_timeout")
        && let Some(time) = time(read.argument(0)).filter(|time| !time.is_zero())
    {
        cx.take(read);
        parts.push(format!(
            "timeout = {}",
            span(time.min(std::time::Duration::from_secs(60)))
        ));
    }
    for name in ["proxy_pass_request_body", "proxy_pass_request_headers", "internal"] {
        if let Some(directive) = location.levels.own_one(name) {
            cx.take(directive);
        }
    }
    let why = "by GET, with the client's fields that `send` names, and X-Forwarded-Method, -Uri, -Host, -Proto and -For; \
               401, 403 and redirects are the client's answer as the service gives it, anything else but 2xx is 503";
    cx.tell(directive, Weight::Different, why);
    Ok(parts.join(", "))
}

/// What is asked for: the path, with its location's part replaced as `proxy_pass` says.
fn target_path(location: &Location<'_>, path: &str, uri: Option<&Text>) -> Result<String, String> {
    let Some(uri) = uri else { return Ok(path.to_owned()) };
    let uri = uri.literal().ok_or("a path that depends on variables")?;
    match (&location.way, location.prefix()) {
        (Way::Prefix { .. }, Some(prefix)) => Ok(format!("{uri}{}", path.strip_prefix(prefix).unwrap_or_default())),
        _ => Ok(uri),
    }
}

/// What `auth_request_set` names: fields for the origin by their names there, and for the client.
fn answered(cx: &mut Context<'_>, levels: &Levels<'_>, known: &mut Known) -> (BTreeMap<String, String>, Vec<String>) {
    for directive in levels.all("auth_request_set") {
        let name = directive.argument(0).trim_start_matches('$').to_ascii_lowercase();
        let field = directive
            .argument(1)
            .trim_start_matches('$')
            .trim_matches(['{', '}'])
            .to_ascii_lowercase();
        match field.strip_prefix("upstream_http_") {
            Some(field) if !field.is_empty() => {
                cx.take(directive);
                known.answered.insert(name, field.replace('_', "-"));
            }
            _ => cx.tell(
                directive,
                Weight::Missing,
                "fields of the service's answer alone can be copied",
            ),
        }
    }
    let field = |directive: &Directive| {
        let value = directive.argument(1).trim_matches('"');
        let name = value.strip_prefix('$')?.trim_matches(['{', '}']).to_ascii_lowercase();
        known.answered.get(&name).cloned()
    };
    let (mut to_origin, mut to_client) = (BTreeMap::new(), Vec::new());
    for directive in levels.all("proxy_set_header") {
        if let Some(from) = field(directive) {
            cx.take(directive);
            to_origin.insert(directive.argument(0).to_owned(), from);
        }
    }
    for directive in levels.all("add_header") {
        match field(directive) {
            Some(from) if from.eq_ignore_ascii_case(directive.argument(0)) => {
                cx.take(directive);
                to_client.push(directive.argument(0).to_owned());
            }
            Some(from) => cx.tell(
                directive,
                Weight::Missing,
                format!("clients get the service's fields by their own names: {from}"),
            ),
            None => {}
        }
    }
    (to_origin, to_client)
}

/// `error_page 401 = @login`: where who is not known is sent.
fn login<'t>(cx: &mut Context<'t>, site: &Site<'t>, levels: &Levels<'t>, known: &Known) -> Option<String> {
    let (directive, page) = pages::first(levels, |page| page.statuses.as_slice() == [401])?;
    let location = match page.to.starts_with('@') {
        true => site.named(page.to),
        false => site.find(page.to.split('?').next().unwrap_or_default(), page.to.starts_with('/')),
    };
    let returned = location.and_then(|location| {
        let returned = location.levels.own_one("return")?;
        let url = match (returned.argument(0), returned.arguments.len()) {
            ("301" | "302" | "303" | "307" | "308", 2) => returned.argument(1),
            (url, 1) if url.parse::<u16>().is_err() => url,
            _ => return None,
        };
        Some((returned, url))
    });
    let (to, why) = match returned {
        Some((returned, url)) => {
            cx.take(returned);
            (url, "sent there (302) when the service says 401")
        }
        None if page.to.starts_with('@') => return None,
        None => (
            page.to,
            "sent there (302) when the service says 401: nginx answers with what is there",
        ),
    };
    let place = Text::of(to, known).and_then(|text| text.template(known));
    match place {
        Ok(place)
            if ["https://", "http://", "/", "${"]
                .iter()
                .any(|head| place.starts_with(head)) =>
        {
            cx.tell(directive, Weight::Different, why);
            Some(format!("login = {}", quoted(&place)))
        }
        Ok(_) => None,
        Err(why) => {
            cx.tell(directive, Weight::Missing, why);
            None
        }
    }
}

/// `mirror = { … }` for a location.
pub(super) fn mirror<'t>(cx: &mut Context<'t>, site: &Site<'t>, levels: &Levels<'t>, known: &Known) -> Option<Entry> {
    let all = levels.all("mirror");
    let directive = *all.first()?;
    if let Some(body) = levels.one("mirror_request_body") {
        cx.tell(
            body,
            Weight::Different,
            "content of known length is copied, up to 64 KiB (body_bytes)",
        );
    }
    if directive.argument(0) == "off" {
        cx.take(directive);
        return None;
    }
    for more in all.iter().skip(1) {
        cx.tell(more, Weight::Missing, "a rule copies to one pool");
    }
    let copied = site
        .find(directive.argument(0), true)
        .ok_or_else(|| "no location".to_owned())
        .and_then(|location| {
            let pass = location.levels.own_one("proxy_pass");
            let pass = pass.ok_or("its location has no proxy_pass")?;
            let request = fields::request(cx, &location.levels, known, Towards::Origin);
            let target = pools::target(cx, pass, &location.levels, &request, known)?;
            let same = [super::text::Piece::Variable("request_uri".to_owned())];
            if target.uri.is_none_or(|uri| uri.0 != same) {
                return Err("copies go to the same path: proxy_pass with $request_uri".to_owned());
            }
            cx.take(pass);
            Ok(target.pool)
        });
    match copied {
        Ok(pool) => {
            cx.tell(
                directive,
                Weight::Different,
                "with the fields that the request goes on with (docs/rules.md)",
            );
            Some(("mirror".to_owned(), format!("{{ to = {} }}", quoted(&pool))))
        }
        Err(why) => {
            cx.tell(directive, Weight::Missing, why);
            None
        }
    }
}
