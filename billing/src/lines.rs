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
/// each line once, whatever the order of either side.
pub(crate) fn compare(invoiced: &[DocumentLine], computed: Vec<DocumentLine>) -> Vec<Difference> {
    let mut places: HashMap<String, VecDeque<usize>> = HashMap::new();
    for (place, line) in computed.iter().enumerate() {
        places.entry(key_of(line).to_owned()).or_default().push_back(place);
    }
    let mut computed: Vec<Option<DocumentLine>> = computed.into_iter().map(Some).collect();
    let mut differences = Vec::new();
    for line in invoiced {
        let key = key_of(line);
        let place = places.get_mut(key).and_then(VecDeque::pop_front);
        let other = place.and_then(|place| computed[place].take());
        if other.as_ref() != Some(line) {
            let (key, invoiced) = (key.to_owned(), Some(line.clone()));
            differences.push(Difference { key, invoiced, computed: other });
        }
    }
    differences.extend(computed.into_iter().flatten().map(|line| Difference {
        key: key_of(&line).to_owned(),
        invoiced: None,
        computed: Some(line),
    }));
    differences
}
