//! Records through the ledger: indexes, order, bounds, the outbox, and records that cannot be understood.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use larder::config::model::{Config, Target};
use larder::run::RunState;
use larder::store::history::RunFilter;
use larder::store::ledger::Ledger;
use larder::store::memory::MemoryStore;
use larder::store::record::{JobRecord, OutboxMail, RunEvent, RunRecord, Trigger};
use larder::store::{Batch, ScanOrder, StoreError, Tree};
use larder::types::{JobId, Name, Outcome, RunId};
use proptest::prelude::*;

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// From JSON, as an older Larder wrote it: what was added later has its default.
pub fn job(id: &str) -> JobRecord {
    let id: JobId = id.parse().unwrap();
    serde_json::from_value(serde_json::json!({"id": id, "schedule_key": "0 2 * * *|UTC|0"})).unwrap()
}

pub fn run(job: &str, second: i64, state: RunState) -> RunRecord {
    RunRecord {
        id: RunId::generate(at(second)),
        job: job.parse().unwrap(),
        trigger: Trigger::Manual,
        revision: None,
        plugin: name("files"),
        state,
        queued: at(second),
        started: None,
        finished: None,
        trouble: None,
        warnings: Vec::new(),
        notices: Vec::new(),
        artifact: None,
        shipments: Vec::new(),
        bytes: 0,
    }
}

pub fn mail(second: i64, subject: &str) -> OutboxMail {
    OutboxMail {
        created: at(second),
        to: vec!["me@home.lan".to_owned()],
        subject: subject.to_owned(),
        text: String::new(),
        html: String::new(),
        attempts: 0,
        not_before: at(second),
        last_error: None,
    }
}

fn ledger() -> Ledger {
    Ledger::new(Arc::new(MemoryStore::new()))
}

fn target(text: &str) -> Target {
    Target {
        name: name(text),
        plugin: name("files"),
        settings: serde_json::json!({"paths": ["/srv"]}),
        policies: vec![name("daily")],
        enabled: true,
        hooks: larder::config::model::Hooks::default(),
        accept: Vec::new(),
        tolerate: larder::config::model::Tolerate::default(),
    }
}

fn commit(ledger: &Ledger, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::default();
    fill(&mut batch);
    ledger.commit(batch).unwrap();
}

const DONE: RunState = RunState::Finished(Outcome::Success);

fn seconds(runs: &[RunRecord]) -> Vec<i64> {
    runs.iter().map(|run| run.queued.as_second() - 1_800_000_000).collect()
}

#[test]
fn runs_are_listed_newest_first_by_target_by_policy_and_in_pages() {
    let ledger = ledger();
    for (second, job) in ["a/daily", "a/hourly", "a-b/daily", "b/daily", "a/daily", "b/hourly"].iter().enumerate() {
        commit(&ledger, |batch| batch.put_run(&run(job, i64::try_from(second).unwrap(), DONE)).unwrap());
    }
    let list = |target: Option<&str>, policy: Option<&str>| {
        let filter = RunFilter { target: target.map(name), policy: policy.map(name), ..RunFilter::default() };
        seconds(&ledger.runs(&filter).unwrap())
    };
    assert_eq!(list(None, None), [5, 4, 3, 2, 1, 0]);
    assert_eq!(list(Some("a"), None), [4, 1, 0]);
    assert_eq!(list(None, Some("daily")), [4, 3, 2, 0]);
    assert_eq!(list(Some("a"), Some("daily")), [4, 0]);
    assert_eq!(list(Some("nothing"), None), Vec::<i64>::new());
    for (target, expected) in [(None, vec![vec![5, 4], vec![3, 2], vec![1, 0]]), (Some("a"), vec![vec![4, 1], vec![0]])]
    {
        let mut filter = RunFilter { target: target.map(name), limit: 2, ..RunFilter::default() };
        for page in expected {
            let runs = ledger.runs(&filter).unwrap();
            assert_eq!(seconds(&runs), page);
            filter.before = runs.last().map(|run| run.id);
        }
        assert_eq!(ledger.runs(&filter).unwrap(), []);
    }
}

#[test]
fn a_run_is_open_until_it_is_finished() {
    let ledger = ledger();
    let mut one = run("a/daily", 1, RunState::Queued);
    let two = run("b/daily", 2, RunState::Shipping);
    commit(&ledger, |batch| {
        batch.put_run(&one).unwrap();
        batch.put_run(&two).unwrap();
    });
    assert_eq!(ledger.open_runs().unwrap(), [one.clone(), two.clone()]);
    one.state = RunState::Finished(Outcome::Failed);
    commit(&ledger, |batch| batch.put_run(&one).unwrap());
    assert_eq!(ledger.open_runs().unwrap(), [two]);
    assert_eq!(ledger.run(one.id).unwrap(), Some(one));
}

#[test]
fn a_history_above_its_bound_loses_its_oldest_runs_with_their_events_but_no_open_one() {
    let ledger = ledger();
    let id: JobId = "a/daily".parse().unwrap();
    let event = |state| RunEvent { at: at(0), state, note: None };
    for second in 0..20 {
        let state = if second == 3 { RunState::Shipping } else { DONE };
        commit(&ledger, |batch| {
            let record = run("a/daily", second, state);
            batch.put_run(&record).unwrap();
            batch.push_event(record.id, 0, &event(RunState::Queued)).unwrap();
            batch.push_event(record.id, 1, &event(state)).unwrap();
            batch.put_run(&run("b/daily", second, DONE)).unwrap();
        });
    }
    let mut batch = Batch::default();
    assert_eq!(ledger.prune_history(&id, 5, &mut batch).unwrap(), 14);
    ledger.commit(batch).unwrap();
    let runs = ledger.runs(&RunFilter { target: Some(name("a")), ..RunFilter::default() }).unwrap();
    assert_eq!(seconds(&runs), [19, 18, 17, 16, 15, 3]);
    let events = ledger.store().scan(Tree::Events, &[], None, ScanOrder::Ascending, 999).unwrap();
    assert_eq!(events.len(), 12, "two for each run that stayed");
    assert_eq!(
        ledger.events(runs[0].id).unwrap().iter().map(|event| event.state).collect::<Vec<_>>(),
        [RunState::Queued, DONE]
    );
    assert_eq!(ledger.runs(&RunFilter { target: Some(name("b")), ..RunFilter::default() }).unwrap().len(), 20);
    let mut again = Batch::default();
    assert_eq!(ledger.prune_history(&id, 5, &mut again).unwrap(), 0);
    assert!(again.is_empty());
}

#[test]
fn mails_keep_their_order_even_when_the_clock_is_turned_back() {
    let ledger = ledger();
    commit(&ledger, |batch| {
        for (second, subject) in [(9, "first"), (9, "second"), (1, "third")] {
            batch.enqueue_mail(&mail(second, subject)).unwrap();
        }
    });
    let due = ledger.outbox_due(at(9), 10).unwrap();
    assert_eq!(due.iter().map(|(_, mail)| mail.subject.as_str()).collect::<Vec<_>>(), ["first", "second", "third"]);
    assert_eq!(ledger.outbox_due(at(9), 2).unwrap().len(), 2);
    assert_eq!(ledger.outbox_due(at(5), 10).unwrap().len(), 1, "the others may not be tried yet");
    let (sequence, mut later) = due.first().cloned().unwrap();
    later.not_before += SignedDuration::from_secs(60);
    commit(&ledger, |batch| {
        batch.update_mail(sequence, &later).unwrap();
        batch.remove_mail(due[2].0);
    });
    assert_eq!(ledger.outbox_len().unwrap(), 2);
    assert_eq!(ledger.outbox_next_due().unwrap(), Some(at(9)));
    commit(&ledger, |batch| batch.remove_mail(due[1].0));
    assert_eq!(ledger.outbox_next_due().unwrap(), Some(at(69)));
}

#[test]
fn a_record_that_cannot_be_understood_is_named_and_hides_no_other() {
    let ledger = ledger();
    commit(&ledger, |batch| {
        batch.put_job(&job("a/daily")).unwrap();
        batch.put(Tree::Jobs, "b/daily", "{\"id\":");
        batch.put_job(&job("c/daily")).unwrap();
        batch.put_run(&run("a/daily", 1, DONE)).unwrap();
    });
    let error = ledger.job(&"b/daily".parse().unwrap()).unwrap_err();
    assert!(matches!(&error, StoreError::Record { key, .. } if key == "jobs \"b/daily\""), "{error}");
    assert!(error.trouble().hint.is_some());
    let jobs: Vec<String> = ledger.jobs().unwrap().iter().map(|job| job.id.to_string()).collect();
    assert_eq!(jobs, ["a/daily", "c/daily"]);
}

#[test]
fn the_config_in_force_is_read_back_as_it_was_put() {
    let ledger = ledger();
    assert_eq!(ledger.desired().unwrap(), Config::default());
    let mut config = Config::default();
    config.site.timezone = "Asia/Singapore".to_owned();
    config.targets.insert(name("a"), target("a"));
    commit(&ledger, |batch| {
        batch.put_desired_site(&config.site).unwrap();
        batch.put_desired_target(&target("a")).unwrap();
        batch.put_desired_target(&target("b")).unwrap();
    });
    commit(&ledger, |batch| batch.remove_desired_target(&name("b")));
    assert_eq!(ledger.desired().unwrap(), config);
}

#[test]
fn a_run_with_more_to_tell_than_fits_is_finished_all_the_same() {
    let ledger = ledger();
    let long =
        |n: usize| larder::error::Trouble::told("unreadable", format!("{n} {}", "x".repeat(9000))).with_hint("look");
    let mut record = run("a/daily", 1, DONE);
    record.warnings = (0..20).map(long).collect();
    record.trouble = Some(long(99));
    let mut letter = mail(1, "many things");
    letter.html = "<p>".repeat(9000);
    letter.text = "many".repeat(6000);
    commit(&ledger, |batch| {
        batch.put_run(&record).unwrap();
        batch.enqueue_mail(&letter).unwrap();
    });
    let back = ledger.run(record.id).unwrap().unwrap();
    assert_eq!((back.state, back.warnings.len()), (DONE, 20));
    assert!(back.warnings[7].message.starts_with("7 xxx") && back.warnings[7].message.ends_with(" … (cut)"));
    assert_eq!(back.warnings[7].hint.as_deref(), Some("look"));
    let (_, sent) = ledger.outbox_due(at(1), 1).unwrap().remove(0);
    assert_eq!((sent.html.as_str(), sent.text), ("", letter.text), "as text alone, whole");
}

#[test]
fn a_document_of_the_config_is_never_cut_but_refused_by_name() {
    let ledger = ledger();
    let mut target = target("photos");
    target.settings = serde_json::json!({"paths": ["/srv/x".repeat(9000)]});
    let mut batch = Batch::default();
    batch.put_desired_target(&target).unwrap();
    let error = ledger.commit(batch).unwrap_err();
    assert!(matches!(&error, StoreError::ValueTooLarge { key, .. } if key == "desired \"target/photos\""), "{error}");
    assert!(error.hint().contains("split"), "{}", error.hint());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_list_of_runs_is_what_sorting_all_of_them_gives(
        made in prop::collection::vec((0..4_usize, 0..3_usize, 0..50_i64), 0..40),
        target in prop::option::of(0..5_usize),
        policy in prop::option::of(0..3_usize),
        before in prop::option::of(0..40_usize),
        limit in 0..12_usize,
    ) {
        let ledger = ledger();
        let (targets, policies) = (["a", "a-", "a.b", "z"], ["daily", "d", "hourly"]);
        let made: Vec<RunRecord> = made
            .into_iter()
            .map(|(target, policy, second)| run(&format!("{}/{}", targets[target], policies[policy]), second, DONE))
            .collect();
        commit(&ledger, |batch| made.iter().for_each(|run| batch.put_run(run).unwrap()));
        let filter = RunFilter {
            target: target.map(|target| name(targets.get(target).unwrap_or(&"nobody"))),
            policy: policy.map(|policy| name(policies[policy])),
            before: before.and_then(|before| made.get(before)).map(|run| run.id),
            limit,
        };
        let mut expected: Vec<RunRecord> = made
            .into_iter()
            .filter(|run| filter.target.as_ref().is_none_or(|target| run.job.target == *target))
            .filter(|run| filter.policy.as_ref().is_none_or(|policy| run.job.policy == *policy))
            .filter(|run| filter.before.is_none_or(|before| run.id < before))
            .collect();
        expected.sort_by_key(|run| std::cmp::Reverse(run.id));
        expected.truncate(limit);
        prop_assert_eq!(ledger.runs(&filter).unwrap(), expected);
    }
}
