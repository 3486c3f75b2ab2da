//! JSON objects, field by field: numbers keep their digits, and a repeated key is seen.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use super::row::{Draft, FIELD_REPEATED, FIELD_TYPE, FIELD_UNKNOWN, Fault, Field};

/// The fields of an object in their order, repeated ones too; and the first key that an object within them
/// has twice.
#[derive(Debug)]
pub struct Fields(pub Vec<(String, Value)>, Option<String>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields, M::Error> {
                let (mut fields, mut repeated) = (Vec::with_capacity(8), None);
                while let Some((name, Nested { value, repeats })) = map.next_entry::<String, _>()? {
                    repeated = repeated.or_else(|| Some(format!("{name}.{}", repeats?)));
                    fields.push((name, value));
                }
                Ok(Fields(fields, repeated))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

/// A value, and the first key that an object in it has twice.
struct Nested {
    value: Value,
    repeats: Option<String>,
}

/// The key under which the parser hands over a number by its digits.
const NUMBER: &str = "$serde_json::private::Number";

impl<'de> Deserialize<'de> for Nested {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Nested;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Nested, E> {
                Ok(Value::Null.into())
            }

            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Nested, E> {
                Ok(Value::Bool(flag).into())
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Nested, E> {
                Ok(Value::Number(number.into()).into())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Nested, E> {
                Ok(Value::Number(number.into()).into())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Nested, E> {
                Ok(Value::String(text.to_owned()).into())
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Nested, E> {
                Ok(Value::String(text).into())
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Nested, S::Error> {
                let (mut values, mut repeats) = (Vec::new(), None);
                while let Some(nested) = list.next_element::<Nested>()? {
                    repeats = repeats.or(nested.repeats);
                    values.push(nested.value);
                }
                Ok(Nested { value: Value::Array(values), repeats })
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Nested, M::Error> {
                let (mut fields, mut repeats) = (Map::new(), None);
                while let Some(name) = map.next_key::<String>()? {
                    if fields.is_empty() && name == NUMBER {
                        let digits: String = map.next_value()?;
                        let number: Number = digits.parse().map_err(de::Error::custom)?;
                        return Ok(Value::Number(number).into());
                    }
                    let nested: Nested = map.next_value()?;
                    let is_new = fields.insert(name.clone(), nested.value).is_none();
                    repeats = repeats.or((!is_new).then_some(name)).or(nested.repeats);
                }
                Ok(Nested { value: Value::Object(fields), repeats })
            }
        }

        deserializer.deserialize_any(Collect)
    }
}

impl From<Value> for Nested {
    fn from(value: Value) -> Self {
        Self { value, repeats: None }
    }
}

/// Text of a scalar: a string as it is, a number by its digits, nothing for null.
///
/// # Errors
/// For a list or an object.
pub fn scalar<'a>(field: &str, value: &'a Value) -> Result<std::borrow::Cow<'a, str>, Fault> {
    match value {
        Value::Null => Ok("".into()),
        Value::String(text) => Ok(text.as_str().into()),
        Value::Number(number) => Ok(number.to_string().into()),
        Value::Bool(flag) => Ok(flag.to_string().into()),
        Value::Array(_) | Value::Object(_) => {
            Err(Fault::new(FIELD_TYPE, field, "a list or an object where one value is needed"))
        }
    }
}

/// Puts one field into a draft.
///
/// # Errors
/// When the name is none of ours or the value is not what it should be.
pub fn set(draft: &mut Draft, name: &str, value: &Value) -> Result<(), Fault> {
    if name == "properties" {
        return set_properties(draft, value);
    }
    match Field::named(name) {
        Some(field) => draft.set(field, &scalar(field.name(), value)?),
        None => Err(unknown(name)),
    }
}

/// Puts all properties of an object into a draft.
///
/// # Errors
/// When it is no object, or one of its values is not a scalar.
pub fn set_properties(draft: &mut Draft, value: &Value) -> Result<(), Fault> {
    match value {
        Value::Null => Ok(()),
        Value::Object(properties) => properties.iter().try_for_each(|(name, value)| {
            draft.set_property(name, &scalar(&format!("properties.{name}"), value)?)
        }),
        _ => Err(Fault::new(FIELD_TYPE, "properties", "needs an object of names and values")),
    }
}

/// Finds a key that an object has twice, or one within it.
///
/// # Errors
/// With that key.
pub fn check_repeats(fields: &Fields) -> Result<(), Fault> {
    let mut seen = HashSet::with_capacity(fields.0.len());
    for (name, _) in &fields.0 {
        if !seen.insert(name.as_str()) {
            return Err(Fault::new(FIELD_REPEATED, name, "the object has this key twice"));
        }
    }
    if let Some(name) = &fields.1 {
        return Err(Fault::new(FIELD_REPEATED, name, "the object has this key twice"));
    }
    Ok(())
}

fn unknown(name: &str) -> Fault {
    let hint = match Field::suggest(name) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "free fields belong into `properties`".to_owned(),
    };
    Fault::new(FIELD_UNKNOWN, name, format_args!("unknown field; {hint}"))
}
