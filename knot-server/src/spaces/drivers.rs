//! One trait for all container engines.
