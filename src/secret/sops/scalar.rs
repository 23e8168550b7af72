//! What a plain YAML value means, as the bytes over which SOPS makes its MAC. Pure.
//!
//! The rules are those of SOPS' own YAML reader, where it differs from others: `0777` is octal, `yes` is a text.

use super::value::Type;

/// The type of a plain value and its bytes; none for null.
pub(super) fn plain(text: &str) -> Option<(Type, Vec<u8>)> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return None,
        "true" | "True" | "TRUE" => return Some((Type::Bool, b"True".to_vec())),
        "false" | "False" | "FALSE" => return Some((Type::Bool, b"False".to_vec())),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Some((Type::Text, text.as_bytes().to_vec()));
    }
    if let Some(number) = integer(text) {
        return Some((Type::Int, number.to_string().into_bytes()));
    }
    if let Some(number) = float(text) {
        return Some((Type::Float, number.into_bytes()));
    }
    if let Some(time) = time(text) {
        return Some((Type::Time, time.into_bytes()));
    }
    Some((Type::Text, text.as_bytes().to_vec()))
}

fn integer(text: &str) -> Option<i128> {
    let digits = text.replace('_', "");
    let (negative, rest) = match digits.strip_prefix(['-', '+']) {
        Some(rest) => (digits.starts_with('-'), rest),
        None => (false, digits.as_str()),
    };
    if !rest.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let of = |digits: &str, radix| {
        let all = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
        all.then(|| i128::from_str_radix(digits, radix).ok()).flatten()
    };
    let prefixed = |names: [&str; 2]| names.iter().find_map(|name| rest.strip_prefix(name));
    let number = if let Some(hex) = prefixed(["0x", "0X"]) {
        of(hex, 16)
    } else if let Some(octal) = prefixed(["0o", "0O"]) {
        of(octal, 8)
    } else if let Some(binary) = prefixed(["0b", "0B"]) {
        of(binary, 2)
    } else if rest.len() > 1 && rest.starts_with('0') {
        of(rest, 8)
    } else {
        of(rest, 10)
    }?;
    Some(if negative { -number } else { number })
}

fn float(text: &str) -> Option<String> {
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Some("+Inf".to_owned()),
        "-.inf" | "-.Inf" | "-.INF" => return Some("-Inf".to_owned()),
        ".nan" | ".NaN" | ".NAN" => return Some("NaN".to_owned()),
        _ => {}
    }
    let simple = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
    let number: f64 = text.parse().ok().filter(|_| simple && text.bytes().any(|byte| byte.is_ascii_digit()))?;
    Some(number.to_string())
}

/// A date or a time as SOPS repeats it: in the form of RFC 3339.
fn time(text: &str) -> Option<String> {
    if text.len() < 8 || !text.is_char_boundary(5) || !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && text.len() == 10
    {
        return Some(format!("{date}T00:00:00Z"));
    }
    let full = text.len() > 10 && text.get(10..11).is_some_and(|between| matches!(between, "T" | "t" | " "));
    (full && text.parse::<jiff::Timestamp>().is_ok()).then(|| text.replacen([' ', 't'], "T", 1))
}

/// A text as it is written into YAML so that it is read as a text.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A key as it is written into YAML.
pub(super) fn key(text: &str) -> String {
    let simple = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.bytes().all(simple);
    let read_as_text = matches!(plain(text), Some((Type::Text, _)))
        && !["yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if word && read_as_text { text.to_owned() } else { quoted(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_mean_what_sops_takes_them_for() {
        let cases: [(&str, Option<(Type, &str)>); 22] = [
            ("~", None),
            ("", None),
            ("true", Some((Type::Bool, "True"))),
            ("FALSE", Some((Type::Bool, "False"))),
            ("yes", Some((Type::Text, "yes"))),
            ("12", Some((Type::Int, "12"))),
            ("-0x1F", Some((Type::Int, "-31"))),
            ("0777", Some((Type::Int, "511"))),
            ("0o17", Some((Type::Int, "15"))),
            ("1_000", Some((Type::Int, "1000"))),
            ("1.50", Some((Type::Float, "1.5"))),
            ("1e3", Some((Type::Float, "1000"))),
            (".5", Some((Type::Float, "0.5"))),
            ("-.inf", Some((Type::Float, "-Inf"))),
            ("1.2.3", Some((Type::Text, "1.2.3"))),
            ("0b2", Some((Type::Text, "0b2"))),
            ("-", Some((Type::Text, "-"))),
            ("2001-12-14", Some((Type::Time, "2001-12-14T00:00:00Z"))),
            ("2001-12-14T21:59:43Z", Some((Type::Time, "2001-12-14T21:59:43Z"))),
            ("192.168.1.1", Some((Type::Text, "192.168.1.1"))),
            ("12:30", Some((Type::Text, "12:30"))),
            ("hello", Some((Type::Text, "hello"))),
        ];
        for (text, wanted) in cases {
            let wanted = wanted.map(|(kind, bytes)| (kind, bytes.as_bytes().to_vec()));
            assert_eq!(plain(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_key_is_quoted_where_it_would_be_read_as_something_else() {
        assert_eq!(key("password"), "password");
        for odd in ["no", "1", "a b", "", "null", "a:b"] {
            assert_eq!(key(odd), quoted(odd));
        }
    }
}
