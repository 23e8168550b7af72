//! JSON of any size, read as a stream to its end: what kind of value each part is, and how much is in it.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Longest text that is kept, in characters.
const TEXT_CHARS_MAX: usize = 200;
/// More fields than this are no export.
const FIELDS_MAX: usize = 10_000;

/// A value, without what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// How many fields it has.
    Object(u64),
    /// How many items it has.
    List(u64),
    /// Cut when it is long.
    Text(String),
    Other,
}

/// Reads a whole document, whatever is in it.
pub(crate) fn read(source: impl Read) -> serde_json::Result<()> {
    whole::<IgnoredAny>(source).map(drop)
}

/// Reads a whole document that must be an object, and probes each of its fields.
pub(crate) fn fields(source: impl Read) -> serde_json::Result<BTreeMap<String, Probe>> {
    whole::<Fields>(source).map(|fields| fields.0)
}

fn whole<T: for<'de> Deserialize<'de>>(source: impl Read) -> serde_json::Result<T> {
    let mut reader = serde_json::Deserializer::from_reader(BufReader::with_capacity(256 << 10, source));
    let read = T::deserialize(&mut reader)?;
    reader.end()?;
    Ok(read)
}

/// What a whole document is, and whether anything is in it: nothing in brackets is nothing.
fn judge(source: impl Read) -> Result<(Probe, bool), serde_json::Error> {
    let held: Held = whole(source)?;
    Ok((held.probe, held.is_something))
}

struct Held {
    probe: Probe,
    /// A number, a truth or a text that is not empty is somewhere in it.
    is_something: bool,
}

impl Held {
    fn other(is_something: bool) -> Self {
        Self { probe: Probe::Other, is_something }
    }
}

impl<'de> Deserialize<'de> for Held {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Held;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Held, A::Error> {
                let (mut count, mut is_something) = (0, false);
                while let Some((_, value)) = map.next_entry::<IgnoredAny, Held>()? {
                    (count, is_something) = (count + 1, is_something || value.is_something);
                }
                Ok(Held { probe: Probe::Object(count), is_something })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Held, A::Error> {
                let (mut count, mut is_something) = (0, false);
                while let Some(value) = list.next_element::<Held>()? {
                    (count, is_something) = (count + 1, is_something || value.is_something);
                }
                Ok(Held { probe: Probe::List(count), is_something })
            }
            fn visit_str<E>(self, text: &str) -> Result<Held, E> {
                let probe = Probe::Text(text.chars().take(TEXT_CHARS_MAX).collect());
                Ok(Held { probe, is_something: !text.trim().is_empty() })
            }
            fn visit_unit<E>(self) -> Result<Held, E> {
                Ok(Held::other(false))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Held, E> {
                Ok(Held::other(true))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Held, E> {
                Ok(Held::other(true))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Held, E> {
                Ok(Held::other(true))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Held, E> {
                Ok(Held::other(true))
            }
        }
        deserializer.deserialize_any(Look)
    }
}

/// Says what a document that must be an export is, or why it is none.
pub(crate) fn export(source: impl Read) -> Result<Probe, String> {
    match judge(source) {
        Err(error) if error.is_io() => Err(format!("it cannot be read: {error}")),
        Err(error) => Err(format!("it breaks at line {} column {}", error.line(), error.column())),
        Ok((Probe::Object(0), _)) => Err("it is an empty object".to_owned()),
        Ok((Probe::List(0), _)) => Err("it is an empty list".to_owned()),
        Ok((Probe::Text(_) | Probe::Other, _)) => Err("it is a single value, neither an object nor a list".to_owned()),
        Ok((_, false)) => Err("nothing is in it but empty objects, lists and texts".to_owned()),
        Ok((probe, true)) => Ok(probe),
    }
}

struct Fields(BTreeMap<String, Probe>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Fields;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Probe>()? {
                    if fields.len() >= FIELDS_MAX {
                        return Err(serde::de::Error::custom("too many fields"));
                    }
                    fields.insert(name, value);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Look)
    }
}

impl<'de> Deserialize<'de> for Probe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Probe;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Probe, A::Error> {
                let mut count = 0;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Probe::Object(count))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Probe, A::Error> {
                let mut count = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Probe::List(count))
            }
            fn visit_str<E>(self, text: &str) -> Result<Probe, E> {
                Ok(Probe::Text(text.chars().take(TEXT_CHARS_MAX).collect()))
            }
            fn visit_unit<E>(self) -> Result<Probe, E> {
                Ok(Probe::Other)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Probe, E> {
                Ok(Probe::Other)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Probe, E> {
                Ok(Probe::Other)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Probe, E> {
                Ok(Probe::Other)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Probe, E> {
                Ok(Probe::Other)
            }
        }
        deserializer.deserialize_any(Look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_known_by_kind_and_size() {
        let fields = fields(r#"{"v": "5.1", "clients": [{}, {"a": [1]}], "company": {"id": 1}, "n": null}"#.as_bytes());
        let fields = fields.unwrap();
        assert_eq!(fields["v"], Probe::Text("5.1".to_owned()));
        assert_eq!(
            (&fields["clients"], &fields["company"], &fields["n"]),
            (&Probe::List(2), &Probe::Object(1), &Probe::Other)
        );
    }

    #[test]
    fn a_document_of_nothing_is_no_export_however_it_is_wrapped() {
        for empty in
            ["{}", "[]", "null", "\"\"", " [ ] ", "[{}]", "[[],[null]]", "{\"data\":{\"items\":[]}}", "[\"\",\" \"]"]
        {
            assert!(export(empty.as_bytes()).is_err(), "{empty}");
        }
        for something in ["{\"items\":[],\"total\":0}", "[1]", "[false]", "{\"a\":{\"b\":[\"x\"]}}"] {
            assert!(export(something.as_bytes()).is_ok(), "{something}");
        }
    }

    #[test]
    fn what_is_cut_or_goes_on_is_no_document() {
        let text = r#"{"a": [1, 2.5, -3, true, "x"]}"#;
        assert_eq!(export(text.as_bytes()).unwrap(), Probe::Object(1));
        for cut in 0..text.len() {
            assert!(export(&text.as_bytes()[..cut]).is_err() && fields(&text.as_bytes()[..cut]).is_err());
        }
        assert!(export("[1] {}".as_bytes()).is_err() && fields("[]".as_bytes()).is_err());
    }
}
