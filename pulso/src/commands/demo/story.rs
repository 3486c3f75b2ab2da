//! What the demo tells: totals, a few bills, one line explained, the comparison, what to do next.

use std::fmt::Write;

use serde_json::{Value, json};

use super::Findings;
use crate::output::{Answer, counted};

/// The text behind a JSON value that is a string; empty for anything else.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The same findings for a program.
pub(super) fn answer(found: &Findings) -> Answer {
    let comparison = &found.comparison;
    let document = json!({
        "sample": found.sample.display().to_string(),
        "accepted": found.accepted.to_string(),
        "pulses_per_second": rate(found),
        "prices": found.imported.prices,
        "rows_compared": comparison.rows_compared,
        "lines_compared": comparison.lines_compared,
        "differences": comparison.differences.len(),
        "list_cost": comparison.list_cost.to_string(),
        "rated": comparison.rated.to_string(),
        "data_dir": found.data_dir.display().to_string(),
        "bills": found.bills,
    });
    Answer::single(document, &["accepted", "pulses_per_second", "rows_compared", "differences"])
}

#[allow(clippy::float_arithmetic, clippy::cast_precision_loss)] // A rate, not an amount.
fn rate(found: &Findings) -> f64 {
    (found.accepted as f64 / found.took.as_secs_f64()).round()
}

/// The findings as a person reads them.
pub(super) fn tell(found: &Findings) -> String {
    let mut out = String::new();
    write_story(found, &mut out).expect("a String takes all");
    out
}

fn write_story(found: &Findings, out: &mut String) -> std::fmt::Result {
    let counts = &found.counts;
    writeln!(
        out,
        "\n1. Usage: {} rows of real cloud usage (FOCUS 1.0 sample data set,",
        found.accepted
    )?;
    writeln!(
        out,
        "   FinOps Foundation, CC BY 4.0) went through IngestStream, log, drain and lanes"
    )?;
    writeln!(
        out,
        "   into final totals in {:.0?}: {:.0} pulses/s, start-up of the path included.",
        found.took,
        rate(found)
    )?;
    writeln!(
        out,
        "   {} read = {} control + {} accepted + {} duplicate + {} late + {} dead-lettered",
        counts.read,
        counts.control,
        counts.accepted,
        counts.duplicate,
        counts.late,
        counts.dead_lettered
    )?;
    let imported = &found.imported;
    writeln!(
        out,
        "\n2. Prices: {} SKUs with {} prices, imported from the same file, published as one",
        imported.skus, imported.prices
    )?;
    writeln!(out, "   immutable version; {} tests of its own passed.", imported.tests)?;
    writeln!(out, "\n3. Bills: {} tenants; the {} greatest:\n", found.tenants, found.bills.len())?;
    for bill in &found.bills {
        write_bill(bill, out)?;
    }
    if let Some(line) = found.bills.first().and_then(|bill| dearest(bill)) {
        writeln!(out, "4. Why: the dearest line of the first bill\n")?;
        write_line(line, out)?;
    }
    write_comparison(found, out)?;
    write_next(found, out)
}

fn lines(bill: &Value) -> &[Value] {
    bill["lines"].as_array().map_or(&[], Vec::as_slice)
}

/// The line with the greatest amount, by exact comparison.
fn dearest(bill: &Value) -> Option<&Value> {
    let amount = |line: &&Value| text(&line["amount"]).parse::<pricing::Amount>().ok();
    lines(bill).iter().max_by_key(amount)
}

fn write_bill(bill: &Value, out: &mut String) -> std::fmt::Result {
    const SHOWN: usize = 4;
    writeln!(
        out,
        "   {}  {} {}   {}, {} unpriced",
        text(&bill["tenant"]),
        text(&bill["total"]),
        text(&bill["currency"]),
        counted(lines(bill).len(), "line"),
        bill["unpriced"].as_array().map_or(0, Vec::len)
    )?;
    for line in lines(bill).iter().take(SHOWN) {
        writeln!(
            out,
            "     {:<18} {:>18} {:<14} {:>22}",
            text(&line["product_sku"]),
            text(&line["quantity"]),
            text(&line["use_unity"]),
            text(&line["amount"])
        )?;
    }
    if lines(bill).len() > SHOWN {
        writeln!(out, "     and {} more", lines(bill).len() - SHOWN)?;
    }
    writeln!(out)
}

fn write_line(line: &Value, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "   {} {} = {}",
        text(&line["product_sku"]),
        line["dimensions"],
        text(&line["amount"])
    )?;
    let price = &line["price"];
    writeln!(
        out,
        "   price      {} of catalogue {}, valid from {}",
        text(&line["model"]),
        text(&price["catalogue"]),
        text(&price["valid_from"])
    )?;
    for step in line["detail"].as_array().into_iter().flatten() {
        let parts = step.as_object().into_iter().flatten().filter(|(key, _)| *key != "step");
        let parts: Vec<String> = parts
            .map(|(key, value)| match value {
                Value::String(text) => format!("{key} {text}"),
                other => format!("{key} {other}"),
            })
            .collect();
        writeln!(out, "   {:<10} {}", text(&step["step"]), parts.join(", "))?;
    }
    for hour in line["hours"].as_array().into_iter().flatten() {
        writeln!(
            out,
            "   hour       {}: {}, {}",
            text(&hour["window_start"]),
            counted(text(&hour["count"]), "pulse"),
            text(&hour["sum"])
        )?;
        for part in hour["segments"].as_array().into_iter().flatten() {
            writeln!(
                out,
                "     from     log {}, partition {}, offsets {} to {}",
                text(&part["log_id"]).get(..8).unwrap_or_default(),
                part["partition"],
                text(&part["segment_start"]),
                text(&part["offset_last"])
            )?;
        }
    }
    Ok(())
}

fn write_comparison(found: &Findings, out: &mut String) -> std::fmt::Result {
    let comparison = &found.comparison;
    writeln!(
        out,
        "\n5. The provider's own ListCost against ours, hour line by hour line, within 1e-8:"
    )?;
    writeln!(
        out,
        "   {} rows in {} hour lines compared, {} differ; {} against {}",
        comparison.rows_compared,
        comparison.lines_compared,
        comparison.differences.len(),
        comparison.list_cost,
        comparison.rated
    )?;
    for (reason, rows) in &comparison.rows_not_compared {
        writeln!(out, "   {} not compared: {}", counted(rows, "row"), reason.reason())?;
    }
    for difference in comparison.differences.iter().take(5) {
        writeln!(out, "   differs: {difference:?}")?;
    }
    Ok(())
}

fn write_next(found: &Findings, out: &mut String) -> std::fmt::Result {
    let directory = found.data_dir.display();
    writeln!(out, "\n6. What is kept:")?;
    for (what, at) in &found.kept {
        writeln!(out, "   {what:<20} {at}")?;
    }
    writeln!(out, "\nNext, on the same data:")?;
    writeln!(out, "   pulso dev --data-dir {directory}")?;
    writeln!(out, "and in another terminal:")?;
    writeln!(out, "   pulso status")?;
    writeln!(
        out,
        "   pulso query usage --from 2024-09 --to 2024-10 --window P1M --group-by tenant"
    )?;
    if let Some(bill) = found.bills.first() {
        writeln!(out, "   pulso bill preview --tenant {} --period 2024-09", text(&bill["tenant"]))?;
    }
    writeln!(out, "   pulso audit")
}
