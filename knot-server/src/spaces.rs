//! Running spaces: the reconciler and the drivers of container engines.

pub mod drivers;
