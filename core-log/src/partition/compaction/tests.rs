//! Passes over a partition.
