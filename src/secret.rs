//! References to secrets, the one place where a reference becomes the secret, and secrets that lie encrypted in Git.
//!
//! A resolved secret is a `SecretString`: it has no `Display`, its `Debug` is masked, and it is wiped when dropped.
//!
//! ```text
//! {secret: NAME} ─ address ─ vault (files of the revision in force) ─ sops (format) ─ keys (age) ─ identity (where keys lie)
//! ```
//! SOPS is the only encrypted format: what `sops` writes is read, and what is written here `sops` reads. Of its keys only
//! age is known; PGP, clouds' key services and Shamir's shares are deliberately absent.

pub mod address;
pub mod creation;
pub mod identity;
pub mod keyring;
pub mod keys;
pub mod reference;
pub mod sops;
pub mod vault;

pub use reference::{SECRET_BYTES_MAX, SecretError, SecretRef};
