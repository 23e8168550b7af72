//! One conversation with the mail server, step by step, so that each way to fail has its own name.
//!
//! TLS is checked against the system's certificates (or `SSL_CERT_FILE`); there is no switch to turn that off.

use std::net::SocketAddr;
use std::time::Duration;

use lettre::address::Address;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Severity;
use secrecy::ExposeSecret as _;

use super::compose::Composed;
use super::hello;
use crate::config::model::{Email, Smtp, SmtpSecurity};
use crate::process::Redactor;

mod fault;

pub(super) use fault::SmtpFault;

/// Longest wait for a name, for a connection to one address, for a step of the conversation, and for the end of the data.
const NAME_WAIT_MAX: Duration = Duration::from_secs(10);
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(15);
const STEP_WAIT_MAX: Duration = Duration::from_secs(30);
const DATA_WAIT_MAX: Duration = Duration::from_mins(2);
/// The steps that begin with a connection.
const GREETING: &str = "the greeting";
const TLS_GREETING: &str = "TLS and the greeting";
/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

/// How long each step may take; tests have less patience.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) name: Duration,
    pub(super) connect: Duration,
    pub(super) step: Duration,
    pub(super) data: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { name: NAME_WAIT_MAX, connect: CONNECT_WAIT_MAX, step: STEP_WAIT_MAX, data: DATA_WAIT_MAX }
    }
}

/// An open conversation, ready for mails.
pub(super) struct Session {
    connection: AsyncSmtpConnection,
    server: String,
    /// How we introduced ourselves.
    name: String,
    patience: Patience,
    /// Servers repeat what they were told, also in base64.
    redact: Redactor,
}

/// What the server said to one mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The last line of the server when it took the mail for at least one recipient.
    pub(super) taken: Option<String>,
    /// Recipients that it won't take now, and why.
    pub(super) later: Vec<(Address, String)>,
    /// Recipients that it won't ever take, and why.
    pub(super) refused: Vec<(Address, String)>,
}

impl Session {
    /// Connects, secures and logs in.
    pub(super) async fn open(email: &Email, patience: Patience) -> Result<Self, SmtpFault> {
        let smtp = &email.smtp;
        let server = format!("{}:{}", smtp.host, smtp.port);
        let (mut connection, hello) = introduced(email, &server, patience).await?;
        if smtp.security == SmtpSecurity::StartTls {
            if !connection.can_starttls() {
                return Err(SmtpFault::NoStartTls { server });
            }
            let upgrade = connection.starttls(tls(smtp)?, &hello);
            within(patience.step, "STARTTLS", &server, upgrade).await?;
        }
        let mut redact = Redactor::default();
        if let Some(username) = &email.username {
            let password = match &email.password {
                Some(reference) => reference.resolved().await.map_err(SmtpFault::Secret)?,
                None => return Err(SmtpFault::NoPassword { username: username.clone() }),
            };
            if !DEFAULT_MECHANISMS.iter().any(|each| connection.server_info().supports_auth_mechanism(*each)) {
                return Err(SmtpFault::NoAuth { server });
            }
            let credentials = Credentials::new(username.clone(), password.expose_secret().to_owned());
            let login = connection.auth(DEFAULT_MECHANISMS, &credentials);
            redact = Redactor::new(vec![password]);
            let login = within(patience.step, "AUTH", &server, login).await;
            login.map_err(|fault| fault.of_login(username).redacted(&redact))?;
        }
        Ok(Self { connection, server, name: hello.to_string(), patience, redact })
    }

    /// Hands over one mail. Recipients that are refused don't keep the others from getting it.
    ///
    /// # Errors
    /// When the conversation broke; then it is not known whether the mail was taken.
    pub(super) async fn send(&mut self, mail: &Composed) -> Result<Answer, SmtpFault> {
        let mut answer = Answer::default();
        let refuse_all = |answer: &mut Answer, severity: Severity, why: &str| {
            let list = match severity {
                Severity::PermanentNegativeCompletion => &mut answer.refused,
                _ => &mut answer.later,
            };
            list.extend(mail.to.iter().map(|to| (to.clone(), why.to_owned())));
        };
        if let Err((severity, why)) = self.step("MAIL FROM", Mail::new(Some(mail.from.clone()), Vec::new())).await? {
            refuse_all(&mut answer, severity, &why);
            return Ok(answer);
        }
        let mut accepted = Vec::new();
        for to in &mail.to {
            match self.step("RCPT TO", Rcpt::new(to.clone(), Vec::new())).await? {
                Ok(_) => accepted.push(to.clone()),
                Err((Severity::PermanentNegativeCompletion, why)) => answer.refused.push((to.clone(), why)),
                Err((_, why)) => answer.later.push((to.clone(), why)),
            }
        }
        if accepted.is_empty() {
            self.step("RSET", Rset).await?.ok();
            return Ok(answer);
        }
        let said = match self.step("DATA", Data).await? {
            Ok(_) => {
                let hand_over = self.connection.message(&mail.bytes);
                let result = within(self.patience.data, "DATA", &self.server, hand_over).await;
                split(result.map_err(|fault| fault.redacted(&self.redact)))?
            }
            Err(refusal) => Err(refusal),
        };
        match said {
            Ok(line) => answer.taken = Some(self.redact.redact(&line).into_owned()),
            Err((severity, why)) => {
                let list = match severity {
                    Severity::PermanentNegativeCompletion => &mut answer.refused,
                    _ => &mut answer.later,
                };
                list.extend(accepted.into_iter().map(|to| (to, why.clone())));
            }
        }
        Ok(answer)
    }

    /// Says goodbye; nothing depends on it.
    pub(super) async fn close(mut self) {
        let _ = tokio::time::timeout(self.patience.step.min(Duration::from_secs(5)), self.connection.quit()).await;
    }

    async fn step(
        &mut self,
        name: &'static str,
        command: impl std::fmt::Display,
    ) -> Result<Result<String, (Severity, String)>, SmtpFault> {
        let result = within(self.patience.step, name, &self.server, self.connection.command(command)).await;
        // A mail is not refused for our name: it waits until that is mended.
        split(result.map_err(|fault| fault.of_name(&self.name).redacted(&self.redact)))
    }
}

/// Tells what the server answered about the mail from what ended the conversation.
fn split(
    result: Result<lettre::transport::smtp::response::Response, SmtpFault>,
) -> Result<Result<String, (Severity, String)>, SmtpFault> {
    match result {
        Ok(response) => Ok(Ok(format!("{} {}", response.code(), response.first_line().unwrap_or_default()))),
        Err(SmtpFault::Answer { code, text, severity, .. }) if code != 421 => {
            Ok(Err((severity, format!("{code} {text}"))))
        }
        Err(fault) => Err(fault),
    }
}

/// A connection whose server took one of our names, and which.
async fn introduced(
    email: &Email,
    server: &str,
    patience: Patience,
) -> Result<(AsyncSmtpConnection, ClientId), SmtpFault> {
    let smtp = &email.smtp;
    let addresses = resolve(smtp, patience).await?;
    let own = addresses.first().map_or(std::net::Ipv4Addr::LOCALHOST.into(), |address| hello::own_address(*address));
    let mut fault = SmtpFault::NoAddress { host: smtp.host.clone() };
    for name in hello::names(email, &hello::Machine::look(), own) {
        match connect(smtp, &addresses, server, &name, patience).await {
            Ok(connection) => return Ok((connection, name)),
            // Whatever it did not like may have been the name.
            Err(refused @ SmtpFault::Answer { severity: Severity::PermanentNegativeCompletion, .. }) => {
                fault = refused.of_name(&name.to_string());
            }
            Err(other) => return Err(other),
        }
    }
    Err(fault)
}

async fn connect(
    smtp: &Smtp,
    addresses: &[SocketAddr],
    server: &str,
    hello: &ClientId,
    patience: Patience,
) -> Result<AsyncSmtpConnection, SmtpFault> {
    let implicit = match smtp.security {
        SmtpSecurity::Tls => Some(tls(smtp)?),
        SmtpSecurity::StartTls | SmtpSecurity::Plain => None,
    };
    let mut fault = SmtpFault::NoAddress { host: smtp.host.clone() };
    for address in addresses {
        let step = if implicit.is_some() { TLS_GREETING } else { GREETING };
        let open = AsyncSmtpConnection::connect_tokio1(*address, Some(patience.connect), hello, implicit.clone(), None);
        match within(patience.connect + patience.step, step, server, open).await {
            // Only an address where nobody answers is a reason to try the next one.
            Err(unreachable @ SmtpFault::Connect { .. }) => fault = unreachable,
            result => return result,
        }
    }
    Err(fault)
}

async fn resolve(smtp: &Smtp, patience: Patience) -> Result<Vec<SocketAddr>, SmtpFault> {
    let lookup = tokio::net::lookup_host((smtp.host.as_str(), smtp.port));
    match tokio::time::timeout(patience.name, lookup).await {
        Ok(Ok(addresses)) => Ok(addresses.take(ADDRESSES_MAX).collect()),
        Ok(Err(source)) => Err(SmtpFault::Name { host: smtp.host.clone(), source }),
        Err(_) => Err(SmtpFault::Timeout { step: "the name's address", server: smtp.host.clone() }),
    }
}

fn tls(smtp: &Smtp) -> Result<TlsParameters, SmtpFault> {
    TlsParameters::new_rustls(smtp.host.clone()).map_err(|error| SmtpFault::of_certificates(&error))
}

async fn within<T>(
    bound: Duration,
    step: &'static str,
    server: &str,
    work: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
) -> Result<T, SmtpFault> {
    match tokio::time::timeout(bound, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(SmtpFault::of(server, step, &error)),
        Err(_) => Err(SmtpFault::Timeout { step, server: server.to_owned() }),
    }
}

#[cfg(test)]
mod tests;
