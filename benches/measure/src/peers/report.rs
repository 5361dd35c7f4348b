//! The questions, the answers, and how they are shown: as Markdown for people, as JSON for
//! programs.

use std::fmt::Write;

use serde::Serialize;

use super::ask::{Figure, STREAM_EVENTS};
use super::contender::Durability;
use super::contenders::{ALL, Entry, Role};
use super::workload::Shape;
use crate::chart::{self, Bar};
use crate::report::{Report, count, grouped, size, table};
use crate::workloads::Workload;

/// A question for every contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    Append { shape: Shape, payload_len: usize, durability: Durability, threads: usize },
    Fill { payload_len: usize, events: usize },
    DiskBytes { payload_len: usize },
    LoadCold { payload_len: usize },
    LoadWarm { payload_len: usize },
    ReplayNew { payload_len: usize },
    Replay { payload_len: usize },
    Workload { workload: Workload, workers: usize },
}

impl Question {
    pub fn title(&self) -> String {
        match self {
            Self::Append { shape, payload_len, durability, threads } => {
                let events = match (shape.streams, shape.events) {
                    (1, 1) => "1 event".to_owned(),
                    (1, events) => format!("{events} events to one stream"),
                    (streams, 1) => format!("1 event to each of {streams} streams"),
                    (streams, events) => format!("{events} events to each of {streams} streams"),
                };
                let threads = if *threads == 1 {
                    "1 thread".to_owned()
                } else {
                    format!("{threads} threads")
                };
                format!(
                    "append {events} per commit, {}, {durability}, {threads}",
                    size(*payload_len)
                )
            }
            Self::Fill { payload_len, events } => {
                format!(
                    "fill a log of {} events of {}, and close",
                    grouped(*events as f64),
                    size(*payload_len)
                )
            }
            Self::DiskBytes { payload_len } => {
                format!("disk for one event of {}, after closing", size(*payload_len))
            }
            Self::LoadCold { payload_len } => {
                format!(
                    "load a stream of {STREAM_EVENTS} events of {}, first time",
                    size(*payload_len)
                )
            }
            Self::LoadWarm { payload_len } => {
                format!("load a stream of {STREAM_EVENTS} events of {}, again", size(*payload_len))
            }
            Self::ReplayNew { payload_len } => {
                format!("replay the log just written, events of {}", size(*payload_len))
            }
            Self::Replay { payload_len } => {
                format!("replay the log at rest, events of {}", size(*payload_len))
            }
            Self::Workload { workload, workers } => {
                format!("{}, {}", workload.name(), count(*workers as u64, workload.worker()))
            }
        }
    }

    pub fn unit(&self) -> &'static str {
        match self {
            Self::Append { .. }
            | Self::Fill { .. }
            | Self::ReplayNew { .. }
            | Self::Replay { .. }
            | Self::Workload { .. } => "events/s",
            Self::LoadCold { .. } | Self::LoadWarm { .. } => "µs",
            Self::DiskBytes { .. } => "bytes",
        }
    }

    fn more_is_better(&self) -> bool {
        self.unit() == "events/s"
    }

    fn durability(&self) -> Option<Durability> {
        match self {
            Self::Append { durability, .. } => Some(*durability),
            Self::Fill { .. } => Some(Durability::Buffered),
            _ => None,
        }
    }

    /// Whether this contender does here what the others do.
    pub fn is_like(&self, entry: &Entry) -> bool {
        // A contender that can only sync is compared for synced appends only: otherwise it has to
        // do more than the others.
        self.durability()
            .is_none_or(|durability| entry.offers(durability) && entry.is_like(durability))
    }
}

/// The answers of one contender, round by round.
#[derive(Debug, Serialize)]
pub struct Answer {
    pub contender: &'static str,
    pub rounds: Vec<Option<Figure>>,
    pub failures: Vec<String>,
}

/// A question with all its answers.
#[derive(Debug)]
pub struct Asked {
    pub question: Question,
    pub answers: Vec<Answer>,
}

/// An answer in figures.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub cpu_us: f64,
    /// How many times as fast as annals, or as small: the median of the ratios round by round,
    /// since a disturbance in a round affects all its runs.
    pub times_annals: Option<f64>,
    /// The smallest and the largest of these ratios.
    pub times_annals_range: Option<(f64, f64)>,
}

impl Summary {
    /// Whether all rounds agree on who is faster.
    fn is_decided(&self) -> bool {
        self.times_annals_range.is_some_and(|(least, most)| least > 1.0 || most < 1.0)
    }
}

impl Asked {
    pub fn new(question: Question, entries: &[&Entry]) -> Self {
        let empty = |entry: &&Entry| Answer {
            contender: entry.name,
            rounds: Vec::new(),
            failures: Vec::new(),
        };
        Self { question, answers: entries.iter().map(empty).collect() }
    }

    pub fn summary(&self, answer: &Answer) -> Option<Summary> {
        let of =
            |pick: fn(&Figure) -> f64| answer.rounds.iter().flatten().map(pick).collect::<Vec<_>>();
        let values = of(|figure| figure.value);
        let annals = self.answers.iter().find(|answer| answer.contender == ALL[0].name);
        let pairs = annals.into_iter().flat_map(|annals| annals.rounds.iter().zip(&answer.rounds));
        let ratios =
            pairs.filter_map(|(annals, own)| Some((annals.as_ref()?.value, own.as_ref()?.value)));
        let more_is_better = self.question.more_is_better();
        let ratios =
            ratios.map(|(annals, own)| if more_is_better { own / annals } else { annals / own });
        let mut ratios: Vec<_> = ratios.collect();
        ratios.sort_by(f64::total_cmp);
        Some(Summary {
            median: median(values.clone())?,
            min: values.iter().copied().min_by(f64::total_cmp)?,
            max: values.iter().copied().max_by(f64::total_cmp)?,
            p50_us: median(of(|figure| figure.p50_us))?,
            p99_us: median(of(|figure| figure.p99_us))?,
            cpu_us: median(of(|figure| figure.cpu_us))?,
            times_annals_range: ratios.first().copied().zip(ratios.last().copied()),
            times_annals: median(ratios),
        })
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        _ if values.is_empty() => None,
        1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// The report of these results, of which this is the text.
pub fn complete(text: String, asked: &[Asked]) -> Report {
    let failures = asked.iter().flat_map(|one| &one.answers).map(|answer| answer.failures.len());
    Report { text, json: json(asked), svg: svg(asked), failures: failures.sum() }
}

/// All results, as Markdown.
pub fn markdown(asked: &[Asked], entries: &[&Entry]) -> String {
    let mut out = format!(
        "## The contenders\n\n{}\nA baseline writes the bytes that annals writes and does none of \
         its work. A figure with † is not like with like: what was acknowledged there does not \
         survive the end of the process, or was synced where others were not.\n\n## Overview\n\n\
         How many times as fast as annals (of disk: as small). Above 1 is ahead of annals. ≈: the \
         rounds do not agree on who is ahead.\n\n{}\n## Where a peer is ahead of annals\n\n{}\n\
         ## Each question\n",
        contenders(entries),
        overview(asked, entries),
        ahead(asked)
    );
    for one in asked {
        let _ = write!(out, "\n### {}\n\n{}", one.question.title(), detail(one));
    }
    out
}

fn contenders(entries: &[&Entry]) -> String {
    let row = |entry: &&Entry| {
        let role = if entry.role == Role::Baseline { ", a baseline" } else { "" };
        let texts = [entry.checks.as_str(), entry.durability, entry.layout].map(str::to_owned);
        [vec![format!("{}{role}", entry.name)], texts.to_vec()].concat()
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    table(&["", "it checks", "how it syncs", "how events lie"], &rows)
}

fn is_like(question: &Question, name: &str) -> bool {
    ALL.iter().find(|entry| entry.name == name).is_none_or(|entry| question.is_like(entry))
}

fn mark(question: &Question, name: &str) -> &'static str {
    if is_like(question, name) { "" } else { " †" }
}

/// How many times as fast as annals each contender is.
fn overview(asked: &[Asked], entries: &[&Entry]) -> String {
    let others: Vec<_> =
        entries.iter().filter(|entry| entry.role != Role::Annals).map(|entry| entry.name).collect();
    let row = |one: &Asked| {
        let of = |name| one.answers.iter().find(|answer| answer.contender == name);
        let summary = |name| of(name).and_then(|answer| one.summary(answer));
        let none = || "–".to_owned();
        let own = summary(ALL[0].name)
            .map_or_else(none, |own| format!("{} {}", grouped(own.median), one.question.unit()));
        let ratios = others.iter().map(|name| {
            let ratio = summary(name).and_then(|summary| Some((summary, summary.times_annals?)));
            ratio.map_or_else(none, |(summary, ratio)| {
                let undecided = if summary.is_decided() { "" } else { " ≈" };
                format!("{ratio:.2}{undecided}{}", mark(&one.question, name))
            })
        });
        [one.question.title(), own].into_iter().chain(ratios).collect()
    };
    let heads = [vec!["", "annals"], others.clone()].concat();
    table(&heads, &asked.iter().map(row).collect::<Vec<_>>())
}

/// The questions in which a peer is ahead in every round.
fn ahead(asked: &[Asked]) -> String {
    let mut out = String::new();
    for one in asked {
        let peers = one.answers.iter().filter(|answer| {
            role(answer.contender) == Some(Role::Peer) && is_like(&one.question, answer.contender)
        });
        let ahead = peers.filter_map(|answer| {
            let summary = one.summary(answer).filter(Summary::is_decided)?;
            let ratio = summary.times_annals.filter(|ratio| *ratio > 1.0)?;
            Some(format!("{} {ratio:.2}×", answer.contender))
        });
        let ahead: Vec<_> = ahead.collect();
        if !ahead.is_empty() {
            let _ = writeln!(out, "- {}: {}", one.question.title(), ahead.join(", "));
        }
    }
    if out.is_empty() { "None.\n".to_owned() } else { out }
}

fn detail(one: &Asked) -> String {
    table(&[&[one.question.unit()], SUMMARY].concat(), &rows(one))
}

/// The columns of [`rows`] after the contender.
pub const SUMMARY: &[&str] = &["median", "min", "max", "p50 µs", "p99 µs", "CPU µs", "× annals"];

/// A row for each contender, and one for each failure.
pub fn rows(one: &Asked) -> Vec<Vec<String>> {
    let cell = |value: f64| if value > 0.0 { grouped(value) } else { "–".to_owned() };
    let mut rows = Vec::new();
    for answer in &one.answers {
        let name = answer.contender;
        if let Some(summary) = one.summary(answer) {
            let Summary { median, min, max, p50_us, p99_us, cpu_us, times_annals, .. } = summary;
            let mut row = vec![format!("{name}{}", mark(&one.question, name))];
            row.extend([median, min, max, p50_us, p99_us, cpu_us].map(cell));
            let ratio = times_annals.zip(summary.times_annals_range);
            row.push(ratio.map_or("–".to_owned(), |(ratio, (least, most))| {
                format!("{ratio:.2} ({least:.2} to {most:.2})")
            }));
            rows.push(row);
        }
        for failure in &answer.failures {
            rows.push(vec![
                name.to_owned(),
                format!("failed: {}", failure.replace(['|', '\n'], " ")),
            ]);
        }
    }
    rows
}

/// All results, as bars.
fn svg(asked: &[Asked]) -> String {
    let panels: Vec<_> = asked.iter().map(panel).collect();
    chart::bars(&panels)
}

fn panel(one: &Asked) -> (String, Vec<Bar>) {
    let bar = |answer: &Answer| {
        let (name, summary) = (answer.contender, one.summary(answer));
        let ratio = summary.and_then(|summary| summary.times_annals);
        let ratio = ratio.map_or(String::new(), |ratio| format!(" ({ratio:.2}×)"));
        Bar {
            name: format!("{name}{}", mark(&one.question, name)),
            value: summary.map(|summary| summary.median),
            range: summary.map(|summary| (summary.min, summary.max)),
            label: summary.map_or(String::new(), |s| format!("{}{ratio}", grouped(s.median))),
            color: match role(name) {
                Some(Role::Annals) => chart::OWN,
                Some(Role::Baseline) => chart::BASELINE,
                _ => chart::PEER,
            },
            is_pale: !is_like(&one.question, name),
        }
    };
    let title = format!("{}, {}", one.question.title(), one.question.unit());
    (title, one.answers.iter().map(bar).collect())
}

fn role(name: &str) -> Option<Role> {
    ALL.iter().find(|entry| entry.name == name).map(|entry| entry.role)
}

/// All results, as JSON: with every round.
fn json(asked: &[Asked]) -> serde_json::Value {
    let questions = asked.iter().map(|one| {
        let answers = one.answers.iter().map(|answer| {
            let role = role(answer.contender).map(|role| format!("{role:?}").to_lowercase());
            serde_json::json!({
                "contender": answer.contender,
                "role": role,
                "like_with_like": is_like(&one.question, answer.contender),
                "summary": one.summary(answer),
                "rounds": answer.rounds,
                "failures": answer.failures,
            })
        });
        serde_json::json!({
            "question": one.question.title(),
            "unit": one.question.unit(),
            "more_is_better": one.question.more_is_better(),
            "answers": answers.collect::<Vec<_>>(),
        })
    });
    serde_json::json!({ "questions": questions.collect::<Vec<_>>() })
}
