//! The documents tell the truth: links lead somewhere, the code in them is code that runs, each
//! guarantee is cited by a test, and nothing names the machine that it was written on. Nothing of
//! the crate is linked here.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Fails with everything that was found, not with the first alone.
fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        match path.is_dir() {
            // Packages of their own may be built where they are.
            true if path.ends_with("target") => {}
            true => collect(&path, paths),
            false => paths.push(path),
        }
    }
}

#[test]
fn each_held_guarantee_is_cited_by_a_test() {
    let root = root();
    let page = read("docs/GUARANTEES.md");
    let mut states = BTreeMap::new();
    for heading in page.lines().filter_map(|line| line.strip_prefix("## G")) {
        let number: u32 = heading.split(' ').next().unwrap().parse().unwrap();
        let held = heading.contains("*held");
        assert!(held || heading.contains("*planned"), "G{number} is neither held nor planned");
        states.insert(number, held);
    }
    assert_eq!(states.keys().copied().collect::<Vec<_>>(), (1..=17).collect::<Vec<_>>());
    let mut tests = Vec::new();
    for directory in ["tests", "src"] {
        collect(&root.join(directory), &mut tests);
    }
    let is_test = |path: &PathBuf| {
        let in_tests = path.starts_with(root.join("tests")) && !path.ends_with("documents.rs");
        in_tests || path.starts_with(root.join("src/testing"))
    };
    let tests = tests.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let citing: Vec<_> = tests.filter(is_test).map(|p| fs::read_to_string(p).unwrap()).collect();
    let is_cited = |number: u32| citing.iter().any(|text| cites(text, number));
    let uncited = states.iter().filter(|(number, held)| **held && !is_cited(**number));
    let uncited: Vec<_> = uncited.map(|(number, _)| format!("G{number}")).collect();
    assert_none(
        &uncited,
        "held by docs/GUARANTEES.md, but cited by no file in tests/ or src/testing",
    );
}

/// Whether the text contains the number of a guarantee as a word.
fn cites(text: &str, number: u32) -> bool {
    let id = format!("G{number}");
    text.split(|c: char| !c.is_alphanumeric()).any(|word| word == id)
}

#[test]
fn each_guarantee_names_test_files_that_cite_it() {
    let page = read("docs/GUARANTEES.md");
    let mut found = Vec::new();
    for (index, section) in page.split("\n## G").skip(1).enumerate() {
        let number = u32::try_from(index).unwrap() + 1;
        let (_, tests) = section.split_once("\nTests: ").unwrap_or_default();
        let files: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        if !(2..=4).contains(&files.len()) {
            found.push(format!("G{number} names {} test files, not 2 to 4", files.len()));
        }
        for file in files {
            match fs::read_to_string(root().join(file)) {
                Ok(text) if cites(&text, number) => {}
                Ok(_) => found.push(format!("{file} does not cite G{number}")),
                Err(error) => found.push(format!("{file}, named by G{number}: {error}")),
            }
        }
    }
    assert_none(&found, "docs/GUARANTEES.md names test files that do not check the guarantee");
}

#[test]
fn no_file_names_a_machine() {
    let root = root();
    // Built at run time, so that this file does not name them.
    let homes = ["root", "home", "Users", "work", "tmp"].map(|name| format!("/{name}/"));
    let hosts = ["crates-proxy", "artifactory", "jfrog", "nexus.", "localhost:"];
    let mut found = Vec::new();
    for path in project_files(root) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if name.ends_with("documents.rs") {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            let words = homes.iter().map(String::as_str).chain(hosts);
            for word in words.filter(|word| names_machine(line, word)) {
                found.push(format!("{name}:{}: {word}", index + 1));
            }
        }
    }
    assert_none(&found, "a path or host of one machine means nothing elsewhere");
}

/// Whether the path begins here: a directory of the same name within a longer path or an address
/// does not count.
fn names_machine(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !word.starts_with('/')
            || !before.is_some_and(|c| c.is_alphanumeric() || "./-_~}".contains(c))
    })
}

/// All files but what is built or belongs to git.
fn project_files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_ours =
            !["target", ".git", "fuzz"].contains(&name.as_str()) && !name.ends_with(".annals");
        match path.is_dir() {
            true if is_ours => collect(&path, &mut files),
            false if is_ours => files.push(path),
            _ => {}
        }
    }
    // Of the fuzz targets, what is neither built nor input.
    for directory in ["src", "fuzz_targets", "tests"] {
        collect(&root.join("fuzz").join(directory), &mut files);
    }
    files.extend(["Cargo.toml", "README.md", "run"].map(|name| root.join("fuzz").join(name)));
    assert!(files.len() > 30, "the project was not found");
    files
}

/// The trimmed text between two others.
fn between<'t>(text: &'t str, begin: &str, end: &str) -> &'t str {
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("no {begin:?}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end:?}")).0.trim()
}

#[test]
fn the_readme_shows_the_quickstart_example() {
    let readme = read("README.md");
    let example = read("examples/quickstart.rs");
    let shown = between(&readme, "```rust\n", "```");
    assert_eq!(shown, between(&example, "// readme: begin\n", "// readme: end"));
}

#[test]
fn the_guide_shows_the_examples() {
    let root = root();
    let guide = read("docs/GUIDE.md");
    let flat = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let files = ["account.rs", "main.rs", "old_events.rs", "read_models.rs"];
    let mut sources: Vec<_> = files.map(|file| root.join("examples/bank").join(file)).to_vec();
    let others = [
        "tests/api/bank.rs",
        "examples/courses/courses.rs",
        "tests/api/decisions.rs",
        "examples/retention.rs",
    ];
    sources.extend(others.map(|file| root.join(file)));
    let sources: String =
        sources.iter().map(|path| flat(&fs::read_to_string(path).unwrap())).collect();
    let blocks: Vec<_> =
        guide.split("```rust\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    assert!(blocks.len() > 10, "the guide shows code");
    let other = blocks.iter().filter(|block| !sources.contains(&flat(block)));
    let other: Vec<_> = other.map(|block| (*block).to_owned()).collect();
    assert_none(&other, "docs/GUIDE.md shows code that is not in examples or tests/api");
}

#[test]
fn the_cookbook_shows_the_web_service() {
    let flat = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let mut sources = Vec::new();
    collect(&root().join("examples/web_service/src"), &mut sources);
    let sources: String =
        sources.iter().map(|path| flat(&fs::read_to_string(path).unwrap())).collect();
    let cookbook = read("docs/COOKBOOK.md");
    let blocks = cookbook.split("```rust,ignore\n").skip(1);
    let blocks: Vec<_> = blocks.filter_map(|block| block.split("```").next()).collect();
    assert!(blocks.len() > 4, "the cookbook shows code of the web service");
    let other = blocks.iter().filter(|block| !sources.contains(&flat(block)));
    let other: Vec<_> = other.map(|block| (*block).to_owned()).collect();
    assert_none(&other, "docs/COOKBOOK.md shows code that is not in examples/web_service");
}

#[test]
fn the_format_page_shows_the_golden_bytes() {
    let page = read("docs/FORMAT.md");
    for (heading, file, constants) in [
        ("### `STORE`", "identity", &["GOLDEN_NEW", "GOLDEN_BACKUP"][..]),
        ("### An example", "frame", &["GOLDEN"]),
        ("### Packs", "pack", &["GOLDEN_FOOTER"]),
        ("### Tail rows", "pack", &["GOLDEN_ROW"]),
        ("### Idempotency keys", "keys", &["GOLDEN_APPENDED"]),
    ] {
        let (_, section) = page.split_once(&format!("\n{heading}\n")).unwrap();
        // Two spaces end the bytes; a remark follows.
        let lines = between(section, "```text\n", "```").lines();
        let bytes = lines.filter_map(|line| line.split("  ").next());
        let shown: String = bytes.flat_map(|bytes| bytes.split(' ')).collect();
        let source = read(&format!("src/format/{file}.rs"));
        let golden = constants.iter().map(|name| {
            let golden = between(&source, &format!("const {name}: &str = concat!("), ");");
            golden.split('"').skip(1).step_by(2).collect::<String>()
        });
        let golden: String = golden.collect();
        assert!(golden.len() > 30 && shown == golden, "{heading}: {shown}\n{golden}");
    }
}

#[test]
fn each_link_leads_to_a_file() {
    let root = root();
    let mut found = Vec::new();
    for path in project_files(root).iter().filter(|p| p.extension().is_some_and(|e| e == "md")) {
        let text = fs::read_to_string(path).unwrap();
        for (_, rest) in text.match_indices("](").map(|(at, _)| text[at..].split_at(2)) {
            let target = rest.split([')', '#']).next().unwrap();
            let is_file = !target.is_empty() && !target.contains("://");
            if is_file && !path.parent().unwrap().join(target).exists() {
                found.push(format!("{}: {target}", path.strip_prefix(root).unwrap().display()));
            }
        }
    }
    assert_none(&found, "a link leads nowhere");
}
