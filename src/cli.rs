//! (to be written)
pub mod hook {
    mod words;
}
pub mod socket;
