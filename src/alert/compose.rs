//! From a stored mail to the bytes that a mail server takes.

use std::time::SystemTime;

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, MultiPart, SinglePart};
use lettre::{Address, address::Envelope};
use sha2::{Digest as _, Sha256};

use crate::store::record::OutboxMail;

/// Why a mail can't be composed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ComposeError {
    #[error("{0:?} is no mail address")]
    Address(String, #[source] lettre::address::AddressError),
    #[error("the mail cannot be composed")]
    Message(#[source] lettre::error::Error),
}

/// A mail as it goes over the wire.
pub(super) struct Composed {
    pub(super) from: Address,
    pub(super) to: Vec<Address>,
    pub(super) bytes: Vec<u8>,
}

pub(super) fn compose(from: &str, mail: &OutboxMail) -> Result<Composed, ComposeError> {
    let from = mailbox(from)?;
    let to = mail.to.iter().map(|to| mailbox(to)).collect::<Result<Vec<_>, _>>()?;
    let addresses: Vec<Address> = to.iter().map(|mailbox| mailbox.email.clone()).collect();
    let envelope = Envelope::new(Some(from.email.clone()), addresses.clone()).map_err(ComposeError::Message)?;
    let mut builder = Message::builder()
        .from(from.clone())
        .subject(mail.subject.as_str())
        .date(SystemTime::from(mail.created))
        .message_id(Some(message_id(&from.email, mail)))
        .envelope(envelope)
        // RFC 3834: no vacation notice is to answer.
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()));
    for mailbox in to {
        builder = builder.to(mailbox);
    }
    let message = if mail.html.is_empty() {
        builder.singlepart(SinglePart::plain(mail.text.clone()))
    } else {
        builder.multipart(MultiPart::alternative_plain_html(mail.text.clone(), mail.html.clone()))
    };
    let bytes = message.map_err(ComposeError::Message)?.formatted();
    Ok(Composed { from: from.email, to: addresses, bytes })
}

/// The same for every try of one mail, so that mail programs can tell a double; recipients are left out since
/// a later try may have fewer.
fn message_id(from: &Address, mail: &OutboxMail) -> String {
    let mut hasher = Sha256::new();
    for part in [&mail.created.to_string(), &mail.subject, &mail.text] {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    let hash = hex::encode(hasher.finalize());
    format!("<{}.larder@{}>", hash.get(..32).unwrap_or_default(), from.domain())
}

fn mailbox(text: &str) -> Result<Mailbox, ComposeError> {
    text.parse().map_err(|error| ComposeError::Address(text.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::at;
    use super::*;

    fn mail(to: &[&str]) -> OutboxMail {
        OutboxMail {
            created: at(0),
            to: to.iter().map(|to| (*to).to_owned()).collect(),
            subject: "[home] FAILED: 备份 schlug fehl ".repeat(3),
            text: "line one\n.\nline three 📦\n".to_owned(),
            html: "<p>📦</p>".to_owned(),
            attempts: 0,
            not_before: at(0),
            last_error: None,
        }
    }

    #[test]
    fn every_try_has_the_same_message_id_and_the_bytes_are_ascii() {
        let one = compose("Larder <larder@home.lan>", &mail(&["a@home.lan", "b@home.lan"])).unwrap();
        let text = String::from_utf8(one.bytes).unwrap();
        assert!(text.is_ascii(), "a server without 8BITMIME must take it");
        let id = |text: &str| text.lines().find(|line| line.starts_with("Message-ID:")).map(str::to_owned).unwrap();
        assert!(id(&text).ends_with("@home.lan>"));
        assert!(text.contains("Auto-Submitted: auto-generated") && text.contains("Date: Mon, 21 Sep 2026"));
        let mut again = mail(&["b@home.lan"]);
        again.attempts = 5;
        let two = String::from_utf8(compose("larder@home.lan", &again).unwrap().bytes).unwrap();
        assert_eq!(id(&text), id(&two));
        let mut other = mail(&["b@home.lan"]);
        other.subject.push('x');
        assert_ne!(id(&two), id(&String::from_utf8(compose("larder@home.lan", &other).unwrap().bytes).unwrap()));
    }

    #[test]
    fn what_is_no_address_is_said_to_be_none() {
        for bad in ["", "me", "me@", "a@b\r\nRCPT TO:<x@y>", "me@home.lan\nBcc: x@y"] {
            assert!(matches!(compose("larder@home.lan", &mail(&[bad])), Err(ComposeError::Address(..))), "{bad:?}");
            assert!(matches!(compose(bad, &mail(&["me@home.lan"])), Err(ComposeError::Address(..))), "{bad:?}");
        }
    }
}
