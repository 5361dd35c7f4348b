//! Prints the entries of a view, made by a projection or kept by a program without one.

use std::io::{self, Stdout, Write};

use annals::audit::printable;
use annals::{
    Checkpoint, Direction, Error, ReadView, Store, ViewKey, ViewScan, ViewStore, ViewStoreExt,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use serde_json::value::RawValue;

use super::super::output::{Output, Pace};
use super::super::print::{hex, one_line, plain};
use super::super::reading::Reading;
use super::super::shell::{Failure, Shell, note};
use super::Args;

/// The page size for reading the entries of a view that no projection made.
const PAGE_ENTRIES_MAX: usize = 256;

/// Prints entries, and keeps track of the last one.
struct Printer<'a> {
    name: &'a str,
    args: &'a Args,
    json: bool,
    out: Output<Stdout>,
    /// How many may still be printed.
    left: usize,
    /// The key of the last entry.
    last: Option<Vec<u8>>,
}

/// Prints the entries of an existing view.
pub(super) fn print(
    mut reading: Reading<'_>,
    name: &str,
    args: &Args,
    shell: &Shell,
) -> Result<(), Failure> {
    let left = args.limit.unwrap_or(usize::MAX);
    let out = Output::new(io::stdout())?;
    let mut printer = Printer { name, args, json: shell.json, out, left, last: None };
    let mut directory = None;
    let mut pace = Pace::Slow;
    while pace == Pace::Slow {
        let printed = reading.store().and_then(|store| printer.page(store, &mut directory));
        // The store is released before the output waits for its reader, even after an error.
        reading.let_go()?;
        pace = printed?;
        if pace == Pace::Slow {
            printer.out.wait()?;
        }
    }
    printer.out.finish()?;
    if printer.last.is_none() && !shell.json {
        note(&format!("read model {} holds no such entries", printable(name)));
    }
    Ok(())
}

impl Printer<'_> {
    /// Prints the remaining entries, until the reader of the output is slow. `directory` is the
    /// checkpoint of the view when the first entry was read; for a projection it identifies the
    /// build that is read.
    fn page(&mut self, store: &Store, directory: &mut Option<Checkpoint>) -> Result<Pace, Failure> {
        match store.view(self.name).position() {
            Err(Error::NotAProjection { .. }) => return self.kept(store),
            position => position?,
        };
        let now = ViewStore::checkpoint(store, self.name)?;
        if directory.is_none() {
            *directory = now;
        } else if *directory != now {
            return Err(Error::ViewReplaced { projection: self.name.to_owned() }.into());
        }
        // Values are printed as they are stored, so that numbers of any size are unchanged.
        for entry in self.read(store)?.iter::<Box<RawValue>>() {
            let (key, value) = entry?;
            let pace =
                self.entry(Some(&key.to_string()), key.as_bytes(), value.get().as_bytes())?;
            if pace == Pace::Slow {
                return Ok(pace);
            }
        }
        Ok(Pace::Steady)
    }

    fn read(&self, store: &Store) -> annals::Result<ReadView> {
        let mut read = store.view(self.name).entries().limit(self.left);
        if let Some(prefix) = &self.args.prefix {
            read = read.prefix(prefix);
        }
        if let Some(under) = &self.args.under {
            read = read.under(under);
        }
        if self.args.backward {
            read = read.backward();
        }
        if let Some(last) = &self.last {
            read = read.after(ViewKey::from_bytes(last.clone())?);
        }
        Ok(read)
    }

    /// Prints the entries of a view that no projection made, page by page.
    fn kept(&mut self, store: &Store) -> Result<Pace, Failure> {
        let under = self.args.under.as_ref();
        let under = under.map(|under| ViewKey::new(under)?.then("")).transpose()?;
        let prefix = match (&self.args.prefix, &under) {
            (Some(prefix), _) => prefix.as_bytes(),
            (_, Some(under)) => under.as_bytes(),
            _ => &[],
        };
        let direction = if self.args.backward { Direction::Backward } else { Direction::Forward };
        while self.left > 0 {
            let page = store.scan_view(&ViewScan {
                view: self.name.to_owned(),
                prefix: prefix.to_vec(),
                after: self.last.clone(),
                direction,
                entries_max: self.left.min(PAGE_ENTRIES_MAX),
            })?;
            for (key, value) in page.entries {
                let pace = self.entry(std::str::from_utf8(&key).ok(), &key, &value)?;
                if pace == Pace::Slow {
                    return Ok(pace);
                }
            }
            if !page.has_more {
                break;
            }
        }
        Ok(Pace::Steady)
    }

    fn entry(&mut self, text: Option<&str>, key: &[u8], value: &[u8]) -> io::Result<Pace> {
        let json = serde_json::from_slice::<&RawValue>(value).ok();
        let json = json.map(|json| one_line(json.get()));
        if self.json {
            // Keys of different parts may look the same as text, but their bytes differ.
            write!(self.out, "{{\"key\":{},\"key_hex\":\"{}\",", json!(text), hex(key))?;
            match json {
                Some(json) => writeln!(self.out, "\"value\":{json}}}")?,
                None => writeln!(self.out, "\"value_base64\":\"{}\"}}", BASE64.encode(value))?,
            }
        } else {
            let key = text.map_or_else(|| plain(key), printable);
            let value = json.map_or_else(|| plain(value), |json| printable(&json));
            writeln!(self.out, "{key}  {value}")?;
        }
        self.left -= 1;
        self.last = Some(key.to_vec());
        self.out.offer()
    }
}
