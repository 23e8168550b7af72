//! A throwaway PostgreSQL cluster: private directory, loopback port and socket, gone when dropped.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{certificate, free_port};

/// The superuser's password; awkward on purpose.
pub const PASSWORD: &str = "hüter 'of\" the\\ db";
pub const SUPERUSER: &str = "keeper";

pub struct Cluster {
    directory: tempfile::TempDir,
    pub bin: PathBuf,
    pub port: u16,
    /// PostgreSQL refuses root, so its programs run as somebody else then.
    user: Option<&'static str>,
}

impl Cluster {
    /// The cluster that all tests of this process share; it stops when nobody uses it any more.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    pub fn start() -> Self {
        Self::start_in("UTF8")
    }

    /// One whose databases have this encoding.
    pub fn start_in(encoding: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("larder-pg-").tempdir_in("/tmp").unwrap();
        let user = nix::unistd::geteuid().is_root().then(|| {
            let known = |name| nix::unistd::User::from_name(name).ok().flatten().is_some();
            if known("postgres") { "postgres" } else { "nobody" }
        });
        if let Some(user) = user {
            let user = nix::unistd::User::from_name(user).unwrap().unwrap();
            nix::unistd::chown(directory.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        let mut cluster = Self { bin: newest_bin(), directory, port: 0, user };
        let password_file = cluster.directory.path().join("password");
        std::fs::write(&password_file, format!("{PASSWORD}\n")).unwrap();
        certificate(cluster.directory.path());
        if let Some(user) = user {
            let user = nix::unistd::User::from_name(user).unwrap().unwrap();
            nix::unistd::chown(&cluster.directory.path().join("server.key"), Some(user.uid), Some(user.gid)).unwrap();
        }
        let data = cluster.data();
        cluster.server_program(
            "initdb",
            &[
                "-D",
                &data,
                "-U",
                SUPERUSER,
                "-A",
                "scram-sha-256",
                "--pwfile",
                password_file.to_str().unwrap(),
                "-E",
                encoding,
                "--no-locale",
                "--no-sync",
            ],
        );
        // Somebody may take the free port first: then another one.
        for _ in 0..5 {
            cluster.port = free_port();
            if cluster.boot() {
                return cluster;
            }
        }
        panic!("no PostgreSQL: {}", std::fs::read_to_string(cluster.directory.path().join("log")).unwrap_or_default());
    }

    fn boot(&self) -> bool {
        let at = self.directory.path().display();
        let options = format!(
            "-p {} -k {at} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=40 \
             -c ssl=on -c ssl_cert_file={at}/server.crt -c ssl_key_file={at}/server.key",
            self.port,
        );
        let log = self.directory.path().join("log");
        let log = log.to_str().unwrap();
        let output = self
            .as_user("pg_ctl", &["-D", &self.data(), "-l", log, "-o", &options, "-w", "-t", "60", "-s", "start"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        output.is_ok_and(|status| status.success())
    }

    /// The directory of the Unix socket, as a `host`.
    pub fn socket(&self) -> &Path {
        self.directory.path()
    }

    /// The certificate that the server shows, which signs itself.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("server.crt")
    }

    fn data(&self) -> String {
        self.directory.path().join("data").display().to_string()
    }

    fn as_user(&self, program: &str, args: &[&str]) -> Command {
        let program = self.bin.join(program);
        let mut command = match self.user {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(args).current_dir("/");
        command
    }

    fn server_program(&self, program: &str, args: &[&str]) {
        let output = self.as_user(program, args).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A client program as the superuser.
    pub fn client(&self, program: &str, database: &str, args: &[&str]) -> Output {
        Command::new(self.bin.join(program))
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", SUPERUSER)
            .env("PGPASSWORD", PASSWORD)
            .env("PGDATABASE", database)
            .args(args)
            .output()
            .unwrap()
    }

    /// Runs SQL as the superuser; answers its rows, unaligned.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = self.client("psql", database, &["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Lets the user of the system by this name in at the socket, as packages do: no password, by the name alone.
    pub fn let_in(&self, user: &str) {
        let file = self.sql("postgres", "SHOW hba_file");
        let rules = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("local all \"{user}\" peer\n{rules}")).unwrap();
        self.sql("postgres", "SELECT pg_reload_conf()");
    }

    pub fn create_database(&self, name: &str) {
        self.sql("postgres", &format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\"")));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ =
            self.as_user("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-w", "-t", "30", "-s", "stop"]).output();
    }
}

fn newest_bin() -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin): &(u32, PathBuf)| bin.join("initdb").is_file())
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL's server programs (Debian: apt install postgresql)").1
}
