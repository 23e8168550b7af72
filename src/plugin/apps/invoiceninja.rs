//! The plugin `invoiceninja`: the installation on this host (database, documents and `.env`), which is complete; or one
//! company's own export, asked for, waited for, and looked at in depth.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{Code, codes};
use crate::plugin::kit::asked;
use crate::plugin::kit::builtin::{self, Builtin, Failure, Restore};
use crate::plugin::kit::endpoint::{self, TlsSettings};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::patience::Patience;
use crate::plugin::kit::settings::{Secret, exactly_one_of};
use crate::plugin::kit::{digest, download};
use crate::plugin::protocol::{Request, Verdict};
use crate::web::{Answer, Call, Web};

mod contents;
mod export;
mod restore;
mod whole;

use whole::Install;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "invoiceninja",
    summary: "Invoice Ninja 5: database, documents and .env; or one company by its own export",
    guide: GUIDE,
    schema: || schemars::schema_for!(NinjaSettings).to_value(),
    capture,
    validate,
    restore: Some(Restore::by::<restore::PutBack>()),
    recover: Some(recover),
};

const GUIDE: &str = "
A target, complete:
  plugin: invoiceninja
  with: {directory: /srv/invoiceninja}

In the backup: the database that .env names as SQL (as the plugin `mariadb` makes it), storage and public/storage
(without framework and logs), and .env with APP_KEY, without which every encrypted column (credentials of payment
gateways) is lost. A .env without it fails the run. Hooks switch the maintenance mode on and off, as the recipe
policies/recipes/invoiceninja.yaml does; under Docker Compose use the plugin `docker`.

Not in it: the program itself, the web server's and the queue's settings.

Least privilege: the daemon's user reads these files. The database is read as the user that .env names; `database` can
name one with less: SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES.

Restore: an Invoice Ninja of the same version, with a .env of its own that names an empty database, then
`larder restore TARGET --into TARGET --dry-run`. Files that are there and differ, and a database that has tables, are
replaced only with `overwrite=true`; of .env then the old one stays beside. Afterwards `php artisan migrate --force`,
`php artisan optimize`, and `php artisan storage:link` where public/storage was a link.

A target of one company, where you have no access to the server:
  plugin: invoiceninja
  with:
    url: https://invoices.lan
    token: {env: NINJA_TOKEN}

In the backup: export.zip with backup.json: clients, invoices, quotes, payments, products, users and settings of ONE
company. It holds the credentials of payment gateways in clear text, hashes of passwords and seeds of second factors.

Not in it: documents, logos and PDFs (an import downloads them from the old server, so after its loss they are gone);
other companies: a token belongs to one, make a target for each.

Least privilege: an API token of an administrator of that company (Settings, Account Management, API Tokens); others are
refused the export. Invoice Ninja mails the export's link to that user each time.

Version 5.6 or newer. The server's queue should run (QUEUE_CONNECTION=database or redis): with `sync` the export is made
while larder waits, up to `wait`, and a proxy may give up before.

Restore of an export: `larder restore TARGET --into TARGET --option purge=true` deletes all data of the company that the token
belongs to and imports the backup; Invoice Ninja says only by mail whether that went well. Never import a backup of a
newer version into an older one.";

const FILE: &str = "export.zip";
const FORMAT: &str = "invoiceninja-export";
const ZIP_BYTES_MAX: u64 = 16 << 30;

/// Which Invoice Ninja.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = exactly_one_of(&["directory", "url"]))]
struct NinjaSettings {
    /// Where it is installed on this host. Exactly one of `directory` and `url` is given.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    directory: Option<PathBuf>,
    /// With `directory`: what is to be used instead of what .env says of the database.
    #[serde(default)]
    database: Option<DatabaseSettings>,
    /// Where a company is that is kept by its export, such as `https://invoices.lan`.
    #[serde(default)]
    #[schemars(regex(pattern = "^https?://"))]
    url: Option<String>,
    /// With `url`: an API token of an administrator of the company.
    #[serde(default)]
    token: Option<Secret>,
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

/// How to reach the database.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DatabaseSettings {
    /// Name or address of the server.
    #[serde(default)]
    host: Option<String>,
    /// Port of the server.
    #[serde(default)]
    port: Option<u16>,
    /// The server's Unix socket.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    socket: Option<PathBuf>,
    /// The user to log in as.
    #[serde(default)]
    user: Option<String>,
    /// The password of `user`.
    #[serde(default)]
    password: Option<Secret>,
}

/// What a target keeps.
enum Kept {
    Install(Install),
    Company,
}

fn wait_default() -> Patience {
    Patience(std::time::Duration::from_mins(30))
}

fn poll_default() -> Patience {
    Patience(std::time::Duration::from_secs(5))
}

impl NinjaSettings {
    fn kept(&self) -> Result<Kept, Failure> {
        let refuse = |what: &str| {
            Err(Failure::new(codes::SETTINGS, what)
                .hint("give `directory: /PATH` for all of it, or `url` and `token` for one company"))
        };
        match (&self.directory, &self.url) {
            (Some(directory), None) if directory.is_absolute() => Install::read(directory, self).map(Kept::Install),
            (Some(_), None) => refuse("`directory` is no absolute path"),
            (None, Some(_)) if self.database.is_some() => refuse("`database` goes with `directory`"),
            (None, Some(_)) if self.token.is_none() => refuse("`token` is missing"),
            (None, Some(_)) => Ok(Kept::Company),
            _ => refuse("exactly one of `directory` and `url` is needed"),
        }
    }

    fn web(&self, silence: Patience) -> Result<Web, Failure> {
        let url = self.url.as_deref().unwrap_or_default().trim_end_matches('/').trim_end_matches("/api/v1");
        endpoint::open(url, self.tls.as_ref(), self.allow_http, silence)
    }

    fn dress<'w>(&self, call: Call<'w>) -> Call<'w> {
        // Without the second an error is a redirect to a page.
        let call = call.header("accept", "application/json").header("x-requested-with", "XMLHttpRequest");
        match &self.token {
            Some(token) => call.secret_header("x-api-token", &token.0),
            None => call,
        }
    }
}

fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: NinjaSettings = builtin::settings(request)?;
    if let Kept::Install(install) = settings.kept()? {
        return install.capture(request, events);
    }
    let link = export::order(&settings)?;
    let path = request.staging.join(FILE);
    let saved = export::fetch(&settings, &link, &path, events)?;
    let contents = contents::read(&path)?;
    events.version(format!("Invoice Ninja {}", contents.app_version));
    for (name, count) in &contents.counts {
        events.figure(name, *count);
    }
    events.artifact(FILE, FORMAT, saved.sha256);
    Ok(())
}

/// Puts the database right when a restore was killed; a company's export changes nothing that could be undone.
fn recover(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: NinjaSettings = builtin::settings(request)?;
    match settings.kept()? {
        Kept::Install(install) => install.recover(request, events),
        Kept::Company => Ok(()),
    }
}

fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: NinjaSettings = builtin::settings(request)?;
    if let Kept::Install(install) = settings.kept()? {
        return install.validate(request, events);
    }
    let facts = asked::facts(request)?;
    for artifact in &facts.artifacts {
        let path = request.staging.join(&artifact.path);
        digest::check(artifact, &path, events)?;
        match contents::read(&path) {
            Ok(contents) => {
                let lists = contents.counts.len();
                let detail = format!("of version {}, with {lists} lists", contents.app_version);
                events.validation("backup.json is whole", Verdict::Proven, detail);
                let same = contents.counts.iter().all(|(name, count)| facts.figures.get(name) == Some(count));
                let verdict = if same { Verdict::Proven } else { Verdict::Failed };
                events.validation("lists are as long as at the capture", verdict, "list by list");
            }
            Err(failure) => events.validation("the export is whole", Verdict::Failed, failure.trouble.message),
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
    let failed = |code: Code| Failure::new(code, format!("{what} was answered with {status}: {said}"));
    match status {
        401 | 403 => Failure::new(codes::UNAUTHORIZED, format!("Invoice Ninja {} does not take the token: {said}", web.shown()))
            .hint("make one as an administrator of the company: Settings, Account Management, API Tokens"),
        404 => failed(codes::NOT_FOUND).hint("correct the address; it must be of Invoice Ninja 5"),
        408 | 504 => failed(codes::GATEWAY_TIMEOUT).hint(
            "the export is made while the proxy waits: run a queue (QUEUE_CONNECTION=database), or raise the proxy's timeout",
        ),
        429 => failed(codes::RATE_LIMITED).hint("it is tried again").later(),
        502 | 503 => failed(codes::APP_BUSY).hint("it is down or in maintenance; it is tried again").later(),
        500..=599 => failed(codes::APP_FAILED).hint("look into storage/logs/laravel.log"),
        _ => failed(codes::REFUSED).hint("look into storage/logs/laravel.log"),
    }
}
