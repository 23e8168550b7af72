//! A test that cannot run here says so, and is counted: it is not green by doing nothing.

use std::fmt::Display;
use std::io::Write as _;

/// What a machine may lack, as `LARDER_TEST_LACKS` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Containers cannot run.
    Engine,
    /// A program that comes from a package.
    Package,
    /// The rights of root.
    Root,
    /// The right to mount.
    Mount,
    /// A file system with immutable files.
    Immutable,
    /// The vendors' documents.
    Specs,
    /// Prism.
    Prism,
    /// Home Assistant.
    HomeAssistant,
    /// rclone, as a server.
    Rclone,
    /// moto, a server for S3.
    Moto,
    /// The other implementation of SOPS' format.
    Sops,
}

impl Lack {
    fn word(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Package => "package",
            Self::Root => "root",
            Self::Mount => "mount",
            Self::Immutable => "immutable",
            Self::Specs => "specs",
            Self::Prism => "prism",
            Self::HomeAssistant => "homeassistant",
            Self::Rclone => "rclone",
            Self::Moto => "moto",
            Self::Sops => "sops",
        }
    }
}

/// Says that this test cannot run, and appends that to the file that `LARDER_TEST_SKIPPED` names.
///
/// Under `LARDER_TEST_NO_SKIP=1` it fails instead, unless `LARDER_TEST_LACKS` (words with spaces between) says that the
/// machine has no such thing.
pub fn skip(lack: Lack, reason: impl Display) {
    let set = |name: &str| std::env::var(name).unwrap_or_default();
    let word = lack.word();
    let is_known = set("LARDER_TEST_LACKS").split_whitespace().any(|known| known == word);
    assert!(
        set("LARDER_TEST_NO_SKIP") != "1" || is_known,
        "this test cannot run: {reason} (LARDER_TEST_LACKS={word} leaves out what needs that)"
    );
    let reason = reason.to_string().replace('\n', " ");
    println!("skipped: {reason}");
    let file = set("LARDER_TEST_SKIPPED");
    if !file.is_empty() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let mut file = std::fs::File::options().create(true).append(true).open(file).unwrap();
        // One write, since tests are processes that run beside each other.
        file.write_all(format!("{word}: {test}: {reason}\n").as_bytes()).unwrap();
    }
}
