//! The file's own tests: read here, run by [`crate::examples`].

use domain::{Dimensions, Quantity, catalogue::SkuDefinition};

use super::{
    CatalogueTest, ENTRIES_MAX, TestUsage,
    cursor::{Cursor, Fields},
    known::Known,
};

/// Most groups of a test, and most events.
const GROUPS_MAX: usize = 10_000;

/// Reads `tests`. Each names a SKU of the file.
pub(super) fn read(cursor: &Cursor<'_>, skus: &[SkuDefinition]) -> Option<Vec<CatalogueTest>> {
    let entries = cursor.list(ENTRIES_MAX)?;
    let known = Known::new(skus, "this file");
    let tests: Vec<_> = entries.iter().filter_map(|entry| test(entry, &known)).collect();
    (tests.len() == entries.len()).then_some(tests)
}

fn test(entry: &Cursor<'_>, known: &Known<'_>) -> Option<CatalogueTest> {
    let fields =
        entry.map(&["name", "sku", "unit", "at", "quantity", "groups", "events", "expect"])?;
    let name = fields.need("name", "say what it shows").and_then(|name| name.text());
    let definition = known.definition(&fields);
    let at = match fields.get("at") {
        Some(at) => Some(at.instant()?),
        None => None,
    };
    let expect =
        fields.need("expect", "give the amount, as \"50.00\"").and_then(|expect| expect.amount());
    let definition = definition?;
    let usage = usage(&fields, definition);
    Some(CatalogueTest {
        name: name?.to_owned(),
        sku: definition.sku.clone(),
        unit: definition.unit.clone(),
        at,
        usage: usage?,
        expect: expect?,
    })
}

fn usage(fields: &Fields<'_>, definition: &SkuDefinition) -> Option<TestUsage> {
    match (fields.get("quantity"), fields.get("groups"), fields.get("events")) {
        (Some(quantity), None, None) => {
            Some(TestUsage::Groups(vec![(Dimensions::none(), quantity.decimal()?)]))
        }
        (None, Some(groups), None) => {
            let groups = groups.list(GROUPS_MAX)?;
            let groups = groups.iter().map(|entry| group(entry, definition));
            groups.collect::<Option<_>>().map(TestUsage::Groups)
        }
        (None, None, Some(cursor)) => {
            let events = cursor.list(GROUPS_MAX)?;
            if events.is_empty() {
                return cursor.fail("no events", "list at least one amount, as [\"1.00\"]");
            }
            events.iter().map(Cursor::decimal).collect::<Option<_>>().map(TestUsage::Events)
        }
        _ => fields.here().fail(
            "exactly one of quantity, groups and events is needed",
            "give `quantity: \"100\"`, `groups` of dimensions and quantity, or `events: [\"1.00\"]`",
        ),
    }
}

fn group(entry: &Cursor<'_>, definition: &SkuDefinition) -> Option<(Dimensions, Quantity)> {
    let fields = entry.map(&["dimensions", "quantity"])?;
    let quantity = fields.need("quantity", "give the quantity, as \"100\"")?.decimal()?;
    let mut pairs = Vec::new();
    if let Some(dimensions) = fields.get("dimensions") {
        for (name, value) in dimensions.any_map()?.pairs() {
            if !definition.dimensions.iter().any(|declared| declared.as_str() == name) {
                return value.fail(
                    format!("`{name}` is no dimension of SKU `{}`", definition.sku),
                    "add it to the SKU's `dimensions`",
                );
            }
            pairs.push((name, value.text()?));
        }
    }
    Some((Dimensions::from_pairs(pairs), quantity))
}
