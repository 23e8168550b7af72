//! Targets for what `larder init` sees on this host: pure text from what answered.
//!
//! What needs a secret that nobody has written yet is proposed `enabled: false`, so that the repository works at once.

use std::path::Path;

use crate::discovery::docker::{EngineInventory, SOCKET, Seen};
use crate::plugin::apps::docker::database::Kind;
use crate::types::Name;

/// What answered on this host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seeing {
    pub(crate) inventory: Option<EngineInventory>,
    pub(crate) services: Vec<Service>,
}

/// An application that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// The plugin's name.
    pub(crate) plugin: &'static str,
    /// `http://127.0.0.1:8989`; for a database its host.
    pub(crate) address: String,
    /// Of a database.
    pub(crate) port: Option<u16>,
    /// The role that it lets in without a password, and that may read all.
    pub(crate) user: Option<String>,
}

/// A target and what to tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) name: String,
    /// A YAML document without the separator before it; none: only told.
    pub(crate) document: Option<String>,
    /// What was seen, and what is to be done.
    pub(crate) told: Vec<String>,
}

/// The targets to write; `has` says whether this program has a plugin.
pub(crate) fn propose(seeing: &Seeing, secrets: &Path, taken: &[String], has: &dyn Fn(&str) -> bool) -> Vec<Proposal> {
    let mut names: Vec<String> = taken.to_vec();
    let mut all = Vec::new();
    if let Some(inventory) = seeing.inventory.as_ref().filter(|_| has("docker")) {
        for project in inventory.projects() {
            let name = free(project, &mut names);
            all.push(of_project(inventory, project, name));
        }
        for seen in inventory.containers.iter().filter(|seen| seen.project.is_none() && seen.database().is_some()) {
            let name = free(&seen.name, &mut names);
            all.push(of_database(inventory, seen, name));
        }
    }
    for service in &seeing.services {
        let name = free(service.plugin, &mut names);
        if has(service.plugin) {
            all.push(of_service(service, secrets, name));
        } else {
            let told = format!("saw {} at {}: this version has no plugin for it", service.plugin, service.address);
            all.push(Proposal { name, document: None, told: vec![told] });
        }
    }
    all
}

fn of_project(inventory: &EngineInventory, project: &str, name: String) -> Proposal {
    let of_it: Vec<&Seen> =
        inventory.containers.iter().filter(|seen| seen.project.as_deref() == Some(project)).collect();
    let databases: Vec<String> = of_it
        .iter()
        .filter(|seen| seen.database().is_some())
        .map(|seen| format!("{} ({})", seen.name, seen.image))
        .collect();
    let mut comment = format!("# Compose project with {} containers.", of_it.len());
    if !databases.is_empty() {
        comment.push_str(&format!(" Dumped by their own client: {}.", one_line(&databases.join(", "))));
    }
    let with = format!("{{{}project: {}}}", socket(inventory), quote(project));
    let document = format!("{comment}\nkind: Target\nname: {name}\nplugin: docker\nwith: {with}\n");
    let told = format!("saw the compose project {project} ({} containers): target {name}", of_it.len());
    Proposal { name, document: Some(document), told: vec![told] }
}

fn of_database(inventory: &EngineInventory, seen: &Seen, name: String) -> Proposal {
    let kind = match seen.database() {
        Some(Kind::Postgres) => "PostgreSQL",
        Some(Kind::MySql) => "MariaDB or MySQL",
        _ => "Redis",
    };
    let with = format!("{{{}containers: [{}]}}", socket(inventory), quote(&seen.name));
    let document = format!(
        "# {kind} ({}), dumped by its own client inside the container.\nkind: Target\nname: {name}\nplugin: docker\nwith: {with}\n",
        one_line(&seen.image)
    );
    let told = format!("saw the database container {} ({}): target {name}", seen.name, seen.image);
    Proposal { name, document: Some(document), told: vec![told] }
}

fn of_service(service: &Service, secrets: &Path, name: String) -> Proposal {
    let Service { plugin, address, port, user } = service;
    let port = port.filter(|port| *port != 5432).map(|port| format!(", port: {port}")).unwrap_or_default();
    if let Some(user) = user {
        let host = quote(address);
        let document = format!(
            "# The server lets the role {} in without a password.\nkind: Target\nname: {name}\nplugin: {plugin}\n\
             with: {{host: {host}{port}, all: true, user: {}}}\n",
            one_line(user),
            quote(user)
        );
        let told = format!("saw {plugin} at {address}: target {name}, read as the role {user}");
        return Proposal { name, document: Some(document), told: vec![told] };
    }
    let secret = secrets.join(&name);
    let file = quote(&secret.display().to_string());
    let (with, what) = match *plugin {
        "postgres" => (
            format!("{{host: {}{port}, all: true, user: backup, password: {{file: {file}}}}}", quote(address)),
            "the password of the role `backup` (CREATE ROLE backup LOGIN PASSWORD '…' IN ROLE pg_read_all_data)",
        ),
        "grafana" => (
            format!("{{url: {}, token: {{file: {file}}}}}", quote(address)),
            "a token of a service account with the role Admin",
        ),
        "pihole" => (
            format!("{{url: {}, password: {{file: {file}}}}}", quote(address)),
            "an app password (Settings, Web interface / API)",
        ),
        _ => (
            format!("{{url: {}, api_key: {{file: {file}}}}}", quote(address)),
            "the API key (Settings, General, Security)",
        ),
    };
    let document = format!(
        "# Write {what} into the file below (mode 0600, outside Git), then delete `enabled: false`.\n\
         kind: Target\nname: {name}\nplugin: {plugin}\nenabled: false\nwith: {with}\n"
    );
    let told = vec![
        format!("saw {plugin} at {address}: target {name}, switched off"),
        format!("  write {what} into {}, then delete `enabled: false`", secret.display()),
    ];
    Proposal { name, document: Some(document), told }
}

fn socket(inventory: &EngineInventory) -> String {
    if inventory.socket == SOCKET { String::new() } else { format!("socket: {}, ", quote(&inventory.socket)) }
}

/// A target's name that none has yet.
fn free(wanted: &str, names: &mut Vec<String>) -> String {
    let plain =
        |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c.to_ascii_lowercase() } else { '-' };
    let mut base: String = wanted.chars().map(plain).take(40).collect();
    base = base.trim_matches(['-', '_']).to_owned();
    if Name::parse(&base).is_err() {
        "app".clone_into(&mut base);
    }
    let mut name = base.clone();
    let mut number = 2;
    while names.iter().any(|each| each.eq_ignore_ascii_case(&name)) {
        name = format!("{base}-{number}");
        number += 1;
    }
    names.push(name.clone());
    name
}

/// As a double-quoted YAML scalar.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// For a comment: what comes from an engine must not begin a line of its own.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_project_and_each_lonely_database_gets_a_target_and_hostile_names_stay_text() {
        let seen = |name: &str, image: &str, project: Option<&str>| Seen {
            name: name.to_owned(),
            image: image.to_owned(),
            project: project.map(str::to_owned),
            ..Seen::default()
        };
        let inventory = EngineInventory {
            socket: "/e.sock".to_owned(),
            containers: vec![
                seen("shop-db-1", "postgres:16\nkind: Target", Some("shop")),
                seen("shop-web-1", "nginx", Some("shop")),
                seen("files", "mariadb:11", None),
                seen("other", "nginx", None),
            ],
            ..EngineInventory::default()
        };
        let services = vec![
            Service { plugin: "postgres", address: "127.0.0.1".to_owned(), port: Some(5432), user: None },
            Service { plugin: "grafana", address: "http://127.0.0.1:3000".to_owned(), port: None, user: None },
        ];
        let seeing = Seeing { inventory: Some(inventory), services };
        let has = |plugin: &str| plugin != "grafana";
        let all = propose(&seeing, Path::new("/state/secrets"), &["files".to_owned()], &has);
        let names: Vec<&str> = all.iter().map(|each| each.name.as_str()).collect();
        assert_eq!(names, ["shop", "files-2", "postgres", "grafana"]);
        let shop = all[0].document.as_deref().unwrap();
        assert!(
            shop.contains("with: {socket: \"/e.sock\", project: \"shop\"}") && shop.matches('\n').count() == 5,
            "{shop}"
        );
        assert!(all[2].document.as_deref().unwrap().contains("enabled: false"));
        assert!(all[3].document.is_none() && all[3].told[0].contains("no plugin"));
    }
}
