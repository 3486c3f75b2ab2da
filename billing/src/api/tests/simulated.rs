//! Contracts and amendments that are simulated: what they would change, and that nothing is applied.

use domain::{BillingStore as _, billing::Appended};
use edge::problem::reasons;
use proto::v1;
use serde_json::json;

use crate::testing::{
    billed::{self, Service},
    town::{self, Town},
};

/// Two lines of 0.50 are billed for September.
const CONTRACT: &str = "contract: acme-1\ntenant: acme\nvalid_from: 2024-09-01\ncurrency: USD\n";
/// Takes its place, at half the price.
const HALF: &str = "contract: acme-2\ntenant: acme\nvalid_from: 2024-09-01\ncurrency: USD\n\
                    supersedes: [acme-1]\ndiscounts: [{name: half, percentage: \"50\"}]\n";
/// Changes that one before it is applied: a tenth off.
const TENTH: &str = "amendment: acme-2-tenth\ncontract: acme-2\nfrom: 2024-09-01\n\
                     replace: {discounts: [{name: half, percentage: \"10\"}]}\n";
/// In another currency, which none of the prices has.
const EUROS: &str = "contract: acme-3\ntenant: acme\nvalid_from: 2024-09-01\ncurrency: EUR\n\
                     supersedes: [acme-1]\nexchange: [{from: USD, valid_from: 2024-01-01, rate: \"0.5\"}]\n";
const OTHER_TENANT: &str = "contract: zed-1\ntenant: zed\nvalid_from: 2024-09-01\ncurrency: USD\n\
                            commitments: [{name: base, amount: \"7\"}]\n";

async fn simulated(service: &Service, contracts: &[&str]) -> v1::SimulateResponse {
    let simulated = service.simulated(request(contracts)).await.unwrap();
    crate::answers::simulation::message(simulated)
}

fn request(contracts: &[&str]) -> v1::SimulateRequest {
    v1::SimulateRequest {
        period: "2024-09".to_owned(),
        contract_texts: contracts.iter().map(|text| (*text).to_owned()).collect(),
        ..v1::SimulateRequest::default()
    }
}

/// Tenant, first day, currency, old and new amount, and the documents, one a row.
fn rows(simulated: &v1::SimulateResponse) -> Vec<String> {
    let rows = simulated.tenants.iter().map(|row| {
        let v1::TenantChange { tenant, first_day, currency, old, new, documents, .. } = row;
        format!("{tenant} {first_day} {currency} {old} {new} [{}]", documents.join(" "))
    });
    rows.collect()
}

#[tokio::test]
async fn contracts_are_simulated_one_behind_the_other_and_not_applied() {
    let service = billed::service_under(CONTRACT).await;
    for (contracts, wanted) in [
        (vec![CONTRACT], vec!["acme 2024-09-01 USD 1 1 []"]),
        (vec![HALF], vec!["acme 2024-09-01 USD 1 0.5 [INV-000001]"]),
        (vec![HALF, TENTH], vec!["acme 2024-09-01 USD 1 0.9 [INV-000001]"]),
        (vec![EUROS], vec!["acme 2024-09-01 EUR 0 0.5 []", "acme 2024-09-01 USD 1 0 [INV-000001]"]),
        (vec![OTHER_TENANT], vec!["zed 2024-09-01 USD 0 7 []"]),
    ] {
        let answer = simulated(&service, &contracts).await;
        assert_eq!(rows(&answer), wanted, "{contracts:?}");
        assert_eq!(answer.contracts.len(), contracts.len());
        assert_eq!((answer.old_catalogue, answer.new_catalogue), ("1".into(), "1".into()));
    }
    assert_eq!(service.contracts("").await.unwrap().contracts.len(), 1, "none is applied");
}

#[tokio::test]
async fn beside_another_catalogue_all_tenants_are_compared() {
    let service = billed::service_under(CONTRACT).await;
    let dearer = billed::text(2).replace("catalogue: \"1\"", "catalogue: \"2\"");
    let new_text = dearer.replace("0.25", "0.75");
    let request = v1::SimulateRequest { new_text, ..request(&[OTHER_TENANT]) };
    let simulated = service.simulated(request).await.unwrap();
    let answer = crate::answers::simulation::message(simulated);
    assert_eq!(
        rows(&answer),
        ["acme 2024-09-01 USD 1 3 [INV-000001]", "zed 2024-09-01 USD 0 7 []"]
    );
    assert_eq!((answer.old_catalogue.as_str(), answer.new_catalogue.as_str()), ("1", "2"));
}

#[tokio::test]
async fn a_tenant_that_cannot_be_billed_is_named_and_stops_no_other() {
    let town = Town::at("2024-10-05T00:00:00Z").await;
    for tenant in ["a", "b"] {
        town.use_up(tenant, ("vm", "hour", "4"), "2024-09-10T10:00:00Z").await;
    }
    let unreadable = json!({"contract": "b-1", "tenant": "b", "text": "?", "catalogue": "1",
                            "applied_at": "2024-10-01T00:00:00Z"});
    let added = town.store.append_entry("contracts", 0, unreadable.to_string().as_bytes()).await;
    assert_eq!(added, Ok(Appended::Added));
    let new_text = town::TEXT.replace("catalogue: \"1\"", "catalogue: \"2\"").replace("0.25", "1");
    let request = v1::SimulateRequest { new_text, ..request(&[]) };
    let simulated = town.service.simulated(request).await.unwrap();
    let answer = crate::answers::simulation::message(simulated);
    assert_eq!(rows(&answer), ["a 2024-09-01 USD 1 4 []"]);
    let failed: Vec<&str> = answer.failed.iter().map(|failed| failed.tenant.as_str()).collect();
    assert_eq!((failed, answer.failed_left_out), (vec!["b"], 0));
    assert!(answer.failed[0].message.contains("b-1"), "{answer:?}");
}

#[tokio::test]
async fn what_could_not_be_applied_is_not_simulated() {
    let service = billed::service_under(CONTRACT).await;
    let other = CONTRACT.replace("USD", "EUR");
    let beside = HALF.replace("supersedes: [acme-1]\n", "");
    let too_many = vec![CONTRACT; 101];
    for (contracts, reason, words) in [
        (vec!["contract: x"], reasons::CONTRACT_INVALID, "tenant"),
        (vec![other.as_str()], reasons::CONTRACT_EXISTS, "acme-1"),
        (vec![beside.as_str()], reasons::CONTRACT_CONFLICTS, "acme-1"),
        (vec![TENTH, HALF], reasons::CONTRACT_INVALID, "acme-2"),
        (too_many, reasons::PARAMETER_INVALID, "101 files; at most 100"),
        (vec![], reasons::CATALOGUE_INVALID, "empty"),
    ] {
        let refused = service.simulated(request(&contracts)).await.unwrap_err();
        let said = format!("{refused:?}");
        assert!(said.contains(reason) && said.contains(words), "{contracts:?}: {said}");
    }
    service.simulated(request(&[CONTRACT; 100])).await.unwrap();
}
