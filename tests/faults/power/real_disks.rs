//! Cuts the power of a real file system at the n-th change, for each n: ext4 with several commit
//! intervals and XFS, on a loop device, by the ioctl that shuts a file system down without flushing
//! its journal. Unsynced data is dropped with the page cache; the next mount replays the journal,
//! as after a power loss. That needs root, loop devices and the mkfs programs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::shim::{Blow, Place};
use crate::strike::strike;
use crate::support::promises::MayBeGone;
use crate::support::skip::{say, skipped};
use crate::workload::{Plan, is_everything};

/// A file system in a file, mounted while this value lives.
pub(crate) struct Mounted {
    point: PathBuf,
    source: PathBuf,
    options: String,
}

/// A kind of file system: its name, the mkfs command, its size, the mount options.
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
    /// Makes a file system in a file in `directory`, and mounts it on `point`; or returns why that
    /// is not possible on this machine.
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

    /// Remounts, as the next boot would.
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

#[test]
fn power_cut_of_real_file_systems_keeps_promises() {
    let strides = if is_everything() { [5, 10] } else { [120, 350] };
    for kind in &KINDS {
        let began = Instant::now();
        let directory = tempfile::tempdir().unwrap();
        let place = Place::new(directory.path());
        let mounted = match Mounted::new(kind, directory.path(), &place.disk()) {
            Ok(mounted) => mounted,
            Err(why) => {
                skipped(&format!("power cut of {}", kind.name), &why);
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
