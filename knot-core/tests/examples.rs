//! Each example runs to its end.

#[path = "../examples/convergence_test.rs"]
mod convergence_test;
#[path = "../examples/one_replica.rs"]
mod one_replica;
#[path = "../examples/own_kinds.rs"]
mod own_kinds;
#[path = "../examples/two_nodes.rs"]
mod two_nodes;

#[test]
fn one_replica_runs() {
    one_replica::main().unwrap();
}

#[test]
fn two_nodes_run() {
    two_nodes::main().unwrap();
}

#[test]
fn own_kinds_run() {
    own_kinds::main().unwrap();
}

#[test]
fn a_convergence_test_runs() {
    convergence_test::main().unwrap();
}
