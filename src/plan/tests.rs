//! Plans of whole configs: what changes, what is guarded, that the same in gives the same out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::model::{
    Check, Destination, Hooks, Limits, LocalRepository, OnMissed, Policy, Prune, Repository, Retention, ScheduleSpec,
    Target,
};
use crate::error::codes;
use crate::run::hold::{Hold, HoldKind};
use crate::secret::SecretRef;
use crate::store::Tree;
use crate::store::ledger::Ledger;
use crate::store::memory::MemoryStore;
use crate::store::record::{Retry, RunSummary};
use crate::types::{Outcome, RunId};

mod cuts;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn noon() -> Timestamp {
    at("2026-11-03T12:00:00Z")
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn spec(expression: &str) -> ScheduleSpec {
    ScheduleSpec { expression: expression.to_owned(), timezone: "UTC".to_owned() }
}

pub(super) fn destination(text: &str) -> Destination {
    Destination {
        name: name(text),
        repository: Repository::Local(LocalRepository {
            path: PathBuf::from(format!("/mnt/{text}/restic")),
            require_mount: None,
            create: false,
        }),
        password: SecretRef::Env("REPOSITORY_PASSWORD".to_owned()),
        limits: Limits::default(),
        machine_key: true,
        append_only: false,
        object_lock: None,
        repository_id: None,
        cache: crate::config::model::Cache::Own,
        check: Some(Check { schedule: spec("0 5 * * 0"), read_data: None }),
        prune: Some(Prune { schedule: spec("0 4 * * *") }),
        cost: None,
        copy: None,
    }
}

fn policy(text: &str, expression: &str) -> Policy {
    Policy {
        name: name(text),
        default: true,
        schedule: spec(expression),
        jitter: Duration::from_mins(10),
        retention: Retention { daily: Some(7), weekly: Some(4), ..Retention::default() },
        destinations: vec![name("nas")],
        max_age: Some(Duration::from_hours(26)),
        timeout: Duration::from_hours(2),
        on_missed: OnMissed::Run,
    }
}

fn target(text: &str, policies: &[&str]) -> Target {
    Target {
        name: name(text),
        plugin: name("files"),
        settings: serde_json::json!({"paths": [format!("/srv/{text}")]}),
        policies: policies.iter().map(|policy| name(policy)).collect(),
        enabled: true,
        hooks: Hooks::default(),
        accept: Vec::new(),
        tolerate: crate::config::model::Tolerate::default(),
    }
}

fn config(targets: &[&str]) -> Config {
    let mut config = Config::default();
    config.destinations.insert(name("nas"), destination("nas"));
    config.policies.insert(name("daily"), policy("daily", "0 2 * * *"));
    config.targets = targets.iter().map(|each| (name(each), target(each, &["daily"]))).collect();
    config
}

/// A store with what was applied to it.
struct Site {
    ledger: Ledger,
    config: Config,
    jobs: BTreeMap<JobId, JobRecord>,
    destinations: Vec<DestinationRecord>,
    kept: Vec<Kept>,
}

impl Site {
    fn new() -> Self {
        let ledger = Ledger::new(Arc::new(MemoryStore::new()));
        Self { ledger, config: Config::default(), jobs: BTreeMap::new(), destinations: Vec::new(), kept: Vec::new() }
    }

    /// With `targets` applied at noon and some history in each job.
    fn with(targets: &[&str]) -> Self {
        let mut site = Self::new();
        site.apply(&config(targets), noon());
        let ids: Vec<JobId> = site.jobs.keys().cloned().collect();
        for id in ids {
            site.edit(&id.to_string(), |job| {
                job.success_total = 200;
                job.failure_total = 12;
                job.last_slot = Some(at("2026-11-03T02:00:00Z"));
                job.parents.insert(name("nas"), "abcd".to_owned());
                job.last_success = Some(RunSummary {
                    id: RunId::generate(noon()),
                    outcome: Outcome::Success,
                    finished: at("2026-11-03T02:05:00Z"),
                    duration_ms: 1,
                    bytes: 1,
                    trouble: None,
                });
            });
        }
        site
    }

    fn plan(&self, desired: &Config, now: Timestamp) -> Plan {
        let recorded = Recorded {
            base: None,
            config: &self.config,
            jobs: &self.jobs,
            destinations: &self.destinations,
            kept: &self.kept,
        };
        plan(desired, None, &recorded, now)
    }

    fn apply(&mut self, desired: &Config, now: Timestamp) -> Plan {
        let plan = self.plan(desired, now);
        self.ledger.commit(plan.batch().unwrap()).unwrap();
        self.read();
        plan
    }

    fn read(&mut self) {
        self.config = self.ledger.desired().unwrap();
        self.jobs = self.ledger.jobs().unwrap().into_iter().map(|job| (job.id.clone(), job)).collect();
        self.destinations = self.ledger.destinations().unwrap();
    }

    fn job(&self, id: &str) -> &JobRecord {
        &self.jobs[&id.parse().unwrap()]
    }

    fn edit(&mut self, id: &str, change: impl FnOnce(&mut JobRecord)) {
        let mut job = self.job(id).clone();
        change(&mut job);
        let mut batch = Batch::default();
        batch.put_job(&job).unwrap();
        self.ledger.commit(batch).unwrap();
        self.read();
    }

    fn edit_destination(&mut self, change: impl FnOnce(&mut DestinationRecord)) {
        let mut record = self.destinations[0].clone();
        change(&mut record);
        let mut batch = Batch::default();
        batch.put_destination(&record).unwrap();
        self.ledger.commit(batch).unwrap();
        self.read();
    }
}

fn text(plan: &Plan) -> String {
    plan.lines(noon()).join("\n")
}

#[test]
fn a_first_config_makes_jobs_that_wait_for_their_next_time() {
    let mut site = Site::new();
    let plan = site.apply(&config(&["photos", "db"]), noon());
    assert_eq!(plan.guard, None);
    let job = site.job("photos/daily");
    assert_eq!(job.next_slot, Some(at("2026-11-04T02:00:00Z")));
    assert_eq!(job.next_run, Some(at("2026-11-04T02:06:42Z")));
    assert_eq!(job.schedule_key, "0 2 * * *|UTC|600s");
    assert_eq!(site.destinations[0].prune.next, Some(at("2026-11-04T04:00:00Z")));
    assert_eq!(site.destinations[0].check.next, Some(at("2026-11-08T05:00:00Z")));
    insta::assert_snapshot!(text(&plan), @r###"
    + destination nas (/mnt/nas/restic)
    + policy daily (daily at 02:00, to nas, keep 7 daily 4 weekly)
    + db (files, daily)
    + photos (files, daily)
      next photos/daily Wed 4 Nov 02:06 (in 14h 6m)
      next db/daily Wed 4 Nov 02:08 (in 14h 8m)
    "###);
}

#[test]
fn an_equal_config_gives_no_steps() {
    let site = Site::with(&["photos", "db"]);
    let plan = site.plan(&config(&["photos", "db"]), at("2027-01-01T00:00:00Z"));
    assert_eq!(plan.steps, []);
    assert_eq!(text(&plan), "no changes");
}

#[test]
fn a_next_run_moves_only_when_schedule_zone_or_jitter_change() {
    let site = Site::with(&["photos"]);
    let moved = |change: fn(&mut Policy)| {
        let mut desired = config(&["photos"]);
        change(desired.policies.get_mut("daily").unwrap());
        let plan = site.plan(&desired, noon());
        let jobs: Vec<_> = plan.job_records().cloned().collect();
        (jobs.into_iter().next(), text(&plan))
    };
    for change in [
        (|policy| policy.retention.daily = Some(14)) as fn(&mut Policy),
        |policy| policy.max_age = None,
        |policy| policy.timeout = Duration::from_hours(3),
        |policy| policy.on_missed = OnMissed::Skip,
    ] {
        assert_eq!(moved(change).0, None);
    }
    let (job, lines) = moved(|policy| policy.schedule.expression = "0 3 * * *".to_owned());
    assert_eq!(job.unwrap().next_slot, Some(at("2026-11-04T03:00:00Z")));
    insta::assert_snapshot!(lines, @r###"
    ~ policy daily (schedule daily at 02:00 -> daily at 03:00)
      next photos/daily Wed 4 Nov 02:06 -> 03:06 (in 15h 6m)
    "###);
    let (job, lines) = moved(|policy| policy.schedule.timezone = "Asia/Singapore".to_owned());
    assert_eq!(job.unwrap().next_slot, Some(at("2026-11-03T18:00:00Z")));
    insta::assert_snapshot!(lines, @r###"
    ~ policy daily (timezone UTC -> Asia/Singapore)
      next photos/daily Wed 4 Nov 02:06 -> Tue 3 Nov 18:06 (in 6h 6m)
    "###);
    let (job, _) = moved(|policy| policy.jitter = Duration::ZERO);
    assert_eq!(job.unwrap().next_run, Some(at("2026-11-04T02:00:00Z")));
}

#[test]
fn a_moved_schedule_never_uses_a_slot_again_and_keeps_a_retry() {
    let mut site = Site::with(&["photos"]);
    let retry = Retry { at: at("2026-11-03T12:30:00Z"), of: RunId::generate(noon()), attempt: 1, returned: None };
    site.edit("photos/daily", |job| {
        job.last_slot = Some(at("2026-11-03T12:00:00Z"));
        job.retry = Some(retry.clone());
    });
    let mut desired = config(&["photos"]);
    desired.policies.get_mut("daily").unwrap().schedule.expression = "0 12 * * *".to_owned();
    site.apply(&desired, noon());
    let job = site.job("photos/daily");
    assert_eq!(job.next_slot, Some(at("2026-11-04T12:00:00Z")));
    assert_eq!((job.next_run, job.retry.as_ref()), (Some(retry.at), Some(&retry)));
}

#[test]
fn a_target_removed_from_git_keeps_its_run_history_and_comes_back_with_it() {
    let mut site = Site::with(&["photos", "db"]);
    let before = site.job("photos/daily").clone();
    let plan = site.apply(&config(&["db"]), noon());
    let orphan = site.job("photos/daily");
    assert_eq!((orphan.orphaned_since, orphan.next_slot, orphan.next_run), (Some(noon()), None, None));
    assert_eq!((orphan.success_total, &orphan.parents), (before.success_total, &before.parents));
    insta::assert_snapshot!(text(&plan), @"- photos (orphaned: 212 runs kept, no backup is deleted)");
    // Orphaned once, not again and again.
    assert_eq!(site.plan(&config(&["db"]), at("2026-11-05T00:00:00Z")).steps, []);

    let plan = site.apply(&config(&["photos", "db"]), noon());
    assert_eq!(site.job("photos/daily"), &before);
    insta::assert_snapshot!(text(&plan), @r###"
    + photos (files, daily, back again: 212 runs known)
      next photos/daily Wed 4 Nov 02:06 (in 14h 6m)
    "###);
}

#[test]
fn a_disabled_target_is_orphaned_and_a_dropped_policy_too() {
    let mut site = Site::with(&["photos", "db"]);
    let mut desired = config(&["photos", "db"]);
    desired.policies.insert(name("weekly"), policy("weekly", "30 3 * * 0"));
    desired.targets.get_mut("photos").unwrap().enabled = false;
    desired.targets.insert(name("db"), target("db", &["weekly"]));
    let plan = site.apply(&desired, noon());
    assert!(site.job("photos/daily").orphaned_since.is_some());
    assert!(site.job("db/daily").orphaned_since.is_some());
    assert_eq!(site.job("db/weekly").next_slot, Some(at("2026-11-08T03:30:00Z")));
    insta::assert_snapshot!(text(&plan), @r###"
    ~ db (policies daily -> weekly)
    ~ photos (disabled, orphaned: 212 runs kept, no backup is deleted)
    + policy weekly (Sundays at 03:30, to nas, keep 7 daily 4 weekly)
      next db/weekly Sun 8 Nov 03:39 (in 4d 15h)
    "###);
}

#[test]
fn changes_of_documents_are_told_without_private_values() {
    let site = Site::with(&["photos", "db"]);
    let mut desired = config(&["photos", "db"]);
    desired.site.timezone = "Asia/Singapore".to_owned();
    desired.site.artifacts.keep_runs = 7;
    let nas = desired.destinations.get_mut("nas").unwrap();
    nas.password = SecretRef::File(PathBuf::from("/etc/larder/secret"));
    nas.check = None;
    let policy = desired.policies.get_mut("daily").unwrap();
    policy.retention.monthly = Some(6);
    policy.max_age = None;
    desired.targets.get_mut("db").unwrap().settings = serde_json::json!({"host": "db.lan", "paths": []});
    let plan = site.plan(&desired, noon());
    insta::assert_snapshot!(text(&plan), @r###"
    ~ site home (timezone UTC -> Asia/Singapore, keep_runs 14 -> 7)
    ~ destination nas (password, check Sundays at 05:00 -> none)
    ~ policy daily (keep 7 daily 4 weekly -> 7 daily 4 weekly 6 monthly, max_age 1d 2h -> none)
    ~ db (with.host, with.paths)
    "###);
    assert!(!serde_json::to_string(&plan).unwrap().contains("db.lan"));
}

#[test]
fn a_repository_that_moves_keeps_its_pinned_id_and_says_so() {
    let mut site = Site::with(&["photos"]);
    site.edit_destination(|record| record.repository_id = Some("0123456789abcdef".to_owned()));
    let mut desired = config(&["photos"]);
    desired.destinations.get_mut("nas").unwrap().repository =
        Repository::Local(LocalRepository { path: PathBuf::from("/mnt/new"), require_mount: None, create: false });
    let plan = site.apply(&desired, noon());
    assert_eq!(site.destinations[0].repository_id.as_deref(), Some("0123456789abcdef"));
    assert_eq!(site.destinations[0].location, "/mnt/new");
    insta::assert_snapshot!(text(&plan), @r###"
    ! destination nas moves from /mnt/nas/restic to /mnt/new: its repository id 01234567 stays pinned, so another repository there is refused
    ~ destination nas (repository /mnt/nas/restic -> /mnt/new)
    "###);
}

#[test]
fn a_removed_destination_is_kept_in_mind_without_upkeep() {
    let mut site = Site::with(&["photos"]);
    let mut desired = config(&["photos"]);
    desired.destinations = BTreeMap::from([(name("usb"), destination("usb"))]);
    desired.policies.get_mut("daily").unwrap().destinations = vec![name("usb")];
    let plan = site.apply(&desired, noon());
    let nas = site.destinations.iter().find(|record| record.name == name("nas")).unwrap();
    assert_eq!((nas.prune.next, nas.check.next), (None, None));
    insta::assert_snapshot!(text(&plan), @r###"
    - destination nas (no more upkeep; the repository and its snapshots stay)
    ~ policy daily (destinations nas -> usb)
    + destination usb (/mnt/usb/restic)
    "###);
    assert_eq!(site.plan(&desired, noon()).steps, []);
}

#[test]
fn upkeep_moves_only_when_its_schedule_changes() {
    let mut site = Site::with(&["photos"]);
    site.edit_destination(|record| record.prune.last = Some(noon()));
    let mut desired = config(&["photos"]);
    desired.destinations.get_mut("nas").unwrap().prune = Some(Prune { schedule: spec("0 6 * * *") });
    let later = at("2026-12-24T00:00:00Z");
    site.apply(&desired, later);
    let record = &site.destinations[0];
    assert_eq!((record.prune.next, record.prune.last), (Some(at("2026-12-24T06:00:00Z")), Some(noon())));
    assert_eq!(record.check.next, Some(at("2026-11-08T05:00:00Z")));
}

#[test]
fn removing_a_lot_is_held() {
    let guard = |before: &[&str], after: &[&str]| {
        let site = Site::with(before);
        site.plan(&config(after), noon()).guard.map(|guard| guard.reason)
    };
    let eight = ["a", "b", "c", "d", "e", "f", "g", "h"];
    assert_eq!(guard(&[], &[]), None);
    assert_eq!(guard(&["a"], &[]).unwrap(), "the config is empty and would remove the only target (a)");
    assert_eq!(
        guard(&eight, &[]).unwrap(),
        "the config is empty and would remove all 8 targets (a, b, c, d, e, and 3 more)"
    );
    assert_eq!(guard(&["a", "b"], &["a"]), None);
    assert_eq!(guard(&eight, &eight[2..]), None);
    assert_eq!(guard(&eight, &eight[3..]).unwrap(), "3 of 8 targets would be removed (a, b, c)");
    assert_eq!(guard(&["a", "b", "c"], &["x", "y", "z"]).unwrap(), "3 of 3 targets would be removed (a, b, c)");
    let held = Site::with(&["a"]).plan(&Config::default(), noon());
    assert!(text(&held).starts_with("! held: the config is empty"));
    assert!(!held.is_empty());
}

#[test]
fn an_unreadable_schedule_leaves_its_jobs_without_next_run_and_warns() {
    let mut site = Site::with(&["photos"]);
    let mut desired = config(&["photos"]);
    desired.policies.get_mut("daily").unwrap().schedule.timezone = "Europe/Atlantis".to_owned();
    let plan = site.apply(&desired, noon());
    assert_eq!(site.job("photos/daily").next_run, None);
    assert_eq!(plan.warnings.len(), 1);
    assert_eq!(site.plan(&desired, noon()).steps, []);
}

#[test]
fn ten_thousand_targets_fit_into_about_twenty_lines_and_one_change_into_few_steps() {
    let names: Vec<String> = (0..10_000).map(|n| format!("t{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut desired = config(&names);
    let mut site = Site::new();
    site.apply(&config(&[]), noon());
    let first = site.plan(&desired, noon());
    assert!(first.lines(noon()).len() <= 21, "{}", text(&first));
    site.jobs = first.job_records().map(|job| (job.id.clone(), job.clone())).collect();
    site.config = desired.clone();
    desired.targets.get_mut("t77").unwrap().settings = serde_json::json!({"paths": ["/elsewhere"]});
    let plan = site.plan(&desired, noon());
    assert_eq!(plan.steps.len(), 1);
    assert_eq!(text(&plan), "~ t77 (with.paths)");
}

#[test]
fn a_plan_is_json_that_names_its_steps() {
    let plan = Site::new().plan(&config(&["photos"]), noon());
    let value = serde_json::to_value(&plan).unwrap();
    assert_eq!(value["steps"][0], serde_json::json!({"action": "put", "kind": "destination", "name": "nas"}));
    assert_eq!(value["changes"][2]["name"], "photos");
    assert_eq!(value["next_runs"][0]["after"], "2026-11-04T02:06:42Z");
}

fn any_config() -> impl Strategy<Value = Config> {
    let policies = prop::collection::vec(prop::sample::select(vec!["0 2 * * *", "*/15 * * * *", "0 3 * * 0"]), 3);
    let target = (any::<bool>(), prop::sample::subsequence(vec!["p0", "p1", "p2"], 1..=3), 0..3_u8);
    let targets = prop::collection::btree_map(prop::sample::select(vec!["a", "b", "c", "d", "e"]), target, 0..5);
    (policies, targets, any::<bool>()).prop_map(|(expressions, targets, upkeep)| {
        let mut config = Config::default();
        let mut nas = destination("nas");
        if !upkeep {
            nas.prune = None;
        }
        config.destinations.insert(name("nas"), nas);
        for (index, expression) in expressions.into_iter().enumerate() {
            let policy = policy(&format!("p{index}"), expression);
            config.policies.insert(policy.name.clone(), policy);
        }
        for (text, (enabled, policies, setting)) in targets {
            let mut target = target_of(text, &policies, enabled);
            target.settings = serde_json::json!({"n": setting});
            config.targets.insert(name(text), target);
        }
        config
    })
}

fn target_of(text: &str, policies: &[&str], enabled: bool) -> Target {
    Target { enabled, ..target(text, policies) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_configs_applying_settles_and_nothing_recorded_is_lost(
        configs in prop::collection::vec((any_config(), 0..2_000_000_i64), 1..6),
    ) {
        let mut site = Site::new();
        let mut now = noon();
        for (desired, seconds) in configs {
            now += jiff::SignedDuration::from_secs(seconds);
            let known = site.jobs.clone();
            let plan = site.plan(&desired, now);
            prop_assert_eq!(&plan, &site.plan(&desired, now), "a plan must be deterministic");
            for (tree, key, value) in plan.batch().unwrap().writes {
                prop_assert!(matches!(tree, Tree::Desired | Tree::Jobs | Tree::Destinations));
                prop_assert!(value.is_some() || tree == Tree::Desired, "{tree:?} {key:?} would be removed");
            }
            site.apply(&desired, now);
            prop_assert_eq!(&site.config, &desired);
            prop_assert_eq!(site.plan(&desired, now + jiff::SignedDuration::from_hours(1)).steps, []);
            let wanted: Vec<JobId> = desired.jobs().map(|(id, _, _)| id).collect();
            for job in site.jobs.values() {
                let is_wanted = wanted.contains(&job.id);
                prop_assert_eq!(job.orphaned_since.is_none(), is_wanted);
                prop_assert_eq!(job.next_run.is_some(), is_wanted);
                prop_assert!(job.next_run.is_none_or(|next| next > now || known.contains_key(&job.id)));
            }
            prop_assert!(known.keys().all(|id| site.jobs.contains_key(id)));
            prop_assert!(wanted.iter().all(|id| site.jobs.contains_key(id)));
        }
    }
}

fn keep_last(last: u32) -> Retention {
    Retention { last: Some(last), ..Retention::default() }
}

#[test]
fn a_policy_with_a_new_name_takes_over_what_is_usual_for_its_target_and_what_holds_it() {
    let mut site = Site::with(&["a", "b"]);
    let hold = |kind: HoldKind| Hold {
        kind,
        subject: "/srv/a/docs".to_owned(),
        since: noon(),
        trouble: crate::error::Trouble::new(codes::LOST_MOUNT, "it is not there"),
        value: Some("/srv/a/docs".to_owned()),
        shown: Vec::new(),
        told: noon(),
    };
    let id = site.jobs.keys().next().unwrap().to_string();
    site.edit(&id, |job| {
        job.usual.mounts.insert("/srv/a/docs".into());
        job.usual.began = Some(keep_last(9));
        job.sizes = vec![100];
        job.holds = vec![hold(HoldKind::LostMount), hold(HoldKind::RetentionCut)];
    });
    let mut desired = config(&["a", "b"]);
    desired.policies.insert(name("weekly"), policy("weekly", "0 2 * * 0"));
    desired.targets.insert(name("a"), target("a", &["weekly"]));
    let new = |desired: &Config| {
        let plan = site.plan(desired, noon());
        let job = plan.job_records().find(|job| job.id.to_string() == "a/weekly").cloned();
        job.unwrap()
    };
    let job = new(&desired);
    assert!(job.usual.mounts.contains(std::path::Path::new("/srv/a/docs")));
    assert_eq!((job.sizes.as_slice(), &job.usual.began), ([100].as_slice(), &None));
    assert_eq!(job.holds.iter().map(|hold| hold.kind).collect::<Vec<_>>(), [HoldKind::LostMount]);
    // Another plugin: other data, of which nothing is known.
    desired.targets.get_mut(&name("a")).unwrap().plugin = name("postgres");
    assert!(new(&desired).holds.is_empty());
}
