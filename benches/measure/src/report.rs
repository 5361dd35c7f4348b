//! The report of a run, and how figures are written.

use std::fmt::Write;

/// The result of a command.
#[derive(Debug)]
pub struct Report {
    /// For people, as Markdown.
    pub text: String,
    /// For programs: an object.
    pub json: serde_json::Value,
    pub svg: String,
    /// How many runs failed.
    pub failures: usize,
}

/// Longer cells are texts, and not aligned.
const ALIGNED_MAX: usize = 60;

/// A Markdown table whose columns are aligned. The first column is text, the others are figures.
pub fn table<H: AsRef<str>>(heads: &[H], rows: &[Vec<String>]) -> String {
    let len = |cell: &str| cell.chars().count();
    let mut widths: Vec<_> = heads.iter().map(|head| len(head.as_ref()).max(4)).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = len(cell).min(ALIGNED_MAX).max(*width);
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::from("|");
        for (column, (cell, width)) in cells.zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(line, " {cell:<width$} |"),
                _ => write!(line, " {cell:>width$} |"),
            };
        }
        line + "\n"
    };
    let mut out = line(&mut heads.iter().map(AsRef::as_ref));
    for (column, width) in widths.iter().enumerate() {
        let colon = if column == 0 { "-" } else { ":" };
        let _ =
            write!(out, "{}{}{colon}", if column == 0 { "|" } else { "" }, "-".repeat(width + 1));
        out.push('|');
    }
    out.push('\n');
    out.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    out
}

/// A number for display: two decimals below 10, one below 100, otherwise in groups of three digits.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a figure for people")]
pub fn grouped(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.*}", if value < 10.0 { 2 } else { 1 });
    }
    whole(value.round() as u64)
}

/// A whole number in groups of three digits.
pub fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 event`, `262,200 events`.
pub fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", whole(number))
}

/// A time with three significant digits.
pub fn time(seconds: f64) -> String {
    let (number, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "µs"),
    };
    let decimals = if number >= 100.0 { 0 } else { 1 + usize::from(number < 10.0) };
    format!("{number:.decimals$} {unit}")
}

/// A length in bytes.
pub fn size(len: usize) -> String {
    if len >= 1024 && len.is_multiple_of(1024) {
        format!("{} KiB", len / 1024)
    } else {
        format!("{len} B")
    }
}
