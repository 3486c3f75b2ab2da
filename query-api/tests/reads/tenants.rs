//! What a credential may read: its tenants, through every read that names one.

use domain::{DeadLetterReason, Tenant};
use edge::access::{Principal, Tenants, principal::Parts};
use query_api::{
    dead_letters::DeadLettersRequest,
    usage::request::{FieldNames, Moment, UsageRequest},
};

use crate::support::{Bench, Usage, dead_letters};

/// A principal for these tenants.
fn principal_for(tenants: &[&str]) -> Principal {
    let tenants = tenants.iter().map(|name| Tenant::new(name).unwrap());
    let parts =
        Parts { tenants: Tenants::these(tenants).unwrap(), ..Parts::clone(&Principal::local()) };
    Principal::new(parts)
}

#[tokio::test]
async fn a_credential_reads_what_is_its_tenants_and_nothing_of_others() {
    let bench =
        Bench::new(&[Usage::of("acme", "vm", 0, "1"), Usage::of("bolt", "vm", 0, "2")]).await;
    let late = |tenant, index| dead_letters(5, DeadLetterReason::TooLate, tenant, index);
    bench.dead_letters(vec![late("acme", 1), late("bolt", 1)]).await;
    let (acme, both) = (principal_for(&["acme"]), principal_for(&["acme", "bolt"]));
    let question = |tenant: &str| UsageRequest {
        tenant: tenant.to_owned(),
        from: Some(Moment::Text("2024-09-01".to_owned())),
        to: Some(Moment::Text("2024-09-02".to_owned())),
        window: "total".to_owned(),
        ..UsageRequest::default()
    };
    for (tenant, principal, found) in [
        ("", &acme, Ok("acme")),
        ("acme", &acme, Ok("acme")),
        ("bolt", &acme, Err("TENANT_FORBIDDEN")),
        ("cold", &acme, Err("TENANT_FORBIDDEN")),
        ("", &both, Err("TENANT_MISSING")),
        ("bolt", &both, Ok("bolt")),
    ] {
        let usage = bench.api.usage(&question(tenant), FieldNames::HTTP, principal).await;
        let usage = usage.map(|answer| {
            let [row] = &answer.rows[..] else { panic!("one tenant's: {answer:?}") };
            row.key.tenant.clone().unwrap().to_string()
        });
        let listed = DeadLettersRequest { tenant: tenant.to_owned(), ..Default::default() };
        let listed = bench.api.dead_letters(&listed, principal).await;
        let listed = listed.map(|page| {
            let [group] = &page.entries[..] else { panic!("one tenant's: {page:?}") };
            group.key.tenant.clone()
        });
        for answer in [usage, listed] {
            let answer = answer.map_err(|problem| problem.reason);
            assert_eq!(answer.as_deref().map_err(|reason| *reason), found, "{tenant:?}");
        }
    }
    // The letter of the log that the tests fold is acme's.
    bench.api.dead_letter((1, 7, 3), "", &acme).await.unwrap();
    let hidden = bench.api.dead_letter((1, 7, 3), "", &principal_for(&["bolt"])).await;
    assert_eq!(hidden.unwrap_err().reason, "DEAD_LETTER_NOT_FOUND");
}
