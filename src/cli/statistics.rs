//! `larder destination stats`: gathers the figures and shows them.

use serde_json::{Value, json};

use crate::cli::args::{DestinationArgs, Global, Output};
use crate::cli::client::{CallError, Client};
use crate::cli::runs::{follow_operation, local, parse};
use crate::cli::{Code, Done, output};
use crate::error::Trouble;
use crate::rpc::wire::statistics::DestinationStatistics;
use crate::status::DestinationView;
use crate::status::statistics::{FiguresView, TargetStatisticsView, say_growth, say_money, say_signed};
use crate::types::{ByteSize, Name};

/// How many entries a page of the list has.
const PAGE: u32 = 200;

pub(crate) fn show(global: &Global, args: &DestinationArgs) -> Done {
    let client = Client::connect(global)?;
    let mut failed: Vec<Trouble> = Vec::new();
    if !args.last {
        let names = match &args.destination {
            Some(name) => vec![name.clone()],
            None => desired(&client)?,
        };
        // All at once: the slowest is waited for, not the sum of them.
        let mut started = Vec::new();
        for name in names {
            started.push(client.call("destination.gather", json!({"destination": name}))?);
        }
        for answer in started {
            failed.extend(follow_operation(&client, &answer, global.output, None)?.trouble);
        }
    }
    let mut all = known(&client)?;
    all.retain(|each| args.destination.as_ref().is_none_or(|name| *name == each.destination));
    if global.output == Output::Json {
        output::json(&all);
    } else {
        table(&all);
    }
    for trouble in &failed {
        output::trouble(trouble);
    }
    Ok(if failed.is_empty() { Code::Done } else { Code::Failed })
}

/// What left the config is asked only by its name.
fn desired(client: &Client) -> Result<Vec<Name>, CallError> {
    let all: Vec<DestinationView> = parse(Value::Array(client.all("destination.list", json!({}), PAGE)?))?;
    Ok(all.into_iter().filter(|each| each.desired).map(|each| each.name).collect())
}

fn known(client: &Client) -> Result<Vec<DestinationStatistics>, CallError> {
    let all = client.all("destination.stats", json!({}), PAGE)?;
    parse(Value::Array(all))
}

fn table(all: &[DestinationStatistics]) {
    let mut remarks = Vec::new();
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|each| {
            let name = each.destination.to_string();
            if let Some(problem) = each.statistics.as_ref().and_then(|known| known.problem.as_ref()) {
                let why = problem.why.as_deref().unwrap_or(&problem.what);
                remarks.push(format!("  {name}: the figures cannot be had now: {why}"));
            }
            match each.statistics.as_ref().and_then(|known| known.figures.as_ref()) {
                Some(figures) => {
                    remarks.extend(remarks_on(&name, figures));
                    row(name, figures)
                }
                None => vec![name, "not gathered yet".to_owned()],
            }
        })
        .collect();
    output::table(
        &[
            "DESTINATION",
            "SNAPSHOTS",
            "LOGICAL",
            "STORED",
            "DEDUPLICATED",
            "COMPRESSED",
            "GROWTH",
            "NEXT FORGET",
            "A MONTH",
            "IN 90 DAYS",
            "AS OF",
        ],
        &rows,
    );
    for remark in &remarks {
        output::line(remark);
    }
    let targets: Vec<Vec<String>> = all.iter().flat_map(|each| &each.targets).map(target_row).collect();
    if !targets.is_empty() {
        output::line("");
        output::table(
            &[
                "TARGET",
                "DESTINATION",
                "SNAPSHOTS",
                "NEWEST",
                "LOGICAL",
                "STORED",
                "DEDUPLICATED",
                "COMPRESSED",
                "GROWTH",
                "AS OF",
            ],
            &targets,
        );
    }
}

fn row(name: String, figures: &FiguresView) -> Vec<String> {
    let cost = figures.cost.as_ref();
    let dash = || "-".to_owned();
    vec![
        name,
        figures.snapshots.to_string(),
        bytes(figures.logical_bytes),
        bytes(figures.stored_bytes),
        say_signed(figures.dedup_saved_bytes),
        say_signed(figures.compression_saved_bytes),
        figures.growth_bytes_per_day.map_or_else(|| "not known yet".to_owned(), |_| growth_of(figures)),
        figures.next_forget.bytes.map_or_else(|| "unknown".to_owned(), bytes),
        cost.map_or_else(dash, |cost| say_money(cost.monthly, &cost.currency)),
        cost.map_or_else(dash, |cost| {
            cost.monthly_in_90_days
                .map_or_else(|| "not known yet".to_owned(), |amount| say_money(amount, &cost.currency))
        }),
        local(figures.at),
    ]
}

fn growth_of(figures: &FiguresView) -> String {
    say_growth(figures.growth_bytes_per_day, figures.daily_figures)
}

fn remarks_on(name: &str, figures: &FiguresView) -> Vec<String> {
    let mut remarks = Vec::new();
    if figures.growth_bytes_per_day.is_none() {
        remarks.push(format!("  {name}: its growth is {}", growth_of(figures)));
    }
    if let Some(unneeded) = figures.unneeded_bytes.filter(|unneeded| *unneeded > 0) {
        remarks.push(format!("  {name}: beside that lie {} that no snapshot needs, until a prune", bytes(unneeded)));
    }
    if let Some(why) = &figures.next_forget.unknown {
        remarks.push(format!("  {name}: what the next forget would free is not known: {why}"));
    }
    if figures.other_snapshots > 0 {
        let noun = if figures.other_snapshots == 1 { "snapshot is" } else { "snapshots are" };
        remarks.push(format!("  {name}: {} {noun} no target's of this site", figures.other_snapshots));
    }
    remarks
}

fn target_row(each: &TargetStatisticsView) -> Vec<String> {
    vec![
        each.target.to_string(),
        each.destination.to_string(),
        each.snapshots.to_string(),
        each.newest_logical_bytes.map_or_else(|| "-".to_owned(), bytes),
        bytes(each.logical_bytes),
        bytes(each.stored_bytes),
        say_signed(each.dedup_saved_bytes),
        say_signed(each.compression_saved_bytes),
        match each.growth_bytes_per_day {
            Some(_) => say_growth(each.growth_bytes_per_day, each.daily_figures),
            None => "not known yet".to_owned(),
        },
        local(each.at),
    ]
}

fn bytes(count: u64) -> String {
    ByteSize(count).to_string()
}
