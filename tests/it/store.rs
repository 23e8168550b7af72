//! The store: one suite over both implementations, records through the ledger, exports, kills, damage, refusals.

#[path = "store/conformance.rs"]
mod conformance;
#[path = "store/damage.rs"]
mod damage;
#[path = "store/exports.rs"]
mod exports;
#[path = "store/kills.rs"]
mod kills;
#[path = "store/records.rs"]
mod records;
#[path = "store/refusals.rs"]
mod refusals;
