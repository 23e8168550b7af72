//! Ids of calls come back as they were written, whatever JSON they are: the server below knows strings and small numbers only.
//!
//! On the way in an id becomes a string that holds its text, and on the way out that text again. Nothing is remembered, so
//! it is the same for one call, a batch and a WebSocket. An id that is no id (a list, an object, true) makes its call an
//! invalid request: −32600 with the id null.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

/// What the server below answers with −32600 and the id null.
const INVALID: &str = r#"{"jsonrpc":"2.0","id":null}"#;

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// A message as the server below takes it. What is no JSON of calls stays as it is, for the server to refuse.
pub(super) fn inward(message: &[u8]) -> Vec<u8> {
    each(message, call).unwrap_or_else(|| message.to_vec())
}

/// An answer as the caller gets it.
pub(super) fn outward(message: &[u8]) -> Vec<u8> {
    each(message, answer).unwrap_or_else(|| message.to_vec())
}

/// Whether a message asks for no answer at all: every call in it is a notification.
pub(super) fn asks_nothing(message: &[u8]) -> bool {
    let silent = |text: &str| {
        serde_json::from_str::<Fields<'_>>(text)
            .is_ok_and(|fields| fields.contains_key("method") && !fields.contains_key("id"))
    };
    let Ok(text) = std::str::from_utf8(message) else { return false };
    match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(all) => !all.is_empty() && all.iter().all(|one| silent(one.get())),
        Err(_) => silent(text),
    }
}

/// Changes one object, or each of a list; none when it is neither.
fn each(message: &[u8], change: fn(&str) -> Option<String>) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(message).ok()?;
    match text.trim_start().as_bytes().first()? {
        b'{' => change(text).map(String::into_bytes),
        b'[' => {
            let all: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let mut list = String::with_capacity(text.len() + 2 * all.len());
            for (index, one) in all.iter().enumerate() {
                list.push(if index == 0 { '[' } else { ',' });
                list.push_str(&change(one.get()).unwrap_or_else(|| one.get().to_owned()));
            }
            list.push_str(if all.is_empty() { "[]" } else { "]" });
            Some(list.into_bytes())
        }
        _ => None,
    }
}

fn call(text: &str) -> Option<String> {
    let mut fields: Fields<'_> = serde_json::from_str(text).ok()?;
    let Some(id) = fields.get("id") else { return Some(text.to_owned()) };
    let is_id = id.get().starts_with(|first: char| matches!(first, '"' | '-' | 'n') || first.is_ascii_digit());
    if !is_id {
        return Some(INVALID.to_owned());
    }
    let held = to_raw_value(id.get()).ok()?;
    fields.insert("id".to_owned(), &held);
    serde_json::to_string(&fields).ok()
}

fn answer(text: &str) -> Option<String> {
    let mut fields: Fields<'_> = serde_json::from_str(text).ok()?;
    let held: String = serde_json::from_str(fields.get("id")?.get()).ok()?;
    let id: &RawValue = serde_json::from_str(&held).ok()?;
    fields.insert("id".to_owned(), id);
    serde_json::to_string(&fields).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The id that comes back when the server below answers with the one it got.
    fn echoed(id: &str) -> String {
        let inside = inward(format!(r#"{{"jsonrpc":"2.0","id": {id} ,"method":"x"}}"#).as_bytes());
        let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(&inside).unwrap();
        let back = outward(format!(r#"{{"jsonrpc":"2.0","id":{},"result":1.50}}"#, fields["id"]).as_bytes());
        let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&back).unwrap();
        assert_eq!(fields["result"].get(), "1.50", "nothing else is touched");
        fields["id"].get().to_owned()
    }

    #[test]
    fn any_id_comes_back_as_it_was_written() {
        for id in [
            "1",
            "-1",
            "0",
            "-0",
            "1.5",
            "1.0",
            "1e3",
            "-2.5E-7",
            "18446744073709551616",
            "123456789012345678901234567890",
            "null",
            r#""""#,
            r#""a""#,
            r#""\u00e9\n\"\\""#,
            r#""\ud800""#,
            r#""-1""#,
            r#""null""#,
            "\"{\\\"id\\\":1}\"",
        ] {
            assert_eq!(echoed(id), id);
        }
    }

    #[test]
    fn what_is_no_id_makes_its_own_call_invalid_and_no_other() {
        for id in ["[1]", r#"{"a":1}"#, "true", "false"] {
            let call = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x"}}"#);
            assert_eq!(inward(call.as_bytes()), INVALID.as_bytes(), "{id}");
            let batch = String::from_utf8(inward(format!(r#"[{call},{{"id":-1,"method":"y"}}]"#).as_bytes())).unwrap();
            assert_eq!(batch, format!(r#"[{INVALID},{{"id":"-1","method":"y"}}]"#));
        }
    }

    #[test]
    fn what_has_no_id_or_is_no_call_stays_as_it_is() {
        for text in ["{not json", "", "7", "null", r#"{"jsonrpc":"2.0","method":"x"}"#, "[]", "[1,2]", "\u{feff}{}"] {
            assert_eq!(inward(text.as_bytes()), text.as_bytes(), "{text}");
            assert_eq!(outward(text.as_bytes()), text.as_bytes(), "{text}");
        }
        assert_eq!(inward(b"\xff\xfe"), b"\xff\xfe");
        let update = br#"{"jsonrpc":"2.0","method":"run.update","params":{"id":"1"}}"#;
        assert_eq!(outward(update), update);
        assert_eq!(outward(br#"{"id":null,"error":{}}"#), br#"{"id":null,"error":{}}"#);
    }

    #[test]
    fn only_notifications_ask_for_nothing() {
        assert!(asks_nothing(br#"{"jsonrpc":"2.0","method":"x"}"#));
        assert!(asks_nothing(br#"[{"method":"x"},{"method":"y"}]"#));
        for asking in [r#"{"id":null,"method":"x"}"#, r#"[{"method":"x"},{"id":1,"method":"y"}]"#, "[]", "{}", "x"] {
            assert!(!asks_nothing(asking.as_bytes()), "{asking}");
        }
    }
}
