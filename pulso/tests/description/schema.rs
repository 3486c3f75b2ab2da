//! Checks a document against a schema of the description: in the words that descriptions use, and in no
//! others, so that no word passes unread. Keys that a schema does not name are mistakes here, though
//! clients ignore them.

use serde_json::{Map, Value};

/// Says what of each document is not as its schema has it.
pub(super) struct Schemas<'a> {
    components: &'a Value,
}

/// Words that say nothing about which documents are right, or that `redocly lint` checks on examples.
const UNREAD: [&str; 6] = ["description", "example", "examples", "default", "pattern", "title"];

impl<'a> Schemas<'a> {
    pub(super) fn of(description: &'a Value) -> Self {
        Self { components: &description["components"]["schemas"] }
    }

    /// The mistakes, each with its place.
    pub(super) fn mistakes(&self, schema: &Value, document: &Value) -> Vec<String> {
        let mut mistakes = Vec::new();
        self.check(schema, document, "", &mut mistakes);
        self.check_keys(schema, document, "", &mut mistakes);
        mistakes
    }

    fn resolved<'s>(&'s self, schema: &'s Value) -> &'s Value {
        match schema["$ref"].as_str() {
            Some(reference) => {
                let name = reference.strip_prefix("#/components/schemas/").unwrap();
                let found = &self.components[name];
                assert!(found.is_object(), "{reference} is not there");
                self.resolved(found)
            }
            None => schema,
        }
    }

    fn check(&self, schema: &Value, document: &Value, at: &str, mistakes: &mut Vec<String>) {
        let schema = self.resolved(schema).as_object().unwrap();
        for (word, value) in schema {
            let is_right = match word.as_str() {
                "type" => is_of_type(value, document),
                "enum" => value.as_array().unwrap().contains(document),
                "const" => value == document,
                "format" => is_of_format(value.as_str().unwrap(), document),
                "minimum" => number(document).is_none_or(|found| found >= number(value).unwrap()),
                "maximum" => number(document).is_none_or(|found| found <= number(value).unwrap()),
                "minLength" => length(document).is_none_or(|found| found >= bound(value)),
                "maxLength" => length(document).is_none_or(|found| found <= bound(value)),
                "uniqueItems" => document.as_array().is_none_or(|items| are_distinct(items)),
                "minItems" => document.as_array().is_none_or(|items| items.len() >= bound(value)),
                "required" => names(value).all(|name| document.get(name).is_some()),
                "oneOf" => self.matching(value, document, at) == 1,
                "anyOf" => self.matching(value, document, at) > 0,
                "allOf" => {
                    let all = value.as_array().unwrap();
                    all.iter().for_each(|part| self.check(part, document, at, mistakes));
                    true
                }
                "items" => {
                    for (place, item) in document.as_array().into_iter().flatten().enumerate() {
                        self.check(value, item, &format!("{at}[{place}]"), mistakes);
                    }
                    true
                }
                "properties" => {
                    for (name, property) in value.as_object().unwrap() {
                        if let Some(found) = document.get(name) {
                            self.check(property, found, &format!("{at}.{name}"), mistakes);
                        }
                    }
                    true
                }
                "additionalProperties" | "propertyNames" => true,
                word => {
                    assert!(UNREAD.contains(&word), "{at}: this check does not know `{word}`");
                    true
                }
            };
            if !is_right {
                mistakes.push(format!("{at}: {document} is not {word} {value}"));
            }
        }
    }

    fn matching(&self, alternatives: &Value, document: &Value, at: &str) -> usize {
        let alternatives = alternatives.as_array().unwrap().iter();
        alternatives
            .filter(|schema| {
                let mut mistakes = Vec::new();
                self.check(schema, document, at, &mut mistakes);
                mistakes.is_empty()
            })
            .count()
    }

    /// Every key of a document is described, or its value by `additionalProperties`.
    fn check_keys(&self, schema: &Value, document: &Value, at: &str, mistakes: &mut Vec<String>) {
        match document {
            Value::Object(members) => {
                let (mut properties, mut others) = (Map::new(), None);
                self.collect(schema, document, &mut properties, &mut others);
                // A schema without properties is of any object.
                let is_any = properties.is_empty() && others.is_none();
                for (name, value) in members {
                    let at = format!("{at}.{name}");
                    match (properties.get(name), &others) {
                        (Some(property), _) => self.check_keys(property, value, &at, mistakes),
                        (None, Some(Value::Object(_))) => {
                            let schema = others.as_ref().unwrap();
                            self.check(schema, value, &at, mistakes);
                            self.check_keys(schema, value, &at, mistakes);
                        }
                        (None, _) if is_any => {}
                        (None, _) => mistakes.push(format!("{at} is not described")),
                    }
                }
            }
            Value::Array(items) => {
                let schema = self.alternative(schema, document);
                for (place, item) in items.iter().enumerate() {
                    self.check_keys(&schema["items"], item, &format!("{at}[{place}]"), mistakes);
                }
            }
            _ => {}
        }
    }

    /// The schema itself, or the first of its alternatives that the document is right by.
    fn alternative<'s>(&'s self, schema: &'s Value, document: &Value) -> &'s Value {
        let schema = self.resolved(schema);
        let alternatives = ["oneOf", "anyOf"].map(|word| schema[word].as_array());
        let mut alternatives = alternatives.into_iter().flatten().flatten();
        let is_right = |schema: &&Value| {
            let mut mistakes = Vec::new();
            self.check(schema, document, "", &mut mistakes);
            mistakes.is_empty()
        };
        alternatives.find(is_right).map_or(schema, |found| self.alternative(found, document))
    }

    /// The properties of a schema with those of its parts and of the alternative that fits.
    fn collect(
        &self,
        schema: &Value,
        document: &Value,
        properties: &mut Map<String, Value>,
        others: &mut Option<Value>,
    ) {
        let schema = self.resolved(schema);
        properties.extend(schema["properties"].as_object().cloned().unwrap_or_default());
        if let Some(schema) = schema.get("additionalProperties") {
            *others = Some(schema.clone());
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.collect(part, document, properties, others);
        }
        let chosen = self.alternative(schema, document);
        if !std::ptr::eq(chosen, schema) {
            self.collect(chosen, document, properties, others);
        }
    }
}

fn is_of_type(wanted: &Value, document: &Value) -> bool {
    if let Some(any) = wanted.as_array() {
        return any.iter().any(|one| is_of_type(one, document));
    }
    match wanted.as_str().unwrap() {
        "null" => document.is_null(),
        "boolean" => document.is_boolean(),
        "string" => document.is_string(),
        "integer" => document.is_i64() || document.is_u64(),
        "number" => document.is_number(),
        "array" => document.is_array(),
        "object" => document.is_object(),
        other => panic!("no type is called {other}"),
    }
}

fn is_of_format(format: &str, document: &Value) -> bool {
    match (format, document.as_str()) {
        ("date-time", Some(text)) => text.parse::<jiff::Timestamp>().is_ok(),
        ("date-time" | "int32" | "int64" | "binary", _) => true,
        _ => panic!("this check does not know the format {format}"),
    }
}

fn are_distinct(items: &[Value]) -> bool {
    items.iter().enumerate().all(|(place, item)| !items[..place].contains(item))
}

fn number(value: &Value) -> Option<i128> {
    value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))
}

fn length(value: &Value) -> Option<usize> {
    value.as_str().map(|text| text.chars().count())
}

fn bound(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn names(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().unwrap().iter().map(|name| name.as_str().unwrap())
}

#[test]
fn what_a_schema_does_not_say_is_a_mistake() {
    let description = serde_json::json!({"components": {"schemas": {
        "Head": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
        "Whole": {"allOf": [
            {"$ref": "#/components/schemas/Head"},
            {"type": "object", "properties": {
                "at": {"type": ["string", "null"], "format": "date-time"},
                "sums": {"type": "array", "items": {"type": "integer", "minimum": 1}},
                "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                "of": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Head"}]},
            }},
        ]},
    }}});
    let schemas = Schemas::of(&description);
    let whole = serde_json::json!({"$ref": "#/components/schemas/Whole"});
    for (document, mistakes) in [
        (r#"{"name": "a", "at": "2024-09-01T00:00:00Z", "sums": [1, 2], "tags": {"x": "y"}}"#, 0),
        (r#"{"name": "a", "at": null, "of": {"name": "b"}}"#, 0),
        (r#"{"at": null}"#, 1),
        (r#"{"name": 1}"#, 1),
        (r#"{"name": "a", "at": "yesterday"}"#, 1),
        (r#"{"name": "a", "sums": [0, "1"]}"#, 2),
        (r#"{"name": "a", "tags": {"x": 1}}"#, 1),
        (r#"{"name": "a", "of": {"name": "b", "more": 1}}"#, 1),
        (r#"{"name": "a", "more": 1}"#, 1),
    ] {
        let found = schemas.mistakes(&whole, &serde_json::from_str(document).unwrap());
        assert_eq!(found.len(), mistakes, "{document}: {found:?}");
    }
}
