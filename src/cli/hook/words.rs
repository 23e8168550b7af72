//! What a push is told, as lines. Pure; Git shows each with `remote:` before it.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::cli::socket::SocketError;
use crate::config::model::Config;
use crate::error::Trouble;
use crate::runner::control::{ReconcileResult, Reconciled};
use crate::store::record::Applied;
use crate::types::{Name, Revision, show_duration};

/// Most findings that are printed; the rest is counted.
const FINDINGS_MAX: usize = 20;
/// Most names that are printed in one line.
const NAMES_MAX: usize = 12;

/// What came of checking the pushed config.
#[derive(Clone, Debug, Default)]
pub(super) struct Checked {
    /// None when there are errors.
    pub(super) config: Option<Config>,
    /// Errors first, each rendered with its place; several lines each.
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
    pub(super) files: usize,
    pub(super) files_with_errors: usize,
}

/// The push is refused because of its content.
pub(super) fn rejection(
    revision: &Revision,
    checked: &Checked,
    active: Option<&Applied>,
    zone: &TimeZone,
) -> Vec<String> {
    let mut lines = vec![format!(
        "✗ rejected {}: {} in {} of {}",
        revision.short(),
        count(checked.errors.len(), "error"),
        checked.files_with_errors,
        count(checked.files, "file"),
    )];
    lines.extend(findings(&checked.errors));
    lines.extend(findings(&checked.warnings));
    lines.extend(active.map(|active| still_active(active, zone)));
    lines
}

/// Warnings of a config that is accepted.
pub(super) fn warnings(checked: &Checked) -> Vec<String> {
    findings(&checked.warnings)
}

fn findings(rendered: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = rendered
        .iter()
        .take(FINDINGS_MAX)
        .flat_map(|finding| finding.lines().map(|line| format!("  {line}")))
        .collect();
    if rendered.len() > FINDINGS_MAX {
        lines.push(format!("  and {} more; `larder check` shows all", rendered.len() - FINDINGS_MAX));
    }
    lines
}

fn still_active(active: &Applied, zone: &TimeZone) -> String {
    let at = active.at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M");
    format!("  still active: {} (applied {at}), backups are unaffected", active.revision.short())
}

/// The push is refused for another reason.
pub(super) fn refusal(trouble: &Trouble) -> Vec<String> {
    let mut lines: Vec<String> = vec![format!("✗ refused: {}", trouble.message)];
    lines.extend(trouble.hint.iter().map(|hint| format!("  hint: {hint}")));
    lines
}

/// What a config contains, when there is nobody to compare it with.
pub(super) fn contents(config: &Config) -> Vec<String> {
    let mut lines = vec!["this config has:".to_owned()];
    let mut list = |what: &str, names: Vec<&Name>| {
        let shown: Vec<&str> = names.iter().take(NAMES_MAX).map(|name| name.as_str()).collect();
        let more = names.len().saturating_sub(NAMES_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        if !names.is_empty() {
            lines.push(format!("  {}: {}{more}", count(names.len(), what), shown.join(", ")));
        }
    };
    list("destination", config.destinations.keys().collect());
    list("target", config.targets.keys().collect());
    for policy in config.policies.values() {
        let jobs = config.jobs().filter(|(id, _, _)| id.policy == policy.name).count();
        lines.push(format!(
            "  policy {}: `{}` ({}) for {}",
            policy.name,
            policy.schedule.expression,
            policy.schedule.timezone,
            count(jobs, "job")
        ));
    }
    lines
}

/// What the daemon made of an accepted push.
pub(super) fn verdict(revision: &Revision, verdict: &Reconciled) -> Vec<String> {
    let short = verdict.revision.as_ref().unwrap_or(revision).short();
    let first = match verdict.result {
        ReconcileResult::Applied => format!("✓ {short} applied in {}", show_duration(milliseconds(verdict.took_us))),
        ReconcileResult::Unchanged => format!("✓ {short} changes nothing"),
        ReconcileResult::Rejected => format!("✗ {short} rejected by the daemon; the config before it stays active"),
        ReconcileResult::Failed => {
            format!("✗ {short} is stored, but the daemon could not take it in; the config before it stays active")
        }
        ReconcileResult::Held => format!("! {short} is held until it is confirmed; the config before it stays active"),
    };
    let mut lines = match verdict.lines.as_slice() {
        [] => vec![first],
        [only] if verdict.result == ReconcileResult::Applied => vec![format!("{first}: {only}")],
        several => std::iter::once(first).chain(several.iter().map(|line| format!("  {line}"))).collect(),
    };
    if verdict.result == ReconcileResult::Held {
        lines.push("  hint: to apply it: git commit --allow-empty -m \"Confirm\" && git push -o confirm".to_owned());
    }
    lines
}

/// The daemon answered about another revision, which is none that comes after the pushed one.
pub(super) fn elsewhere(pushed: &Revision, seen: &Revision) -> Vec<String> {
    vec![
        format!("! {} is stored, but the daemon looks at {}, so this push changes nothing", pushed.short(), seen.short()),
        "  hint: it watches another branch or repository: compare `--repo` and `--branch` of `larder serve` with this one"
            .to_owned(),
    ]
}

/// Branches were pushed that nobody watches.
pub(super) fn unwatched(branches: &[&str], watched: &str, is_there: bool) -> Vec<String> {
    let shown = branches.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
    let more = branches.len().saturating_sub(NAMES_MAX);
    let shown = if more > 0 { format!("{shown} and {more} more") } else { shown };
    let (verb, first) = (if branches.len() == 1 { "is" } else { "are" }, branches.first().copied().unwrap_or("HEAD"));
    let mut lines = vec![format!("! {shown} {verb} stored, but Larder watches {watched}: this push changes nothing")];
    if !is_there {
        lines.push(format!("  nothing is pushed to {watched} yet"));
    }
    lines.push(format!("  hint: git push origin {first}:{watched}"));
    lines
}

/// The daemon could not be asked about an accepted push.
pub(super) fn unanswered(error: &SocketError) -> Vec<String> {
    let (first, trouble) = match error {
        SocketError::NotRunning(_) => return vec!["stored; it takes effect when the daemon starts".to_owned()],
        SocketError::StateMissing(trouble) => (format!("stored, but {}", trouble.message), trouble),
        // The daemon sees the branch move by itself.
        SocketError::NotReachable(trouble) | SocketError::Refused(trouble) => {
            (format!("stored; the daemon takes it from here ({})", trouble.message), trouble)
        }
    };
    std::iter::once(first).chain(trouble.hint.iter().map(|hint| format!("  hint: {hint}"))).collect()
}

fn milliseconds(took_us: u64) -> Duration {
    // `show_duration` knows whole milliseconds below a second.
    Duration::from_millis(took_us.div_ceil(1000))
}

fn count(number: usize, what: &str) -> String {
    match (number, what) {
        (1, _) => format!("1 {what}"),
        (_, "policy") => format!("{number} policies"),
        _ => format!("{number} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::codes;

    fn revision(digit: char) -> Revision {
        Revision::parse(&digit.to_string().repeat(40)).unwrap()
    }

    fn said(result: ReconcileResult, lines: &[&str]) -> Vec<String> {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        verdict(&revision('a'), &Reconciled { revision: Some(revision('b')), result, lines, took_us: 8_300 })
    }

    #[test]
    fn a_rejection_counts_its_errors_and_says_that_backups_go_on() {
        let checked = Checked {
            errors: vec!["error: unknown field\n --> a.yaml:1:2".to_owned(), "error: other".to_owned()],
            files: 14,
            files_with_errors: 1,
            ..Checked::default()
        };
        let active = Applied { revision: revision('c'), at: "2026-11-20T03:02:00Z".parse().unwrap(), took_us: 1 };
        assert_eq!(
            rejection(&revision('d'), &checked, Some(&active), &TimeZone::UTC),
            [
                "✗ rejected ddddddd: 2 errors in 1 of 14 files",
                "  error: unknown field",
                "   --> a.yaml:1:2",
                "  error: other",
                "  still active: ccccccc (applied 2026-11-20 03:02), backups are unaffected",
            ]
        );
    }

    #[test]
    fn a_thousand_errors_are_counted_and_not_all_printed() {
        let checked = Checked { errors: vec!["error".to_owned(); 1000], ..Checked::default() };
        let lines = rejection(&revision('d'), &checked, None, &TimeZone::UTC);
        assert_eq!(lines.len(), 22);
        assert_eq!(lines.last().unwrap(), "  and 980 more; `larder check` shows all");
    }

    #[test]
    fn every_verdict_has_its_words() {
        assert_eq!(said(ReconcileResult::Applied, &["+ photos"]), ["✓ bbbbbbb applied in 9ms: + photos"]);
        assert_eq!(said(ReconcileResult::Applied, &["+ a", "- b"]), ["✓ bbbbbbb applied in 9ms", "  + a", "  - b"]);
        assert_eq!(said(ReconcileResult::Unchanged, &[]), ["✓ bbbbbbb changes nothing"]);
        let rejected = said(ReconcileResult::Rejected, &["a.yaml:1:1  bad"]);
        assert_eq!(rejected[1], "  a.yaml:1:1  bad");
        assert!(rejected[0].contains("stays active"));
        assert!(said(ReconcileResult::Held, &["it removes 3 of 4 targets"])[2].contains("git push -o confirm"));
    }

    #[test]
    fn a_push_that_reaches_nobody_is_never_a_success_without_a_word() {
        let failed = said(ReconcileResult::Failed, &["it may not be read", "hint: chmod"]);
        assert!(failed[0].contains("could not take it in") && !failed[0].contains('✓'), "{failed:?}");
        assert_eq!(failed[1], "  it may not be read");
        let lines = unwatched(&["master"], "main", false);
        assert_eq!(
            lines,
            [
                "! master is stored, but Larder watches main: this push changes nothing",
                "  nothing is pushed to main yet",
                "  hint: git push origin master:main",
            ]
        );
        assert_eq!(unwatched(&["a", "b"], "main", true).len(), 2);
        assert!(elsewhere(&revision('a'), &revision('b'))[0].contains("looks at bbbbbbb"));
    }

    #[test]
    fn a_daemon_that_is_down_is_no_failure() {
        let down = Trouble::new(codes::DAEMON_NOT_RUNNING, "no daemon answers");
        assert_eq!(unanswered(&SocketError::NotRunning(down)), ["stored; it takes effect when the daemon starts"]);
        let slow = Trouble::new(codes::DAEMON_SLOW, "no answer").with_hint("look at the log");
        assert_eq!(
            unanswered(&SocketError::NotReachable(slow)),
            ["stored; the daemon takes it from here (no answer)", "  hint: look at the log"]
        );
    }

    #[test]
    fn an_empty_config_lists_no_names() {
        assert_eq!(contents(&Config::default()), ["this config has:"]);
    }
}
