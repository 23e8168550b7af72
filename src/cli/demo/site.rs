//! The demo's site: directories, a file tree and an application database to protect, and the config in Git.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::demo::example;
use crate::cli::init;
use crate::error::{Trouble, codes};
use crate::source::setup;

/// Where everything of the demo is.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) root: PathBuf,
}

impl Site {
    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("config")
    }

    pub(crate) fn bare(&self) -> PathBuf {
        self.root.join("larder.git")
    }

    pub(crate) fn photos(&self) -> PathBuf {
        self.root.join("srv/photos")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("srv/vaultwarden/db.sqlite3")
    }

    pub(crate) fn artifacts(&self) -> PathBuf {
        self.root.join("backups")
    }

    /// Makes directories, data and secrets.
    ///
    /// # Errors
    /// When something cannot be written.
    pub(crate) fn make(&self) -> Result<(), Trouble> {
        for dir in [
            self.state(),
            self.config(),
            self.photos(),
            self.artifacts(),
            self.root.join("restic"),
            self.root.join("secrets"),
        ] {
            std::fs::create_dir_all(&dir).map_err(|error| failed(&dir, &error))?;
        }
        std::fs::set_permissions(self.state(), std::fs::Permissions::from_mode(0o700))
            .map_err(|error| failed(&self.state(), &error))?;
        self.write_secret("nas-password")?;
        self.write_secret("usb-password")?;
        self.write_photos()?;
        self.write_database()
    }

    fn write_secret(&self, name: &str) -> Result<(), Trouble> {
        let path = self.root.join("secrets").join(name);
        let mut random = [0_u8; 32];
        let result = std::fs::File::open("/dev/urandom")
            .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut random))
            .and_then(|()| std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path))
            .and_then(|mut file| file.write_all(hex::encode(random).as_bytes()));
        result.map_err(|error| failed(&path, &error))
    }

    /// Some hundred files with names and kinds that a careless backup gets wrong.
    fn write_photos(&self) -> Result<(), Trouble> {
        let photos = self.photos();
        let write = |relative: &str, bytes: &[u8]| {
            let path = photos.join(relative);
            let parent = path.parent().unwrap_or(&photos).to_owned();
            std::fs::create_dir_all(parent)
                .and_then(|()| std::fs::write(&path, bytes))
                .map_err(|error| failed(&path, &error))
        };
        let mut noise = 0x2545_f491_4f6c_dd1d_u64;
        for number in 0..120_u64 {
            let bytes: Vec<u8> = (0..8192)
                .map(|_| {
                    noise ^= noise << 13;
                    noise ^= noise >> 7;
                    noise ^= noise << 17;
                    noise.to_le_bytes()[0]
                })
                .collect();
            write(&format!("20{:02}/img-{number:04}.jpg", 10 + number % 12), &bytes)?;
        }
        write("names/with spaces, ünïcode and 'quotes'.txt", b"a name is no reason to lose a file\n")?;
        write("names/new\nline.txt", b"not even this one\n")?;
        write("empty-file", b"")?;
        std::fs::create_dir_all(photos.join("empty-directory")).map_err(|error| failed(&photos, &error))?;
        let link = photos.join("latest.jpg");
        std::os::unix::fs::symlink("2021/img-0011.jpg", &link).map_err(|error| failed(&link, &error))
    }

    /// A small application's database, with a write-ahead log as a running application leaves it.
    fn write_database(&self) -> Result<(), Trouble> {
        let path = self.database();
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| failed(parent, &error))?;
        }
        let fill = || -> rusqlite::Result<()> {
            let mut database = rusqlite::Connection::open(&path)?;
            database.pragma_update(None, "journal_mode", "wal")?;
            database.execute_batch(
                "create table notebooks (id integer primary key, title text not null unique);
                 create table notes (id integer primary key, notebook integer not null references notebooks, body text not null);
                 create index notes_by_notebook on notes (notebook);",
            )?;
            let all = database.transaction()?;
            for notebook in 0..20 {
                all.execute(
                    "insert into notebooks (id, title) values (?1, ?2)",
                    (notebook, format!("Notebook {notebook}")),
                )?;
                for note in 0..200 {
                    let body =
                        format!("Note {note} of notebook {notebook}: {}", "buy flour, sugar and butter. ".repeat(8));
                    all.execute("insert into notes (notebook, body) values (?1, ?2)", (notebook, body))?;
                }
            }
            all.commit()
        };
        fill().map_err(|error| Trouble::new(codes::DEMO_DATABASE, format!("{}: {error}", path.display())))
    }

    /// The config of this site: the example of `policies/`, on the demo's paths, without what is not there.
    ///
    /// # Errors
    /// When something cannot be written, or git fails.
    pub(crate) fn write_config(&self, postgres: Option<u16>) -> Result<(), Trouble> {
        for (name, text) in example::files(&self.root, postgres) {
            let path = self.config().join(name);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(|error| failed(parent, &error))?;
            }
            std::fs::write(&path, text).map_err(|error| failed(&path, &error))?;
        }
        let config = self.config();
        init::git(&config, &["init", "-q", "-b", "main"])?;
        init::git(&config, &["config", "user.name", "Demo"])?;
        init::git(&config, &["config", "user.email", "demo@localhost"])?;
        init::git(&config, &["config", "commit.gpgsign", "false"])
    }

    /// The bare repository with Larder's hooks.
    ///
    /// # Errors
    /// When git fails.
    pub(crate) fn make_bare(&self) -> Result<(), Trouble> {
        let larder = std::env::current_exe()
            .map_err(|error| Trouble::new(codes::NO_PROGRAM, format!("cannot tell where larder itself is: {error}")))?;
        let settings = setup::Settings {
            larder,
            socket: Some(self.state().join("larder.sock")),
            plugins: None,
            root: String::new(),
            git: None,
        };
        setup::init_bare(&self.bare(), "main", &settings).map_err(|error| error.trouble())?;
        init::git(&self.config(), &["remote", "add", "origin", &self.bare().display().to_string()])
    }

    /// Commits all changes and pushes them; answers whether the push was taken, and what was said.
    ///
    /// # Errors
    /// When the commit or the program fails; a refused push is an answer.
    pub(crate) fn push(&self, message: &str) -> Result<(bool, String), Trouble> {
        let config = self.config();
        init::git(&config, &["add", "-A"])?;
        init::git(&config, &["commit", "-q", "-m", message])?;
        let done = Command::new("git")
            .arg("-C")
            .arg(&config)
            .args(["push", "origin", "main"])
            .env("GIT_TERMINAL_PROMPT", "0")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Trouble::new(codes::GIT_MISSING, format!("cannot start git: {error}")))?;
        Ok((done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned()))
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new(codes::CANNOT_WRITE, format!("cannot write {}: {error}", path.display()))
        .with_hint("give `larder demo` a directory that you may write to and that has some space")
}
