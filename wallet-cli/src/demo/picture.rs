//! What the demo found, for a person.

use crate::demo::report::{Balance, Layer, Report, Step, WebReport};
use crate::money;
use crate::output::table;

/// The end of the story.
pub fn summary(report: &Report) -> String {
    let mut parts = Vec::new();
    if report.layers.l1.payments_per_second > 0.0 && report.layers.l2.payments_per_second > 0.0 {
        parts.push(layers(&report.layers.l1, &report.layers.l2));
    }
    if report.balance.mined_sat > 0 {
        parts.push(balance_sheet(&report.balance));
    }
    parts.push(verdict(report.ok, &report.steps));
    parts.join("\n")
}

/// The end of the story of a network.
pub fn web_summary(report: &WebReport) -> String {
    let mut parts = Vec::new();
    if report.balance.mined_sat > 0 {
        parts.push(balance_sheet(&report.balance));
    }
    parts.push(verdict(report.ok, &report.steps));
    parts.join("\n")
}

fn verdict(ok: bool, steps: &[Step]) -> String {
    let seconds: f64 = steps.iter().map(|step| step.seconds).sum();
    let verdict = if ok { "All of it is right" } else { "Something went wrong" };
    format!("{verdict} ({seconds:.1} s).")
}

fn layers(l1: &Layer, l2: &Layer) -> String {
    let rows = [
        ("payments per second", format!("{:.1}", l1.payments_per_second), format!("{:.0}", l2.payments_per_second)),
        ("fee of one", money::sat(l1.fee_sat), money::sat(l2.fee_sat)),
        ("time to final", seconds(l1.seconds_to_final), seconds(l2.seconds_to_final)),
    ];
    let rows = rows.into_iter().map(|(name, l1, l2)| vec![name.to_string(), l1, l2]);
    let text = table(&["as measured here", ">on the chain", ">in a channel"], rows);
    format!("\n{text}\nBlocks were mined on demand here; on Bitcoin six of them take an hour.")
}

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1_000.0) } else { format!("{seconds:.1} s") }
}

fn balance_sheet(balance: &Balance) -> String {
    let row = |name: &str, figure: String| vec![name.to_string(), figure];
    let rows = [
        row("mined", money::grouped(balance.mined_sat)),
        row("in the wallets", money::grouped(balance.wallets_sat)),
        row("paid as fees", money::grouped(balance.fees_sat)),
        row("missing", balance.difference_sat.to_string()),
    ];
    format!("\n{}", table(&["every satoshi", ">sat"], rows))
}
