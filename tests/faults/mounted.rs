//! The power of a real file system is cut: ext4 with several commit intervals and XFS, on a loop device, by the ioctl that
//! shuts a file system down without flushing its journal. What was not synced is dropped with the page cache; mounting
//! it again replays the journal, as after a power loss. Needs root, loop devices and the programs that make the file
//! systems.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use annals::Store;

use crate::bank::check_read_models;
use crate::promises::{MayBeGone, Promises};
use crate::shim::{Blow, Call, Fault, Place, Watch, run};
use crate::workload::Plan;
use crate::{caught, is_everything, say, skip};

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

/// Cuts the power of one file system at one of so many changes of a plan. How often; `None` if it cannot be had here.
fn cut(kind: &Kind, plan: &Plan, stride: usize) -> Option<usize> {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path());
    let mounted = match Mounted::new(kind, directory.path(), &place.disk()) {
        Ok(mounted) => mounted,
        Err(why) => {
            skip(kind.name, &why);
            return None;
        }
    };
    let mut cuts = 0;
    for nth in (1..).step_by(stride) {
        let (call, blow) = (Call::Any, Blow::CutPower);
        let fault = Fault { call, nth, for_ever: false, blow, only: "" };
        let watch = Watch { fault: Some(fault), ..Watch::default() };
        let Some(output) = run(plan.name, &place, watch) else {
            skip(kind.name, "the shim needs Linux on x86-64, glibc and a C compiler");
            return None;
        };
        let Some(fired) = place.fired() else {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            return Some(cuts);
        };
        cuts += 1;
        mounted.remount();
        let promises = Promises::read(&place.book());
        let also = |store: &Store| {
            if plan.has_bank {
                check_read_models(store);
            }
        };
        let checked =
            caught(|| promises.check_and_go_on(&place.store(), MayBeGone::Buffered, also));
        if let Err(why) = checked {
            panic!("{}, {}, at change {nth} ({fired}): {why}", kind.name, plan.name);
        }
        fs::remove_dir_all(place.store()).unwrap();
        place.forget();
    }
    unreachable!("a workload ends");
}

#[test]
fn the_power_of_a_real_file_system_is_cut() {
    for kind in &KINDS {
        let began = Instant::now();
        // One that has been created by then, and one in full use.
        let strides = if is_everything() { [5, 10] } else { [120, 350] };
        let mut cuts = 0;
        for (name, stride) in ["small", "mixed"].into_iter().zip(strides) {
            let Some(more) = cut(kind, &Plan::named(name), stride) else { break };
            cuts += more;
        }
        if cuts > 0 {
            let seconds = began.elapsed().as_secs();
            say(&format!("faults: power cut, {}: {cuts} cuts, 0 wrong, {seconds} s", kind.name));
        }
    }
}
