//! Picture: a comparison as SVG, to be looked at: how many tenants change by how much, and the ten
//! whose bill changes most.
//!
//! Whole numbers only: places are pixels, changes are thousandths.

use pricing::simulate::{Simulation, TenantChange};

use super::markup::{escaped, push};

/// Edges of the histogram in thousandths of the old amount; the outer ones reach without end.
const EDGES: [i64; 10] = [-500, -200, -100, -50, 0, 1, 50, 100, 200, 500];
const LABELS: [&str; 11] = [
    "below -50%",
    "-50 to -20%",
    "-20 to -10%",
    "-10 to -5%",
    "-5 to 0%",
    "no change",
    "0 to 5%",
    "5 to 10%",
    "10 to 20%",
    "20 to 50%",
    "50% and more",
];
const WIDTH: i64 = 880;
const ROW: i64 = 24;
const LEFT: i64 = 220;
const BAR: i64 = 480;

/// Draws a comparison.
#[must_use]
pub fn svg(simulation: &Simulation) -> String {
    let tenants = &simulation.tenants;
    let mut histogram = [0i64; LABELS.len()];
    let mut without_before = 0;
    for tenant in tenants {
        match tenant.change_permille {
            Some(permille) => histogram[bucket(permille)] += 1,
            None => without_before += 1,
        }
    }
    let affected = most_affected(tenants);
    let height = 150 + ROW * (LABELS.len() as i64 + affected.len() as i64 + 2);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#1a1a1a\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let with = match simulation.contracts.as_slice() {
        [] => String::new(),
        [only] => format!(" with {only}"),
        several => format!(" with {} contracts", several.len()),
    };
    let title = format!(
        "Catalogue {}{with} against {}, usage of {}",
        simulation.new_catalogue, simulation.old_catalogue, simulation.period
    );
    label(&mut svg, 20, 30, "start", "bold", &title);
    label(&mut svg, 20, 60, "start", "normal", "Tenants by change of their bill");
    let most = histogram.iter().copied().max().unwrap_or(0).max(1);
    let mut y = 84;
    for (name, count) in LABELS.iter().zip(histogram) {
        row(&mut svg, y, name, count * BAR / most, colour(name), &count.to_string());
        y += ROW;
    }
    if without_before > 0 {
        let words = format!("{without_before} tenants paid nothing before");
        label(&mut svg, LEFT, y, "start", "normal", &words);
    }
    y += 2 * ROW;
    label(&mut svg, 20, y, "start", "normal", "The ten bills that change most");
    y += ROW;
    let most = affected.iter().map(|(_, magnitude, _)| *magnitude).max().unwrap_or(1).max(1);
    for (tenant, magnitude, words) in &affected {
        let colour = if words.starts_with('-') { "#2b7a3d" } else { "#b3541e" };
        row(&mut svg, y, tenant, magnitude * BAR / most, colour, words);
        y += ROW;
    }
    svg.push_str("</svg>\n");
    svg
}

fn bucket(permille: i64) -> usize {
    match permille {
        0 => 5,
        negative if negative < 0 => {
            EDGES[..5].iter().position(|edge| negative < *edge).unwrap_or(4)
        }
        positive => 6 + EDGES[6..].iter().filter(|edge| positive >= **edge).count(),
    }
}

fn colour(name: &str) -> &'static str {
    match name {
        "no change" => "#888",
        name if name.starts_with('-') || name.starts_with("below") => "#2b7a3d",
        _ => "#b3541e",
    }
}

/// Name, magnitude for the bar, and words, of the ten with the greatest difference.
fn most_affected(tenants: &[TenantChange]) -> Vec<(String, i64, String)> {
    let affected = tenants.iter().map(|tenant| {
        let difference = tenant.difference.to_string();
        // Whole hundredths are fine enough for a bar.
        let (whole, fraction) = difference.split_once('.').unwrap_or((&difference, ""));
        let digits: String = format!("{}{fraction:0<2.2}", whole.trim_start_matches('-'));
        let magnitude: i64 = digits.parse().unwrap_or(i64::MAX / BAR / 2);
        let magnitude = magnitude.min(i64::MAX / BAR / 2);
        (shortened(&tenant.tenant), magnitude, format!("{difference} {}", tenant.currency))
    });
    let mut affected: Vec<_> = affected.filter(|(_, magnitude, _)| *magnitude > 0).collect();
    affected.sort_by(|one, other| (other.1, &one.0).cmp(&(one.1, &other.0)));
    affected.truncate(10);
    affected
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= 28 {
        return name.to_owned();
    }
    let start: String = name.chars().take(27).collect();
    format!("{start}…")
}

fn row(svg: &mut String, y: i64, name: &str, width: i64, colour: &str, words: &str) {
    label(svg, LEFT - 10, y, "end", "normal", name);
    let (top, width) = (y - 13, width.max(1));
    push(
        svg,
        format_args!(
            "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" height=\"16\" fill=\"{colour}\"/>\n"
        ),
    );
    label(svg, LEFT + width + 8, y, "start", "normal", words);
}

fn label(svg: &mut String, x: i64, y: i64, anchor: &str, weight: &str, words: &str) {
    let words = escaped(words);
    push(
        svg,
        format_args!(
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" font-weight=\"{weight}\">{words}</text>\n"
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_falls_into_the_bucket_that_its_label_names() {
        for (permille, label) in [
            (-1_000, "below -50%"),
            (-501, "below -50%"),
            (-500, "-50 to -20%"),
            (-200, "-20 to -10%"),
            (-100, "-10 to -5%"),
            (-50, "-5 to 0%"),
            (-1, "-5 to 0%"),
            (0, "no change"),
            (1, "0 to 5%"),
            (49, "0 to 5%"),
            (50, "5 to 10%"),
            (199, "10 to 20%"),
            (499, "20 to 50%"),
            (500, "50% and more"),
        ] {
            assert_eq!(LABELS[bucket(permille)], label, "{permille}");
        }
    }
}
