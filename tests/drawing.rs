//! docs/architecture.svg, drawn from the table of modules in docs/ARCHITECTURE.md, which must be
//! that of src/lib.rs. With `ANNALS_DRAW=1` the picture is written; otherwise it must be there as
//! it would be drawn.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const WIDTH: usize = 960;
const GAP: usize = 12;
const BOX_HEIGHT: usize = 46;
const TITLE_HEIGHT: usize = 30;
/// Characters that fit into a box.
const TEXT_LEN_MAX: usize = 48;

/// A layer: its name, and its modules with what they hold.
struct Layer {
    name: String,
    modules: Vec<(String, String)>,
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The table in docs/ARCHITECTURE.md.
fn layers() -> Vec<Layer> {
    let page = read("docs/ARCHITECTURE.md");
    let (_, table) =
        page.split_once("| layer | module | what it holds |\n|---|---|---|\n").unwrap();
    let mut layers: Vec<Layer> = Vec::new();
    for row in table.lines().take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().replace('`', "")).collect();
        if !cells[1].is_empty() {
            layers.push(Layer { name: cells[1].clone(), modules: Vec::new() });
        }
        layers.last_mut().unwrap().modules.push((cells[2].clone(), cells[3].clone()));
    }
    layers
}

/// Draws a layer with its modules in columns; returns its height.
fn draw(
    svg: &mut String,
    layer: &Layer,
    x: usize,
    y: usize,
    width: usize,
    columns: usize,
) -> usize {
    let rows = layer.modules.len().div_ceil(columns);
    let height = TITLE_HEIGHT + rows * (BOX_HEIGHT + GAP) + GAP;
    let is_engine = layer.name == "engine";
    let (fill, note) = if is_engine { ("#fff8e6", ": feature rocksdb") } else { ("#f6f8fa", "") };
    let box_width = (width - GAP * (columns + 1)) / columns;
    writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"{fill}\" stroke=\"#d0d7de\"/>\n\
         <text x=\"{}\" y=\"{}\" fill=\"#57606a\">{}{note}</text>",
        x + GAP,
        y + 20,
        layer.name
    )
    .unwrap();
    for (index, (module, holds)) in layer.modules.iter().enumerate() {
        assert!(holds.chars().count() <= TEXT_LEN_MAX, "{module}: too long for its box: {holds}");
        let left = x + GAP + (index % columns) * (box_width + GAP);
        let top = y + TITLE_HEIGHT + (index / columns) * (BOX_HEIGHT + GAP);
        writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{top}\" width=\"{box_width}\" height=\"{BOX_HEIGHT}\" rx=\"4\" fill=\"#ffffff\" \
             stroke=\"#8c959f\"/>\n<text x=\"{}\" y=\"{}\" font-weight=\"600\">{module}</text>\n\
             <text x=\"{}\" y=\"{}\" fill=\"#57606a\">{holds}</text>",
            left + 8,
            top + 18,
            left + 8,
            top + 36
        )
        .unwrap();
    }
    height
}

fn arrow(svg: &mut String, x: usize, y: usize) {
    writeln!(
        svg,
        "<path d=\"M{x} {y}v16m-5 -6l5 6l5 -6\" fill=\"none\" stroke=\"#57606a\" stroke-width=\"1.5\"/>"
    )
    .unwrap();
}

/// The picture: a part uses only what is below it.
fn picture(layers: &[Layer]) -> String {
    let named = |name: &str| layers.iter().find(|layer| layer.name == name).unwrap();
    let mut body = String::new();
    let column = (WIDTH - 4 * GAP) / 3;
    let (top, space) = (GAP, 24);
    let columns = ["built on the store traits", "engine", "in-memory store"];
    let mut heights = Vec::new();
    for (index, name) in columns.into_iter().enumerate() {
        let x = GAP + index * (column + GAP);
        heights.push(draw(&mut body, named(name), x, top, column, 1));
    }
    let mut y = top + heights.iter().max().unwrap();
    for (index, height) in heights.iter().enumerate() {
        let x = GAP + index * (column + GAP) + column / 2;
        let line = y - top - height;
        writeln!(body, "<path d=\"M{x} {}v{line}\" stroke=\"#57606a\"/>", top + height).unwrap();
        arrow(&mut body, x, y + 4);
    }
    for name in ["store traits", "basic types", "locks, cache"] {
        y += space;
        y += draw(&mut body, named(name), GAP, y, WIDTH - 2 * GAP, 3);
        if name != "locks, cache" {
            arrow(&mut body, WIDTH / 2, y + 4);
        }
    }
    let height = y + GAP;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"11\" fill=\"#24292f\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

#[test]
fn the_table_of_modules_is_that_of_lib_rs() {
    let lib = read("src/lib.rs");
    let modules = lib.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let name = line.strip_prefix("mod ")?.strip_suffix(';')?;
        // What only packages of this repository see.
        (!name.starts_with("__")).then(|| name.to_owned())
    });
    let table = layers().into_iter().flat_map(|layer| layer.modules).map(|(module, _)| module);
    assert_eq!(table.collect::<Vec<_>>(), modules.collect::<Vec<_>>());
}

#[test]
fn the_picture_is_drawn_from_the_table() {
    let picture = picture(&layers());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.svg");
    if std::env::var_os("ANNALS_DRAW").is_some() {
        fs::write(&file, &picture).unwrap();
    }
    assert!(
        fs::read_to_string(&file).is_ok_and(|there| there == picture),
        "docs/architecture.svg is not up to date: run this test with ANNALS_DRAW=1"
    );
}
