//! What several parts of the tests need: real programs, ports, waiting with a bound.
#![allow(dead_code)]

// The benchmarks take this file from elsewhere, hence the paths.
#[path = "support/disk.rs"]
pub mod disk;
#[path = "support/engine.rs"]
pub mod engine;
#[path = "support/mariadb.rs"]
pub mod mariadb;
#[path = "support/podman.rs"]
pub mod podman;
#[path = "support/postgres.rs"]
pub mod postgres;
#[path = "support/share.rs"]
pub mod share;
#[path = "support/simulator.rs"]
pub mod simulator;
#[path = "support/skip.rs"]
pub mod skip;
#[path = "support/storages.rs"]
pub mod storages;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The restic to test with: `LARDER_RESTIC`, else the newest below `target/tools/`, else the one on the `PATH`.
pub fn restic() -> PathBuf {
    if let Some(path) = std::env::var_os("LARDER_RESTIC") {
        return path.into();
    }
    let tools = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    let mut found: Vec<PathBuf> = std::fs::read_dir(tools)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("restic"))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from("restic"))
}

/// The program under test: `LARDER_BIN`, else the one that was built with the tests.
pub fn larder() -> PathBuf {
    std::env::var_os("LARDER_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_larder")), PathBuf::from)
}

/// Calls `ready` until it answers something, at most for `bound`; three times that where the machine has much to do.
pub fn wait_for<T>(what: &str, bound: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < bound * 3, "{what} did not happen within {bound:?}");
        // What takes longer is asked less often: the asking takes from what it waits for.
        std::thread::sleep((start.elapsed() / 10).clamp(Duration::from_millis(10), Duration::from_millis(100)));
    }
}

/// A TCP port of the loopback that nobody listens on at this moment.
///
/// Below those that the kernel gives to outgoing connections, so that none takes it before its server does; where the
/// search starts differs by process.
pub fn free_port() -> u16 {
    static TAKEN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(7_919);
    (0..12_000)
        .map(|_| TAKEN.fetch_add(1, std::sync::atomic::Ordering::Relaxed).wrapping_add(first) % 12_000 + 20_000)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// Makes `server.key` and `server.crt`, a certificate of `localhost` that signs itself.
pub fn certificate(directory: &std::path::Path) {
    let output = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "server.key", "-out", "server.crt"])
        .current_dir(directory)
        .output()
        .expect("openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
