//! Catalogues with dates: what is in effect when, what is refused, what is named as retired, and that
//! nothing is rewritten.

use edge::{
    Problem,
    access::{Change, Principal},
    problem::reasons,
};
use proto::v1;

use crate::testing::billed::{self, Service};

/// Two lines of 0.50 are billed for September.
const CONTRACT: &str = "contract: acme-1\ntenant: acme\nvalid_from: 2024-09-01\ncurrency: USD\n";

async fn service() -> Service {
    billed::service_under(CONTRACT).await
}

/// A catalogue with one price of 2 a unit, and what else the file says.
fn catalogue(version: &str, sku: &str, more: &str) -> String {
    format!(
        "catalogue: \"{version}\"\ncurrency: USD\n{more}\nskus:\n  - {{sku: {sku}, unit: u, dimensions: [res], prices: [{{valid_from: 2024-01-01T00:00:00Z, model: per_unit, unit_price: \"2\"}}]}}\n"
    )
}

async fn publish(
    service: &Service,
    text: &str,
    about_the_past: bool,
) -> Result<v1::PublishCatalogueResponse, Problem> {
    let request =
        v1::PublishCatalogueRequest { text: text.to_owned(), validate_only: false, about_the_past };
    service.publish(request, &Change::default()).await
}

fn effective(version: Option<v1::CatalogueVersion>) -> String {
    let from = version.unwrap().effective_from;
    let from = from.as_ref().and_then(proto::convert::timestamp);
    from.map_or_else(|| "ever".to_owned(), |from| from.to_string())
}

async fn totals(service: &Service) -> Vec<String> {
    let request = v1::ListInvoicesRequest::default();
    let listed = service.invoices(&request, &Principal::local()).await.unwrap();
    listed.invoices.into_iter().map(|invoice| invoice.total).collect()
}

#[tokio::test]
async fn a_version_that_leaves_out_what_was_billed_takes_nothing_back() {
    let service = service().await;
    let published = publish(&service, &catalogue("2", "other", ""), false).await.unwrap();
    let retired = v1::RetiredSku { product_sku: "mx".to_owned(), use_unity: "u".to_owned() };
    assert_eq!(published.retired, [retired], "publishing names it");
    assert_eq!(effective(published.catalogue), billed::now().to_string());
    assert_eq!(billed::bill_deltas(&service, 1).await.unchanged, 1);
    assert_eq!(totals(&service).await, ["1.00"]);
    let again = publish(&service, &catalogue("2", "other", ""), false).await.unwrap();
    assert!(again.already_published && again.retired.len() == 1);
}

#[tokio::test]
async fn a_version_about_the_past_is_said_so_and_billed_by_deltas() {
    let service = service().await;
    let past = catalogue("2", "mx", "effective_from: 2024-09-01T01:00:00Z");
    let refused = publish(&service, &past, false).await.unwrap_err();
    assert_eq!(refused.violations[0].reason, reasons::CATALOGUE_ABOUT_THE_PAST);
    assert_eq!(refused.violations[0].field, "effective_from");
    assert_eq!(service.catalogues().await.unwrap().catalogues.len(), 1, "nothing is published");

    let simulated = v1::SimulateRequest {
        period: "2024-09".to_owned(),
        new_text: past.clone(),
        ..v1::SimulateRequest::default()
    };
    let simulated = service.simulated(simulated).await.unwrap();
    let tenant = &simulated.tenants[0];
    // Of four units two are used in the second hour: 0.50 + 2 x 2.
    assert_eq!((tenant.old.to_string(), tenant.new.to_string()), ("1".into(), "4.5".into()));
    assert_eq!(tenant.documents, ["INV-000001"]);

    let published = publish(&service, &past, true).await.unwrap();
    assert_eq!(
        (published.retired.len(), effective(published.catalogue)),
        (0, "2024-09-01T01:00:00Z".into())
    );
    assert_eq!(billed::bill_deltas(&service, 1).await.deltas, 1);
    assert_eq!(totals(&service).await, ["1.00", "3.50"]);
    // Asked again later, it is known and not about the past.
    assert!(publish(&service, &past, false).await.unwrap().already_published);
}

#[tokio::test]
async fn a_currency_changes_with_a_month_only() {
    let service = service().await;
    let euros = |version: &str, more: &str| {
        catalogue(version, "mx", more).replace("currency: USD", "currency: EUR")
    };
    for more in ["", "effective_from: 2024-11-02"] {
        let refused = publish(&service, &euros("2", more), false).await.unwrap_err();
        assert_eq!(refused.violations[0].reason, reasons::CATALOGUE_INVALID);
        let message = &refused.violations[0].message;
        assert!(message.contains("from USD to EUR at 2024-1"), "{message}");
    }
    publish(&service, &euros("2", "effective_from: 2024-11-01"), false).await.unwrap();
    // Between the two, another one in the first currency is fine, and one behind them is not.
    publish(&service, &catalogue("3", "mx", "effective_from: 2024-10-20"), false).await.unwrap();
    let back = catalogue("4", "mx", "effective_from: 2024-11-20");
    let refused = publish(&service, &back, false).await.unwrap_err();
    assert!(refused.violations[0].message.contains("from EUR to USD at 2024-11-20"), "{refused:?}");
}

#[tokio::test]
async fn the_first_version_reaches_back_and_later_ones_have_their_dates() {
    let service = service().await;
    publish(&service, &catalogue("2", "mx", "effective_from: 2025-01-01"), false).await.unwrap();
    publish(&service, &catalogue("3", "mx", ""), false).await.unwrap();
    let listed = service.catalogues().await.unwrap().catalogues;
    let listed: Vec<_> =
        listed.into_iter().map(|it| (it.version.clone(), effective(Some(it)))).collect();
    let row = |version: &str, from: &str| (version.to_owned(), from.to_owned());
    let expected =
        [row("3", "2024-10-05T00:00:00Z"), row("2", "2025-01-01T00:00:00Z"), row("1", "ever")];
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn two_at_once_are_both_published_and_one_of_a_name() {
    let service = service().await;
    let (one, other) = (catalogue("2", "mx", ""), catalogue("3", "mx", ""));
    let both = tokio::join!(publish(&service, &one, false), publish(&service, &other, false));
    assert!(both.0.is_ok() && both.1.is_ok());
    assert_eq!(service.catalogues().await.unwrap().catalogues.len(), 3);
    let (left, right) = (catalogue("4", "mx", ""), catalogue("4", "other", ""));
    let both = tokio::join!(publish(&service, &left, false), publish(&service, &right, false));
    let refused = [both.0, both.1].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].reason, reasons::CATALOGUE_EXISTS);
}
