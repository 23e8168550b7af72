//! A throwaway MariaDB server: private directory, loopback port and socket, TLS, gone when dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::{certificate, free_port, wait_for};

/// The administrator's password; awkward on purpose.
pub const PASSWORD: &str = "hüter 'of\" the\\ #db";
pub const ADMIN: &str = "keeper";

pub struct Server {
    directory: tempfile::TempDir,
    pub port: u16,
    daemon: Option<Child>,
}

impl Server {
    /// The server that all tests of this process share; it stops when nobody uses it any more.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    pub fn start() -> Self {
        Self::start_as(None)
    }

    /// A server that says to be of this version.
    pub fn start_as(version: Option<&str>) -> Self {
        let directory = tempfile::Builder::new().prefix("larder-my-").tempdir_in("/tmp").unwrap();
        let mut server = Self { directory, port: 0, daemon: None };
        certificate(server.directory.path());
        std::fs::create_dir(server.tmp()).unwrap();
        let user = nix::unistd::geteuid().is_root().then(|| nix::unistd::User::from_name("mysql").unwrap().unwrap());
        if let Some(user) = &user {
            for path in [server.directory.path(), &server.directory.path().join("server.key"), &server.tmp()] {
                nix::unistd::chown(path, Some(user.uid), Some(user.gid)).unwrap();
            }
        }
        let as_user = user.is_some().then_some("--user=mysql");
        server.install(as_user);
        // Somebody may take the free port first: then another one.
        for _ in 0..5 {
            server.port = free_port();
            if server.boot(as_user, version) {
                let sql = format!(
                    "CREATE USER {ADMIN}@'%' IDENTIFIED BY '{}'; GRANT ALL ON *.* TO {ADMIN}@'%' WITH GRANT OPTION",
                    PASSWORD.replace('\\', "\\\\").replace('\'', "''")
                );
                server.sql("", &sql);
                // Who comes from a host of some name can't be while no names are resolved.
                let named = "DELETE FROM mysql.global_priv WHERE Host NOT IN ('localhost', '%'); FLUSH PRIVILEGES";
                server.sql("", named);
                return server;
            }
        }
        panic!("no MariaDB: {}", std::fs::read_to_string(server.log()).unwrap_or_default());
    }

    /// Makes the system tables; under load the vendor's script fails now and then, and works at the next attempt.
    fn install(&self, as_user: Option<&str>) {
        let mut said = String::new();
        for _ in 0..3 {
            let _ = std::fs::remove_dir_all(self.data());
            let output = Command::new("mariadb-install-db")
                .arg("--no-defaults")
                .args(as_user)
                .arg(format!("--datadir={}", self.data().display()))
                .arg(format!("--tmpdir={}", self.tmp().display()))
                .args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"])
                .arg("--innodb-use-native-aio=0")
                .output()
                .expect("MariaDB's programs (Debian: apt install mariadb-server)");
            if output.status.success() {
                return;
            }
            said = format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        panic!("MariaDB's system tables cannot be made: {said}");
    }

    fn boot(&mut self, as_user: Option<&str>, version: Option<&str>) -> bool {
        let at = self.directory.path();
        let log = std::fs::File::create(self.log()).unwrap();
        let mut daemon = Command::new(daemon_program())
            .arg("--no-defaults")
            .args(as_user)
            .args(version.map(|version| format!("--version={version}")))
            .arg(format!("--datadir={}", self.data().display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!("--tmpdir={}", self.tmp().display()))
            .arg(format!("--pid-file={}", at.join("pid").display()))
            .arg(format!("--port={}", self.port))
            .arg(format!("--ssl-cert={}", at.join("server.crt").display()))
            .arg(format!("--ssl-key={}", at.join("server.key").display()))
            .args(["--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M"])
            .args(["--skip-log-bin", "--skip-name-resolve", "--innodb-use-native-aio=0"])
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let up = wait_for("MariaDB's start", Duration::from_secs(60), || {
            let ended = daemon.try_wait().unwrap().is_some();
            (ended || self.client("mariadb-admin", "", &["ping"]).status.success()).then_some(!ended)
        });
        self.daemon = Some(daemon);
        up
    }

    /// The certificate that the server shows, which signs itself.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("server.crt")
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A server that starts removes what another one has in a directory that both use.
    fn tmp(&self) -> PathBuf {
        self.directory.path().join("tmp")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// A client program as root.
    pub fn client(&self, program: &str, database: &str, args: &[&str]) -> Output {
        let mut command = Command::new(program);
        command
            .args(["--no-defaults", "--default-character-set=utf8mb4", "-u", "root", "-S"])
            .arg(self.socket())
            .args(args);
        if !database.is_empty() {
            command.arg(database);
        }
        command.output().unwrap()
    }

    /// Runs SQL as root; answers its rows.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = self.client("mariadb", database, &["-BN", "-e", sql]);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub fn create_database(&self, name: &str) {
        self.sql("", &format!("CREATE DATABASE `{}` CHARACTER SET utf8mb4", name.replace('`', "``")));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

fn daemon_program() -> &'static Path {
    ["/usr/sbin/mariadbd", "/usr/libexec/mariadbd", "/usr/bin/mariadbd"]
        .map(Path::new)
        .into_iter()
        .find(|path| path.is_file())
        .expect("mariadbd (Debian: apt install mariadb-server)")
}
