//! The `knot` command-line client.
