//! Asks for an export and waits until its link gives it.
//!
//! While the job runs the link gives an empty body with 200 (5.6 to 5.10) or a 404 (newer ones); both mean to wait.
//! The link has the origin that the server thinks it has (APP_URL); only its path and query are used.

use std::path::Path;
use std::time::Instant;

use serde::Deserialize;

use crate::error::codes;
use crate::plugin::apps::invoiceninja::ZIP_BYTES_MAX;
use crate::plugin::apps::invoiceninja::api::explain;
use crate::plugin::apps::invoiceninja::settings::NinjaSettings;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::{archive, download};
use crate::types::show_duration;
use crate::web::{Answer, Saved, Web};

/// Where an export lies.
pub(super) struct Link {
    /// Path and query, below the configured address.
    path: String,
    /// The host that the server thinks it has; versions that sign it want to hear it.
    host: String,
}

#[derive(Deserialize)]
struct Ordered {
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// Asks for the export.
pub(super) fn order(settings: &NinjaSettings) -> Result<Link, Failure> {
    // A server without a queue makes the export now, and says nothing meanwhile.
    let web = settings.web(settings.wait)?;
    let answer = settings.dress(web.post("/api/v1/export")).send()?;
    if answer.status() != 200 {
        return Err(explain(answer, &web));
    }
    if answer.content_type().contains("html") {
        return Err(download::a_page(answer.what()));
    }
    let what = answer.what().to_owned();
    let body = answer.bytes(1 << 20)?;
    if body.trim_ascii().is_empty() {
        return Err(download::empty(&what));
    }
    let ordered: Ordered = serde_json::from_slice(&body).map_err(|_| {
        Failure::new(
            codes::UNEXPECTED_ANSWER,
            format!("{what} was answered with something else than Invoice Ninja does"),
        )
        .hint("correct the address; is another server or a proxy behind it?")
    })?;
    let Some(link) = ordered.url.filter(|url| !url.is_empty()) else {
        let said = ordered.message.unwrap_or_default();
        let said: String = said.chars().filter(|c| !c.is_control()).take(100).collect();
        return Err(Failure::new(codes::NO_LINK, format!("{what} gave no link to the export ({said:?})"))
            .hint("Invoice Ninja before 5.6 sends it only by mail: update it, or keep its database instead"));
    };
    read_link(&link).ok_or_else(|| {
        Failure::new(codes::UNEXPECTED_ANSWER, format!("{what} gave a link that cannot be used"))
            .hint("set APP_URL in its .env to the address by which it is reached")
    })
}

/// Path and query of the link; from `/api/v1/` on, so that a prefix is the configured one.
fn read_link(link: &str) -> Option<Link> {
    let (host, path) = match link.split_once("://") {
        Some((_, rest)) => {
            let at = rest.find('/')?;
            rest.split_at(at)
        }
        None => ("", link),
    };
    let path = path.find("/api/v1/").map_or(path, |at| path.get(at..).unwrap_or(path));
    let clean = path.starts_with('/') && !path.contains(|c: char| c.is_control() || c.is_whitespace());
    clean.then(|| Link { path: path.to_owned(), host: host.to_owned() })
}

/// What the link gave.
enum Got {
    Zip(Saved),
    NotYet(&'static str),
}

/// Waits for the export and downloads it.
pub(super) fn fetch(
    settings: &NinjaSettings,
    link: &Link,
    path: &Path,
    events: &mut EventWriter<'_>,
) -> Result<Saved, Failure> {
    let web = settings.web(settings.silence)?;
    let started = Instant::now();
    let mut told = "";
    loop {
        match attempt(&web, link, path, events)? {
            Got::Zip(saved) => return Ok(saved),
            Got::NotYet(seen) => {
                if told != seen {
                    events.log(format!("the export is not ready yet ({seen})"));
                    told = seen;
                }
            }
        }
        if started.elapsed() >= settings.wait.0 {
            return Err(Failure::new(
                codes::EXPORT_NOT_READY,
                format!("the export was not ready after {} (the link gives {told})", show_duration(settings.wait.0)),
            )
            .hint("does the server's queue run? `php artisan queue:work`; look into storage/logs/laravel.log"));
        }
        std::thread::sleep(settings.poll.0);
        // A sign of life for whoever watches.
        events.progress(0, 0);
    }
}

fn attempt(web: &Web, link: &Link, path: &Path, events: &mut EventWriter<'_>) -> Result<Got, Failure> {
    // No token: the link is signed. It is not to be sent where a link leads.
    let mut answer = web.get(&link.path).header("accept", "application/zip, */*").send()?;
    if answer.status() == 403 && !link.host.is_empty() {
        answer = web.get(&link.path).header("accept", "application/zip, */*").header("host", &link.host).send()?;
    }
    match answer.status() {
        200 => {}
        404 => return Ok(Got::NotYet("404")),
        429 => return Ok(Got::NotYet("429, too many requests")),
        502..=504 => return Ok(Got::NotYet("an error of the proxy")),
        403 => {
            return Err(Failure::new(codes::LINK_REFUSED, "Invoice Ninja refuses its own link to the export (403)")
                .hint("set APP_URL in its .env to the address by which larder reaches it"));
        }
        _ => return Err(refused(answer, web)),
    }
    if answer.content_type().contains("html") && answer.announced() != Some(0) {
        // The empty body of a job that is not done has this type too.
        let what = answer.what().to_owned();
        let body = answer.bytes(1 << 20)?;
        return if body.trim_ascii().is_empty() {
            Ok(Got::NotYet("an empty body"))
        } else {
            Err(download::a_page(&what))
        };
    }
    let saved = answer.save(path, ZIP_BYTES_MAX, |done, total| {
        if done % (4 << 20) < (64 << 10) {
            events.progress(done, total.max(done));
        }
    })?;
    if saved.bytes == 0 {
        let _ = std::fs::remove_file(path);
        return Ok(Got::NotYet("an empty body"));
    }
    if !archive::looks_like_zip(path) {
        return Err(if download::is_a_page(path) {
            download::a_page("the link to the export")
        } else {
            Failure::new(codes::NOT_A_ZIP, format!("the link gave {} bytes that are no zip", saved.bytes))
                .hint("look into storage/logs/laravel.log, and run it again")
        });
    }
    Ok(Got::Zip(saved))
}

fn refused(answer: Answer<'_>, web: &Web) -> Failure {
    explain(answer, web)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_path_and_query_of_a_link_are_used() {
        let path = |link: &str| read_link(link).map(|link| link.path);
        let wanted = Some("/api/v1/protected_download/ab?expires=1&signature=c".to_owned());
        assert_eq!(path("http://localhost/api/v1/protected_download/ab?expires=1&signature=c"), wanted);
        assert_eq!(path("https://evil.example/ninja/api/v1/protected_download/ab?expires=1&signature=c"), wanted);
        assert_eq!(path("/api/v1/protected_download/ab?expires=1&signature=c"), wanted);
        assert_eq!(path("https://host"), None);
        assert_eq!(path("javascript:x"), None);
    }
}
