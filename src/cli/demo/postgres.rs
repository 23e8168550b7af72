//! A private, throwaway PostgreSQL cluster on the loopback, with a sample database; stopped and gone with the demo.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Trouble, codes};

/// Rows of the sample table: some 10 MB of dump, so that there is something to see.
const ROWS: u32 = 20_000;

/// A running cluster; dropping it stops it.
pub(crate) struct Cluster {
    bin: PathBuf,
    data: PathBuf,
    owner: Option<(u32, u32)>,
    pub(crate) port: u16,
    pub(crate) password_file: PathBuf,
}

/// The directory with `initdb`: the newest version that is installed.
pub(crate) fn installed() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").is_file())
        .collect();
    found.sort();
    if let Some((_, bin)) = found.pop() {
        return Some(bin);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|dir| dir.join("initdb").is_file() && dir.join("postgres").is_file())
}

impl Cluster {
    /// Makes and starts a cluster below `root`, and fills the database `paperless`.
    ///
    /// # Errors
    /// What PostgreSQL's programs said.
    pub(crate) fn start(bin: PathBuf, root: &Path) -> Result<Self, Trouble> {
        let base = root.join("postgres");
        make_dir(&base)?;
        let owner = unprivileged();
        if let Some((uid, gid)) = owner {
            chown(&base, Some(uid), Some(gid)).map_err(|error| trouble("chown", &error.to_string()))?;
            // The way there must be open for that user; a temporary directory is 0700 by default.
            std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o711))
                .map_err(|error| trouble("chmod", &error.to_string()))?;
        }
        let port = free_port()?;
        let password_file = write_password(root)?;
        let cluster = Self { bin, data: base.join("data"), owner, port, password_file };
        let initial = base.join("initial-password");
        std::fs::copy(&cluster.password_file, &initial).map_err(|error| trouble("copying", &error.to_string()))?;
        if let Some((uid, gid)) = owner {
            chown(&initial, Some(uid), Some(gid)).map_err(|error| trouble("chown", &error.to_string()))?;
        }
        let data = cluster.data.display().to_string();
        let initial = format!("--pwfile={}", initial.display());
        cluster.call(
            "initdb",
            &["-D", &data, "-U", "backup", "-A", "scram-sha-256", &initial, "--no-sync", "-E", "UTF8", "--locale=C"],
        )?;
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={} -c fsync=off",
            base.display()
        );
        let log = base.join("log").display().to_string();
        cluster.call("pg_ctl", &["-D", &data, "-l", &log, "-o", &options, "-w", "-t", "60", "start"])?;
        cluster.sql("postgres", "create database paperless")?;
        cluster.sql(
            "paperless",
            &format!(
                "create table orders (id int primary key, customer text not null, note text, placed timestamptz);\
                 create index on orders (customer);\
                 insert into orders select n, 'customer ' || n % 977, repeat(md5(n::text), 12), timestamptz '2026-01-01' + n * interval '1 minute' \
                 from generate_series(1, {ROWS}) n;"
            ),
        )?;
        Ok(cluster)
    }

    fn sql(&self, database: &str, sql: &str) -> Result<(), Trouble> {
        let port = self.port.to_string();
        let password =
            std::fs::read_to_string(&self.password_file).map_err(|error| trouble("reading", &error.to_string()))?;
        let mut child = Command::new(self.bin.join("psql"))
            .args([
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                "backup",
                "-d",
                database,
                "-f",
                "-",
            ])
            .env("PGPASSWORD", password.trim())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| trouble("psql", &error.to_string()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(sql.as_bytes()).map_err(|error| trouble("psql", &error.to_string()))?;
        }
        let done = child.wait_with_output().map_err(|error| trouble("psql", &error.to_string()))?;
        if done.status.success() { Ok(()) } else { Err(trouble("psql", &String::from_utf8_lossy(&done.stderr))) }
    }

    fn call(&self, program: &str, args: &[&str]) -> Result<(), Trouble> {
        let mut command = Command::new(self.bin.join(program));
        command.args(args).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        // Not a pipe: the server that pg_ctl leaves running would keep it open.
        let said = tempfile::tempfile().map_err(|error| trouble(program, &error.to_string()))?;
        command.stderr(said.try_clone().map_err(|error| trouble(program, &error.to_string()))?);
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        let status = command.status().map_err(|error| trouble(program, &error.to_string()))?;
        if status.success() {
            return Ok(());
        }
        Err(trouble(program, &read_back(said)))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let data = self.data.display().to_string();
        // Best effort: the directory goes away with the demo in any case.
        let _ = self.call("pg_ctl", &["-D", &data, "-m", "immediate", "-w", "-t", "20", "stop"]);
    }
}

fn read_back(mut file: std::fs::File) -> String {
    use std::io::{Read as _, Seek as _};
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    if read.is_ok() { text } else { String::new() }
}

fn trouble(what: &str, said: &str) -> Trouble {
    Trouble::new(codes::DEMO_POSTGRES, format!("{what}: {}", said.trim()))
}

fn make_dir(path: &Path) -> Result<(), Trouble> {
    std::fs::create_dir_all(path).map_err(|error| trouble("making the directory", &error.to_string()))
}

/// PostgreSQL refuses to run as root: then it runs as `postgres`, or as `nobody`.
fn unprivileged() -> Option<(u32, u32)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = ["postgres", "nobody"].iter().find_map(|name| nix::unistd::User::from_name(name).ok().flatten());
    user.map(|user| (user.uid.as_raw(), user.gid.as_raw()))
}

fn free_port() -> Result<u16, Trouble> {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| trouble("finding a port", &error.to_string()))
}

fn write_password(root: &Path) -> Result<PathBuf, Trouble> {
    let path = root.join("secrets").join("paperless-db");
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    let mut random = [0_u8; 16];
    let failed = |error: std::io::Error| trouble("writing the password", &error.to_string());
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut random))
        .map_err(failed)?;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(failed)?;
    writeln!(file, "{}", hex::encode(random)).map_err(failed)?;
    Ok(path)
}
