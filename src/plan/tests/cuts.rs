//! Retentions that are cut.

use super::*;
use crate::config::model::CopyRule;
use crate::run::retention::Candidate;

/// A site whose one job has a snapshot of each of the last hundred days in `nas`.
fn kept_for_hundred_days() -> Site {
    let mut site = Site::with(&["a"]);
    let mut config = config(&["a"]);
    config.policies.get_mut(&name("daily")).unwrap().retention = keep_last(100);
    site.apply(&config, noon());
    let snapshots = (0..100).map(|day| Candidate {
        id: format!("{day:04}"),
        order: day,
        time: noon() - jiff::SignedDuration::from_hours(24 * (100 - i64::try_from(day).unwrap())),
    });
    let job = site.jobs.keys().next().unwrap().clone();
    site.edit(&job.to_string(), |job| {
        job.usual.retained.insert(name("nas"), keep_last(100));
    });
    site.kept = vec![Kept { job, destination: name("nas"), snapshots: snapshots.collect() }];
    site
}

#[test]
fn a_retention_that_is_cut_waits_for_a_confirmation_and_says_how_many_from_when_to_when() {
    let site = kept_for_hundred_days();
    let with = |last: u32| {
        let mut desired = site.config.clone();
        desired.policies.get_mut(&name("daily")).unwrap().retention = keep_last(last);
        site.plan(&desired, noon())
    };
    let plan = with(3);
    let guard = plan.guard.clone().unwrap();
    assert_eq!(guard.code, guard::GuardCode::RetentionCut);
    assert!(guard.reason.starts_with("the new retention would forget 97 of 100 snapshots"), "{}", guard.reason);
    assert!(guard.reason.contains("a/daily in nas") && guard.reason.contains(", from 2026-"), "{}", guard.reason);
    for (last, held) in [(100, false), (200, false), (90, false), (89, true), (1, true)] {
        assert_eq!(with(last).guard.is_some(), held, "last: {last}");
    }
    // What was kept by more generous rules than it is now is cut, whatever the config said in between.
    let confirmed = plan.confirmed(&site.jobs, noon());
    assert_eq!(confirmed.guard, None);
    let job = confirmed.job_records().next().unwrap();
    let accepted = &job.accepted[0];
    assert_eq!(
        (accepted.kind, accepted.subject.as_str(), accepted.value.as_str()),
        (HoldKind::RetentionCut, "nas", "97")
    );
}

#[test]
fn what_lies_in_a_copy_counts_where_a_retention_is_cut_though_the_source_has_nothing_left() {
    let mut site = kept_for_hundred_days();
    let mut copy = destination("offsite");
    copy.copy = Some(CopyRule {
        from: name("nas"),
        schedule: site.config.policies[&name("daily")].schedule.clone(),
        targets: Vec::new(),
        policies: Vec::new(),
    });
    site.config.destinations.insert(name("offsite"), copy);
    let there = site.kept[0].clone();
    site.kept = vec![Kept { destination: name("offsite"), ..there }];
    let mut desired = site.config.clone();
    desired.policies.get_mut(&name("daily")).unwrap().retention = keep_last(3);
    let plan = site.plan(&desired, noon());
    let reason = plan.guard.clone().unwrap().reason;
    assert!(reason.starts_with("the new retention would forget 97 of 100 snapshots"), "{reason}");
    assert!(reason.contains("a/daily in offsite"), "{reason}");
    // No run forgets there, so none has to be told that it may.
    let confirmed = plan.confirmed(&site.jobs, noon());
    assert_eq!(confirmed.guard, None);
    assert!(confirmed.job_records().all(|job| job.accepted.is_empty()));

    // What is not copied is not asked for.
    let rule = desired.destinations.get_mut(&name("offsite")).unwrap().copy.as_mut().unwrap();
    rule.targets = vec![name("b")];
    assert_eq!(site.plan(&desired, noon()).guard, None);
}

#[test]
fn a_push_that_leaves_the_retention_alone_asks_for_no_snapshots_and_is_not_held_for_them() {
    let site = kept_for_hundred_days();
    let mut desired = site.config.clone();
    desired.targets.insert(name("b"), target("b", &["daily"]));
    assert_eq!(super::super::cuts::asked(&desired, &site.config, &site.jobs).count(), 0);
    assert_eq!(site.plan(&desired, noon()).guard, None);
}
