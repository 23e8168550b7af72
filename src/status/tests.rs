//! Views and pages from sample records.

use jiff::SignedDuration;

use super::pages::{PROGRESS_EVERY, Pages, RENEW_AFTER, Written};
use super::render::{Renderer, content_security_policy, render_mail};
use super::sample::*;
use super::*;
use crate::config::model::Target;
use crate::error::{Trouble, codes};
use crate::run::statistics::NextForget;
use crate::status::job::{MISSED_AFTER, standing};
use crate::status::read::Reading;
use crate::store::record::{Held, Incident, Rejected, Suspension};

fn view(reading: &Reading) -> View {
    View::build(reading, now())
}

fn verdict_of(reading: &Reading) -> (Health, String) {
    let verdict = view(reading).verdict;
    (verdict.health, verdict.sentence)
}

fn two() -> Reading {
    healthy(&[("a", "files"), ("b", "files")])
}

#[test]
fn everything_is_proven_only_when_every_job_is() {
    let mut reading = two();
    assert_eq!(verdict_of(&reading), (Health::Proven, "Everything is proven".to_owned()));
    reading.jobs[0].last_run = None;
    reading.jobs[0].last_success = None;
    assert_eq!(verdict_of(&reading), (Health::Unknown, "1 job is not proven yet".to_owned()));
}

#[test]
fn an_empty_site_and_an_empty_config_are_unknown_and_never_green() {
    assert_eq!(verdict_of(&Reading::default()), (Health::Unknown, "Nothing is protected yet".to_owned()));
    let mut reading = two();
    reading.jobs.clear();
    reading.desired.targets.clear();
    assert_eq!(verdict_of(&reading), (Health::Unknown, "The config protects nothing".to_owned()));
}

#[test]
fn the_sentence_on_top_never_says_more_than_the_counts() {
    let eleven: Vec<String> = (0..11).map(|n| format!("t{n}")).collect();
    let eleven: Vec<(&str, &str)> = eleven.iter().map(|name| (name.as_str(), "files")).collect();
    let mut none = healthy(&eleven);
    none.mails_waiting = 1;
    none.mail_error = Some("535".to_owned());
    for job in &mut none.jobs {
        (job.last_run, job.last_success) = (None, None);
    }
    assert_eq!(verdict_of(&none), (Health::Warning, "11 jobs are not proven yet, with 1 warning".to_owned()));

    let mut partial = healthy(&eleven);
    for job in &mut partial.jobs {
        job.last_run = Some(summary(2, Outcome::Partial, 1, Some(Trouble::new(codes::INTERNAL, "a part"))));
    }
    assert_eq!(verdict_of(&partial), (Health::Warning, "0 of 11 jobs proven, with 11 warnings".to_owned()));

    let mut all = two();
    for job in &mut all.jobs {
        job.suspended =
            Some(Suspension { since: ago(1), until: now() + SignedDuration::from_hours(1), reason: "x".into() });
    }
    all.mails_waiting = 1;
    all.mail_error = Some("535".to_owned());
    assert_eq!(verdict_of(&all), (Health::Warning, "Every job is suspended, with 1 warning".to_owned()));

    let mut one = two();
    one.jobs[0].suspended = all.jobs[0].suspended.clone();
    assert_eq!(verdict_of(&one), (Health::Warning, "1 job proven, 1 is suspended".to_owned()));
}

#[test]
fn what_is_switched_off_or_holds_no_backup_yet_keeps_everything_from_being_proven() {
    let mut off = two();
    off.desired.targets.insert(name("c"), Target { enabled: false, ..target("c", "files") });
    let shown = view(&off).verdict;
    assert_eq!((shown.health, shown.sentence.as_str()), (Health::Unknown, "2 jobs proven, 1 target is switched off"));
    assert_eq!(shown.detail, "2 of 2 jobs proven, 1 target switched off");
    off.jobs.clear();
    off.desired.targets.retain(|_, target| !target.enabled);
    assert_eq!(verdict_of(&off), (Health::Unknown, "Every target is switched off".to_owned()));

    let mut unused = two();
    unused.destinations[0].last_used = None;
    assert_eq!(verdict_of(&unused), (Health::Unknown, "2 jobs proven, 1 destination has no backup yet".to_owned()));
}

#[test]
fn a_source_that_cannot_be_read_and_a_lost_state_are_failures_whatever_else_is_well() {
    let incident = |text: &str| Incident {
        since: ago(1),
        trouble: Trouble::new(codes::STATE_GONE, text).with_hint("bring it back"),
    };
    let mut reading = two();
    reading.config.unreadable = Some(incident("there is nothing at /srv/larder.git"));
    let shown = view(&reading);
    assert_eq!((shown.verdict.health, shown.config.state.as_str()), (Health::Failed, "unreadable"));
    assert_eq!(shown.verdict.sentence, "The config cannot be read");
    assert!(shown.attention[0].problem.what.contains("stays in force"), "{:?}", shown.attention[0]);
    reading.destinations[0].trouble = Some(Trouble::new(codes::NOT_MOUNTED, "gone"));
    reading.state = Some(incident("/var/lib/larder is gone"));
    let shown = view(&reading);
    assert_eq!(
        shown.verdict.sentence,
        "The state directory is lost, and the config cannot be read, and 1 destination needs attention"
    );
    assert_eq!(shown.attention[0].kind, "state");
}

#[test]
fn a_destination_that_left_the_config_is_red_for_nobody() {
    let mut reading = two();
    let mut gone = destination_record("gone");
    gone.trouble = Some(Trouble::new(codes::REPOSITORY_MISSING, "gone"));
    gone.check.trouble = gone.trouble.clone();
    reading.destinations.push(gone);
    assert_eq!(verdict_of(&reading), (Health::Proven, "Everything is proven".to_owned()));
    assert!(view(&reading).attention.is_empty());
}

#[test]
fn a_run_that_was_due_and_did_not_start_counts_on_top() {
    let mut reading = two();
    reading.jobs[0].next_run = Some(now() - MISSED_AFTER - SignedDuration::from_secs(1));
    assert_eq!(verdict_of(&reading), (Health::Failed, "1 job needs attention".to_owned()));
    let view = view(&reading);
    assert_eq!((view.counts.overdue, view.counts.proven), (1, 1));
    assert_eq!(view.attention[0].problem.code, "missed");
    assert_eq!(view.attention[0].problem.commands.last().unwrap(), "larder run a");
}

#[test]
fn a_run_that_is_late_but_in_progress_is_not_missed() {
    let mut reading = two();
    reading.jobs[0].next_run = Some(ago(1));
    reading.live = vec![update("a")];
    let view = view(&reading);
    assert_eq!(view.verdict.health, Health::Proven);
    assert_eq!(view.targets[0].jobs[0].state, JobState::Running);
}

#[test]
fn a_success_older_than_max_age_is_overdue_even_if_the_last_run_was_fine() {
    let mut reading = two();
    for job in &mut reading.jobs {
        job.last_run = Some(summary(1, Outcome::Success, 27, None));
        job.last_success = job.last_run.clone();
    }
    assert_eq!(verdict_of(&reading), (Health::Failed, "2 jobs need attention".to_owned()));
    let problem = view(&reading).attention[0].problem.clone();
    assert!(problem.what.contains("1d 2h"), "{}", problem.what);
}

#[test]
fn states_follow_the_record_and_each_trouble_says_what_why_and_what_to_type() {
    let view = view(&troubled());
    let of = |target: &str| {
        view.targets.iter().flat_map(|t| &t.jobs).find(|job| job.target.as_str() == target).unwrap().clone()
    };
    for (target, state) in [
        ("paperless-db", JobState::Failed),
        ("pfsense", JobState::Overdue),
        ("photos", JobState::Warning),
        ("new-one", JobState::NeverRun),
        ("grafana", JobState::Suspended),
        ("adguard", JobState::Orphaned),
        ("immich-db", JobState::Running),
        ("gitea", JobState::Ok),
    ] {
        assert_eq!(of(target).state, state, "{target}");
    }
    for target in ["paperless-db", "pfsense", "photos"] {
        let problem = of(target).problem.unwrap();
        assert!(!problem.what.is_empty() && problem.why.is_some() && !problem.commands.is_empty(), "{target}");
    }
    assert_eq!(of("paperless-db").problem.unwrap().what, "The last 3 runs failed");
    assert_eq!(view.verdict.sentence, "2 jobs and 1 destination need attention");
    assert_eq!(view.targets[0].health, Health::Failed);
    assert_eq!(view.targets.last().unwrap().health, Health::Inactive);
}

#[test]
fn a_broken_destination_needs_attention_even_if_every_job_is_fine() {
    let mut reading = two();
    reading.destinations[0].trouble = Some(Trouble::new(codes::NOT_MOUNTED, "gone"));
    assert_eq!(verdict_of(&reading), (Health::Failed, "1 destination needs attention".to_owned()));
}

#[test]
fn what_a_destination_says_of_itself_is_not_said_again_by_each_of_its_jobs() {
    let lacking = Trouble::new(codes::UNREACHABLE, "nas: no route to host");
    let mut reading = two();
    for job in &mut reading.jobs {
        job.last_run.as_mut().unwrap().outcome = Outcome::Partial;
        job.last_run.as_mut().unwrap().trouble = Some(lacking.clone());
    }
    let name = reading.destinations[0].name.clone();
    for history in reading.history.values_mut() {
        let shipped = history.shipped.get_mut(&name).unwrap();
        shipped.newest.outcome = Outcome::Failed;
        shipped.newest.trouble = Some(lacking.clone());
    }
    let told = |reading: &Reading| {
        let all = view(reading).attention.into_iter();
        all.map(|each| format!("{} {}: {}", each.kind, each.subject, each.problem.what)).collect::<Vec<_>>()
    };
    assert_eq!(told(&reading).len(), 2, "by each job, as nobody else says it: {:?}", told(&reading));
    reading.destinations[0].trouble = Some(lacking);
    let [only] = &told(&reading)[..] else { panic!("{:?}", told(&reading)) };
    assert!(only.starts_with(&format!("destination {name}: ")), "{only}");
    assert!(only.ends_with("does not work; 2 jobs lack it: a/daily, b/daily"), "{only}");
    // What it lacks besides is its own to say.
    reading.jobs[0].last_run.as_mut().unwrap().trouble = Some(Trouble::new(codes::FILES_UNREADABLE, "3 files"));
    assert_eq!(told(&reading).len(), 2, "{:?}", told(&reading));
}

#[test]
fn a_rejected_and_a_held_revision_are_said_on_top_and_the_old_one_stays() {
    let revision = Revision::parse(&"ab".repeat(20)).unwrap();
    let mut reading = two();
    let errors = vec!["targets.yaml:3:5  unknown plugin \"postgers\"".to_owned()];
    reading.config.rejected = Some(Rejected { revision: revision.clone(), at: ago(1), errors });
    let shown = view(&reading);
    assert_eq!((shown.verdict.health, shown.config.state.as_str()), (Health::Warning, "rejected"));
    assert!(shown.verdict.sentence.contains("stays in force"));
    assert!(shown.attention[0].problem.why.as_ref().unwrap().contains("targets.yaml:3:5"));
    reading.config.rejected = None;
    reading.config.held = Some(Held { revision, at: ago(1), reason: "it removes 2 of 2 targets".to_owned() });
    assert_eq!(view(&reading).config.state, "held");
}

#[test]
fn a_suspension_that_ended_is_no_longer_shown() {
    let mut job = job("a");
    job.suspended = Some(Suspension { since: ago(5), until: ago(1), reason: "x".to_owned() });
    assert_eq!(standing(&job, Some(&policy()), false, now()).state, JobState::Ok);
}

#[test]
fn mails_that_cannot_be_delivered_are_a_warning() {
    let mut reading = two();
    reading.mails_waiting = 2;
    reading.mail_error = Some("535 authentication failed".to_owned());
    assert_eq!(verdict_of(&reading), (Health::Warning, "Backed up, with 1 warning".to_owned()));
}

#[test]
fn two_views_of_the_same_state_differ_only_in_when_they_were_made() {
    let reading = troubled();
    let mut later = View::build(&reading, now() + SignedDuration::from_secs(30));
    later.generated = now();
    assert_eq!(view(&reading), later);
}

#[test]
fn a_destination_and_a_target_are_shown_in_figures_with_the_time_that_they_are_of() {
    let view = view(&troubled());
    let mut renderer = Renderer::new(None).unwrap();
    let page = renderer.index(&view).unwrap();
    for told in [
        "465.7 GiB <span class=\"quiet\">for 2.7 TiB in 200 snapshots, as of <time datetime=\"2026-11-21T22:00:00Z\"",
        "2.0 TiB <span class=\"quiet\">by deduplication,</span> 279.4 GiB",
        "953.7 MiB a day<span class=\"quiet\">; what the next forget frees: 2.8 GiB",
        "3.50 USD a month<span class=\"quiet\">, in 90 days 4.13 USD",
        "<span class=\"quiet\">&#x2f;mnt&#x2f;usb is not a mount point</span>",
    ] {
        assert!(page.contains(told), "{told} is not in\n{page}");
    }
    let target = |name: &str| view.targets.iter().find(|target| target.name.as_str() == name).unwrap();
    let page = renderer.target(&view, target("gitea")).unwrap();
    for told in ["In figures", "11.2 GiB", "572.2 MiB", "not known yet (3 of 7 daily figures)"] {
        assert!(page.contains(told), "{told} is not in\n{page}");
    }
    assert!(!renderer.target(&view, target("photos")).unwrap().contains("In figures"));
    let worry = |kind: &str| view.attention.iter().filter(|each| each.kind == kind).count();
    assert_eq!(
        worry("destination"),
        1,
        "only that the disk is away: that its figures are old is no trouble of its own"
    );
}

const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}{% raw %}&lt;";

/// Puts the hostile text wherever a string of the outside world can appear.
fn hostile() -> Reading {
    let mut reading = troubled();
    let trouble = || Trouble::told(HOSTILE, HOSTILE).with_hint(HOSTILE);
    for job in &mut reading.jobs {
        if let Some(last) = &mut job.last_run {
            last.trouble = Some(trouble());
            last.outcome = Outcome::Failed;
        }
        if let Some(suspended) = &mut job.suspended {
            suspended.reason = HOSTILE.to_owned();
        }
    }
    for history in reading.history.values_mut() {
        history.warnings = vec![trouble()];
        for cell in &mut history.cells {
            cell.trouble = Some(HOSTILE.to_owned());
        }
        for shipped in history.shipped.values_mut() {
            shipped.newest.snapshot = Some(HOSTILE.to_owned());
            shipped.newest.trouble = Some(trouble());
        }
        if let Some((_, artifact)) = &mut history.artifact {
            artifact.path = HOSTILE.to_owned();
        }
    }
    for destination in &mut reading.destinations {
        destination.trouble = Some(trouble());
        destination.prune.trouble = Some(trouble());
    }
    for known in reading.statistics.values_mut() {
        known.trouble = Some(trouble());
        known.figures.as_mut().unwrap().next_forget = NextForget::Unknown { why: HOSTILE.to_owned() };
    }
    for destination in reading.desired.destinations.values_mut() {
        destination.cost.as_mut().unwrap().currency = HOSTILE.to_owned();
    }
    let mut gone = destination_record("gone");
    gone.location = HOSTILE.to_owned();
    reading.destinations.push(gone);
    reading.live[0].detail = Some(HOSTILE.to_owned());
    let errors = vec![HOSTILE.to_owned(); 5];
    let revision = Revision::parse(&"cd".repeat(20)).unwrap();
    reading.config.rejected = Some(Rejected { revision: revision.clone(), at: ago(1), errors });
    reading.config.held = Some(Held { revision, at: ago(1), reason: HOSTILE.to_owned() });
    reading.mails_waiting = 1;
    reading.mail_error = Some(HOSTILE.to_owned());
    reading.desired.site.timezone = HOSTILE.to_owned();
    reading.desired.policies.get_mut("daily").unwrap().schedule.expression = HOSTILE.to_owned();
    reading
}

#[test]
fn no_string_of_the_outside_world_becomes_markup() {
    let view = view(&hostile());
    let mut renderer = Renderer::new(None).unwrap();
    let mut pages = vec![renderer.index(&view).unwrap()];
    pages.extend(view.targets.iter().map(|target| renderer.target(&view, target).unwrap()));
    for page in &pages {
        assert!(!page.contains("<script>alert"), "a script got through");
        assert!(!page.contains("<img"), "a tag got through");
        assert!(!page.contains("\"'>"), "an attribute can be closed");
        assert!(!page.contains("49"), "a template in a message was evaluated");
        assert_eq!(page.matches("<script>").count(), 1);
    }
    assert!(pages[0].contains("&lt;script&gt;alert(1)&lt;"), "the message should still be readable");
}

#[test]
fn pages_hold_nothing_that_their_policy_forbids() {
    let mut renderer = Renderer::new(None).unwrap();
    let view = view(&troubled());
    let page = renderer.index(&view).unwrap();
    assert!(
        page.contains(&content_security_policy().replace('\'', "&#x27;").replace('/', "&#x2f;")),
        "the policy is in the page too"
    );
    assert!(!page.contains(" style=") && !page.contains(" onclick="), "inline attributes do not run under the policy");
    assert!(!page.contains("http://") || page.matches("http://").count() == page.matches("http://www.w3.org").count());
}

#[test]
fn every_state_has_an_icon_and_a_word() {
    let page = Renderer::new(None).unwrap().index(&view(&troubled())).unwrap();
    for (icon, word) in [
        ("failed", "Failed"),
        ("overdue", "Overdue"),
        ("warning", "Warning"),
        ("never_run", "Never run"),
        ("suspended", "Suspended"),
        ("orphaned", "Orphaned"),
        ("running", "Running"),
        ("ok", "Proven"),
    ] {
        assert!(page.contains(&format!("<symbol id=\"i-{icon}\"")), "{icon} is drawn");
        assert!(page.contains(&format!("href=\"#i-{icon}\"></use></svg>{word}</span>")), "{icon} stands before {word}");
    }
}

#[test]
fn a_thousand_targets_are_within_the_fuel() {
    let names: Vec<String> = (0..1000).map(|n| format!("target-{n:04}")).collect();
    let targets: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "files")).collect();
    let page = Renderer::new(None).unwrap().index(&view(&healthy(&targets))).unwrap();
    assert_eq!(page.matches("<tr role=\"row\" class=\"proven\"").count(), 1000);
}

/// Pages to look at: `target/status-sample/*/current/index.html`.
#[test]
fn the_samples_can_be_looked_at() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/status-sample");
    let seventy: Vec<String> = (0..70).map(|n| format!("container-{n:02}")).collect();
    let seventy: Vec<(&str, &str)> = seventy.iter().map(|name| (name.as_str(), "files")).collect();
    for (name, reading) in [("troubled", troubled()), ("healthy", healthy(&seventy)), ("empty", Reading::default())] {
        pages::write_pages(&root.join(name), &view(&reading)).unwrap();
        assert!(root.join(name).join("current/index.html").is_file());
    }
}

#[test]
fn times_are_said_in_the_sites_zone() {
    let page = Renderer::new(None).unwrap().index(&view(&troubled())).unwrap();
    assert!(page.contains("2026-11-22 14:00:00 +08:00"), "06:00Z is 14:00 in Singapore");
}

#[test]
fn the_first_pages_of_an_empty_site_teach() {
    let page = Renderer::new(None).unwrap().index(&view(&Reading::default())).unwrap();
    assert!(page.contains("Nothing is protected yet") && page.contains("kind: Target"));
}

#[test]
fn pages_are_swapped_whole_and_only_when_something_changed() {
    let directory = tempfile::tempdir().unwrap();
    let mut pages = Pages::open(directory.path(), None).unwrap();
    let mut reading = troubled();
    let count = view(&reading).targets.len();
    assert_eq!(pages.write(&view(&reading)).unwrap(), Written::Swapped { rendered: count + 2, linked: 0 });
    let first = std::fs::read_link(pages.current()).unwrap();
    assert!(pages.current().join("targets/gitea.html").is_file());

    let at = |seconds: i64| now() + SignedDuration::from_secs(seconds);
    assert_eq!(pages.write(&View::build(&reading, at(60))).unwrap(), Written::Unchanged);

    reading.live[0].bytes_done += 1_000_000;
    assert_eq!(pages.write(&View::build(&reading, at(5))).unwrap(), Written::Unchanged, "progress can wait");
    let later = at(i64::try_from(PROGRESS_EVERY.as_secs()).unwrap());
    let progressed = pages.write(&View::build(&reading, later)).unwrap();
    assert_eq!(
        progressed,
        Written::Swapped { rendered: 3, linked: count - 1 },
        "only the running target's page is new"
    );
    assert_ne!(std::fs::read_link(pages.current()).unwrap(), first);

    let renewed = at(i64::try_from(RENEW_AFTER.as_secs()).unwrap() + 10);
    assert_eq!(
        pages.write(&View::build(&reading, renewed)).unwrap(),
        Written::Swapped { rendered: count + 2, linked: 0 },
        "all pages carry a fresh time"
    );
    assert!(std::fs::read_dir(directory.path()).unwrap().count() <= 3, "old directories are removed");
}

#[test]
fn what_a_crash_left_between_is_removed_and_a_target_that_left_has_no_page() {
    let directory = tempfile::tempdir().unwrap();
    for n in 0..5 {
        std::fs::create_dir_all(directory.path().join(format!("pages-0{n}/targets"))).unwrap();
    }
    std::os::unix::fs::symlink("pages-00", directory.path().join(".current-01")).unwrap();
    let mut pages = Pages::open(directory.path(), None).unwrap();
    let mut reading = two();
    pages.write(&view(&reading)).unwrap();
    reading.jobs.remove(0);
    reading.desired.targets.remove("a");
    pages.write(&view(&reading)).unwrap();
    assert!(!pages.current().join("targets/a.html").exists() && pages.current().join("targets/b.html").exists());
    assert!(std::fs::read_dir(directory.path()).unwrap().count() <= 3);
}

#[test]
fn status_json_reads_back_as_the_same_view() {
    let view = view(&troubled());
    let back: View = serde_json::from_slice(&pages::status_json(&view).unwrap()).unwrap();
    assert_eq!(back, view);
    assert_eq!(back.version, 1);
}

#[test]
fn an_override_wins_and_a_bad_one_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("index.html"), "mine: {{ view.verdict.sentence }}").unwrap();
    let mut renderer = Renderer::new(Some(directory.path())).unwrap();
    assert_eq!(renderer.index(&view(&two())).unwrap(), "mine: Everything is proven");

    std::fs::write(directory.path().join("index.html"), "{{ view.nothing_of_this_name }}").unwrap();
    let error = Renderer::new(Some(directory.path())).unwrap().index(&view(&two())).unwrap_err();
    assert_eq!(error.to_string(), "the template index.html cannot be rendered");

    std::fs::write(directory.path().join("index.html"), "{% for x in %}").unwrap();
    assert_eq!(
        Renderer::new(Some(directory.path())).unwrap_err().to_string(),
        "the template index.html cannot be parsed"
    );
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    std::fs::write(directory.path().join("index.html"), endless).unwrap();
    assert!(Renderer::new(Some(directory.path())).unwrap().index(&view(&two())).is_err(), "fuel runs out");

    std::fs::write(directory.path().join("index.html"), vec![b' '; 300_000]).unwrap();
    assert!(Renderer::new(Some(directory.path())).unwrap_err().to_string().contains("is larger than"));
    std::fs::remove_file(directory.path().join("index.html")).unwrap();
    std::fs::create_dir(directory.path().join("index.html")).unwrap();
    assert!(Renderer::new(Some(directory.path())).unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn a_mail_escapes_in_html_and_not_in_text() {
    let context = serde_json::json!({ "who": "<b>&", "at": now().to_string() });
    let text = "{{ who }} {{ at|when('Asia/Singapore') }}";
    assert_eq!(render_mail("mail/x.txt", text, None, &context).unwrap(), "<b>& Sun 22 Nov 2026, 14:00");
    assert_eq!(render_mail("mail/x.html", text, None, &context).unwrap(), "&lt;b&gt;&amp; Sun 22 Nov 2026, 14:00");
    assert!(render_mail("mail/x.txt", "{{ missing }}", None, &context).is_err());
}

#[test]
fn writing_into_a_place_that_is_no_directory_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Pages::open(&file.join("pages"), None).unwrap_err();
    assert!(error.to_string().contains("file/pages"), "{error}");
}
