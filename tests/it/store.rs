//! The store: one suite over both implementations, records through the ledger, exports, kills, damage, refusals.

mod conformance;
mod damage;
mod exports;
mod kills;
mod packs;
mod records;
mod refusals;
