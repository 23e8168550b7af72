//! What an answer of Invoice Ninja means.

use crate::error::{Code, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::download;
use crate::web::{Answer, Web};

/// From an answer that is an error to a code, a sentence and the next step.
pub(super) fn explain(answer: Answer<'_>, web: &Web) -> Failure {
    let (status, what) = (answer.status(), answer.what().to_owned());
    if (300..400).contains(&status) {
        return download::redirected(&answer);
    }
    let said = answer.said();
    let failed = |code: Code| Failure::new(code, format!("{what} was answered with {status}: {said}"));
    match status {
        401 | 403 => Failure::new(codes::UNAUTHORIZED, format!("Invoice Ninja {} does not take the token: {said}", web.shown()))
            .hint("make one as an administrator of the company: Settings, Account Management, API Tokens"),
        404 => failed(codes::NOT_FOUND).hint("correct the address; it must be of Invoice Ninja 5"),
        408 | 504 => failed(codes::GATEWAY_TIMEOUT).hint(
            "the export is made while the proxy waits: run a queue (QUEUE_CONNECTION=database), or raise the proxy's timeout",
        ),
        429 => failed(codes::RATE_LIMITED).hint("it is tried again"),
        502 | 503 => failed(codes::APP_BUSY).hint("it is down or in maintenance; it is tried again"),
        500..=599 => failed(codes::APP_FAILED).hint("look into storage/logs/laravel.log"),
        _ => failed(codes::REFUSED).hint("look into storage/logs/laravel.log"),
    }
}
