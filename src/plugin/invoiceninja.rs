//! The plugin `invoiceninja`: one company's own export, asked for, waited for, and looked at in depth.
//!
//! The complete way is another: database, documents and `.env`, by the plugins for those. The guide says so.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::plugin::builtin::{self, Builtin, Failure, Voice};
use crate::plugin::endpoint::{self, TlsSettings};
use crate::plugin::patience::Patience;
use crate::plugin::protocol::Request;
use crate::plugin::settings::Secret;
use crate::plugin::{Verdict, digest, download};
use crate::web::{Answer, Call, Web};

mod contents;
mod job;
mod restore;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "invoiceninja",
    summary: "One company of Invoice Ninja 5 by its own export",
    guide: GUIDE,
    schema: || schemars::schema_for!(NinjaSettings).to_value(),
    capture,
    validate,
    restore: Some(builtin::Restore { options: restore::options_schema, run: restore::restore }),
    recover: None,
};

const GUIDE: &str = "
A target:
  plugin: invoiceninja
  with:
    url: https://invoices.lan
    token: {env: NINJA_TOKEN}

The complete way to keep Invoice Ninja is its database (plugin `mariadb`), the directories storage and public/storage
(plugin `files`) and its .env: the recipe policies/recipes/invoiceninja.yaml has all three. APP_KEY in .env is what makes
a backup of the database usable: without it the encrypted columns (credentials of payment gateways) are lost. Use this
plugin beside that, or where you have no access to the database.

In the backup: export.zip with backup.json: clients, invoices, quotes, payments, products, users and settings of ONE
company. It holds the credentials of payment gateways in clear text, hashes of passwords and seeds of second factors.

Not in it: documents, logos and PDFs (an import downloads them from the old server, so after its loss they are gone);
other companies: a token belongs to one, make a target for each.

Least privilege: an API token of an administrator of that company (Settings, Account Management, API Tokens); others are
refused the export. Invoice Ninja mails the export's link to that user each time.

Version 5.6 or newer. The server's queue should run (QUEUE_CONNECTION=database or redis): with `sync` the export is made
while larder waits, up to `wait`, and a proxy may give up before.

Restore: `larder restore TARGET --into TARGET --option purge=true` deletes all data of the company that the token
belongs to and imports the backup; Invoice Ninja says only by mail whether that went well. Never import a backup of a
newer version into an older one.";

const FILE: &str = "export.zip";
const FORMAT: &str = "invoiceninja-export";
const ZIP_BYTES_MAX: u64 = 16 << 30;

/// Which company of which Invoice Ninja.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NinjaSettings {
    /// Where it is, such as `https://invoices.lan`.
    #[schemars(regex(pattern = "^https?://"))]
    url: String,
    /// An API token of an administrator of the company.
    token: Secret,
    /// How long the export may take.
    #[serde(default = "wait_default")]
    wait: Patience,
    /// How often to look whether it is ready.
    #[serde(default = "poll_default")]
    poll: Patience,
    /// Whose certificate to trust.
    #[serde(default)]
    tls: Option<TlsSettings>,
    /// Send the token over http:// to a host that is not of the own network.
    #[serde(default)]
    allow_http: bool,
    /// How long it may say nothing while the export is downloaded.
    #[serde(default = "Patience::silence")]
    silence: Patience,
}

fn wait_default() -> Patience {
    Patience(std::time::Duration::from_mins(30))
}

fn poll_default() -> Patience {
    Patience(std::time::Duration::from_secs(5))
}

impl NinjaSettings {
    fn web(&self, silence: Patience) -> Result<Web, Failure> {
        let url = self.url.trim_end_matches('/').trim_end_matches("/api/v1");
        endpoint::open(url, self.tls.as_ref(), self.allow_http, silence)
    }

    fn dress<'w>(&self, call: Call<'w>) -> Call<'w> {
        // Without the second an error is a redirect to a page.
        let call = call.header("accept", "application/json").header("x-requested-with", "XMLHttpRequest");
        call.secret_header("x-api-token", &self.token.0)
    }
}

fn capture(request: &Request, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let settings: NinjaSettings = builtin::settings(request)?;
    let link = job::order(&settings)?;
    let path = request.staging.join(FILE);
    let saved = job::fetch(&settings, &link, &path, voice)?;
    let contents = contents::read(&path)?;
    voice.version(format!("Invoice Ninja {}", contents.app_version));
    for (name, count) in &contents.counts {
        voice.figure(name, *count);
    }
    voice.artifact(FILE, FORMAT, saved.sha256);
    Ok(())
}

fn validate(request: &Request, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let Some(facts) = &request.capture else {
        return Err(Failure::new("request", "`validate` needs what the capture told"));
    };
    for artifact in &facts.artifacts {
        let path = request.staging.join(&artifact.path);
        digest::check(artifact, &path, voice)?;
        match contents::read(&path) {
            Ok(contents) => {
                let lists = contents.counts.len();
                let detail = format!("of version {}, with {lists} lists", contents.app_version);
                voice.validation("backup.json is whole", Verdict::Proven, detail);
                let same = contents.counts.iter().all(|(name, count)| facts.figures.get(name) == Some(count));
                let verdict = if same { Verdict::Proven } else { Verdict::Failed };
                voice.validation("lists are as long as at the capture", verdict, "list by list");
            }
            Err(failure) => voice.validation("the export is whole", Verdict::Failed, failure.trouble.message),
        }
    }
    Ok(())
}

/// From an answer that is an error to a code, a sentence and the next step.
fn explain(answer: Answer<'_>, web: &Web) -> Failure {
    let (status, what) = (answer.status(), answer.what().to_owned());
    if (300..400).contains(&status) {
        return download::redirected(&answer);
    }
    let said = answer.said();
    let failed = |code: &str| Failure::new(code, format!("{what} was answered with {status}: {said}"));
    match status {
        401 | 403 => Failure::new("unauthorized", format!("Invoice Ninja {} does not take the token: {said}", web.shown()))
            .hint("make one as an administrator of the company: Settings, Account Management, API Tokens"),
        404 => failed("not_found").hint("correct the address; it must be of Invoice Ninja 5"),
        408 | 504 => failed("gateway_timeout").hint(
            "the export is made while the proxy waits: run a queue (QUEUE_CONNECTION=database), or raise the proxy's timeout",
        ),
        429 => failed("rate_limited").hint("it is tried again").later(),
        502 | 503 => failed("app_busy").hint("it is down or in maintenance; it is tried again").later(),
        500..=599 => failed("app_failed").hint("look into storage/logs/laravel.log"),
        _ => failed("refused").hint("look into storage/logs/laravel.log"),
    }
}
