//! RocksDB is compiled once for annals and for this package in one target directory: both lock
//! files have the same versions of it and of all its build dependencies.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Name, version, and dependencies: `name`, or `name version` if there are several.
type Package = (String, String, Vec<String>);

fn packages(lock: &str) -> Vec<Package> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(lock)).unwrap();
    let quoted = |line: &str| line.split('"').nth(1).unwrap_or_default().to_owned();
    let package = |block: &str| {
        let field = |name| quoted(block.lines().find(|line| line.starts_with(name)).unwrap());
        let dependencies = block.lines().filter(|line| line.starts_with(" \"")).map(quoted);
        (field("name"), field("version"), dependencies.collect())
    };
    text.split("[[package]]").skip(1).map(package).collect()
}

/// RocksDB and everything that it is built from.
fn built_from(lock: &str) -> BTreeSet<(String, String)> {
    let packages = packages(lock);
    let (mut found, mut open) = (BTreeSet::new(), vec!["rocksdb".to_owned()]);
    while let Some(wanted) = open.pop() {
        let (name, version) = wanted.split_once(' ').unwrap_or((&wanted, ""));
        let is_wanted =
            |package: &&Package| package.0 == name && (version.is_empty() || package.1 == version);
        let (name, version, dependencies) = packages.iter().find(is_wanted).unwrap();
        if found.insert((name.clone(), version.clone())) {
            open.extend(dependencies.iter().cloned());
        }
    }
    found
}

#[test]
fn rocksdb_and_its_dependencies_have_the_same_versions() {
    let (own, of_annals) = (built_from("Cargo.lock"), built_from("../../Cargo.lock"));
    assert!(own.len() > 10);
    assert_eq!(own, of_annals, "change the versions with `cargo update -p NAME --precise VERSION`");
}
