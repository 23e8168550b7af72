//! Larder: GitOps backups for a homelab.
//!
//! One direction: source → config → plan → store → schedule → run → status.
//! The modules stand in reading order; one uses what stands above it
//! (`tests/architecture.rs` checks that).

pub mod types;

pub mod clock;

pub mod error;

pub mod look;

pub mod secret;

pub mod schedule;

pub mod source;

pub mod config;

pub mod run;

pub mod store;

pub mod plan;

pub mod process;

pub(crate) mod web;

pub mod storage;

pub mod plugin;

pub(crate) mod discovery;

pub mod engine;

pub mod artifact;

pub mod runner;

pub mod status;

pub mod metrics;

pub mod alert;

pub mod rpc;

pub mod daemon;

pub mod cli;

/// Starts the program: the one place that sets what holds for the whole process.
#[must_use]
pub fn start() -> std::process::ExitCode {
    // Before anything else: ssh started this program for one line, and reads all that it prints.
    if let Some(end) = storage::askpass::answer() {
        return end;
    }
    // reqwest and lettre are built without a provider of their own; a second call in one process is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cli::main()
}
