//! The cluster's host key, made anew by its operator.

use crate::{
    client::{Client, Piped, said},
    wait::eventually,
    world::{knot_server, path},
};

#[test]
fn a_new_host_key_is_that_of_all_servers_and_is_pinned_by_the_next_ssh_config() {
    let Some(client) = Client::among(2, "shell", true) else { return };
    let before = client.host_key();
    let mut open = Piped::start(&mut client.ssh(&["dev@gate2", "cat"]));
    open.types("before\n");
    assert_eq!(open.line(), "before");

    let renewed = knot_server(&["renew-host-key", "--data", path(&client.world.data(1))]);
    let told = said(&renewed, "renew-host-key");
    assert!(told.contains("knot ssh-config --write"), "{told}");
    let now = client.host_key();
    assert!(now != before && told.contains(&now), "{before} {now} {told}");

    for gate in ["gate1", "gate2"] {
        let ran = eventually("the old key is shown no more", || {
            let ran = client.ssh(&[&format!("dev@{gate}"), "true"]).output().unwrap();
            (!ran.status.success()).then_some(ran)
        });
        let why = String::from_utf8_lossy(&ran.stderr);
        assert!(why.contains("Host key verification failed"), "{why}");
    }
    let known = client.folder.join("known_hosts");
    std::fs::write(known, format!("cluster {now}\n")).unwrap();
    for gate in ["gate1", "gate2"] {
        let ran = client.ssh(&[&format!("dev@{gate}"), "echo in"]).output().unwrap();
        assert_eq!(said(&ran, gate), "in\n");
    }
    open.types("after\n");
    assert_eq!(open.line(), "after", "what was open goes on");
}
