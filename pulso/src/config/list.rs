//! Lists: settings of several words between commas.

use std::fmt;

use super::value::Setting;

/// Words between commas, each without the blanks around it; may be none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List(Vec<String>);

impl List {
    /// The words, in their order. None is empty.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Tells whether there is no word.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl Setting for List {
    fn expects() -> String {
        "words between commas, or nothing".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let words: Vec<_> = text.split(',').map(|word| word.trim().to_owned()).collect();
        match words.iter().any(String::is_empty) {
            true => Err("has nothing between two commas, or beside one".to_owned()),
            false => Ok(Self(words)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_is_printed_and_has_no_empty_words() {
        for (text, words) in
            [("", &[][..]), ("  ", &[]), ("a", &["a"]), (" a , b c,d ", &["a", "b c", "d"])]
        {
            let list = List::parse(text).unwrap();
            assert_eq!(list.iter().collect::<Vec<_>>(), words, "{text:?}");
            assert_eq!(List::parse(&list.to_string()), Ok(list.clone()));
            assert_eq!(list.is_empty(), words.is_empty());
        }
        for text in [",", "a,", ",a", "a,,b", "a, ,b"] {
            assert!(List::parse(text).is_err(), "{text:?}");
        }
    }
}
