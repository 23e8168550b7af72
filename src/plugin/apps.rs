//! The applications that the program knows by itself: one folder each, and this list. None names another one.

use crate::plugin::kit::builtin::Builtin;

mod arr;
mod command;
pub(crate) mod docker;
mod files;
mod firewall;
mod grafana;
mod homeassistant;
mod http;
mod invoiceninja;
mod mariadb;
mod opnsense;
mod pfsense;
mod pihole;
mod postgres;
mod prometheus;
mod redis;
mod rsync;
mod sqlite;

/// The built-in plugins in order of their names.
pub const ALL: &[Builtin] = &[
    command::BUILTIN,
    docker::BUILTIN,
    files::BUILTIN,
    grafana::BUILTIN,
    homeassistant::BUILTIN,
    http::BUILTIN,
    invoiceninja::BUILTIN,
    arr::LIDARR,
    mariadb::BUILTIN,
    mariadb::MYSQL,
    opnsense::BUILTIN,
    pfsense::BUILTIN,
    pihole::BUILTIN,
    postgres::BUILTIN,
    self::prometheus::BUILTIN,
    arr::PROWLARR,
    arr::RADARR,
    arr::READARR,
    redis::BUILTIN,
    rsync::BUILTIN,
    arr::SONARR,
    sqlite::BUILTIN,
];
