//! Contracts in order of their days, and amendments: what is taken, what is refused, what they would
//! change, and what comes of two at once.

use edge::{Problem, access::Change, problem::reasons};
use proto::v1;

use crate::testing::billed::{self, Service};

/// Two lines of 0.50 less 10 % are billed for September.
const CONTRACT: &str = r#"
contract: acme-1
tenant: acme
valid_from: 2024-09-01
currency: USD
discounts: [{name: friends, percentage: "10"}]
credits: [{name: welcome, amount: "0.25", valid_from: 2025-01-01}]
"#;

async fn service() -> Service {
    billed::service_under(CONTRACT).await
}

fn amendment(name: &str, from: &str, changes: &str) -> String {
    format!("amendment: {name}\ncontract: acme-1\nfrom: {from}\n{changes}\n")
}

fn better(name: &str, from: &str, percentage: &str) -> String {
    let changes =
        format!("replace: {{discounts: [{{name: friends, percentage: \"{percentage}\"}}]}}");
    amendment(name, from, &changes)
}

async fn amend(service: &Service, text: &str) -> Result<v1::AmendContractResponse, Problem> {
    let request = v1::AmendContractRequest { text: text.to_owned(), validate_only: false };
    service.amend(request, &Change::default()).await
}

async fn check(service: &Service, text: &str) -> v1::AmendContractResponse {
    let request = v1::AmendContractRequest { text: text.to_owned(), validate_only: true };
    service.amend(request, &Change::default()).await.unwrap()
}

async fn apply(service: &Service, text: &str) -> Result<v1::ApplyContractResponse, Problem> {
    let request = v1::ApplyContractRequest { text: text.to_owned(), validate_only: false };
    service.apply(request, &Change::default()).await
}

/// Names, and the days from and to which they hold.
async fn held(service: &Service) -> Vec<(String, String, String)> {
    let listed = service.contracts("acme").await.unwrap().contracts;
    let day = |moment: Option<prost_types::Timestamp>| {
        let moment = moment.as_ref().and_then(proto::convert::timestamp);
        moment.map_or_else(|| "-".to_owned(), |moment| moment.to_string()[..10].to_owned())
    };
    listed.into_iter().map(|it| (it.name, day(it.holds_from), day(it.holds_to))).collect()
}

fn row(name: &str, from: &str, to: &str) -> (String, String, String) {
    (name.to_owned(), from.to_owned(), to.to_owned())
}

#[tokio::test]
async fn a_check_says_what_differs_and_which_documents_get_deltas_and_applies_nothing() {
    let service = service().await;
    let checked = check(&service, &better("acme-1-a", "2024-09-01", "20")).await;
    let [change] = &checked.changes[..] else { panic!("{checked:?}") };
    let words = (change.what.as_str(), change.before.as_str(), change.after.as_str());
    assert_eq!(words, ("discount friends", "10 % of each line", "20 % of each line"));
    assert_eq!(change.to, None, "it differs without end");
    let [period] = &checked.periods[..] else { panic!("{checked:?}") };
    assert_eq!(period.period, "2024-09");
    let amounts = (period.old.as_str(), period.new.as_str(), period.difference.as_str());
    assert_eq!(amounts, ("0.9", "0.8", "-0.1"));
    assert_eq!(
        (period.documents.clone(), checked.months_left_out),
        (vec!["INV-000001".to_owned()], 0)
    );
    assert_eq!(held(&service).await, [row("acme-1", "2024-09-01", "-")]);

    let later = check(&service, &better("acme-1-a", "2024-11-01", "20")).await;
    assert_eq!((later.changes.len(), later.periods.len()), (1, 0), "no period of it has begun");
}

#[tokio::test]
async fn an_amendment_about_the_past_is_billed_by_deltas() {
    let service = service().await;
    let amended = amend(&service, &better("acme-1-a", "2024-09-01", "20")).await.unwrap();
    assert!(!amended.already_applied && amended.periods.is_empty());
    assert_eq!(amended.amendment.unwrap().amends, "acme-1");
    assert_eq!(billed::bill_deltas(&service, 1).await.unchanged, 1, "a cut from before it");
    assert_eq!(billed::bill_deltas(&service, 2).await.deltas, 1);
    let request = v1::ListInvoicesRequest::default();
    let listed = service.invoices(&request, &edge::access::Principal::local()).await.unwrap();
    let totals: Vec<&str> = listed.invoices.iter().map(|invoice| invoice.total.as_str()).collect();
    assert_eq!(totals, ["0.90", "-0.10"]);
    assert_eq!(billed::bill_deltas(&service, 2).await.unchanged, 1);
}

#[tokio::test]
async fn the_same_text_again_changes_nothing_and_another_under_its_name_is_refused() {
    let service = service().await;
    let set = amendment("a", "2024-10-01", "set: {discounts: [{name: more, percentage: \"1\"}]}");
    assert!(!amend(&service, &set).await.unwrap().already_applied);
    // Read against the contract as it is now, it would be wrong: there is such a discount.
    let again = amend(&service, &set).await.unwrap();
    assert!(again.already_applied && again.changes.is_empty());
    for text in [better("a", "2024-10-01", "5"), better("acme-1", "2024-10-01", "5")] {
        assert_eq!(amend(&service, &text).await.unwrap_err().reason, reasons::CONTRACT_EXISTS);
    }
    let contract = CONTRACT.replace("acme-1", "a").replace("2024-09-01", "2025-09-01");
    assert_eq!(apply(&service, &contract).await.unwrap_err().reason, reasons::CONTRACT_EXISTS);
    assert!(apply(&service, CONTRACT).await.unwrap().already_applied);
}

#[tokio::test]
async fn a_contract_says_what_it_is_as_its_amendments_make_it() {
    let service = service().await;
    amend(&service, &better("b", "2024-12-01", "20")).await.unwrap();
    amend(&service, &better("a", "2024-11-01", "12")).await.unwrap();
    let contract = service.contract("acme-1").await.unwrap();
    let discounts: Vec<String> = contract
        .agreed
        .iter()
        .flat_map(|terms| &terms.things)
        .filter(|thing| thing.what == "discount friends")
        .map(|thing| thing.words.clone())
        .collect();
    assert_eq!(discounts, ["10 % of each line", "12 % of each line", "20 % of each line"]);
    let amendment = service.contract("b").await.unwrap();
    assert_eq!((amendment.amends.as_str(), amendment.agreed.len()), ("acme-1", 0));
    assert_eq!(
        held(&service).await,
        [
            row("acme-1", "2024-09-01", "-"),
            row("b", "2024-12-01", "-"),
            row("a", "2024-11-01", "-")
        ]
    );
}

#[tokio::test]
async fn a_contract_about_the_past_holds_until_the_next_begins_unless_it_names_it() {
    let service = service().await;
    let contract = |name: &str, from: &str, more: &str| {
        let text = CONTRACT.replace("acme-1", name).replace("2024-09-01", from);
        format!("{}{more}\n", text.replace("credits:", "#"))
    };
    apply(&service, &contract("renewal", "2025-11-01", "")).await.unwrap();
    apply(&service, &contract("mended", "2025-03-01", "")).await.unwrap();
    let expected = [
        row("acme-1", "2024-09-01", "2025-03-01"),
        row("renewal", "2025-11-01", "-"),
        row("mended", "2025-03-01", "2025-11-01"),
    ];
    assert_eq!(held(&service).await, expected);

    let same_day = apply(&service, &contract("again", "2025-03-01", "")).await.unwrap_err();
    assert_eq!(same_day.reason, reasons::CONTRACT_CONFLICTS);
    assert!(same_day.message.contains("`supersedes: [mended]`"), "{}", same_day.message);
    let unknown = contract("again", "2025-03-01", "supersedes: [mendet]");
    let unknown = apply(&service, &unknown).await.unwrap_err();
    assert!(
        unknown.message.contains("no contract \"mendet\"; did you mean mended?"),
        "{}",
        unknown.message
    );
    let named = contract("again", "2025-03-01", "supersedes: [mended, renewal]");
    apply(&service, &named).await.unwrap();
    assert_eq!(
        held(&service).await,
        [
            row("acme-1", "2024-09-01", "2025-03-01"),
            row("renewal", "-", "-"),
            row("mended", "-", "-"),
            row("again", "2025-03-01", "-"),
        ]
    );
    let superseded = better("m", "2025-04-01", "5").replace("contract: acme-1", "contract: mended");
    let refused = amend(&service, &superseded).await.unwrap_err();
    assert_eq!(refused.reason, reasons::CONTRACT_CONFLICTS);
    assert!(refused.message.contains("\"again\" does"), "{}", refused.message);
}

#[tokio::test]
async fn a_credit_that_a_later_contract_states_is_amended_there() {
    let service = service().await;
    let renewal = CONTRACT.replace("acme-1", "acme-2").replace("2024-09-01", "2025-09-01");
    apply(&service, &renewal).await.unwrap();
    let more = "replace: {credits: [{name: welcome, amount: \"1\"}]}";
    let refused = amend(&service, &amendment("a", "2024-10-01", more)).await.unwrap_err();
    assert_eq!(refused.reason, reasons::CONTRACT_CONFLICTS);
    assert!(refused.message.contains("\"acme-2\", which was applied later"), "{}", refused.message);
}

#[tokio::test]
async fn a_file_with_mistakes_names_them_with_their_places() {
    let service = service().await;
    let unknown = better("a", "2024-10-01", "5").replace("contract: acme-1", "contract: acme-2");
    for (text, part) in [
        (
            unknown.as_str(),
            "line 2, column 11: no contract was applied as `acme-2`; did you mean `acme-1`?",
        ),
        (
            "amendment: a\ncontract: acme-1\nfrom: 2023-01-01\n",
            "line 3, column 7: contract `acme-1` does not hold on 2023-01-01",
        ),
        ("amendment: a\n", "`contract` is missing"),
    ] {
        let refused = amend(&service, text).await.unwrap_err();
        assert_eq!(refused.violations[0].reason, reasons::CONTRACT_INVALID);
        assert!(refused.violations[0].message.contains(part), "{:?}", refused.violations);
    }
}

#[tokio::test]
async fn a_contract_has_a_greatest_number_of_amendments() {
    let service = service().await;
    let of = |number: usize| better(&format!("a{number}"), "2024-10-01", "5");
    for number in 1..=200 {
        amend(&service, &of(number)).await.unwrap();
    }
    let refused = amend(&service, &of(201)).await.unwrap_err();
    assert_eq!(refused.reason, reasons::CONTRACT_CONFLICTS);
    assert!(
        refused.message.contains("has 200 amendments, which is the most"),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn two_at_once_end_in_one_order_and_one_of_a_name() {
    let service = service().await;
    let (one, other) = (better("one", "2024-10-01", "5"), better("other", "2024-10-01", "6"));
    let both = tokio::join!(amend(&service, &one), amend(&service, &other));
    assert!(both.0.is_ok() && both.1.is_ok());
    assert_eq!(held(&service).await.len(), 3);

    let same = better("same", "2024-11-01", "7");
    let both = tokio::join!(amend(&service, &same), amend(&service, &same));
    let known = [both.0, both.1].map(|answer| answer.unwrap().already_applied);
    assert!(known.contains(&false), "{known:?}");
    assert_eq!(held(&service).await.len(), 4);

    let (left, right) = (better("name", "2024-12-01", "8"), better("name", "2024-12-01", "9"));
    let both = tokio::join!(amend(&service, &left), amend(&service, &right));
    let refused = [both.0, both.1].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].reason, reasons::CONTRACT_EXISTS);
}
