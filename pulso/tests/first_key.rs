//! The key that `pulso dev` makes at its first start: shown once, valid, and never made a second time.

use crate::{
    access::create,
    harness::{Home, Server, Settings},
};

/// The words of a server's table that are whole API keys.
fn keys_in(text: &str) -> Vec<String> {
    let words = text.split_whitespace().map(|word| word.trim_start_matches("PULSO_KEY="));
    words.filter(|word| word.starts_with("pulso_") && word.len() == 95).map(str::to_owned).collect()
}

fn required() -> Settings {
    Settings::default().without_access().with("PULSO_ACCESS__MODE", "required")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_makes_a_key_that_counts_once_credentials_are_asked_for() {
    let home = Home::new();
    let open = Server::start(&home, &Settings::default().without_access()).await;
    crate::harness::until("the table is printed", || open.log().contains("Ctrl-C ends it")).await;
    let shown = keys_in(&open.log());
    let [key] = &shown[..] else { panic!("{} keys are shown", shown.len()) };
    assert!(open.log().contains("loopback only, no credentials"));
    let without = open.pulso(&["status"]).await;
    assert_eq!(without.status.code(), Some(0), "nobody needs it on loopback");
    open.terminate().await;

    // The log goes on in the same file.
    let server = Server::start(&home, &required()).await;
    let again = || server.log().matches("Ctrl-C ends it").count() == 2;
    crate::harness::until("the table is printed", again).await;
    assert_eq!(keys_in(&server.log()), shown, "it is not shown again, and no other one is made");
    assert!(server.log().contains("pulso key create NAME --role admin --tenant '*' --local"));
    let without = server.pulso(&["status"]).await;
    assert_eq!(without.status.code(), Some(77), "{without:?}");
    let listed = server.pulso_with(&["key", "list", "-o", "json"], Some(key)).await;
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let [only] = &listed["keys"].as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!((&only["name"], &only["created_by"]), (&"dev".into(), &"pulso dev".into()));
    assert_eq!((&only["roles"][0], &only["tenants"][0]), (&"admin".into(), &"*".into()));
    let id = only["id"].as_str().unwrap();
    let trail = server.pulso_with(&["audit-log", "-o", "json"], Some(key)).await;
    let trail: serde_json::Value = serde_json::from_slice(&trail.stdout).unwrap();
    let [made] = &trail["entries"].as_array().unwrap()[..] else { panic!("{trail}") };
    assert_eq!((&made["method"], &made["target"]), (&"pulso dev".into(), &id.into()));
    assert_eq!((&made["who"]["kind"], &made["outcome"]), (&"local".into(), &"done".into()));
    let revoked = server.pulso_with(&["key", "revoke", id], Some(key)).await;
    assert_eq!(revoked.status.code(), Some(0), "{revoked:?}");
    server.terminate().await;

    // Whoever has revoked it does not want another.
    let after = Server::start(&home, &Settings::default().without_access()).await;
    let again = || after.log().matches("Ctrl-C ends it").count() == 3;
    crate::harness::until("the table is printed", again).await;
    assert_eq!(keys_in(&after.log()), shown);
    after.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_with_keys_gets_no_other_one_and_a_new_one_is_told_how_to_use_it() {
    let home = Home::new();
    create(&home, &["ops", "--role", "viewer", "--tenant", "*"], None);
    let server = Server::start(&home, &Settings::default().without_access()).await;
    crate::harness::until("the table is printed", || server.log().contains("Ctrl-C ends it")).await;
    assert_eq!(keys_in(&server.log()), [""; 0]);
    server.terminate().await;

    let home = Home::new();
    let fresh = Server::start(&home, &required()).await;
    crate::harness::until("the table is printed", || fresh.log().contains("Ctrl-C ends it")).await;
    let shown = keys_in(&fresh.log());
    assert!(fresh.log().contains(&format!("export PULSO_KEY={}", shown[0])));
    assert!(shown.iter().all(|key| *key == shown[0]), "one key, in two places");
    assert!(!fresh.log().contains("loopback only"), "whoever has a key may come from anywhere");
    let status = fresh.pulso_with(&["status"], Some(&shown[0])).await;
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    fresh.terminate().await;
}
