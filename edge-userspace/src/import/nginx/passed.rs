//! What `proxy_pass` and `grpc_pass` of a location come to: a pool, and the path that it gets.

use super::context::Context;
use super::fields::{self, Towards};
use super::location::{Location, Way};
use super::maps;
use super::paths::{Rewritten, replaced};
use super::pattern;
use super::pools;
use super::spot::Spot;
use super::syntax::Directive;
use super::text::{Known, Piece, Text};
use crate::import::Weight;
use crate::import::write::{Entry, When, quoted};

/// A `proxy_pass` whose target depends on a variable that others make.
pub(super) struct Variant<'t> {
    pub(super) pass: &'t Directive,
    pub(super) name: String,
    pub(super) made: &'t Directive,
}

impl<'t> Variant<'t> {
    /// The variable in the target of `pass`, if there is one.
    pub(super) fn of(cx: &Context<'t>, pass: &'t Directive, known: &Known) -> Option<Self> {
        let (name, made) = maps::within(cx, &Text::of(pass.argument(0), known).ok()?)?;
        Some(Self { pass, name, made })
    }
}

/// `split = { … }`, and the value of the rest.
///
/// # Errors
/// Requests cannot be split so.
pub(super) fn parted(cx: &mut Context<'_>, spot: &Spot<'_, '_>, of: &Variant<'_>) -> Result<(Entry, String), String> {
    let parts = maps::parts(of.made)?;
    let mut to = Vec::new();
    for (value, percent) in &parts.parts {
        let mut known = spot.known.clone();
        known.give(&of.name, &Text::of(value, &spot.known)?);
        let request = fields::request(cx, spot.levels, &known, Towards::Origin);
        let target = pools::target(cx, of.pass, spot.levels, &request, &known)?;
        if target.uri.is_some() {
            return Err("a path beside the server".to_owned());
        }
        to.push(format!("{{ origin = {}, percent = {percent} }}", quoted(&target.pool)));
    }
    cx.take(of.made);
    cx.cover(of.made);
    let value = format!("{{ by = {}, to = [{}] }}", parts.by(), to.join(", "));
    Ok((("split".to_owned(), value), parts.rest))
}

/// The pool of `proxy_pass`, and the path that it gets.
///
/// # Errors
/// Why edge cannot ask there.
pub(super) fn passed<'t>(
    cx: &mut Context<'t>,
    location: &Location<'t>,
    pass: &'t Directive,
    when: &mut When,
    spot: &Spot<'_, 't>,
    act: &mut Vec<Entry>,
) -> Result<String, String> {
    let towards = if pass.name == "grpc_pass" {
        Towards::Grpc
    } else {
        Towards::Origin
    };
    let request = fields::request(cx, spot.levels, &spot.known, towards);
    let target = pools::target(cx, pass, spot.levels, &request, &spot.known)?;
    cx.take(pass);
    act.extend(request.entry());
    let Some(uri) = target.uri else {
        act.extend(spot.rewritten.as_ref().map(Rewritten::entry));
        return Ok(target.pool);
    };
    let variable = |name: &str| Piece::Variable(name.to_owned());
    let Some(literal) = uri.literal() else {
        let as_it_came = [
            vec![variable("request_uri")],
            vec![variable("uri"), variable("is_args"), variable("args")],
            vec![variable("uri"), variable("is_args"), variable("query_string")],
        ];
        if as_it_came.contains(&uri.0) {
            act.extend(spot.rewritten.as_ref().map(Rewritten::entry));
            return Ok(target.pool);
        }
        let whole = uri.without(&[variable("request_uri")]).map(|mut front| {
            front.0.push(variable("uri"));
            front
        });
        let (uri, keeps) = ["args", "query_string"]
            .iter()
            .find_map(|query| uri.without(&[variable("is_args"), variable(query)]))
            .or(whole)
            .map_or((uri, false), |front| (front, true));
        let (path, query) = uri.split_query();
        let to = path.template(&spot.known)?;
        let query = query.map(|query| query.template(&spot.known)).transpose()?;
        let query = if keeps { query } else { Some(query.unwrap_or_default()) };
        act.push(Rewritten { to, query }.entry());
        return Ok(target.pool);
    };
    if literal.contains('?') {
        return Err("a query in it".to_owned());
    }
    if request.host == fields::HostField::Server {
        let why = "Location of its answers goes on as it is: nginx puts the location's path in place of this one";
        cx.tell(pass, Weight::Different, why);
    }
    let uri = pattern::normal(&literal);
    let Some(prefix) = location.prefix() else {
        return Err("a path in it, within a location that is not a path".to_owned());
    };
    if let Some(new) = &spot.rewritten {
        // After `break` the whole new path is passed; after `last` its front part is replaced.
        let stays = location.owner == spot.owner;
        let to = match new.to.strip_prefix(prefix).filter(|_| !stays) {
            Some(rest) => format!("{}{rest}", uri.replace('$', "$$")),
            None => new.to.clone(),
        };
        act.push(
            Rewritten {
                to,
                query: new.query.clone(),
            }
            .entry(),
        );
        return Ok(target.pool);
    }
    if matches!(location.way, Way::Exact(_)) {
        act.push(
            Rewritten {
                to: uri.replace('$', "$$"),
                query: None,
            }
            .entry(),
        );
        return Ok(target.pool);
    }
    replaced(cx, pass, (prefix, &uri), when, act);
    Ok(target.pool)
}
