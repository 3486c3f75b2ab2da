//! Lines of documents: where those that were issued and those that come out now differ.

use std::collections::{HashMap, VecDeque};

use pricing::document::DocumentLine;

/// A line that does not come out as it was invoiced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The line's key.
    pub(crate) key: String,
    /// The line in the document.
    pub(crate) invoiced: Option<DocumentLine>,
    /// The line as computed now.
    pub(crate) computed: Option<DocumentLine>,
}

/// What identifies a line of a document.
pub(crate) fn key_of(line: &DocumentLine) -> &str {
    #[cfg(test)]
    crate::testing::count_a_key();
    &line.key
}

/// The lines that differ, in the order of the document; then those that it does not have. Looks at
/// each line once, whatever the order of either side. As long as both have the same order, a computed
/// line is forgotten when the next is taken.
pub(crate) fn compare(
    invoiced: &[DocumentLine],
    mut computed: impl Iterator<Item = DocumentLine>,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (place, line) in invoiced.iter().enumerate() {
        match computed.next() {
            Some(other) if key_of(&other) == key_of(line) => {
                if other != *line {
                    differences.push(difference(Some(line), Some(other)));
                }
            }
            other => {
                let rest = other.into_iter().chain(computed).collect();
                differences.extend(compare_by_key(&invoiced[place..], rest));
                return differences;
            }
        }
    }
    differences.extend(computed.map(|other| difference(None, Some(other))));
    differences
}

/// The same, of lines whose order differs.
fn compare_by_key(invoiced: &[DocumentLine], computed: Vec<DocumentLine>) -> Vec<Difference> {
    let mut places: HashMap<String, VecDeque<usize>> = HashMap::new();
    for (place, line) in computed.iter().enumerate() {
        places.entry(key_of(line).to_owned()).or_default().push_back(place);
    }
    let mut computed: Vec<Option<DocumentLine>> = computed.into_iter().map(Some).collect();
    let mut differences = Vec::new();
    for line in invoiced {
        let place = places.get_mut(key_of(line)).and_then(VecDeque::pop_front);
        let other = place.and_then(|place| computed[place].take());
        if other.as_ref() != Some(line) {
            differences.push(difference(Some(line), other));
        }
    }
    differences.extend(computed.into_iter().flatten().map(|other| difference(None, Some(other))));
    differences
}

/// A difference of two lines with one key, or of one that is on one side only.
fn difference(invoiced: Option<&DocumentLine>, computed: Option<DocumentLine>) -> Difference {
    let line = invoiced.or(computed.as_ref()).expect("one of both sides has it");
    Difference { key: key_of(line).to_owned(), invoiced: invoiced.cloned(), computed }
}

#[cfg(test)]
mod tests {
    use domain::Tenant;
    use pricing::{amount::Money, invoice, rate::Sources, timeline};

    use super::*;
    use crate::testing::billed;

    /// Lines as they are issued, of so many resources.
    fn issued(lines: usize) -> Vec<DocumentLine> {
        let catalogue =
            pricing::file::parse("c", billed::text(lines).as_bytes()).unwrap().catalogue;
        let contracts = [invoice::standard_contract(&Tenant::new("acme").unwrap(), &catalogue)];
        let stretches = timeline::stretches(&contracts);
        let period = &timeline::periods(&stretches, "2024-09".parse().unwrap()).unwrap()[0];
        let (tenant, usage) = (&contracts[0].tenant, billed::usage(lines));
        let made = invoice::invoice(tenant, period, &[&catalogue], &usage, Sources::LeftOut);
        invoice::document::lines(&made.unwrap()).collect()
    }

    /// The keys that differ, and on which sides they are.
    fn differing(
        invoiced: &[DocumentLine],
        computed: Vec<DocumentLine>,
    ) -> Vec<(String, bool, bool)> {
        let side =
            |found: Difference| (found.key, found.invoiced.is_some(), found.computed.is_some());
        compare(invoiced, computed.into_iter()).into_iter().map(side).collect()
    }

    #[test]
    fn lines_are_compared_in_any_order_and_named_where_they_differ_or_are_missing() {
        let lines = issued(4);
        let key = |place: usize| lines[place].key.clone();
        assert_eq!(differing(&lines, lines.clone()), []);
        let mut dearer = lines.clone();
        dearer[1].amount = Money::new(pricing::Amount::ZERO, 2);
        assert_eq!(differing(&lines, dearer.clone()), [(key(1), true, true)]);
        dearer.reverse();
        assert_eq!(differing(&lines, dearer), [(key(1), true, true)]);
        for missing in 0..4 {
            let mut without = lines.clone();
            without.remove(missing);
            assert_eq!(differing(&lines, without.clone()), [(key(missing), true, false)]);
            assert_eq!(differing(&without, lines.clone()), [(key(missing), false, true)]);
        }
    }
}
