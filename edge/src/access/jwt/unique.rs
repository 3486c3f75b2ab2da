//! JSON objects in which every name occurs once, nested objects included.
//!
//! Of a name that comes twice one reader takes the first value and another the last, so a token could
//! say one thing to a gateway and another to us. Such an object is refused.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};

/// An object whose names are distinct, at every depth.
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
        // Of a value its text is kept, because a `Value` has lost the names that came twice.
        while let Some((name, text)) = entries.next_entry::<String, Box<RawValue>>()? {
            serde_json::from_str::<Distinct>(text.get()).map_err(M::Error::custom)?;
            let value = serde_json::from_str(text.get()).map_err(M::Error::custom)?;
            if object.insert(name, value).is_some() {
                return Err(M::Error::custom(TWICE));
            }
        }
        Ok(Object(object))
    }
}

const TWICE: &str = "a name comes twice";

/// Any value in which no object has a name twice. Nothing of it is kept.
struct Distinct;

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Values)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Distinct;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_str<E>(self, _: &str) -> Result<Distinct, E> {
        Ok(Distinct)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut values: S) -> Result<Distinct, S::Error> {
        while values.next_element::<Distinct>()?.is_some() {}
        Ok(Distinct)
    }

    /// Numbers come as objects of one name, because the library keeps their digits.
    fn visit_map<M: MapAccess<'de>>(self, mut entries: M) -> Result<Distinct, M::Error> {
        let mut names = HashSet::new();
        while let Some((name, Distinct)) = entries.next_entry::<String, Distinct>()? {
            if !names.insert(name) {
                return Err(M::Error::custom(TWICE));
            }
        }
        Ok(Distinct)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_comes_twice_is_refused_however_it_is_written() {
        for text in [
            r#"{"a": 1, "b": 2, "a": 1}"#,
            r#"{"a": 1, "\u0061": 1}"#,
            r#"{"a": {"roles": ["viewer"], "roles": ["admin"]}}"#,
            r#"{"a": [1, {"b": {"c": 1, "d": 2, "\u0063": 3}}]}"#,
            "[]",
            "1",
            "{",
            r#"{"a": }"#,
            r#"{"a": [}"#,
        ] {
            assert!(serde_json::from_str::<Object>(text).is_err(), "{text}");
        }
        let every = r#"{"a": [null, true, -1, 1.5, 1e400, 18446744073709551616, "x", {}, {"a": {"a": []}}]}"#;
        let object: Object = serde_json::from_str(every).unwrap();
        assert_eq!(Value::Object(object.0), serde_json::from_str::<Value>(every).unwrap());
        let deep = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(serde_json::from_str::<Object>(&deep(100)).is_ok());
        assert!(serde_json::from_str::<Object>(&deep(100_000)).is_err(), "and no overflow");
        let object: Object = serde_json::from_str(r#"{"a": {"b": ["x"]}, "/a": 1}"#).unwrap();
        assert_eq!(object.value("/a"), Some(&Value::from(1)), "a name before a pointer");
        assert_eq!(object.value("/a/b"), Some(&Value::from(vec!["x"])));
        assert_eq!(object.value("/a/c"), None);
        assert_eq!(object.value("/"), None);
    }
}
