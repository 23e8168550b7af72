//! Downloads the file, and judges the answer.

use super::settings::HttpSettings;
use crate::error::{Code, codes};
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::inside;
use crate::plugin::kit::{download, plain};
use crate::plugin::protocol::Request;
use crate::web::Answer;

pub(super) fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: HttpSettings = builtin::settings(request)?;
    let web = settings.web()?;
    let answer = judged(settings.call(&web).send()?, &settings)?;
    let what = answer.what().to_owned();
    let version = answer.header("x-app-version");
    let name = settings.file_name();
    let path = request.staging.join(&name);
    let encoded = answer.header("content-encoding").map(|name| name.trim().to_ascii_lowercase());
    let mut saved = download::save(answer, &path, settings.max_size.0, events)?;
    match encoded.as_deref() {
        None | Some("" | "identity") => {}
        // Nobody asked for that, so it is how the body travelled; unless a packed file is what is wanted.
        Some("gzip" | "x-gzip") => {
            if plain::is_gzip(&path) && !settings.wants_gzip(&name) {
                saved = download::unpack(&path, settings.max_size.0, &what)?;
            }
        }
        Some(other) => {
            return Err(Failure::new(
                codes::WRONG_ENCODING,
                format!("{what} was answered in the encoding {other:?}, which nobody asked for"),
            )
            .hint("switch the compression off in the application, or in the proxy before it"));
        }
    }
    if !settings.wants_a_page() && download::is_a_page(&path) {
        return Err(download::a_page(&what));
    }
    inside::refuse_nothing(codes::EXPORT_EMPTY, "the export", &path, &request.staging, events)?;
    for check in &settings.validate {
        for (name, value) in check.look(&path)?.figures {
            events.figure(name, value);
        }
    }
    if let Some(version) = version {
        events.version(version);
    }
    events.artifact(&name, "http-export", saved.sha256);
    Ok(())
}

/// The answer, when its head is that of an export.
fn judged<'w>(answer: Answer<'w>, settings: &HttpSettings) -> Result<Answer<'w>, Failure> {
    let (status, what) = (answer.status(), answer.what().to_owned());
    let failed = |code: Code, answer: Answer<'_>| {
        let said = answer.said();
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        Failure::new(code, format!("{what} was answered with {status}{said}"))
    };
    match status {
        204 | 205 => return Err(download::empty(&what)),
        200..=299 => {}
        300..=399 => return Err(download::redirected(&answer)),
        401 | 403 => {
            return Err(failed(codes::UNAUTHORIZED, answer).hint("check the token or password, and what it may do"));
        }
        404 | 410 => return Err(failed(codes::NOT_FOUND, answer).hint("correct the address")),
        429 | 503 => return Err(failed(codes::APP_BUSY, answer).hint("it is tried again")),
        500..=599 => return Err(failed(codes::APP_FAILED, answer).hint("look into the application's log")),
        _ => return Err(failed(codes::REFUSED, answer).hint("check method, headers and body")),
    }
    let kind = answer.content_type();
    if let Some(wanted) = settings.content_type.as_deref().map(str::to_ascii_lowercase)
        && kind != wanted.split(';').next().unwrap_or_default().trim()
    {
        if kind.contains("html") {
            return Err(download::a_page(&what));
        }
        let kind = if kind.is_empty() { "of no kind".to_owned() } else { kind };
        return Err(Failure::new(codes::WRONG_CONTENT_TYPE, format!("{what} was answered with {kind}, not {wanted}"))
            .hint("correct the address, or `content_type`"));
    }
    if kind.contains("html") && !settings.wants_a_page() {
        return Err(download::a_page(&what));
    }
    Ok(answer)
}
