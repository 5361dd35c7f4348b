//! A process that dies at a change of the disk, the n-th for each n; and a real file system whose power is cut then:
//! ext4 with several commit intervals and XFS, on a loop device, by the ioctl that shuts a file system down without
//! flushing its journal. What was not synced is dropped with the page cache; mounting it again replays the journal, as
//! after a power loss. That needs root, loop devices and the programs that make the file systems.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use annals::Store;

use crate::bank::check_read_models;
use crate::promises::{MayBeGone, Promises};
use crate::shim::{Blow, Call, Fault, NO_SHIM, Place, Watch, run};
use crate::workload::Plan;
use crate::{caught, is_everything, memory, say, skip};

/// A file system in a file, mounted while this lives.
pub(crate) struct Mounted {
    point: PathBuf,
    source: PathBuf,
    options: String,
}

/// What is mounted: its name, how it is made, its length, how it is mounted.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    make: &'static [&'static str],
    mebibytes: u64,
    options: &'static str,
}

pub(crate) const EXT4_SMALL: Kind =
    Kind { name: "small ext4", make: &["mkfs.ext4", "-q", "-F"], mebibytes: 24, options: "loop" };

const EXT4: Kind =
    Kind { name: "ext4", make: &["mkfs.ext4", "-q", "-F"], mebibytes: 128, options: "loop" };
const KINDS: [Kind; 4] = [
    Kind { name: "ext4, commit=1", options: "loop,commit=1", ..EXT4 },
    Kind { name: "ext4, commit=5", options: "loop,commit=5", ..EXT4 },
    Kind { name: "ext4, commit=1000", options: "loop,commit=1000", ..EXT4 },
    Kind { name: "XFS", make: &["mkfs.xfs", "-q", "-f"], mebibytes: 512, options: "loop" },
];

impl Mounted {
    /// Makes a file system in a file in `directory`, and mounts it on `point`; or says why that cannot be done here.
    pub(crate) fn new(kind: &Kind, directory: &Path, point: &Path) -> Result<Self, String> {
        let source = directory.join("image");
        File::create(&source).unwrap().set_len(kind.mebibytes << 20).unwrap();
        let (program, arguments) = kind.make.split_first().unwrap();
        command(program, arguments, &[&source])?;
        let options = kind.options.to_owned();
        let mounted = Self { point: point.to_owned(), source, options };
        mounted.mount()?;
        Ok(mounted)
    }

    fn mount(&self) -> Result<(), String> {
        command("mount", &["-o", &self.options], &[&self.source, &self.point])
    }

    /// What the next boot does.
    fn remount(&self) {
        command("umount", &[], &[&self.point]).unwrap();
        self.mount().unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = command("umount", &["-l"], &[&self.point]);
    }
}

/// Runs a program that needs privileges.
pub(crate) fn command(program: &str, arguments: &[&str], paths: &[&Path]) -> Result<(), String> {
    match Command::new(program).args(arguments).args(paths).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// Strikes a plan at one of so many changes, and lets `boot` do what the next boot would. How often; `None` if that
/// cannot be had here.
fn strike(
    plan: &Plan,
    place: &Place,
    stride: usize,
    (blow, may_be_gone): (Blow, MayBeGone),
    boot: impl Fn(),
) -> Option<usize> {
    for (strikes, nth) in (1..).step_by(stride).enumerate() {
        let fault = Fault { call: Call::Any, nth, for_ever: false, blow, only: "" };
        let sync_takes = if blow == Blow::CutPower { None } else { Some(100) };
        let watch = Watch { fault: Some(fault), sync_takes, ..Watch::default() };
        let Some(output) = run(plan.name, place, watch) else {
            skip(plan.name, NO_SHIM);
            return None;
        };
        let Some(fired) = place.fired() else {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            return Some(strikes);
        };
        boot();
        let promises = Promises::read(&place.book());
        let also = |store: &Store| {
            if plan.has_bank {
                check_read_models(store);
            }
        };
        let checked = caught(|| promises.check_and_go_on(&place.store(), may_be_gone, also));
        if let Err(why) = checked {
            panic!("{blow:?}, {}, at change {nth} ({fired}): {why}", plan.name);
        }
        fs::remove_dir_all(place.store()).unwrap();
        place.forget();
    }
    unreachable!("a workload ends");
}

#[test]
fn a_process_dies_at_any_change() {
    let began = Instant::now();
    let directory = memory();
    let place = Place::new(directory.path());
    // One that is being created for a good part of it, and one in full use.
    let strides = if is_everything() { [1, 1] } else { [67, 251] };
    let mut deaths = 0;
    for (name, stride) in ["small", "mixed"].into_iter().zip(strides) {
        let blow = (Blow::Kill, MayBeGone::Nothing);
        let Some(more) = strike(&Plan::named(name), &place, stride, blow, || {}) else { return };
        deaths += more;
    }
    let seconds = began.elapsed().as_secs();
    say(&format!("faults: the process dies: {deaths} deaths, 0 wrong, {seconds} s"));
}

#[test]
fn the_power_of_a_real_file_system_is_cut() {
    let strides = if is_everything() { [5, 10] } else { [120, 350] };
    for kind in &KINDS {
        let began = Instant::now();
        let directory = tempfile::tempdir().unwrap();
        let place = Place::new(directory.path());
        let mounted = match Mounted::new(kind, directory.path(), &place.disk()) {
            Ok(mounted) => mounted,
            Err(why) => {
                skip(kind.name, &why);
                continue;
            }
        };
        let mut cuts = 0;
        for (name, stride) in ["small", "mixed"].into_iter().zip(strides) {
            let blow = (Blow::CutPower, MayBeGone::Buffered);
            let boot = || mounted.remount();
            cuts += strike(&Plan::named(name), &place, stride, blow, boot).unwrap_or_default();
        }
        let seconds = began.elapsed().as_secs();
        say(&format!("faults: power cut, {}: {cuts} cuts, 0 wrong, {seconds} s", kind.name));
    }
}
