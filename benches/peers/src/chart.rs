//! The answers as bars, in one SVG file: a panel for each question, the longest bar as wide as the panel.

use std::fmt::Write;

use crate::contenders::{ALL, Role};
use crate::report::{Asked, grouped};

const COLUMNS: usize = 2;
const PANEL_WIDTH: usize = 520;
const MARGIN: usize = 20;
const TITLE_HEIGHT: usize = 26;
const BAR_HEIGHT: usize = 15;
const BAR_STEP: usize = 20;
const NAME_WIDTH: usize = 70;
/// Room for the figure behind the longest bar.
const FIGURE_WIDTH: usize = 150;

/// The whole chart.
pub fn svg(asked: &[Asked]) -> String {
    let rows: Vec<&[Asked]> = asked.chunks(COLUMNS).collect();
    let row_height = |row: &[Asked]| {
        let bars = row.iter().map(|one| one.answers.len()).max().unwrap_or_default();
        TITLE_HEIGHT + bars * BAR_STEP + MARGIN
    };
    let height: usize = MARGIN + rows.iter().map(|row| row_height(row)).sum::<usize>();
    let width = MARGIN + COLUMNS * (PANEL_WIDTH + MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#24292f\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let mut top = MARGIN;
    for row in rows {
        for (column, one) in row.iter().enumerate() {
            panel(one, MARGIN + column * (PANEL_WIDTH + MARGIN), top, &mut out);
        }
        top += row_height(row);
    }
    out.push_str("</svg>\n");
    out
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn panel(one: &Asked, left: usize, top: usize, out: &mut String) {
    let title = format!("{}, {}", one.question.title(), one.question.unit());
    let _ = writeln!(
        out,
        "<text x=\"{left}\" y=\"{}\" font-weight=\"600\" font-size=\"10\">{title}</text>",
        top + 12
    );
    let longest =
        one.answers.iter().filter_map(|answer| one.summary(answer)).map(|summary| summary.max);
    let longest = longest.fold(f64::MIN_POSITIVE, f64::max);
    let scale = (PANEL_WIDTH - NAME_WIDTH - FIGURE_WIDTH) as f64 / longest;
    let begin = (left + NAME_WIDTH) as f64;
    for (index, answer) in one.answers.iter().enumerate() {
        let y = top + TITLE_HEIGHT + index * BAR_STEP;
        let (middle, baseline) = (y + BAR_HEIGHT / 2, y + BAR_HEIGHT - 3);
        let entry = ALL.iter().find(|entry| entry.name == answer.contender);
        let is_like = entry.is_some_and(|entry| one.question.is_like(entry));
        let mark = if is_like { "" } else { " †" };
        let name = answer.contender;
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{baseline}\" text-anchor=\"end\">{name}{mark}</text>",
            left + NAME_WIDTH - 6
        );
        let Some(summary) = one.summary(answer) else {
            let _ = writeln!(out, "<text x=\"{begin}\" y=\"{baseline}\">–</text>");
            continue;
        };
        let color = match entry.map(|entry| entry.role) {
            Some(Role::Annals) => "#0969da",
            Some(Role::Baseline) => "#afb8c1",
            _ => "#d4a72c",
        };
        let opacity = if is_like { "1" } else { "0.4" };
        let _ = writeln!(
            out,
            "<rect x=\"{begin}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR_HEIGHT}\" fill=\"{color}\" \
             opacity=\"{opacity}\"/>",
            summary.median * scale
        );
        let (min, max) = (begin + summary.min * scale, begin + summary.max * scale);
        let _ = writeln!(
            out,
            "<path d=\"M{min:.1} {middle}H{max:.1}M{min:.1} {}v6M{max:.1} {}v6\" stroke=\"#24292f\" fill=\"none\"/>",
            middle - 3,
            middle - 3
        );
        let ratio = summary.times_annals.map_or(String::new(), |ratio| format!(" ({ratio:.2}×)"));
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{baseline}\">{}{ratio}</text>",
            max + 6.0,
            grouped(summary.median)
        );
    }
}
