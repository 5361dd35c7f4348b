//! `measure peers`: annals and its alternatives, on the same work.

#![cfg_attr(not(feature = "peers"), allow(dead_code))]

pub mod ask;
pub mod contender;
pub mod contenders;
#[cfg(test)]
mod contract;
pub mod report;
pub mod workload;

use std::fmt::Display;
use std::path::Path;

use clap::ValueEnum;

use crate::place::{Place, drop_cache, remove, settle};
use crate::report::{Report, grouped, size};
use crate::{Result, at};
use ask::{Appending, Budget, Figure, STREAM_EVENTS};
use contender::Durability;
use contenders::{ALL, Entry};
use report::{Answer, Asked, Question};
use workload::{Random, SEED, Shape, World};

/// The number of streams that the appends are spread over; fewer, if one event for each would
/// exceed this many bytes.
const APPEND_STREAMS: usize = 20_000;
const APPEND_STREAMS_BYTES_MAX: usize = 32 << 20;
/// The log that is read holds at most this many bytes of payload: fewer events, if they are large.
const LOG_BYTES_MAX: usize = 512 << 20;
/// How many streams are loaded in a round, and at most how many bytes of payload: they should fit
/// into the caches.
const LOADS: usize = 2_000;
const LOAD_BYTES_MAX: usize = 64 << 20;
const SHAPES: [Shape; 5] = [
    Shape { streams: 1, events: 1 },
    Shape { streams: 1, events: 10 },
    Shape { streams: 1, events: 100 },
    Shape { streams: 10, events: 1 },
    Shape { streams: 100, events: 1 },
];
/// The workload of many threads: the appends of an application's commands.
const SHAPES_OF_MANY: usize = 2;

/// Measure annals next to alternative stores
///
/// Each store is asked the same questions, in turns.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of events in the log that is read (fewer, if they are large)
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    events: usize,
    /// Number of rounds; the contenders take turns
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// How long each contender appends
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    seconds: f64,
    /// Lengths of payloads
    #[arg(long, value_delimiter = ',', value_name = "BYTES", default_value = "100,1024,16384")]
    payload: Vec<usize>,
    /// Number of appending threads; more than one are measured with the first payload only
    #[arg(long, value_delimiter = ',', value_name = "N", default_value = "1,8,32")]
    threads: Vec<usize>,
    /// Only these contenders
    #[arg(long, value_delimiter = ',', value_name = "NAME", value_parser = contender)]
    only: Vec<&'static str>,
    /// Only these questions
    #[arg(long, value_delimiter = ',')]
    questions: Vec<Questions>,
    #[command(flatten)]
    memory: Memory,
    /// Drop the store's files from the page cache before streams are loaded for the first time
    #[arg(long)]
    drop_cache: bool,
}

/// The memory that each contender may use.
#[derive(Debug, clap::Args)]
pub struct Memory {
    /// Each contender's memory for reads, in MiB
    #[arg(long, default_value_t = 256, value_name = "MIB")]
    cache: usize,
    /// Each contender's memory for writes not yet in place, in MiB
    #[arg(long, default_value_t = 64, value_name = "MIB")]
    memtable: usize,
}

impl Memory {
    pub fn budget(&self) -> Budget {
        Budget { cache_bytes: self.cache << 20, memtable_bytes: self.memtable << 20 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Questions {
    Append,
    Read,
}

struct Run<'a> {
    args: &'a Args,
    place: &'a Place,
    entries: Vec<&'static Entry>,
    budget: Budget,
    asked: Vec<Asked>,
}

/// Parses the name of a contender.
pub fn contender(name: &str) -> Result<&'static str, String> {
    let known = ALL.iter().find(|entry| entry.name == name).map(|entry| entry.name);
    let names = || ALL.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
    known.ok_or_else(|| format!("there are {}", names()))
}

/// Only these contenders, or all of them if there are none.
pub fn entries(only: &[&str]) -> Vec<&'static Entry> {
    ALL.iter().filter(|entry| only.is_empty() || only.contains(&entry.name)).collect()
}

pub fn run(args: &Args, place: &Place) -> Result<Report> {
    let (entries, budget) = (entries(&args.only), args.memory.budget());
    let mut run = Run { args, place, entries, budget, asked: Vec::new() };
    let asks = |questions| args.questions.is_empty() || args.questions.contains(&questions);
    if asks(Questions::Append) {
        run.append();
    }
    if asks(Questions::Read) {
        for payload_len in &args.payload {
            run.read(*payload_len)?;
        }
    }
    let Run { asked, entries, .. } = run;
    Ok(report::complete(report::markdown(&asked, &entries), &asked))
}

impl Run<'_> {
    /// How appends are measured, with the length of the payload.
    fn appendings(&self) -> Vec<(Appending, usize)> {
        let mut appendings = Vec::new();
        for durability in [Durability::Buffered, Durability::Sync] {
            for &threads in &self.args.threads {
                let (payloads, shapes) = match threads {
                    1 => (self.args.payload.as_slice(), SHAPES.as_slice()),
                    _ => (&self.args.payload[..1], &SHAPES[..SHAPES_OF_MANY]),
                };
                for payload_len in payloads {
                    let seconds = self.args.seconds;
                    for &shape in shapes {
                        let how = Appending { shape, durability, threads, seconds };
                        appendings.push((how, *payload_len));
                    }
                }
            }
        }
        appendings
    }

    fn append(&mut self) {
        let appendings = self.appendings();
        let count = appendings.len();
        for (index, (how, payload_len)) in appendings.into_iter().enumerate() {
            let Appending { shape, durability, threads, .. } = how;
            let question = Question::Append { shape, payload_len, durability, threads };
            let can =
                |entry: &&&Entry| entry.offers(durability) && (threads == 1 || entry.concurrent);
            let entries: Vec<_> = self.entries.iter().filter(can).copied().collect();
            let streams = APPEND_STREAMS.min(APPEND_STREAMS_BYTES_MAX / payload_len.max(1));
            // Each caller has its own streams, and enough of them for one commit.
            let world = World::new(streams.max(threads * shape.streams), payload_len);
            let mut asked = Asked::new(question, &entries);
            eprintln!("[{}/{count}] {}", index + 1, question.title());
            for round in 1..=self.args.rounds {
                for (entry, answer) in entries.iter().zip(&mut asked.answers) {
                    let figure = self.place.within("append", |directory| {
                        ask::append(entry, how, &world, &self.budget, directory)
                    });
                    note(answer, figure, round, question.unit());
                }
            }
            self.asked.push(asked);
        }
    }

    /// Lets each contender fill a log, then read its own log, in turns.
    fn read(&mut self, payload_len: usize) -> Result<()> {
        let events = self.args.events.max(STREAM_EVENTS).min(LOG_BYTES_MAX / payload_len.max(1));
        let world = World::new((events / STREAM_EVENTS).max(1), payload_len);
        let events = world.names.len() * STREAM_EVENTS;
        let entries: Vec<_> = self.entries.iter().filter(|entry| entry.readable).copied().collect();
        let questions = [
            Question::Fill { payload_len, events },
            Question::DiskBytes { payload_len },
            Question::LoadCold { payload_len },
            Question::LoadWarm { payload_len },
            Question::ReplayNew { payload_len },
            Question::Replay { payload_len },
        ];
        let [mut fill, mut disk, mut cold, mut warm, mut new, mut replay] =
            questions.map(|question| Asked::new(question, &entries));
        eprintln!("[read {}] {}", size(payload_len), fill.question.title());
        // Each round fills a new store. The last one is kept, to be read at rest.
        let mut stores = Vec::new();
        for round in 1..=self.args.rounds {
            for (index, entry) in entries.iter().enumerate() {
                let directory = self.place.path(entry.name);
                at(&directory, std::fs::create_dir(&directory))?;
                let filled = ask::fill(entry, &world, &self.budget, &directory);
                settle(&directory)?;
                let of = filled.as_ref();
                note(&mut fill.answers[index], of.map(|f| f.figure), round, "events/s");
                note(&mut new.answers[index], of.map(|f| f.replay), round, "events/s replayed");
                match filled {
                    Ok(filled) if round == self.args.rounds => {
                        stores.push((index, directory, filled));
                    }
                    _ => remove(&directory)?,
                }
            }
        }
        for (index, directory, filled) in &stores {
            let entry = entries[*index];
            if !ask::rest(entry, &self.budget, directory)? {
                eprintln!("  {} did not come to rest: it is read as it is", entry.name);
            }
            let value = filled.disk_bytes as f64 / events as f64;
            let figure = Figure { value, p50_us: 0.0, p99_us: 0.0, cpu_us: 0.0 };
            disk.answers[*index].rounds.push(Some(figure));
        }
        let loads = LOADS
            .min(LOAD_BYTES_MAX / (STREAM_EVENTS * payload_len.max(1)))
            .clamp(1, world.names.len());
        for round in 1..=self.args.rounds {
            let mut chosen: Vec<usize> = (0..world.names.len()).collect();
            Random::new(SEED ^ round as u64).shuffle(&mut chosen);
            chosen.truncate(loads);
            for (index, directory, filled) in &stores {
                let (entry, directory) = (entries[*index], directory);
                let reads = self.prepare(directory).and_then(|()| {
                    ask::read(entry, filled, &world, &chosen, &self.budget, directory)
                });
                let reads = reads.as_ref();
                note(&mut cold.answers[*index], reads.map(|reads| reads.cold), round, "µs cold");
                note(&mut warm.answers[*index], reads.map(|reads| reads.warm), round, "µs warm");
                note(
                    &mut replay.answers[*index],
                    reads.map(|reads| reads.replay),
                    round,
                    "events/s replayed",
                );
            }
        }
        for (_, directory, _) in &stores {
            remove(directory)?;
        }
        self.asked.extend([fill, disk, cold, warm, new, replay]);
        Ok(())
    }

    fn prepare(&self, directory: &Path) -> Result<()> {
        settle(directory)?;
        if self.args.drop_cache { drop_cache(directory) } else { Ok(()) }
    }
}

/// Records and prints an answer, or the reason why it is missing.
pub fn note<E: Display>(answer: &mut Answer, figure: Result<Figure, E>, round: usize, unit: &str) {
    let name = answer.contender;
    match figure {
        Ok(figure) => {
            eprintln!(
                "  round {round}: {name:8} {:>12} {unit} ({:.2} µs CPU)",
                grouped(figure.value),
                figure.cpu_us
            );
            answer.rounds.push(Some(figure));
        }
        Err(error) => {
            eprintln!("  round {round}: {name:8} FAILED: {error}");
            answer.rounds.push(None);
            answer.failures.push(format!("round {round}: {error}"));
        }
    }
}
