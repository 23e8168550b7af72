//! The site document.

use super::{Checker, mail, values};
use crate::config::model::{Artifacts, Concurrency, Discover, Email, Site, SmtpSecurity};
use crate::config::raw::{RawArtifacts, RawDiscover, RawEmail, RawSite};
use crate::error::codes;

pub(super) fn check(checker: &mut Checker<'_>, raw: RawSite) -> Option<Site> {
    let defaults = Site::default();
    let name = checker.name(&["name"], &raw.name.0);
    let timezone = checker.maybe(&["timezone"], raw.timezone.map(|text| values::timezone(&text.0)));
    let artifacts = artifacts(checker, raw.artifacts.unwrap_or_default());
    let concurrency = raw.concurrency.unwrap_or_default();
    let url = checker.maybe(&["url"], raw.url.map(|text| mail::url(&text.0)));
    let discover = raw.discover.map(|raw| discover(checker, raw));
    let email = match raw.email {
        Some(raw) => Some(email(checker, raw)?),
        None => None,
    };
    Some(Site {
        name: name?,
        timezone: timezone.unwrap_or(defaults.timezone),
        artifacts,
        concurrency: Concurrency {
            runs: concurrency.runs.unwrap_or(defaults.concurrency.runs),
            per_destination: concurrency.per_destination.unwrap_or(defaults.concurrency.per_destination),
        },
        email,
        url,
        discover,
    })
}

fn discover(checker: &mut Checker<'_>, raw: RawDiscover) -> Discover {
    let socket = checker.maybe(&["discover", "socket"], raw.socket.map(|text| values::engine(&text.0)));
    let mut exclude: Vec<String> = Vec::new();
    for (index, text) in raw.exclude.unwrap_or_default().iter().enumerate() {
        let index = index.to_string();
        exclude.extend(checker.take(&["discover", "exclude", &index], values::one_line(&text.0)));
    }
    Discover {
        socket: socket.unwrap_or_else(|| values::ENGINE_SOCKET.to_owned()),
        auto: raw.auto.unwrap_or(false),
        exclude,
    }
}

fn artifacts(checker: &mut Checker<'_>, raw: RawArtifacts) -> Artifacts {
    let defaults = Artifacts::default();
    let path = checker.maybe(&["artifacts", "path"], raw.path.map(|text| values::path(&text.0)));
    let min_free = checker.maybe(&["artifacts", "min_free"], raw.min_free.map(|text| values::size(&text.0)));
    Artifacts {
        path: path.unwrap_or(defaults.path),
        require_mount: raw.require_mount.unwrap_or(defaults.require_mount),
        min_free: min_free.unwrap_or(defaults.min_free),
        keep_runs: raw.keep_runs.unwrap_or(defaults.keep_runs),
    }
}

fn email(checker: &mut Checker<'_>, raw: RawEmail) -> Option<Email> {
    let smtp = checker.take(&["email", "smtp"], mail::smtp(&raw.smtp.0));
    let username = checker.maybe(&["email", "username"], raw.username.map(|text| values::one_line(&text.0)));
    let hello_name = checker.maybe(&["email", "hello_name"], raw.hello_name.map(|text| mail::hello_name(&text.0)));
    let from = checker.take(&["email", "from"], mail::address(&raw.from.0));
    let mut to: Vec<String> = Vec::new();
    for (index, text) in raw.to.iter().enumerate() {
        let index = index.to_string();
        to.extend(checker.take(&["email", "to", &index], mail::address(&text.0)));
    }
    if raw.password.is_some() != username.is_some() {
        let (there, missing) = if username.is_some() { ("username", "password") } else { ("password", "username") };
        let refusal = values::Refusal::new(codes::HALF_A_LOGIN, format!("`email` has a `{there}` but no `{missing}`"));
        checker
            .take::<()>(&["email", there], Err(refusal.hint(format!("add the `{missing}`, or delete the `{there}`"))));
    }
    let smtp = smtp?;
    if smtp.security == SmtpSecurity::Plain && raw.password.is_some() {
        let message = "the mail password crosses the network in plain text";
        checker.warn(&["email", "smtp"], codes::PLAIN_LOGIN, message, "use smtps:// or smtp:// if the server can");
    }
    Some(Email { smtp, username, password: raw.password, hello_name, from: from?, to })
}
