//! Desired state: bytes of a revision to a checked [`model::Config`], or every error of it.

pub mod model;
