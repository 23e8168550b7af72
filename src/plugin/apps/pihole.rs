//! The plugin `pihole`: a Pi-hole's own export (Teleporter), taken over its API, looked at in depth, and put back.
//!
//! For version 6. Version 5 has no such API and is not supported; its archives can be imported into a Pi-hole 6 by hand.

use crate::plugin::kit::builtin::{Builtin, Restore};

mod api;
mod capture;
mod gravity;
mod login;
mod opening;
mod recover;
mod restore;
mod settings;
mod teleporter;
mod totp;
mod validate;

use settings::PiholeSettings;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "pihole",
    summary: "Pi-hole 6 by its own export (Teleporter)",
    guide: GUIDE,
    schema: || schemars::schema_for!(PiholeSettings).to_value(),
    capture: capture::capture,
    validate: validate::validate,
    restore: Some(Restore::by::<restore::PutBack>()),
    recover: Some(recover::recover),
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
