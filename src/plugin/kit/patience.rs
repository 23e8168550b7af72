//! How long a plugin waits, as its settings say it: `30s`, `5m`.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::types::{parse_duration, show_duration};

/// The longest that a setting may ask to wait.
const PATIENCE_MAX: Duration = Duration::from_hours(24);

/// A duration in a plugin's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience(pub(crate) Duration);

impl Patience {
    /// For `#[serde(default = ..)]` of a setting `silence`.
    pub(crate) fn silence() -> Self {
        Self(crate::web::SILENCE_MAX)
    }
}

impl<'de> Deserialize<'de> for Patience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let duration = parse_duration(&text).map_err(serde::de::Error::custom)?;
        if duration.is_zero() || duration > PATIENCE_MAX {
            return Err(serde::de::Error::custom("a duration above 0 and up to 24h is expected"));
        }
        Ok(Self(duration))
    }
}

impl Serialize for Patience {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&show_duration(self.0).replace(' ', ""))
    }
}

impl JsonSchema for Patience {
    fn schema_name() -> Cow<'static, str> {
        "Patience".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": crate::config::DURATION_PATTERN, "examples": ["30s", "5m"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_and_shown_with_its_unit_and_has_bounds() {
        let read = |text: &str| serde_json::from_value::<Patience>(text.into());
        assert_eq!(read("90s").unwrap(), Patience(Duration::from_secs(90)));
        assert_eq!(serde_json::to_value(read("90s").unwrap()).unwrap(), "1m30s");
        for bad in ["", "30", "0s", "2d", "soon"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
