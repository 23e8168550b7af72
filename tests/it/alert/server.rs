//! A real mail server (aiosmtpd) and certificates (openssl) for one test.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use larder::config::model::{Email, Smtp, SmtpSecurity};
use larder::secret::SecretRef;

use crate::support::wait_for;

/// Set in the child that a test started of itself; also the directory to work in.
const CHILD: &str = "LARDER_TEST_CHILD";

/// Runs `body` in a child that trusts exactly the test's own CA, by `SSL_CERT_FILE`: the variable is for a whole process.
pub fn trusting_our_ca(test: &str, body: fn(&Path)) {
    if let Some(directory) = std::env::var_os(CHILD) {
        body(Path::new(&directory));
        println!("the body ran");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let output = Command::new(std::env::current_exe().unwrap())
        .args([&format!("alert::{test}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, directory.path())
        .env("SSL_CERT_FILE", directory.path().join("ca.pem"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("the body ran"), "{said}");
    assert!(!said.contains("right horse"), "a password was printed: {said}");
}

/// `ca.pem`, and of it `good` (localhost), `wrong` (another name), `expired`; `alone` signed itself.
pub fn certificates(directory: &Path) {
    let authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"];
    openssl(directory, &[&new_key("req -x509 -days 30", "ca", "Test CA")[..], &authority.map(String::from)].concat());
    let ours = |name: &str, host: &str, dates: &str| {
        let request = new_key("req", name, host);
        openssl(directory, &[&request[..], &["-addext".to_owned(), format!("subjectAltName=DNS:{host}")]].concat());
        let sign = format!(
            "x509 -req -in {name}.pem -CA ca.pem -CAkey ca.key -CAcreateserial -copy_extensions copy {dates} -out {name}.crt"
        );
        try_openssl(directory, &words(&sign))
    };
    assert!(ours("good", "localhost", "-days 30"));
    assert!(ours("wrong", "mail.other.test", "-days 30"));
    // Newer versions of openssl name the dates, older ones take a negative number of days.
    let past = "-not_before 20200101000000Z -not_after 20200102000000Z";
    assert!(ours("expired", "localhost", past) || ours("expired", "localhost", "-days -1"));
    let alone = new_key("req -x509 -days 30", "alone", "localhost");
    openssl(directory, &[&alone[..], &words("-addext subjectAltName=DNS:localhost")].concat());
    std::fs::copy(directory.join("alone.pem"), directory.join("alone.crt")).unwrap();
}

fn new_key(command: &str, name: &str, subject: &str) -> Vec<String> {
    let mut args = words(command);
    args.extend(words("-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"));
    args.extend(words(&format!("-keyout {name}.key -out {name}.pem")));
    args.extend(["-subj".to_owned(), format!("/CN={subject}")]);
    args
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn openssl(directory: &Path, args: &[String]) {
    assert!(try_openssl(directory, args), "openssl {args:?}");
}

fn try_openssl(directory: &Path, args: &[String]) -> bool {
    Command::new("openssl").args(args).current_dir(directory).output().unwrap().status.success()
}

/// A running server; it ends with this value, or with the test's process.
pub struct Server {
    child: Child,
    directory: PathBuf,
    pub port: u16,
    mode: &'static str,
}

/// A mail as the server took it.
pub struct Taken {
    pub text: String,
    pub facts: serde_json::Value,
}

impl Server {
    /// Starts a server in `mode` with the certificate `certificate` of `directory`, on `port` (0: any).
    pub fn start(directory: &Path, mode: &'static str, certificate: &str, port: u16) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("target/tools/smtp/bin/python");
        if !python.exists() {
            // The script installs once and is safe to call twice.
            let made = Command::new(root.join("tests/setup/smtp.sh")).status().unwrap();
            assert!(made.success(), "tests/setup/smtp.sh failed");
        }
        let state = directory.join("server");
        let mut command = Command::new(python);
        command
            .arg(root.join("tests/support/smtp_server.py"))
            .arg(&state)
            .args([mode, "--port", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        if matches!(mode, "tls" | "starttls") {
            let file = |extension: &str| directory.join(format!("{certificate}.{extension}"));
            command.arg("--cert").arg(file("crt")).arg("--key").arg(file("key"));
        }
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the server prints its port");
        Self { child, directory: state, port, mode }
    }

    /// Settings for this server with a login that is right.
    pub fn email(&self) -> Email {
        let password = self.directory.join("password");
        std::fs::write(&password, "right horse\n").unwrap();
        let security = match self.mode {
            "tls" => SmtpSecurity::Tls,
            "starttls" => SmtpSecurity::StartTls,
            _ => SmtpSecurity::Plain,
        };
        Email {
            smtp: Smtp { security, host: "localhost".to_owned(), port: self.port },
            username: Some("larder".to_owned()),
            password: Some(SecretRef::File(password)),
            hello_name: None,
            from: "Larder <larder@home.test>".to_owned(),
            to: vec!["me@home.test".to_owned()],
        }
    }

    pub fn behave(&self, rules: &str) {
        std::fs::write(self.directory.join("behaviour"), rules).unwrap();
    }

    /// What was taken so far, in order.
    pub fn taken(&self) -> Vec<Taken> {
        let mails = self.directory.join("mails");
        (0..)
            .map_while(|number| {
                let facts = std::fs::read(mails.join(format!("{number}.json"))).ok()?;
                let text = String::from_utf8(std::fs::read(mails.join(format!("{number}.eml"))).unwrap()).unwrap();
                Some(Taken { text, facts: serde_json::from_slice(&facts).unwrap() })
            })
            .collect()
    }

    /// Waits until `count` mails were taken.
    pub fn wait_for(&self, count: usize) -> Vec<Taken> {
        wait_for(&format!("mail number {count}"), Duration::from_secs(20), || {
            let taken = self.taken();
            (taken.len() >= count).then_some(taken)
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Taken {
    pub fn header(&self, name: &str) -> String {
        let start = format!("{name}: ");
        self.text.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_default().to_owned()
    }
}
