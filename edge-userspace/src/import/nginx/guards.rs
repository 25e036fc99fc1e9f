//! Who may come: allow, deny, satisfy, auth_basic, auth_request, limit_except, internal, and
//! whatever else keeps somebody out. What cannot be translated shuts its location: an import opens
//! nothing that nginx had closed.

use ipnet::IpNet;

use super::asked;
use super::context::{Context, Levels};
use super::location::Site;
use super::networks::{Access, access};
use super::syntax::Directive;
use super::text::Known;
use crate::config::rule::{LIST, users};
use crate::config::value::Network;
use crate::import::Weight;
use crate::import::write::{Entry, When, quoted};

/// Bytes of a file with passwords, as zone rules take it.
const PASSWORDS: u64 = 64 << 20;

/// Directives that keep somebody out, count for what stands within, and have no equal.
const CLOSED: &[&str] = &[
    "auth_jwt",
    "auth_ldap",
    "auth_pam",
    "auth_digest",
    "auth_gss",
    "auth_delay",
    "access_by_lua",
    "access_by_lua_file",
    "access_by_lua_block",
    "js_access",
    "secure_link",
    "secure_link_secret",
];

/// What stands in front of a location.
#[derive(Debug, Default)]
pub(super) struct Guards {
    /// Nobody may come: what keeps others out has no equal.
    pub(super) closed: bool,
    /// Nobody may come from outside.
    pub(super) internal: bool,
    /// Conditions of requests that are refused.
    pub(super) refused: Vec<When>,
    /// `auth = { … }`
    pub(super) auth: Option<Entry>,
    /// Who is asked that; `None`: everybody.
    pub(super) asked: Option<When>,
}

/// What guards the location of `site` whose blocks are `levels`; what a service's answer gives
/// comes to be `known`.
pub(super) fn guards<'t>(cx: &mut Context<'t>, site: &Site<'t>, levels: &Levels<'t>, known: &mut Known) -> Guards {
    let mut guards = Guards::default();
    for name in CLOSED {
        let Some(directive) = levels.one(name).filter(|directive| directive.argument(0) != "off") else {
            continue;
        };
        let (_, why) = super::told::reason(name);
        shut(cx, directive, why, &mut guards);
    }
    for directive in levels.own().iter().filter(|directive| directive.name == "internal") {
        cx.take(directive);
        guards.internal = true;
    }
    let any = match levels.one("satisfy") {
        Some(directive) => {
            cx.take(directive);
            directive.argument(0) == "any"
        }
        None => false,
    };
    let networks = networks(cx, levels, &mut guards);
    let password = basic(cx, levels, &mut guards);
    let service = match asked::forward(cx, site, levels, known) {
        Ok(service) => service,
        Err((directive, why)) => {
            shut(cx, directive, &why, &mut guards);
            None
        }
    };
    if any && password.is_some() && service.is_some() {
        // Either of them would do; a rule asks for both.
        for directive in levels.all("auth_request") {
            let why = "satisfy any with a password or a service: a rule asks for both";
            cx.tell(directive, Weight::Different, why);
        }
    }
    let parts: Vec<String> = password.into_iter().chain(service).collect();
    guards.auth = (!parts.is_empty()).then(|| ("auth".to_owned(), format!("{{ {} }}", parts.join(", "))));
    if let Some((networks, first)) = networks {
        match (outside(&networks), guards.auth.is_some() && any) {
            (Outside::TooMany, _) => shut(cx, first, "more networks than a rule may have", &mut guards),
            // Who comes from there need not show a password.
            (Outside::Some(when), true) => guards.asked = Some(when),
            (Outside::Nobody, true) => guards.auth = None,
            (Outside::Some(when), false) => guards.refused.push(when),
            (Outside::Nobody, false) => {}
        }
    }
    for directive in levels.own().iter().filter(|directive| directive.name == "limit_except") {
        limit_except(cx, directive, &mut guards);
    }
    guards
}

/// Nobody may come; told of.
fn shut(cx: &mut Context<'_>, directive: &Directive, why: &str, guards: &mut Guards) {
    guards.closed = true;
    let why = format!("{why}. It is closed instead (403): write what guards it, then remove the rule closed");
    cx.tell(directive, Weight::Protection, why);
}

/// What allow and deny come to, which stand in one list, and its first line.
fn networks<'t>(cx: &mut Context<'t>, levels: &Levels<'t>, guards: &mut Guards) -> Option<(Access, &'t Directive)> {
    let list = levels.nearest(&["allow", "deny"]);
    let first = *list.first()?;
    let mut lines = Vec::new();
    for directive in list {
        match line(directive) {
            Ok(line) => {
                cx.take(directive);
                lines.extend(line);
            }
            Err(why) => shut(cx, directive, &why, guards),
        }
    }
    Some((access(&lines), first))
}

/// A line of the list; `None`: of Unix sockets, which no client comes by.
fn line(directive: &Directive) -> Result<Option<(bool, Option<IpNet>)>, String> {
    let network = match directive.argument(0) {
        "all" => None,
        "unix:" => return Ok(None),
        text => Some(text.parse::<Network>()?.0),
    };
    Ok(Some((directive.name == "allow", network)))
}

/// Who may not come.
enum Outside {
    /// Nobody is kept out.
    Nobody,
    /// Those who fulfil this.
    Some(When),
    /// More networks than a rule may have.
    TooMany,
}

fn outside(access: &Access) -> Outside {
    let written = |networks: &[IpNet]| When {
        networks: networks.iter().map(ToString::to_string).collect(),
        ..When::default()
    };
    let (allowed, denied) = (&access.allowed, &access.denied);
    match (allowed.len(), denied.len()) {
        (_, 0) => Outside::Nobody,
        (0, _) => Outside::Some(When::default()),
        (a, d) if a.min(d) > LIST => Outside::TooMany,
        (a, d) if a <= d => Outside::Some(written(allowed).negated()),
        _ => Outside::Some(written(denied)),
    }
}

/// `basic = { … }`
fn basic(cx: &mut Context<'_>, levels: &Levels<'_>, guards: &mut Guards) -> Option<String> {
    let realm = levels.one("auth_basic")?;
    cx.take(realm);
    if realm.argument(0) == "off" {
        return None;
    }
    let Some(file) = levels
        .one("auth_basic_user_file")
        .filter(|file| !file.argument(0).contains('$'))
    else {
        shut(
            cx,
            realm,
            "there is no file of passwords, or its name depends on variables",
            guards,
        );
        return None;
    };
    cx.take(file);
    let path = cx.path(file.argument(0));
    match cx.files.read(path.as_ref(), PASSWORDS) {
        Err(error) => {
            let why = format!("{error}: `edge check` will say so until the file is there");
            cx.tell(file, Weight::Different, why);
        }
        Ok(content) => match users(&String::from_utf8_lossy(&content)) {
            Ok(users) if !users.is_empty() => {}
            Ok(_) => {
                shut(cx, file, "the file has no users", guards);
                return None;
            }
            Err((line, what)) => {
                let why = format!("line {line} of it: {what}; make it anew by htpasswd -B, or openssl passwd -6");
                shut(cx, file, &why, guards);
                return None;
            }
        },
    }
    let sound = |c: char| (c == ' ' || c.is_ascii_graphic()) && !"\"\\$".contains(c);
    let mut text = realm.argument(0).to_owned();
    if !text.chars().all(sound) {
        cx.tell(
            realm,
            Weight::Different,
            "the realm is written without quotes, backslashes and variables",
        );
        text.retain(sound);
    }
    let (file, realm) = (quoted(&path), quoted(&text));
    // nginx passes the credentials on.
    Some(format!("basic = {{ file = {file}, realm = {realm}, forward = true }}"))
}

/// What is refused of methods other than those named.
fn limit_except(cx: &mut Context<'_>, directive: &Directive, guards: &mut Guards) {
    cx.take(directive);
    let mut methods = directive.arguments.clone();
    if methods.iter().any(|method| method == "GET") {
        methods.push("HEAD".to_owned());
    }
    let others = When {
        methods,
        ..When::default()
    };
    let mut lines = Vec::new();
    for inner in directive.inner() {
        match (inner.name.as_str(), line(inner)) {
            ("allow" | "deny", Ok(line)) => {
                cx.take(inner);
                lines.extend(line);
            }
            _ => {
                shut(
                    cx,
                    inner,
                    "not among what limit_except is translated with (allow, deny)",
                    guards,
                );
                return;
            }
        }
    }
    let access = access(&lines);
    // The networks beside the methods, which have the rule's `not`.
    let refused = match (access.denied.is_empty(), access.allowed.is_empty()) {
        (true, _) => return,
        (false, true) => others.negated(),
        (false, false) if access.denied.len() <= LIST => When {
            networks: access.denied.iter().map(ToString::to_string).collect(),
            ..others.negated()
        },
        (false, false) => return shut(cx, directive, "more networks than a rule may have", guards),
    };
    guards.refused.push(refused);
}
