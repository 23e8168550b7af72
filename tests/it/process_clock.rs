//! The clock of one daemon, turned from outside while it runs: libfaketime, as a machine whose clock is set.
//!
//! Only the wall clock is turned. The daemon's children get their environment from it and see the real time.

use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::site::Site;
use crate::support::wait_for;

/// How far two looks at a running clock may be apart here: the library reads its file once a second.
const CLOSE: SignedDuration = SignedDuration::from_secs(20);

/// Says which time the site's daemon sees; set before its start.
pub struct ProcessClock {
    file: PathBuf,
}

impl ProcessClock {
    /// The clock of `site`'s daemon from its next start on.
    pub fn of(site: &mut Site, now: &str) -> Self {
        let clock = Self { file: site.path("clock") };
        clock.write(now);
        site.daemon_env("LD_PRELOAD", library());
        site.daemon_env("FAKETIME_TIMESTAMP_FILE", clock.file.clone());
        site.daemon_env("FAKETIME_CACHE_DURATION", "1");
        // Timers go on as they would on a real machine: setting a clock turns no steady clock.
        site.daemon_env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        site.daemon_env("NO_FAKE_STAT", "1");
        clock
    }

    /// What the clock of a daemon that does not run shows at its next start.
    pub fn write(&self, now: &str) {
        let offset = at(now).duration_since(Timestamp::now()).as_secs_f64();
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{offset:+.3}")).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    /// Turns the clock of the running daemon to `now` and waits until it shows it.
    pub fn turn(&self, site: &Site, now: &str) {
        self.write(now);
        wait_for("the turned clock", Duration::from_secs(20), || {
            let shown = site.call("system.status", json!({})).ok()?["now"].as_str()?.parse::<Timestamp>().ok()?;
            (shown.duration_since(at(now)).abs() < CLOSE).then_some(())
        });
    }

    /// Turns the clock and makes the daemon look at it at once, as any push or request does; it looks every half
    /// minute by itself.
    pub fn turn_and_look(&self, site: &Site, now: &str) {
        self.turn(site, now);
        // The second answer comes after what the first one woke.
        for _ in 0..2 {
            site.call("config.reconcile", json!({})).unwrap();
        }
    }
}

pub fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn library() -> PathBuf {
    std::fs::read_dir("/usr/lib")
        .unwrap()
        .flatten()
        .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.is_file())
        .expect("libfaketime is not there: install the package `faketime`")
}
