//! Reads typed values off the tree, and notes every mistake with its place, path and remedy.
//!
//! A reading function gives `None` only after it has noted why, so a file without issues has given
//! every value that was asked for.

use std::cell::RefCell;

use domain::{Name, Quantity, Timestamp, name::NameError, suggest};

use super::{
    ISSUES_MAX, Issue,
    node::{Node, Place, Value},
};
use crate::amount::Amount;

/// The mistakes found so far: those that stand first in the file, and how many more there are. A file of
/// nothing but mistakes has hundreds of thousands, of which nobody reads more than are listed.
#[derive(Debug, Default)]
pub(super) struct Issues(RefCell<Noted>);

#[derive(Debug, Default)]
struct Noted {
    first: Vec<Issue>,
    left_out: usize,
}

/// Issues that are kept before those beyond [`ISSUES_MAX`] are left out: sorting a few lists costs less
/// than keeping one sorted.
const NOTED_MAX: usize = 16 * ISSUES_MAX;

impl Noted {
    /// Keeps those that are listed, in the order of the file.
    fn cut(&mut self) {
        self.first.sort_by_key(|issue| (issue.line, issue.column));
        self.left_out += self.first.len().saturating_sub(ISSUES_MAX);
        self.first.truncate(ISSUES_MAX);
    }
}

impl Issues {
    pub(super) fn note(&self, place: Place, path: &str, message: String, remedy: String) {
        let issue = Issue {
            line: Some(place.line),
            column: Some(place.column),
            path: path.to_owned(),
            message,
            remedy,
        };
        let mut noted = self.0.borrow_mut();
        noted.first.push(issue);
        if noted.first.len() == NOTED_MAX {
            noted.cut();
        }
    }

    /// Whether more are noted than are listed.
    fn are_too_many(&self) -> bool {
        self.0.borrow().first.len() >= ISSUES_MAX
    }

    /// The first ones in the order of the file, and how many are left out.
    pub(super) fn into_sorted(self) -> (Vec<Issue>, usize) {
        let mut noted = self.0.into_inner();
        noted.cut();
        (noted.first, noted.left_out)
    }
}

/// A node, and how one came to it.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'d> {
    node: &'d Node,
    path: String,
    issues: &'d Issues,
}

impl<'d> Cursor<'d> {
    pub(super) fn root(node: &'d Node, issues: &'d Issues) -> Self {
        Self { node, path: String::new(), issues }
    }

    /// Notes a mistake here.
    pub(super) fn fail<T>(
        &self,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Option<T> {
        self.issues.note(self.node.place, &self.path, message.into(), remedy.into());
        None
    }

    /// As [`suggestion`], but nothing once more mistakes are noted than are listed: looking through
    /// a great catalogue for each of a flood of wrong names would take minutes.
    pub(super) fn suggestion<'w>(
        &self,
        text: &str,
        known: impl Iterator<Item = &'w str>,
    ) -> String {
        if self.issues.are_too_many() {
            return String::new();
        }
        suggestion(text, &known.collect::<Vec<_>>())
    }

    fn wrong_kind<T>(&self, wanted: &str, remedy: impl Into<String>) -> Option<T> {
        self.fail(format!("{wanted} is needed, but this is {}", self.node.value.kind()), remedy)
    }

    /// A map whose keys are all among `known`.
    pub(super) fn map(&self, known: &[&'static str]) -> Option<Fields<'d>> {
        let fields = self.any_map()?;
        fields.only(known);
        Some(fields)
    }

    /// A map with any keys.
    pub(super) fn any_map(&self) -> Option<Fields<'d>> {
        match &self.node.value {
            Value::Map(_) => Some(Fields { cursor: self.clone() }),
            _ => self.wrong_kind("a map", "write `key: value` pairs"),
        }
    }

    /// A list of at most `entries_max` nodes.
    pub(super) fn list(&self, entries_max: usize) -> Option<Vec<Self>> {
        let Value::List(nodes) = &self.node.value else {
            return self.wrong_kind("a list", "write `- ` before each entry");
        };
        if nodes.len() > entries_max {
            return self.fail(
                format!("{} entries are more than the {entries_max} allowed", nodes.len()),
                "give fewer entries",
            );
        }
        let entry = |(index, node)| Self {
            node,
            path: format!("{}[{index}]", self.path),
            issues: self.issues,
        };
        Some(nodes.iter().enumerate().map(entry).collect())
    }

    /// Text. A number or boolean without quotes is not text.
    pub(super) fn text(&self) -> Option<&'d str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            Value::Number(_) | Value::Boolean(_) => {
                self.wrong_kind("text", "put it in quotes, so that every reader sees the same text")
            }
            _ => self.wrong_kind("text", "write the value after the colon, in quotes"),
        }
    }

    /// A name of the given type.
    pub(super) fn name<T>(&self, make: fn(&str) -> Result<T, NameError>) -> Option<T> {
        match make(self.text()?) {
            Ok(name) => Some(name),
            Err(error) => self.fail(format!("not a name: {error}"), "shorten or respell it"),
        }
    }

    /// A list of different names.
    pub(super) fn names(&self, entries_max: usize) -> Option<Vec<Name>> {
        let mut names = Vec::new();
        for entry in self.list(entries_max)? {
            let name = entry.name(Name::new)?;
            if names.contains(&name) {
                return entry.fail(format!("`{name}` stands in the list twice"), "remove one");
            }
            names.push(name);
        }
        names.sort();
        Some(names)
    }

    fn number<T: std::str::FromStr<Err: std::fmt::Display>>(&self) -> Option<T> {
        let text = match &self.node.value {
            Value::Text(text) => text,
            Value::Number(_) => {
                return self.wrong_kind(
                    "a decimal in quotes",
                    "write it as \"0.50\": without quotes its digits depend on the reader",
                );
            }
            _ => return self.wrong_kind("a decimal in quotes", "write it as \"0.50\""),
        };
        match text.parse() {
            Ok(number) => Some(number),
            Err(error) => {
                self.fail(format!("`{text}` is {error}"), "write digits with a point, as \"0.50\"")
            }
        }
    }

    /// A decimal with up to 18 digits after the point.
    pub(super) fn decimal(&self) -> Option<Quantity> {
        let text = match &self.node.value {
            Value::Text(text) => text.as_str(),
            _ => return self.number(),
        };
        match text.parse() {
            Ok(quantity) => Some(quantity),
            Err(error) => {
                self.fail(format!("`{text}`: {error}"), "write digits with a point, as \"0.50\"")
            }
        }
    }

    /// A decimal above zero.
    pub(super) fn decimal_above_zero(&self) -> Option<Quantity> {
        let quantity = self.decimal()?;
        if quantity <= Quantity::ZERO {
            return self.fail(format!("{quantity} is not above zero"), "give a number above zero");
        }
        Some(quantity)
    }

    /// A decimal of zero or more.
    pub(super) fn decimal_not_negative(&self) -> Option<Quantity> {
        let quantity = self.decimal()?;
        if quantity.is_negative() {
            return self.fail(format!("{quantity} is below zero"), "give zero or more");
        }
        Some(quantity)
    }

    /// An amount of money with up to 36 digits after the point.
    pub(super) fn amount(&self) -> Option<Amount> {
        self.number()
    }

    /// A whole number from 0 to `most`, without quotes.
    pub(super) fn digits(&self, most: u8) -> Option<u8> {
        let number = self.whole(0, most.into())?;
        Some(u8::try_from(number).expect("is at most `most`"))
    }

    /// A whole number from `least` to `most`, without quotes.
    pub(super) fn whole(&self, least: u64, most: u64) -> Option<u64> {
        let remedy = format!("give a whole number from {least} to {most}, without quotes");
        let Value::Number(number) = &self.node.value else {
            return self.wrong_kind("a whole number", remedy);
        };
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => Some(number),
            None => self.fail(format!("not a whole number from {least} to {most}"), remedy),
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        match &self.node.value {
            Value::Boolean(value) => Some(*value),
            _ => self.wrong_kind("true or false", "write true or false, without quotes"),
        }
    }

    /// A moment as RFC 3339.
    pub(super) fn instant(&self) -> Option<Timestamp> {
        let text = self.text()?;
        match text.parse() {
            Ok(moment) => Some(moment),
            Err(error) => self.fail(
                format!("`{text}` is {error}"),
                "write date, time and zone, as 2026-01-01T00:00:00Z",
            ),
        }
    }

    /// One of some words. `later` are words that a coming version will take.
    pub(super) fn word<T: Copy>(
        &self,
        what: &str,
        words: &[(&'static str, T)],
        later: &[&str],
    ) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let supported = names.join(", ");
        if later.contains(&text) {
            return self.fail(
                format!("{what} `{text}` is not supported yet"),
                format!("use one of those that are: {supported}"),
            );
        }
        self.fail(
            format!("`{text}` is no {what}{}", suggestion(text, &names)),
            format!("use one of {supported}"),
        )
    }
}

/// A map being read.
#[derive(Clone, Debug)]
pub(super) struct Fields<'d> {
    cursor: Cursor<'d>,
}

impl<'d> Fields<'d> {
    fn entries(&self) -> &'d [(super::node::Key, Node)] {
        match &self.cursor.node.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The map itself.
    pub(super) const fn here(&self) -> &Cursor<'d> {
        &self.cursor
    }

    /// Notes each key that is not among `known`.
    pub(super) fn only(&self, known: &[&'static str]) {
        for (key, _) in self.entries() {
            if !known.contains(&key.text.as_str()) {
                self.cursor.issues.note(
                    key.place,
                    &self.path_of(&key.text),
                    format!(
                        "unknown key `{}`{}",
                        key.text,
                        self.cursor.suggestion(&key.text, known.iter().copied())
                    ),
                    format!("the keys here are {}", known.join(", ")),
                );
            }
        }
    }

    /// A value that may be absent.
    pub(super) fn get(&self, key: &str) -> Option<Cursor<'d>> {
        let (_, node) = self.entries().iter().find(|(found, _)| found.text == key)?;
        Some(Cursor { node, path: self.path_of(key), issues: self.cursor.issues })
    }

    /// A value that must be there.
    pub(super) fn need(&self, key: &str, remedy: &str) -> Option<Cursor<'d>> {
        let found = self.get(key);
        if found.is_none() {
            return self.cursor.fail(format!("`{key}` is missing"), remedy);
        }
        found
    }

    /// Keys and values in the order of the file.
    pub(super) fn pairs(&self) -> Vec<(&'d str, Cursor<'d>)> {
        let pair = |(key, node): &'d (super::node::Key, Node)| {
            let path = self.path_of(&key.text);
            (key.text.as_str(), Cursor { node, path, issues: self.cursor.issues })
        };
        self.entries().iter().map(pair).collect()
    }

    fn path_of(&self, key: &str) -> String {
        match self.cursor.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }
}

/// `; did you mean ...?` with the nearest known word, or nothing where none is near.
pub(super) fn suggestion(text: &str, known: &[&str]) -> String {
    suggest::nearest(text, known.iter().copied())
        .map_or_else(String::new, |word| format!("; did you mean `{word}`?"))
}
