//! Damages every file of small stores of every shape: flips each byte in turn, zeroes blocks, cuts
//! at every length, deletes, and replaces a file by its older state or by that of another store
//! (G8, G11, G13).
//!
//! After any damage, opening and reading everything gives the whole history, or a typed error that
//! names the damage, and everything returned before it is right. A refused open changes only
//! RocksDB's own log files. The result is never a shorter or different answer, a panic, an abort or
//! a hang. docs/GUARANTEES.md lists what remains undetectable.
//!
//! The suite tries a random sample, and prints its seed (`ANNALS_TEST_SEED` repeats it).
//! `ANNALS_TEST_DAMAGE=all` tries every case, for an hour or two; a number sets the approximate
//! size of the sample. `ANNALS_TEST_DAMAGE_OF` selects one kind of file, as named in the table
//! printed at the end.

mod check;
mod damage;
mod frames;
mod missing_log;
mod run;
mod stores;
mod table_blocks;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::memory;
use crate::support::random::Random;
use check::{OUTCOMES, Outcome};
use damage::{Case, Fault, Group, groups, kind_of};
use run::Ended;
use stores::{Built, SHAPES};

/// Cases in the suite's sample.
const SAMPLE: usize = 1_200;
/// Concurrent child processes.
const LANES: usize = 2;
/// Cases passed to a child at once.
const BATCH: usize = 100;
const PROGRESS: Duration = Duration::from_secs(20);

/// The cases of a group that are tried.
enum Chosen {
    All,
    Some(Vec<usize>),
}

impl Chosen {
    fn cases<'g>(&'g self, group: &'g Group) -> Box<dyn Iterator<Item = Case> + Send + 'g> {
        match self {
            Self::All => Box::new((0..group.count).map(|number| group.case(number))),
            Self::Some(list) => Box::new(list.iter().map(|number| group.case(*number))),
        }
    }

    fn len(&self, group: &Group) -> usize {
        match self {
            Self::All => group.count,
            Self::Some(list) => list.len(),
        }
    }
}

/// Takes about as many cases from each group, so that small files and rare faults are covered too.
fn sample(groups: &[Group], size: usize, random: &mut Random) -> Vec<Chosen> {
    let mut left = size;
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|index| groups[*index].count);
    let mut chosen: Vec<Chosen> = groups.iter().map(|_| Chosen::All).collect();
    for (done, index) in order.iter().enumerate() {
        let (count, share) = (groups[*index].count, (left / (order.len() - done)).max(1));
        if count > share {
            let mut picked = HashSet::new();
            while picked.len() < share {
                picked.insert(random.below(count));
            }
            let mut picked: Vec<_> = picked.into_iter().collect();
            picked.sort_unstable();
            chosen[*index] = Chosen::Some(picked);
        }
        left = left.saturating_sub(share.min(count));
    }
    chosen
}

/// Counts outcomes by fault and by kind of file.
type Table = BTreeMap<(String, Fault), BTreeMap<Outcome, u64>>;

struct Sweep {
    table: Table,
    done: usize,
    bad: Vec<Ended>,
    told_at: Instant,
}

fn sweep(stores: &Path, groups: &[Group], chosen: &[Chosen]) -> Sweep {
    let total: usize = chosen.iter().zip(groups).map(|(chosen, group)| chosen.len(group)).sum();
    let begun = Instant::now();
    let sweep = Mutex::new(Sweep { table: Table::new(), done: 0, bad: vec![], told_at: begun });
    let cases = chosen.iter().zip(groups).flat_map(|(chosen, group)| chosen.cases(group));
    let cases = Mutex::new(cases);
    let ended = |ended: Ended| {
        let mut sweep = sweep.lock().unwrap();
        let row = (kind_of(&ended.case.target).to_owned(), ended.case.fault);
        *sweep.table.entry(row).or_default().entry(ended.outcome).or_default() += 1;
        if ended.outcome >= Outcome::Wrong {
            println!("{:?}: {}: {}", ended.outcome, ended.case, ended.told);
            sweep.bad.push(ended);
        }
    };
    thread::scope(|scope| {
        for lane in 0..LANES {
            let (sweep, cases, ended) = (&sweep, &cases, &ended);
            let lane = stores.join(format!("lane-{lane}"));
            scope.spawn(move || {
                loop {
                    let batch: Vec<_> = cases.lock().unwrap().by_ref().take(BATCH).collect();
                    if batch.is_empty() {
                        return;
                    }
                    let count = batch.len();
                    run::run(stores, &lane, batch, &mut |one| ended(one));
                    let mut sweep = sweep.lock().unwrap();
                    sweep.done += count;
                    if sweep.told_at.elapsed() > PROGRESS {
                        sweep.told_at = Instant::now();
                        let (done, bad) = (sweep.done, sweep.bad.len());
                        println!("{done} of {total} after {:?}, {bad} bad", begun.elapsed());
                    }
                }
            });
        }
    });
    println!("{total} cases in {:?}", begun.elapsed());
    sweep.into_inner().unwrap()
}

fn print(table: &Table) {
    let name = |outcome: &Outcome| format!("{outcome:?}").to_lowercase();
    print!("{:32} {:7}", "", "");
    for outcome in &OUTCOMES {
        print!(" {:>8}", name(outcome));
    }
    println!();
    for ((kind, fault), counts) in table {
        print!("{kind:32} {:7}", format!("{fault:?}").to_lowercase());
        for outcome in &OUTCOMES {
            print!(" {:>8}", counts.get(outcome).map_or(String::new(), u64::to_string));
        }
        println!();
    }
}

#[test]
fn damaged_files_give_the_whole_answer_or_a_typed_error() {
    // In memory if available: nothing has to be synced.
    let directory = memory();
    let built: Vec<(&str, Built)> =
        SHAPES.iter().map(|shape| (shape.name, shape.build(directory.path()))).collect();
    let mut groups: Vec<Group> =
        built.iter().flat_map(|(name, built)| groups(name, built)).collect();
    if let Ok(kind) = std::env::var("ANNALS_TEST_DAMAGE_OF") {
        groups.retain(|group| group.kind() == kind);
    }
    let seed = std::env::var("ANNALS_TEST_SEED")
        .map_or_else(|_| Random::from_entropy().next(), |seed| seed.parse().unwrap());
    println!("ANNALS_TEST_SEED={seed}");
    let asked = std::env::var("ANNALS_TEST_DAMAGE").unwrap_or_else(|_| SAMPLE.to_string());
    let size = if asked == "all" { usize::MAX } else { asked.parse().unwrap() };
    let chosen = sample(&groups, size, &mut Random(seed));
    let sweep = sweep(directory.path(), &groups, &chosen);
    print(&sweep.table);
    assert!(sweep.bad.is_empty(), "{} of {} cases", sweep.bad.len(), sweep.done);
}
