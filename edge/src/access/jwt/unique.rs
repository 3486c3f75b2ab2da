//! JSON objects in which every name stands once.
//!
//! Of a name that comes twice one reader takes the first value and another the last, so a token could
//! say one thing to a gateway and another to us. Such an object is refused.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::{Map, Value};

/// An object whose own names are distinct. Reading it again, within, costs nothing more.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Object(pub(super) Map<String, Value>);

impl Object {
    /// The value of a name, or at a JSON pointer where it begins with `/` and no name is that text.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).or_else(|| {
            let mut steps = name.strip_prefix('/')?.split('/');
            let first = self.0.get(steps.next()?)?;
            steps.try_fold(first, |value, step| value.get(step))
        })
    }

    /// The text of a name, if it is one.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Names)
    }
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut entries: M) -> Result<Object, M::Error> {
        let mut object = Map::new();
        while let Some((name, value)) = entries.next_entry::<String, Value>()? {
            if object.insert(name, value).is_some() {
                return Err(M::Error::custom("a name comes twice"));
            }
        }
        Ok(Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_comes_twice_is_refused_however_it_is_written() {
        for text in [r#"{"a": 1, "b": 2, "a": 1}"#, r#"{"a": 1, "\u0061": 1}"#, "[]", "1", "{"] {
            assert!(serde_json::from_str::<Object>(text).is_err(), "{text}");
        }
        let object: Object = serde_json::from_str(r#"{"a": {"b": ["x"]}, "/a": 1}"#).unwrap();
        assert_eq!(object.value("/a"), Some(&Value::from(1)), "a name before a pointer");
        assert_eq!(object.value("/a/b"), Some(&Value::from(vec!["x"])));
        assert_eq!(object.value("/a/c"), None);
        assert_eq!(object.value("/"), None);
    }
}
