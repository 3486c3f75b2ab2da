//! What the demo tells: totals, a few bills, one line explained, the comparison, what to do next.

use std::fmt::Write;

use pricing::document::{DocumentLine, InvoiceDocument};
use serde_json::json;

use super::Findings;
use crate::output::{self, Answer, counted};

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

/// The line with the greatest amount, by exact comparison.
fn dearest(bill: &InvoiceDocument) -> Option<&DocumentLine> {
    bill.lines().iter().max_by_key(|line| line.amount.amount())
}

fn text(text: Option<&String>) -> &str {
    text.map_or("", String::as_str)
}

fn write_bill(bill: &InvoiceDocument, out: &mut String) -> std::fmt::Result {
    const SHOWN: usize = 4;
    let lines = bill.lines();
    writeln!(
        out,
        "   {}  {} {}   {}, {} unpriced",
        bill.tenant(),
        bill.total(),
        bill.currency(),
        counted(lines.len(), "line"),
        bill.unpriced().len()
    )?;
    for line in lines.iter().take(SHOWN) {
        writeln!(
            out,
            "     {:<18} {:>18} {:<14} {:>22}",
            text(line.product_sku.as_ref()),
            line.quantity.map_or_else(String::new, |quantity| quantity.to_string()),
            text(line.use_unity.as_ref()),
            line.amount.to_string()
        )?;
    }
    if lines.len() > SHOWN {
        writeln!(out, "     and {} more", lines.len() - SHOWN)?;
    }
    writeln!(out)
}

fn write_line(line: &DocumentLine, out: &mut String) -> std::fmt::Result {
    let dimensions = line.dimensions.as_ref().map(output::json).unwrap_or_default();
    let sku = text(line.product_sku.as_ref());
    writeln!(out, "   {sku} {dimensions} = {}", line.amount)?;
    if let Some(price) = &line.price {
        writeln!(
            out,
            "   price      {} of catalogue {}, valid from {}",
            text(line.model.as_ref()),
            price.catalogue,
            price.valid_from
        )?;
    }
    for step in &line.detail {
        let facts = output::facts(step).into_iter().filter(|(key, _)| key != "step");
        let facts: Vec<String> = facts.map(|(key, value)| format!("{key} {value}")).collect();
        writeln!(out, "   {:<10} {}", step.as_str(), facts.join(", "))?;
    }
    for hour in line.hours.iter().flatten() {
        let (start, sum) = (hour.window_start, hour.sum);
        writeln!(out, "   hour       {start}: {}, {sum}", counted(hour.count, "pulse"))?;
        for part in &hour.segments {
            let last = part.offset_last.map_or_else(String::new, |last| format!(" to {last}"));
            writeln!(
                out,
                "     from     log {}, partition {}, offsets {}{last}",
                &part.log_id.to_string()[..8],
                part.partition,
                part.segment_start,
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
        writeln!(out, "   pulso bill preview --tenant {} --period 2024-09", bill.tenant())?;
    }
    writeln!(out, "   pulso audit")
}
