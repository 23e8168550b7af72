//! The store: one suite over both implementations, records through the ledger, exports, damage, kills.

#[path = "store/conformance.rs"]
mod conformance;
#[path = "store/records.rs"]
mod records;
