//! The plugin `invoiceninja` on an installation: a directory as the application has one, and a real MariaDB.

use super::support::mariadb::Server;
use super::*;
use larder::plugin::{Call, CaptureFacts, CaptureInputs, RestoreOrder, Restored};

const KEY: &str = "base64:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "base64:HxseHRwbGhkYFxYVFBMSERAPDg0MCwoJCAcGBQQDAgE=";
const PASSWORD: &str = "ninja's pa$$ \\word # 1";

struct Install {
    directory: tempfile::TempDir,
    database: String,
}

impl Install {
    /// With an empty database and nothing in it.
    fn empty(server: &Server, key: &str) -> Self {
        let database = format!("ninja_{}", ulid::Ulid::new().to_string().to_lowercase());
        server.create_database(&database);
        let user = database.clone();
        server.sql(&database, &format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{}'", sql_text(PASSWORD)));
        server.sql(&database, &format!("GRANT ALL ON {database}.* TO '{user}'@'%'"));
        let install = Self { directory: tempfile::tempdir().unwrap(), database };
        for directory in ["storage/app", "storage/framework/cache", "storage/logs", "public/storage"] {
            std::fs::create_dir_all(install.path(directory)).unwrap();
        }
        install.write("VERSION.txt", "5.10.17\n");
        let env = format!(
            "APP_NAME=\"Invoice Ninja\"\nAPP_KEY={key}\nDB_CONNECTION=mysql\nDB_SOCKET={}\nDB_DATABASE={}\n\
             DB_USERNAME={user}\nDB_PASSWORD='{PASSWORD}'\nMAIL_MAILER=log # for now\n",
            server.socket().display(),
            install.database,
        );
        install.write(".env", &env);
        install
    }

    fn filled(server: &Server, key: &str) -> Self {
        let install = Self::empty(server, key);
        server.sql(
            &install.database,
            "CREATE TABLE clients (id INT PRIMARY KEY, name TEXT);
             INSERT INTO clients SELECT seq, CONCAT('client ', seq) FROM seq_1_to_500;
             CREATE TABLE company_gateways (id INT, config TEXT); INSERT INTO company_gateways VALUES (1, 'encrypted')",
        );
        install.write("public/storage/logo.png", "a logo");
        install.write("public/storage/documents/1.pdf", "a bill");
        install.write("storage/app/migration.json", "{}");
        install.write("storage/logs/laravel.log", "noise");
        install.write("storage/framework/cache/x", "noise");
        install
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    fn write(&self, relative: &str, text: &str) {
        std::fs::create_dir_all(self.path(relative).parent().unwrap()).unwrap();
        std::fs::write(self.path(relative), text).unwrap();
    }

    fn read(&self, relative: &str) -> String {
        std::fs::read_to_string(self.path(relative)).unwrap()
    }

    fn bench(&self) -> Bench {
        Bench::new("invoiceninja", json!({"directory": self.directory.path()}))
    }
}

fn sql_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "''")
}

/// What a repository gives back: the sources below `tree`, as they were shipped.
fn shipped(captured: &Captured, tree: &Path) {
    for source in &captured.sources {
        let goal = tree.join(source.path.strip_prefix("/").unwrap());
        std::fs::create_dir_all(goal.parent().unwrap()).unwrap();
        let mut copy = std::process::Command::new("rsync");
        copy.args(["-a", "--relative"]);
        copy.args(source.exclude.iter().map(|exclude| format!("--exclude={exclude}")));
        let status = copy.arg(&source.path).arg(tree).status().unwrap();
        assert!(status.success());
    }
}

fn restore(
    bench: &Bench,
    captured: &Captured,
    tree: &Path,
    dry_run: bool,
    options: Value,
) -> Result<Restored, PluginFailure> {
    let facts = CaptureFacts {
        artifacts: captured.artifacts.clone(),
        sources: captured.sources.clone(),
        figures: captured.figures.clone(),
        app_version: captured.app_version.clone(),
    };
    let order = RestoreOrder { dry_run, tree: tree.to_owned(), options };
    let (staging, context) = (bench.staging(), bench.context());
    let (target, run) = (&bench.target, bench.run);
    runtime().block_on(bench.catalogue.restore(
        &Call {
            target,
            run,
            staging: &staging,
            inputs: &CaptureInputs::default(),
            context: &context,
            limits: bench.limits,
        },
        facts,
        order,
        |_| {},
    ))
}

#[test]
fn an_installation_is_kept_with_its_key_and_comes_back_on_another_host() {
    let server = Server::shared();
    let install = Install::filled(&server, KEY);
    let bench = install.bench();
    let captured = bench.proven();
    assert_eq!(captured.app_version.as_deref(), Some("Invoice Ninja 5.10.17"));
    assert_eq!((captured.figures["tables"], captured.figures["rows"], captured.figures["source_files"]), (2, 501, 4));
    let kept: Vec<_> = captured.sources.iter().map(|source| source.path.clone()).collect();
    assert_eq!(kept, ["storage", "public/storage", ".env"].map(|path| install.path(path)));
    assert!(!bench.log().contains("ninja's") && !bench.log().contains("AAECAw"), "{}", bench.log());
    let tree = tempfile::tempdir().unwrap();
    shipped(&captured, tree.path());

    let fresh = Install::empty(&server, OTHER_KEY);
    let other = Bench::new("invoiceninja", json!({"directory": fresh.directory.path()}));
    for artifact in &captured.artifacts {
        std::fs::copy(bench.staging().join(&artifact.path), other.staging().join(&artifact.path)).unwrap();
    }
    let refused = restore(&other, &captured, tree.path(), false, json!({})).unwrap_err();
    assert_eq!(refused.trouble.code, "other_app_key", "{refused}");
    let dry = restore(&other, &captured, tree.path(), true, json!({"overwrite": true})).unwrap();
    assert!(dry.steps.iter().any(|step| step.thing == "APP_KEY in .env"), "{dry:#?}");
    assert_eq!(server.sql(&fresh.database, "SHOW TABLES"), "");
    assert!(!fresh.path("public/storage/logo.png").exists() && fresh.read(".env").contains(OTHER_KEY));

    let done = restore(&other, &captured, tree.path(), false, json!({"overwrite": true}));
    let done = done.unwrap_or_else(|failure| panic!("{failure}\n{}", other.log()));
    assert_eq!(verdict(&done.validations), Verdict::Proven, "{done:#?}");
    assert_eq!(done.app_version.as_deref(), Some("Invoice Ninja 5.10.17"));
    assert_eq!(server.sql(&fresh.database, "SELECT COUNT(*), MAX(name) FROM clients"), "500\tclient 99");
    assert_eq!(fresh.read("public/storage/documents/1.pdf"), "a bill");
    assert!(!fresh.path("storage/logs/laravel.log").exists(), "logs are not kept");
    let env = fresh.read(".env");
    assert!(env.contains(KEY) && !env.contains(OTHER_KEY) && env.contains(&fresh.database), "{env}");
    let beside = std::fs::read_dir(fresh.directory.path()).unwrap().flatten();
    assert_eq!(beside.filter(|entry| entry.file_name().to_string_lossy().starts_with(".env.before-")).count(), 1);
    assert!(!other.log().contains("ninja's") && !other.log().contains("AAECAw"), "{}", other.log());

    // Nothing outside is written, whatever a manifest says.
    let mut outside = captured.clone();
    outside.sources[0].path = PathBuf::from("/etc/storage");
    let refused = restore(&other, &outside, tree.path(), false, json!({"overwrite": true})).unwrap_err();
    assert_eq!(refused.trouble.code, "path_outside", "{refused}");
    // Nothing that is there is replaced unless that is said.
    fresh.write("public/storage/logo.png", "another");
    fresh.write("public/storage/newer.pdf", "stays");
    let refused = restore(&other, &captured, tree.path(), false, json!({})).unwrap_err();
    assert_eq!(refused.trouble.code, "files_differ", "{refused}");
    fresh.write("public/storage/logo.png", "a logo");
    let refused = restore(&other, &captured, tree.path(), false, json!({})).unwrap_err();
    assert_eq!(refused.trouble.code, "database_not_empty", "{refused}");
    fresh.write("public/storage/logo.png", "another");
    restore(&other, &captured, tree.path(), false, json!({"overwrite": true})).unwrap();
    assert_eq!(
        (fresh.read("public/storage/logo.png"), fresh.read("public/storage/newer.pdf")),
        ("a logo".into(), "stays".into())
    );
}

#[test]
fn an_installation_without_its_key_or_its_documents_is_no_backup() {
    let server = Server::shared();
    let install = Install::filled(&server, KEY);
    let whole = install.read(".env");
    for (env, code) in [
        (whole.replace(KEY, ""), "no_app_key"),
        (whole.replace("APP_KEY=", "APP_KEY_OLD="), "no_app_key"),
        (whole.replace(KEY, "base64:AAAA"), "no_app_key"),
        (whole.replace("DB_DATABASE=", "DATABASE="), "no_database_named"),
        (whole.replace("DB_PASSWORD='", "DB_PASSWORD='x"), "unauthorized"),
        ("what is this\n".to_owned(), "env_unreadable"),
    ] {
        install.write(".env", &env);
        let failure = install.bench().refused(code);
        assert!(failure.trouble.hint.is_some() && !failure.to_string().contains("ninja's"), "{failure}");
    }
    std::fs::remove_file(install.path(".env")).unwrap();
    install.bench().refused("env_unreadable");
    install.write(".env", &whole);
    std::fs::remove_dir_all(install.path("public/storage")).unwrap();
    install.bench().refused("path_missing");
    // As `php artisan storage:link` makes it.
    std::os::unix::fs::symlink(install.path("storage/app"), install.path("public/storage")).unwrap();
    let captured = install.bench().proven();
    assert_eq!(captured.sources.len(), 2);
    for settings in [
        json!({}),
        json!({"directory": "/x", "url": "https://x.lan"}),
        json!({"url": "https://x.lan"}),
        json!({"directory": "relative"}),
    ] {
        Bench::new("invoiceninja", settings).refused("settings");
    }
}
