//! What an application is written with. Nothing here knows which applications there are.

pub mod apart;
pub(in crate::plugin) mod archive;
pub(in crate::plugin) mod asked;
pub mod builtin;
pub(in crate::plugin) mod commands;
pub(crate) mod database;
pub(in crate::plugin) mod digest;
pub(crate) mod dotenv;
pub(in crate::plugin) mod download;
pub(in crate::plugin) mod endpoint;
pub(in crate::plugin) mod events;
pub(in crate::plugin) mod exact;
pub(crate) mod files;
pub(in crate::plugin) mod inside;
pub(in crate::plugin) mod journal;
pub(in crate::plugin) mod json;
pub(in crate::plugin) mod live;
pub(in crate::plugin) mod memory_file;
pub(in crate::plugin) mod patience;
pub(in crate::plugin) mod place;
pub(in crate::plugin) mod plain;
pub(in crate::plugin) mod settings;
pub(in crate::plugin) mod sqlite_check;
pub(in crate::plugin) mod sqlite_files;
pub(in crate::plugin) mod tidy;
pub(in crate::plugin) mod tool;
pub(in crate::plugin) mod xml;
