//! Globs: literals, and `*` for any characters between them; and patterns of paths, which without
//! one are prefixes.

/// Whether `glob` fits the whole of `text`. Linear in the text for each `*`: the leftmost fit of
/// each literal is never worse than a later one.
pub fn fits(glob: &str, text: &str) -> bool {
    let Some((head, rest)) = glob.split_once('*') else {
        return glob == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    for literal in middle.split('*') {
        match text.find(literal) {
            Some(at) => text = text.get(at + literal.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    text.ends_with(tail)
}

/// Whether `text` is one of `pattern`: without `*` a prefix, with it the whole text.
pub fn begins(pattern: &str, text: &str) -> bool {
    match pattern.contains('*') {
        true => fits(pattern, text),
        false => text.starts_with(pattern),
    }
}
