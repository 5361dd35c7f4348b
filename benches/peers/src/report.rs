//! What was asked, what was answered, and how that is shown: as Markdown for people, as JSON for programs.

use std::cmp::Ordering;
use std::fmt::Write;

use serde::Serialize;

use crate::contender::Durability;
use crate::contenders::{ALL, Entry, Role};
use crate::measure::{Figure, STREAM_EVENTS};
use crate::workload::Shape;

/// What is asked of every contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    Append { shape: Shape, payload_len: usize, durability: Durability, threads: usize },
    Fill { payload_len: usize, events: usize },
    DiskBytes { payload_len: usize },
    LoadCold { payload_len: usize },
    LoadWarm { payload_len: usize },
    Replay { payload_len: usize },
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
            Self::Replay { payload_len } => {
                format!("replay the log, events of {}", size(*payload_len))
            }
        }
    }

    pub fn unit(&self) -> &'static str {
        match self {
            Self::Append { .. } | Self::Fill { .. } | Self::Replay { .. } => "events/s",
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
        // What can only sync is compared where syncing is asked for, and not where it has to do more than the others.
        self.durability()
            .is_none_or(|durability| entry.offers(durability) && entry.is_like(durability))
    }
}

/// What one contender answered, round by round.
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
    /// How many times as fast as annals, or as small: the median of the ratios round by round, since what disturbs a
    /// round disturbs all its runs.
    pub times_annals: Option<f64>,
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
        Some(Summary {
            median: median(values.clone())?,
            min: values.iter().copied().min_by(f64::total_cmp)?,
            max: values.iter().copied().max_by(f64::total_cmp)?,
            p50_us: median(of(|figure| figure.p50_us))?,
            p99_us: median(of(|figure| figure.p99_us))?,
            cpu_us: median(of(|figure| figure.cpu_us))?,
            times_annals: median(ratios.collect()),
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

pub fn size(len: usize) -> String {
    if len >= 1024 && len.is_multiple_of(1024) {
        format!("{} KiB", len / 1024)
    } else {
        format!("{len} B")
    }
}

/// A number as people write it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a figure for people")]
pub fn grouped(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.*}", if value < 10.0 { 2 } else { 1 });
    }
    let digits = (value.round() as u64).to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Everything, as Markdown.
pub fn markdown(about: &str, asked: &[Asked], entries: &[&Entry]) -> String {
    let mut out = format!("# Peers, side by side\n\n{about}\n");
    out.push_str(&contenders(entries));
    out.push_str(&overview(asked, entries));
    out.push_str(&ahead(asked));
    out.push_str("## Each question\n");
    for one in asked {
        out.push_str(&detail(one));
    }
    out
}

fn contenders(entries: &[&Entry]) -> String {
    let mut out =
        "\n## The contenders\n\n| | it checks | how it syncs | how events lie |\n|---|---|---|---|\n".to_owned();
    for entry in entries {
        let role = if entry.role == Role::Baseline { ", a baseline" } else { "" };
        let _ = writeln!(
            out,
            "| {}{role} | {} | {} | {} |",
            entry.name,
            entry.checks.as_str(),
            entry.durability,
            entry.layout
        );
    }
    out.push_str(
        "\nA baseline writes the bytes that annals writes and does none of its work. A figure with † is not like with \
         like: what was acknowledged there does not survive the end of the process, or was synced where others were \
         not.\n",
    );
    out
}

fn mark(question: &Question, name: &str) -> &'static str {
    let entry = ALL.iter().find(|entry| entry.name == name);
    if entry.is_some_and(|entry| !question.is_like(entry)) { " †" } else { "" }
}

/// How many times as fast as annals each is.
fn overview(asked: &[Asked], entries: &[&Entry]) -> String {
    let others: Vec<_> = entries.iter().filter(|entry| entry.role != Role::Annals).collect();
    let mut out = "\n## Overview\n\nHow many times as fast as annals (of disk: as small). Above 1 is ahead of annals.\n\n\
                   | | annals |"
        .to_owned();
    others.iter().for_each(|entry| out.push_str(&format!(" {} |", entry.name)));
    let _ = writeln!(out, "\n|---|---{}|", "|---".repeat(others.len()));
    for one in asked {
        let own = one.answers.iter().find(|answer| answer.contender == ALL[0].name);
        let own = own.and_then(|answer| one.summary(answer));
        let own = own.map_or("–".to_owned(), |own| {
            format!("{} {}", grouped(own.median), one.question.unit())
        });
        let _ = write!(out, "| {} | {own} |", one.question.title());
        for entry in &others {
            let answer = one.answers.iter().find(|answer| answer.contender == entry.name);
            let ratio = answer
                .and_then(|answer| one.summary(answer))
                .and_then(|summary| summary.times_annals);
            let ratio = ratio.map_or("–".to_owned(), |ratio| {
                format!("{ratio:.2}{}", mark(&one.question, entry.name))
            });
            let _ = write!(out, " {ratio} |");
        }
        out.push('\n');
    }
    out
}

/// Where a peer wins.
fn ahead(asked: &[Asked]) -> String {
    let mut out = "\n## Where a peer is ahead of annals\n\n".to_owned();
    let begin = out.len();
    for one in asked {
        let peers = one.answers.iter().filter(|answer| role(answer.contender) == Some(Role::Peer));
        let mut ahead: Vec<_> = peers
            .filter_map(|answer| Some((answer.contender, one.summary(answer)?.times_annals?)))
            .filter(|(_, ratio)| *ratio > 1.0)
            .collect();
        ahead.sort_by(|(_, one), (_, other)| other.partial_cmp(one).unwrap_or(Ordering::Equal));
        let ahead = ahead
            .iter()
            .map(|(name, ratio)| format!("{name} {ratio:.2}×{}", mark(&one.question, name)));
        let ahead = ahead.collect::<Vec<_>>().join(", ");
        if !ahead.is_empty() {
            let _ = writeln!(out, "- {}: {ahead}", one.question.title());
        }
    }
    if out.len() == begin {
        out.push_str("Nowhere in this run.\n");
    }
    out.push('\n');
    out
}

fn role(name: &str) -> Option<Role> {
    ALL.iter().find(|entry| entry.name == name).map(|entry| entry.role)
}

fn detail(one: &Asked) -> String {
    let question = &one.question;
    let mut out = format!(
        "\n### {}\n\n| {} | median | min | max | p50 µs | p99 µs | CPU µs | × annals |\n|---{}|\n",
        question.title(),
        question.unit(),
        "|---:".repeat(7)
    );
    let grouped_or_none = |value: f64| if value > 0.0 { grouped(value) } else { "–".to_owned() };
    for answer in &one.answers {
        let name = answer.contender;
        if let Some(summary) = one.summary(answer) {
            let Summary { median, min, max, p50_us, p99_us, cpu_us, times_annals } = summary;
            let figures = [median, min, max, p50_us, p99_us, cpu_us].map(grouped_or_none);
            let ratio = times_annals.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
            let figures = figures.join(" | ");
            let _ = writeln!(out, "| {name}{} | {figures} | {ratio} |", mark(question, name));
        }
        for failure in &answer.failures {
            let _ = writeln!(out, "| {name} | failed: {} |", failure.replace(['|', '\n'], " "));
        }
    }
    out
}

/// Everything, as JSON: all rounds too.
pub fn json(about: &[(String, String)], asked: &[Asked]) -> serde_json::Value {
    let questions = asked.iter().map(|one| {
        let answers = one.answers.iter().map(|answer| {
            let role = role(answer.contender).map(|role| format!("{role:?}").to_lowercase());
            let is_like = mark(&one.question, answer.contender).is_empty();
            serde_json::json!({
                "contender": answer.contender,
                "role": role,
                "like_with_like": is_like,
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
    let about: serde_json::Map<_, _> =
        about.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    serde_json::json!({ "about": about, "questions": questions.collect::<Vec<_>>() })
}
