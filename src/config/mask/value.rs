//! Where a value ends, and how much of it names only a place.

/// The kinds of references; what stands behind one of them names a place, and a place may be shown.
pub(super) const REFERENCES: [&str; 4] = ["file", "env", "credential", "secret"];

/// How much of a value is a reference: `{file: ...}` and friends name a place, and a place may be shown. Up to its `}`, or
/// to where something else begins in it.
pub(super) fn reference_length(value: &str) -> Option<usize> {
    let mut length = 1;
    let mut known = None;
    let mut inner = value.strip_prefix('{')?;
    // A second place beside the first is wrong, but no secret.
    while let Some(place) = place_length(inner) {
        length += place;
        known = Some(length);
        match value.get(length..)?.chars().next() {
            Some('}') => return Some(length + 1),
            Some(',') => {
                length += 1;
                inner = value.get(length..)?;
            }
            _ => break,
        }
    }
    known
}

/// How much of `inner`, which stands behind `{` or `,`, is a kind of reference and its place.
fn place_length(inner: &str) -> Option<usize> {
    let named = inner.trim_start_matches([' ', '"', '\'']);
    let (kind, named) = REFERENCES.iter().find_map(|kind| Some((*kind, named.strip_prefix(kind)?)))?;
    let place = named.trim_start_matches([' ', '"', '\'']).strip_prefix(':')?.trim_start_matches([' ', '\t']);
    // A list or a mapping is no place; nobody knows what is in it.
    if place.starts_with(['[', '{', '|', '>', '&', '!']) {
        return None;
    }
    let quoted = closed_length(place);
    let behind = place.get(quoted.unwrap_or(0)..)?;
    let name = match quoted {
        Some(_) => 0,
        // A path may have blanks in it, a name has none.
        None if kind == "file" => behind.find([',', '}']).or_else(|| behind.find([' ', '\t'])).unwrap_or(behind.len()),
        None => behind.find([',', '}', ' ', '\t']).unwrap_or(behind.len()),
    };
    let blank = behind.get(name..)?;
    let rest = blank.trim_start_matches([' ', '\t']);
    let end = if rest.starts_with([',', '}']) { name + blank.len() - rest.len() } else { name };
    Some(inner.len() - behind.len() + end)
}

/// How much of a value is a path.
pub(super) fn path_length(value: &str) -> Option<usize> {
    if !value.trim_start_matches(['"', '\'']).starts_with(['/', '~']) {
        return None;
    }
    closed_length(value).or_else(|| Some(value.find([' ', '\t', ',', '}', ']', '"', '\'']).unwrap_or(value.len())))
}

/// Whether nothing is left of a line but the end of a flow, or the next field of the mapping around.
pub(super) fn ends_or_goes_on(rest: &str) -> bool {
    let rest = rest.trim_start_matches([' ', '\t', '}', ']']);
    let Some(next) = rest.strip_prefix(',') else { return rest.is_empty() };
    let name = next.trim_start_matches([' ', '\t', '"', '\'']);
    if next.trim_start_matches([' ', '\t']).is_empty() {
        return true;
    }
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let behind = name.trim_start_matches(is_name);
    let ends = behind.trim_start_matches(['"', '\'']).trim_start_matches([' ', '\t']).starts_with(':');
    behind.len() < name.len() && ends
}

/// How long a quoted value is that ends as YAML wants it: at its quote, with nothing but the next field, the end of a flow
/// or the end of the line behind it. Of any other value nobody knows where it ends.
pub(super) fn value_length(value: &str) -> Option<usize> {
    let length = closed_length(value)?;
    value.get(length..).is_some_and(ends_or_goes_on).then_some(length)
}

/// How long a quoted value is, with its quotes.
pub(super) fn closed_length(value: &str) -> Option<usize> {
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut escaped = false;
    let mut characters = value.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character == quote && !escaped {
            // Twice is one that belongs to the text.
            if quote == '\'' && characters.next_if(|(_, next)| *next == quote).is_some() {
                continue;
            }
            return Some(at + 1);
        }
        escaped = quote == '"' && character == '\\' && !escaped;
    }
    None
}
