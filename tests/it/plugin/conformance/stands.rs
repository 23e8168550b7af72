//! Where each plugin is tried: the application, the settings, and what of the application nobody may change.
//!
//! What the plugins' own tests have is taken from them. A new plugin needs a line in [`of`], and what that names.

use std::rc::Rc;

use super::support::engine::Engine;
use super::support::mariadb::Server;
use super::support::postgres::Cluster;
use super::support::simulator::Simulator;
use super::*;

/// A plugin with its application, which ends with this value.
pub(super) struct Stand {
    pub(super) name: &'static str,
    pub(super) bench: Bench,
    state: Box<dyn Fn() -> Vec<String>>,
    change: Box<dyn Fn()>,
    /// What a restore may be told; none: it can't restore.
    pub(super) orders: Vec<Value>,
    /// Where a capture makes its files.
    pub(super) room: PathBuf,
    /// Why a capture makes no artifact.
    pub(super) in_place: Option<&'static str>,
    /// What a kill leaves although nothing is right with that: how the line of the state starts, and why.
    pub(super) stays: Option<(&'static str, &'static str)>,
}

impl Stand {
    fn new(name: &'static str, bench: Bench, state: impl Fn() -> Vec<String> + 'static) -> Self {
        let room = bench.staging();
        Self {
            name,
            bench,
            state: Box::new(state),
            change: Box::new(|| ()),
            orders: Vec::new(),
            room,
            in_place: None,
            stays: None,
        }
    }

    /// What happens to the application behind the capture, so that a restore has something to do, and what it is told.
    fn restored(mut self, change: impl Fn() + 'static, orders: impl IntoIterator<Item = Value>) -> Self {
        self.change = Box::new(change);
        self.orders = orders.into_iter().collect();
        self
    }

    /// All that a backup and a dry run must leave alone, a line each.
    pub(super) fn state(&self) -> Vec<String> {
        (self.state)()
    }

    pub(super) fn change(&self) {
        (self.change)();
    }
}

/// The stand of a plugin; none: it has none yet.
pub(super) fn of(name: &str) -> Option<fn(&'static str) -> Stand> {
    Some(match name {
        "command" => command,
        "docker" => docker,
        "files" => files,
        "grafana" => grafana,
        "hello" => hello,
        "homeassistant" => homeassistant,
        "http" => http,
        "invoiceninja" => invoiceninja,
        "lidarr" | "prowlarr" | "radarr" | "readarr" | "sonarr" => arr,
        "mariadb" | "mysql" => mariadb,
        "opnsense" => opnsense,
        "pfsense" => pfsense,
        "pihole" => pihole,
        "postgres" => postgres,
        "prometheus" => prometheus,
        "redis" => redis,
        "rsync" => rsync,
        "sqlite" => sqlite,
        _ => return None,
    })
}

/// These fields of what a simulator holds.
fn told(state: &Value, fields: &[&str]) -> Vec<String> {
    fields.iter().map(|field| format!("{field}: {}", state[field])).collect()
}

/// The calls that do more than ask.
fn writes(calls: &Value) -> Vec<String> {
    let calls = calls.as_array().unwrap().iter().map(|call| call.as_str().unwrap());
    calls.filter(|call| !call.starts_with("GET ") && !call.starts_with("HEAD ")).map(str::to_owned).collect()
}

/// Every name below a directory, with all that it is.
fn tree(directory: &Path) -> Vec<String> {
    super::rsync::state(directory).into_iter().map(|(path, what)| format!("{}: {what:?}", path.display())).collect()
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().path().display().to_string()).collect();
    names.sort();
    names
}

fn hello(name: &'static str) -> Stand {
    Stand::new(name, Bench::new(name, json!({"name": "World"})), Vec::new)
}

fn sqlite(name: &'static str) -> Stand {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("app.db");
    drop(super::sqlite::database(&path, super::sqlite::SAMPLE));
    let bench = super::sqlite::sqlite(&path);
    let change = move || drop(super::sqlite::database(&path, "UPDATE t SET b = 'later'"));
    Stand::new(name, bench, move || tree(data.path())).restored(change, [json!({}), json!({"force": true})])
}

fn files(name: &'static str) -> Stand {
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir(data.path().join("photos")).unwrap();
    for n in 0..30 {
        std::fs::write(data.path().join(format!("photos/{n}.jpg")), format!("photo {n}")).unwrap();
    }
    // A database is copied, all else is shipped in place.
    drop(super::sqlite::database(&data.path().join("app.db"), super::sqlite::SAMPLE));
    let bench = super::files::files(json!({"paths": [data.path()]}));
    Stand::new(name, bench, move || tree(data.path()))
}

fn command(name: &'static str) -> Stand {
    let operator = super::command::operator(&[
        ("export", "set -e; printf '['; sleep 0.2; cat \"$1\"; sleep 0.2; printf ']'"),
        ("load", "cat >\"$1\""),
    ]);
    let application = tempfile::tempdir().unwrap();
    let path = application.path().join("data");
    let rows = |word: &str| json!({"rows": vec![word; 2000]}).to_string();
    std::fs::write(&path, rows("early")).unwrap();
    let load = json!({"command": "load", "args": [path]});
    let settings = json!({"command": "export", "args": [path], "stdout": "export.json", "checks": {"json": true}, "restore": load});
    let bench = super::command::command(&operator, settings);
    let state = move || {
        let _operator = &operator;
        tree(application.path())
    };
    Stand::new(name, bench, state).restored(move || std::fs::write(&path, rows("later")).unwrap(), [json!({})])
}

fn redis(name: &'static str) -> Stand {
    let instance = Rc::new(super::redis::Redis::start());
    instance.fill();
    let bench = super::redis::redis(&instance, json!({}));
    let directory = instance.directory.path().to_owned();
    let (seen, changed) = (instance.clone(), instance);
    let state = move || {
        let lines = |section: &str| {
            let told = seen.cli(&["INFO", section]);
            let wanted = ["connected_clients", "connected_slaves", "rdb_bgsave_in_progress", "rdb_changes_since"];
            let lines = told.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
            lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>()
        };
        let sections = ["clients", "replication", "persistence"].into_iter().flat_map(lines);
        [seen.content()].into_iter().chain(sections).chain(names_in(seen.directory.path())).collect()
    };
    let change = move || drop(changed.cli(&["SET", "key:1", "later"]));
    let orders = [json!({"dir": directory}), json!({"dir": directory, "overwrite": true}), json!({"dir": "/nowhere"})];
    Stand::new(name, bench, state).restored(change, orders)
}

fn postgres(name: &'static str) -> Stand {
    let cluster = Cluster::shared();
    let database = super::postgres::fresh(&cluster, "stand");
    cluster.sql(&database, super::postgres::SAMPLE);
    let bench = super::postgres::postgres(&cluster, json!({"database": database}));
    let (seen, changed, in_it) = (cluster.clone(), cluster, database.clone());
    let state = move || {
        vec![
            super::postgres::content(&seen, &in_it),
            seen.sql(&in_it, "SELECT oid, * FROM pg_database ORDER BY oid"),
            seen.sql(&in_it, "SELECT rolname FROM pg_roles ORDER BY 1"),
            seen.sql(&in_it, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"),
            seen.sql(
                &in_it,
                "SELECT 'sessions', count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
            ),
        ]
    };
    let change = move || drop(changed.sql(&database, "UPDATE note SET text = 'later' WHERE id = 1"));
    Stand::new(name, bench, state)
        .restored(change, [json!({}), json!({"overwrite": true}), json!({"into": "stand_elsewhere"})])
}

fn mariadb(name: &'static str) -> Stand {
    let server = Server::shared();
    let database = super::mariadb::fresh(&server, "stand");
    super::mariadb::sample(&server, &database);
    // A user of its own, whose sessions nobody else has.
    let user = format!("stand_{name}");
    let password = "stand of larder";
    server.sql("", &format!("CREATE USER {user}@'%' IDENTIFIED BY '{password}'; GRANT ALL ON *.* TO {user}@'%'"));
    let mut bench = super::mariadb::mariadb(&server, json!({"database": database, "user": user}));
    bench.target.plugin = Name::parse(name).unwrap();
    bench.target.settings["password"] = secret_file(bench.directory.path(), password);
    let (seen, changed, in_it) = (server.clone(), server, database.clone());
    let state = move || {
        // What another stand has is its own.
        let others = format!("LIKE 'stand%' AND {{}} NOT IN ('{in_it}', '{user}')");
        let other = |column: &str| format!("NOT ({column} {})", others.replace("{}", column));
        vec![
            seen.sql(&in_it, "CHECKSUM TABLE note, tag, `odd ``name`, nothing"),
            seen.sql(&in_it, "SHOW TABLES; SELECT * FROM recent; SELECT next_not_cached_value FROM numbers"),
            seen.sql(
                &in_it,
                "SELECT event_name, status FROM information_schema.events WHERE event_schema = DATABASE()",
            ),
            seen.sql(
                "",
                &format!("SELECT schema_name FROM information_schema.schemata WHERE {}", other("schema_name")),
            ),
            seen.sql("", &format!("SELECT user, host FROM mysql.user WHERE {}", other("user"))),
            seen.sql(
                "",
                &format!("SELECT 'sessions', COUNT(*) FROM information_schema.processlist WHERE user = '{user}'"),
            ),
        ]
    };
    let change = move || drop(changed.sql(&database, "UPDATE note SET text = 'later' WHERE id = 1"));
    Stand::new(name, bench, state)
        .restored(change, [json!({}), json!({"overwrite": true}), json!({"into": "elsewhere"})])
}

fn rsync(name: &'static str) -> Stand {
    let device = Rc::new(super::rsync::Device::start());
    let bench = device.bench();
    let (seen, copy, later) = (device.clone(), device.at("copy"), device.at("data/a dir/file 1.txt"));
    let state = move || {
        let of_it = seen.at("data").display().to_string();
        let works_there = processes(|process| {
            let arguments = std::fs::read(process.join("cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments);
            arguments.contains("--server") && arguments.contains(&of_it)
        });
        tree(&seen.at("data")).into_iter().chain(works_there).collect()
    };
    let change = move || std::fs::write(&later, "later").unwrap();
    let mut stand = Stand::new(name, bench, state).restored(change, [json!({})]);
    stand.in_place = Some("what it fetches lies in `copy`, which the run after it goes on with");
    stand.room = copy;
    stand
}

fn prometheus(name: &'static str) -> Stand {
    let real = super::prometheus::Real::start(&["--web.enable-admin-api", "--web.enable-lifecycle"]);
    let mut bench = real.bench();
    bench.target.settings["tsdb_snapshot"] = json!({ "data_dir": real.data() });
    support::wait_for("samples", Duration::from_secs(30), || {
        (super::prometheus::Real::samples(real.port) >= 1).then_some(())
    });
    let config = real.directory.path().join("prometheus.yml");
    let (data, written) = (real.data(), config.clone());
    let state = move || {
        let of_data = names_in(&real.data().join("snapshots"));
        let text = std::fs::read_to_string(&config).unwrap();
        let rules = tree(&real.directory.path().join("rules"));
        [text].into_iter().chain(of_data).chain(names_in(real.directory.path())).chain(rules).collect()
    };
    let change = move || std::fs::write(&written, "global: {}\n").unwrap();
    Stand::new(name, bench, state).restored(change, [json!({}), json!({"files": false, "data_dir": data})])
}

fn docker(name: &'static str) -> Stand {
    let state = json!({"Running": true, "Paused": false, "Restarting": false});
    let mounts = json!([{"Type": "volume", "Name": "v", "Source": "/nowhere/v", "Destination": "/data", "RW": true}]);
    let engine = Rc::new(Engine::start(&mounts, &json!({}), &state, vec![("/data", "1")]));
    // So that a kill finds it between two calls.
    engine.is_slow(Duration::from_millis(10));
    let settings = json!({"containers": ["one"], "stop": "stop", "stop_timeout": 2});
    let bench = super::docker::docker(&engine.socket(), settings);
    let state = move || {
        // A capture stops and starts it, and may do nothing else.
        let others = engine.calls().into_iter().filter(|call| !["stop", "start"].contains(&call.as_str()));
        [engine.state().to_string()].into_iter().chain(others).collect()
    };
    Stand::new(name, bench, state).restored(|| (), [json!({}), json!({"overwrite": true})])
}

fn grafana(name: &'static str) -> Stand {
    let app = Rc::new(super::grafana::grafana());
    let bench = super::grafana::bench(&app);
    let changed = app.clone();
    let state = move || {
        let mut held = app.state();
        let calls = held.as_object_mut().unwrap().remove("calls").unwrap();
        let fields = held.as_object().unwrap().iter().map(|(field, value)| format!("{field}: {value}"));
        fields.chain(writes(&calls)).collect()
    };
    let change = move || changed.set(json!({"rename": "dash4"}));
    Stand::new(name, bench, state).restored(change, [json!({}), json!({"only": ["dashboard"]})])
}

fn arr(name: &'static str) -> Stand {
    let app = Rc::new(super::arr::app(name));
    let bench = super::arr::bench(name, &app);
    let changed = app.clone();
    let state = move || {
        let held = app.state();
        // What is done is history.
        let commands = held["commands"].as_array().unwrap().iter().map(|command| command["status"].to_string());
        let open = commands.filter(|status| ["\"queued\"", "\"started\""].contains(&status.as_str()));
        told(&held, &["manual", "scheduled", "rows", "key_is_default"]).into_iter().chain(open).collect()
    };
    let change = move || changed.set(json!({"rows": 3}));
    Stand::new(name, bench, state).restored(change, [json!({}), json!({"allow_older": true})])
}

/// On a simulator of which these fields are what must stay.
fn simulated(
    name: &'static str,
    (simulator, bench): (Simulator, Bench),
    fields: &'static [&'static str],
    orders: impl IntoIterator<Item = Value>,
) -> Stand {
    Stand::new(name, bench, move || told(&simulator.state(), fields)).restored(|| (), orders)
}

fn homeassistant(name: &'static str) -> Stand {
    simulated(name, super::homeassistant::homeassistant(&[]), &["backups", "uploaded", "busy"], [json!({})])
}

fn pihole(name: &'static str) -> Stand {
    let fields = &["sessions", "imports", "restarts", "gravity_runs", "tables", "hostname"];
    let (simulator, mut bench) = super::pihole::pihole(&[]);
    super::pihole::full_password(&mut bench);
    simulated(name, (simulator, bench), fields, [json!({})])
}

/// An export that was ordered stays on the server until it is cleared away there: there is no call for that.
fn invoiceninja(name: &'static str) -> Stand {
    simulated(name, super::invoiceninja::ninja(&[]), &["imported"], [json!({}), json!({"purge": true})])
}

fn pfsense(name: &'static str) -> Stand {
    let mut stand = simulated(name, super::firewall::pfsense(&[]), &["open"], [json!({})]);
    stand.stays = Some(("open", "only who has its cookie can end a session, and the journal holds no secret"));
    stand
}

fn opnsense(name: &'static str) -> Stand {
    let (simulator, bench) = super::firewall::opnsense(&[]);
    Stand::new(name, bench, move || writes(&simulator.state()["requests"])).restored(|| (), [json!({})])
}

fn http(name: &'static str) -> Stand {
    let simulator = Simulator::start("exporter", &[]);
    let bench = super::http::bench(&format!("{}/export.json", simulator.url), json!({"validate": ["json"]}));
    Stand::new(name, bench, move || writes(&simulator.state()["requests"]))
}
