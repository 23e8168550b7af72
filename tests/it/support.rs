//! What several parts of the tests need: temporary sites, real programs, waiting with a bound.
