//! JSON objects, field by field: numbers keep their digits, and a repeated key is seen.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

use super::row::{Draft, FIELD_REPEATED, FIELD_TYPE, FIELD_UNKNOWN, Fault, Field};

/// The fields of an object in their order, repeated ones too.
#[derive(Debug)]
pub struct Fields(pub Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields, M::Error> {
                let mut fields = Vec::with_capacity(8);
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Collect)
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

/// Finds a key that an object has twice.
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
    Ok(())
}

fn unknown(name: &str) -> Fault {
    let hint = match Field::suggest(name) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "free fields belong into `properties`".to_owned(),
    };
    Fault::new(FIELD_UNKNOWN, name, format_args!("unknown field; {hint}"))
}
