//! "Did you mean": the known word nearest to one that is not known.

/// The nearest known word, whatever the case of its letters, of which at most a third are wrong, missing
/// or too many; one of a word of two or three.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let length = lower.chars().count();
    let candidates = known.into_iter().map(|known| (known, known.to_lowercase()));
    let slips = candidates.filter_map(|(known, lower_known)| {
        let letters = lower_known.chars().count();
        let slips_max = (letters / 3).max(1).min(letters.saturating_sub(1));
        // Farther apart than they are long. Comparing takes memory for the product of both lengths, and
        // a word may be as long as a message.
        let is_comparable = letters.abs_diff(length) <= slips_max;
        let slips = is_comparable.then(|| strsim::damerau_levenshtein(&lower, &lower_known))?;
        (slips <= slips_max).then_some((slips, known))
    });
    slips.min().map(|(_, known)| known)
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
            ("vn", Some("vm")),
            ("x", None),
        ] {
            assert_eq!(nearest(word, ["tenant", "product_sku", "vm", "y"]), expected, "{word}");
        }
    }

    #[test]
    fn a_word_as_long_as_a_message_is_near_to_none_and_costs_nothing() {
        // Compared letter by letter this would take 700 MB.
        assert_eq!(nearest(&"x".repeat(8 << 20), ["product_sku"]), None);
    }
}
