//! Runs the targets without the fuzzing engine: on the inputs in `corpus/`, and on many random
//! changes of them, the same ones every time. The corpus keeps every input that once found a fault,
//! so that it is always tried again.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use annals_fuzz::targets::{PURE, Target};

const MUTATIONS: usize = 10_000;
const LEN_MAX: usize = 2_048;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(root().join("corpus").join(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seed"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{target} has initial inputs");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Runs a target; if it panics, reports the input.
fn check((name, target): Target, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{name} panics on the {} bytes {hex}", input.len());
    }
}

fn check_all(targets: &[Target], mutations: usize) {
    for target in targets {
        let corpus = corpus(target.0);
        check(*target, b"");
        corpus.iter().for_each(|input| check(*target, input));
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
        for _ in 0..mutations {
            check(*target, &chance.mutation(&corpus));
        }
    }
}

#[test]
fn targets_hold_on_the_corpus_and_on_mutations_of_it() {
    check_all(&PURE, MUTATIONS);
}

/// Fewer runs: each store takes time.
#[cfg(feature = "full")]
#[test]
fn full_targets_hold_on_the_corpus_and_on_mutations_of_it() {
    check_all(&annals_fuzz::full::FULL, 20);
}

#[test]
fn every_target_is_listed_in_manifest_and_docs() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let (manifest, runner, page) = (read("Cargo.toml"), read("run"), read("README.md"));
    let mut names = Vec::new();
    let mut kept = 0;
    for entry in fs::read_dir(root().join("fuzz_targets")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(fs::read_to_string(&path).unwrap().contains(&format!("::{name}(data)")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let mut words = runner.split(|c: char| !c.is_alphanumeric());
        assert!(words.any(|word| word == name), "{name}");
        assert!(page.contains(&format!("| `{name}` |")), "{name}");
        kept += corpus(&name).iter().map(Vec::len).sum::<usize>();
        names.push(name);
    }
    for (name, _) in PURE {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
    assert!(kept < 50_000, "the corpus stays small: {kept} bytes");
}

/// Xorshift: the same pseudorandom numbers every time.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap() % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        let byte = self.next().to_be_bytes()[2];
        // Bytes at the ends matter most.
        [byte, 0, 0xff, 0xfd][self.below(4)]
    }

    /// One of the inputs, changed in a few places.
    fn mutation(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..1 + self.below(4) {
            let (at, byte) = (self.below(input.len() + 1), self.byte());
            match self.below(6) {
                0 => input.insert(at, byte),
                1 if at < input.len() => input[at] = byte,
                2 if at < input.len() => input[at] ^= 1 << (byte % 8),
                3 if at < input.len() => drop(input.remove(at)),
                4 => {
                    let other = &corpus[self.below(corpus.len())];
                    let from = self.below(other.len());
                    input.truncate(at);
                    input.extend_from_slice(&other[from..]);
                }
                _ => {
                    let piece = input[at..].to_vec();
                    input.extend(piece);
                }
            }
            input.truncate(LEN_MAX);
        }
        input
    }
}
