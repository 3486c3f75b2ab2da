//! "Did you mean": the known word nearest to one that is not known.

/// Letters that may be wrong, missing or too many.
const SLIPS_MAX: usize = 2;

/// The known word that is at most two slips (or a third of its length, if less) away.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let length = lower.chars().count();
    known
        .into_iter()
        .map(|known| (known, known.to_lowercase()))
        // Farther apart than they are long. Comparing takes memory for the product of both lengths, and
        // a word may be as long as a message.
        .filter(|(_, known)| known.chars().count().abs_diff(length) <= SLIPS_MAX)
        .map(|(known, lower_known)| (strsim::damerau_levenshtein(&lower, &lower_known), known))
        .filter(|(slips, known)| *slips <= SLIPS_MAX.min(known.len() / 3))
        .min()
        .map(|(_, known)| known)
}

/// `; did you mean X?`, or nothing.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
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

    #[test]
    fn a_word_as_long_as_a_message_is_near_to_none_and_costs_nothing() {
        // Compared letter by letter this would take 700 MB.
        assert_eq!(nearest(&"x".repeat(8 << 20), ["product_sku"]), None);
    }
}
