//! Where a value ends, and how much of it names only a place.

/// The kinds of references; what stands behind one of them names a place, and a place may be shown.
pub(super) const REFERENCES: [&str; 4] = ["file", "env", "credential", "secret"];

/// What is longer is no place, and nobody looks further for its end.
pub(super) const PLACE_BYTES_MAX: usize = 4096;

/// The part of a value that a place may be in.
fn head(value: &str) -> &str {
    value.get(..value.floor_char_boundary(PLACE_BYTES_MAX)).unwrap_or(value)
}

/// How much of a value is a reference: `{file: ...}` and friends name a place, and a place may be shown. Up to its `}`, or
/// to where something else begins in it.
pub(super) fn reference_length(value: &str) -> Option<usize> {
    let head = head(value);
    known_length(head).filter(|length| *length < head.len() || head.len() == value.len())
}

fn known_length(value: &str) -> Option<usize> {
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

/// Whether a place that may be shown is all of its value: a reference up to its `}`, or none.
pub(super) fn is_whole(place: &str) -> bool {
    !place.starts_with('{') || place.ends_with('}')
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
    let head = head(value);
    if !head.trim_start_matches(['"', '\'']).starts_with(['/', '~']) {
        return None;
    }
    let end =
        || head.find([' ', '\t', ',', '}', ']', '"', '\'']).or((head.len() == value.len()).then_some(value.len()));
    closed_length(head).or_else(end)
}

/// Whether nothing is left of a line but the end of a flow, or the next field of the mapping around, or of the next one.
pub(super) fn ends_or_goes_on(rest: &str) -> bool {
    let rest = rest.trim_start_matches([' ', '\t']);
    let open = rest.trim_start_matches([' ', '\t', '}', ']']);
    let Some(next) = open.strip_prefix(',') else { return open.is_empty() };
    let next = next.trim_start_matches([' ', '\t']);
    let field = next.strip_prefix('{').filter(|_| open.len() < rest.len()).unwrap_or(next);
    next.is_empty() || behind_name(field).is_some()
}

/// What stands behind the name of a field and its colon.
pub(super) fn behind_name(field: &str) -> Option<&str> {
    let name = field.trim_start_matches([' ', '\t', '"', '\'']);
    let behind = name.trim_start_matches(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if behind.len() == name.len() {
        return None;
    }
    behind.trim_start_matches(['"', '\'']).trim_start_matches([' ', '\t']).strip_prefix(':')
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
