//! What the figures were measured on, as far as Linux tells.

use std::fs;
use std::path::Path;

use crate::contender::Result;

/// The packages whose versions decide the figures.
const PACKAGES: [&str; 8] =
    ["annals", "rocksdb", "librocksdb-sys", "rusqlite", "fjall", "lsm-tree", "redb", "umadb-core"];

/// Name and value, in the order in which they should be read.
pub fn about(directory: &Path) -> Result<Vec<(String, String)>> {
    let line = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
    };
    let whole = |file: &str| fs::read_to_string(file).unwrap_or_default().trim().to_owned();
    let cores = std::thread::available_parallelism()?;
    let program = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let sqlite = match option_env!("LIBSQLITE3_FLAGS") {
        Some(flags) => format!("{} with {flags}", rusqlite::version()),
        None => format!(
            "{}, built WITHOUT the flags of .cargo/config.toml: it calls fsync",
            rusqlite::version()
        ),
    };
    Ok([
        ("command", format!("peers {program}")),
        ("processor", format!("{}, {cores} threads", line("/proc/cpuinfo", "model name"))),
        ("memory", line("/proc/meminfo", "MemTotal")),
        ("kernel", whole("/proc/sys/kernel/osrelease")),
        ("file system", file_system(directory)?),
        ("load average before", whole("/proc/loadavg")),
        ("versions", versions()),
        ("SQLite", sqlite),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec())
}

/// The kind of file system that the directory is on; syncs of one in memory cost nothing, and mean nothing.
fn file_system(directory: &Path) -> Result<String> {
    let directory = directory.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
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

/// As Cargo.lock has them.
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
