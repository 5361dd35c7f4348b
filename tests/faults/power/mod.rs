//! The power is cut at every point of a workload. Every state that the medium may then have must be
//! a store that keeps its promises, those about requests with a key included (G15). The workload runs once, under the shim; the disks are made from
//! its trace.

pub(crate) mod directed;
pub(crate) mod disk;
pub(crate) mod real_disks;

use std::collections::HashSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use annals::{Error, Position, Store};

use self::disk::{Bytes, Disk, Image, Names, read_image, write_image};
use crate::caught;
use crate::example_bank::check_read_models;
use crate::shim::{Event, NO_SHIM, Place, Watch, read_trace, run};
use crate::support::memory;
use crate::support::promises::{MayBeGone, Promises};
use crate::support::random::Random;
use crate::support::skip::{say, skipped};
use crate::workload::{Plan, is_everything};

/// The states that a power cut may leave: nothing that was not synced, all of it, bytes without
/// names, names without bytes, and random ones.
const OUTCOMES: [(Bytes, Names); 10] = [
    (Bytes::Synced, Names::Synced),
    (Bytes::All, Names::All),
    (Bytes::Synced, Names::All),
    (Bytes::All, Names::Synced),
    (Bytes::Torn, Names::First),
    (Bytes::Torn, Names::Any),
    (Bytes::Sectors, Names::All),
    (Bytes::Sectors, Names::Any),
    (Bytes::Pages, Names::First),
    (Bytes::Pages, Names::Any),
];
/// The one of these states in which the medium has all names, and only the synced bytes.
const ONLY_NAMES: usize = 2;
const WORKERS: usize = 2;

/// What was tried, and the failures.
#[derive(Default)]
struct Tally {
    cuts: usize,
    images: usize,
    wrong: Vec<String>,
}

/// The result of a workload.
struct Run {
    before: Disk,
    trace: Vec<Event>,
}

/// Runs a plan on a place; `None` if that is not possible on this machine.
fn trace(plan: &Plan, place: &Place) -> Option<Run> {
    let before = Disk::of(&place.disk());
    let watch = Watch { trace: true, fault: None, sync_takes: Some(300) };
    let output = run(plan.name, place, watch)?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() == plan.closes, "{}: {text}", plan.name);
    let trace = read_trace(place);
    // The shim saw every change: the trace leads to the actual contents.
    let mut after = before.clone();
    for event in &trace {
        after.apply(event);
    }
    let told = after.cut(Bytes::All, Names::All, &mut Random(0));
    assert!(told == read_image(&place.disk()), "the trace does not lead to the actual contents");
    Some(Run { before, trace })
}

/// Cuts the power at every point, or at one in `stride`, and checks what is left.
fn cut(plan: &Plan, run: &Run, promised: &Promises, stride: usize) -> Tally {
    let tally = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let tally = &tally;
            scope.spawn(move || cut_some(plan, run, promised, (stride, worker), tally));
        }
    });
    tally.into_inner().unwrap()
}

fn cut_some(
    plan: &Plan,
    run: &Run,
    promised: &Promises,
    (stride, worker): (usize, usize),
    tally: &Mutex<Tally>,
) {
    let (mut disk, mut promises) = (run.before.clone(), promised.clone());
    let mut seen = HashSet::new();
    for (point, event) in run.trace.iter().enumerate() {
        disk.apply(event);
        if let Event::Noted(lines) = event {
            promises.add(lines);
        }
        // With a stride, each run of the tests takes other points: traces differ. Renames are few,
        // and the result depends on what precedes them, so every one is taken; the last point is
        // the closed store.
        let is_chosen = point % (stride * WORKERS) == worker * stride;
        let is_last = point + 1 == run.trace.len();
        let is_ours = point % WORKERS == worker;
        let is_special = is_ours && (is_last || matches!(event, Event::Rename { .. }));
        // A file may be removed only if the synced data already makes it superfluous.
        let is_removal = is_ours && matches!(event, Event::Unlink { .. });
        let outcomes = match (is_chosen || is_special, is_removal) {
            (true, _) => 0..OUTCOMES.len(),
            (false, true) => ONLY_NAMES..ONLY_NAMES + 1,
            (false, false) => continue,
        };
        tally.lock().unwrap().cuts += 1;
        for outcome in outcomes {
            let (bytes, names) = OUTCOMES[outcome];
            let mut random = Random((point * OUTCOMES.len() + outcome) as u64);
            let image = disk.cut(bytes, names, &mut random);
            let mut hasher = DefaultHasher::new();
            (&image, promises.len(), promises.durable(), promises.backups()).hash(&mut hasher);
            if !seen.insert(hasher.finish()) {
                continue;
            }
            tally.lock().unwrap().images += 1;
            if let Err(why) = check(&image, &promises, plan.has_bank) {
                let what = format!("{}, point {point}, {bytes:?}, {names:?}: {why}", plan.name);
                keep(&image, &run.trace, &format!("{}-{point}-{outcome}", plan.name));
                tally.lock().unwrap().wrong.push(what);
            }
        }
    }
}

/// Traces differ from run to run, so each failure is kept in the build directory, with its trace.
fn keep(image: &Image, trace: &[Event], name: &str) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("power-cut-{name}"));
    if directory.exists() {
        fs::remove_dir_all(&directory).unwrap();
    }
    fs::create_dir(&directory).unwrap();
    write_image(image, &directory);
    let lines = trace.iter().enumerate().map(|(point, event)| match event {
        Event::Write { ino, at, data } => format!("{point} Write {ino} {at} {}\n", data.len()),
        _ => format!("{point} {event:?}\n"),
    });
    fs::write(directory.join("trace"), lines.collect::<String>()).unwrap();
}

/// Whether the remaining state keeps the promises.
fn check(image: &Image, promises: &Promises, has_bank: bool) -> Result<(), String> {
    let directory = memory();
    write_image(image, directory.path());
    let path = directory.path().join("store");
    if promises.len() > 0 && !path.join("STORE").exists() {
        return Err("an event was acknowledged before the store existed".to_owned());
    }
    let also = |store: &Store| {
        if has_bank {
            check_read_models(store);
        }
        promises.check_backups(store, directory.path());
    };
    caught(|| promises.check_and_go_on(&path, MayBeGone::Buffered, also)).map(drop)
}

fn power_is_cut(name: &str, stride: usize) {
    let began = Instant::now();
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path());
    let plan = Plan::named(name);
    let Some(run) = trace(&plan, &place) else {
        return skipped(&format!("power cut, {name}"), NO_SHIM);
    };
    let stride = if is_everything() { 1 } else { stride };
    let Tally { cuts, images, wrong } = cut(&plan, &run, &Promises::default(), stride);
    say(&format!(
        "faults: power cut, {name}: {} changes, syncs and promises; {cuts} cuts, {images} images, \
         {} wrong, {} s",
        run.trace.len(),
        wrong.len(),
        began.elapsed().as_secs()
    ));
    assert!(wrong.is_empty(), "{}", wrong[..wrong.len().min(20)].join("\n"));
}

#[test]
fn power_cut_during_create_use_and_close_keeps_promises() {
    power_is_cut("small", 13);
}

#[test]
fn power_cut_during_sync_appends_keeps_promises() {
    power_is_cut("synced", 70);
}

#[test]
fn power_cut_during_buffered_appends_keeps_promises() {
    power_is_cut("buffered", 60);
}

#[test]
fn power_cut_during_mixed_appends_keeps_promises() {
    power_is_cut("mixed", 150);
}

/// G17: nothing that was deleted comes back, and nothing else is gone.
#[test]
fn power_cut_during_deletions_keeps_promises() {
    power_is_cut("deletions", 40);
}

/// G14: each backup is whole or not a store; a finished backup is present.
#[test]
fn power_cut_during_backups_keeps_promises() {
    power_is_cut("copied", 60);
}

/// What was durable when a store was closed is known after a power loss too: a database that lost
/// it is refused (G11).
#[test]
fn watermark_of_a_closed_store_survives_a_power_cut() {
    let directory = memory();
    let place = Place::new(directory.path());
    let plan = Plan::named("small");
    let Some(Run { before: mut disk, trace }) = trace(&plan, &place) else {
        return skipped("the watermark of a closed store", NO_SHIM);
    };
    let (mut promises, mut empty) = (Promises::default(), None);
    for event in &trace {
        if let Event::Noted(lines) = event {
            promises.add(lines);
            empty.get_or_insert_with(|| disk.cut(Bytes::All, Names::All, &mut Random(0)));
            // Otherwise a log torn since then would not be examined.
            let (_, watermark) = watermark(&disk, Bytes::Synced);
            assert!(!says_closed(&watermark), "the medium says that the open store is closed");
        }
        disk.apply(event);
    }
    let mut image = empty.unwrap();
    let (name, watermark) = watermark(&disk, Bytes::Synced);
    assert!(says_closed(&watermark));
    image.insert(name, Some(watermark));
    let directory = memory();
    write_image(&image, directory.path());
    let refused = Store::open(directory.path().join("store")).unwrap_err();
    let durable = Position::new(promises.durable()).unwrap();
    assert!(
        matches!(refused, Error::HistoryLost { expected_at_least, found: None } if expected_at_least == durable),
        "{refused:?}, and {durable} was durable"
    );
}

/// For any part of the watermark on the medium, the log exists up to that position (G10, G11).
#[test]
fn watermark_never_exceeds_what_is_durable() {
    let directory = memory();
    let place = Place::new(directory.path());
    let plan = Plan::named("small");
    let Some(Run { before: mut disk, trace }) = trace(&plan, &place) else {
        return skipped("the watermark and what is durable", NO_SHIM);
    };
    let mut seen = HashSet::new();
    for event in &trace {
        disk.apply(event);
        let mut image = disk.cut(Bytes::Synced, Names::Synced, &mut Random(0));
        if !image.contains_key(Path::new("store/STORE")) {
            continue;
        }
        let (name, watermark) = watermark(&disk, Bytes::All);
        if seen.insert(watermark.clone()) {
            image.insert(name, Some(watermark));
            let directory = memory();
            write_image(&image, directory.path());
            Store::open(directory.path().join("store")).unwrap();
        }
    }
    assert!(seen.len() > plan.opens * plan.rounds, "{} watermarks", seen.len());
}

/// The watermark on the medium.
fn watermark(disk: &Disk, bytes: Bytes) -> (PathBuf, Vec<u8>) {
    let image = disk.cut(bytes, Names::Synced, &mut Random(0));
    let mut files = image.into_iter().filter_map(|(path, bytes)| Some((path, bytes?)));
    files.find(|(path, _)| path.ends_with("watermark")).unwrap()
}

/// Whether the slot with the higher number marks the store as closed: docs/FORMAT.md.
fn says_closed(watermark: &[u8]) -> bool {
    watermark.chunks(512).max_by_key(|slot| &slot[8..16]).is_some_and(|slot| slot[41] == 1)
}

/// A second cut too keeps everything that was durable before the first.
#[test]
fn power_cut_during_recovery_keeps_promises() {
    let (firsts, stride) = if is_everything() { (20, 7) } else { (2, 60) };
    // A few that leave a torn log.
    let outcomes = if is_everything() { &OUTCOMES[..] } else { &OUTCOMES[OUTCOMES.len() - 4..] };
    power_is_cut_twice(("killed", "recovered"), (firsts, stride), outcomes, |_| true);
}

/// A deletion that was cut short is cut short again while it is resumed (G17).
#[test]
fn power_cut_during_resumed_deletions_keeps_promises() {
    let (firsts, stride) = if is_everything() { (20, 7) } else { (8, 60) };
    let is_open = |promises: &Promises| promises.asked.is_open;
    power_is_cut_twice(("deletions", "resumed"), (firsts, stride), &OUTCOMES, is_open);
}

/// Cuts the power during one plan, at some of the points that are chosen, and then during the next.
fn power_is_cut_twice(
    (first, next): (&str, &str),
    (firsts, stride): (usize, usize),
    outcomes: &[(Bytes, Names)],
    is_chosen: impl Fn(&Promises) -> bool,
) {
    let began = Instant::now();
    let directory = memory();
    let place = Place::new(directory.path());
    let (plan, next) = (Plan::named(first), Plan::named(next));
    let Some(run) = trace(&plan, &place) else {
        return skipped(&format!("power cut while recovering from {first}"), NO_SHIM);
    };
    let (mut disk, mut promises) = (run.before.clone(), Promises::default());
    let (mut sum, mut torn, mut cuts) = (Tally::default(), 0, 0);
    for (point, event) in run.trace.iter().enumerate() {
        disk.apply(event);
        if let Event::Noted(lines) = event {
            promises.add(lines);
        }
        // The later half, where a recovery has work to do.
        let half = run.trace.len() / 2;
        if point < half + cuts * (half / firsts) || !is_chosen(&promises) {
            continue;
        }
        cuts += 1;
        let mut random = Random(point as u64);
        let (bytes, names) = outcomes[random.below(outcomes.len())];
        let directory = memory();
        let place = Place::new(directory.path());
        write_image(&disk.cut(bytes, names, &mut random), &place.disk());
        let again = trace(&next, &place).unwrap();
        let has_cut =
            |event: &Event| matches!(event, Event::Mkdir { path, .. } if path.ends_with("probe"));
        torn += usize::from(again.trace.iter().any(has_cut));
        let tally = cut(&next, &again, &promises.clone().after_power_loss(), stride);
        sum.cuts += tally.cuts;
        sum.images += tally.images;
        let describe = |wrong| format!("{point}, {bytes:?}, {names:?}, then {wrong}");
        sum.wrong.extend(tally.wrong.into_iter().map(describe));
        if is_everything() {
            let (images, wrong) = (sum.images, sum.wrong.len());
            say(&format!("faults: {first}, {cuts} first cuts: {images} images, {wrong} wrong"));
        }
    }
    let Tally { cuts: seconds, images, wrong } = sum;
    say(&format!(
        "faults: power cut of {first}, then again while recovering: {cuts} first cuts, {torn} of them \
         with a torn log; {seconds} second cuts, {images} images, {} wrong, {} s",
        wrong.len(),
        began.elapsed().as_secs()
    ));
    assert!(wrong.is_empty(), "{}", wrong[..wrong.len().min(20)].join("\n"));
}
