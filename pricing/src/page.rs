//! Page: an invoice as one HTML page that stands by itself, for a browser and for printing.

use serde_json::Value;

/// Draws an invoice: what `pulso invoice get -o json` prints. Every text is escaped.
#[must_use]
pub fn html(invoice: &Value) -> String {
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => escaped(text),
        other => escaped(&other.to_string()),
    };
    let kind = match invoice["document"].as_str() {
        Some("delta") => "Adjustment",
        Some("credit_note") => "Credit note",
        _ => "Invoice",
    };
    let title = format!("{kind} {}", text(&invoice["number"]));
    let period = &invoice["period"];
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<header><h1>{title}</h1>"
    );
    if invoice["state"] == "void" {
        page.push_str(&format!("<p class=\"void\">Void: {}</p>", text(&invoice["void_reason"])));
    }
    if let Some(reason) = invoice["reason"].as_str() {
        let of = text(&invoice["corrects"]);
        page.push_str(&format!("<p>Of {of}: {}</p>", escaped(reason)));
    }
    page.push_str("</header>\n<dl>\n");
    let facts = [
        ("Customer", text(&invoice["tenant"])),
        ("Issued", text(&invoice["issued_at"])),
        (
            "Service period",
            format!(
                "{} to {} ({})",
                text(&period["first_day"]),
                text(&period["last_day"]),
                text(&period["time_zone"])
            ),
        ),
        ("Payment", format!("within {} days", text(&invoice["payment_term_days"]))),
    ];
    for (name, value) in facts {
        page.push_str(&format!("<dt>{name}</dt><dd>{value}</dd>\n"));
    }
    page.push_str("</dl>\n<table>\n<thead><tr><th>Item</th><th>Details</th><th class=\"n\">Quantity</th><th class=\"n\">Amount</th></tr></thead>\n<tbody>\n");
    for line in invoice["lines"].as_array().into_iter().flatten() {
        page.push_str(&row(line, text));
    }
    page.push_str("</tbody>\n<tfoot>\n");
    let currency = text(&invoice["currency"]);
    page.push_str(&sum("Total", &text(&invoice["total"]), &currency));
    for payment in invoice["payments"].as_array().into_iter().flatten() {
        let name = format!("Prepaid credit {}", text(&payment["credit"]));
        page.push_str(&sum(&name, &format!("-{}", text(&payment["amount"])), &currency));
    }
    page.push_str(&sum("Due", &text(&invoice["due"]), &currency));
    page.push_str("</tfoot>\n</table>\n");
    let waiting = invoice["unpriced"].as_array().map_or(0, Vec::len);
    if waiting > 0 {
        page.push_str(&format!(
            "<p>{waiting} resources were used that have no price yet; they follow in an adjustment.</p>\n"
        ));
    }
    page.push_str(&format!(
        "<footer>Document {}</footer>\n</body>\n</html>\n",
        text(&invoice["digest"])
    ));
    page
}

fn row(line: &Value, text: impl Fn(&Value) -> String) -> String {
    let sku = text(&line["product_sku"]);
    let name = text(&line["name"]);
    let item = match (name.is_empty(), sku.is_empty()) {
        (false, false) => format!("{name}<br><small>{sku}</small>"),
        (false, true) => name,
        (true, _) => sku,
    };
    let dimensions = line["dimensions"].as_object().into_iter().flatten();
    let mut details: Vec<String> =
        dimensions.map(|(name, value)| format!("{}: {}", escaped(name), text(value))).collect();
    for step in line["detail"].as_array().into_iter().flatten() {
        if let Some(words) = words(step, &text) {
            details.push(words);
        }
    }
    let unit = text(&line["use_unity"]);
    let quantity = match line["quantity"].as_str() {
        Some("0") | None => String::new(),
        Some(quantity) => format!("{} {unit}", escaped(quantity)),
    };
    format!(
        "<tr><td>{item}</td><td>{}</td><td class=\"n\">{quantity}</td><td class=\"n\">{}</td></tr>\n",
        details.join("<br>"),
        text(&line["amount"])
    )
}

/// A step in words, for those that a customer asks about.
fn words(step: &Value, text: &impl Fn(&Value) -> String) -> Option<String> {
    let of = |key: &str| text(&step[key]);
    Some(match step["step"].as_str()? {
        "units" => format!("{} × {}", of("quantity"), of("unit_price")),
        "tier" => format!("tier {}: {} × {}", of("tier"), of("quantity"), of("unit_price")),
        "tier_fee" => format!("fee of tier {}: {}", of("tier"), of("amount")),
        "packages" => format!("{} packages × {}", of("packages"), of("package_price")),
        "rate" | "rate_tier" => format!("{} × {}", of("quantity"), of("rate")),
        "free_units" => format!("{} free", of("used")),
        "proration" => format!("{} of {} days", of("days"), of("of")),
        "discount" => format!("discount {}: {}", of("name"), of("amount")),
        "exchange" => format!("from {} at {}", of("from"), of("rate")),
        "minimum" => format!("to the minimum of {}", of("bound")),
        "maximum" => format!("to the maximum of {}", of("bound")),
        "shortfall" => format!("committed {}, used {}", of("committed"), of("spent")),
        "overage" => format!("{} beyond {}, × {}", of("beyond"), of("committed"), of("factor")),
        "tax" => format!("{} of {}", of("rate"), of("base")),
        "invoiced_before" => format!("invoiced before: {}", of("amount")),
        _ => return None,
    })
}

fn sum(name: &str, amount: &str, currency: &str) -> String {
    format!("<tr><th colspan=\"3\">{name}</th><td class=\"n\">{amount} {currency}</td></tr>\n")
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

const STYLE: &str = "
body{font:14px/1.5 system-ui,sans-serif;color:#1a1a1a;max-width:52rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 1rem}
dl{display:grid;grid-template-columns:10rem 1fr;gap:.25rem 1rem;margin:0 0 1.5rem}
dt{color:#666}dd{margin:0;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.4rem .5rem;border-bottom:1px solid #ddd;overflow-wrap:anywhere}
td small{color:#666}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tfoot th{text-align:right}tfoot tr:last-child>*{font-weight:700;border-bottom:2px solid #1a1a1a}
.void{color:#a00;font-weight:700}
footer{margin-top:2rem;color:#666;font-size:.8rem;overflow-wrap:anywhere}
thead{display:table-header-group}tr{break-inside:avoid}
@media print{body{margin:0;max-width:none}@page{margin:18mm}}
";
