//! The download of the lists after a restore, and whether something is blocked behind it.
//!
//! A Pi-hole answers 200 before the work begins, prints what it does, and says at the end of the stream, or behind it,
//! that it failed. Until it succeeded the imported lists block nothing. So the stream is read to its end and judged, the
//! connection is not used again, and the domains are counted.

use serde_json::Value;

use crate::error::{Trouble, codes};
use crate::plugin::apps::pihole::api::{self, Session};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::tidy::tidy;
use crate::plugin::protocol::Verdict;
use crate::web::Web;

/// Most that is read of what it prints.
const OUTPUT_BYTES_MAX: u64 = 64 << 20;
/// An error stands at the end of the output.
const TAIL_BYTES: usize = 16 << 10;
/// What it prints before a step that failed.
const CROSS: char = '✗';
const HINT: &str = "run `pihole -g` on the Pi-hole and read what it says: until it succeeds, the lists block nothing";

/// How many domains are blocked by lists; none where the Pi-hole does not tell (it counts, or knows no such place).
pub(super) fn blocked(session: &Session<'_>) -> Option<u64> {
    let answer = session.get("/api/stats/summary").send().ok().filter(|answer| answer.status() == 200)?;
    // A negative number means that it is counting or cannot.
    answer.json::<Value>().ok()?.pointer("/gravity/domains_being_blocked")?.as_u64()
}

/// The error that an answer of 200 carries.
pub(super) fn error_in(told: &Value) -> Option<String> {
    let error = told.get("error").filter(|error| !error.is_null())?;
    let text = |name: &str| error.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let shown = match (text("message").or_else(|| text("key")), text("hint")) {
        (Some(message), Some(hint)) => format!("{message} ({hint})"),
        (Some(message), None) => message.to_owned(),
        _ => error.to_string(),
    };
    Some(tidy(&shown, 300))
}

/// Downloads the lists and says whether they block as before. `lists` is how many there are in the backup,
/// `before` how many domains were blocked before the restore.
pub(super) fn update(session: &Session<'_>, web: &Web, lists: u64, before: Option<u64>, events: &mut EventWriter<'_>) {
    const NAME: &str = "the lists are downloaded and block";
    let printed = session.post("/api/action/gravity").alone().send().map_err(Failure::from).and_then(|answer| {
        if answer.status() == 200 { Ok(answer.bytes(OUTPUT_BYTES_MAX)?) } else { Err(api::explain(answer, web)) }
    });
    let mut why = match printed {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            for line in text.lines().filter(|line| line.contains(CROSS)) {
                events.log(format!("gravity: {}", tidy(line.trim(), 300)));
            }
            error_at_the_end(&text)
        }
        Err(failure) => Some(failure.trouble.message),
    };
    let after = blocked(session);
    if after == Some(0) && lists > 0 && why.is_none() {
        why = Some(format!("no domain is blocked, with {lists} lists"));
    }
    if let Some(why) = why {
        events.warning(
            Trouble::new(codes::LISTS_NOT_UPDATED, format!("the lists could not be downloaded: {why}")).with_hint(HINT),
        );
        events.validation(NAME, Verdict::Failed, why);
        return;
    }
    let shown = before.map_or("unknown".to_owned(), |before| before.to_string());
    match after {
        None => {
            events.validation(NAME, Verdict::CouldNotVerify, "the Pi-hole does not tell how many domains it blocks");
        }
        // Lists change from day to day, but not to a half.
        Some(after) if before.is_some_and(|before| after < before / 2) => {
            let detail = format!("{after} domains are blocked, before the restore {shown}: {HINT}");
            events.validation(NAME, Verdict::CouldNotVerify, detail);
        }
        Some(after) => {
            let detail = format!("{after} domains are blocked, before the restore {shown}");
            events.validation(NAME, Verdict::Proven, detail);
        }
    }
}

/// The error object that stands in the last part of the output.
fn error_at_the_end(text: &str) -> Option<String> {
    let mut start = text.len().saturating_sub(TAIL_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let tail = text.get(start..).unwrap_or_default();
    tail.match_indices('{').find_map(|(at, _)| {
        let objects = serde_json::Deserializer::from_str(tail.get(at..)?).into_iter::<Value>();
        objects.map_while(Result::ok).find_map(|told| error_in(&told))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_behind_the_output_is_found_and_a_brace_in_it_is_none() {
        let failed = "  [i] Target: x\n  [✗] {odd\n{\"error\":{\"key\":\"internal_error\",\"message\":\"Gravity failed\",\"hint\":null},\"took\":1.2}";
        assert_eq!(error_at_the_end(failed).as_deref(), Some("Gravity failed"));
        let spaced = "{ \"took\": 1 }\n{ \"error\" : { \"message\": \"m\", \"hint\": \"h\" } }\n";
        assert_eq!(error_at_the_end(spaced).as_deref(), Some("m (h)"));
        for good in ["", "  [✓] Done {1 of 2}\n", "{\"error\":null}", "{\"took\":0.1}"] {
            assert_eq!(error_at_the_end(good), None, "{good}");
        }
        let long = format!("{}{failed}", "é{".repeat(20_000));
        assert_eq!(error_at_the_end(&long).as_deref(), Some("Gravity failed"));
    }
}
