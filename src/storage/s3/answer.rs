//! What a bucket's refusals mean; pure.

use super::xml;
use crate::storage::StorageError;

/// From which difference of the clocks on a refusal is told as one of the clock, in seconds (15 minutes).
const SKEW_MAX_S: u64 = 900;
/// How much of a message is quoted, in characters.
const QUOTED_CHARS_MAX: usize = 200;

/// An answer that is an error.
pub(super) struct Refused<'a> {
    pub(super) place: &'a str,
    /// What was asked: `list its files`, `read config`.
    pub(super) what: &'a str,
    pub(super) status: u16,
    pub(super) body: &'a [u8],
    /// That the answer's head names.
    pub(super) region: Option<String>,
    pub(super) given_region: &'a str,
    pub(super) skew_s: Option<i64>,
}

pub(super) fn refusal(refused: &Refused<'_>) -> StorageError {
    let (place, what) = (refused.place.to_owned(), refused.what.to_owned());
    let told = xml::read(refused.body).ok().filter(|root| root.name == "Error");
    let field = |name: &str| told.as_ref().map_or_else(String::new, |root| root.text(name).to_owned());
    let (code, message) = (field("Code"), field("Message"));
    let detail = detail(&code, &message, refused.status);
    let region = Some(field("Region")).filter(|region| !region.is_empty()).or_else(|| refused.region.clone());
    let other_region = region.filter(|region| region != refused.given_region);
    let lower = message.to_ascii_lowercase();
    let is_skewed = refused.skew_s.is_some_and(|skew| skew.unsigned_abs() >= SKEW_MAX_S);
    // A signed address that was made too early or too late is only "denied".
    let is_of_time = lower.contains("request has expired") || lower.contains("not yet valid");
    match (code.as_str(), refused.status) {
        ("RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture", _) => {
            StorageError::Clock { place, skew_s: refused.skew_s }
        }
        (_, 400 | 401 | 403) if is_skewed || is_of_time => StorageError::Clock { place, skew_s: refused.skew_s },
        ("NoSuchBucket", _) => StorageError::BucketMissing { place },
        ("PermanentRedirect" | "TemporaryRedirect" | "IllegalLocationConstraintException", _) | ("", 301 | 307) => {
            StorageError::Region { place, given: refused.given_region.to_owned(), right: other_region }
        }
        (_, 400 | 403) if other_region.is_some() || (code.contains("Authorization") && lower.contains("region")) => {
            StorageError::Region { place, given: refused.given_region.to_owned(), right: other_region }
        }
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken" | "InvalidSecurity", _)
        | (_, 401) => StorageError::Login { place, detail },
        ("NoSuchKey" | "NoSuchVersion", _) | ("", 404) => {
            let name = what.split_once(' ').map_or(what.clone(), |(_, name)| name.to_owned());
            StorageError::NotFound { place, name }
        }
        ("XMinioStorageFull" | "QuotaExceeded" | "StorageQuotaExceeded", _) | (_, 507) => {
            StorageError::Full { place, detail }
        }
        ("SlowDown" | "ServiceUnavailable" | "RequestLimitExceeded" | "TooManyRequests", _) | (_, 429 | 503) => {
            StorageError::Busy { place, detail }
        }
        ("NotImplemented", _) | (_, 501) => StorageError::Unsupported { place, what },
        ("AccessDenied" | "AllAccessDisabled" | "AccountProblem", _) | (_, 403) => {
            StorageError::Denied { place, what, detail }
        }
        _ => StorageError::Unexpected { place, what, detail },
    }
}

/// `AccessDenied: it says why`; what a server says is cut, and in one line.
pub(super) fn detail(code: &str, message: &str, status: u16) -> String {
    let whole = match (code, message) {
        ("", _) => format!("status {status}"),
        (code, "") => code.to_owned(),
        (code, message) => format!("{code}: {message}"),
    };
    let line: String = whole.chars().map(|c| if c.is_control() { ' ' } else { c }).take(QUOTED_CHARS_MAX).collect();
    line.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, codes};

    fn code(status: u16, body: &str, skew_s: i64) -> Code {
        let place = "https://s3.example/b";
        let what = "read config";
        let (body, region, given_region, skew_s) = (body.as_bytes(), None, "us-east-1", Some(skew_s));
        let error = refusal(&Refused { place, what, status, body, region, given_region, skew_s });
        assert!(error.trouble().message.contains(place));
        error.code()
    }

    #[test]
    fn each_code_of_s3_is_told_as_what_it_means() {
        let body = |code: &str, more: &str| format!("<Error><Code>{code}</Code><Message>m</Message>{more}</Error>");
        for (status, code_there, more, wanted) in [
            (403, "AccessDenied", "", codes::STORAGE_DENIED),
            (403, "InvalidAccessKeyId", "", codes::UNAUTHORIZED),
            (403, "SignatureDoesNotMatch", "", codes::UNAUTHORIZED),
            (404, "NoSuchBucket", "", codes::BUCKET_MISSING),
            (404, "NoSuchKey", "", codes::NOT_FOUND),
            (403, "RequestTimeTooSkewed", "", codes::CLOCK_SKEWED),
            (301, "PermanentRedirect", "<Region>eu-west-1</Region>", codes::WRONG_REGION),
            (400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>", codes::WRONG_REGION),
            (400, "AuthorizationQueryParametersError", "<Region>eu-west-1</Region>", codes::WRONG_REGION),
            (503, "SlowDown", "", codes::STORAGE_BUSY),
            (501, "NotImplemented", "", codes::STORAGE_UNSUPPORTED),
            (507, "XMinioStorageFull", "", codes::DISK_FULL),
            (500, "InternalError", "", codes::UNEXPECTED_ANSWER),
        ] {
            assert_eq!(code(status, &body(code_there, more), 3), wanted, "{code_there}");
        }
        let late = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
        assert_eq!(code(403, late, 0), codes::CLOCK_SKEWED);
        assert_eq!(code(403, &body("AccessDenied", ""), -1200), codes::CLOCK_SKEWED);
        assert_eq!(code(503, "<html>", 0), codes::STORAGE_BUSY);
        assert_eq!(code(403, "", 0), codes::STORAGE_DENIED);
        assert_eq!(code(404, "", 0), codes::NOT_FOUND);
        assert_eq!(code(200, "<html>", 0), codes::UNEXPECTED_ANSWER);
    }
}
