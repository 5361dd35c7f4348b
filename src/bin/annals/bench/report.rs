//! The figures as a page: one file, with nothing outside of it, for light and dark.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::super::shell::Failure;
use super::measure::Figure;
use super::table::{Facts, latency, speed};

const BAR_LEN_MAX: f64 = 560.0;
const STYLE: &str = "\
:root { color-scheme: light dark; --ink: #1d2129; --dim: #616874; --page: #ffffff; --line: #d9dde3; \
--store: #2563ab; --baseline: #b9c2ce; }\n\
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --dim: #9aa3b0; --page: #15181d; --line: #323842; \
--store: #6aa5ec; --baseline: #4b5563; } }\n\
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 62rem; \
margin: 2rem auto; padding: 0 1rem; }\n\
h1 { font-size: 1.4rem; margin-bottom: 0; }\n\
h2 { font-size: 1.1rem; border-bottom: 1px solid var(--line); margin-top: 2rem; }\n\
p, figcaption small { color: var(--dim); }\n\
figure { margin: 1.2rem 0; }\n\
figcaption { display: flex; justify-content: space-between; gap: 1rem; }\n\
svg { width: 100%; height: auto; display: block; }\n\
text { font: 13px system-ui, sans-serif; fill: var(--ink); }\n\
.store { fill: var(--store); }\n\
.baseline { fill: var(--baseline); }\n";

/// Whether a page can be written there, before anything is measured.
pub(crate) fn check(file: &Path) -> Result<(), Failure> {
    let refused = |why: &str| Err(Failure::Usage(format!("--report {}: {why}", file.display())));
    let above = file.parent().filter(|above| !above.as_os_str().is_empty());
    if file.is_dir() {
        return refused("it is a directory");
    }
    if above.is_some_and(|above| !above.is_dir()) {
        return refused("the directory above it is missing");
    }
    Ok(())
}

pub(crate) fn write(file: &Path, facts: &Facts, figures: &[Figure]) -> Result<(), Failure> {
    let doing = || format!("writing {}", file.display());
    fs::write(file, page(facts, figures)).map_err(|error| Failure::file(doing(), error))
}

fn page(facts: &Facts, figures: &[Figure]) -> String {
    let (machine, log) = (escaped(&facts.machine()), escaped(&facts.log));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>annals bench</title>\n<style>\n{STYLE}</style>\n<h1>annals bench</h1>\n\
         <p>{machine}<br>The log: {log}</p>\n\
         <p>The longer bar is the faster. The ratio is the part of the baseline's speed that annals \
         reaches, measured in turn with it in the same run: 1 is as fast.</p>\n"
    );
    let mut group = None;
    for figure in figures {
        if group != Some(figure.group) {
            group = Some(figure.group);
            // Writing to a string cannot fail.
            let _ = writeln!(page, "<h2>{:?}</h2>", figure.group);
        }
        page.push_str(&picture(figure));
    }
    page
}

/// Two bars: how fast the store is, and below it the baseline.
fn picture(figure: &Figure) -> String {
    let ratio = figure.ratio();
    let longest = ratio.max(1.0);
    let len = |part: f64| (part / longest * BAR_LEN_MAX).max(1.0);
    let name = escaped(&figure.name);
    let [p50, p99] = latency(&figure.store);
    let latency = if p50.is_empty() {
        String::new()
    } else {
        format!(" <small>p50 {p50}, p99 {p99}</small>")
    };
    let (store, baseline) = (speed(figure, &figure.store), speed(figure, &figure.baseline));
    let (store_len, baseline_len) = (len(ratio), len(1.0));
    let (store_text, baseline_text) = (store_len + 8.0, baseline_len + 8.0);
    let baseline_is = escaped(figure.baseline_is);
    format!(
        "<figure>\n<figcaption><span><b>{name}</b>{latency}</span><b>{ratio:.2}</b></figcaption>\n\
         <svg viewBox=\"0 0 960 48\" role=\"img\" aria-label=\"{name}: {store}, the baseline {baseline}\">\n\
         <rect class=\"store\" y=\"2\" width=\"{store_len:.1}\" height=\"20\"/>\
         <text x=\"{store_text:.1}\" y=\"17\">annals {store}</text>\n\
         <rect class=\"baseline\" y=\"26\" width=\"{baseline_len:.1}\" height=\"20\"/>\
         <text x=\"{baseline_text:.1}\" y=\"41\">{baseline}: {baseline_is}</text>\n</svg>\n</figure>\n"
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in annals::audit::printable(text).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(character),
        }
    }
    out
}
