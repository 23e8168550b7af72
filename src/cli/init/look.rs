//! Looks around on this host: the container engine, and applications that answer on the loopback or where a person names them.
//!
//! Every question is short and bounded; nothing is sent that an application could take for more than a visit.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::cli::init::propose::{Seeing, Service};
use crate::discovery::docker;
use crate::discovery::postgres;
use crate::error::{Trouble, codes};
use crate::web::{ClearText, Trust, Web, WebError};

/// Where engines usually listen.
const SOCKETS: &[&str] = &[docker::SOCKET, "/run/podman/podman.sock"];

/// How long an application on this very host may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Where applications usually answer on this host; of several places for one, the first that does.
const USUAL: &[(&str, &str)] = &[
    ("postgres", "/var/run/postgresql"),
    ("postgres", "127.0.0.1"),
    ("pihole", "http://127.0.0.1"),
    ("radarr", "http://127.0.0.1:7878"),
    ("sonarr", "http://127.0.0.1:8989"),
    ("lidarr", "http://127.0.0.1:8686"),
    ("prowlarr", "http://127.0.0.1:9696"),
    ("readarr", "http://127.0.0.1:8787"),
    ("grafana", "http://127.0.0.1:3000"),
];

/// Sees what is there. What a person named must answer; what was found may be silent, which is told of an engine.
pub(crate) fn look(socket: Option<&str>, named: &[String]) -> Result<(Seeing, Vec<String>), Trouble> {
    let mut told = Vec::new();
    let inventory = match socket {
        Some("none") => None,
        Some(named) => Some(docker::look(named)?),
        None => SOCKETS.iter().find(|path| Path::new(path).exists()).and_then(|found| {
            let looked = docker::look(found);
            if let Err(trouble) = &looked {
                told.push(format!("the container engine at {found} does not answer: {}", trouble.message));
            }
            looked.ok()
        }),
    };
    let services = match named {
        [] => usual(),
        [none] if none == "none" => Vec::new(),
        named => named.iter().map(|each| one(each)).collect::<Result<_, _>>()?,
    };
    Ok((Seeing { inventory, services }, told))
}

fn usual() -> Vec<Service> {
    let mut all: Vec<Service> = Vec::new();
    for (plugin, address) in USUAL {
        if !all.iter().any(|seen| seen.plugin == *plugin)
            && let Ok(service) = visit(plugin, address)
        {
            all.push(service);
        }
    }
    all
}

/// What a person named as `PLUGIN=ADDRESS`.
fn one(named: &str) -> Result<Service, Trouble> {
    let place = named.split_once('=').and_then(|(plugin, address)| {
        USUAL.iter().find(|(known, _)| *known == plugin).map(|(known, _)| (*known, address))
    });
    let Some((plugin, address)) = place.filter(|(_, address)| !address.is_empty()) else {
        let mut known: Vec<&str> = USUAL.iter().map(|(plugin, _)| *plugin).collect();
        known.dedup();
        return Err(Trouble::new(codes::BAD_SERVICE, format!("{named:?} names no application to look for"))
            .with_hint(format!("write PLUGIN=ADDRESS; it can be {}", known.join(", "))));
    };
    visit(plugin, address).map_err(|why| {
        Trouble::new(codes::SERVICE_SILENT, format!("no {plugin} answers at {address}{why}"))
            .with_hint("correct the address, or leave it out and write the target yourself: `larder plugin describe`")
    })
}

/// Asks what nobody but that application answers so; says why it is none.
fn visit(plugin: &'static str, address: &str) -> Result<Service, String> {
    if plugin == "postgres" {
        let (host, port) = host_and_port(address).ok_or(": this is no host and port")?;
        if !postgres::answers(host, port) {
            return Err(String::new());
        }
        let user = own_name().filter(|user| postgres::reads_all(host, port, user));
        return Ok(Service { plugin, address: host.to_owned(), port: Some(port), user });
    }
    let text = |answer: &Value, name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
    let (path, is): (&str, &dyn Fn(&Value) -> bool) = match plugin {
        "pihole" => ("/api/auth", &|answer| answer.pointer("/session/valid").is_some()),
        "grafana" => ("/api/health", &|answer| answer.get("database").is_some() && answer.get("version").is_some()),
        _ => ("/ping", &|answer| text(answer, "status").as_deref() == Some("OK")),
    };
    let address = address.trim_end_matches('/');
    let answer = ask(address, path)?;
    if is(&answer) {
        Ok(Service { plugin, address: address.to_owned(), port: None, user: None })
    } else {
        Err(": something else does".to_owned())
    }
}

/// `db.lan`, `db.lan:5432`, `[::1]:5432` or a directory.
fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if address.starts_with(['/', '[']) || !host.contains(':') => (host, port.parse().ok()?),
        _ => (address, 5432),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some((host, port))
}

fn own_name() -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name)
}

/// A JSON answer, whatever its status: Pi-hole says 401 before a login, and shows its session all the same.
fn ask(address: &str, path: &str) -> Result<Value, String> {
    let open = || Ok(Web::open(address, Trust::System, ClearText::Refused)?.patient(ANSWER_MAX)?.at_once());
    let told = |error: WebError| format!(": {}", crate::error::chain(&error));
    let web = open().map_err(told)?;
    let answer = web.get(path).header("accept", "application/json").send().map_err(told)?;
    answer.json_up_to(64 << 10).map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_named_by_host_port_or_directory() {
        assert_eq!(host_and_port("db.lan"), Some(("db.lan", 5432)));
        assert_eq!(host_and_port("db.lan:5433"), Some(("db.lan", 5433)));
        assert_eq!(host_and_port("/run/postgresql"), Some(("/run/postgresql", 5432)));
        assert_eq!(host_and_port("/run/postgresql:5433"), Some(("/run/postgresql", 5433)));
        assert_eq!(host_and_port("[::1]:5433"), Some(("::1", 5433)));
        assert_eq!(host_and_port("::1"), Some(("::1", 5432)));
        for bad in ["", ":5432", "db:port", "db:99999"] {
            assert_eq!(host_and_port(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_application_that_is_looked_for_has_a_plugin() {
        for (plugin, _) in USUAL {
            assert!(crate::plugin::ALL.iter().any(|each| each.name == *plugin), "{plugin}");
        }
    }
}
