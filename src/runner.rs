//! Executes runs: owns the queue, the caps and the children; writes intent before each effect and outcome after.

pub mod control;

pub mod live;

pub mod operations;
