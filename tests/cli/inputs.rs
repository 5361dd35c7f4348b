//! Inputs as other programs write them: byte order marks, compressed files with extra or missing
//! bytes.

use crate::workspace::{Workspace, text};
use crate::{gzip, history};

const BYTE_ORDER_MARK: &str = "\u{feff}";

#[test]
fn byte_order_mark_is_ignored() {
    let desk = Workspace::new();
    let marked = BYTE_ORDER_MARK.to_owned() + &history(20);
    desk.write("h", history(20));
    desk.write("marked", &marked);
    desk.write("marked.gz", gzip(marked.as_bytes()));
    assert_eq!(desk.json(&["import", "a", "marked", "--json"])["added"], 20);
    // The input is the same without it.
    for file in ["h", "marked.gz"] {
        assert_eq!(desk.json(&["import", "a", file, "--json"])["already_there"], 20, "{file}");
    }
    desk.ok(&["import", "b", "h"]);
    assert_eq!(desk.ok(&["export", "a"]), desk.ok(&["export", "b"]));

    let payload = BYTE_ORDER_MARK.to_owned() + "{\"n\":1}\r\n";
    let output = desk.with_input(&["append", "a", "s", "T", "-"], payload.as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(desk.ok(&["read", "a", "s", "--json"]).ends_with("\"data\":{\"n\":1}}\n"));
}

#[test]
fn bytes_after_gzip_data_are_ignored_with_a_warning() {
    let desk = Workspace::new();
    let history = history(3_000);
    let (first, second) = history.split_at(history.len() / 2);
    let members = [gzip(first.as_bytes()), gzip(b""), gzip(second.as_bytes())].concat();
    let trailing: [&[u8]; 5] = [b"", b"junk", &[0; 512], b"\x1f\x00 no member", b"\x1f\x8c"];
    for (at, trailing) in trailing.into_iter().enumerate() {
        let store = format!("s{at}");
        desk.write("h.gz", [&members, trailing].concat());
        let output = desk.run(&["import", &store, "h.gz", "--json"]);
        let warning = text(&output.stderr);
        assert!(output.status.success(), "{warning}");
        assert!(text(&output.stdout).contains("\"added\":3000,"));
        assert_eq!(warning.contains("has bytes after its gzip data"), at > 0, "{warning}");
    }
    // The beginning of a member is not padding: the rest of it is missing.
    for len in [1, 2, 15] {
        desk.write("h.gz", [&members, &gzip(b"")[..len]].concat());
        let complaint = desk.fails(1, &["import", &format!("cut{len}"), "h.gz"]);
        assert!(complaint.contains("its gzip data ends too early"), "{complaint}");
        assert!(complaint.contains("lines 1 to 3000 are in the store"), "{complaint}");
    }
}

#[test]
fn append_of_empty_standard_input_is_refused() {
    let desk = Workspace::new();
    let append = ["append", "a", "s", "T", "-"];
    for (option, input) in [("--json", ""), ("--json", " \n"), ("--text", ""), ("--bytes", "")] {
        let output = desk.with_input(&[&append[..], &[option]].concat(), input.as_bytes());
        let complaint = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{complaint}");
        assert!(complaint.starts_with("annals: standard input is empty"), "{complaint}");
    }
    assert!(!desk.path("a").exists());
}

#[test]
fn numbers_of_any_length_keep_their_bytes() {
    let desk = Workspace::new();
    let data = "{\"a\":123456789012345678901234567890,\"b\":[0.1234567890123456789012345678901234567890], \
                \"c\":1e400,\"d\":1.500}";
    desk.ok(&["append", "a", "s", "T", data]);
    desk.with_input(&["append", "a", "s", "T", "-"], data.as_bytes());
    let exported = desk.ok(&["export", "a", "-"]);
    desk.write("h", &exported);
    desk.ok(&["import", "b", "h"]);
    for store in ["a", "b"] {
        for args in [
            &["log", store][..],
            &["log", store, "--json"],
            &["read", store, "s"],
            &["read", store, "s", "--json"],
            &["export", store],
        ] {
            assert_eq!(desk.ok(args).matches(data).count(), 2, "{args:?}");
        }
    }
}
