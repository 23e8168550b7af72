//! The plugin `pihole`: a Pi-hole's own export (Teleporter), taken over its API, looked at in depth, and put back.
//!
//! For version 6. Version 5 has no such API and is not supported; its archives can be imported into a Pi-hole 6 by hand.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Trouble, codes};
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::{self, Builtin, Failure, Restore};
use crate::plugin::kit::endpoint::{self, TlsSettings};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::patience::Patience;
use crate::plugin::kit::settings::Secret;
use crate::plugin::kit::{digest, download};
use crate::plugin::protocol::{Request, Verdict};
use crate::web::Web;

mod api;
mod gravity;
mod login;
mod opening;
mod restore;
mod teleporter;
mod totp;

use api::Session;
use login::Credential;
use totp::Seed;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "pihole",
    summary: "Pi-hole 6 by its own export (Teleporter)",
    guide: GUIDE,
    schema: || schemars::schema_for!(PiholeSettings).to_value(),
    capture,
    validate,
    restore: Some(Restore::by::<restore::PutBack>()),
    recover: Some(recover),
};

const GUIDE: &str = "
A target:
  plugin: pihole
  with:
    url: https://pihole.lan
    password: {env: PIHOLE_PASSWORD}
    tls: {ca: /etc/larder/pihole-ca.crt}

In the backup: teleporter.zip with the settings (pihole.toml), groups, clients, lists, allowed and denied domains, local
DNS and CNAME records, DHCP leases, /etc/hosts and dnsmasq's files. It holds hashes of the passwords and the seed of the
second factor.

Not in it: the history of queries; the domains of the lists (they are downloaded again); the keys and certificates of
its web server; the password file of its command line.

Least privilege: an app password (Settings, Web interface / API, Configure app password). It needs no second factor and
cannot change the configuration unless webserver.api.app_sudo is true; a restore needs that or the web password. A
Pi-hole has 16 sessions: this plugin takes one for a second and ends it, also after it was killed.

Two factors: the web password of a Pi-hole with 2FA needs a code too. Larder computes it from `totp_secret`, the letters
and digits beside the QR code:
  password: {env: PIHOLE_WEB_PASSWORD}
  totp_secret: {env: PIHOLE_TOTP_SECRET}
With both in one place the second factor protects little: prefer an app password where nothing is to be restored. The
clocks must agree to half a minute. A Pi-hole takes a code once: a login right after another waits for the next code.

TLS: a Pi-hole signs its own certificate, for the name pi.hole. Copy /etc/pihole/tls_ca.crt from it for `tls: {ca: …}`
and use a name that the certificate has, or pin it by `tls: {fingerprint: …}`.

Restore: `larder restore TARGET --into TARGET`, or in the web interface at Settings, Teleporter. The settings bring their
own password, ports and certificates along, those of the Pi-hole that was backed up. Lists are downloaded afterwards.";

const FILE: &str = "teleporter.zip";
const FORMAT: &str = "pihole-teleporter";
/// A Pi-hole looks for its lists in an archive under one name only.
const LISTS_ELSEWHERE_HINT: &str = "a restore puts back the settings; for lists, domains, groups and clients take the \
                                    database out of teleporter.zip and put its rows in by hand, or use the usual \
                                    files.gravity = /etc/pihole/gravity.db";
/// Real ones have some 100 KiB; 50 MiB is the most that a Pi-hole imports.
const ZIP_BYTES_MAX: u64 = 2 << 30;
const IMPORT_BYTES_MAX: u64 = 50 << 20;

/// Which Pi-hole.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PiholeSettings {
    /// Where it answers, such as `https://pihole.lan`, without `/admin`.
    #[schemars(regex(pattern = "^https?://"))]
    url: String,
    /// The app password, or the web password; not needed where the Pi-hole has none.
    #[serde(default)]
    password: Option<Secret>,
    /// Where the web password needs a second factor: its secret, as the Pi-hole showed it beside the QR code (base32).
    #[serde(default)]
    totp_secret: Option<Secret>,
    /// Whose certificate to trust.
    #[serde(default)]
    tls: Option<TlsSettings>,
    /// Send the password over http:// to a host that is not of the own network.
    #[serde(default)]
    allow_http: bool,
    /// How long it may say nothing.
    #[serde(default = "Patience::silence")]
    silence: Patience,
}

impl PiholeSettings {
    fn web(&self) -> Result<Web, Failure> {
        let url = self.url.trim_end_matches('/').trim_end_matches("/admin").trim_end_matches("/api");
        endpoint::open(url, self.tls.as_ref(), self.allow_http, self.silence)
    }

    fn credential(&self) -> Result<Credential, Failure> {
        let refuse = |what: &str, hint: &str| Failure::new(codes::SETTINGS, what).hint(hint);
        let seed = match (&self.totp_secret, &self.password) {
            (None, _) => None,
            (Some(_), None) => {
                return Err(refuse("`totp_secret` is given without `password`", "a code goes with the web password"));
            }
            // The text is not shown, whatever it is.
            (Some(text), Some(_)) => Some(Seed::read(&text.0).ok_or_else(|| {
                refuse(
                    "`totp_secret` is not base32",
                    "give the 32 letters and digits beside the QR code, not a code of six digits and no address",
                )
            })?),
        };
        Ok(Credential { password: self.password.as_ref().map(|password| password.0.clone()), seed })
    }
}

fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: PiholeSettings = builtin::settings(request)?;
    let (web, credential) = (settings.web()?, settings.credential()?);
    let journal = request.journal.is_some().then(|| Journal::of(request)).transpose()?;
    let path = request.staging.join(FILE);
    let (version, saved) =
        opening::with_session(&web, &credential, &request.run, journal.as_ref(), events, |session, events| {
            let version = version(session);
            let answer = session.get("/api/teleporter").send()?;
            if answer.status() != 200 {
                return Err(api::explain(answer, &web));
            }
            if answer.content_type().contains("html") {
                return Err(download::a_page(answer.what()));
            }
            Ok((version, download::save(answer, &path, ZIP_BYTES_MAX, events)?))
        })?;
    let contents = teleporter::read(&path, &request.staging)?;
    if let Some(version) = version.or_else(|| contents.version.clone()) {
        events.version(version);
    }
    if saved.bytes > IMPORT_BYTES_MAX {
        events.warning(
            Trouble::new(codes::EXPORT_LARGE, "the export is larger than a Pi-hole imports (50 MiB)")
                .with_hint("put it back on the Pi-hole itself: `pihole-FTL --teleporter teleporter.zip` takes 128 MiB"),
        );
    }
    if !contents.importable {
        let message =
            format!("the Pi-hole keeps its lists in /{}, from where no Pi-hole imports them", contents.gravity_name);
        events.notice(Trouble::new(codes::LISTS_ELSEWHERE, message).with_hint(LISTS_ELSEWHERE_HINT));
    }
    for (name, value) in contents.figures() {
        events.figure(name, value);
    }
    events.artifact(FILE, FORMAT, saved.sha256);
    Ok(())
}

/// The Pi-hole's version, where it knows it (a container may not).
fn version(session: &Session<'_>) -> Option<String> {
    let answer = session.get("/api/info/version").send().ok().filter(|answer| answer.status() == 200)?;
    let told: Value = answer.json().ok()?;
    let part = |name: &str| told.pointer(&format!("/version/{name}/local/version"))?.as_str().map(str::to_owned);
    let parts = [("Core", "core"), ("Web", "web"), ("FTL", "ftl")];
    let known = parts.iter().filter_map(|(shown, name)| Some(format!("{shown} {}", part(name)?)));
    Some(known.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty())
}

fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<PiholeSettings> { facts, .. } = ValidateJob::of(request)?;
    for artifact in &facts.artifacts {
        let path = request.staging.join(&artifact.path);
        digest::check(artifact, &path, events)?;
        let contents = match teleporter::read(&path, &request.staging) {
            Ok(contents) => contents,
            Err(failure) => {
                events.validation("the export is whole", Verdict::Failed, failure.trouble.message);
                continue;
            }
        };
        let members = contents.members.len();
        events.validation("every member's checksum", Verdict::Proven, format!("{members} members"));
        events.validation("pihole.toml", Verdict::Proven, "it can be read, and has [dns] and [webserver]");
        let rows: u64 = contents.gravity.values().sum();
        events.validation(
            "integrity_check of gravity.db",
            Verdict::Proven,
            format!("ok; the {} tables of an export, {rows} rows", contents.gravity.len()),
        );
        if !contents.ftl.is_empty() {
            events.validation("integrity_check of pihole-FTL.db", Verdict::Proven, "ok");
        }
        let same = contents.figures().iter().all(|(name, value)| facts.figures.get(name) == Some(value));
        let verdict = if same { Verdict::Proven } else { Verdict::Failed };
        events.validation("rows are those of the capture", verdict, "table by table");
    }
    Ok(())
}

fn recover(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: PiholeSettings = builtin::settings(request)?;
    let journal = Journal::of(request)?;
    let (web, credential) = (settings.web()?, settings.credential()?);
    restore::recover(&web, &credential, &request.run, &journal, events)?;
    opening::recover(&web, &credential, &request.run, &journal, events)
}
