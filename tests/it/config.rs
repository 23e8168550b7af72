//! Config as a person meets it: samples that must load, samples whose messages are pinned, and hostile text.

mod pairs;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use larder::config::diagnostic::{Colour, Diagnostic, Severity, summary};
use larder::config::load::{DOCUMENTS_MAX, Loaded, Loader};
use larder::config::{SettingsSchemas, config_schema};
use larder::error::Trouble;
use larder::secret::SecretRef;
use larder::source::{FileEntry, FileSet};
use proptest::prelude::*;
use schemars::JsonSchema;
use serde_json::Value;

/// Plugins that stand for the built-in ones, with every kind of setting that those have.
struct SamplePlugins(Vec<(&'static str, Value)>);

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only the schema is used")]
struct FilesSettings {
    /// Absolute paths.
    #[schemars(length(min = 1))]
    paths: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only the schema is used")]
struct PostgresSettings {
    host: String,
    #[schemars(range(min = 1, max = 65535))]
    port: Option<u32>,
    database: String,
    user: String,
    password: Option<SecretRef>,
    format: Option<DumpFormat>,
    labels: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "only the schema is used")]
enum DumpFormat {
    /// One compressed file.
    Custom,
    Plain,
    Directory,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["path"]}, {"required": ["paths"]}]))]
#[expect(dead_code, reason = "only the schema is used")]
struct SqliteSettings {
    path: Option<PathBuf>,
    #[serde(default)]
    paths: Vec<PathBuf>,
}

impl SettingsSchemas for SamplePlugins {
    fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    fn schema(&self, plugin: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| *name == plugin).map(|(_, schema)| schema)
    }
}

fn plugins() -> Arc<dyn SettingsSchemas> {
    Arc::new(SamplePlugins(vec![
        ("files", schemars::schema_for!(FilesSettings).into()),
        ("postgres", schemars::schema_for!(PostgresSettings).into()),
        ("sqlite", schemars::schema_for!(SqliteSettings).into()),
    ]))
}

/// The plugins that Larder has.
fn catalogue() -> Arc<dyn SettingsSchemas> {
    Arc::new(larder::plugin::Catalogue::discover(larder::plugin::ALL, None, &crate::support::larder()).unwrap())
}

/// Files in memory.
#[derive(Default)]
struct Memory {
    entries: Vec<FileEntry>,
    contents: Vec<Vec<u8>>,
    refused: Vec<(String, Trouble)>,
    reads: std::cell::Cell<usize>,
}

impl Memory {
    fn of(files: &[(&str, &[u8])]) -> Self {
        let mut memory = Self::default();
        for (path, bytes) in files {
            memory.put(path, "1", bytes);
        }
        memory
    }

    fn put(&mut self, path: &str, content_id: &str, bytes: &[u8]) {
        self.entries.push(FileEntry { path: path.to_owned(), content_id: content_id.to_owned() });
        self.contents.push(bytes.to_vec());
    }
}

impl FileSet for Memory {
    fn entries(&self) -> &[FileEntry] {
        &self.entries
    }

    fn refused(&self) -> &[(String, Trouble)] {
        &self.refused
    }

    fn read(&self, entry: &FileEntry) -> Result<Vec<u8>, Trouble> {
        self.reads.set(self.reads.get() + 1);
        let index = self.entries.iter().position(|other| other == entry).unwrap();
        Ok(self.contents[index].clone())
    }
}

fn load(files: &[(&str, &[u8])]) -> Loaded {
    Loader::new(plugins()).load(&Memory::of(files))
}

fn load_text(text: &str) -> Loaded {
    load(&[("config.yaml", text.as_bytes())])
}

fn rendered(diagnostics: &[Diagnostic]) -> String {
    let mut text: Vec<String> = diagnostics.iter().map(|found| found.render(Colour::Never)).collect();
    text.extend(summary(diagnostics));
    text.join("\n\n")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn samples(directory: &str) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(root().join("tests/config").join(directory))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

fn with_snapshots(run: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root().join("tests/config/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(run);
}

#[test]
fn every_valid_sample_loads_and_warns_as_pinned() {
    with_snapshots(|| {
        for (name, bytes) in samples("valid") {
            let loaded = load(&[(&format!("{name}.yaml"), &bytes)]);
            let text = rendered(&loaded.diagnostics);
            assert!(loaded.config.is_some(), "{name}:\n{text}");
            assert_eq!(
                name.starts_with("warning_"),
                !text.is_empty() && !name.starts_with("disabled"),
                "{name}:\n{text}"
            );
            if !text.is_empty() {
                insta::assert_snapshot!(name, text);
            }
        }
    });
}

#[test]
fn what_may_be_missing_is_taken_as_it_is_written() {
    let bytes = std::fs::read(root().join("tests/config/valid/tolerate.yaml")).unwrap();
    let config = load(&[("tolerate.yaml", &bytes)]).config.unwrap();
    let of = |name: &str| {
        let target = config.targets.values().find(|target| target.name.as_str() == name).unwrap();
        let unreadable: Vec<&str> = target.tolerate.unreadable.iter().map(|path| path.to_str().unwrap()).collect();
        (target.tolerate.vanished_ppm, unreadable.join(" "), target.tolerate.vanished_of(20_000))
    };
    assert_eq!(of("photos"), (5_000, "/srv/photos/private /srv/photos/lost+found".to_owned(), 100));
    assert_eq!(of("mail"), (0, String::new(), 0));
    assert_eq!(of("cache"), (10_000, "/srv/cache/root".to_owned(), 200), "1% where nothing is said");
    assert_eq!(of("scratch"), (1_000_000, String::new(), 20_000));
}

#[test]
fn what_has_no_usable_form_in_the_settings_is_refused_before_a_run() {
    let text = "kind: Target\nname: films\nplugin: radarr\nwith:\n  url: nas.lan:7878\n  api_key: {env: KEY}\n  \
                wait: soon\n  folder: Backups\n";
    let said = messages(catalogue(), text).join("\n");
    for part in
        ["`with.url` must be an address", "`with.wait` must be a duration", "`with.folder` must be an absolute path"]
    {
        assert!(said.contains(part), "{part:?} is missing in {said}");
    }
    let text = "kind: Target\nname: photos\nplugin: files\nwith:\n  paths: [/srv/photos..old, /srv/../etc]\n  \
                require_mount: /srv/..\n";
    let said = messages(catalogue(), text);
    assert_eq!(said.len(), 2, "{said:?}");
    for part in ["`with.paths[1]` must be a path without `..`", "`with.require_mount` must be a path without `..`"] {
        assert!(said.iter().any(|said| said.contains(part)), "{part:?} is missing in {said:?}");
    }
}

#[test]
fn the_targets_in_the_guides_of_plugins_are_valid() {
    let mut seen = 0;
    for builtin in larder::plugin::ALL {
        let text = builtin.describe();
        let mut lines = text.lines();
        while let Some(head) = lines.next() {
            if !(head.starts_with("A target") && head.ends_with(':')) {
                continue;
            }
            let example = lines.by_ref().take_while(|line| !line.is_empty());
            let example: Vec<&str> = example.map(|line| line.strip_prefix("  ").unwrap()).collect();
            let target = format!("kind: Target\nname: sample\n{}\n", example.join("\n"));
            assert_eq!(messages(catalogue(), &target), Vec::<String>::new(), "{target}");
            seen += 1;
        }
    }
    assert!(seen >= 7, "{seen}");
    let all = std::fs::read_to_string(root().join("tests/config/web_applications.yaml")).unwrap();
    assert_eq!(messages(catalogue(), &all), Vec::<String>::new());
    for (right, wrong) in [
        ("[json, zip", "[jsn, zip"),
        ("[ssl,", "[root,"),
        ("method: POST", "method: STEAL"),
        ("token: {env: NINJA_TOKEN}", "token: plain-text"),
        ("tls: {ca:", "tls: {cert:"),
    ] {
        assert!(all.contains(right), "{right}");
        assert_eq!(messages(catalogue(), &all.replacen(right, wrong, 1)).len(), 1, "{wrong}");
    }
}

#[test]
fn every_invalid_sample_is_refused_with_the_pinned_message() {
    with_snapshots(|| {
        for (name, bytes) in samples("invalid") {
            let loaded = load(&[(&format!("{name}.yaml"), &bytes)]);
            let text = rendered(&loaded.diagnostics);
            assert!(loaded.config.is_none(), "{name} was accepted");
            assert!(loaded.diagnostics.iter().any(Diagnostic::is_error));
            insta::assert_snapshot!(name, text);
        }
    });
}

#[test]
fn no_sample_ever_shows_its_secret() {
    for (name, bytes) in samples("invalid") {
        let loaded = load(&[(&format!("{name}.yaml"), &bytes)]);
        for found in &loaded.diagnostics {
            let everything = [
                found.render(Colour::Always),
                found.one_line(),
                found.github(),
                serde_json::to_string(found).unwrap(),
                format!("{found:?}"),
            ];
            for text in everything {
                assert!(!text.contains("hunter2"), "{name}: {text}");
                assert!(!text.contains("12345678"), "{name}: {text}");
            }
        }
    }
}

fn messages(plugins: Arc<dyn SettingsSchemas>, text: &str) -> Vec<String> {
    let loaded = Loader::new(plugins).load(&Memory::of(&[("x.yaml", text.as_bytes())]));
    let is_of_settings = |found: &&Diagnostic| found.is_error() && found.code != "no_destination";
    loaded.diagnostics.iter().filter(is_of_settings).map(Diagnostic::one_line).collect()
}

#[test]
fn a_plugin_says_which_of_its_settings_go_together() {
    let with = |with: &str| {
        let text = format!("kind: Target\nname: db\nplugin: postgres\nwith: {{host: h, user: u{with}}}\n");
        messages(catalogue(), &text)
    };
    let all = "`database`, `databases`, `all`";
    for right in [", database: a", ", databases: [a, b]", ", all: true", ", all: false, database: a"] {
        assert_eq!(with(right), [""; 0], "{right}");
    }
    assert_eq!(with(""), [format!("x.yaml:4:1  `with` needs one of {all} (add one of them)")]);
    assert_eq!(
        with(", all: false"),
        [format!("x.yaml:4:1  `with` needs one of {all} (`all` counts only as `all: true`)")]
    );
    let both = format!("`with` has both `database` and `all`, but takes only one of {all} (delete one of them)");
    assert_eq!(with(", database: a, all: true"), [format!("x.yaml:4:39  {both}")]);
    // A misspelt or broken field is there all the same, and told only as that.
    assert_eq!(with(", databse: a").len(), 1);
    assert_eq!(with(", all: 5").len(), 1);
    assert_eq!(with(", database: a, all: 5").len(), 1);
}

#[test]
fn an_external_plugin_can_ask_for_at_least_one_of_its_settings() {
    let text = |with: &str| format!("kind: Target\nname: x\nplugin: hub\nwith: {{{with}}}\n");
    let plugins = || {
        let schema = serde_json::json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "devices": {"type": "array"}, "rooms": {"type": "array"},
                "user": {"type": "string"}, "password": {"type": "string"}, "no_password": {"type": "boolean"},
            },
            "anyOf": [{"required": ["devices"]}, {"required": ["rooms"]}],
            "oneOf": [
                {"required": ["user", "password"]},
                {"required": ["no_password"], "properties": {"no_password": {"const": true}}},
            ],
        });
        Arc::new(SamplePlugins(vec![("hub", schema)]))
    };
    assert_eq!(messages(plugins(), &text("devices: [], rooms: [], no_password: true")), [""; 0]);
    assert_eq!(messages(plugins(), &text("rooms: [], user: a, password: b")), [""; 0]);
    assert_eq!(
        messages(plugins(), &text("password: b")),
        [
            "x.yaml:4:1  `with` needs one of `user` with `password`, `no_password` (add one of them)",
            "x.yaml:4:1  `with` needs at least one of `devices`, `rooms` (add one of them)",
        ]
    );
}

#[test]
fn a_diagnostic_survives_json() {
    let loaded = load_text("kind: Policy\nname: x\nscedule: 1\n---\nkind: Policy\nname: X\n");
    for found in loaded.diagnostics {
        let json = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Diagnostic>(&json).unwrap(), found);
    }
}

#[test]
fn everything_that_can_be_written_arrives_in_the_model() {
    let bytes = std::fs::read(root().join("tests/config/valid/everything.yaml")).unwrap();
    let config = load(&[("everything.yaml", &bytes)]).config.unwrap();
    with_snapshots(|| insta::assert_snapshot!("model_of_everything", serde_json::to_string_pretty(&config).unwrap()));
}

#[test]
fn a_target_of_three_lines_gets_the_built_in_policy() {
    let bytes = std::fs::read(root().join("tests/config/valid/three_line_target.yaml")).unwrap();
    let config = load(&[("config.yaml", &bytes)]).config.unwrap();
    with_snapshots(|| insta::assert_snapshot!("model_of_three_lines", serde_json::to_string_pretty(&config).unwrap()));
    assert_eq!(config.jobs().map(|(id, _, _)| id.to_string()).collect::<Vec<_>>(), ["photos/daily"]);
}

#[test]
fn an_empty_revision_is_an_empty_config() {
    let loaded = load(&[]);
    assert_eq!(loaded.config, Some(larder::config::model::Config::default()));
    assert_eq!((loaded.files, loaded.documents), (0, 0));
}

#[test]
fn a_reference_across_files_is_reported_where_it_stands() {
    let loaded = load(&[
        ("a/target.yaml", b"kind: Target\nname: a\nplugin: files\nwith: {paths: [/a]}\npolicies: [hourly]\n"),
        ("b/policy.yaml", b"kind: Policy\nname: hourli\nschedule: \"@hourly\"\nretention: {last: 3}\nmax_age: 4h\n"),
        (
            "c/destination.yaml",
            b"kind: Destination\nname: nas\nrepository: {type: local, path: /r}\npassword: {env: R}\n",
        ),
    ]);
    let lines: Vec<String> =
        loaded.diagnostics.iter().filter(|found| found.is_error()).map(Diagnostic::one_line).collect();
    assert_eq!(lines, ["a/target.yaml:5:12  there is no policy `hourly` (did you mean `hourli`?)"]);
}

#[test]
fn a_file_that_can_not_be_read_does_not_make_others_wrong() {
    let mut memory = Memory::of(&[(
        "target.yaml",
        b"kind: Target\nname: a\nplugin: files\nwith: {paths: [/a]}\npolicies: [daily]\n",
    )]);
    memory.refused.push(("policy.yaml".to_owned(), Trouble::told("symlink", "this is a symbolic link")));
    let loaded = Loader::new(plugins()).load(&memory);
    assert!(loaded.config.is_none());
    let lines: Vec<String> = loaded.diagnostics.iter().map(Diagnostic::one_line).collect();
    assert_eq!(lines, ["policy.yaml:1:1  this is a symbolic link"]);
}

#[test]
fn limits_are_told_one_by_one() {
    let refused = |bytes: &[u8]| {
        let loaded = load(&[("x.yaml", bytes)]);
        assert!(loaded.config.is_none());
        (loaded.diagnostics[0].code.clone(), (loaded.diagnostics[0].line, loaded.diagnostics[0].column))
    };
    assert_eq!(refused(&vec![b'#'; 256 * 1024 + 1]).0, "file_too_large");
    assert_eq!(refused(format!("a: 1\nb: {}", "x".repeat(9000)).as_bytes()), ("line_too_long".into(), (2, 1)));
    assert_eq!(refused(b"kind: Site\nname: \xff\xfe"), ("not_utf8".into(), (2, 7)));
    assert_eq!(refused(b"kind: Site\nname: a\0b"), ("control_character".into(), (2, 8)));
    assert_eq!(refused("kind: Site\nname: a\u{202e}b".as_bytes()), ("control_character".into(), (2, 8)));
    assert_eq!(refused("[".repeat(100).as_bytes()).0, "too_deep");
    assert_eq!(refused("- ".repeat(100).as_bytes()).0, "too_deep");
    let deep: String = (0..100).map(|level| " ".repeat(level) + "a:\n").collect();
    assert_eq!(refused(deep.as_bytes()).0, "too_deep");
    let paths = "  - /a-rather-long-path\n".repeat(1000);
    let large = format!("kind: Target\nname: a\nplugin: files\nwith:\n  paths:\n{paths}");
    assert_eq!(refused(large.as_bytes()).0, "settings_too_large");
    let many = "--- {kind: Site, name: x}\n".repeat(5_100);
    let loaded = load(&[("a.yaml", many.as_bytes()), ("b.yaml", many.as_bytes()), ("c.yaml", b"")]);
    assert!(loaded.documents > DOCUMENTS_MAX && loaded.files == 2);
    assert!(loaded.diagnostics.iter().any(|found| found.code == "config_too_large"));
    assert!(loaded.diagnostics.len() <= 1_001, "{}", loaded.diagnostics.len());
    assert!(loaded.diagnostics.iter().any(|found| found.code == "too_many_findings"));
}

#[test]
fn a_flood_of_warnings_never_hides_an_error() {
    let mut text =
        String::from("kind: Destination\nname: nas\nrepository: {type: local, path: /r}\npassword: {env: R}\n");
    for number in 0..1_500 {
        let name = format!("t{number}");
        text = text + "--- {kind: Target, name: " + &name + ", plugin: files, with: {paths: [/a]}, enabled: false}\n";
    }
    assert!(load_text(&text).config.is_some());
    text += "--- {kind: Target, name: last, plugin: files, with: {}}\n";
    let loaded = load_text(&text);
    assert!(loaded.config.is_none());
    assert!(loaded.diagnostics.iter().any(|found| found.code == "missing_field"));
    assert!(loaded.diagnostics.iter().any(|found| found.message == "1301 more findings are not shown"));
}

#[test]
fn a_long_line_is_cut_around_the_caret() {
    let list = vec!["/some/path"; 300].join(", ");
    let text = format!("kind: Target\nname: a\nplugin: files\nwith: {{paths: [{list}], exclud: [], exclude: 3}}\n");
    let loaded = load_text(&text);
    let found = &loaded.diagnostics[0];
    assert_eq!(
        (found.line, found.column),
        (4, u32::try_from(text.lines().nth(3).unwrap().find("exclud").unwrap()).unwrap() + 1)
    );
    let shown = found.render(Colour::Never);
    assert!(shown.lines().all(|line| line.chars().count() < 170), "{shown}");
    let source = shown.lines().find(|line| line.starts_with("4 |")).unwrap();
    let caret = shown.lines().find(|line| line.contains('^')).unwrap();
    let at = caret.find('^').unwrap();
    assert_eq!(&source[at..at + 6], "exclud", "{shown}");
}

#[test]
fn the_committed_schema_is_the_generated_one() {
    let path = root().join("schema/larder.schema.json");
    let generated = format!("{}\n", serde_json::to_string_pretty(&config_schema(Some(&*catalogue()))).unwrap());
    if std::env::var_os("LARDER_BLESS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "schema/larder.schema.json is old: LARDER_BLESS=1 cargo test --test it config::");
}

/// Documents of a file as JSON, read by serde_yaml alone.
fn documents(bytes: &[u8]) -> Vec<Value> {
    use serde::Deserialize as _;
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    serde_yaml::Deserializer::from_slice(bytes)
        // What stands behind the last `...` is a document without an event, again and again.
        .map_while(|document| Value::deserialize(document).ok())
        .filter(|document| !document.is_null())
        .collect()
}

#[test]
fn editors_accept_what_larder_accepts() {
    let plugins = plugins();
    let plain = jsonschema::validator_for(&config_schema(None)).unwrap();
    let merged = jsonschema::validator_for(&config_schema(Some(&*plugins))).unwrap();
    for (name, bytes) in samples("valid") {
        for document in documents(&bytes) {
            for validator in [&plain, &merged] {
                let errors: Vec<String> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
                assert!(errors.is_empty(), "{name}: {errors:?}");
            }
        }
    }
}

#[test]
fn editors_see_the_errors_of_shape_too() {
    let plugins = plugins();
    let merged = jsonschema::validator_for(&config_schema(Some(&*plugins))).unwrap();
    for name in [
        "kind_unknown",
        "field_unknown",
        "field_missing",
        "field_too_high",
        "type_quoted_number",
        "enum_unknown",
        "number_too_small",
        "secret_plain",
        "secret_in_settings",
        "settings_unknown_field",
        "settings_missing",
        "settings_missing_field",
        "settings_out_of_range",
        "settings_enum",
        "settings_none_of_several",
        "settings_two_of_one",
        "retention_empty",
        "path_relative",
        "rate_without_second",
        "hook_without_command",
        "duration_without_unit",
        "schedule_four_fields",
        "repository_type_unknown",
        "smtp_without_scheme",
        "name_with_slash",
    ] {
        let bytes = std::fs::read(root().join(format!("tests/config/invalid/{name}.yaml"))).unwrap();
        assert!(documents(&bytes).iter().any(|document| !merged.is_valid(document)), "{name} looks right to an editor");
    }
}

fn directory(path: &Path) -> Memory {
    let mut files = Vec::new();
    let mut left = vec![path.to_owned()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let entry = entry.unwrap().path();
            if entry.is_dir() {
                left.push(entry);
            } else if entry.extension().is_some_and(|ending| ending == "yaml") {
                files.push((
                    entry.strip_prefix(path).unwrap().to_str().unwrap().to_owned(),
                    std::fs::read(&entry).unwrap(),
                ));
            }
        }
    }
    files.sort();
    let mut memory = Memory::default();
    for (name, bytes) in files {
        memory.put(&name, "1", &bytes);
    }
    memory
}

#[test]
fn the_example_repository_is_clean_for_larder_and_for_editors() {
    let memory = directory(&root().join("policies"));
    let loaded = Loader::new(catalogue()).load(&memory);
    assert!(loaded.diagnostics.is_empty(), "{}", rendered(&loaded.diagnostics));
    let config = loaded.config.unwrap();
    assert!(config.targets.len() >= 5 && config.policies.len() >= 2 && !config.destinations.is_empty());
    let committed = std::fs::read(root().join("schema/larder.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_slice(&committed).unwrap()).unwrap();
    for (entry, bytes) in memory.entries.iter().zip(&memory.contents) {
        let text = std::str::from_utf8(bytes).unwrap();
        let schema = text.lines().next().unwrap().strip_prefix("# yaml-language-server: $schema=").unwrap();
        let beside = root().join("policies").join(&entry.path).parent().unwrap().join(schema);
        assert_eq!(beside.canonicalize().unwrap(), root().join("schema/larder.schema.json").canonicalize().unwrap());
        for document in documents(bytes) {
            let errors: Vec<String> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", entry.path);
        }
    }
}

#[test]
fn only_changed_files_are_read_again() {
    let mut memory = directory(&root().join("policies"));
    let mut loader = Loader::new(catalogue());
    let first = loader.load(&memory);
    let all = memory.reads.get();
    assert_eq!(all, memory.entries.len());
    memory.entries[0].content_id = "2".to_owned();
    let second = loader.load(&memory);
    assert_eq!(memory.reads.get(), all + 1);
    assert_eq!(first.config, second.config);
}

fn hostile(name: &str, text: &str) {
    let start = Instant::now();
    let loaded = load_text(text);
    let took = start.elapsed();
    assert!(loaded.config.is_none(), "{name} was accepted");
    // Debug builds on a busy machine are slow; what is quadratic takes minutes.
    assert!(took < Duration::from_secs(20), "{name} took {took:?}");
    println!("{name}: {} bytes, {took:?}, {} findings", text.len(), loaded.diagnostics.len());
}

#[test]
fn hostile_text_of_the_largest_size_is_refused_quickly() {
    const SIZE: usize = 256 * 1024 - 300;
    let fill = |part: &str| part.repeat(SIZE / part.len());
    hostile("brackets", &fill("[\n"));
    hostile("braces", &fill("{a: \n"));
    hostile("dashes", &fill("- - - - - - - - - - - -\n"));
    hostile("keys", &fill("? \n"));
    hostile("flow", &format!("a: [{}]", fill(" a,\n")));
    hostile("flow maps", &format!("a: [{}]", fill(" {a: b},\n")));
    hostile("umlauts", &format!("a: [{}]", fill(&(" ".to_owned() + &"ü,".repeat(2000) + "\n"))));
    hostile(
        "unknown fields",
        &(0..20_000).fold("kind: Policy\nname: x\n".to_owned(), |text, n| text + "f" + &n.to_string() + ": 1\n"),
    );
    hostile("one duplicate", &format!("kind: Policy\nname: x\n{}", fill("a: 1\n")));
    hostile("quotes", &fill("\"\n"));
    hostile("open quote", &format!("a: \"{}", fill("\\\"\n")));
    hostile("aliases", &fill("*a\n"));
    hostile("anchors", &format!("a:\n{}", fill("- &a x\n")));
    hostile("documents", &fill("---\nx\n"));
    hostile("bad kinds", &fill("--- {kind: x}\n"));
    hostile("colons", &fill("a: b: c\n"));
    hostile("percents", &fill("%YAML 1.1\n"));
    hostile("block", &format!("kind: Site\nname: |\n{}", fill("  x\n")));
    hostile("comments", &format!("{}\nkind: x", fill("# x\n").split_at(SIZE - 100).0));
    hostile("blank", &format!("{}\nkind: x", "\n".repeat(SIZE - 100)));
    hostile("secrets", &format!("kind: Destination\nname: x\npassword: [{}]", fill(" x,\n")));
    hostile("plain", &format!("kind: Site\nname: {}", fill("x \n ")));
    hostile("long keys", &fill(&format!("{}: 1\n", "k".repeat(1000))));
    hostile("numbers", &format!("kind: Policy\nname: x\ndestinations: [{}]", fill(" 1,\n")));
}

#[test]
fn many_references_to_nothing_take_no_longer_than_their_number() {
    let policies: String = (0..1000).fold(String::new(), |text, n| {
        text + &format!(
            "--- {{kind: Policy, name: p{n}, schedule: \"@daily\", retention: {{daily: 1}}, max_age: 99h}}\n"
        )
    });
    let targets: String = (0..2000).fold(String::new(), |text, n| {
        text + &format!(
            "--- {{kind: Target, name: t{n}, plugin: files, with: {{paths: [/a]}}, policies: [q{n}, r{n}]}}\n"
        )
    });
    let mut files: Vec<(String, String)> = Vec::new();
    for (kind, text) in [("p", policies), ("t", targets)] {
        for (index, lines) in text.lines().collect::<Vec<_>>().chunks(1000).enumerate() {
            files.push((format!("{kind}{index}.yaml"), lines.join("\n")));
        }
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, text)| (path.as_str(), text.as_bytes())).collect();
    let start = Instant::now();
    let loaded = load(&files);
    println!("{:?}, {} findings", start.elapsed(), loaded.diagnostics.len());
    assert!(loaded.config.is_none());
    assert!(start.elapsed() < Duration::from_mins(1));
}

/// Edits of valid files: what a slip of the hand or a bad merge makes of them.
fn mutated() -> impl Strategy<Value = String> {
    let files: Vec<String> = samples("valid")
        .into_iter()
        .chain(samples("invalid"))
        .filter_map(|(_, bytes)| String::from_utf8(bytes).ok())
        .collect();
    let edit =
        (any::<prop::sample::Index>(), 0..5_usize, "[\\[\\]{}:,\"'&*!|>%@`#?\\- \n\t\r\\\\a-z0-9üß\u{1F600}]{0,3}");
    (prop::sample::select(files), prop::collection::vec(edit, 1..6)).prop_map(|(text, edits)| {
        let mut chars: Vec<char> = text.chars().collect();
        for (place, length, insert) in edits {
            let at = place.index(chars.len() + 1);
            let end = (at + length).min(chars.len());
            chars.splice(at..end, insert.chars());
        }
        chars.into_iter().collect()
    })
}

fn holds_up(bytes: &[u8]) {
    let loaded = load(&[("x.yaml", bytes)]);
    assert_eq!(loaded.config.is_none(), loaded.diagnostics.iter().any(Diagnostic::is_error));
    let lines = bytes.split(|byte| *byte == b'\n').count();
    for found in &loaded.diagnostics {
        assert!(found.line >= 1 && found.line as usize <= lines, "{found:?}");
        assert!(found.column >= 1);
        for text in [found.render(Colour::Never), found.one_line(), found.github()] {
            assert!(!text.contains('\u{1b}') && !text.contains('\0'), "{text:?}");
        }
        assert_eq!(found.one_line().lines().count(), 1);
        if let Some(excerpt) = &found.excerpt {
            assert!(
                excerpt.start < excerpt.end && excerpt.end as usize <= excerpt.text.chars().count() + 1,
                "{found:?}"
            );
        }
        assert!(!found.message.ends_with('.') && found.severity <= Severity::Warning);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        holds_up(&bytes);
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}") {
        holds_up(text.as_bytes());
    }

    #[test]
    fn anything_like_yaml_is_answered(text in "([ ]{0,4}(- |\\? )?[a-c\"'&*!|>{}\\[\\],:#%@`\\-]{0,6}(: )?[a-c0-9\"'&*!|>{}\\[\\],#\\-]{0,5}\n){0,12}") {
        holds_up(text.as_bytes());
    }

    #[test]
    fn any_edit_of_a_config_is_answered(text in mutated()) {
        holds_up(text.as_bytes());
    }
}
