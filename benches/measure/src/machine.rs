//! The machine that was measured, as far as Linux describes it.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use annals::Timestamp;

use crate::{Result, at};

/// The packages whose versions affect the figures.
const PACKAGES: [&str; 8] =
    ["annals", "rocksdb", "librocksdb-sys", "rusqlite", "fjall", "lsm-tree", "redb", "umadb-core"];

/// In one line.
pub fn line(directory: &Path) -> Result<String> {
    let memory = number_of("/proc/meminfo", "MemTotal:") as f64 / f64::from(1 << 20);
    let annals = versions().split(", ").next().unwrap_or_default().to_owned();
    Ok(format!(
        "Measured on {}, {} with {} processors, {memory:.0} GiB of memory, Linux {}, {annals}, \
         on {}.",
        today()?,
        field("/proc/cpuinfo", "model name"),
        std::thread::available_parallelism()?,
        whole("/proc/sys/kernel/osrelease"),
        file_system(directory)?
    ))
}

fn today() -> Result<String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
    let now = Timestamp::from_micros(i64::try_from(since)?).to_string();
    Ok(now.chars().take(10).collect())
}

/// Name and value, in display order.
pub fn about(directory: &Path) -> Result<Vec<(String, String)>> {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let about = [
        ("command", format!("measure {arguments}")),
        ("file system", file_system(directory)?),
        ("load average before", load()),
        ("versions", versions()),
    ];
    #[cfg(feature = "peers")]
    let about = about.into_iter().chain([("SQLite", sqlite())]);
    Ok(about.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

pub fn load() -> String {
    whole("/proc/loadavg")
}

/// Bytes that the process has written or will write to the disk.
pub fn written() -> u64 {
    number_of("/proc/self/io", "write_bytes:")
}

/// Bytes of the process in memory.
pub fn memory() -> u64 {
    number_of("/proc/self/status", "VmRSS:") * 1024
}

/// The most bytes of the process that were in memory at a time.
pub fn peak_memory() -> u64 {
    number_of("/proc/self/status", "VmHWM:") * 1024
}

#[cfg(feature = "peers")]
fn sqlite() -> String {
    let version = rusqlite::version();
    match option_env!("LIBSQLITE3_FLAGS") {
        Some(flags) => format!("{version} with {flags}"),
        None => {
            format!("{version}, built WITHOUT the flags of .cargo/config.toml: it calls fsync")
        }
    }
}

fn whole(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}

fn field(file: &str, name: &str) -> String {
    let text = whole(file);
    let value = text.lines().find_map(|line| Some(line.strip_prefix(name)?.split_once(':')?.1));
    value.unwrap_or_default().trim().to_owned()
}

fn number_of(file: &str, name: &str) -> u64 {
    let text = whole(file);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    value.and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The kind of file system that the directory is on. Syncs in an in-memory file system cost
/// nothing, and their figures mean nothing.
fn file_system(directory: &Path) -> Result<String> {
    let directory = at(directory, directory.canonicalize())?;
    let mounts = whole("/proc/self/mounts");
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    });
    let above = mounts.filter(|(point, _)| directory.starts_with(point));
    let nearest = above.max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind);
    Ok(match nearest.as_deref() {
        Some("tmpfs" | "ramfs") => "in MEMORY: what is synced there is synced nowhere".to_owned(),
        Some(kind) => kind.to_owned(),
        None => "unknown".to_owned(),
    })
}

/// The versions in Cargo.lock.
fn versions() -> String {
    let lock = include_str!("../Cargo.lock");
    let packages = lock.split("[[package]]").filter_map(|package| {
        let field = |name: &str| {
            let line =
                package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
            line?.strip_suffix('"')
        };
        Some((field("name")?, field("version")?))
    });
    let packages = packages.filter(|(name, _)| PACKAGES.contains(name));
    packages.map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join(", ")
}
