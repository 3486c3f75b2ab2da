//! The page at `/`: every described address of this process, with links to those that can be asked as
//! they are.

use std::fmt::Write as _;

use axum::response::Html;
use serde_json::{Map, Value};
use utoipa::openapi::OpenApi;

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>Pulso</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
  @media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818; } a { color: #8cf; } }
  code { font: 14px ui-monospace, monospace; }
  dt { margin-top: .8rem; }
  dd { margin: 0; }
</style>
<h1>Pulso</h1>
<p>Meters usage and turns it into money. These are the addresses of the stages that run here;
<a href=\"/openapi.json\">/openapi.json</a> describes them for machines.</p>
";

/// The page of what is described.
pub(super) fn page(description: &OpenApi) -> Html<String> {
    let description = serde_json::to_value(description).unwrap_or_default();
    let mut page = HEAD.to_owned();
    for tag in list(&description["tags"]) {
        let (name, meaning) = (text(&tag["name"]), text(&tag["description"]));
        let _ = writeln!(page, "<h2>{}</h2>\n<p>{}</p>\n<dl>", escaped(name), escaped(meaning));
        for (path, item) in map(&description["paths"]) {
            for (method, operation) in map(item) {
                if list(&operation["tags"]).iter().any(|tag| tag == name) {
                    entry(&mut page, (method, path), operation);
                }
            }
        }
        page.push_str("</dl>\n");
    }
    page.push_str("</html>\n");
    Html(page)
}

fn entry(page: &mut String, (method, path): (&str, &str), operation: &Value) {
    let address = format!("<code>{} {}</code>", method.to_uppercase(), escaped(path));
    let address = match example(path, operation).filter(|_| method == "get") {
        Some(example) => format!("<a href=\"{}\">{address}</a>", escaped(&example)),
        None => address,
    };
    let _ = write!(page, "<dt>{address}</dt>\n<dd>{}", escaped(text(&operation["summary"])));
    let names = list(&operation["parameters"]).iter().filter(|parameter| is_query(parameter));
    for (place, parameter) in names.enumerate() {
        let before = if place == 0 { " " } else { ", " };
        let _ = write!(page, "{before}<code>{}</code>", escaped(text(&parameter["name"])));
    }
    page.push_str("</dd>\n");
}

/// An address that answers as it is: the required parameters with their examples.
fn example(path: &str, operation: &Value) -> Option<String> {
    let mut address = path.to_owned();
    for parameter in list(&operation["parameters"]) {
        if parameter["required"] != true {
            continue;
        }
        let value = parameter["example"].as_str().filter(|_| is_query(parameter))?;
        let joint = if address.contains('?') { '&' } else { '?' };
        let _ = write!(address, "{joint}{}={value}", text(&parameter["name"]));
    }
    Some(address)
}

fn is_query(parameter: &Value) -> bool {
    parameter["in"] == "query"
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn map(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter).map(|(name, value)| (name.as_str(), value))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_description_is_no_markup() {
        assert_eq!(escaped("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
