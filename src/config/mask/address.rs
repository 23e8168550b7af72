//! Secrets in anything like an address: user and password before its host, and paths that are a password themselves.
//!
//! All of it looks at a folded line, where an escaped `@` or `:` is one.

use std::ops::Range;

use super::fold::NOTHING;

/// What one forgets the slashes behind.
const SCHEMES: [&str; 5] = ["smtps:", "smtp:", "https:", "http:", "ftp:"];

/// What ends an address in a line.
const ENDS: [char; 10] = [' ', '"', '\'', '`', ',', '{', '}', '[', ']', '<'];

/// The parts of the addresses on a line that are secrets.
pub(super) fn secrets(line: &str) -> Vec<Range<usize>> {
    let mut found = userinfo(line);
    found.extend(halves(line));
    found.extend(hooks(line));
    found
}

/// User and password of whatever looks like an address, however broken: from `//` to the last `@` of the line, and
/// between `:` and `@` of one word. A password may hold any character, `/` and spaces too.
pub(super) fn userinfo(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    if let (Some(slashes), Some(end)) = (line.find("//"), line.rfind('@')) {
        found.push(slashes + 2..end);
    }
    let mut colon = None;
    for (at, sign) in line.char_indices() {
        match sign {
            _ if sign.is_whitespace() || matches!(sign, '"' | '\'' | '[' | '{' | ',' | '(' | '<' | '`') => colon = None,
            ':' => colon = colon.or(Some(at + 1)),
            // Behind the slashes of an address.
            '/' | NOTHING if colon == Some(at) => colon = Some(at + 1),
            // Behind a second scheme, as in `rest:https://`.
            '/' if colon.is_some_and(|start| is_scheme(line.get(start..=at))) => colon = Some(at + 1),
            '@' => match (colon, found.last_mut()) {
                (Some(start), Some(last)) if last.start == start => last.end = last.end.max(at),
                (Some(start), _) => found.push(start..at),
                _ => {}
            },
            _ => {}
        }
    }
    found.retain(|range| !range.is_empty());
    found
}

/// Whether it is the whole beginning of a web address.
fn is_scheme(text: Option<&str>) -> bool {
    text.is_some_and(|text| matches!(text, "https://" | "http://"))
}

/// `user:secret` behind `//` whose `@` or host is missing or on the next line: what stands behind the colon is no port.
fn halves(line: &str) -> Vec<Range<usize>> {
    let last_at = line.rfind('@').unwrap_or(0);
    let mut found = Vec::new();
    let mut start = 0;
    for word in line.split(ENDS) {
        if start + word.len() > last_at {
            found.extend(half(word).map(|host| start + host..start + word.len()));
        }
        start += word.len() + 1;
    }
    found.retain(|range| range.start > last_at);
    found
}

/// Where the host of an address begins that can be none.
fn half(word: &str) -> Option<usize> {
    let slashes = word.match_indices("//").map(|(at, _)| at + 2);
    let schemes = SCHEMES.iter().flat_map(|scheme| word.match_indices(scheme)).filter_map(|(at, scheme)| {
        let start = at + scheme.len();
        let rest = word.get(start..)?;
        let is_word = !word.get(..at)?.ends_with(char::is_alphanumeric);
        (is_word && !rest.starts_with("//")).then_some(start + usize::from(rest.starts_with('/')))
    });
    slashes.chain(schemes).find(|start| {
        let rest = word.get(*start..).unwrap_or_default();
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let Some((_, port)) = host.rsplit_once(':') else { return false };
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        !is_port || (host.matches(':').count() > 1 && !is_bare_ipv6(host))
    })
}

fn is_bare_ipv6(host: &str) -> bool {
    host.contains("::") && host.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':')
}

/// Whoever knows the path of a web hook may call it.
fn hooks(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for word in line.split(ENDS) {
        found.extend(hook(word).map(|path| start + path..start + word.len()));
        start += word.len() + 1;
    }
    found.retain(|range| !range.is_empty());
    found
}

/// Where the secret part of an address begins that says to be a hook.
fn hook(word: &str) -> Option<usize> {
    let host = match word.find("//") {
        Some(slashes) => slashes + 2,
        // A path of this host is none.
        None if word.split('/').next()?.trim_matches('.').contains('.') => 0,
        None => return None,
    };
    let mut at = host;
    for (number, part) in word.get(host..)?.split('/').enumerate() {
        let name = part.to_ascii_lowercase();
        let behind = at + part.len() + 1;
        if number == 0 && name.starts_with("hook") {
            // `hooks.slack.com/services/T0/B0/x`: the first step of the path says of which kind it is.
            let path = word.get(behind..)?;
            return Some(behind + path.find('/').map_or(0, |slash| slash + 1));
        }
        if number > 0 && (matches!(name.as_str(), "hook" | "hooks") || name.contains("webhook")) {
            return (behind <= word.len()).then_some(behind);
        }
        // `api.telegram.org/bot1234:x/sendMessage`.
        if number > 0 && name.starts_with("bot") && name.contains(':') {
            return Some(at + "bot".len());
        }
        at = behind;
    }
    None
}
