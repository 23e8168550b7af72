//! The child's side of the built-in plugins: `larder plugin NAME` reads one request and answers with events.

use std::io::{IsTerminal as _, Read, Write};
use std::process::ExitCode;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Trouble;
use crate::plugin::protocol::{Action, Capability, Description, Event, PROTOCOL, REQUEST_BYTES_MAX, Request, Verb};
use crate::plugin::{
    ArtifactFile, Source, Validation, Verdict, arr, command, docker, files, grafana, homeassistant, http, invoiceninja,
    mariadb, opnsense, pfsense, pihole, postgres, redis, rsync, sqlite,
};

/// One action of a plugin: answers the request with events.
pub(crate) type Act = fn(&Request, &mut Voice<'_>) -> Result<(), Failure>;

/// A plugin that is part of the program.
pub struct Builtin {
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// What is in the backup, what is not, and the least rights it needs; for people.
    pub(crate) guide: &'static str,
    pub(crate) schema: fn() -> Value,
    pub(crate) capture: Act,
    pub(crate) validate: Act,
    pub(crate) restore: Option<Restore>,
    /// Undoes what the journal of a killed capture holds.
    pub(crate) recover: Option<Act>,
}

/// How a plugin puts a backup back.
pub struct Restore {
    /// JSON Schema of what the operator may choose.
    pub(crate) options: fn() -> Value,
    pub(crate) run: Act,
}

impl Builtin {
    pub(crate) fn capabilities(&self) -> Vec<Capability> {
        let restore = self.restore.is_some().then_some(Capability::Restore);
        restore.into_iter().chain(self.recover.is_some().then_some(Capability::Recover)).collect()
    }
}

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
    crate::plugin::prometheus::BUILTIN,
    arr::PROWLARR,
    arr::RADARR,
    arr::READARR,
    redis::BUILTIN,
    rsync::BUILTIN,
    arr::SONARR,
    sqlite::BUILTIN,
];

/// Answers the request on standard input; the whole life of a `larder plugin NAME` process. At a terminal, says what
/// the plugin is.
#[must_use]
pub fn builtin_main(name: &str) -> ExitCode {
    // What a plugin writes holds the application's data: for the daemon's user alone.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let mut stdout = std::io::stdout();
    if std::io::stdin().is_terminal()
        && let Some(text) = describe_text(name)
    {
        // A person, not larder: there will be no request.
        return match stdout.write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let mut voice = Voice { out: &mut stdout };
    match answer(name, std::io::stdin(), &mut voice) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let Failure { trouble: Trouble { code, message, hint }, retry } = failure;
            voice.say(&Event::Failed { code, message, hint, retry });
            ExitCode::FAILURE
        }
    }
}

/// A plugin for people: what it keeps, what not, the rights it needs, its settings with defaults.
#[must_use]
pub fn describe_text(name: &str) -> Option<String> {
    let builtin = ALL.iter().find(|each| each.name == name)?;
    let options = builtin.restore.as_ref().map(|restore| (restore.options)());
    Some(told(builtin.name, builtin.summary, builtin.guide, &(builtin.schema)(), options.as_ref()))
}

/// One text from what a plugin says of itself and its settings schema.
pub(crate) fn told(name: &str, summary: &str, guide: &str, schema: &Value, options: Option<&Value>) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{name}: {summary}\n");
    if !guide.is_empty() {
        let _ = writeln!(text, "\n{}", guide.trim());
    }
    text.push_str("\nSettings (`with:`)\n");
    text.push_str(&fields(schema));
    if let Some(options) = options {
        text.push_str("\nChoices for a restore (`larder restore --into TARGET --option NAME=VALUE`)\n");
        let fields = fields(options);
        text.push_str(if fields.is_empty() { "  none\n" } else { &fields });
    }
    text
}

/// The properties of a schema, one after the other.
fn fields(schema: &Value) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let default = match property.get("default") {
            _ if required.contains(&name.as_str()) => "required".to_owned(),
            None | Some(Value::Null) => "optional".to_owned(),
            Some(value) => format!("default {value}"),
        };
        let about = property.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
        let _ = writeln!(text, "  {name} ({default})\n      {about}");
    }
    text
}

fn answer(name: &str, stdin: impl Read, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let builtin = ALL.iter().find(|each| each.name == name).ok_or_else(|| {
        let names: Vec<&str> = ALL.iter().map(|each| each.name).collect();
        Failure::new("no_such_plugin", format!("there is no built-in plugin {name:?}; there are {}", names.join(", ")))
    })?;
    let request = read_request(stdin)?;
    match request.action {
        Action::Describe => {
            voice.say(&Event::Description(Description {
                protocol: PROTOCOL,
                summary: builtin.summary.to_owned(),
                settings: (builtin.schema)(),
                capabilities: builtin.capabilities(),
                restore_options: builtin.restore.as_ref().map(|restore| (restore.options)()),
            }));
            Ok(())
        }
        Action::Capture => (builtin.capture)(&request, voice),
        Action::Validate => (builtin.validate)(&request, voice),
        Action::Restore => match &builtin.restore {
            Some(restore) => (restore.run)(&request, voice),
            None => Err(cannot(name, "restore into an application")
                .hint("restore the files with `larder restore TARGET --to DIR`, then follow `larder plugin describe`")),
        },
        Action::Recover => match builtin.recover {
            Some(recover) => recover(&request, voice),
            None => Err(cannot(name, "recover")),
        },
    }
}

fn cannot(name: &str, what: &str) -> Failure {
    Failure::new("not_supported", format!("the plugin {name} does not {what}"))
}

/// Errors never quote the request: it holds secrets.
fn read_request(stdin: impl Read) -> Result<Request, Failure> {
    let refuse = |message: &str| Failure::new("request", message);
    let mut bytes = Vec::new();
    stdin
        .take(REQUEST_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new("request", format!("standard input cannot be read: {error}")))?;
    if bytes.len() as u64 > REQUEST_BYTES_MAX {
        return Err(refuse("the request has more than 16 MiB"));
    }
    let request: Request = serde_json::from_slice(&bytes).map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        Failure::new("request", format!("standard input holds no request of protocol {PROTOCOL} ({place})"))
            .hint("this program is started by larder; for its settings see `larder plugin describe NAME`")
    })?;
    if request.protocol != PROTOCOL {
        return Err(Failure::new(
            "plugin_protocol",
            format!("the request speaks protocol {}, this plugin speaks {PROTOCOL}", request.protocol),
        ));
    }
    Ok(request)
}

/// The settings as the plugin's own type.
pub(crate) fn settings<T: DeserializeOwned>(request: &Request) -> Result<T, Failure> {
    serde_json::from_value(request.settings.clone()).map_err(|error| {
        // A serde message quotes the value it didn't like, which may be a secret in the wrong place.
        let shown = match error.classify() {
            serde_json::error::Category::Data => error.to_string(),
            _ => "they cannot be read".to_owned(),
        };
        let shown = if shown.contains("unknown field") || shown.contains("missing field") {
            shown
        } else {
            "a value has the wrong type".to_owned()
        };
        Failure::new("settings", format!("the settings do not fit the plugin: {shown}")).hint("run `larder check`")
    })
}

/// What the operator chose for a restore, as the plugin's own type.
pub(crate) fn options<T: DeserializeOwned>(request: &Request) -> Result<T, Failure> {
    let given = request.restore.as_ref().map(|order| order.options.clone()).unwrap_or_default();
    let given = if given.is_null() { Value::Object(serde_json::Map::new()) } else { given };
    serde_json::from_value(given).map_err(|error| {
        Failure::new("restore_options", format!("the options do not fit the plugin: {error}"))
            .hint("`larder plugin describe NAME` lists what can be chosen")
    })
}

/// Why a plugin could not do its work.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) trouble: Trouble,
    pub(crate) retry: bool,
}

impl Failure {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { trouble: Trouble::new(code, message), retry: false }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.trouble = self.trouble.with_hint(hint);
        self
    }

    /// Trying again later can help.
    pub(crate) fn later(mut self) -> Self {
        self.retry = true;
        self
    }
}

/// Where a plugin says its events.
pub(crate) struct Voice<'a> {
    pub(crate) out: &'a mut dyn Write,
}

impl Voice<'_> {
    /// Writes one event at once, so a crash later loses none. Nobody listening is no error: the host is gone then.
    pub(crate) fn say(&mut self, event: &Event) {
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            let _ = self.out.write_all(&line).and_then(|()| self.out.flush());
        }
    }

    pub(crate) fn log(&mut self, message: impl Into<String>) {
        self.say(&Event::Log { message: message.into() });
    }

    pub(crate) fn progress(&mut self, done: u64, total: u64) {
        self.say(&Event::Progress { done, total });
    }

    pub(crate) fn artifact(&mut self, path: &str, format: &str, sha256: String) {
        self.say(&Event::Artifact(ArtifactFile { path: path.into(), format: format.to_owned(), sha256: Some(sha256) }));
    }

    pub(crate) fn source(&mut self, source: Source) {
        self.say(&Event::Source(source));
    }

    pub(crate) fn version(&mut self, app: impl Into<String>) {
        self.say(&Event::Version { app: app.into() });
    }

    pub(crate) fn figure(&mut self, name: impl Into<String>, value: u64) {
        self.say(&Event::Figure { name: name.into(), value });
    }

    pub(crate) fn warning(&mut self, trouble: Trouble) {
        let Trouble { code, message, hint } = trouble;
        self.say(&Event::Warning { code, message, hint });
    }

    /// What is left out by design, by itself or accepted; the run stays a success.
    #[allow(dead_code, reason = "plugins that have nothing to leave out say none")]
    pub(crate) fn notice(&mut self, trouble: Trouble) {
        let Trouble { code, message, hint } = trouble;
        self.say(&Event::Notice { code, message, hint });
    }

    /// Something that a restore does, or would do.
    pub(crate) fn step(&mut self, verb: Verb, thing: impl Into<String>, detail: impl Into<String>) {
        self.say(&Event::Step { verb, thing: thing.into(), detail: detail.into() });
    }

    pub(crate) fn validation(&mut self, name: impl Into<String>, verdict: Verdict, detail: impl Into<String>) {
        self.say(&Event::Validation(Validation { name: name.into(), verdict, detail: detail.into() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, request: &str) -> (Result<(), Failure>, String) {
        let mut out = Vec::new();
        let result = answer(name, request.as_bytes(), &mut Voice { out: &mut out });
        (result, String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_builtin_describes_itself_with_a_strict_schema() {
        for builtin in ALL {
            let (result, out) = ask(builtin.name, r#"{"protocol":1,"action":"describe"}"#);
            assert!(result.is_ok());
            let said: Value = serde_json::from_str(&out).unwrap();
            assert_eq!(said["settings"]["type"], "object", "{}", builtin.name);
            assert_eq!(said["settings"]["additionalProperties"], false, "{}", builtin.name);
            for (name, property) in said["settings"]["properties"].as_object().unwrap() {
                assert!(property["description"].is_string(), "{}.{name} has no description", builtin.name);
            }
        }
    }

    #[test]
    fn a_request_that_cannot_be_read_is_told_without_quoting_it() {
        for request in ["", "{", r#"{"protocol":1,"action":"dance","settings":{"password":"hunter2"}}"#] {
            let (result, out) = ask("files", request);
            let failure = result.unwrap_err();
            assert_eq!(failure.trouble.code, "request");
            assert!(!failure.trouble.to_string().contains("hunter2") && out.is_empty());
        }
        let newer = ask("files", r#"{"protocol":2,"action":"describe"}"#).0.unwrap_err();
        assert_eq!(newer.trouble.code, "plugin_protocol");
        assert_eq!(ask("fies", "").0.unwrap_err().trouble.code, "no_such_plugin");
        let huge = " ".repeat(17 << 20);
        assert_eq!(ask("files", &huge).0.unwrap_err().trouble.message, "the request has more than 16 MiB");
    }

    #[test]
    fn settings_in_the_wrong_place_are_told_without_quoting_a_value() {
        let request = r#"{"protocol":1,"action":"capture","settings":{"paths":"hunter2"}}"#;
        let failure = ask("files", request).0.unwrap_err();
        assert_eq!(failure.trouble.code, "settings");
        assert!(!failure.trouble.to_string().contains("hunter2"));
    }

    #[test]
    fn people_can_read_what_a_plugin_keeps_and_needs() {
        for builtin in ALL {
            let text = describe_text(builtin.name).unwrap();
            for part in ["In the backup", "Not in it", "Least privilege", "Settings"] {
                assert!(text.contains(part), "{} says nothing of {part:?}:\n{text}", builtin.name);
            }
        }
        assert_eq!(describe_text("nope"), None);
    }
}
