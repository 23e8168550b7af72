//! The view as Prometheus text. A fresh registry for each scrape, so the series of what is gone are gone too.

mod statistics;

use jiff::Timestamp;
use prometheus::process_collector::ProcessCollector;
use prometheus::{CounterVec, GaugeVec, Opts, Registry, TextEncoder};

use crate::status::{CopyView, Health, JobState, JobView, View};

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const JOB: &[&str] = &["target", "policy"];
const DESTINATION: &[&str] = &["destination"];

/// Says that the metrics could not be written, which only a mistake in their names can cause.
#[derive(Debug, thiserror::Error)]
#[error("writing the metrics")]
pub struct MetricsError(#[from] prometheus::Error);

/// Writes the metrics of `view` and of this process.
///
/// # Errors
/// When two metrics clash.
pub fn render(view: &View) -> Result<String, MetricsError> {
    let page = Page { registry: Registry::new() };
    page.site(view)?;
    page.jobs(view)?;
    page.destinations(view)?;
    page.statistics(view)?;
    page.registry.register(Box::new(ProcessCollector::for_self()))?;
    Ok(TextEncoder::new().encode_to_string(&page.registry.gather())?)
}

struct Page {
    registry: Registry,
}

/// Label values and the number.
type Row<'a> = (Vec<&'a str>, f64);

impl Page {
    fn site(&self, view: &View) -> Result<(), MetricsError> {
        let one = |value: f64| vec![(vec![], value)];
        self.gauge(
            "larder_build_info",
            "The program's version; always 1.",
            &["version"],
            vec![(vec![view.larder.as_str()], 1.0)],
        )?;
        let applied = view.config.revision.iter().map(|revision| (vec![revision.as_str()], 1.0)).collect();
        self.gauge("larder_config_applied_info", "The revision in force; always 1.", &["revision"], applied)?;
        let applied_at = view.config.applied_at.map(|at| (vec![], seconds(at))).into_iter().collect();
        self.gauge("larder_config_applied_timestamp_seconds", "When it was applied.", &[], applied_at)?;
        let rejected = flag(view.config.rejected.is_some());
        self.gauge("larder_config_rejected", "1 while a newer revision is refused.", &[], one(rejected))?;
        let held = flag(view.config.held.is_some());
        self.gauge("larder_config_held", "1 while a newer revision waits for a confirmation.", &[], one(held))?;
        let readable = one(flag(view.config.unreadable.is_none()));
        self.gauge("larder_config_readable", "0 while the watched repository cannot be read.", &[], readable)?;
        let state = one(flag(view.state.is_none()));
        self.gauge(
            "larder_state_ok",
            "0 while the daemon's state directory is lost or cannot be written.",
            &[],
            state,
        )?;
        let loss = view.attention.iter().any(|each| each.kind == "loss");
        self.gauge("larder_state_lost", "1 while a loss of the state store is not accepted.", &[], one(flag(loss)))?;
        let undo = one(number(view.attention.iter().filter(|each| each.kind == "undo").count() as u64));
        self.gauge(
            "larder_not_put_back",
            "Changes of runs and restores to applications that are not put back.",
            &[],
            undo,
        )?;
        let total = one(number(view.config.rejected_total));
        self.counter("larder_config_rejected_total", "Revisions refused so far.", &[], total)?;
        self.gauge("larder_runs_in_progress", "Runs queued or in progress.", &[], one(number(view.counts.running)))?;
        let off = one(number(view.counts.switched_off));
        self.gauge("larder_targets_switched_off", "Targets with enabled: false.", &[], off)?;
        self.gauge("larder_mails_waiting", "Mails in the outbox.", &[], one(number(view.mail.waiting)))?;
        let discovery = view.discovery.iter();
        let up = discovery.clone().filter(|each| each.at.is_some()).map(|each| (vec![], flag(each.known))).collect();
        self.gauge("larder_discovery_up", "0 while the container engine does not answer.", &[], up)?;
        // Unknown is not zero: there is no sample then.
        let uncovered = discovery
            .filter(|each| each.known)
            .map(|each| (vec![], number(each.uncovered.len() as u64 + each.uncovered_omitted)))
            .collect();
        self.gauge("larder_uncovered", "Projects, containers and volumes that no target covers.", &[], uncovered)?;
        let proven = one(flag(view.verdict.health == Health::Proven));
        self.gauge("larder_everything_proven", "1 only while the sentence on top of the page is green.", &[], proven)
    }

    fn jobs(&self, view: &View) -> Result<(), MetricsError> {
        let all = || view.targets.iter().flat_map(|target| &target.jobs);
        let each = |value: &dyn Fn(&JobView) -> Option<f64>| -> Vec<Row<'_>> {
            all().filter_map(|job| Some((vec![job.target.as_str(), job.policy.as_str()], value(job)?))).collect()
        };
        let wanted = |job: &JobView, value: f64| (job.state != JobState::Orphaned).then_some(value);
        let success = each(&|job| Some(number(job.success_total)));
        self.counter("larder_job_success_total", "Runs of the job that succeeded.", JOB, success)?;
        let failure = each(&|job| Some(number(job.failure_total)));
        self.counter("larder_job_failure_total", "Runs of the job that failed.", JOB, failure)?;
        let last_run = each(&|job| job.last_run.as_ref().map(|run| seconds(run.finished)));
        self.gauge("larder_job_last_run_timestamp_seconds", "When the newest run finished.", JOB, last_run)?;
        let last_success = each(&|job| job.last_success.as_ref().map(|run| seconds(run.finished)));
        self.gauge(
            "larder_job_last_success_timestamp_seconds",
            "When the newest success finished.",
            JOB,
            last_success,
        )?;
        let next_run = each(&|job| job.next_run.map(seconds));
        self.gauge("larder_job_next_run_timestamp_seconds", "When the next run is due.", JOB, next_run)?;
        let max_age = each(&|job| job.max_age_seconds.map(number));
        self.gauge("larder_job_max_age_seconds", "How old the newest success may be.", JOB, max_age)?;
        let failing = each(&|job| wanted(job, f64::from(job.failing)));
        self.gauge("larder_job_failing_runs", "Failures in a row since the last success.", JOB, failing)?;
        let overdue = each(&|job| wanted(job, flag(job.state == JobState::Overdue)));
        self.gauge("larder_job_overdue", "1 while the job is overdue or missed its time.", JOB, overdue)?;
        let suspended = each(&|job| wanted(job, flag(job.suspended.is_some())));
        self.gauge("larder_job_suspended", "1 while an operator suspended the job.", JOB, suspended)?;
        let orphaned = each(&|job| Some(flag(job.state == JobState::Orphaned)));
        self.gauge("larder_job_orphaned", "1 when the job left the config; its backups stay.", JOB, orphaned)?;
        let held = each(&|job| wanted(job, flag(!job.holds.is_empty())));
        self.gauge(
            "larder_job_held",
            "1 while something keeps the job's old backups until it is accepted.",
            JOB,
            held,
        )?;
        let since = each(&|job| job.holds.iter().map(|hold| hold.since).min().map(seconds));
        self.gauge("larder_job_held_since_timestamp_seconds", "When the oldest hold began.", JOB, since)?;
        let duration = each(&|job| job.last_run.as_ref().map(|run| number(run.duration_ms) / 1000.0));
        self.gauge("larder_run_duration_seconds", "How long the newest run took.", JOB, duration)?;
        let bytes = each(&|job| job.last_success.as_ref().map(|run| number(run.bytes)));
        self.gauge("larder_job_protected_bytes", "Size of what the newest success protects.", JOB, bytes)
    }

    fn destinations(&self, view: &View) -> Result<(), MetricsError> {
        let each = |value: &dyn Fn(&crate::status::DestinationView) -> Option<f64>| -> Vec<Row<'_>> {
            let desired = view.destinations.iter().filter(|destination| destination.desired);
            desired.filter_map(|d| Some((vec![d.name.as_str()], value(d)?))).collect()
        };
        // Not used yet is neither up nor down.
        let up = each(&|d| match (&d.problem, d.last_used) {
            (Some(_), _) => Some(0.0),
            (None, Some(_)) => Some(1.0),
            (None, None) => None,
        });
        self.gauge("larder_destination_up", "0 while the newest thing tried there failed.", DESTINATION, up)?;
        let missing = each(&|d| Some(number(d.missing_snapshots)));
        self.gauge(
            "larder_destination_missing_snapshots",
            "Snapshots that vanished from it without Larder forgetting them.",
            DESTINATION,
            missing,
        )?;
        let age = |d: &crate::status::DestinationView| d.lock.as_ref().map_or(0, |lock| lock.age_s(view.generated));
        let lock = each(&|d| d.locks_known.then(|| number(age(d))));
        self.gauge(
            "larder_destination_lock_age_seconds",
            "Time since the oldest lock of somebody else was refreshed, as last seen; 0 without one.",
            DESTINATION,
            lock,
        )?;
        let used = each(&|d| d.last_used.map(seconds));
        self.gauge("larder_destination_last_used_timestamp_seconds", "When it was last used.", DESTINATION, used)?;
        let prune = each(&|d| d.prune.as_ref().and_then(|u| u.last_success).map(seconds));
        self.gauge(
            "larder_destination_last_prune_timestamp_seconds",
            "When the newest prune succeeded.",
            DESTINATION,
            prune,
        )?;
        let check = each(&|d| d.check.as_ref().and_then(|u| u.last_success).map(seconds));
        self.gauge(
            "larder_destination_last_check_timestamp_seconds",
            "When the newest check succeeded.",
            DESTINATION,
            check,
        )?;
        let until = each(&|d| d.immutable.as_ref().and_then(|seen| seen.until).map(seconds));
        self.gauge(
            "larder_destination_immutable_until_timestamp_seconds",
            "Before then nobody can remove what was there at the newest look; no sample where something is open.",
            DESTINATION,
            until,
        )?;
        let looked = each(&|d| d.immutable.as_ref().map(|seen| seconds(seen.at)));
        self.gauge(
            "larder_destination_locks_looked_at_timestamp_seconds",
            "Of when the newest look at the locks speaks.",
            DESTINATION,
            looked,
        )?;
        self.copies(view)?;
        let failed = |upkeep: Option<&crate::status::UpkeepView>| upkeep.map(|u| flag(u.health == Health::Failed));
        let prune = each(&|d| failed(d.prune.as_ref()));
        self.gauge("larder_destination_prune_failed", "1 when the newest prune failed.", DESTINATION, prune)?;
        let check = each(&|d| failed(d.check.as_ref()));
        self.gauge("larder_destination_check_failed", "1 when the newest check failed.", DESTINATION, check)?;
        let forget = each(&|d| failed(d.forget.as_ref()));
        self.gauge("larder_destination_forget_failed", "1 when the newest forget failed.", DESTINATION, forget)?;
        let locks = each(&|d| failed(d.locks.as_ref()));
        self.gauge(
            "larder_destination_extend_locks_failed",
            "1 when the newest look at the locks found something open, or failed.",
            DESTINATION,
            locks,
        )
    }

    fn copies(&self, view: &View) -> Result<(), MetricsError> {
        let each = |value: &dyn Fn(&CopyView) -> Option<f64>| -> Vec<Row<'_>> {
            let desired = view.destinations.iter().filter(|destination| destination.desired);
            desired.filter_map(|d| Some((vec![d.name.as_str()], value(d.copy.as_ref()?)?))).collect()
        };
        let missing = each(&|copy| Some(number(copy.missing)));
        self.gauge(
            "larder_destination_copy_missing_snapshots",
            "Snapshots that the copy lacks of the destination that it is copied from.",
            DESTINATION,
            missing,
        )?;
        let age = |oldest: Timestamp| view.generated.duration_since(oldest).as_secs().max(0).unsigned_abs();
        let lag = each(&|copy| Some(number(copy.oldest_missing.map_or(0, age))));
        self.gauge(
            "larder_destination_copy_lag_seconds",
            "How old the oldest snapshot is that the copy lacks; 0 where it lacks none.",
            DESTINATION,
            lag,
        )?;
        let whole = each(&|copy| copy.upkeep.last_success.map(seconds));
        self.gauge(
            "larder_destination_copy_last_success_timestamp_seconds",
            "Of when the newest copy speaks behind which nothing was missing.",
            DESTINATION,
            whole,
        )?;
        let failed = each(&|copy| Some(flag(copy.upkeep.health == Health::Failed)));
        self.gauge(
            "larder_destination_copy_failed",
            "1 when the newest copy failed, or is overdue.",
            DESTINATION,
            failed,
        )
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str], rows: Vec<Row<'_>>) -> Result<(), MetricsError> {
        let family = GaugeVec::new(Opts::new(name, help), labels)?;
        for (values, value) in rows {
            family.get_metric_with_label_values(&values)?.set(value);
        }
        Ok(self.registry.register(Box::new(family))?)
    }

    fn counter(&self, name: &str, help: &str, labels: &[&str], rows: Vec<Row<'_>>) -> Result<(), MetricsError> {
        let family = CounterVec::new(Opts::new(name, help), labels)?;
        for (values, value) in rows {
            family.get_metric_with_label_values(&values)?.inc_by(value);
        }
        Ok(self.registry.register(Box::new(family))?)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a sample is a float")]
fn number(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this age fit a float")]
fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::error::codes;
    use crate::runner::live::Discovery;
    use crate::status::sample::{discovering, healthy, inventory, now, troubled};

    fn text(reading: &crate::status::read::Reading) -> String {
        render(&View::build(reading, now())).unwrap()
    }

    #[test]
    fn a_job_says_when_it_last_succeeded_and_when_it_runs_next() {
        let text = text(&troubled());
        for line in [
            r#"larder_job_success_total{policy="daily",target="gitea"} 212"#,
            r#"larder_job_failure_total{policy="daily",target="gitea"} 3"#,
            r#"larder_job_last_success_timestamp_seconds{policy="daily",target="gitea"} 1795312800"#,
            r#"larder_job_max_age_seconds{policy="daily",target="gitea"} 93600"#,
            r#"larder_job_overdue{policy="daily",target="pfsense"} 1"#,
            r#"larder_job_failing_runs{policy="daily",target="paperless-db"} 3"#,
            r#"larder_run_duration_seconds{policy="daily",target="gitea"} 83"#,
            r#"larder_destination_up{destination="nas"} 1"#,
            r#"larder_destination_up{destination="usb"} 0"#,
            "larder_everything_proven 0",
            r#"larder_destination_stored_bytes{destination="nas"} 500000000000"#,
            r#"larder_destination_dedup_saved_bytes{destination="nas"} 2200000000000"#,
            r#"larder_destination_growth_bytes_per_day{destination="nas"} 1000000000"#,
            r#"larder_destination_cost_monthly{currency="USD",destination="nas"} 3.5"#,
            r#"larder_destination_cost_monthly_expected{currency="USD",destination="nas"} 4.13"#,
            r#"larder_destination_statistics_failed{destination="usb"} 1"#,
            r#"larder_target_stored_bytes{destination="nas",target="gitea"} 600000000"#,
            "larder_runs_in_progress 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains(r#"larder_job_last_success_timestamp_seconds{policy="daily",target="new-one"}"#));
        assert!(!text.contains("larder_target_growth_bytes_per_day{"), "three daily figures are too few");
        assert!(text.contains("process_resident_memory_bytes"));
    }

    #[test]
    fn the_series_of_a_job_that_vanished_disappear() {
        let mut reading = healthy(&[("a", "files"), ("b", "files")]);
        assert!(text(&reading).contains(r#"target="a""#));
        reading.jobs.remove(0);
        reading.desired.targets.remove("a");
        assert!(!text(&reading).contains(r#"target="a""#));
    }

    #[test]
    fn what_is_uncovered_is_counted_and_unknown_is_no_sample() {
        let known = text(&discovering(inventory(&["shop"])));
        assert!(known.contains("larder_uncovered 1\n") && known.contains("larder_discovery_up 1\n"), "{known}");
        let trouble = crate::error::Trouble::new(codes::ENGINE_UNREACHABLE, "it is off");
        let unknown = text(&discovering(Discovery::Unknown { trouble, at: now() }));
        assert!(!unknown.contains("larder_uncovered ") && unknown.contains("larder_discovery_up 0\n"), "{unknown}");
        assert!(!text(&healthy(&[("a", "files")])).contains("larder_uncovered "));
    }

    /// Where Prometheus is installed, its own linter has the last word.
    #[test]
    fn promtool_finds_nothing_to_lint() {
        let child = std::process::Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn();
        let Ok(mut child) = child else { return };
        child.stdin.take().unwrap().write_all(text(&troubled()).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}
