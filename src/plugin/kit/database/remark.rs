//! What a dump lacks, said once for all databases of a server.

use crate::error::{Code, Trouble};
use crate::plugin::kit::events::EventWriter;

/// Names in a remark.
const NAMES_MAX: usize = 5;

/// One thing that is to be said of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remark {
    pub(crate) code: Code,
    /// The sentence; the names follow behind a colon.
    pub(crate) sentence: &'static str,
    pub(crate) name: String,
    /// The next step.
    pub(crate) hint: String,
    /// Something is missing; else it is left out by design, or accepted.
    pub(crate) is_missing: bool,
}

/// Says remarks of one kind and with one next step as one.
pub(crate) fn tell(mut remarks: Vec<Remark>, events: &mut EventWriter<'_>) {
    while let Some(first) = remarks.first().cloned() {
        let alike = |other: &Remark| (other.code, other.sentence) == (first.code, first.sentence);
        let (same, others): (Vec<Remark>, Vec<Remark>) = remarks.into_iter().partition(alike);
        remarks = others;
        let names: Vec<&str> = same.iter().map(|remark| remark.name.as_str()).collect();
        let mut hints: Vec<&str> = same.iter().map(|remark| remark.hint.as_str()).collect();
        hints.dedup();
        hints.truncate(NAMES_MAX);
        let message = format!("{}: {}", first.sentence, listed(&names));
        let trouble = Trouble::new(first.code, message).with_hint(hints.join("; "));
        if same.iter().any(|remark| remark.is_missing) { events.warning(trouble) } else { events.notice(trouble) }
    }
}

/// A few names, and how many more there are.
pub(crate) fn listed(names: &[&str]) -> String {
    let shown = names.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(NAMES_MAX);
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::codes;

    #[test]
    fn what_is_alike_is_said_once_and_what_is_missing_aloud() {
        let remark = |code, name: &str, is_missing| Remark {
            code,
            sentence: "there is no",
            name: name.to_owned(),
            hint: "look".to_owned(),
            is_missing,
        };
        let mut out = Vec::new();
        let all = (0..7)
            .map(|n| remark(codes::USER_MAPPINGS, &n.to_string(), false))
            .chain([remark(codes::SUBSCRIPTIONS, "x", true)])
            .collect();
        tell(all, &mut EventWriter { out: &mut out });
        let lines: Vec<serde_json::Value> =
            String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0]["event"].as_str(), lines[1]["event"].as_str()), (Some("notice"), Some("warning")));
        assert_eq!(lines[0]["message"], "there is no: 0, 1, 2, 3, 4 and 2 more");
        assert_eq!(lines[0]["hint"], "look");
    }
}
