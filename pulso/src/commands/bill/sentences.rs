//! What came of a billing run, and what is due, in sentences: each says how much, and ends with the next
//! command to type where there is one.

use proto::v1::{DueMonth, DueTenant, ListDuePeriodsResponse, Run, RunFailure, RunTotal};

use crate::output::counted;

/// Tenants that a command is written out for; with more it is for all.
const TENANTS_NAMED_MAX: usize = 3;
/// Tenants of a month that `bill status` names with why they were not billed.
const DUE_NAMED_MAX: usize = 10;

/// What came of a run.
pub(super) fn of_run(run: &Run) -> Vec<String> {
    let outcomes = run.outcomes.unwrap_or_default();
    let (again, deltas) = (command(run, ""), command(run, " --deltas"));
    let mut said = Vec::new();
    let mut say = |count: u64, sentence: String| said.extend((count > 0).then_some(sentence));
    say(
        outcomes.invoices,
        format!(
            "{}{}; `pulso invoice list` shows them",
            counted(outcomes.invoices, "new invoice"),
            totals(run, |total| &total.invoices)
        ),
    );
    say(
        outcomes.deltas,
        format!(
            "{}{}; `pulso invoice list` shows them",
            match outcomes.deltas {
                1 => "1 new delta or reversal".to_owned(),
                more => format!("{more} new deltas and reversals"),
            },
            totals(run, |total| &total.deltas)
        ),
    );
    let had = format!("{} had an invoice before", counted(outcomes.unchanged, "period"));
    say(
        outcomes.unchanged,
        match run.deltas {
            true => format!("{had}, and nothing about it has changed"),
            false => format!("{had}, which stays as it is; {deltas} bills what has changed since"),
        },
    );
    say(
        outcomes.below_threshold,
        format!(
            "{} changed by less than {}, and got no delta; {deltas} bills that too",
            counted(outcomes.below_threshold, "period"),
            run.threshold
        ),
    );
    say(outcomes.empty, format!("{} had nothing to bill", counted(outcomes.empty, "period")));
    say(
        outcomes.not_due,
        format!(
            "{} not been over for billing.grace; once it has, {again} bills it",
            match outcomes.not_due {
                1 => "1 period has".to_owned(),
                more => format!("{more} periods have"),
            }
        ),
    );
    said.extend(waits(run, &again, &deltas));
    if said.is_empty() && run.state.starts_with("closed") {
        said.push(format!("no tenant has a period that begins in {}", run.period));
    }
    if run.state == "open" {
        said.push(format!("`pulso bill status {}` shows how far it is", run.number));
    }
    said
}

/// What was not billed, and why.
fn waits(run: &Run, again: &str, deltas: &str) -> Vec<String> {
    let outcomes = run.outcomes.unwrap_or_default();
    let mut said = Vec::new();
    let name = |RunFailure { tenant, message }: &RunFailure| format!("{tenant}: {message}");
    said.extend(run.failures.iter().map(name));
    if outcomes.failed > 0 {
        let more = not_listed(outcomes.failed, run.failures.len());
        let failed: Vec<String> = run.failures.iter().map(|said| said.tenant.clone()).collect();
        let again = match more.is_empty() {
            true => command_of(&run.period, &failed, if run.deltas { " --deltas" } else { "" }),
            false => again.to_owned(),
        };
        said.push(format!(
            "could not be billed and stay due: {}{more}; mend the cause, then {again}",
            counted(outcomes.failed, "tenant")
        ));
    }
    said.extend(run.blocked.iter().map(name));
    if outcomes.blocked > 0 {
        let more = not_listed(outcomes.blocked, run.blocked.len());
        said.push(format!(
            "periods that wait for a run for deltas: {}{more} (docs/contracts.md, at the edges)",
            outcomes.blocked
        ));
    }
    if outcomes.unpriced > 0 {
        said.push(format!(
            "resources that wait for a price: {}; once a catalogue that is in effect at their hours has it, {deltas} bills them",
            outcomes.unpriced
        ));
    }
    if outcomes.uncovered > 0 {
        said.push(format!(
            "resources in use while no contract of their tenant held, on no invoice: {} (docs/contracts.md \
             says how they come to be billed)",
            outcomes.uncovered
        ));
    }
    said
}

fn not_listed(all: u64, listed: usize) -> String {
    match all.saturating_sub(listed as u64) {
        0 => String::new(),
        more => format!(" ({more} not listed)"),
    }
}

/// The amounts of each currency, after a colon.
fn totals(run: &Run, amount: impl Fn(&RunTotal) -> &String) -> String {
    let of = |total: &RunTotal| format!("{} {}", total.currency, amount(total));
    let amounts: Vec<String> = run.totals.iter().map(of).collect();
    match amounts.is_empty() {
        true => String::new(),
        false => format!(": {}", amounts.join(", ")),
    }
}

/// The command that bills the same month of the same tenants.
fn command(run: &Run, more: &str) -> String {
    command_of(&run.period, &run.tenants, more)
}

/// The command that bills a month of these tenants, or of all where they are many.
fn command_of(period: &str, tenants: &[String], more: &str) -> String {
    let named = if tenants.len() <= TENANTS_NAMED_MAX { tenants } else { &[] };
    let named = named.iter().map(|tenant| format!(" --tenant {}", quoted(tenant)));
    format!("`pulso bill run --period {period}{}{more}`", named.collect::<String>())
}

/// A name as a shell reads it.
fn quoted(name: &str) -> String {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if is_plain { name.to_owned() } else { format!("'{}'", name.replace('\'', r"'\''")) }
}

/// What is due.
pub(super) fn of_due(due: &ListDuePeriodsResponse) -> Vec<String> {
    if due.months.is_empty() {
        return vec![format!("nothing is due that begins in {} or later", due.from)];
    }
    due.months.iter().flat_map(of_month).collect()
}

fn of_month(month: &DueMonth) -> Vec<String> {
    let DueMonth { period, waiting, failed, blocked, tenants } = month;
    let mut parts = Vec::new();
    for (count, one, more) in [
        (waiting, "waits for a run", "wait for a run"),
        (failed, "could not be billed", "could not be billed"),
        (blocked, "is blocked", "are blocked"),
    ] {
        if *count > 0 {
            let does = if *count == 1 { one } else { more };
            parts.push(format!("{} {does}", counted(count, "tenant")));
        }
    }
    let said = tenants.iter().filter(|tenant| !tenant.message.is_empty());
    let named = said
        .take(DUE_NAMED_MAX)
        .map(|DueTenant { tenant, message, .. }| format!("  {tenant}: {message}"));
    let sum = format!(
        "{period} is due: {}; `pulso bill run --period {period}` bills what it can",
        parts.join(", ")
    );
    std::iter::once(sum).chain(named).collect()
}

#[cfg(test)]
mod tests {
    use proto::v1::RunOutcomes;

    use super::*;

    fn run(outcomes: RunOutcomes) -> Run {
        let total = |currency: &str, invoices: &str, deltas: &str| RunTotal {
            currency: currency.to_owned(),
            invoices: invoices.to_owned(),
            deltas: deltas.to_owned(),
        };
        Run {
            number: 7,
            period: "2024-09".to_owned(),
            state: "closed".to_owned(),
            outcomes: Some(outcomes),
            totals: vec![total("BRL", "12.00", "-1.00"), total("USD", "0.50", "0.00")],
            ..Run::default()
        }
    }

    #[test]
    fn each_outcome_is_a_sentence_with_the_next_command() {
        let said = |outcomes| of_run(&run(outcomes));
        let none = RunOutcomes::default;
        assert_eq!(said(none()), ["no tenant has a period that begins in 2024-09"]);
        assert_eq!(
            said(RunOutcomes { invoices: 2, ..none() }),
            ["2 new invoices: BRL 12.00, USD 0.50; `pulso invoice list` shows them"]
        );
        assert_eq!(
            said(RunOutcomes { deltas: 2, ..none() }),
            ["2 new deltas and reversals: BRL -1.00, USD 0.00; `pulso invoice list` shows them"]
        );
        assert_eq!(
            said(RunOutcomes { unchanged: 1, ..none() }),
            [
                "1 period had an invoice before, which stays as it is; `pulso bill run --period 2024-09 \
              --deltas` bills what has changed since"
            ]
        );
        assert_eq!(
            said(RunOutcomes { not_due: 1, empty: 1, ..none() })[1],
            "1 period has not been over for billing.grace; once it has, `pulso bill run --period 2024-09` \
             bills it"
        );
    }

    #[test]
    fn commands_name_the_tenants_of_the_run_as_a_shell_reads_them() {
        let outcomes = RunOutcomes { failed: 3, ..RunOutcomes::default() };
        let failures = vec![RunFailure { tenant: "a b".to_owned(), message: "no".to_owned() }];
        let tenants = ["a b", "it's", "plain-1"].map(str::to_owned).to_vec();
        let state = "closed_with_failures".to_owned();
        let some = Run { failures, tenants, state, ..run(outcomes) };
        assert_eq!(
            of_run(&some),
            [
                "a b: no",
                "could not be billed and stay due: 3 tenants (2 not listed); mend the cause, then `pulso \
                 bill run --period 2024-09 --tenant 'a b' --tenant 'it'\\''s' --tenant plain-1`"
            ]
        );
        let one = RunOutcomes { failed: 1, ..RunOutcomes::default() };
        let all_listed = Run { outcomes: Some(one), tenants: Vec::new(), ..some.clone() };
        assert!(
            of_run(&all_listed)[1]
                .ends_with("then `pulso bill run --period 2024-09 --tenant 'a b'`")
        );
        let more = Run { tenants: vec!["a".to_owned(); TENANTS_NAMED_MAX + 1], ..some };
        assert!(of_run(&more)[1].ends_with("then `pulso bill run --period 2024-09`"));
    }

    #[test]
    fn what_is_due_is_said_by_month_with_why() {
        let from = "2022-10".to_owned();
        let nothing = ListDuePeriodsResponse { from, ..ListDuePeriodsResponse::default() };
        assert_eq!(of_due(&nothing), ["nothing is due that begins in 2022-10 or later"]);
        let tenant = |number: usize| DueTenant {
            tenant: format!("t{number}"),
            state: "failed".to_owned(),
            message: "no".to_owned(),
        };
        let month = DueMonth {
            period: "2024-09".to_owned(),
            waiting: 1,
            failed: 12,
            blocked: 2,
            tenants: (0..12).map(tenant).collect(),
        };
        let said = of_due(&ListDuePeriodsResponse { months: vec![month], ..nothing });
        assert_eq!(
            said[..2],
            [
                "2024-09 is due: 1 tenant waits for a run, 12 tenants could not be billed, 2 tenants are \
                 blocked; `pulso bill run --period 2024-09` bills what it can",
                "  t0: no"
            ]
        );
        assert_eq!(said.len(), 1 + DUE_NAMED_MAX);
    }
}
