//! "Did you mean": the known word nearest to one that is not known.

/// The known word that is at most two slips (or a third of its length, if less) away.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&lower, &known.to_lowercase()), known))
        .filter(|(slips, known)| *slips <= 2.min(known.len() / 3))
        .min()
        .map(|(_, known)| known)
}

/// `; did you mean X?`, or nothing.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |known| format!("; did you mean {known}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_suggested() {
        for (word, expected) in [
            ("tenent", Some("tenant")),
            ("TENANT", Some("tenant")),
            ("product_skus", Some("product_sku")),
            ("tan", None),
            ("region", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, ["tenant", "product_sku"]), expected, "{word}");
        }
    }
}
