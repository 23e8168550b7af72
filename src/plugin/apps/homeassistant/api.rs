//! The conversation with Home Assistant: commands over its WebSocket, each answered under its number.

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::download;
use crate::web::{Answer, Call, Socket, Upgraded, Web};

/// Messages that are no answer are passed over up to this many.
const STRANGE_MAX: usize = 10_000;

/// An open conversation.
pub(super) struct Talk<'w> {
    web: &'w Web,
    socket: Socket<'w>,
    token: SecretString,
    last_id: u64,
    pub(super) version: String,
}

/// What is going on with backups, and which there are.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    pub(super) state: String,
    #[serde(default)]
    pub(super) backups: Vec<Listed>,
    #[serde(default)]
    pub(super) last_action_event: Option<ActionEvent>,
}

/// The last thing that was done about backups.
#[derive(Debug, Deserialize)]
pub(super) struct ActionEvent {
    #[serde(default)]
    pub(super) state: Option<String>,
    #[serde(default)]
    pub(super) reason: Option<String>,
}

/// One backup on the server.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) backup_id: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) agents: std::collections::BTreeMap<String, Copy>,
    #[serde(default)]
    pub(super) failed_agent_ids: Vec<String>,
}

/// Where it lies, and how.
#[derive(Debug, Deserialize)]
pub(super) struct Copy {
    #[serde(default)]
    pub(super) protected: bool,
    #[serde(default)]
    pub(super) size: u64,
}

impl<'w> Talk<'w> {
    /// Connects and says who we are.
    pub(super) fn open(web: &'w Web, token: &SecretString) -> Result<Self, Failure> {
        let mut socket = match Socket::open(web, web.get("/api/websocket"))? {
            Upgraded::Open(socket) => socket,
            Upgraded::Refused(answer) => return Err(no_socket(answer)),
        };
        let greeting = socket.receive()?;
        let version = greeting.get("ha_version").and_then(Value::as_str).unwrap_or_default();
        let version: String = version.chars().filter(char::is_ascii_graphic).take(40).collect();
        if greeting.get("type").and_then(Value::as_str) != Some("auth_required") {
            return Err(strange(web, "does not greet as Home Assistant does"));
        }
        socket.send(&json!({ "type": "auth", "access_token": token.expose_secret() }))?;
        match socket.receive()?.get("type").and_then(Value::as_str) {
            Some("auth_ok") => {}
            Some("auth_invalid") => {
                return Err(Failure::new(
                    codes::UNAUTHORIZED,
                    format!("Home Assistant {} does not take the token", web.shown()),
                )
                .hint("make a long-lived access token as an administrator: Profile, Security"));
            }
            _ => return Err(strange(web, "does not answer the login as Home Assistant does")),
        }
        Ok(Self { web, socket, token: token.clone(), last_id: 0, version })
    }

    /// Sends a command and waits for its result.
    pub(super) fn ask(&mut self, kind: &str, mut fields: Value) -> Result<Value, Failure> {
        self.last_id += 1;
        if let Value::Object(fields) = &mut fields {
            fields.insert("id".to_owned(), self.last_id.into());
            fields.insert("type".to_owned(), kind.into());
        }
        self.socket.send(&fields)?;
        for _ in 0..STRANGE_MAX {
            let mut message = self.socket.receive()?;
            let ours = message.get("id").and_then(Value::as_u64) == Some(self.last_id)
                && message.get("type").and_then(Value::as_str) == Some("result");
            if !ours {
                continue;
            }
            if message.get("success") == Some(&Value::Bool(true)) {
                return Ok(message.get_mut("result").map(Value::take).unwrap_or_default());
            }
            return Err(refused(kind, &message));
        }
        Err(strange(self.web, "does not answer a command"))
    }

    pub(super) fn info(&mut self) -> Result<Info, Failure> {
        let told = self.ask("backup/info", json!({}))?;
        serde_json::from_value(told).map_err(|_| strange(self.web, "tells of its backups in another way than expected"))
    }

    /// The place on its own disk: `hassio.local` on Home Assistant OS, else `backup.local`.
    pub(super) fn local_agent(&mut self) -> Result<String, Failure> {
        let told = self.ask("backup/agents/info", json!({}))?;
        let agents: Vec<&str> =
            told["agents"].as_array().into_iter().flatten().filter_map(|each| each["agent_id"].as_str()).collect();
        let local = ["hassio.local", "backup.local"].into_iter().find(|local| agents.contains(local));
        local.map(str::to_owned).ok_or_else(|| {
            Failure::new(
                codes::NO_AGENT,
                format!("Home Assistant has no place for backups on its own disk ({})", agents.join(", ")),
            )
            .hint("name one of these as `agent`")
        })
    }

    /// A call over HTTP with the same token.
    pub(super) fn call(&self, call: impl FnOnce(&'w Web) -> Call<'w>) -> Call<'w> {
        call(self.web).bearer(&self.token)
    }

    pub(super) fn close(self) {
        self.socket.close();
    }
}

fn no_socket(answer: Answer<'_>) -> Failure {
    let (status, what) = (answer.status(), answer.what().to_owned());
    match status {
        200 if answer.content_type().contains("html") => download::a_page(&what),
        300..=399 => download::redirected(&answer),
        403 => Failure::new(codes::BANNED, format!("{what} was answered with 403"))
            .hint("Home Assistant may have banned this address after failed logins: see ip_bans.yaml"),
        502..=504 => Failure::new(
            codes::APP_BUSY,
            format!("{what} was answered with {status}: it is starting, or its proxy finds it not"),
        )
        .hint("it is tried again"),
        _ => Failure::new(codes::NOT_HOMEASSISTANT, format!("{what} was answered with {status}, not with a WebSocket"))
            .hint("correct the address; a proxy in between must let WebSockets through"),
    }
}

fn refused(kind: &str, message: &Value) -> Failure {
    let text = |name: &str| message.pointer(&format!("/error/{name}")).and_then(Value::as_str).unwrap_or_default();
    let said: String = text("message").chars().filter(|c| !c.is_control()).take(300).collect();
    match text("code") {
        "unauthorized" => {
            Failure::new(codes::FORBIDDEN, "the token's user may not make backups: it is no administrator")
                .hint("make the token as an administrator: Profile, Security")
        }
        "unknown_command" => Failure::new(codes::TOO_OLD, format!("Home Assistant does not know the command {kind}"))
            .hint("version 2025.1 or newer is needed; is the integration `backup` loaded (default_config)?"),
        code => Failure::new(codes::APP_FAILED, format!("Home Assistant refuses {kind}: {said} ({code})"))
            .hint("look at Settings, System, Logs"),
    }
}

fn strange(web: &Web, what: &str) -> Failure {
    Failure::new(codes::NOT_HOMEASSISTANT, format!("{} {what}", web.shown())).hint("correct the address")
}
