//! Parts of the texts of [`Error`](super::Error).

use crate::model::{Position, Timestamp, Version};

pub(crate) fn found_version(actual: Option<Version>) -> String {
    actual.map_or_else(|| "it has no events".to_owned(), |last| format!("it is at version {last}"))
}

pub(super) fn labelled(label: Option<&str>) -> String {
    label.map_or_else(String::new, |label| format!(" ({label})"))
}

pub(super) fn head_of(head: Option<Position>) -> String {
    head.map_or("which is empty".to_owned(), |head| format!("position {head}"))
}

pub(super) fn at_position(position: Option<Position>) -> String {
    position.map_or_else(String::new, |position| format!(" at position {position}"))
}

pub(super) fn as_of_time(time: Option<Timestamp>) -> String {
    time.map_or_else(String::new, |time| format!(" as of {time}"))
}

pub(super) fn place_of(position: Option<Position>) -> String {
    position.map_or_else(|| "its beginning".to_owned(), |position| format!("position {position}"))
}

pub(super) fn other_format(found: u64, supported: u64) -> String {
    if found > supported {
        return format!("but this version of annals knows {supported}: use a later version");
    }
    "which was never released: export it with the program that wrote it (annals export), and \
     import it here (annals import)"
        .to_owned()
}

pub(super) fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

pub(super) fn kept_of_input(lines: u64) -> String {
    if lines == 0 {
        return "; nothing was added".to_owned();
    }
    format!(
        "; lines 1 to {lines} are in the store, and importing the complete input continues after them"
    )
}

pub(super) fn kept(lines: u64) -> String {
    if lines == 0 {
        return "; nothing was added".to_owned();
    }
    format!("; lines 1 to {lines} are in the store, and importing again continues after them")
}
