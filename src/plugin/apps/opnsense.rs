//! The plugin `opnsense`: config.xml over the API, the revision that was saved last.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::error::codes;
use crate::plugin::apps::firewall::{FILE, Kind, XML_BYTES_MAX};
use crate::plugin::kit::builtin::{self, Builtin, Failure, Restore};
use crate::plugin::kit::endpoint::{self, endpoint_settings};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::restore::{NoOptions, Planned, RestoreJob, Restorer};
use crate::plugin::kit::settings::Secret;
use crate::plugin::kit::{download, plain};
use crate::plugin::protocol::Request;
use crate::web::{Answer, Web};

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "opnsense",
    summary: "OPNsense by its configuration (config.xml)",
    guide: GUIDE,
    schema: || schemars::schema_for!(OpnsenseSettings).to_value(),
    capture,
    validate: |request, events| KIND.validate::<OpnsenseSettings>(request, events),
    restore: Some(Restore::by::<Opnsense>()),
    recover: None,
};

const GUIDE: &str = "
A target:
  plugin: opnsense
  with:
    url: https://opnsense.lan
    key: w86XNZob/8Oq8aC5r0kbNarNtdpoQU781fyoeaOBQsBwkXUt
    secret: {env: OPNSENSE_SECRET}
    tls: {fingerprint: …}

In the backup: config.xml as it was saved last (/conf/backup): the whole configuration with rules, interfaces, VPN, users,
certificates and their private keys, hashes of passwords.

Not in it: what is not in config.xml: DHCP leases, RRD graphs, logs, packages of plugins (their names are in it), files
that were put there by hand.

Least privilege: a user of its own in a group with the one privilege `Diagnostics: Configuration History`, and an API key
of that user (System, Access, Users). It can read the whole configuration, so it is as good as root: keep it well. The
version is known where it may read `System: Firmware` too.

Before 24.1 the package os-api-backup is needed.

Restore: in the web interface at System, Configuration, Backups; OPNsense has no API that takes a configuration.";

const KIND: Kind = Kind {
    name: "OPNsense",
    format: "opnsense-config",
    root: "opnsense",
    needed: &["system", "interfaces"],
    counted: &[
        ("filter_rules", "filter/rule"),
        ("nat_rules", "nat/rule"),
        ("certificates", "cert"),
        ("users", "system/user"),
    ],
};

const STEPS: &[(&str, &str)] = &[
    (
        "upload of config.xml",
        "System, Configuration, Backups, Restore: choose the file, keep `Reboot after a successful restore`",
    ),
    (
        "without the web interface",
        "boot the installer and choose `Import configuration` with config.xml on a USB stick in /conf",
    ),
    ("packages", "install the plugins that the configuration names: System, Firmware, Plugins"),
];

/// Says how a person puts a configuration back.
struct Opnsense;

impl Restorer for Opnsense {
    type Settings = OpnsenseSettings;
    type Options = NoOptions;
    type Work = ();

    fn plan(
        job: &RestoreJob<'_, OpnsenseSettings, NoOptions>,
        _: &mut EventWriter<'_>,
    ) -> Result<Planned<()>, Failure> {
        KIND.plan(job, STEPS)
    }

    fn execute(
        _: &RestoreJob<'_, OpnsenseSettings, NoOptions>,
        (): (),
        _: Option<&Journal>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        KIND.execute(events);
        Ok(())
    }
}

endpoint_settings! {
    /// Which OPNsense.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct OpnsenseSettings {
        /// Where its web interface is, such as `https://opnsense.lan`.
        #[schemars(regex(pattern = "^https?://"))]
        url: String,
        /// The API key, the half that is no secret.
        #[schemars(length(min = 1))]
        key: String,
        /// The secret of the API key.
        secret: Secret,
    }
}

/// Since 24.1, and of the package os-api-backup before.
const PATHS: [&str; 2] = ["/api/core/backup/download/this", "/api/backup/backup/download"];

fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: OpnsenseSettings = builtin::settings(request)?;
    let web = endpoint::open(&settings.url, settings.tls.as_ref(), settings.allow_http, settings.silence)?;
    let get = |path: &str| web.get(path).basic(&settings.key, &settings.secret.0).send();
    let [new, old] = PATHS;
    let mut answer = get(new)?;
    if answer.status() == 404 {
        answer = get(old)?;
    }
    if answer.status() != 200 {
        return Err(explain(answer, &web));
    }
    if answer.content_type().contains("html") {
        return Err(download::a_page(answer.what()));
    }
    let path = request.staging.join(FILE);
    let what = answer.what().to_owned();
    let Some(mut saved) = download::save_if_any(answer, &path, XML_BYTES_MAX, events)? else {
        // It says 200 and nothing where it has no saved revision.
        let hint = "OPNsense has no saved revision: save any page of its web interface once";
        return Err(download::empty(&what).hint(hint));
    };
    if plain::is_gzip(&path) {
        saved = download::unpack(&path, XML_BYTES_MAX, "the export of OPNsense")?;
    }
    let shape = KIND.read(&path)?;
    let firmware = get("/api/core/firmware/status").ok().filter(|answer| answer.status() == 200);
    let version = firmware
        .and_then(|answer| answer.json::<Value>().ok())
        .and_then(|told| Some(told.get("product_version")?.as_str()?.to_owned()));
    match version {
        Some(version) => events.version(format!("OPNsense {version}")),
        None => events.log("the version is not known: the key may not read `System: Firmware`"),
    }
    KIND.figures(&shape, events);
    events.artifact(FILE, KIND.format, saved.sha256);
    Ok(())
}

fn explain(answer: Answer<'_>, web: &Web) -> Failure {
    let (status, what) = (answer.status(), answer.what().to_owned());
    if (300..400).contains(&status) {
        return download::redirected(&answer);
    }
    match status {
        401 => {
            Failure::new(codes::UNAUTHORIZED, format!("OPNsense {} does not take the key and its secret", web.shown()))
                .hint("make a key for the user: System, Access, Users, API keys")
        }
        403 => Failure::new(codes::FORBIDDEN, format!("the key may not read the configuration of {}", web.shown()))
            .hint("give its user the privilege `Diagnostics: Configuration History`"),
        404 => Failure::new(codes::NOT_FOUND, format!("{what}: there is no such API"))
            .hint("OPNsense before 24.1 needs the package os-api-backup; else correct the address"),
        _ => Failure::new(codes::APP_FAILED, format!("{what} was answered with {status}: {}", answer.said()))
            .hint("look into System, Log Files, Web GUI"),
    }
}
