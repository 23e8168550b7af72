//! Looks around on this host: the container engine, and applications that answer on the loopback.
//!
//! Every question is short and bounded; nothing is sent that an application could take for more than a visit.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::cli::init::propose::{Seeing, Service};
use crate::error::Trouble;
use crate::plugin::docker::sight;
use crate::web::{ClearText, Trust, Web};

/// Where engines usually listen.
const SOCKETS: &[&str] = &[sight::SOCKET, "/run/podman/podman.sock"];

/// How long an application on this very host may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// The *arr applications by their usual ports.
const ARRS: &[(u16, &str)] =
    &[(7878, "radarr"), (8989, "sonarr"), (8686, "lidarr"), (9696, "prowlarr"), (8787, "readarr")];

/// Sees what is there. A socket that a person named must answer; one that was found may be silent, which is told.
pub(crate) fn look(socket: Option<&str>) -> Result<(Seeing, Vec<String>), Trouble> {
    let mut told = Vec::new();
    let sight = match socket {
        Some("none") => None,
        Some(named) => Some(sight::look(named)?),
        None => SOCKETS.iter().find(|path| Path::new(path).exists()).and_then(|found| {
            let looked = sight::look(found);
            if let Err(trouble) = &looked {
                told.push(format!("the container engine at {found} does not answer: {}", trouble.message));
            }
            looked.ok()
        }),
    };
    Ok((Seeing { sight, services: services() }, told))
}

fn services() -> Vec<Service> {
    let mut all = Vec::new();
    if Path::new("/var/run/postgresql/.s.PGSQL.5432").exists() {
        all.push(Service { plugin: "postgres", address: "/var/run/postgresql".to_owned() });
    } else if listens(5432) {
        all.push(Service { plugin: "postgres", address: "127.0.0.1".to_owned() });
    }
    let mut web = |port: u16, plugin: &'static str, path: &str, is: &dyn Fn(&Value) -> bool| {
        let address = if port == 80 { "http://127.0.0.1".to_owned() } else { format!("http://127.0.0.1:{port}") };
        if listens(port) && ask(&address, path).is_some_and(|answer| is(&answer)) {
            all.push(Service { plugin, address });
        }
    };
    web(80, "pihole", "/api/auth", &|answer| answer.pointer("/session/valid").is_some());
    for (port, plugin) in ARRS {
        web(*port, plugin, "/ping", &|answer| answer.get("status").and_then(Value::as_str) == Some("OK"));
    }
    web(3000, "grafana", "/api/health", &|answer| answer.get("database").is_some() && answer.get("version").is_some());
    all
}

fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_millis(300)).is_ok()
}

/// A JSON answer, whatever its status: Pi-hole says 401 before a login, and shows its session all the same.
fn ask(address: &str, path: &str) -> Option<Value> {
    let web = Web::open(address, Trust::System, ClearText::Refused).ok()?.patient(ANSWER_MAX).ok()?.at_once();
    let answer = web.get(path).header("accept", "application/json").send().ok()?;
    answer.json_up_to(64 << 10).ok()
}
