//! Query parameters: decoded by the book, each known, each given once, none empty.
//!
//! Written out because the usual extractors replace invalid UTF-8 and drop unknown names in silence,
//! and a misspelt filter that is dropped answers another question than the one asked.

use std::{borrow::Cow, str::FromStr};

use crate::problem::{Problem, Violation, reasons};
use percent_encoding::percent_decode_str;

use domain::suggest;

/// The parameters of one request.
#[derive(Debug)]
pub struct Parameters<'a> {
    given: Vec<(&'static str, Cow<'a, str>)>,
}

impl<'a> Parameters<'a> {
    /// Reads the query of an address against the names that its route knows. Those in `flags` may
    /// be empty.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with a violation for each parameter that is unknown, repeated, empty or not
    /// UTF-8.
    pub fn parse(
        query: Option<&'a str>,
        known: &[&'static str],
        flags: &[&'static str],
    ) -> Result<Self, Problem> {
        let mut given: Vec<(&'static str, Cow<'a, str>)> = Vec::new();
        let mut violations = Vec::new();
        let all = [known, flags].concat();
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).unwrap_or(Cow::Borrowed(name));
            let Some(name) = all.iter().copied().find(|known| *known == name) else {
                violations.push(unknown(&name, &all));
                continue;
            };
            let refused = match decode(value) {
                None => Some((reasons::NAME_NOT_UTF8, "not valid UTF-8 once decoded")),
                Some(_) if given.iter().any(|(known, _)| *known == name) => Some((
                    reasons::PARAMETER_INVALID,
                    "given more than once; give it once, lists with commas",
                )),
                Some(value) if value.is_empty() && !flags.contains(&name) => Some((
                    reasons::PARAMETER_INVALID,
                    "empty; leave the parameter out to not limit by it",
                )),
                Some(value) => {
                    given.push((name, value));
                    None
                }
            };
            if let Some((reason, message)) = refused {
                violations.push(Violation::new(name, reason, message));
            }
        }
        Problem::check(violations)?;
        Ok(Self { given })
    }

    /// The parameter's value, where it was given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.given.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
    }

    /// The parameter's value, or empty text.
    pub fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// Tells whether a parameter is set: by itself, or as `true`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a value that is neither `true` nor `false`.
    pub fn is_set(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(other) => {
                let message = format!("{other:?} is neither true nor false");
                Err(Problem::invalid(name, reasons::PARAMETER_INVALID, message))
            }
        }
    }

    /// Reads a number; zero where it was not given.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with the reason, for a value that is no number of this kind.
    pub fn number<T: FromStr + Default>(
        &self,
        name: &str,
        reason: &'static str,
    ) -> Result<T, Problem> {
        let Some(text) = self.get(name) else { return Ok(T::default()) };
        text.parse().map_err(|_| {
            let message = format!("{text:?} is not a whole number in range");
            Problem::invalid(name, reason, message)
        })
    }

    /// The parts of a comma-separated value; none where it was not given.
    pub fn list(&self, name: &str) -> Vec<String> {
        let parts = self.get(name).map(|value| value.split(',').map(str::to_owned).collect());
        parts.unwrap_or_default()
    }
}

fn unknown(name: &str, known: &[&str]) -> Violation {
    let names = known.join(", ");
    let message = match suggest::nearest(name, known.iter().copied()) {
        Some(near) => format!("no such parameter; did you mean {near}? There are {names}"),
        None if known.is_empty() => "no such parameter; this address takes none".to_owned(),
        None => format!("no such parameter; there are {names}"),
    };
    Violation::new(name, reasons::PARAMETER_UNKNOWN, message)
}

/// Decodes `+` and `%XX`, or `None` where the bytes are not UTF-8.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('+') {
        return percent_decode_str(text).decode_utf8().ok();
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(|text| Cow::Owned(text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded() {
        let query = "tenant=a%20b+c%2B%C3%A9&verbose";
        let parameters = Parameters::parse(Some(query), &["tenant"], &["verbose"]).unwrap();
        assert_eq!(parameters.get("tenant"), Some("a b c+\u{e9}"));
        assert_eq!(parameters.get("verbose"), Some(""));
        assert_eq!(parameters.get("sku"), None);
    }

    #[test]
    fn flags_and_numbers_are_read_or_refused() {
        let flags = ["a", "b", "c", "d", "e"];
        let query = "a&b=true&c=false&d=yes&n=7&m=x";
        let parameters = Parameters::parse(Some(query), &["n", "m"], &flags).unwrap();
        let found = flags.map(|name| parameters.is_set(name).map_err(|problem| problem.reason));
        let refused = Err(reasons::PARAMETER_INVALID);
        assert_eq!(found, [Ok(true), Ok(true), Ok(false), refused, Ok(false)]);
        let number = |name| {
            let number = parameters.number::<u32>(name, reasons::PAGE_SIZE_INVALID);
            number.map_err(|problem| problem.reason)
        };
        assert_eq!((number("n"), number("o")), (Ok(7), Ok(0)));
        assert_eq!(number("m"), Err(reasons::PAGE_SIZE_INVALID));
    }

    #[test]
    fn whatever_is_not_understood_is_refused_by_name() {
        for (query, reason, said) in [
            ("tenent=a", reasons::PARAMETER_UNKNOWN, "did you mean tenant?"),
            ("colour=a", reasons::PARAMETER_UNKNOWN, "there are tenant, verbose"),
            ("tenant=a&tenant=b", reasons::PARAMETER_INVALID, "more than once"),
            ("tenant=", reasons::PARAMETER_INVALID, "empty"),
            ("tenant", reasons::PARAMETER_INVALID, "empty"),
            ("tenant=%ff", reasons::NAME_NOT_UTF8, "UTF-8"),
        ] {
            let problem = Parameters::parse(Some(query), &["tenant"], &["verbose"]).unwrap_err();
            assert_eq!(problem.reason, reason, "{query}");
            assert!(problem.message.contains(said), "{query}: {}", problem.message);
        }
    }
}
