//! Alerts against a real mail server with TLS and a login.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use larder::alert::outbox::Outbox;
use larder::clock::{Clock as _, ManualClock};
use larder::config::model::{Config, Email, Site, SmtpSecurity};
use larder::error::Trouble;
use larder::run::RunState;
use larder::store::ledger::Ledger;
use larder::store::memory::MemoryStore;
use larder::store::record::{JobRecord, OutboxMail, RunRecord, Trigger};
use larder::store::{Batch, Store};
use larder::types::{Name, Outcome, RunId};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub mod server;

use crate::support::{free_port, wait_for};
use server::{Server, trusting_our_ca};

/// The outbox's task at work over a store, with a clock that is turned by hand.
struct Office {
    runtime: tokio::runtime::Runtime,
    ledger: Ledger,
    config: watch::Sender<Arc<Config>>,
    clock: Arc<ManualClock>,
    wake: Arc<Notify>,
    cancel: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Office {
    fn open(email: Email) -> Self {
        Self::over(Arc::new(MemoryStore::new()), email)
    }

    fn over(store: Arc<dyn Store>, email: Email) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let ledger = Ledger::new(store);
        let (config, receiver) = watch::channel(Arc::new(desired(email)));
        let clock = Arc::new(ManualClock::at("2026-11-22T02:00:00Z".parse().unwrap()));
        let (wake, cancel) = (Arc::new(Notify::new()), CancellationToken::new());
        let task = larder::alert::deliver(ledger.clone(), receiver, clock.clone(), wake.clone(), cancel.clone());
        let task = Some(runtime.spawn(task));
        Self { runtime, ledger, config, clock, wake, cancel, task }
    }

    fn site(&self) -> Site {
        self.config.borrow().site.clone()
    }

    fn push(&self, email: Email) {
        self.config.send(Arc::new(desired(email))).unwrap();
    }

    /// Puts a mail into the outbox as the daemon does.
    fn enqueue(&self, subject: &str) {
        let now = self.clock.now();
        let mail = OutboxMail {
            created: now,
            to: self.site().email.unwrap().to,
            subject: subject.to_owned(),
            text: "text 📦\n".to_owned(),
            html: "<p>html 📦</p>".to_owned(),
            attempts: 0,
            not_before: now,
            last_error: None,
        };
        self.put(&[mail]);
    }

    fn put(&self, mails: &[OutboxMail]) {
        let mut batch = Batch::default();
        for mail in mails {
            batch.enqueue_mail(mail).unwrap();
        }
        self.ledger.commit(batch).unwrap();
        self.wake.notify_one();
    }

    fn turn(&self, minutes: i64) {
        self.clock.turn(SignedDuration::from_mins(minutes));
        self.wake.notify_one();
    }

    fn outbox(&self) -> Outbox {
        Outbox::read(&self.ledger).unwrap()
    }

    fn waiting(&self) -> Vec<OutboxMail> {
        self.ledger.outbox_due(Timestamp::MAX, 100).unwrap().into_iter().map(|(_, mail)| mail).collect()
    }

    fn wait_until(&self, what: &str, is: impl Fn(&Outbox) -> bool) -> Outbox {
        wait_for(what, Duration::from_secs(20), || Some(self.outbox()).filter(&is))
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        self.cancel.cancel();
        let task = self.task.take().unwrap();
        let ended = self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), task).await });
        if !std::thread::panicking() {
            ended.expect("the task ends when it is cancelled").unwrap();
        }
    }
}

fn desired(email: Email) -> Config {
    Config { site: Site { email: Some(email), ..Site::default() }, ..Config::default() }
}

fn send_test(email: &Email) -> Result<String, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(larder::alert::send_test(email))
}

fn code(email: &Email) -> String {
    let trouble = send_test(email).expect_err("a test mail should not pass");
    assert!(trouble.hint.is_some(), "{trouble:?} has no hint");
    assert!(!format!("{trouble:?}").contains("horse"), "a password is in {trouble:?}");
    trouble.code
}

#[test]
fn a_mail_is_delivered_over_tls_and_over_starttls_with_a_login() {
    trusting_our_ca("a_mail_is_delivered_over_tls_and_over_starttls_with_a_login", |directory| {
        for mode in ["tls", "starttls"] {
            let place = directory.join(mode);
            std::fs::create_dir(&place).unwrap();
            for file in ["good.crt", "good.key"] {
                std::fs::copy(directory.join(file), place.join(file)).unwrap();
            }
            let server = Server::start(&place, mode, "good", 0);
            server.behave("login-required\n");
            let office = Office::open(server.email());
            office.enqueue("[home] FAILED: ümläut 备份");
            let taken = server.wait_for(1);
            assert_eq!(taken[0].facts["user"], "larder");
            assert_eq!(taken[0].facts["tls"], true);
            assert_eq!(taken[0].facts["from"], "larder@home.test");
            assert_eq!(taken[0].facts["to"], serde_json::json!(["me@home.test"]));
            assert!(taken[0].header("From").contains("Larder"));
            assert!(taken[0].header("Content-Type").starts_with("multipart/alternative"));
            let outbox = office.wait_until("the note of the delivery", |outbox| outbox.waiting == 0);
            assert_eq!((outbox.delivered_total, outbox.trouble), (1, None));
            assert!(send_test(&server.email()).unwrap().contains("250 2.0.0 taken for me@home.test"));
        }
    });
}

#[test]
fn each_thing_that_is_commonly_wrong_has_its_own_trouble() {
    trusting_our_ca("each_thing_that_is_commonly_wrong_has_its_own_trouble", |directory| {
        for (certificate, expected) in
            [("wrong", "mail_tls_wrong_name"), ("expired", "mail_tls_expired"), ("alone", "mail_tls_unknown_ca")]
        {
            for mode in ["tls", "starttls"] {
                let server = Server::start(directory, mode, certificate, 0);
                assert_eq!(code(&server.email()), expected, "{mode}");
            }
        }
        let server = Server::start(directory, "tls", "good", 0);
        let email = server.email();
        let wrong = directory.join("wrong-password");
        std::fs::write(&wrong, "wrong horse").unwrap();
        let secret = |path: &Path| Some(larder::secret::SecretRef::File(path.to_owned()));
        assert_eq!(code(&Email { password: secret(&wrong), ..email.clone() }), "mail_auth_failed");
        assert_eq!(code(&Email { password: secret(Path::new("/nonexistent")), ..email.clone() }), "mail_password");
        assert_eq!(code(&Email { password: None, ..email.clone() }), "mail_password");
        assert_eq!(code(&Email { to: vec!["nonsense".to_owned()], ..email.clone() }), "mail_address");
        let mut other = email.clone();
        other.smtp.port = free_port();
        assert_eq!(code(&other), "mail_refused");
        other.smtp.host = "mail.invalid".to_owned();
        assert_eq!(code(&other), "mail_dns");

        server.behave("refuse me@home.test\n");
        assert_eq!(code(&email), "mail_rejected");
        server.behave("later me@home.test\n");
        assert_eq!(code(&email), "mail_later");
        server.behave("login-required\n");
        assert_eq!(code(&Email { username: None, password: None, ..email.clone() }), "mail_rejected");
        server.behave("busy\n");
        assert_eq!(code(&email), "mail_rejected");

        let plain = Server::start(&directory.join("server"), "plain", "", 0);
        let mut email = plain.email();
        send_test(&email).unwrap();
        email.smtp.security = SmtpSecurity::StartTls;
        assert_eq!(code(&email), "mail_no_starttls");
        email.smtp.security = SmtpSecurity::Tls;
        assert_eq!(code(&email), "mail_tls");
    });
}

#[test]
fn an_authority_that_nobody_trusts_is_refused() {
    // Not in a child: this process trusts the system's authorities, and ours is none of them.
    let directory = tempfile::tempdir().unwrap();
    server::certificates(directory.path());
    let server = Server::start(directory.path(), "tls", "good", 0);
    let trouble = send_test(&server.email()).unwrap_err();
    assert_eq!(trouble.code, "mail_tls_unknown_ca");
    assert!(trouble.hint.unwrap().contains("SSL_CERT_FILE"));
    assert!(server.taken().is_empty());
}

#[test]
fn a_server_that_is_down_for_a_while_loses_nothing_and_doubles_nothing() {
    trusting_our_ca("a_server_that_is_down_for_a_while_loses_nothing_and_doubles_nothing", |directory| {
        let port = free_port();
        let mut email = Server::start(directory, "tls", "good", 0).email();
        email.smtp.port = port;
        let office = Office::open(email);
        for number in 0..3 {
            office.enqueue(&format!("mail {number}"));
        }
        let outbox = office.wait_until("the first try", |outbox| outbox.trouble.is_some());
        assert_eq!((outbox.waiting, outbox.trouble.unwrap().code.as_str()), (3, "mail_refused"));
        let since = outbox.failing_since.unwrap();
        office.turn(2);
        wait_for("the second try", Duration::from_secs(20), || (office.waiting()[0].attempts == 2).then_some(()));
        assert!(office.waiting()[0].last_error.as_ref().unwrap().contains("no connection"));
        assert_eq!(office.outbox().failing_since, Some(since));

        let server = Server::start(directory, "tls", "good", port);
        office.turn(5);
        let subjects: Vec<String> = server.wait_for(3).iter().map(|mail| mail.header("Subject")).collect();
        assert_eq!(subjects, ["mail 0", "mail 1", "mail 2"]);
        let outbox = office.wait_until("the note of the last delivery", |outbox| outbox.waiting == 0);
        assert_eq!((outbox.delivered_total, outbox.dropped_total, outbox.failing_since), (3, 0, None));
        office.turn(120);
        office.enqueue("mail 3");
        assert_eq!(server.wait_for(4).len(), 4);
    });
}

#[test]
fn a_clock_set_back_by_years_keeps_no_mail_waiting_for_years() {
    trusting_our_ca("a_clock_set_back_by_years_keeps_no_mail_waiting_for_years", |directory| {
        let port = free_port();
        let mut email = Server::start(directory, "tls", "good", 0).email();
        email.smtp.port = port;
        let office = Office::open(email);
        office.enqueue("patience");
        office.wait_until("the first try", |outbox| outbox.trouble.is_some());
        let server = Server::start(directory, "tls", "good", port);
        office.turn(-10 * 365 * 24 * 60);
        assert_eq!(server.wait_for(1)[0].header("Subject"), "patience");
    });
}

#[test]
fn a_wrong_password_keeps_the_mail_until_a_push_mends_it() {
    trusting_our_ca("a_wrong_password_keeps_the_mail_until_a_push_mends_it", |directory| {
        let server = Server::start(directory, "starttls", "good", 0);
        let right = server.email();
        let office = Office::open(Email { username: Some("root".to_owned()), ..right.clone() });
        office.enqueue("kept");
        let outbox = office.wait_until("the refused login", |outbox| outbox.trouble.is_some());
        assert_eq!((outbox.waiting, outbox.trouble.unwrap().code.as_str()), (1, "mail_auth_failed"));
        // At once, not after the pause.
        office.push(right);
        assert_eq!(server.wait_for(1)[0].header("Subject"), "kept");
    });
}

#[test]
fn a_greylisted_mail_is_tried_again_and_delivered_once() {
    trusting_our_ca("a_greylisted_mail_is_tried_again_and_delivered_once", |directory| {
        let server = Server::start(directory, "tls", "good", 0);
        server.behave("later me@home.test\n");
        let email = Email { to: vec!["me@home.test".to_owned(), "you@home.test".to_owned()], ..server.email() };
        let office = Office::open(email);
        office.enqueue("grey");
        let first = server.wait_for(1);
        assert_eq!(first[0].facts["to"], serde_json::json!(["you@home.test"]), "others don't wait for the greylist");
        office.wait_until("the note", |outbox| {
            outbox.trouble.as_ref().is_some_and(|trouble| trouble.code == "mail_later")
        });
        assert_eq!(office.waiting()[0].to, ["me@home.test"]);
        server.behave("");
        office.turn(2);
        let both = server.wait_for(2);
        assert_eq!(both[1].facts["to"], serde_json::json!(["me@home.test"]));
        assert_eq!(both[0].header("Message-ID"), both[1].header("Message-ID"));
        office.wait_until("the end", |outbox| outbox.waiting == 0);

        server.behave("later-all\n");
        office.enqueue("busy");
        office.wait_until("451", |outbox| outbox.trouble.is_some());
        server.behave("");
        office.turn(2);
        assert_eq!(server.wait_for(3)[2].facts["to"].as_array().unwrap().len(), 2);
    });
}

#[test]
fn a_refused_recipient_rests_until_the_settings_change_and_others_get_theirs() {
    trusting_our_ca("a_refused_recipient_rests_until_the_settings_change_and_others_get_theirs", |directory| {
        let server = Server::start(directory, "tls", "good", 0);
        server.behave("refuse gone@home.test\n");
        let to = |who: &[&str]| who.iter().map(|who| (*who).to_owned()).collect::<Vec<_>>();
        let office = Office::open(Email { to: to(&["me@home.test", "gone@home.test"]), ..server.email() });
        office.enqueue("news");
        assert_eq!(server.wait_for(1)[0].facts["to"], serde_json::json!(["me@home.test"]));
        let outbox = office.wait_until("the note", |outbox| outbox.refused_total == 1);
        assert_eq!(outbox.waiting, 1, "it is kept and seen");
        assert!(office.waiting()[0].last_error.as_ref().unwrap().contains("550 5.1.1 no such mailbox"));
        // A day later it was not tried again, though newer mails pass.
        server.behave("");
        office.turn(24 * 60);
        office.enqueue("next");
        assert_eq!(server.wait_for(2)[1].header("Subject"), "next");
        office.push(Email { to: to(&["new@home.test"]), ..server.email() });
        let third = &server.wait_for(3)[2];
        assert_eq!(
            (third.header("Subject").as_str(), &third.facts["to"]),
            ("news", &serde_json::json!(["new@home.test"]))
        );
        office.wait_until("the end", |outbox| outbox.waiting == 0);

        server.behave("refuse-data\n");
        office.enqueue("spam");
        let outbox = office.wait_until("554", |outbox| outbox.refused_total == 2);
        assert!(outbox.trouble.unwrap().message.contains("554 5.7.1 looks like spam"));
    });
}

#[test]
fn a_server_that_hangs_or_hangs_up_neither_blocks_the_end_nor_loses_the_mail() {
    trusting_our_ca("a_server_that_hangs_or_hangs_up_neither_blocks_the_end_nor_loses_the_mail", |directory| {
        let server = Server::start(directory, "silent", "", 0);
        let office = Office::open(server.email());
        office.enqueue("patience");
        std::thread::sleep(Duration::from_millis(300));
        // Within ten seconds, or the office complains.
        let ledger = office.ledger.clone();
        drop(office);
        assert_eq!(ledger.outbox_len().unwrap(), 1);

        let server = Server::start(directory, "tls", "good", 0);
        server.behave("busy\n");
        let office = Office::open(server.email());
        office.enqueue("later");
        let outbox = office.wait_until("421", |outbox| outbox.trouble.is_some());
        assert_eq!((outbox.waiting, outbox.refused_total), (1, 0), "{outbox:?}");
        server.behave("");
        office.turn(2);
        assert_eq!(server.wait_for(1)[0].header("Subject"), "later");
    });
}

#[test]
fn mails_survive_a_restart_and_a_double_has_the_same_message_id() {
    trusting_our_ca("mails_survive_a_restart_and_a_double_has_the_same_message_id", |directory| {
        let state = directory.join("state");
        let open = || -> Arc<dyn Store> { Arc::new(larder::store::sled_store::SledStore::open(&state).unwrap().store) };
        let port = free_port();
        let mut email = Server::start(directory, "tls", "good", 0).email();
        email.smtp.port = port;
        let office = Office::over(open(), email.clone());
        office.enqueue("durable");
        office.wait_until("the failed try", |outbox| outbox.trouble.is_some());
        let copy = office.waiting();
        drop(office);

        let server = Server::start(directory, "tls", "good", port);
        let office = Office::over(open(), email);
        let first = server.wait_for(1).remove(0);
        office.wait_until("the note", |outbox| outbox.waiting == 0 && outbox.delivered_total == 1);
        // As after a crash between the server's answer and the note of it.
        office.put(&copy);
        let second = server.wait_for(2).remove(1);
        assert_eq!(first.header("Message-ID"), second.header("Message-ID"));
        assert!(first.header("Message-ID").ends_with("@home.test>"));
    });
}

#[test]
fn a_week_old_mail_is_dropped_with_a_count() {
    let mut email = Email {
        smtp: larder::config::model::Smtp {
            security: SmtpSecurity::Plain,
            host: "localhost".to_owned(),
            port: free_port(),
        },
        username: None,
        password: None,
        hello_name: None,
        from: "larder@home.test".to_owned(),
        to: vec!["me@home.test".to_owned()],
    };
    let office = Office::open(email.clone());
    office.enqueue("old");
    office.wait_until("the failed try", |outbox| outbox.trouble.is_some());
    office.turn(6 * 24 * 60);
    email.from = "other@home.test".to_owned();
    office.push(email);
    office.turn(0);
    assert_eq!(office.outbox().waiting, 1);
    office.turn(25 * 60);
    let outbox = office.wait_until("the drop", |outbox| outbox.waiting == 0);
    assert_eq!((outbox.dropped_total, outbox.delivered_total), (1, 0));
}

#[test]
fn a_failure_sends_one_mail_its_repeat_none_and_the_recovery_one() {
    trusting_our_ca("a_failure_sends_one_mail_its_repeat_none_and_the_recovery_one", |directory| {
        let server = Server::start(directory, "starttls", "good", 0);
        let office = Office::open(server.email());
        let mut job: JobRecord =
            serde_json::from_value(serde_json::json!({"id": {"target": "db", "policy": "daily"}, "schedule_key": ""}))
                .unwrap();
        let mut expected = 0;
        for (outcome, mails) in [
            (Outcome::Success, 0),
            (Outcome::Failed, 1),
            (Outcome::Failed, 0),
            (Outcome::Deferred, 0),
            (Outcome::Success, 1),
            (Outcome::Success, 0),
        ] {
            // What the daemon writes at a run's end, in one batch.
            let now = office.clock.now();
            let run = run(&job, outcome, now);
            let mut after = job.clone();
            after.failing = match outcome {
                Outcome::Failed => job.failing + 1,
                Outcome::Success => 0,
                _ => job.failing,
            };
            larder::alert::track(&job, &mut after, &run, outcome, now);
            let mut batch = Batch::default();
            batch.put_run(&run).unwrap();
            batch.put_job(&after).unwrap();
            let due = larder::alert::mails_for(&office.site(), &job, &after, &run, now);
            assert_eq!(due.len(), mails, "{outcome}");
            for mail in &due {
                batch.enqueue_mail(mail).unwrap();
            }
            office.ledger.commit(batch).unwrap();
            office.wake.notify_one();
            expected += mails;
            server.wait_for(expected);
            office.turn(60);
            job = after;
        }
        office.wait_until("the end", |outbox| outbox.waiting == 0);
        let taken = server.taken();
        let subjects: Vec<String> = taken.iter().map(|mail| mail.header("Subject")).collect();
        assert_eq!(
            subjects,
            ["[home] FAILED: db/daily: the disk is gone", "[home] Recovered: db/daily after 2 failures"]
        );
        assert!(taken[0].text.contains("plug it in"));
        assert!(taken[1].text.contains("in trouble since: Sun 22 Nov 2026, 03:00 UTC (3h)"), "{}", taken[1].text);
    });
}

fn run(job: &JobRecord, outcome: Outcome, now: Timestamp) -> RunRecord {
    RunRecord {
        id: RunId::generate(now),
        job: job.id.clone(),
        trigger: Trigger::Manual,
        revision: None,
        plugin: Name::parse("files").unwrap(),
        state: RunState::Finished(outcome),
        queued: now,
        started: Some(now),
        finished: Some(now),
        trouble: (outcome == Outcome::Failed)
            .then(|| Trouble::told("gone", "the disk is gone").with_hint("plug it in")),
        warnings: Vec::new(),
        notices: Vec::new(),
        artifact: None,
        shipments: Vec::new(),
        bytes: 0,
    }
}

#[test]
fn a_server_that_wants_a_full_name_gets_one_and_one_that_refuses_it_gets_the_address() {
    trusting_our_ca("a_server_that_wants_a_full_name_gets_one_and_one_that_refuses_it_gets_the_address", |directory| {
        let server = Server::start(directory, "tls", "good", 0);
        let email = server.email();
        let hello = |count: usize| server.wait_for(count)[count - 1].facts["hello"].as_str().unwrap().to_owned();
        for (number, rule) in ["full-name\n", "full-name-late\n"].into_iter().enumerate() {
            server.behave(rule);
            send_test(&email).unwrap();
            let name = hello(number + 1);
            assert!(name.contains('.') && !name.starts_with("localhost"), "{name}");
        }
        server.behave("only-address\n");
        send_test(&email).unwrap();
        assert_eq!(hello(3), "[127.0.0.1]");

        let named = Email { hello_name: Some("nas.home.test".to_owned()), ..email.clone() };
        server.behave("full-name\n");
        send_test(&named).unwrap();
        assert_eq!(hello(4), "nas.home.test");
        server.behave("only-address\n");
        let refused = send_test(&named).unwrap_err();
        assert_eq!(refused.code, "mail_hello_refused", "{refused}");
        assert!(refused.message.contains("nas.home.test") && refused.hint.unwrap().contains("hello_name"));

        // A server that says so only at the recipient refuses no mail for good.
        server.behave("full-name-late\n");
        let bare = Email { hello_name: Some("vm".to_owned()), ..email };
        assert_eq!(code(&bare), "mail_hello_refused");
        let office = Office::open(bare);
        office.enqueue("waits");
        office.wait_until("the first try", |outbox| outbox.waiting == 1 && outbox.trouble.is_some());
        assert_eq!(office.waiting()[0].attempts, 1, "it waits until the name is mended");
    });
}
