//! Draws figures as one SVG file: a grid of panels, each with bars or curves.

use std::fmt::Write;

/// One bar of a panel.
#[derive(Debug)]
pub struct Bar {
    pub name: String,
    /// Its length; without a figure, nothing is drawn.
    pub value: Option<f64>,
    /// The smallest and the largest of several rounds.
    pub range: Option<(f64, f64)>,
    pub label: String,
    pub color: &'static str,
    pub is_pale: bool,
}

/// A curve: its name and its values, one for each place on the axis.
pub type Curve = (&'static str, Vec<f64>);

pub const OWN: &str = "#0969da";
pub const PEER: &str = "#d4a72c";
pub const BASELINE: &str = "#afb8c1";
const INK: &str = "#24292f";
const DIM: &str = "#57606a";

/// Panels of bars, two in a row; in each, the longest bar is as wide as the panel.
pub fn bars(panels: &[(String, Vec<Bar>)]) -> String {
    const COLUMNS: usize = 2;
    const WIDTH: f64 = 520.0;
    const MARGIN: f64 = 20.0;
    const TITLE: f64 = 26.0;
    const STEP: f64 = 20.0;
    const HEIGHT: f64 = 15.0;
    const NAME: f64 = 70.0;
    /// Room for the label after the longest bar.
    const LABEL: f64 = 150.0;
    let mut out = String::new();
    let mut top = MARGIN;
    for row in panels.chunks(COLUMNS) {
        for (column, (title, bars)) in row.iter().enumerate() {
            let left = MARGIN + column as f64 * (WIDTH + MARGIN);
            text(&mut out, (left, top + 12.0), "font-weight=\"600\"", title);
            let longest =
                bars.iter().filter_map(|bar| bar.range.map(|range| range.1).or(bar.value));
            let longest = longest.fold(f64::MIN_POSITIVE, f64::max);
            let scale = (WIDTH - NAME - LABEL) / longest;
            let begin = left + NAME;
            for (index, bar) in bars.iter().enumerate() {
                let y = top + TITLE + index as f64 * STEP;
                let line = y + HEIGHT - 3.0;
                text(&mut out, (begin - 6.0, line), "text-anchor=\"end\"", &bar.name);
                let Some(value) = bar.value else {
                    text(&mut out, (begin, line), "", "–");
                    continue;
                };
                let (len, color) = (value * scale, bar.color);
                let opacity = if bar.is_pale { 0.4 } else { 1.0 };
                let _ = writeln!(
                    out,
                    "<rect x=\"{begin}\" y=\"{y}\" width=\"{len:.1}\" height=\"{HEIGHT}\" \
                     fill=\"{color}\" opacity=\"{opacity}\"/>"
                );
                let mut end = begin + len;
                if let Some((min, max)) = bar.range.map(|(min, max)| (min * scale, max * scale)) {
                    let (min, middle, tick) = (begin + min, y + HEIGHT / 2.0, y + 4.5);
                    end = begin + max;
                    let _ = writeln!(
                        out,
                        "<path d=\"M{min:.1} {middle}H{end:.1}M{min:.1} {tick}v6M{end:.1} \
                         {tick}v6\" stroke=\"{INK}\" fill=\"none\"/>"
                    );
                }
                text(&mut out, (end + 6.0, line), "", &bar.label);
            }
        }
        let most = row.iter().map(|(_, bars)| bars.len()).max().unwrap_or_default();
        top += TITLE + most as f64 * STEP + MARGIN;
    }
    drawing(MARGIN + COLUMNS as f64 * (WIDTH + MARGIN), top, &out)
}

/// Panels of curves, three in a row. The axis is logarithmic; each place comes with its name.
pub fn curves(axis: &[f64], panels: &[(&str, Vec<Curve>)]) -> String {
    const COLUMNS: usize = 3;
    let rows = panels.len().div_ceil(COLUMNS);
    let mut out = String::new();
    for (index, (title, curves)) in panels.iter().enumerate() {
        let (column, row) = (index % COLUMNS, index / COLUMNS);
        let place = (column as f64 * PANEL.0, row as f64 * PANEL.1);
        panel(axis, title, curves, place, &mut out);
    }
    drawing(COLUMNS as f64 * PANEL.0, rows as f64 * PANEL.1, &out)
}

const PANEL: (f64, f64) = (330.0, 200.0);

fn panel(axis: &[f64], title: &str, curves: &[Curve], (left, top): (f64, f64), out: &mut String) {
    let most = curves.iter().flat_map(|(_, values)| values).copied();
    let most = rounded_up(most.fold(f64::MIN_POSITIVE, f64::max));
    let logs: Vec<f64> = axis.iter().map(|place| place.log10()).collect();
    let (first, last) = (logs[0], logs[logs.len() - 1]);
    let (begin, end, base) = (left + 62.0, left + PANEL.0 - 14.0, top + PANEL.1 - 34.0);
    let x =
        |log: f64| begin + (log - first) / (last - first).max(f64::MIN_POSITIVE) * (end - begin);
    let y = |value: f64| base - value / most * (base - top - 34.0);
    text(out, (begin, top + 16.0), "font-weight=\"600\"", title);
    for part in [0.0, 0.5, 1.0] {
        let at = y(most * part);
        let _ = writeln!(out, "<path d=\"M{begin:.1} {at:.1}H{end:.1}\" stroke=\"#d0d7de\"/>");
        let style = format!("text-anchor=\"end\" fill=\"{DIM}\"");
        text(out, (begin - 6.0, at + 4.0), &style, &short(most * part));
    }
    for (place, log) in axis.iter().zip(&logs) {
        let style = format!("text-anchor=\"middle\" fill=\"{DIM}\"");
        text(out, (x(*log), base + 15.0), &style, &short(*place));
    }
    for (index, ((name, values), color)) in curves.iter().zip([OWN, PEER]).enumerate() {
        let points: Vec<_> = logs.iter().zip(values).map(|(log, v)| (x(*log), y(*v))).collect();
        let line: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let line = line.join(" ");
        let _ = writeln!(
            out,
            "<polyline points=\"{line}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>"
        );
        for (x, y) in points {
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>");
        }
        let place = (begin + 95.0 * index as f64, top + 29.0);
        text(out, place, &format!("fill=\"{color}\""), name);
    }
}

fn drawing(width: f64, height: f64, inside: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" \
         fill=\"{INK}\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         {inside}</svg>\n"
    )
}

fn text(out: &mut String, (x, y): (f64, f64), style: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{text}</text>");
}

/// The next of 1, 2, 3, 5 and 8 times a power of ten.
fn rounded_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 3.0, 5.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(value)
}

/// A number in short form, for labels with little room.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value if value >= 10.0 || value == 0.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}
