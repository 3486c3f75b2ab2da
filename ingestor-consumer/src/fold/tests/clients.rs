//! Identities of clients: those of one client are told apart from another's, whatever their tenants.

use super::*;

fn of_client(client: char, source: v1::SourceBatch) -> v1::SourceBatch {
    v1::SourceBatch { client: String::from(client).repeat(32), ..source }
}

#[test]
fn equal_identities_of_two_clients_are_two_and_one_clients_are_one() {
    let one = [pulse("vm", 1, NOW)];
    let scoped = |tenant: &str, source| v1::SourceBatch { scope: tenant.into(), ..source };
    let log = vec![
        (NOW, record_of(of_client('a', numbered(1, 0, 7, 1)), &one)),
        (NOW, record_of(of_client('b', numbered(1, 0, 7, 1)), &one)),
        // The tenant that the credential names now does not matter: the client is the same.
        (NOW, record_of(scoped("acme", of_client('a', numbered(1, 0, 7, 1))), &one)),
        (NOW, record_of(of_client('a', backfill("set", &[1; 16], 0, 1)), &one)),
        (NOW, record_of(of_client('b', backfill("set", &[2; 16], 0, 1)), &one)),
        (NOW, record_of(of_client('b', backfill("set", &[2; 16], 0, 1)), &one)),
    ];
    let counts = counts(&log);
    assert_eq!((counts.accepted, counts.duplicate, counts.dead_lettered), (4, 2, 0));
}

#[test]
fn without_a_client_identities_are_those_of_the_tenant() {
    let one = [pulse("vm", 1, NOW)];
    let scoped = |tenant: &str| v1::SourceBatch { scope: tenant.into(), ..numbered(1, 0, 7, 1) };
    let log = ["acme", "bolt", "acme", ""].map(|tenant| (NOW, record_of(scoped(tenant), &one)));
    let counts = counts(&log.to_vec());
    assert_eq!((counts.accepted, counts.duplicate), (3, 1));
}
