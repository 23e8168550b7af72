//! What looks like a secret in text that could not be understood.
//!
//! The validator knows secrets by the schema; this is the second net, for misspelt fields, unknown plugins and broken
//! YAML. It may mask too much, never the name of a field.

use std::ops::Range;

const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passwort",
    "kennwort",
    "passcode",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "credential",
    "private",
    "authorization",
    "bearer",
    "cookie",
];

/// How many lines before a syntax error are looked at for the key that it belongs to.
const LINES_BACK_MAX: usize = 50;

/// The kinds of references; what stands behind one of them names a place, and a place may be shown.
const REFERENCES: [&str; 4] = ["file", "env", "credential", "secret"];

/// A value that is shorter is not looked for in messages: it is part of any word.
const REPEATED_BYTES_MIN: usize = 4;

/// A word of a value that could not be understood is a secret, too, if it is longer than most words of a message.
const REPEATED_WORD_MIN: usize = 8;

/// What stands where a secret stood.
pub(crate) const MASK: &str = "***";

/// Whether a field of this name usually holds a secret; misspelt ones too.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let camel = name.ends_with("Key") || name.ends_with("Pass") || name.ends_with("Pin");
    let name = name.to_ascii_lowercase();
    camel
        || SECRET_WORDS.iter().any(|word| name.contains(word))
        || name.split(['_', '-', '.', ' ']).any(|part| {
            matches!(part, "pass" | "key" | "keys" | "pw" | "psk" | "otp" | "totp")
                || (part.len() >= 5 && strsim::osa_distance(part, "password") <= 2)
                || (part.len() >= 5 && strsim::osa_distance(part, "secret") <= 1)
                || (part.len() >= 4 && strsim::osa_distance(part, "token") <= 1)
        })
}

/// The values on `line` that look like secrets: after a name such as `password:`, and in `//user:secret@host`.
pub(crate) fn looks_secret(line: &str) -> Vec<Range<usize>> {
    let mut found = userinfo(line);
    found.extend(halves(line));
    found.extend(logins(line));
    for (start, name) in words(line) {
        if !is_secret_name(name) {
            continue;
        }
        let behind = start + name.len();
        let rest = line.get(behind..).unwrap_or_default();
        let bare = rest.trim_start_matches(['"', '\'']).trim_start_matches([' ', '\t']);
        let value = match bare.chars().next() {
            Some(separator @ (':' | '=' | ';')) => bare.get(separator.len_utf8()..).unwrap_or_default(),
            // An argument and its value: `--password, hunter2`.
            Some(',') if name.starts_with('-') => bare.get(1..).unwrap_or_default(),
            // A name at the start of an item whose colon was forgotten.
            Some(_) if bare.len() < rest.len() && begins_an_item(line, start) => bare,
            _ => continue,
        };
        let value = value.trim_start_matches([' ', '\t']);
        let start = line.len() - value.len();
        let end = start + value_length(value).unwrap_or(value.len());
        // What stands beside a reference, or in it beside its place, is none.
        let shown = reference_length(value).unwrap_or(0);
        let (place, behind) = value.split_at_checked(shown).unwrap_or_default();
        let is_next = place.ends_with('}') && ends_or_goes_on(behind);
        if !is_next && end > start + shown {
            found.push(start + shown..end);
        }
    }
    found
}

/// `user:secret` behind `-u` or `--user`, and in a field whose name says that one logs in with it.
fn logins(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (start, name) in words(line) {
        let is_login = matches!(name.to_ascii_lowercase().as_str(), "-u" | "--user" | "auth" | "basic" | "login");
        let behind = line.get(start + name.len()..).unwrap_or_default();
        let value = behind.trim_start_matches([' ', '\t', ':', '=', ',', '"', '\'']);
        if !is_login || value.len() == behind.len() || value.starts_with('{') {
            continue;
        }
        let at = line.len() - value.len();
        // A list of a name and its password.
        if value.starts_with('[') {
            found.extend(value.find(',').map(|comma| at + comma + 1..line.len()));
            continue;
        }
        let word = value.split([' ', '\t', ',']).next().unwrap_or_default();
        if let Some(colon) = word.find(':').filter(|colon| !word.get(*colon..).unwrap_or_default().starts_with("://")) {
            found.push(at + colon + 1..at + word.len());
        }
    }
    found
}

/// The words of a line with their places: what can be a field's name.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + line.get(rest..)?.find(is_part)?;
        let word = line.get(start..)?;
        let word = word.get(..word.find(|c| !is_part(c)).unwrap_or(word.len()))?;
        rest = start + word.len();
        Some((start, word))
    })
}

/// Whether nothing but marks of YAML stands before it on the line, or since the last of a flow item.
fn begins_an_item(line: &str, start: usize) -> bool {
    let before = line.get(..start).unwrap_or_default().trim_end_matches([' ', '\t', '"', '\'']);
    before.is_empty() || before.ends_with(['{', ',', '[', '-', '?'])
}

/// The values in `text` that look like secrets, those over several lines too.
pub(crate) fn secrets_of(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut open: Option<Open> = None;
    let mut at = 0;
    for whole in text.split_inclusive('\n') {
        let line = whole.trim_end_matches(['\n', '\r']);
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        let content = line.get(indent..).unwrap_or_default();
        if let Some(field) = &open {
            let is_item = field.is_bare && indent == field.indent && content.starts_with('-');
            let inside = field.quote.is_some() || indent > field.indent || is_item || content.is_empty();
            if inside && !is_reference(&format!("{{{content}")) {
                let end = field.quote.and_then(|quote| line.find(quote).map(|at| at + 1));
                found.push(at + indent..at + end.unwrap_or(line.len()).max(indent));
                if end.is_some() {
                    open = None;
                }
                at += whole.len();
                continue;
            }
        }
        found.extend(looks_secret(line).into_iter().map(|range| at + range.start..at + range.end));
        open = goes_on(content, indent);
        at += whole.len();
    }
    found.retain(|range| !range.is_empty());
    found
}

/// The value of a secret field that goes on behind a line.
struct Open {
    /// Of the field; deeper lines are in it.
    indent: usize,
    /// For which it waits.
    quote: Option<char>,
    /// Nothing of it stood on the line: a list may follow at the field's own indentation.
    is_bare: bool,
}

/// Whether the value of the last secret field on this line goes on behind it.
fn goes_on(content: &str, indent: usize) -> Option<Open> {
    // A key on a line of its own. Its value may stand anywhere in what follows, deeper or not.
    if let Some((before, key)) = content.rsplit_once('?')
        && (before.is_empty() || before.ends_with([' ', '{', ',', '[']))
        && is_secret_name(key.trim().trim_matches(['"', '\'']))
        && !key.contains([':', '='])
    {
        return Some(Open { indent: 0, quote: None, is_bare: true });
    }
    let field = content.trim_start_matches(['-', ' ']);
    let indent = indent + content.len() - field.len();
    let (at, name) = words(field).filter(|(_, name)| is_secret_name(name)).last()?;
    let value = field.get(at + name.len()..)?.trim_start_matches(['"', '\'', ' ', '\t']);
    let value = value.strip_prefix([':', '='])?.trim();
    if is_reference(value) {
        return None;
    }
    if value.is_empty() || value.starts_with('#') {
        return Some(Open { indent, quote: None, is_bare: true });
    }
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    match quote {
        Some(_) if closed_length(value).is_some() => None,
        other => Some(Open { indent, quote: other, is_bare: false }),
    }
}

/// The secrets that a message could repeat: the values themselves, without quotes and marks.
pub(crate) fn repeated<'t>(text: &'t str, places: &[Range<usize>]) -> Vec<&'t str> {
    let mut found = Vec::new();
    for place in places {
        let before = text.get(..place.start).unwrap_or_default().trim_end_matches([' ', '\t', ':', '=', '"', '\'']);
        let kind = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        if REFERENCES.contains(&kind) {
            continue;
        }
        let value = text.get(place.clone()).unwrap_or_default();
        let inner = value.trim().trim_end_matches(['}', ']', ',', ' ']).trim_matches(['"', '\'']);
        let parts = inner.split([':', '\n']).map(str::trim);
        found.extend([value.trim(), inner].into_iter().chain(parts).filter(|each| each.len() >= REPEATED_BYTES_MIN));
        let words = inner.split([' ', '\t', '\n', '"', '\'', '\\', ',', '{', '}', '[', ']']);
        found.extend(words.filter(|each| each.len() >= REPEATED_WORD_MIN));
    }
    found.sort_by_key(|each| std::cmp::Reverse(each.len()));
    found.dedup();
    found
}

/// A message without what it repeats of `secrets`, and without what is between `//` and `@`.
pub(crate) fn cleaned(message: &str, secrets: &[&str]) -> String {
    let mut text = message.to_owned();
    for secret in secrets {
        if text.contains(secret) {
            text = text.replace(secret, MASK);
        }
    }
    let mut places = userinfo(&text);
    // What is repeated may be a field and its value, which nobody read as that.
    let mut at = 0;
    for (number, part) in text.split('`').enumerate() {
        if number % 2 == 1 {
            places.extend(looks_secret(part).into_iter().map(|range| at + range.start..at + range.end));
        }
        at += part.len() + 1;
    }
    places.sort_by_key(|place| place.start);
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for place in places.into_iter().filter(|place| text.get(place.clone()) != Some(MASK)) {
        if place.start >= done {
            out.push_str(text.get(done..place.start).unwrap_or_default());
            out.push_str(MASK);
        }
        done = done.max(place.end);
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

/// Whether the line at `start` may be the rest of a secret that began on a line before: an unclosed quote, a block.
pub(crate) fn continues_a_secret(text: &str, start: usize) -> bool {
    let before = text.get(..start).unwrap_or_default();
    for line in before.lines().rev().take(LINES_BACK_MAX) {
        let Some((name, value)) = line.trim_start_matches([' ', '-']).split_once(':') else { continue };
        let value = value.trim();
        return is_secret_name(name.trim_matches(['"', '\''])) && !is_reference(value);
    }
    false
}

fn is_reference(value: &str) -> bool {
    reference_length(value).is_some()
}

/// How much of a value is a reference: `{file: ...}` and friends name a place, and a place may be shown. Up to its `}`, or
/// to where something else begins in it.
fn reference_length(value: &str) -> Option<usize> {
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
    let named = REFERENCES.iter().find_map(|kind| named.strip_prefix(kind))?;
    let place = named.trim_start_matches([' ', '"', '\'']).strip_prefix(':')?.trim_start_matches([' ', '\t']);
    let behind = place.get(closed_length(place).unwrap_or(0)..)?;
    let end = behind.find([',', '}']).or_else(|| behind.find([' ', '\t'])).unwrap_or(behind.len());
    Some(inner.len() - behind.len() + end)
}

/// Whether nothing is left of a line but the end of a flow, or the next field of the mapping around.
fn ends_or_goes_on(rest: &str) -> bool {
    let rest = rest.trim_start_matches([' ', '\t', '}', ']']);
    let next = rest.strip_prefix(',').map(|field| field.split_once(':').map_or("", |(name, _)| name).trim());
    let is_name = |name: &str| {
        let name = name.trim_matches(['"', '\'']);
        !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
    };
    rest.is_empty() || next.is_some_and(is_name)
}

/// How long a quoted value is that ends as YAML wants it: at its quote, with nothing but the next field, the end of a flow
/// or the end of the line behind it. Of any other value nobody knows where it ends.
fn value_length(value: &str) -> Option<usize> {
    let length = closed_length(value)?;
    value.get(length..).is_some_and(ends_or_goes_on).then_some(length)
}

/// How long a quoted value is, with its quotes.
fn closed_length(value: &str) -> Option<usize> {
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

/// User and password of whatever looks like an address, however broken: from `//` to the last `@` of the line, and
/// between `:` and `@` of one word. A password may hold any character, `/` and spaces too.
fn userinfo(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("//") {
        let start = at + 2;
        let end = line.get(start..).and_then(|rest| rest.rfind('@'));
        found.extend(end.map(|end| start..start + end));
    }
    for (at, _) in line.match_indices('@') {
        let before = line.get(..at).unwrap_or_default();
        let is_edge = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '[' | '{' | ',' | '(' | '<' | '`');
        let word = before
            .rfind(is_edge)
            .map_or(0, |edge| edge + before.get(edge..).and_then(|e| e.chars().next()).map_or(1, char::len_utf8));
        if let Some(colon) = line.get(word..at).and_then(|word| word.find(':')) {
            let start = word + colon + 1;
            let start = start + line.get(start..at).map_or(0, |rest| rest.len() - rest.trim_start_matches('/').len());
            found.push(start..at);
        }
    }
    found.retain(|range| !range.is_empty());
    found
}

/// `user:secret` behind `//` whose `@` is missing or on the next line: what stands behind the colon is no port.
fn halves(line: &str) -> Vec<Range<usize>> {
    let half = |(at, _): (usize, &str)| {
        let start = at + 2;
        let rest = line.get(start..)?;
        let end = rest.find([' ', '"', '\'', '`', ',', '}', ']', '/', '?', '#']).unwrap_or(rest.len());
        let host = rest.get(..end)?;
        let port = host.get(host.rfind(':')? + 1..)?;
        let is_port = port.is_empty() || port.bytes().all(|byte| byte.is_ascii_digit());
        (!rest.contains('@') && !host.starts_with('[') && !is_port).then_some(start..start + end)
    };
    line.match_indices("//").filter_map(half).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(line: &str) -> String {
        let mut out = line.to_owned();
        for range in looks_secret(line).into_iter().rev() {
            if let Some(end) = out.get(range.start..).map(|_| range.end.min(out.len())) {
                out.replace_range(range.start..end, "***");
            }
        }
        out
    }

    #[test]
    fn values_of_secret_names_are_masked_wherever_they_stand() {
        for line in [
            "password: hunter2",
            "  pasword: hunter2",
            "with: {hots: db, \"password\": \"hun\\\"ter2 hunter2\", user: x}",
            "db-token:   hunter2 # note",
            "password: {plain: hunter2}",
            "smtp: smtps://me:hunter2@mail.lan:465",
            "PGPASSWORD: 'hunter2'",
            "passphrase : \"hunter2",
            "url: https://m| e:hunter2@larder.lan",
            "url: https://me:hun/ter2?hunter2#hunter2@larder.lan",
            "url: 'https://me:hunter2'@larder.lan",
            "url: https//me:hunter2@larder.lan",
            "url: https://me:hunter2",
            "- [curl, https://hunter2@larder.lan/x, me]",
            "smtp: me:hunter2@mail.lan",
            "  - --password=hunter2",
            "  - [mysqldump, --password, hunter2]",
            "password hunter2",
            "- password = hunter2",
            "password; hunter2",
            "{host: db, password hunter2}",
            "\"password\" hunter2",
            "adminKey: hunter2",
            "Authorization: Bearer hunter2",
            "with: {token: [hunter2], x: 1}",
            "secret : : hunter2",
            "p\u{e4}ssword_token: hunter2",
            "passwd: \"a\"hunter2\"",
            "password: 'it's hunter2'",
            "secret: 'a''hunter2",
            "pw: ''hunter2''",
            "password: \"a\", \"hunter2\"",
            "key: \"\":hunter2",
            "pw: \"# x\" # hunter2",
            "{key: \"a\"} hunter2",
            "secret:\"a\\\"hunter2",
            "auth: \"user:hunter2",
            "body: curl -u me:hunter2 https://x: [",
            "[curl, --user, me:hunter2, x]",
        ] {
            assert!(!masked(line).contains("hunter2"), "{line} -> {}", masked(line));
        }
    }

    #[test]
    fn references_and_common_fields_are_shown() {
        for line in [
            "password: {file: /run/nas}",
            "password: {file: \"/run/a, b\"}",
            "with: {password: {file: /run/nas}, host: db.lan}",
            "password: {file: /run/nas, env: X}",
            "with: {tls: {key: {file: /run/nas}}, token: {env: X}}",
            "keep_runs: 3",
            "host: db.lan",
            "smtp: smtps://mail.lan:465",
            "url: https://[::1]:8420/x",
            "password:",
            "paths: [/srv/private/x, /b]",
            "name: token-service",
            "to: [me@home.lan]",
            "auth: {type: basic}",
            "basic: https://x.lan/a",
            "exec: [run, -u, me, now]",
        ] {
            assert_eq!(masked(line), line);
        }
    }

    #[test]
    fn a_line_of_any_length_is_looked_at_without_end_of_stack_or_time() {
        let max = 256 * 1024;
        for part in ["env:,", "{file: /x, ", "password: {env: X}, ", "a@b:c,", "//u:p", "pw: 'a'', "] {
            let line = format!("password: {{{}", part.repeat(max / part.len()));
            let text = format!("a: 1\n{line}\nb: 2\n");
            assert!(secrets_of(&text).iter().all(|range| text.get(range.clone()).is_some()), "{part}");
        }
    }

    #[test]
    fn what_stands_in_or_behind_a_reference_is_none() {
        for (line, shown) in [
            ("password: {env: X, default: geheim}", "password: {env: X***"),
            ("password: {file: /x, value: geheim}", "password: {file: /x***"),
            ("password: {file: \"/x, y\", value: geheim}", "password: {file: \"/x, y\"***"),
            ("password: {file: /x} geheim", "password: {file: /x}***"),
            ("password: {file: /x}, geheim", "password: {file: /x}***"),
            ("password: {file: /x}: geheim", "password: {file: /x}***"),
            ("password: {file: /x geheim", "password: {file: /x***"),
            ("basic: [u, geheim]", "basic: [u,***"),
            ("auth: [\"u\", \"geheim\"]", "auth: [\"u\",***"),
        ] {
            assert_eq!(masked(line), shown, "{line}");
        }
    }

    #[test]
    fn a_broken_line_after_a_secret_is_taken_for_its_rest() {
        let text = "user: x\npassword: \"hun\n\nter2: 1\n";
        assert!(continues_a_secret(text, text.find("ter2").unwrap()));
        assert!(!continues_a_secret(text, text.find("password").unwrap()));
    }

    #[test]
    fn a_secret_over_several_lines_is_one() {
        for text in [
            "a: 1\npassword: |\n  hunter2\n  hunter3\nb: 2\n",
            "a: 1\npassword: \"hunter2\n\nhunter3\" \nb: 2\n",
            "a: 1\npassword:\n  hunter2\n   hunter3\nb: 2\n",
            "a: 1\n- password: hunter2\n     hunter3\nb: 2\n",
            "a: 1\nw: {u: x, access-token:\n  hunter2, hunter3\nb: 2\n",
            "a: 1\napi_key:\n- hunter2\n- hunter3}\nb: 2\n",
            "a: 1\n? password\n  : hunter2\nb: 2\n",
            "a: 1\nw:\n    ? password\n  : hunter2\nb: 2\n",
            "a: 1\nw: {x: y, ? password\n   = {x: hunter2}\nb: 2\n",
            "a: 1\naccess-token=\n    hunter2\nb: 2\n",
            "a: 1\nw: {\"pw\": \"x\n  hunter2\nhunter3\"}\nb: 2\n",
        ] {
            let mut left = text.to_owned();
            for range in secrets_of(text).into_iter().rev() {
                left.replace_range(range, MASK);
            }
            assert!(!left.contains("hunter") && left.contains("a: 1") && left.contains("b: 2"), "{left}");
        }
        assert!(secrets_of("password:\n  file: /run/x\npassword: {env: X}\nb: 2\n").is_empty());
    }

    #[test]
    fn a_message_repeats_no_secret_and_no_userinfo() {
        let text = "password: hunter2\ntoken: {secret: nas}\nurl: ftp://me:geheim1@h\n";
        let secrets = repeated(text, &secrets_of(text));
        assert_eq!(
            cleaned("`hunter2` is no number, see nas and geheim1", &secrets),
            "`***` is no number, see nas and ***"
        );
        assert_eq!(cleaned("`x://a:b@c` is no address", &[]), "`x://***@c` is no address");
        assert_eq!(
            cleaned("`with` has no field `pw= > a geheim1`, see `password: {file: /x}`", &[]),
            "`with` has no field `pw= ***`, see `password: {file: /x}`"
        );
    }
}
