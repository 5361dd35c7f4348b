//! The structure of src/: which file may know which, where a library may be used, how long things
//! may get. docs/ARCHITECTURE.md says why. It parses the sources and links nothing of the crate, so
//! it runs at once.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A path in code, and where alone it may be used.
const FENCES: [(&str, &[&str], &str); 9] = [
    ("rocksdb", &["storage"], "the engine can be understood, and replaced, in one place"),
    ("bincode", &["format", "codec/binary.rs"], "the bytes on disk are decided in one place"),
    ("fs4", &["storage"], "only the disk knows how full it is"),
    ("crc32fast", &["format"], "the bytes on disk are decided in one place"),
    ("crossbeam_channel", &["subscription"], "only a subscription is handed to a channel"),
    ("thread::spawn", &["testing"], "threads have names: use thread::Builder"),
    (
        "thread::Builder",
        &[
            "read",
            "subscription",
            "projection",
            "commit/backfill.rs",
            "commit/lane_thread.rs",
            "event_store/watch.rs",
            "store/deletion.rs",
        ],
        "no other part starts threads",
    ),
    (
        "blocking::unblock",
        &["pool.rs"],
        "the threads that block for tasks are bounded in one place",
    ),
    ("SystemTime::now", &["options.rs", "memory"], "a clock is given, so that tests can give one"),
];
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_LEN_MAX: usize = 120;

/// A file under src/.
struct Source {
    /// Relative to src/, with `/`.
    path: String,
    /// The module that it is: empty for lib.rs.
    module: Vec<String>,
    text: String,
    code: syn::File,
    names: Names,
}

/// A path that a file names outside of its tests: `use a::b::{c, d}` names two.
struct Named {
    path: Vec<String>,
    is_re_export: bool,
    line: usize,
}

/// Collects what a file names, and the first line and the length of its functions.
#[derive(Default)]
struct Names {
    named: Vec<Named>,
    functions: Vec<(usize, usize)>,
}

impl Names {
    fn import(&mut self, tree: &syn::UseTree, mut path: Vec<String>, is_re_export: bool) {
        let name = match tree {
            syn::UseTree::Path(part) => {
                path.push(part.ident.to_string());
                return self.import(&part.tree, path, is_re_export);
            }
            syn::UseTree::Group(group) => {
                let trees = group.items.iter();
                return trees.for_each(|tree| self.import(tree, path.clone(), is_re_export));
            }
            syn::UseTree::Name(name) => name.ident.to_string(),
            syn::UseTree::Rename(name) => name.ident.to_string(),
            syn::UseTree::Glob(_) => "*".to_owned(),
        };
        path.push(name);
        self.named.push(Named { path, is_re_export, line: tree.span().start().line });
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_cfg_test = |attribute: &syn::Attribute| {
            let list = attribute.meta.require_list();
            list.is_ok_and(|list| list.path.is_ident("cfg") && list.tokens.to_string() == "test")
        };
        if !item.attrs.iter().any(is_cfg_test) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_re_export = !matches!(item.vis, syn::Visibility::Inherited);
        self.import(&item.tree, Vec::new(), is_re_export);
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_block(&mut self, block: &'ast syn::Block) {
        let span = block.span();
        self.functions.push((span.start().line, span.end().line + 1 - span.start().line));
        visit::visit_block(self, block);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let (line, names) = (path.span().start().line, path.segments.iter());
        let names: Vec<_> = names.map(|segment| segment.ident.to_string()).collect();
        // A name alone is local, or imported by a `use`.
        if names.len() > 1 {
            self.named.push(Named { path: names, is_re_export: false, line });
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        // Most are called with expressions, as `format!` is.
        let arguments = syn::punctuated::Punctuated::<syn::Expr, syn::Token![,]>::parse_terminated;
        if let Ok(arguments) = item.parse_body_with(arguments) {
            for argument in arguments {
                let mut names = Self::default();
                names.visit_expr(&argument);
                self.named.append(&mut names.named);
            }
        }
    }
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
}

/// Every file under src/.
fn sources() -> Vec<Source> {
    let (src, mut files) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), Vec::new());
    rust_files(&src, &mut files);
    let sources = files.into_iter().map(|file| {
        let text = fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(&src).unwrap().to_str().unwrap().replace('\\', "/");
        let module = path.trim_end_matches(".rs").split('/').map(str::to_owned);
        let module = module.filter(|name| name != "mod" && name != "lib").collect();
        let code = syn::parse_file(&text).unwrap();
        let mut names = Names::default();
        names.visit_file(&code);
        Source { path, module, text, code, names }
    });
    let sources: Vec<_> = sources.collect();
    assert!(sources.len() > 50, "src/ was not found");
    sources
}

fn library() -> Vec<Source> {
    sources().into_iter().filter(|source| !source.path.starts_with("bin/")).collect()
}

/// Finds the file that defines what a path names.
struct Index {
    files: BTreeMap<Vec<String>, usize>,
    /// What a module names again, under its new path.
    re_exports: BTreeMap<Vec<String>, Vec<String>>,
}

impl Index {
    fn new(sources: &[Source]) -> Self {
        let files = sources.iter().enumerate().map(|(at, source)| (source.module.clone(), at));
        let mut index = Self { files: files.collect(), re_exports: BTreeMap::new() };
        for source in sources {
            for named in source.names.named.iter().filter(|named| named.is_re_export) {
                let name = named.path.last().unwrap().clone();
                let new = [source.module.as_slice(), &[name]].concat();
                index.re_exports.insert(new, named.path.clone());
            }
            // An exported macro is at the root, wherever it is written.
            for (at, _) in source.text.match_indices("#[macro_export]\nmacro_rules! ") {
                let name = source.text[at..].split_whitespace().nth(2).unwrap().to_owned();
                let path = source.module.iter().chain([&name]).cloned().collect();
                index.re_exports.insert(vec![name], path);
            }
        }
        index
    }

    /// The file that defines what `path` names in `module`; `None` for other crates.
    fn file(&self, module: &[String], path: &[String], depth: usize) -> Option<usize> {
        let is_child = self.files.contains_key(&[module, &path[..1]].concat());
        let mut at = module.to_vec();
        if !["crate", "self", "super"].contains(&path[0].as_str()) && !is_child && depth == 0 {
            return None;
        }
        for name in path {
            let child = [at.as_slice(), std::slice::from_ref(name)].concat();
            match (name.as_str(), self.re_exports.get(&child)) {
                ("crate", _) => at.clear(),
                ("self", _) => {}
                ("super", _) => _ = at.pop(),
                _ if self.files.contains_key(&child) => at = child,
                (_, Some(target)) if depth < 5 => return self.file(&at, target, depth + 1),
                _ => break,
            }
        }
        self.files.get(&at).copied()
    }
}

/// Which file knows which, and in which line. A re-export does not count.
fn knowledge(sources: &[Source]) -> BTreeMap<(usize, usize), usize> {
    let index = Index::new(sources);
    let mut edges = BTreeMap::new();
    for (from, source) in sources.iter().enumerate().filter(|(_, source)| source.path != "lib.rs") {
        for named in source.names.named.iter().filter(|named| !named.is_re_export) {
            if let Some(to) = index.file(&source.module, &named.path, 0).filter(|to| *to != from) {
                edges.entry((from, to)).or_insert(named.line);
            }
        }
    }
    assert!(edges.len() > 200, "imports were not found: {}", edges.len());
    edges
}

/// Fails with everything that was found, not with the first alone.
fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn a_module_knows_only_modules_above_it_in_lib_rs() {
    let sources = library();
    let lib = sources.iter().find(|source| source.path == "lib.rs").unwrap();
    let order = lib.code.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) if module.content.is_none() => Some(module.ident.to_string()),
        _ => None,
    });
    let order: Vec<_> = order.collect();
    let rank = |module: &str| order.iter().position(|known| known == module);
    let mut found = Vec::new();
    for ((from, to), line) in knowledge(&sources) {
        let (from, to) = (&sources[from], &sources[to]);
        let (own, other) = (&from.module[0], to.module.first().map_or("", String::as_str));
        if own != other && rank(other) >= rank(own) {
            found.push(format!("src/{}:{line}: {own} knows {}", from.path, to.path));
        }
    }
    assert_none(&found, "a module knows only modules that lib.rs names before it");
}

#[test]
fn files_do_not_know_each_other_in_a_circle() {
    let sources = library();
    let mut edges = knowledge(&sources);
    // The words are about each other.
    edges.retain(|(from, _), _| sources[*from].module[0] != "model");
    // A file that knows no other, or that no other knows, is in no circle.
    loop {
        let before = edges.len();
        let (from, to): (BTreeSet<_>, BTreeSet<_>) = edges.keys().copied().unzip();
        edges.retain(|edge, _| from.contains(&edge.1) && to.contains(&edge.0));
        if edges.len() == before {
            break;
        }
    }
    let circles = edges.iter().map(|((from, to), line)| {
        format!("src/{}:{line}: knows {}", sources[*from].path, sources[*to].path)
    });
    assert_none(&circles.collect::<Vec<_>>(), "these files know each other in a circle");
}

#[test]
fn each_library_is_used_behind_its_fence_alone() {
    let (sources, mut found) = (library(), Vec::new());
    for (word, places, reason) in FENCES {
        let mut is_used = false;
        for source in &sources {
            let is_inside = places.iter().any(|place| {
                source.path == *place || source.module.first().is_some_and(|own| own == place)
            });
            for named in &source.names.named {
                if format!("::{}::", named.path.join("::")).contains(&format!("::{word}::")) {
                    is_used |= is_inside;
                    let place = format!("src/{}:{}: {word} ({reason})", source.path, named.line);
                    found.extend(Some(place).filter(|_| !is_inside));
                }
            }
        }
        assert!(is_used || word == "thread::spawn", "{word} is used nowhere: remove the fence");
    }
    assert_none(&found, "a library is used outside its fence");
}

#[test]
fn files_functions_and_lines_stay_short() {
    let mut found = Vec::new();
    for Source { path, text, names, .. } in sources() {
        if !text.starts_with("//! ") {
            found.push(format!("src/{path}: begin it with `//! ` and what it is"));
        }
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            found.push(format!("src/{path}: {lines} lines, at most {FILE_LINES_MAX}"));
        }
        for (index, line) in text.lines().enumerate() {
            if line.chars().count() > LINE_LEN_MAX {
                found.push(format!("src/{path}:{}: a line of more than {LINE_LEN_MAX}", index + 1));
            }
        }
        for (line, lines) in names.functions.into_iter().filter(|(_, n)| *n > FUNCTION_LINES_MAX) {
            found.push(format!("src/{path}:{line}: a function of {lines} lines"));
        }
    }
    assert_none(&found, "too long, or silent");
}
