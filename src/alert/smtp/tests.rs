//! Against a scripted peer on the loopback: hangs, hang-ups and nonsense at each step, with little patience.

use std::time::Instant;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::super::letter::tests::site;
use super::*;
use crate::alert::compose::compose;
use crate::store::record::OutboxMail;

const LITTLE: Patience = Patience {
    name: Duration::from_secs(5),
    connect: Duration::from_secs(1),
    step: Duration::from_millis(300),
    data: Duration::from_millis(300),
};

/// What the peer does when a line that starts with the first word comes (`` is the connection itself).
type Script = &'static [(&'static str, Does)];

#[derive(Clone, Copy)]
enum Does {
    Say(&'static str),
    Hang,
    HangUp,
}

const FINE: [(&str, Does); 6] = [
    ("", Does::Say("220 peer")),
    ("EHLO", Does::Say("250 peer")),
    ("MAIL", Does::Say("250 ok")),
    ("RCPT", Does::Say("250 ok")),
    ("DATA", Does::Say("354 go on")),
    (".", Does::Say("250 taken")),
];

/// The code that one mail to a peer ends with: `script` first, then [`FINE`].
async fn ends_with(script: Script) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let peer = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(play(stream, script));
        }
    });
    let mut email = site().email.unwrap();
    email.smtp = Smtp { security: SmtpSecurity::Plain, host: "127.0.0.1".to_owned(), port };
    let start = Instant::now();
    let code = match Session::open(&email, LITTLE).await {
        Err(fault) => fault.code().name().to_owned(),
        Ok(mut session) => {
            let mail = compose(&email.from, &mail()).unwrap();
            match session.send(&mail).await {
                Err(fault) => fault.code().name().to_owned(),
                Ok(Answer { taken: Some(line), .. }) => line,
                Ok(answer) => format!("later {} refused {}", answer.later.len(), answer.refused.len()),
            }
        }
    };
    assert!(start.elapsed() < Duration::from_secs(4), "{code} took {:?}", start.elapsed());
    peer.abort();
    code
}

async fn play(stream: TcpStream, script: Script) -> Option<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let mut line = String::new();
    let mut in_data = false;
    loop {
        let step = script.iter().chain(&FINE).find(|(word, _)| match *word {
            "" => line.is_empty() && !in_data,
            word if in_data => word == "." && line == ".",
            word => line.starts_with(word),
        });
        match step.map(|(_, does)| *does) {
            Some(Does::Say(answer)) => {
                in_data = answer.starts_with("354");
                writer.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
            }
            Some(Does::Hang) => std::future::pending::<()>().await,
            Some(Does::HangUp) => return None,
            None if in_data => {}
            None => writer.write_all(b"500 what\r\n").await.ok()?,
        }
        line = lines.next_line().await.ok()??;
    }
}

fn mail() -> OutboxMail {
    let now = jiff::Timestamp::UNIX_EPOCH;
    OutboxMail {
        created: now,
        to: vec!["me@home.lan".to_owned()],
        subject: "subject".to_owned(),
        text: ".\n..\ntext\n".to_owned(),
        html: String::new(),
        attempts: 0,
        not_before: now,
        last_error: None,
    }
}

#[tokio::test]
async fn a_peer_that_hangs_at_any_step_is_left_after_a_bound() {
    assert_eq!(ends_with(&[]).await, "250 taken");
    for script in [
        &[("", Does::Hang)] as Script,
        &[("EHLO", Does::Hang)],
        &[("MAIL", Does::Hang)],
        &[("RCPT", Does::Hang)],
        &[("DATA", Does::Hang)],
        &[(".", Does::Hang)],
    ] {
        assert_eq!(ends_with(script).await, "mail_timeout", "{}", script[0].0);
    }
}

#[tokio::test]
async fn a_peer_that_hangs_up_at_any_step_is_no_answer_about_the_mail() {
    for script in [
        &[("", Does::HangUp)] as Script,
        &[("EHLO", Does::HangUp)],
        &[("MAIL", Does::HangUp)],
        &[("RCPT", Does::HangUp)],
        &[("DATA", Does::HangUp)],
        &[(".", Does::HangUp)],
    ] {
        let code = ends_with(script).await;
        assert!(matches!(code.as_str(), "mail_broken" | "mail_not_smtp"), "{} ended with {code}", script[0].0);
    }
}

#[tokio::test]
async fn refusals_of_the_server_are_told_from_refusals_of_the_mail() {
    for (script, expected) in [
        (&[("", Does::Say("554 go away"))] as Script, "mail_rejected"),
        (&[("", Does::Say("HTTP/1.1 400 Bad Request"))], "mail_not_smtp"),
        (&[("MAIL", Does::Say("421 shutting down"))], "mail_rejected"),
        (&[("MAIL", Does::Say("452 full"))], "later 1 refused 0"),
        (&[("MAIL", Does::Say("550 who are you"))], "later 0 refused 1"),
        (&[("RCPT", Does::Say("450 grey"))], "later 1 refused 0"),
        (&[("RCPT", Does::Say("550 unknown"))], "later 0 refused 1"),
        (&[("DATA", Does::Say("554 no"))], "later 0 refused 1"),
        (&[(".", Does::Say("451 try later"))], "later 1 refused 0"),
        (&[(".", Does::Say("554 spam"))], "later 0 refused 1"),
    ] {
        assert_eq!(ends_with(script).await, expected);
    }
}
