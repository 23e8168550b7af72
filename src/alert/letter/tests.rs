//! Letters as people get them: subject, text, HTML.

use std::collections::BTreeMap;

use super::*;
use crate::config::model::{Email, Smtp, SmtpSecurity};
use crate::error::codes;
use crate::run::RunState;
use crate::store::record::Trigger;
use crate::types::{Outcome, RunId};

pub(in crate::alert) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

pub(in crate::alert) fn job() -> JobRecord {
    JobRecord {
        id: "paperless-db/daily".parse().unwrap(),
        orphaned_since: None,
        schedule_key: String::new(),
        next_slot: None,
        next_run: Some(at(86_400)),
        last_slot: None,
        suspended: None,
        retry: None,
        success_total: 0,
        failure_total: 0,
        last_run: None,
        last_success: None,
        sizes: Vec::new(),
        failing: 0,
        incomplete: 0,
        troubled_since: None,
        overdue_told: None,
        bare_since: None,
        parents: BTreeMap::new(),
        holds: Vec::new(),
        accepted: Vec::new(),
        spent: Vec::new(),
        usual: crate::run::usual::Usual::default(),
    }
}

pub(in crate::alert) fn run(outcome: Outcome) -> RunRecord {
    RunRecord {
        id: RunId::from_bytes([1; 16]),
        job: job().id,
        trigger: Trigger::Manual,
        revision: None,
        plugin: Name::parse("postgres").unwrap(),
        state: RunState::Finished(outcome),
        queued: at(0),
        started: Some(at(1)),
        finished: Some(at(60)),
        trouble: (outcome == Outcome::Failed).then(|| {
            Trouble::new(codes::UNAUTHORIZED, "db.lan refused the password of the user backup")
                .with_hint("put the right password into /run/secrets/paperless")
        }),
        warnings: Vec::new(),
        notices: Vec::new(),
        artifact: None,
        shipments: Vec::new(),
        bytes: 0,
    }
}

pub(in crate::alert) fn site() -> Site {
    Site {
        timezone: "Asia/Singapore".to_owned(),
        url: Some("https://backups.lan/".to_owned()),
        email: Some(Email {
            smtp: Smtp { security: SmtpSecurity::Tls, host: "mail.lan".to_owned(), port: 465 },
            username: None,
            password: None,
            hello_name: None,
            from: "larder@home.lan".to_owned(),
            to: vec!["me@home.lan".to_owned()],
        }),
        ..Site::default()
    }
}

fn success(seconds: i64) -> RunSummary {
    RunSummary {
        id: RunId::from_bytes([2; 16]),
        outcome: Outcome::Success,
        finished: at(seconds),
        duration_ms: 1,
        bytes: 1,
        trouble: None,
    }
}

fn failure() -> (JobRecord, JobRecord, RunRecord) {
    let mut before = job();
    before.last_success = Some(success(-93_600 + 60));
    let mut after = before.clone();
    after.failing = 1;
    (before, after, run(Outcome::Failed))
}

#[test]
fn a_failure_says_what_why_and_what_to_type() {
    let (before, after, run) = failure();
    let mails = crate::alert::mails_for(&site(), &before, &after, &run, at(61));
    let [mail] = mails.as_slice() else { panic!("one mail expected: {mails:?}") };
    insta::assert_snapshot!(format!("Subject: {}\n\n{}", mail.subject, mail.text).replace(env!("CARGO_PKG_VERSION"), "VERSION"), @r"
    Subject: [home] FAILED: paperless-db/daily: db.lan refused the password of the user backup

    The backup paperless-db/daily failed

      db.lan refused the password of the user backup

    hint: put the right password into /run/secrets/paperless

    target: paperless-db
    policy: daily
    run: 01040G2081040G2081040G2081
    ended: Mon 21 Sep 2026, 22:14 +08
    last success: Sun 20 Sep 2026, 20:14 +08 (1d 2h before)
    next run: Tue 22 Sep 2026, 22:13 +08

    Next:
      larder log 01040G2081040G2081040G2081
      larder run paperless-db

    https://backups.lan/targets/paperless-db.html

    Further failures are counted, not sent. The recovery will be.

    --
    Larder VERSION, site home
    ");
    for part in [
        "The backup paperless-db/daily failed",
        "refused the password",
        "https://backups.lan/targets/paperless-db.html",
    ] {
        let html = mail.html.replace("&#x2f;", "/");
        assert!(html.contains(part), "{part} is missing in {html}");
    }
    assert_eq!((mail.to.as_slice(), mail.created, mail.not_before), (&["me@home.lan".to_owned()][..], at(61), at(61)));
}

#[test]
fn a_recovery_says_how_many_failures_and_since_when() {
    let (_, mut before, _) = failure();
    before.failing = 3;
    before.troubled_since = Some(at(-7200));
    let mut after = before.clone();
    after.failing = 0;
    let mails = crate::alert::mails_for(&site(), &before, &after, &run(Outcome::Success), at(61));
    let [mail] = mails.as_slice() else { panic!("one mail expected: {mails:?}") };
    insta::assert_snapshot!(format!("Subject: {}\n\n{}", mail.subject, mail.text).replace(env!("CARGO_PKG_VERSION"), "VERSION"), @r"
    Subject: [home] Recovered: paperless-db/daily after 3 failures

    The backup paperless-db/daily works again, after 3 failures

    target: paperless-db
    policy: daily
    run: 01040G2081040G2081040G2081
    ended: Mon 21 Sep 2026, 22:14 +08
    in trouble since: Mon 21 Sep 2026, 20:13 +08 (2h 1m)
    success before: Sun 20 Sep 2026, 20:14 +08 (1d 2h before)
    next run: Tue 22 Sep 2026, 22:13 +08

    Next:
      larder log 01040G2081040G2081040G2081

    https://backups.lan/targets/paperless-db.html

    --
    Larder VERSION, site home
    ");
    assert!(!mail.html.is_empty());
}

#[test]
fn a_rejected_revision_lists_its_errors_up_to_a_bound() {
    let revision = Revision::parse(&"1a".repeat(20)).unwrap();
    let errors: Vec<String> =
        (1..=30).map(|line| format!("targets/db.yaml:{line}:3  unknown field `polices`")).collect();
    let mail = crate::alert::mail_for_rejected(&site(), &revision, &errors, at(0)).unwrap();
    assert_eq!(mail.subject, "[home] Config rejected: 1a1a1a1 has 30 errors");
    assert!(mail.text.contains("targets/db.yaml:20:3") && !mail.text.contains("targets/db.yaml:21:3"));
    assert!(mail.text.contains("and 10 more"));
    let held = crate::alert::mail_for_held(&site(), &revision, "it removes 12 of 40 targets", at(0)).unwrap();
    assert!(held.text.contains("larder confirm 1a1a1a1") && held.html.contains("12 of 40 targets"));
}

#[test]
fn an_overdue_job_says_how_old_its_success_is() {
    let mut record = job();
    record.last_success = Some(success(-100_000));
    let hour = Duration::from_hours(1);
    let (after, mail) = crate::alert::overdue(&site(), &record, hour, at(0)).unwrap();
    let mail = mail.unwrap();
    assert_eq!(mail.subject, "[home] OVERDUE: paperless-db/daily: the last success is 1d 3h old");
    assert!(mail.text.contains("1h (max_age)"));
    assert!(crate::alert::overdue(&site(), &after, hour, at(10)).is_none(), "it is said once");
}

#[test]
fn a_repository_check_says_when_it_begins_to_fail_and_when_it_works_again() {
    let nas = Name::parse("nas").unwrap();
    let fine = Upkeep::default();
    let bad =
        Upkeep { trouble: Some(Trouble::new(codes::REPOSITORY_DAMAGED, "pack 12ab is damaged")), ..Upkeep::default() };
    let mail = |before, after| crate::alert::mail_for_upkeep(&site(), &nas, "check", before, after, at(0));
    assert_eq!(mail(&fine, &bad).unwrap().subject, "[home] FAILED: check of nas: pack 12ab is damaged");
    assert_eq!(mail(&bad, &fine).unwrap().subject, "[home] Recovered: check of nas");
    assert!(mail(&bad, &bad).is_none() && mail(&fine, &fine).is_none());
}

#[test]
fn nothing_from_outside_forges_headers_lines_or_html() {
    let (before, after, mut run) = failure();
    run.trouble = Some(
        Trouble::new(
            codes::INTERNAL,
            "bad\r\nBcc: evil@example.org\r\n\r\n<script>alert(1)</script> \u{202e}olleh 备份失败 📦",
        )
        .with_hint("a\nb"),
    );
    let mails = crate::alert::mails_for(&site(), &before, &after, &run, at(0));
    let mail = mails.first().unwrap();
    assert!(!mail.subject.contains(['\r', '\n', '\u{202e}']));
    assert!(!mail.text.contains("\nBcc"));
    assert!(!mail.html.contains("<script>"));
    assert!(mail.subject.contains("备份失败 📦") && mail.html.contains("备份失败 📦"));
}

#[test]
fn however_long_the_words_the_mail_fits_into_the_store() {
    let (before, after, mut run) = failure();
    let revision = Revision::parse(&"f".repeat(40)).unwrap();
    for filler in ["\"", "<", "&", "📦", "\\", "\u{0}", "a"] {
        run.trouble = Some(Trouble::new(codes::INTERNAL, filler.repeat(100_000)).with_hint(filler.repeat(100_000)));
        let errors: Vec<String> = (0..50).map(|_| filler.repeat(10_000)).collect();
        let mut mails = crate::alert::mails_for(&site(), &before, &after, &run, at(0));
        mails.extend(crate::alert::mail_for_rejected(&site(), &revision, &errors, at(0)));
        assert_eq!(mails.len(), 2);
        for mail in mails {
            assert!(mail.subject.chars().count() <= SUBJECT_CHARS_MAX);
            let stored = serde_json::to_vec(&mail).unwrap().len();
            assert!(stored < 32 * 1024, "{stored} bytes with {filler:?}");
        }
    }
}

#[test]
fn a_site_without_email_tells_nobody() {
    let (before, after, run) = failure();
    let site = Site { email: None, ..site() };
    assert!(crate::alert::mails_for(&site, &before, &after, &run, at(0)).is_empty());
    let record = JobRecord { last_success: Some(success(-100_000)), ..job() };
    let (after, mail) = crate::alert::overdue(&site, &record, Duration::from_secs(1), at(0)).unwrap();
    assert!(mail.is_none() && after.overdue_told.is_some());
}
