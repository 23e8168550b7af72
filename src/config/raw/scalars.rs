//! Text values as they are written, each with what an editor and an error message say about it.
//!
//! `x-larder-expected` finishes the sentence "must be ...". The patterns are for editors: a little wider than what
//! `check` accepts, so that its better words are the ones a person reads.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

/// Longest text in a config value outside of plugin settings.
const TEXT_CHARS_MAX: usize = 4096;

macro_rules! text_value {
    ($(#[$doc:meta])* $name:ident, $title:literal, $expected:literal, $pattern:literal, [$($example:literal),+]) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                $title.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "minLength": 1,
                    "maxLength": TEXT_CHARS_MAX,
                    "pattern": $pattern,
                    "examples": [$($example),+],
                    "x-larder-expected": $expected,
                })
            }
        }
    };
}

text_value!(
    /// A name: it becomes a directory, a tag and a label.
    RawName, "Name", "a name such as paperless-db",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", ["nas", "paperless-db"]
);
text_value!(
    /// An IANA time zone.
    RawTimezone, "Timezone", "a time zone such as Europe/Berlin",
    r"^[A-Za-z0-9_+/-]+$", ["UTC", "Europe/Berlin", "Asia/Singapore"]
);
text_value!(
    /// A five-field cron expression or a nickname.
    RawCron, "Schedule", "a schedule such as \"0 2 * * *\" (minute hour day month weekday) or \"@daily\"",
    r"^(@[a-z]+|\s*\S+(\s+\S+){4}\s*)$", ["0 2 * * *", "*/15 * * * *", "@daily"]
);
text_value!(
    /// A duration.
    RawDuration, "Duration", "a duration such as 90s, 10m, 26h or 7d",
    r"^\s*([0-9]+(ms|s|m|h|d|w))+\s*$", ["10m", "26h", "7d"]
);
text_value!(
    /// An absolute path.
    RawPath, "Path", "an absolute path such as /mnt/nas",
    r"^/[^\n]*$", ["/mnt/nas/restic"]
);
text_value!(
    /// A transfer rate.
    RawRate, "Rate", "a rate such as 10MiB/s",
    r"^[0-9.]+\s*([KMGT]i?|k)?B/s$", ["10MiB/s", "500kB/s"]
);
text_value!(
    /// How much of a repository is read back: restic's subset.
    RawReadData, "ReadData", "a share such as 5%, a part such as 1/12, or an amount such as 10G",
    r"^([0-9.]+%|[0-9]+/[0-9]+|[0-9]+[KMGT]?)$", ["5%", "1/12", "10G"]
);
text_value!(
    /// A class of priority for the disks.
    RawIoPriority, "IoPriority", "idle, or best-effort:LEVEL with a level from 0 to 7",
    r"^(idle|best-effort(:[0-7])?)$", ["idle", "best-effort:7"]
);
text_value!(
    /// A currency.
    RawCurrency, "Currency", "a currency such as USD: three capital letters",
    r"^[A-Z]{3}$", ["USD", "EUR"]
);
text_value!(
    /// A part of something.
    RawShare, "Share", "a share such as 1% or 0.5%",
    r"^[0-9.]+%$", ["1%", "0.5%"]
);
text_value!(
    /// A mail server.
    RawSmtp, "Smtp", "a mail server such as smtps://mail.lan:465",
    r"^(smtps|smtp|smtp\+plain)://[^@/]+/?$", ["smtps://mail.lan:465", "smtp://mail.lan:587"]
);
text_value!(
    /// A mail address without a display name.
    RawEmailAddress, "EmailAddress", "a mail address such as me@home.lan",
    r"^[^@\s<>]+@[^@\s<>]+$", ["me@home.lan"]
);
text_value!(
    /// The name of a mail client.
    RawHelloName, "HelloName", "a full host name such as nas.home.lan",
    r"^[A-Za-z0-9.\-]+$|^\[[0-9A-Fa-f.:IPVv]+\]$", ["nas.home.lan", "[192.168.1.2]"]
);
text_value!(
    /// The id of a restic repository.
    RawRepositoryId, "RepositoryId", "the id of a repository: 64 hexadecimal digits",
    r"^[0-9a-fA-F]{64}$", ["5e7f1b0c3a9d2e4f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7"]
);
text_value!(
    /// A host.
    RawHost, "Host", "a host name or an address such as nas.lan",
    r"^[^\s/@]+$", ["nas.lan", "192.168.1.2"]
);
text_value!(
    /// A web address.
    RawUrl, "Url", "a web address such as https://larder.lan",
    r"^https?://", ["https://larder.lan"]
);
text_value!(
    /// A word of a command line, or an account name.
    RawArgument, "Argument", "text",
    r"^[^\n\r]+$", ["systemctl"]
);

/// A number of bytes, with or without a unit.
#[derive(Clone, Debug)]
pub struct RawSize(pub String);

impl<'de> Deserialize<'de> for RawSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Bytes(u64),
            Text(String),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Bytes(bytes) => Self(bytes.to_string()),
            Either::Text(text) => Self(text),
        })
    }
}

/// A directory, or none at all.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum RawCache {
    Wanted(bool),
    At(String),
}

impl JsonSchema for RawCache {
    fn schema_name() -> Cow<'static, str> {
        "Cache".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "boolean"],
            "minLength": 1,
            "maxLength": TEXT_CHARS_MAX,
            "pattern": r"^/[^\n]*$",
            "examples": ["/var/cache/restic", false],
            "x-larder-expected": "an absolute path such as /var/cache/restic, or false",
        })
    }
}

/// The value of a hold as it is shown: a number of bytes, a path, a name.
#[derive(Clone, Debug)]
pub struct RawAccepted(pub String);

impl<'de> Deserialize<'de> for RawAccepted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawSize::deserialize(deserializer).map(|value| Self(value.0))
    }
}

impl JsonSchema for RawAccepted {
    fn schema_name() -> Cow<'static, str> {
        "Accepted".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The value of a hold as `larder status` shows it.",
            "type": ["string", "integer"],
            "minLength": 1,
            "maxLength": 4096,
            "minimum": 0,
            "x-larder-expected": "the value of a hold, as `larder status` shows it",
            "examples": [20_971_520, "/tank/docs"],
        })
    }
}

impl JsonSchema for RawSize {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "minimum": 0,
            "minLength": 1,
            "maxLength": TEXT_CHARS_MAX,
            "pattern": r"^[0-9.]+\s*(([KMGT]i?|k)?B)?$",
            "examples": ["20GiB", "500MB", 4096],
            "x-larder-expected": "a size such as 20GiB, 500MB or 4096",
        })
    }
}
