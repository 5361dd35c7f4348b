//! Deliberate faults, one file each: `*.mutant` next to this program. As a test, it checks that
//! every mutant still applies; `scripts/mutants.sh` uses it to apply one to a copy of the tree.
//!
//! A mutant is located by a function and an expression, so that it survives refactoring:
//!
//! ```text
//! what: the fault
//! guarantee: what it breaks
//! tests: `cargo test` arguments of the cheapest tests that must fail, after any NAME=VALUE
//! survives: why no test can or need detect it; omitted otherwise
//! in: Writer::write
//! replace:
//!     disk.write(batch, durability)
//! with:
//!     disk.write(batch, Durability::Buffered)
//! ```
//!
//! `in` names a function, `Type::function`, `const NAME` or `struct NAME` anywhere under src/. The
//! text to replace must occur once, in exactly one item of that name; white space does not count.
//! `in`, `replace` and `with` may repeat.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A file of src/ and its named items.
struct Source {
    path: PathBuf,
    text: String,
    items: Vec<(String, Range<usize>)>,
}

/// Finds the items of a file and their places.
#[derive(Default)]
struct Items {
    within: Option<String>,
    found: Vec<(String, Range<usize>)>,
}

impl Items {
    fn add(&mut self, name: String, item: &impl Spanned) {
        self.found.push((name, item.span().byte_range()));
    }
}

impl<'ast> Visit<'ast> for Items {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(item.sig.ident.to_string(), item);
        visit::visit_item_fn(self, item);
    }
    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let before = self.within.take();
        if let syn::Type::Path(path) = &*item.self_ty {
            self.within = path.path.segments.last().map(|segment| segment.ident.to_string());
        }
        visit::visit_item_impl(self, item);
        self.within = before;
    }
    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        let name = item.sig.ident.to_string();
        let name = self.within.as_ref().map_or(name.clone(), |within| format!("{within}::{name}"));
        self.add(name, item);
    }
    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.add(format!("const {}", item.ident), item);
    }
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.add(format!("struct {}", item.ident), item);
    }
}

fn sources(directory: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            self::sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut items = Items::default();
            items.visit_file(&syn::parse_file(&text).unwrap());
            sources.push(Source { path, text, items: items.found });
        }
    }
}

/// One replacement of a mutant.
#[derive(Default)]
struct Change {
    within: String,
    old: String,
    new: String,
}

/// Parses the replacements of a mutant.
fn parse(text: &str) -> Result<Vec<Change>, String> {
    let (mut heads, mut changes) = (Vec::new(), Vec::<Change>::new());
    let mut is_new = false;
    for line in text.lines() {
        if let Some(code) = line.strip_prefix("    ") {
            let change = changes.last_mut().ok_or("code before `in:`")?;
            let side = if is_new { &mut change.new } else { &mut change.old };
            side.push_str(code);
            side.push('\n');
        } else if line == "replace:" || line == "with:" {
            is_new = line == "with:";
        } else {
            match line.split_once(": ").ok_or(format!("no such line: {line}"))? {
                ("in", name) => {
                    changes.push(Change { within: name.to_owned(), ..Change::default() });
                }
                (key, _) => heads.push(key),
            }
        }
    }
    for key in ["what", "guarantee", "tests"] {
        if !heads.contains(&key) {
            return Err(format!("no line `{key}:`"));
        }
    }
    if changes.is_empty() || changes.iter().any(|change| change.old.trim().is_empty()) {
        return Err("it replaces nothing".to_owned());
    }
    Ok(changes)
}

/// Finds a text in another, ignoring white space and comments.
fn occurrences(text: &str, wanted: &str) -> Vec<Range<usize>> {
    let mut kept: Vec<(usize, char)> = Vec::new();
    let mut rest = text.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        if text.get(at..).is_some_and(|text| text.starts_with("//")) {
            while rest.next_if(|(_, c)| *c != '\n').is_some() {}
        } else if !c.is_whitespace() {
            kept.push((at, c));
        }
    }
    let wanted: Vec<char> = wanted.chars().filter(|c| !c.is_whitespace()).collect();
    let windows = kept.windows(wanted.len());
    let found = windows.filter(|window| window.iter().map(|(_, c)| c).eq(&wanted));
    found
        .filter_map(|window| {
            let ((first, _), (last, c)) = (window.first()?, window.last()?);
            Some(*first..*last + c.len_utf8())
        })
        .collect()
}

/// The file and the byte range that each change replaces.
fn locate(changes: &[Change], sources: &[Source]) -> Result<Vec<(usize, Range<usize>)>, String> {
    let places = changes.iter().map(|change| {
        let mut found = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let named = source.items.iter().filter(|(name, _)| *name == change.within);
            for (_, range) in named {
                let text = source.text.get(range.clone()).unwrap_or_default();
                let places = occurrences(text, &change.old).into_iter();
                found
                    .extend(places.map(|at| (index, at.start + range.start..at.end + range.start)));
            }
        }
        match found.len() {
            1 => Ok(found.remove(0)),
            count => Err(format!("found {count} times in {}:\n{}", change.within, change.old)),
        }
    });
    places.collect()
}

/// Applies a mutant to the tree of these files.
fn apply(changes: &[Change], sources: &mut [Source]) -> Result<(), String> {
    let mut edits: Vec<_> = locate(changes, sources)?.into_iter().zip(changes).collect();
    edits.sort_by_key(|((_, range), _)| std::cmp::Reverse(range.start));
    for ((index, range), change) in edits {
        let source = sources.get_mut(index).ok_or("no such file")?;
        source.text.replace_range(range, &change.new);
        fs::write(&source.path, &source.text).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn read(tree: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    sources(&tree.join("src"), &mut found);
    found
}

/// `--apply MUTANT TREE` applies a mutant to a tree. Without arguments, checks that all apply here.
fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = root.join("tests/mutants");
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, option, name, tree] = arguments.as_slice()
        && option == "--apply"
    {
        let text = fs::read_to_string(directory.join(format!("{name}.mutant"))).unwrap();
        let applied = parse(&text).and_then(|changes| apply(&changes, &mut read(Path::new(tree))));
        return match applied {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("{name}: {why}");
                ExitCode::FAILURE
            }
        };
    }
    let sources = read(root);
    let (mut count, mut failed) = (0, 0);
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "mutant") {
            continue;
        }
        count += 1;
        let text = fs::read_to_string(&path).unwrap();
        if let Err(why) = parse(&text).and_then(|changes| locate(&changes, &sources)) {
            failed += 1;
            println!("{} does not apply: {why}", path.file_name().unwrap().display());
        }
    }
    println!(
        "\ntest result: {}. {} passed; {failed} failed",
        if failed == 0 { "ok" } else { "FAILED" },
        count - failed
    );
    if failed == 0 && count > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
