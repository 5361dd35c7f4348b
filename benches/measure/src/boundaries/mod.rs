//! `measure boundaries`: what tags and conditions cost, what reads by tag cost, and conditional
//! appends next to umadb-core.

mod cost;
mod load;
#[cfg(feature = "peers")]
mod umadb;

use std::fmt::Write;

use clap::value_parser;
use serde::Serialize;
use serde_json::json;

use crate::Result;
use crate::chart::{self, Bar};
use crate::place::Place;
use crate::report::{Report, grouped, table};

const INTRODUCTION: &str = "\
Each event has a payload of 100 bytes. A hot tag is on every event, a cold one on 200 of them. \
Ratios compare with the first row of their table, or with the row that is named. Up to 64 writers \
are threads; more are tasks on a tokio runtime with 2 worker threads.
";

/// Measure tags, conditions and reads by tag
///
/// Appends with tags and with conditions next to plain ones, as the store grows; reads by tag; and
/// conditional appends next to umadb-core.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Numbers of events in the store
    #[arg(long, value_delimiter = ',', value_name = "N", default_value = "100000,1000000")]
    #[arg(value_parser = value_parser!(u64).range(10_000..=100_000_000))]
    events: Vec<u64>,
    /// Numbers of writers next to umadb-core
    #[arg(long, value_delimiter = ',', value_name = "N", default_value = "1,8,64,256,1024")]
    #[arg(value_parser = value_parser!(u64).range(1..=10_000))]
    writers: Vec<u64>,
    /// How long each case is measured, after a quarter of this time to warm up
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// Number of rounds; the median round counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = value_parser!(u64).range(1..=100))]
    rounds: u64,
}

/// A row: its name, the figure of each round, and the name of the row that it is compared with.
#[derive(Debug, Clone, Serialize)]
struct Row {
    name: String,
    rounds: Vec<f64>,
    next_to: String,
}

/// Rows with figures in one unit.
#[derive(Debug, Clone, Serialize)]
struct Table {
    title: String,
    unit: &'static str,
    rows: Vec<Row>,
}

impl Table {
    fn new(title: impl Into<String>, unit: &'static str) -> Self {
        Self { title: title.into(), unit, rows: Vec::new() }
    }

    /// Adds the figure of a round.
    fn note(&mut self, name: &str, figure: f64, next_to: &str) {
        eprintln!("  {name}: {} {}", grouped(figure), self.unit);
        if let Some(row) = self.rows.iter_mut().find(|row| row.name == name) {
            row.rounds.push(figure);
            return;
        }
        let (name, next_to) = (name.to_owned(), next_to.to_owned());
        self.rows.push(Row { name, rounds: vec![figure], next_to });
    }

    fn text(&self) -> String {
        let of = |name: &str| self.rows.iter().find(|row| row.name == name).map(Row::median);
        let rows = self.rows.iter().map(|row| {
            let ratio = of(&row.next_to).filter(|_| row.next_to != row.name);
            let ratio = ratio.map(|other| format!("{:.2} × {}", row.median() / other, row.next_to));
            vec![row.name.clone(), grouped(row.median()), row.spread(), ratio.unwrap_or_default()]
        });
        let heads = ["", self.unit, "lowest to highest", "ratio"];
        format!("\n## {}\n\n{}", self.title, table(&heads, &rows.collect::<Vec<_>>()))
    }

    fn panel(&self) -> (String, Vec<Bar>) {
        let bar = |row: &Row| {
            let color = if row.name.contains("umadb") { chart::BASELINE } else { chart::OWN };
            let label = format!("{} {}", grouped(row.median()), self.unit);
            let (name, value) = (row.name.clone(), Some(row.median()));
            Bar { name, value, range: None, label, color, is_pale: false }
        };
        (self.title.clone(), self.rows.iter().map(bar).collect())
    }
}

impl Row {
    fn sorted(&self) -> Vec<f64> {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        rounds
    }

    fn median(&self) -> f64 {
        self.sorted().get(self.rounds.len() / 2).copied().unwrap_or_default()
    }

    fn spread(&self) -> String {
        let rounds = self.sorted();
        let at = |end: Option<&f64>| end.copied().map(grouped).unwrap_or_default();
        format!("{} to {}", at(rounds.first()), at(rounds.last()))
    }
}

pub fn run(args: &Args, place: &Place) -> Result<Report> {
    if !(0.01..=3_600.0).contains(&args.seconds) {
        return Err("--seconds: from 0.01 to 3600".into());
    }
    let mut tables = cost::tags(args, place)?;
    for events in &args.events {
        tables.extend(cost::in_store_of(*events, args, place)?);
    }
    tables.push(cost::enrolments(args, place)?);
    #[cfg(feature = "peers")]
    tables.extend(umadb::compare(args, place)?);
    let mut text = INTRODUCTION.to_owned();
    for table in &tables {
        let _ = write!(text, "{}", table.text());
    }
    let panels: Vec<_> = tables.iter().map(Table::panel).collect();
    Ok(Report { text, json: json!({ "tables": tables }), svg: chart::bars(&panels), failures: 0 })
}
