//! The plugin `pfsense`: config.xml by the form of its web interface, since pfSense has no API.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{Trouble, codes};
use crate::plugin::apps::firewall::{self, FILE, Kind};
use crate::plugin::kit::builtin::{self, Builtin, Failure, Restore};
use crate::plugin::kit::endpoint::{self, endpoint_settings};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::restore::{NoOptions, Planned, RestoreJob, Restorer};
use crate::plugin::kit::settings::Secret;
use crate::plugin::kit::{download, plain};
use crate::plugin::protocol::Request;

mod client;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "pfsense",
    summary: "pfSense by its configuration (config.xml)",
    guide: GUIDE,
    schema: || schemars::schema_for!(PfsenseSettings).to_value(),
    capture,
    validate: |request, events| KIND.validate::<PfsenseSettings>(request, events),
    restore: Some(Restore::by::<Pfsense>()),
    recover: None,
};

const GUIDE: &str = "
A target:
  plugin: pfsense
  with:
    url: https://pfsense.lan
    user: larder
    password: {env: PFSENSE_PASSWORD}
    tls: {fingerprint: …}

In the backup: config.xml: the whole configuration with rules, interfaces, VPN, users, certificates and their private
keys, hashes of passwords. With `rrd: true` the data of the graphs, with `extra: true` the DHCP leases and the like, with
`ssh_keys: true` the host keys of SSH.

Not in it: logs, packages (their names and settings are in it), files that were put there by hand.

Least privilege: a user of its own with the one privilege `WebCfg - Diagnostics: Backup & Restore`. It can read and
replace the whole configuration, so it is as good as root: keep it well. pfSense has no API of its own: this plugin fills
in the form at Diagnostics, Backup & Restore, and logs out again. A run that is killed leaves a session on pfSense until
it expires there (System, User Manager, Settings: Session timeout); its cookie is written down nowhere.

Restore: in the web interface at Diagnostics, Backup & Restore; pfSense reboots then.";

const KIND: Kind = Kind {
    name: "pfSense",
    format: "pfsense-config",
    root: "pfsense",
    needed: &["version", "system", "interfaces"],
    counted: &[
        ("filter_rules", "filter/rule"),
        ("nat_rules", "nat/rule"),
        ("certificates", "cert"),
        ("users", "system/user"),
    ],
};

const STEPS: &[(&str, &str)] = &[
    ("upload of config.xml", "Diagnostics, Backup & Restore, Restore configuration: choose the file; pfSense reboots"),
    ("without the web interface", "copy it to /cf/conf/config.xml, remove /tmp/config.cache, and reboot"),
    ("packages", "they are installed again by themselves after the reboot; see Diagnostics, Backup & Restore"),
];

/// Says how a person puts a configuration back.
struct Pfsense;

impl Restorer for Pfsense {
    type Settings = PfsenseSettings;
    type Options = NoOptions;
    type Work = ();

    fn plan(job: &RestoreJob<'_, PfsenseSettings, NoOptions>, _: &mut EventWriter<'_>) -> Result<Planned<()>, Failure> {
        KIND.plan(job, STEPS)
    }

    fn execute(
        _: &RestoreJob<'_, PfsenseSettings, NoOptions>,
        (): (),
        _: Option<&Journal>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        KIND.execute(events);
        Ok(())
    }
}

endpoint_settings! {
    /// Which pfSense, and what of it.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct PfsenseSettings {
        /// Where its web interface is, such as `https://pfsense.lan`.
        #[schemars(regex(pattern = "^https?://"))]
        url: String,
        /// The user to log in as.
        user: String,
        /// The user's password.
        password: Secret,
        /// Keep the data of the graphs too.
        #[serde(default)]
        rrd: bool,
        /// Keep DHCP leases and the like too.
        #[serde(default)]
        extra: bool,
        /// Keep the host keys of SSH too.
        #[serde(default)]
        ssh_keys: bool,
    }
}

impl PfsenseSettings {
    /// The fields of the form, besides its token.
    fn wanted(&self) -> Vec<(&'static str, &'static str)> {
        let mut fields = vec![("backuparea", ""), ("download", "download")];
        let choices = [(!self.rrd, "donotbackuprrd"), (self.extra, "backupdata"), (self.ssh_keys, "backupssh")];
        fields.extend(choices.into_iter().filter(|(chosen, _)| *chosen).map(|(_, name)| (name, "yes")));
        fields
    }
}

fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: PfsenseSettings = builtin::settings(request)?;
    let web = endpoint::open(&settings.url, settings.tls.as_ref(), settings.allow_http, settings.silence)?;
    let path = request.staging.join(FILE);
    let mut browser = client::Browser::new(&web);
    let logged_in = browser.log_in(&settings.user, &settings.password.0);
    let downloaded = logged_in.and_then(|()| browser.download(&settings.wanted(), &path, events));
    if let Err(failure) = browser.log_out() {
        events.warning(Trouble::new(
            codes::SESSION_LEFT,
            format!("pfSense could not be logged out of: {}", failure.trouble.message),
        ));
    }
    let mut saved = downloaded?;
    if plain::is_gzip(&path) {
        saved = download::unpack(&path, firewall::XML_BYTES_MAX, "the export of pfSense")?;
    }
    let shape = KIND.read(&path)?;
    if let Some(version) = shape.texts.get("version") {
        events.version(format!("configuration {version}"));
    }
    KIND.figures(&shape, events);
    events.artifact(FILE, KIND.format, saved.sha256);
    Ok(())
}
