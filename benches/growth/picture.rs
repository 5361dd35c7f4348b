//! The steps as curves, in one SVG file: a panel for each cost, the number of events to the right, each ten times as
//! many as far as the last ten times.

use std::fmt::Write;

use crate::Step;

const COLUMNS: usize = 3;
const WIDTH: f64 = 330.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 62.0;
const TOP: f64 = 34.0;
const RIGHT: f64 = 14.0;
const BOTTOM: f64 = 34.0;
const COLORS: [&str; 2] = ["#0969da", "#d4a72c"];

type Curve = (&'static str, fn(&Step) -> f64);

pub(crate) fn svg(steps: &[Step]) -> String {
    let panels: [(&str, &[Curve]); 9] = [
        ("append, events/s", &[("appends of 10", |step| step.append)]),
        (
            "append of 10 events, µs",
            &[("p50", |step| step.append_p50), ("p99", |step| step.append_p99)],
        ),
        (
            "load a stream of 10, µs",
            &[("again", |step| step.load_again), ("first", |step| step.load_first)],
        ),
        ("replay, events/s", &[("borrowed", |step| step.replay)]),
        (
            "open, ms",
            &[("after closing", |step| step.open), ("after a crash", |step| step.open_after_crash)],
        ),
        ("memory, MiB", &[("resident", |step| step.memory)]),
        ("disk, bytes an event", &[("after closing", |step| step.disk)]),
        ("written / payload", &[("bytes", |step| step.written)]),
        ("until compaction rests, s", &[("after appending", |step| step.settle)]),
    ];
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, height) = (COLUMNS as f64 * WIDTH, rows as f64 * HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} \
         {height}\" font-family=\"system-ui, sans-serif\" font-size=\"11\" fill=\"#24292f\">\n<rect \
         width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (index, (title, curves)) in panels.iter().enumerate() {
        let (column, row) = (index % COLUMNS, index / COLUMNS);
        let place = (column as f64 * WIDTH, row as f64 * HEIGHT);
        panel(steps, title, curves, place, &mut out);
    }
    out.push_str("</svg>\n");
    out
}

fn panel(steps: &[Step], title: &str, curves: &[Curve], (left, top): (f64, f64), out: &mut String) {
    let values = curves.iter().flat_map(|(_, value)| steps.iter().map(value));
    let most = rounded_up(values.fold(f64::MIN_POSITIVE, f64::max));
    let logs = steps.iter().map(|step| (step.events as f64).log10());
    let (first, last) = (logs.clone().fold(f64::MAX, f64::min), logs.fold(0.0, f64::max));
    let (wide, high) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let x = |step: &Step| {
        let part = ((step.events as f64).log10() - first) / (last - first).max(f64::MIN_POSITIVE);
        left + LEFT + part * wide
    };
    let y = |value: f64| top + TOP + high * (1.0 - value / most);
    let (begin, end) = (left + LEFT, left + LEFT + wide);
    let _ = writeln!(
        out,
        "<text x=\"{begin}\" y=\"{}\" font-weight=\"600\">{title}</text>",
        top + 16.0
    );
    for part in [0.0, 0.5, 1.0] {
        let (at, value) = (y(most * part), short(most * part));
        let _ = writeln!(
            out,
            "<path d=\"M{begin:.1} {at:.1}H{end:.1}\" stroke=\"#d0d7de\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\" fill=\"#57606a\">{value}</text>",
            begin - 6.0,
            at + 4.0
        );
    }
    for step in steps {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#57606a\">{}</text>",
            x(step),
            y(0.0) + 15.0,
            short(step.events as f64)
        );
    }
    for (index, ((name, value), color)) in curves.iter().zip(COLORS).enumerate() {
        let points: Vec<_> =
            steps.iter().map(|step| format!("{:.1},{:.1}", x(step), y(value(step)))).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            points.join(" ")
        );
        for step in steps {
            let _ = writeln!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{color}\"/>",
                x(step),
                y(value(step))
            );
        }
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{color}\">{name}</text>",
            begin + 95.0 * index as f64,
            top + 29.0
        );
    }
}

/// The next of 1, 2, 3, 5 and 8 times a power of ten.
fn rounded_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 3.0, 5.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(value)
}

/// As people write it where there is little room.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value if value >= 10.0 || value == 0.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}
