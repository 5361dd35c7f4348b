//! The rules of the tree, checked on its text: which module may know which, where each library may be used, how long
//! things may get. docs/ARCHITECTURE.md says why. Nothing of the crate is linked here, so this runs at once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A module knows only modules named before it.
const ORDER: [&str; 26] = [
    "sync",
    "model",
    "error",
    "options",
    "store_options",
    "event_store",
    "snapshot_store",
    "view_store",
    "subscription",
    "extension",
    "validate",
    "head",
    "format",
    "storage",
    "read",
    "recovery",
    "commit",
    "maintenance",
    "store",
    "memory",
    "codec",
    "upcast",
    "audit",
    "aggregate",
    "projection",
    "testing",
];
/// A module that may know one that comes after it, and why.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];
/// A word in code, and where alone it may stand.
const FENCES: [(&str, &[&str], &str); 7] = [
    ("rocksdb", &["storage/"], "the engine can be understood, and replaced, in one place"),
    ("bincode::", &["format/", "codec/binary.rs"], "the bytes on disk are decided in one place"),
    ("crc32fast", &["format/"], "the bytes on disk are decided in one place"),
    ("crossbeam_channel", &["subscription/"], "only a subscription is handed to a channel"),
    (
        "thread::spawn",
        &["subscription/", "projection/", "testing/"],
        "no other part runs behind its caller's back",
    ),
    (
        "thread::Builder",
        &["subscription/", "projection/", "testing/"],
        "no other part runs behind its caller's back",
    ),
    ("SystemTime::now", &["options.rs", "memory/"], "a clock is given, so that tests can give one"),
];
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_LEN_MAX: usize = 120;

/// A file under src/, read as code.
struct Source {
    /// Relative to src/, with `/`.
    path: String,
    text: String,
    /// The text without comments, strings, and parts that only tests see; its lines keep their numbers.
    code: String,
}

impl Source {
    fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut paths = Vec::new();
        collect(&root, &mut paths);
        let sources = paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
        let sources: Vec<_> = sources
            .map(|path| {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                let code = without_tests(&strip(&text));
                Self { path, text, code }
            })
            .collect();
        assert!(sources.len() > 20, "src/ was not found");
        sources
    }

    /// The top-level module that the file belongs to.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    fn is_library(&self) -> bool {
        !self.path.starts_with("bin/")
    }
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

/// Replaces comments and the insides of strings and character literals by spaces.
fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let len = literal_len(rest);
        let taken = if len > 0 { len } else { next.len_utf8() };
        let (piece, left) = rest.split_at(taken);
        if len > 0 {
            out.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        } else {
            out.push(next);
        }
        // A quote or an `r` within a name begins nothing.
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let name_len = if len == 0 && is_name(next) {
            left.find(|c| !is_name(c)).unwrap_or(left.len())
        } else {
            0
        };
        out.push_str(&left[..name_len]);
        rest = &left[name_len..];
    }
    out
}

/// How long the comment or literal is that `text` begins with; 0 if it begins with neither.
fn literal_len(text: &str) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return text.find("*/").map_or(text.len(), |end| end + 2);
    }
    let raw = text.strip_prefix('b').unwrap_or(text);
    if let Some(rest) = raw.strip_prefix('r') {
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        if rest[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = text.len() - rest.len() + hashes + 1;
            return text[begin..].find(&end).map_or(text.len(), |at| begin + at + end.len());
        }
    }
    let begin = text.len() - raw.len();
    if raw.starts_with('"') {
        let mut escaped = false;
        for (at, c) in raw.char_indices().skip(1) {
            match c {
                '"' if !escaped => return begin + at + 1,
                '\\' => escaped = !escaped,
                _ => escaped = false,
            }
        }
        return text.len();
    }
    // A character, not a lifetime.
    if raw.starts_with("'\\") {
        return raw[3..].find('\'').map_or(0, |end| begin + 3 + end + 1);
    }
    let mut chars = raw.char_indices();
    match (chars.next(), chars.next(), chars.next()) {
        (Some((_, '\'')), Some(_), Some((at, '\''))) => begin + at + 1,
        _ => 0,
    }
}

/// Blanks what `#[cfg(test)]` stands before: up to the end of its block or statement.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(begin) = out.find("#[cfg(test)]") {
        let body = begin + "#[cfg(test)]".len();
        let end = match out[body..].find(['{', ';']) {
            Some(at) if out[body + at..].starts_with('{') => block_end(&out, body + at),
            Some(at) => body + at + 1,
            None => out.len(),
        };
        let blank: String =
            out[begin..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(begin..end, &blank);
    }
    out
}

/// Where the block ends that begins at `open`, a `{`.
fn block_end(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        depth += i32::from(byte == b'{') - i32::from(byte == b'}');
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// Which module each name comes from that lib.rs re-exports.
fn re_exports(lib: &Source) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for statement in lib.code.split(';').filter_map(|s| s.trim().strip_prefix("pub use ")) {
        let (module, list) = statement.split_once("::").unwrap();
        // The prelude names again what is re-exported already.
        if module == "crate" || module == "std" {
            continue;
        }
        for name in list.split(['{', '}', ',']).map(str::trim).filter(|name| !name.is_empty()) {
            let name = name.split_once(" as ").map_or(name, |(_, name)| name);
            let name = name.rsplit("::").next().unwrap();
            names.insert(name.to_owned(), module.to_owned());
        }
    }
    names
}

fn names_after<'c>(code: &'c str, marker: &'c str) -> impl Iterator<Item = (usize, &'c str)> {
    code.match_indices(marker).filter_map(move |(at, _)| {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let before = code[..at].chars().next_back();
        if before.is_some_and(is_name) {
            return None;
        }
        Some((at, &code[at + marker.len()..]))
    })
}

/// What `crate::…` names first: `crate::x`, or each of `crate::{x, y}`.
fn imported(rest: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let Some(list) = rest.strip_prefix('{') else {
        return vec![&rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())]];
    };
    let (mut names, mut depth, mut begins) = (Vec::new(), 0, true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if depth == 0 && begins && is_name(c) => {
                names.push(&list[at..][..list[at..].find(|c| !is_name(c)).unwrap_or(0)]);
                begins = false;
            }
            _ => {}
        }
    }
    names
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

fn rank(module: &str) -> Option<usize> {
    ORDER.iter().position(|known| *known == module)
}

/// Fails with everything that was found, not with the first alone.
fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn a_module_knows_only_modules_before_it() {
    let sources = Source::all();
    let lib = sources.iter().find(|source| source.path == "lib.rs").unwrap();
    let mut re_exports = re_exports(lib);
    assert_eq!(re_exports.get("NewEvent").map(String::as_str), Some("model"));
    // An exported macro is named at the root, wherever it stands.
    for source in &sources {
        let names = names_after(&source.code, "#[macro_export]\nmacro_rules! ");
        let names = names.map(|(_, rest)| imported(rest).concat());
        re_exports.extend(names.map(|name| (name, source.module().to_owned())));
    }
    let mut found = Vec::new();
    let mut seen = 0;
    for source in sources.iter().filter(|source| source.path != "lib.rs" && source.is_library()) {
        let module = source.module();
        let Some(own) = rank(module) else {
            found.push(format!("src/{}: module {module} has no place in ORDER", source.path));
            continue;
        };
        for (at, rest) in names_after(&source.code, "crate::") {
            for name in imported(rest).into_iter().filter(|name| !name.is_empty()) {
                seen += 1;
                let target = re_exports.get(name).map_or(name, String::as_str);
                let is_allowed = target == module
                    || rank(target).is_some_and(|rank| rank < own)
                    || EXCEPTIONS.iter().any(|(from, to, _)| *from == module && *to == target);
                if !is_allowed {
                    let line = line_of(&source.code, at);
                    found.push(format!("src/{}:{line}: {module} knows {target}", source.path));
                }
            }
        }
    }
    assert!(seen > 50, "imports were not found: {seen}");
    assert_none(&found, "a module knows only modules named before it in ORDER");
}

#[test]
fn a_module_does_not_reach_out_of_its_directory_by_super() {
    let mut found = Vec::new();
    for source in Source::all() {
        // A file that is a module of its own at the top has nothing above it but the crate.
        let depth = source.path.matches('/').count() - usize::from(source.path.ends_with("mod.rs"));
        let ups = "super::".repeat(depth + 1);
        if let Some(at) = source.code.find(&ups) {
            found.push(format!("src/{}:{}", source.path, line_of(&source.code, at)));
        }
    }
    assert_none(
        &found,
        "`super` that leaves a top-level module escapes the order: write `crate::`",
    );
}

/// They mount the program as a module of theirs: `crate` is another one there, and so are the libraries.
#[test]
fn the_program_can_be_mounted_by_the_fuzz_targets() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let libraries = |manifest: &str| -> Vec<String> {
        let text = fs::read_to_string(root.join(manifest)).unwrap();
        let lines = text.lines().skip_while(|line| *line != "[dependencies]").skip(1);
        let lines = lines.take_while(|line| !line.starts_with('['));
        lines.filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())).collect()
    };
    let mounted = libraries("fuzz/Cargo.toml");
    let mut found = libraries("Cargo.toml");
    assert!(found.len() > 10, "the dependencies were not found");
    found.retain(|library| !mounted.contains(library));
    assert_none(&found, "the fuzz targets would not build: name it in fuzz/Cargo.toml");

    for source in Source::all().iter().filter(|source| !source.is_library()) {
        for (at, _) in names_after(&source.code, "crate::") {
            found.push(format!("src/{}:{}", source.path, line_of(&source.code, at)));
        }
    }
    assert_none(&found, "the fuzz targets would not build: write `super::`");
}

#[test]
fn each_library_is_used_behind_its_fence_alone() {
    let mut found = Vec::new();
    for (word, places, reason) in FENCES {
        let mut used = false;
        for source in Source::all().iter().filter(|source| source.is_library()) {
            for (at, rest) in names_after(&source.code, word) {
                // A word that goes on is another one; a path is meant to go on.
                let goes_on = rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
                if goes_on && !word.ends_with("::") {
                    continue;
                }
                if places.iter().any(|place| source.path.starts_with(place)) {
                    used = true;
                } else {
                    let line = line_of(&source.code, at);
                    found.push(format!("src/{}:{line}: {word} ({reason})", source.path));
                }
            }
        }
        let is_optional = word.starts_with("thread::");
        assert!(used || is_optional, "{word} is used nowhere: the fence is of no use");
    }
    assert_none(&found, "a library is used outside its fence");
}

#[test]
fn files_functions_and_lines_stay_short() {
    let mut found = Vec::new();
    for Source { path, text, code } in Source::all() {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            found.push(format!("src/{path}: {lines} lines, at most {FILE_LINES_MAX}"));
        }
        for (index, line) in text.lines().enumerate() {
            let len = line.chars().count();
            if len > LINE_LEN_MAX {
                found.push(format!("src/{path}:{}: {len} characters", index + 1));
            }
        }
        for (at, rest) in names_after(&code, "fn ") {
            let Some(open) = rest.find(['{', ';']).filter(|open| rest[*open..].starts_with('{'))
            else {
                continue;
            };
            let body = &rest[..block_end(rest, open)];
            let lines = body.matches('\n').count() + 1;
            if lines > FUNCTION_LINES_MAX {
                let line = line_of(&code, at);
                found.push(format!("src/{path}:{line}: a function of {lines} lines"));
            }
        }
    }
    assert_none(&found, "too long");
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    let sources = Source::all();
    let silent = sources.iter().filter(|source| !source.text.starts_with("//! "));
    let silent: Vec<_> = silent.map(|source| format!("src/{}", source.path)).collect();
    assert_none(&silent, "begin each file with `//! ` and what it is");
}

#[test]
fn the_library_neither_panics_by_shortcut_nor_prints() {
    let mut found = Vec::new();
    for source in Source::all().iter().filter(|source| source.is_library()) {
        // What is in `testing` runs in tests alone: there a panic is the report.
        let may_panic = source.module() == "testing";
        let words = [".unwrap()", "todo!", "unimplemented!", "panic!"];
        let words = words.iter().filter(|_| !may_panic);
        for word in words.chain(&["println!", "print!", "eprint!", "eprintln!", "dbg!"]) {
            for (at, _) in source.code.match_indices(word) {
                if source.code[..at].ends_with(['_', 'e']) && !word.starts_with('.') {
                    continue;
                }
                found.push(format!("src/{}:{}: {word}", source.path, line_of(&source.code, at)));
            }
        }
    }
    assert_none(&found, "not in the library");
}

#[test]
fn every_guarantee_that_is_held_is_cited_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/GUARANTEES.md")).unwrap();
    let mut states = BTreeMap::new();
    for heading in page.lines().filter_map(|line| line.strip_prefix("## G")) {
        let number: u32 = heading.split(' ').next().unwrap().parse().unwrap();
        let held = heading.contains("*held");
        assert!(held || heading.contains("*planned"), "G{number} is neither held nor planned");
        states.insert(number, held);
    }
    assert_eq!(states.keys().copied().collect::<Vec<_>>(), (1..=14).collect::<Vec<_>>());
    let mut tests = Vec::new();
    for directory in ["tests", "src"] {
        collect(&root.join(directory), &mut tests);
    }
    let is_test = |path: &PathBuf| {
        let in_tests = path.starts_with(root.join("tests")) && !path.ends_with("architecture.rs");
        in_tests || path.starts_with(root.join("src/testing"))
    };
    let tests = tests.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let citing: Vec<_> = tests.filter(is_test).map(|p| fs::read_to_string(p).unwrap()).collect();
    let is_cited = |number: u32| {
        let id = format!("G{number}");
        citing.iter().any(|text| {
            names_after(text, &id).any(|(_, rest)| !rest.starts_with(|c: char| c.is_alphanumeric()))
        })
    };
    let uncited = states.iter().filter(|(number, held)| **held && !is_cited(**number));
    let uncited: Vec<_> = uncited.map(|(number, _)| format!("G{number}")).collect();
    assert_none(
        &uncited,
        "held by docs/GUARANTEES.md, but cited by no file in tests/ or src/testing",
    );
}

#[test]
fn no_file_of_the_project_names_a_machine() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Built at run time, so that this file does not name them.
    let homes = ["root", "home", "Users", "work", "tmp"].map(|name| format!("/{name}/"));
    let hosts = ["crates-proxy", "artifactory", "jfrog", "nexus.", "localhost:"];
    let mut found = Vec::new();
    for path in project_files(root) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if name.ends_with("architecture.rs") {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            let words = homes.iter().map(String::as_str).chain(hosts);
            for word in words.filter(|word| names_machine(line, word)) {
                found.push(format!("{name}:{}: {word}", index + 1));
            }
        }
    }
    assert_none(&found, "a path or host of one machine says nothing to anybody else");
}

/// A path is one only at its beginning: a directory of the same name further on in a path or an address is none.
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

#[test]
fn the_example_in_the_readme_is_the_quickstart_that_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let example = fs::read_to_string(root.join("examples/quickstart.rs")).unwrap();
    let between = |text: &str, begin: &str, end: &str| {
        let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("no {begin:?}"));
        rest.split_once(end).unwrap_or_else(|| panic!("no {end:?}")).0.trim().to_owned()
    };
    let shown = between(&readme, "```rust\n", "```");
    assert_eq!(shown, between(&example, "// readme: begin\n", "// readme: end"));
}

#[test]
fn the_code_in_the_guide_is_that_of_the_bank_that_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("docs/GUIDE.md")).unwrap();
    let flat = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let files = ["account.rs", "main.rs", "old_events.rs", "read_models.rs"];
    let mut sources: Vec<_> = files.map(|file| root.join("examples/bank").join(file)).to_vec();
    sources.push(root.join("tests/bank.rs"));
    let sources: String =
        sources.iter().map(|path| flat(&fs::read_to_string(path).unwrap())).collect();
    let blocks: Vec<_> =
        guide.split("```rust\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    assert!(blocks.len() > 10, "the guide shows code");
    let strange = blocks.iter().filter(|block| !sources.contains(&flat(block)));
    let strange: Vec<_> = strange.map(|block| (*block).to_owned()).collect();
    assert_none(&strange, "docs/GUIDE.md shows code that is not in examples/bank or tests/bank.rs");
}

#[test]
fn the_example_of_the_format_is_the_golden_frame() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/FORMAT.md")).unwrap();
    let (_, example) = page.split_once("```text\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    // What is said of the bytes stands behind two spaces.
    let bytes = example.lines().filter_map(|line| line.split("  ").next());
    let shown: String = bytes.flat_map(|bytes| bytes.split(' ')).collect();
    let source = fs::read_to_string(root.join("src/format/frame.rs")).unwrap();
    let (_, golden) = source.split_once("const GOLDEN: &str = concat!(").unwrap();
    let (golden, _) = golden.split_once(");").unwrap();
    let golden: String = golden.split('"').skip(1).step_by(2).collect();
    assert!(golden.len() > 200 && shown == golden, "{shown}\n{golden}");
}

#[test]
fn a_link_between_the_pages_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
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

mod of_this_file {
    use super::*;

    #[test]
    fn comments_strings_characters_and_tests_are_not_code() {
        let text = "a /* b */ \"c \\\" crate::d\" 'e' '\\'' '\"' <'f> r#\"g \" h\"# b\"i\" // j\nk";
        let code = strip(text);
        assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "<'f>", "k"]);
        assert_eq!(code.len(), text.len());
        let tested = "x #[cfg(test)]\nmod t { use crate::y; { } } z";
        assert_eq!(without_tests(tested).split_whitespace().collect::<Vec<_>>(), ["x", "z"]);
        assert_eq!(imported("{a::{b, c}, d as e, f}"), ["a", "d", "f"]);
        assert_eq!(imported("a::b"), ["a"]);
    }
}
