//! (to be written)

pub mod hook;
pub mod socket;
