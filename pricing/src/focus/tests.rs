//! The price list that is drawn from a provider's file, and the comparison with the provider.

use domain::{
    Aggregate, Cell, Dimensions, Epoch, LogId, Partition, ResourceKey, RowKey, SegmentId, UsageRow,
    WindowLength,
};

use super::*;
use crate::file;

const SAMPLE: &[u8] = include_bytes!("../../../samples/focus-1.0-sample-1000.csv");

fn sample() -> Vec<FocusRow> {
    read(SAMPLE, Basis::Pricing).unwrap().into_iter().map(Result::unwrap).collect()
}

/// One usage row a pulse, as if each had its own segment.
fn usage(rows: &[FocusRow]) -> Vec<UsageRow> {
    rows.iter()
        .map(|row| {
            let price_id = row.sku_price_id.as_deref().map(|id| (SKU_PRICE_ID, id));
            let resource = ResourceKey {
                tenant: row.tenant.clone(),
                product_sku: row.product_sku.clone(),
                use_unity: row.use_unity.clone(),
                dimensions: Dimensions::from_pairs(price_id),
            };
            let segment = SegmentId {
                log_id: LogId([7; 16]),
                partition: Partition(0),
                epoch: Epoch(0),
                start: domain::Offset(row.row),
            };
            UsageRow {
                key: RowKey {
                    resource,
                    window_start: WindowLength::HOUR.start_of(row.time),
                    segment,
                },
                cell: Cell {
                    offset_last: domain::Offset(row.row),
                    aggregate: Aggregate::of(row.quantity, row.time),
                },
            }
        })
        .collect()
}

#[test]
fn names_that_json_and_yaml_spell_differently_are_imported() {
    // Delete, a control character of Unicode, two line ends of Unicode, a byte order mark.
    let odd = "x\u{7f}\u{85}\u{2028}\u{2029}\u{feff}\u{ffff}\"\\y";
    let mut rows = sample();
    rows.truncate(1);
    rows[0].properties.insert("service_name".to_owned(), odd.to_owned());
    let imported = import(&rows, None).unwrap();
    let file = file::parse("imported", imported.text.as_bytes());
    let file = file.unwrap_or_else(|error| panic!("{error}\n{}", imported.text));
    assert_eq!(file.catalogue.skus[0].name, odd);
}

#[test]
fn the_price_list_of_the_sample_passes_its_own_checks_and_tests() {
    let imported = import(&sample(), None).unwrap();
    let file = match file::parse("imported", imported.text.as_bytes()) {
        Ok(file) => file,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(file.catalogue.version.as_str(), "focus-2024-09");
    // 270 keys of (SkuId, SkuPriceId, PricingUnit) less the credit, which has no price.
    assert_eq!((imported.rows, imported.skus, imported.prices), (1_000, 266, 269));
    assert_eq!((imported.rows_without_price, imported.rows_not_checkable), (1, 31));
    assert_eq!(imported.tests, file.tests.len());
    let results = crate::examples::run(&file);
    assert!(results.len() >= 10 && results.iter().all(|result| result.ok), "{results:?}");
    let prices = &file.catalogue.skus[0].prices;
    assert_eq!(prices[0].valid_from.to_string(), "2024-09-01T00:00:00Z");
}

/// 968 of the 1,000 rows are checkable: they are 943 hour lines. Of the others, 31 are Microsoft's,
/// whose quantities are rounded or priced by the package, and one is a credit without a price.
#[test]
fn rating_the_sample_gives_the_providers_own_list_cost() {
    let rows = sample();
    let imported = import(&rows, None).unwrap();
    let catalogue = file::parse("imported", imported.text.as_bytes()).unwrap().catalogue;
    let comparison = compare(&catalogue, &usage(&rows), &rows);
    assert_eq!(comparison.differences, []);
    assert_eq!((comparison.rows_compared, comparison.lines_compared), (968, 943));
    let others = BTreeMap::from([(Checkable::NoListPrice, 1), (Checkable::Differs, 31)]);
    assert_eq!(comparison.rows_not_compared, others);
}

#[test]
fn a_wrong_total_is_found_by_the_comparison() {
    let rows = sample();
    let imported = import(&rows, None).unwrap();
    let catalogue = file::parse("imported", imported.text.as_bytes()).unwrap().catalogue;
    let mut usage = usage(&rows);
    let place =
        rows.iter().position(|row| row.list_cost.is_some_and(|cost| cost > Quantity::ONE)).unwrap();
    let lost = usage.remove(place);
    let comparison = compare(&catalogue, &usage, &rows);
    assert_eq!(comparison.differences.len(), 1);
    assert_eq!(comparison.differences[0].key.tenant, lost.key.resource.tenant);
}

#[test]
fn consumed_quantities_are_read_where_they_are_asked_for() {
    let rows = read(SAMPLE, Basis::Consumed).unwrap();
    let (good, bad): (Vec<_>, Vec<_>) = rows.into_iter().partition(Result::is_ok);
    // The credit consumed nothing.
    assert_eq!((good.len(), bad.len()), (999, 1));
    let error = bad[0].as_ref().unwrap_err();
    assert!(error.to_string().contains("ConsumedUnit: empty"), "{error}");
}

const HEADER: &str = "SubAccountId,SkuId,SkuPriceId,ChargePeriodStart,BillingPeriodStart,\
                      BillingCurrency,ListUnitPrice,ListCost,PricingQuantity,PricingUnit";
const ROW: &str = "t,s,p,2024-09-18 22:00:00,2024-09-01 00:00:00,USD,0.5,1.0,2,h";

fn rows(lines: &[&str]) -> Vec<Result<FocusRow, RowError>> {
    let text = [&[HEADER], lines].concat().join("\n");
    read(text.as_bytes(), Basis::Pricing).unwrap()
}

#[test]
fn a_byte_order_mark_and_crlf_change_nothing() {
    let plain = rows(&[ROW]);
    let text = format!("\u{feff}{HEADER}\r\n{ROW}\r\n");
    assert_eq!(read(text.as_bytes(), Basis::Pricing).unwrap(), plain);
    let row = plain[0].as_ref().unwrap();
    assert_eq!((row.row, row.checkable, row.id.as_deref()), (2, Checkable::Yes, None));
}

#[test]
fn a_bad_row_names_its_column_and_the_others_go_on() {
    for (bad, part) in [
        ("t,s,p", "row 3, row: has 3 cells where the header has 10"),
        (",s,p,2024-09-18 22:00:00,2024-09-01 00:00:00,USD,0.5,1.0,2,h", "SubAccountId: empty"),
        ("t,NULL,p,2024-09-18 22:00:00,2024-09-01 00:00:00,USD,0.5,1.0,2,h", "SkuId: empty"),
        ("t,s,p,2024-09-18,2024-09-01 00:00:00,USD,0.5,1.0,two,h", "PricingQuantity: `two`"),
        (
            "t,s,p,2024-09-18 22:00:00,2024-09-01 00:00:00,USD,0.5,1.0,NaN,h",
            "PricingQuantity: `NaN`",
        ),
        ("t,s,p,2024-09-18 22:00:00,2024-09-01 00:00:00,USD,0.5,1.0,,h", "PricingQuantity: empty"),
        ("t,s,p,yesterday,2024-09-01 00:00:00,USD,0.5,1.0,2,h", "ChargePeriodStart: `yesterday`"),
        ("t,s,p,2024-09-18 22:00:00,2024-09-01 00:00:00,XX,0.5,1.0,2,h", "BillingCurrency: `XX`"),
        (
            "t,s,p,2024-09-18 22:00:00,2024-09-01 00:00:00,USD,1e-19,1.0,2,h",
            "more than 18 decimals",
        ),
    ] {
        let found = rows(&[ROW, bad, ROW]);
        let error = found[1].as_ref().unwrap_err();
        assert!(error.to_string().contains(part), "{bad}: {error}");
        assert_eq!(error.row, 3);
        assert!(found[0].is_ok() && found[2].is_ok(), "{bad}");
    }
}

#[test]
fn a_header_that_will_not_do_is_refused_as_a_whole() {
    let read = |text: &str| read(text.as_bytes(), Basis::Pricing).unwrap_err().to_string();
    assert!(read("").contains("empty"));
    assert!(read("\n\n").contains("empty"));
    let missing = read("SubAccountId,SkuId\n");
    assert!(missing.contains("PricingUnit") && missing.contains("ListCost"), "{missing}");
    assert!(read(&format!("{HEADER},SkuId\n{ROW},s\n")).contains("SkuId stands there twice"));
    let latin = super::read(b"SubAccountId,\xe9\n", Basis::Pricing).unwrap_err();
    assert_eq!(latin, FocusError::NotUtf8);
}

#[test]
fn rows_that_contradict_each_other_make_no_price_list() {
    let good =
        |lines: &[&str]| -> Vec<FocusRow> { rows(lines).into_iter().map(Result::unwrap).collect() };
    let dearer = ROW.replace("0.5,1.0", "0.6,1.2");
    let message = import(&good(&[ROW, &dearer]), None).unwrap_err().to_string();
    assert!(message.contains("rows 2 and 3") && message.contains("0.5 and 0.6"), "{message}");
    let euros = ROW.replace("USD", "EUR");
    let message = import(&good(&[ROW, &euros]), None).unwrap_err().to_string();
    assert!(message.contains("USD and EUR"), "{message}");
    let credit = ROW.replace("0.5,1.0", "NULL,-1.0");
    assert_eq!(import(&good(&[&credit]), None), Err(FocusError::NoPrices));
    assert_eq!(import(&[], None), Err(FocusError::NoPrices));
}

#[test]
fn one_sku_in_two_units_becomes_two_entries() {
    let other = ROW.replace(",h", ",GB");
    let rows: Vec<_> = rows(&[ROW, &other]).into_iter().map(Result::unwrap).collect();
    let imported = import(&rows, Some("v \"1\"")).unwrap();
    let catalogue = file::parse("imported", imported.text.as_bytes()).unwrap().catalogue;
    assert_eq!((catalogue.skus.len(), catalogue.version.as_str()), (2, "v \"1\""));
}
