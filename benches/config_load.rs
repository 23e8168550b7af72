//! Figures for loading the largest config: `cargo bench --bench config_load`.
//!
//! 10,000 documents in 126 files: cold, unchanged, and after a change of one file. The aims are 1 s cold and 50 ms for
//! one file on two cores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use larder::config::SettingsSchemas;
use larder::config::load::{Loaded, Loader};
use larder::error::Trouble;
use larder::source::{FileEntry, FileSet};
use serde_json::{Value, json};

const TARGETS: usize = 9_990;
const TARGETS_A_FILE: usize = 80;
const ROUNDS: usize = 5;

struct Plugins(Value);

impl SettingsSchemas for Plugins {
    fn names(&self) -> Vec<String> {
        vec!["postgres".to_owned()]
    }

    fn schema(&self, plugin: &str) -> Option<&Value> {
        (plugin == "postgres").then_some(&self.0)
    }
}

struct Memory {
    entries: Vec<FileEntry>,
    contents: Vec<String>,
}

impl FileSet for Memory {
    fn entries(&self) -> &[FileEntry] {
        &self.entries
    }

    fn refused(&self) -> &[(String, Trouble)] {
        &[]
    }

    fn read(&self, entry: &FileEntry) -> Result<Vec<u8>, Trouble> {
        let index = self.entries.iter().position(|other| other.path == entry.path).expect("a known file");
        Ok(self.contents[index].clone().into_bytes())
    }
}

impl Memory {
    fn put(&mut self, path: String, text: String) {
        self.entries.push(FileEntry { path, content_id: "1".to_owned() });
        self.contents.push(text);
    }
}

fn main() {
    let plugins: Arc<dyn SettingsSchemas> = Arc::new(Plugins(json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["host", "database", "user"],
        "properties": {
            "host": {"type": "string"},
            "port": {"type": "integer", "minimum": 1, "maximum": 65535},
            "database": {"type": "string"},
            "user": {"type": "string"},
            "password": {"x-larder-secret": true},
        },
    })));
    let mut config = config();
    let bytes: usize = config.contents.iter().map(String::len).sum();

    let cold = median((0..ROUNDS).map(|_| timed(&mut Loader::new(Arc::clone(&plugins)), &config)));
    let mut loader = Loader::new(plugins);
    let loaded = loader.load(&config);
    println!("{} documents in {} files, {} KiB", loaded.documents, loaded.files, bytes / 1024);
    println!("cold            {cold:>10.1?}");
    let unchanged = median((0..ROUNDS).map(|_| timed(&mut loader, &config)));
    println!("unchanged       {unchanged:>10.1?}");
    let changed = median((0..ROUNDS).map(|round| {
        let middle = config.entries.len() / 2;
        config.entries[middle].content_id = format!("changed-{round}");
        timed(&mut loader, &config)
    }));
    println!("one file changed{changed:>10.1?}");
}

fn timed(loader: &mut Loader, config: &Memory) -> Duration {
    let start = Instant::now();
    let loaded: Loaded = loader.load(config);
    let took = start.elapsed();
    assert_eq!(loaded.config.map(|config| config.targets.len()), Some(TARGETS), "{:?}", loaded.diagnostics.first());
    took
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    times[times.len() / 2]
}

fn config() -> Memory {
    let mut memory = Memory { entries: Vec::new(), contents: Vec::new() };
    let mut shared = String::from("kind: Site\nname: home\ntimezone: Europe/Berlin\n");
    for name in ["nas", "usb", "attic"] {
        let _ = write!(
            shared,
            "---\nkind: Destination\nname: {name}\nrepository: {{type: local, path: /mnt/{name}}}\npassword: {{file: /etc/{name}}}\n"
        );
    }
    for name in ["daily", "hourly", "weekly"] {
        let _ = write!(
            shared,
            "---\nkind: Policy\nname: {name}\ndefault: {}\nschedule: \"0 2 * * *\"\nretention: {{daily: 7}}\nmax_age: 26h\n",
            name == "daily"
        );
    }
    memory.put("a.yaml".to_owned(), shared);
    let names: Vec<usize> = (0..TARGETS).collect();
    for (file, names) in names.chunks(TARGETS_A_FILE).enumerate() {
        let mut text = String::new();
        for name in names {
            let _ = write!(
                text,
                "---\n# Application {name}\nkind: Target\nname: app-{name}\nplugin: postgres\nwith:\n  host: db-{name}.home.lan\n  port: 5432\n  database: app\n  user: backup\n  password: {{file: /etc/larder/app-{name}}}\npolicies: [hourly, weekly]\n"
            );
        }
        memory.put(format!("targets/{file:04}.yaml"), text);
    }
    memory
}
