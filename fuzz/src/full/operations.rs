//! Sequences of operations, including faults, have the outcome that a plain list of events would
//! have: see `tests/model`. Here the fuzzing engine generates the sequences, and writes fail too,
//! by a limit on file length.

use std::fs;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::Ordering;

use annals::prelude::*;
use annals::{Durability, Error};

use super::model::faults::Synced;
use super::model::ops::{
    After, AsOf, Ask, Condition, Item, KEYS, Kind, Op, Part, Size, Start, TAGS_LEN, Target,
};
use super::model::reference::Outcome;
use super::model::subject::request;
use super::model::world::{FOLLOWS, STREAMS, World};
use crate::input::Input;

/// Longer sequences find no more, and take longer.
const STEPS_MAX: usize = 48;

pub fn operations(data: &[u8]) {
    let mut input = Input::new(data);
    let (memtable, tips) = (input.of(&[1, 1 << 20]), input.of(&[1, 1_000]));
    let choice = input.byte();
    let (reopens, pack) = (choice & 1 == 1, [1, 300, 32 << 10][usize::from(choice >> 1) % 3]);
    let mut world = World::new(memtable, pack, tips, choice >= 128);
    let mut steps = 0;
    while !input.is_empty() && steps < STEPS_MAX {
        steps += 1;
        match input.byte() {
            240.. => failing_append(&mut world, &mut input),
            choice => world.run(&op(choice, &mut input)),
        }
    }
    world.look();
    if reopens {
        world.run(&Op::Reopen);
        world.look();
    }
}

fn op(choice: u8, input: &mut Input<'_>) -> Op {
    match choice {
        0..70 => {
            let parts = (0..1 + input.below(3)).map(|_| part(input)).collect();
            let times = (input.byte() >= 200).then(|| i64::from(input.byte()) - 100);
            Op::Append(parts, times, conditions(input))
        }
        70..90 => Op::Retry { back: input.below(4), change: input.of(&[-1, 0, 1]) },
        90..100 => {
            let parts = (0..input.below(3)).map(|_| part(input)).collect();
            let conditions = conditions(input);
            Op::Keyed { parts, conditions, key: input.below(KEYS), other: input.byte() < 20 }
        }
        100..130 => Op::Read(ask(input)),
        130..140 => Op::List {
            prefix: input.of(&["", "a", "a-", "a-1", "ä", "日本-1", "b", "zz"]),
            after: input.flag().then(|| input.below(STREAMS.len())),
        },
        140..160 => Op::Follow { which: input.below(FOLLOWS), deliveries: 1 + input.below(40) },
        160..170 => Op::Clock(i64::from(input.byte()) - 60),
        170..190 => Op::Keep { view: input.flag() },
        190..194 => Op::Sync,
        194..202 => Op::Delete(target(input)),
        202..204 => Op::Retain {
            stream: input.below(STREAMS.len()),
            of_category: input.flag(),
            count: input.flag().then(|| 1 + input.below(8) as u64),
            age: input.flag().then(|| 1 + u64::from(input.byte())),
        },
        204..206 => Op::Scavenge,
        206..210 => Op::Reopen,
        210..230 => Op::Crash { left: input.flag().then(|| input.byte()) },
        _ => Op::Damage { file: word(input), at: word(input), bit: input.byte() % 8 },
    }
}

fn target(input: &mut Input<'_>) -> Target {
    let stream = input.below(STREAMS.len());
    match input.below(8) {
        0..3 => Target::Truncate { stream, keep: input.below(12) as u64 },
        3..5 => Target::Delete { stream },
        5 => Target::Tombstone { stream },
        _ => {
            let tags = input.byte() % (1 << TAGS_LEN);
            Target::Redact { at: word(input), tags, clears_snapshots: input.flag() }
        }
    }
}

fn word(input: &mut Input<'_>) -> u16 {
    u16::from_be_bytes([input.byte(), input.byte()])
}

fn part(input: &mut Input<'_>) -> Part {
    let kind = match input.below(5) {
        0 => Kind::Any,
        1 => Kind::NoStream,
        2 => Kind::Exists,
        3 => Kind::Tip,
        _ => Kind::At(1 + input.below(5) as u64),
    };
    let (count, size) = match input.byte() {
        0..200 => (input.below(6), Size::Small),
        200..250 => (1 + input.below(5), Size::Large),
        _ => (1_020 + input.below(10), Size::Many),
    };
    let tags = input.byte() % (1 << (TAGS_LEN + 1));
    Part { stream: input.below(STREAMS.len()), kind, count, size, tags }
}

fn item(input: &mut Input<'_>) -> Item {
    Item {
        tags: (input.byte() % (1 << TAGS_LEN)) & input.byte(),
        types: if input.byte() < 60 { input.below(4) } else { 0 },
        stream: (input.byte() > 200).then(|| input.below(STREAMS.len())),
        category: (input.byte() > 200).then(|| input.of(&["a", "日本", "b"])),
        prefix: (input.byte() > 200).then(|| input.of(&["a", "a-1", "ä"])),
    }
}

fn conditions(input: &mut Input<'_>) -> Vec<Condition> {
    let condition = |input: &mut Input<'_>| {
        let items = (0..input.below(3)).map(|_| item(input).valid(true)).collect();
        let after = match input.below(4) {
            0 => After::Nothing,
            1 => After::At(1 + u64::from(input.byte())),
            _ => After::BelowHead(input.below(4) as u64),
        };
        Condition { items, after }
    };
    let count = if input.byte() < 80 { 1 + input.below(2) } else { 0 };
    (0..count).map(|_| condition(input)).collect()
}

fn ask(input: &mut Input<'_>) -> Ask {
    let place = |input: &mut Input<'_>| match input.byte() {
        255 => u64::MAX,
        200.. => 1_000 + u64::from(input.byte()),
        small => 1 + u64::from(small % 60),
    };
    Ask {
        stream: (input.byte() < 180).then(|| input.below(STREAMS.len())),
        start: match input.below(3) {
            0 => Start::Beginning,
            1 => Start::From(place(input)),
            _ => Start::After(place(input)),
        },
        backward: input.flag(),
        limit: input.flag().then(|| u64::from(input.byte()) * u64::from(input.byte() % 6)),
        types: input.below(4),
        category: (input.byte() > 200).then(|| input.of(&["a", "日本", "a b", "b", "none"])),
        prefix: (input.byte() > 200).then(|| input.of(&["a", "a-1", "ä", "日", ""])),
        as_of: match input.below(6) {
            0 => AsOf::Position(place(input)),
            1 => AsOf::Version(place(input)),
            2 => AsOf::Time(i64::from(input.byte()) - 3),
            _ => AsOf::Now,
        },
        tags: if input.byte() < 60 { input.byte() % (1 << TAGS_LEN) } else { 0 },
        items: (0..input.below(3)).map(|_| item(input).valid(false)).collect(),
    }
}

/// Limits the length of files until it is dropped.
struct Bound(libc::rlimit);

impl Bound {
    fn set(len: u64) -> Self {
        static ONCE: Once = Once::new();
        let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // The write past the limit must fail, but not end the process.
        ONCE.call_once(|| unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        });
        let is_set = unsafe {
            libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut old) == 0
                && libc::setrlimit(
                    libc::RLIMIT_FSIZE,
                    &libc::rlimit { rlim_cur: len, rlim_max: old.rlim_max },
                ) == 0
        };
        assert!(is_set, "the bound on the length of files can be set");
        Self(old)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const self.0) };
    }
}

fn longest_log(store: &Path) -> u64 {
    let entries = fs::read_dir(store.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let logs = entries.filter(|path| path.extension().is_some_and(|ending| ending == "log"));
    logs.filter_map(|path| Some(fs::metadata(path).ok()?.len())).max().unwrap_or_default()
}

/// An append whose write may fail: then nothing is acknowledged until the store is reopened (G9),
/// and the append is present completely or not at all.
fn failing_append(world: &mut World, input: &mut Input<'_>) {
    let mut part = part(input);
    if world.reference.is_tombstoned(STREAMS[part.stream]) {
        return;
    }
    (part.kind, part.count) = (Kind::Any, part.count.max(1));
    let call = world.call(&[part], None, &[]);
    let durability = if input.flag() { Durability::Sync } else { Durability::Buffered };
    let before = world.reference.log.len() as u64;
    let room = u64::from(word(input) % 4_096);
    let bound = Bound::set(longest_log(&world.path) + room);
    let done = world.store().submit(request(&call).with_durability(durability));
    match done {
        Ok(appended) => {
            drop(bound);
            assert_eq!(appended.positions().next().map(u64::from), Some(before + 1));
            adopt(world, &call);
            if durability == Durability::Sync {
                world.synced = Synced::now(&world.path, world.reference.log.len() as u64);
            }
            // A background flush may have hit the limit, which the next write would report.
            world.close();
            world.open();
            world.kept.check(world.disk.as_ref().unwrap());
        }
        Err(Error::Indeterminate { .. }) => {
            let store = world.store();
            let later = store.submit(request(&call)).unwrap_err();
            assert!(matches!(later, Error::Poisoned { .. }), "{later}");
            assert!(matches!(store.sync(), Err(Error::Poisoned { .. })));
            // Reads continue, and do not see the failed append.
            world.check_summary();
            drop(bound);
            world.close();
            world.open();
            let head = world.store().head().unwrap().map_or(0, u64::from);
            if head != before {
                adopt(world, &call);
            }
            world.kept.check(world.disk.as_ref().unwrap());
        }
        Err(error) => panic!("{error}"),
    }
    world.check_summary();
}

/// The store on disk has these events; adds them to the reference and to the other store, if there
/// is one.
fn adopt(world: &mut World, call: &super::model::reference::Call) {
    let outcome = world.reference.append(call, world.clock.load(Ordering::SeqCst));
    assert!(matches!(outcome, Outcome::Done(_, false)));
    if let Some(memory) = world.subjects.get(1) {
        memory.store.submit(request(call)).unwrap();
    }
}
