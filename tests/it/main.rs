//! The integration tests: one binary, one module a part.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "it/alert.rs"]
mod alert;
#[path = "it/application.rs"]
mod application;
#[path = "it/artifact.rs"]
mod artifact;
#[path = "it/cli.rs"]
mod cli;
#[path = "it/clock.rs"]
mod clock;
#[path = "it/complete.rs"]
mod complete;
#[path = "it/config.rs"]
mod config;
#[path = "it/crash.rs"]
mod crash;
#[path = "it/destinations.rs"]
mod destinations;
#[path = "it/discover.rs"]
mod discover;
#[path = "it/engine.rs"]
mod engine;
#[path = "it/hanging.rs"]
mod hanging;
#[path = "it/holds.rs"]
mod holds;
#[path = "it/holds_newest.rs"]
mod holds_newest;
#[path = "it/hooks.rs"]
mod hooks;
#[path = "it/identity.rs"]
mod identity;
#[path = "it/incident.rs"]
mod incident;
#[path = "it/lost_state.rs"]
mod lost_state;
#[path = "it/mail.rs"]
mod mail;
#[path = "it/main_job.rs"]
mod main_job;
#[path = "it/notice.rs"]
mod notice;
#[path = "it/older_state.rs"]
mod older_state;
#[path = "it/patterns.rs"]
mod patterns;
#[path = "it/plugin.rs"]
mod plugin;
#[path = "it/process.rs"]
mod process;
#[path = "it/process_clock.rs"]
mod process_clock;
#[path = "it/recalled.rs"]
mod recalled;
#[path = "it/recipes.rs"]
mod recipes;
#[path = "it/restore_newest.rs"]
mod restore_newest;
#[path = "it/rotates.rs"]
mod rotates;
#[path = "it/rpc.rs"]
mod rpc;
#[path = "it/site.rs"]
mod site;
#[path = "it/source.rs"]
mod source;
#[path = "it/store.rs"]
mod store;
#[path = "it/support.rs"]
mod support;
#[path = "it/upkeep.rs"]
mod upkeep;
#[path = "it/whole.rs"]
mod whole;
#[path = "it/written_anew.rs"]
mod written_anew;
