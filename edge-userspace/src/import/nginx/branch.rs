//! What an `if` asks: conditions of rules, also through variables that a `map` or another `if`
//! makes.

use super::condition::condition;
use super::context::Context;
use super::maps;
use super::paths::groups;
use super::syntax::Directive;
use super::text::{Known, Piece, Text};
use crate::import::write::When;

/// A condition of a rule, and the value that the variable in it has then, if a `map` makes it.
pub(super) type Fits = (When, Option<(String, Text)>);

/// The conditions under which an `if` holds: one of them has to.
///
/// # Errors
/// Rules cannot say them.
pub(super) fn conditions(cx: &mut Context<'_>, arguments: &[String], known: &Known) -> Result<Vec<Fits>, String> {
    let words: Vec<String> = arguments
        .iter()
        .map(|word| word.trim_start_matches('(').trim_end_matches(')').to_owned())
        .filter(|word| !word.is_empty())
        .collect();
    let variable = words.first().filter(|word| word.starts_with('$'));
    let name = variable.map(|word| {
        word.trim_start_matches('$')
            .trim_matches(['{', '}'])
            .to_ascii_lowercase()
    });
    let Some(name) = name else {
        return condition(arguments, known).map(|when| vec![(when, None)]);
    };
    if let (Some(flags), [_]) = (known.flags.get(&name), words.as_slice()) {
        return Ok(flags.iter().map(|when| (when.clone(), None)).collect());
    }
    let through = known
        .set
        .get(&name)
        .cloned()
        .unwrap_or(Text(vec![Piece::Variable(name)]));
    let made = match through.0.as_slice() {
        [Piece::Variable(name)] => cx.made.get(name).copied().map(|made| (name.clone(), made)),
        _ => None,
    };
    let Some((name, made)) = made else {
        return condition(arguments, known).map(|when| vec![(when, None)]);
    };
    let cases = maps::cases(made)?;
    let cases = match words.as_slice() {
        [_] => cases.with(maps::is_true),
        [_, operator, value] if operator == "=" => cases.with(|of| of == value),
        [_, operator, value] if operator == "!=" => cases.with(|of| of != value),
        _ => Err("a variable of a map is compared by = or != alone".to_owned()),
    }?;
    cx.take(made);
    cx.cover(made);
    // All values alike: one condition, if a rule can say it.
    let whens: Vec<&When> = cases.iter().map(|case| &case.when).collect();
    let same = cases
        .windows(2)
        .all(|two| two.first().map(|case| &case.value) == two.last().map(|case| &case.value));
    if let Some(when) = maps::any(&whens).filter(|_| same && cases.len() > 1) {
        let value = cases.first().map(|case| case.value.as_str()).unwrap_or_default();
        return Ok(vec![(when, Some((name, Text::of(value, known)?)))]);
    }
    let fits = cases.into_iter().map(|case| {
        let known = Known {
            groups: groups(&case.when),
            ..known.clone()
        };
        Ok((case.when, Some((name.clone(), Text::of(&case.value, &known)?))))
    });
    fits.collect()
}

/// `set` within an `if`: the variable is true under these conditions, too.
///
/// # Errors
/// It is not one that says yes or no.
pub(super) fn flagged(
    cx: &mut Context<'_>,
    set: &Directive,
    whens: Vec<When>,
    known: &mut Known,
) -> Result<(), String> {
    let name = set.argument(0).trim_start_matches('$').to_ascii_lowercase();
    let value = Text::of(set.argument(1), known)?.literal();
    let before = known.set.get(&name).map_or(Some(String::new()), Text::literal);
    let (Some(value), Some(before)) = (value, before) else {
        return Err("a value that depends on variables".to_owned());
    };
    if !maps::is_true(&value) || maps::is_true(&before) {
        return Err("a variable that is made anything but true".to_owned());
    }
    cx.take(set);
    known.flags.entry(name).or_default().extend(whens);
    Ok(())
}
