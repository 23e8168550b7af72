//! Executes runs: owns the children and the caps of a run; writes intent before each effect and outcome after.

pub(crate) mod clock;

pub mod control;
pub mod copy;

pub mod cut;

pub mod execute;

pub mod forget;
pub mod given_up;

pub(crate) mod found_again;

pub mod holdings;

pub mod hooks;

mod identity;

pub(crate) mod journal;

mod inventory;
mod listings;
pub mod live;
pub mod lost;

pub mod operations;

mod place;

pub(crate) mod quiet;

pub(crate) mod route;
pub mod ship;
mod silence;
pub mod statistics;

mod recall;
mod weigh;

pub mod world;
