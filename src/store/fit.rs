//! Records that tell of something at length are cut to fit, so that a run can always be finished and told of.
//!
//! Only records that Larder writes for people to read go through here, never the config: what is desired is kept as it is
//! or refused.

use serde::Serialize;
use serde_json::Value;

use super::VALUE_BYTES_MAX;

/// How long a string may stay, tried one after the other. Twenty warnings and twenty notices of three
/// strings fit with the last.
const STRING_BYTES_MAX: [usize; 5] = [8192, 2048, 512, 256, 128];

/// What stands at the end of a string that was cut.
const CUT: &str = " … (cut)";

/// The JSON of `record`; when it is above the store's limit, with its longest strings cut.
///
/// # Errors
/// When it cannot be written as JSON. What does not fit even so is refused by the commit.
pub fn fitted(record: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut json = serde_json::to_vec(record)?;
    if json.len() <= VALUE_BYTES_MAX {
        return Ok(json);
    }
    let mut value = serde_json::to_value(record)?;
    for bytes_max in STRING_BYTES_MAX {
        cut(&mut value, bytes_max);
        json = serde_json::to_vec(&value)?;
        if json.len() <= VALUE_BYTES_MAX {
            break;
        }
    }
    Ok(json)
}

fn cut(value: &mut Value, bytes_max: usize) {
    match value {
        Value::String(text) if text.len() > bytes_max => {
            text.truncate(text.floor_char_boundary(bytes_max - CUT.len()));
            text.push_str(CUT);
        }
        Value::Array(values) => values.iter_mut().for_each(|value| cut(value, bytes_max)),
        Value::Object(fields) => fields.values_mut().for_each(|value| cut(value, bytes_max)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Trouble;
    use crate::error::codes;

    #[test]
    fn what_fits_is_left_as_it_is() {
        let record = vec!["x".repeat(30_000)];
        assert_eq!(fitted(&record).unwrap(), serde_json::to_vec(&record).unwrap());
    }

    #[test]
    fn the_longest_strings_are_cut_first_and_say_so() {
        let record = vec!["ü".repeat(30_000), "short".to_owned()];
        let back: Vec<String> = serde_json::from_slice(&fitted(&record).unwrap()).unwrap();
        assert!(back[0].ends_with("ü … (cut)") && back[0].len() <= 8192, "{} bytes", back[0].len());
        assert_eq!(back[1], "short");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn twenty_warnings_of_any_length_fit(
            texts in prop::collection::vec(("\\PC{0,40}", 0..2000_usize), 20)
        ) {
            let warning = |(text, times): (String, usize)| Trouble::new(codes::INTERNAL, text.repeat(times)).with_hint(text);
            let warnings: Vec<Trouble> = texts.into_iter().map(warning).collect();
            let json = fitted(&warnings).unwrap();
            prop_assert!(json.len() <= VALUE_BYTES_MAX);
            let back: Vec<Trouble> = serde_json::from_slice(&json).unwrap();
            prop_assert_eq!(back.len(), 20);
            for (back, warning) in back.iter().zip(&warnings) {
                let kept = back.message.strip_suffix(CUT).unwrap_or(&back.message);
                prop_assert!(warning.message.starts_with(kept));
                prop_assert!(warning.message.len() <= 248 || kept.len() >= 240);
            }
        }
    }
}
