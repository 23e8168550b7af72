//! Which plugins there are: the built-in ones, and executables in the operator's directory.
//!
//! A broken executable is told in [`Catalogue::broken`] and stops nobody else. What comes from Git can't add a plugin:
//! who can push config must not be able to run programs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::config::SettingsSchemas;
use crate::error::{Trouble, codes};
use crate::plugin::host::{self, secrets};
use crate::plugin::kit::builtin::{self, Builtin};
use crate::plugin::kit::commands::{self, trusted};
use crate::plugin::kit::tidy::tidy;
use crate::plugin::protocol::{Action, Capability, Description, PROTOCOL, Request};
use crate::process::Limits;
use crate::types::Name;

/// How many executables the directory may hold.
pub const PLUGINS_MAX: usize = 64;

/// Largest settings schema, in bytes of JSON.
const SCHEMA_BYTES_MAX: usize = 256 * 1024;

/// How long a plugin may take to describe itself.
const DESCRIBE_DEADLINE: Duration = Duration::from_secs(10);

/// All plugins that can be used, by name.
#[derive(Clone, Debug)]
pub struct Catalogue {
    builtins: &'static [Builtin],
    plugins: BTreeMap<String, Plugin>,
    /// In order of the paths.
    broken: Vec<Broken>,
}

/// A file in the plugins directory that can't be used.
#[derive(Clone, Debug)]
struct Broken {
    path: PathBuf,
    trouble: Trouble,
}

impl Broken {
    fn new(path: PathBuf, mut trouble: Trouble) -> Self {
        let shown = path.display().to_string();
        if !trouble.message.contains(&shown) {
            trouble.message = format!("{shown}: {}", trouble.message);
        }
        Self { path, trouble }
    }
}

/// A plugin that is ready to be run.
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    pub(crate) name: Name,
    pub(crate) summary: String,
    schema: Schema,
    pub(crate) capabilities: Vec<Capability>,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(String, SecretString)>,
    pub(crate) origin: Origin,
}

impl Plugin {
    /// The JSON Schema of its settings.
    pub(crate) fn schema(&self) -> &Value {
        self.schema.made.get_or_init(self.schema.make)
    }

    pub(crate) fn can(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }
}

/// A settings schema; those of the built-in plugins are made when they are first asked for, since most sites use few.
#[derive(Clone, Debug)]
struct Schema {
    made: OnceLock<Value>,
    make: fn() -> Value,
}

impl Schema {
    fn of(value: Value) -> Self {
        Self { made: OnceLock::from(value), make: || Value::Null }
    }

    fn later(make: fn() -> Value) -> Self {
        Self { made: OnceLock::new(), make }
    }
}

/// Where a plugin comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    BuiltIn,
    External,
}

/// A plugin in few words, for lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginSummary {
    pub name: Name,
    pub summary: String,
    pub origin: Origin,
}

impl Catalogue {
    /// Of the built-in plugins alone, for what they say of themselves.
    #[must_use]
    pub fn of_builtins(builtins: &'static [Builtin]) -> Self {
        Self { builtins, plugins: by_name(builtins, Path::new("larder")), broken: Vec::new() }
    }

    /// Takes the built-in plugins and asks each executable in `plugins_dir` to describe itself.
    ///
    /// It blocks for at most ten seconds and a grace, also within an async runtime.
    ///
    /// # Errors
    /// When the directory can't be read, holds more than [`PLUGINS_MAX`] executables, or others may write into it.
    pub fn discover(
        builtins: &'static [Builtin],
        plugins_dir: Option<&Path>,
        larder_exe: &Path,
    ) -> Result<Self, Trouble> {
        let mut catalogue = Self { builtins, plugins: by_name(builtins, larder_exe), broken: Vec::new() };
        let Some(directory) = plugins_dir else { return Ok(catalogue) };
        // A program is started with another working directory, so a relative path would not be found.
        let directory = std::path::absolute(directory).map_err(|error| unreadable(directory, &error))?;
        catalogue.allow_commands(&directory);
        let mut candidates = Vec::new();
        for path in executables(&directory)? {
            match catalogue.admit(&path) {
                Ok(Some(name)) => candidates.push((name, path)),
                Ok(None) => {}
                Err(trouble) => catalogue.broken.push(Broken::new(path, trouble)),
            }
        }
        for (name, path, answer) in describe_all(candidates)? {
            match answer.and_then(|description| external(&name, &path, description)) {
                Ok(_) if catalogue.plugins.contains_key(name.as_str()) => {
                    catalogue.broken.push(Broken::new(path, name_taken(&name)));
                }
                Ok(plugin) => {
                    catalogue.plugins.insert(name.to_string(), plugin);
                }
                Err(trouble) => catalogue.broken.push(Broken::new(path, trouble)),
            }
        }
        catalogue.broken.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(catalogue)
    }

    /// Tells the plugin `command` where the operator's programs lie; nobody else can.
    fn allow_commands(&mut self, directory: &Path) {
        let programs = directory.join(commands::DIRECTORY_NAME);
        if let Some(plugin) = self.plugins.get_mut(commands::PLUGIN) {
            let place = SecretString::from(programs.to_string_lossy().into_owned());
            plugin.env.push((commands::DIRECTORY_VARIABLE.to_owned(), place));
        }
    }

    /// All plugins that can be used, in order of their names.
    pub fn list(&self) -> impl Iterator<Item = PluginSummary> {
        self.plugins.values().map(|plugin| PluginSummary {
            name: plugin.name.clone(),
            summary: plugin.summary.clone(),
            origin: plugin.origin,
        })
    }

    /// What is in the plugins directory but can't be used, and why; each names the file.
    pub fn broken(&self) -> impl Iterator<Item = &Trouble> {
        self.broken.iter().map(|each| &each.trouble)
    }

    /// A plugin for people: what it keeps, what not, the rights it needs, its settings with defaults.
    ///
    /// # Errors
    /// When there is no such plugin, or it can't be used.
    pub fn describe_text(&self, name: &str) -> Result<String, Trouble> {
        let plugin = self.get(name)?;
        let builtin = self.builtins.iter().find(|each| each.name == name);
        Ok(builtin.map_or_else(|| builtin::told(name, &plugin.summary, "", plugin.schema(), None), Builtin::describe))
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Plugin, Trouble> {
        self.plugins.get(name).ok_or_else(|| {
            let broken = self.broken.iter().find(|each| each.path.file_stem().is_some_and(|stem| stem == name));
            match broken {
                Some(broken) => Trouble {
                    message: format!("the plugin {name} cannot be used: {}", broken.trouble.message),
                    ..broken.trouble.clone()
                },
                None => Trouble::new(codes::UNKNOWN_PLUGIN, format!("there is no plugin {name}")).with_hint(
                    "built-in ones are listed by `larder plugin list`; others lie in the --plugins directory",
                ),
            }
        })
    }

    /// Looks at a file before it is run: its name, its owner, who may write to it.
    fn admit(&self, path: &Path) -> Result<Option<Name>, Trouble> {
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if !metadata.is_file() {
            return Ok(None);
        }
        if metadata.mode() & 0o111 == 0 {
            return if looks_like_a_script(path) {
                Err(Trouble::new(codes::PLUGIN_NOT_EXECUTABLE, format!("{} is not executable", path.display()))
                    .with_hint(format!("chmod 0755 {}", path.display())))
            } else {
                Ok(None)
            };
        }
        trusted(path, &metadata)?;
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let name = Name::parse(stem).map_err(|error| {
            Trouble::new(codes::PLUGIN_NAME, format!("{} cannot name a plugin: {error}", path.display()))
                .with_hint("rename the file: its name without the extension is the plugin's")
        })?;
        if self.plugins.contains_key(name.as_str()) {
            return Err(name_taken(&name));
        }
        Ok(Some(name))
    }
}

impl SettingsSchemas for Catalogue {
    fn names(&self) -> Vec<String> {
        self.plugins.keys().cloned().collect()
    }

    fn schema(&self, plugin: &str) -> Option<&Value> {
        self.plugins.get(plugin).map(Plugin::schema)
    }
}

fn by_name(builtins: &[Builtin], larder_exe: &Path) -> BTreeMap<String, Plugin> {
    builtins
        .iter()
        .filter_map(|each| {
            let name = Name::parse(each.name).ok()?;
            let plugin = Plugin {
                args: vec!["plugin".into(), each.name.into()],
                env: Vec::new(),
                name,
                summary: each.summary.to_owned(),
                schema: Schema::later(each.schema),
                capabilities: each.capabilities(),
                program: larder_exe.to_owned(),
                origin: Origin::BuiltIn,
            };
            Some((each.name.to_owned(), plugin))
        })
        .collect()
}

fn executables(directory: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let metadata = std::fs::metadata(directory).map_err(|error| unreadable(directory, &error))?;
    trusted(directory, &metadata)?;
    let entries = std::fs::read_dir(directory).map_err(|error| unreadable(directory, &error))?;
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| entry.path())
        .take(PLUGINS_MAX + 1)
        .collect();
    if paths.len() > PLUGINS_MAX {
        return Err(Trouble::new(
            codes::TOO_MANY_PLUGINS,
            format!("{} holds more than {PLUGINS_MAX} files", directory.display()),
        )
        .with_hint("keep nothing but plugins there"));
    }
    paths.sort();
    Ok(paths)
}

fn looks_like_a_script(path: &Path) -> bool {
    use std::io::Read as _;
    let mut head = [0_u8; 2];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == *b"#!"
}

type Described = (Name, PathBuf, Result<Description, Trouble>);

/// Asks all at once, on a thread of its own since the caller may be inside a runtime.
fn describe_all(candidates: Vec<(Name, PathBuf)>) -> Result<Vec<Described>, Trouble> {
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let broken = |what: &str| Trouble::new(codes::INTERNAL, format!("plugins could not be asked: {what}"));
    let answers = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut answers: Vec<Described> = runtime.block_on(async {
            let mut asked = JoinSet::new();
            for (name, path) in candidates {
                asked.spawn(async move {
                    let answer = describe(&name, &path).await;
                    (name, path, answer)
                });
            }
            asked.join_all().await
        });
        answers.sort_by(|a, b| a.1.cmp(&b.1));
        Ok::<_, std::io::Error>(answers)
    });
    answers.join().map_err(|_| broken("a panic"))?.map_err(|error| broken(&error.to_string()))
}

async fn describe(name: &Name, path: &Path) -> Result<Description, Trouble> {
    let plugin = Plugin {
        name: name.clone(),
        summary: String::new(),
        schema: Schema::of(Value::Null),
        capabilities: Vec::new(),
        program: path.to_owned(),
        args: Vec::new(),
        env: Vec::new(),
        origin: Origin::External,
    };
    let request = Request::new(Action::Describe);
    let limits = Limits {
        deadline: DESCRIBE_DEADLINE,
        no_progress: None,
        grace: Duration::from_secs(1),
        line_bytes_max: SCHEMA_BYTES_MAX + 4096,
        log_bytes_max: 0,
        ..Limits::default()
    };
    let (finished, transcript) = host::ask(&plugin, &request, None, &host::silent(), limits, |_, _| {}).await;
    host::judge(&plugin, &finished, &transcript).map_err(|failure| failure.trouble)?;
    transcript.description.ok_or_else(|| {
        Trouble::new(codes::NO_DESCRIPTION, format!("{} answered `describe` without a description", path.display()))
            .with_hint(r#"print {"event":"description","settings":{"type":"object",…}} on one line"#)
    })
}

fn external(name: &Name, path: &Path, description: Description) -> Result<Plugin, Trouble> {
    if description.protocol != PROTOCOL {
        return Err(Trouble::new(
            codes::PLUGIN_PROTOCOL,
            format!("{} speaks protocol {}, this larder speaks {PROTOCOL}", path.display(), description.protocol),
        ));
    }
    let mut schema = description.settings;
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err(Trouble::new(
            codes::PLUGIN_SCHEMA,
            format!("{} describes settings that are no JSON Schema of an object", path.display()),
        )
        .with_hint(r#"at least {"type":"object","properties":{},"additionalProperties":false}"#));
    }
    if schema.to_string().len() > SCHEMA_BYTES_MAX {
        return Err(Trouble::new(
            codes::PLUGIN_SCHEMA,
            format!("the settings schema of {} has more than {SCHEMA_BYTES_MAX} bytes", path.display()),
        ));
    }
    secrets::complete_secrets(&mut schema);
    Ok(Plugin {
        name: name.clone(),
        summary: tidy(&description.summary, 200),
        schema: Schema::of(schema),
        capabilities: description.capabilities,
        program: path.to_owned(),
        args: Vec::new(),
        env: Vec::new(),
        origin: Origin::External,
    })
}

fn name_taken(name: &Name) -> Trouble {
    Trouble::new(codes::PLUGIN_NAME_TAKEN, format!("there is another plugin named {name}"))
        .with_hint("rename the file: its name without the extension is the plugin's")
}

fn unreadable(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new(codes::PLUGIN_UNREADABLE, format!("{} cannot be read: {error}", path.display()))
}
