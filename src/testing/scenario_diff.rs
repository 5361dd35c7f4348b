//! A line diff of two texts.

/// The lines of both texts: prefix `  ` for common lines, `- ` for lines only in `expected`, `+ `
/// for lines only in `actual`.
pub(super) fn diff(expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<_>, Vec<_>) =
        (expected.lines().collect(), actual.lines().collect());
    let common = common_lens(&expected, &actual);
    let len_at = |e: usize, a: usize| common.get(e).and_then(|row| row.get(a)).copied();
    let (mut e, mut a) = (0, 0);
    let mut out = String::new();
    let mut put = |mark: &str, line: &str| {
        out.push_str(mark);
        out.push_str(line);
        out.push('\n');
    };
    loop {
        match (expected.get(e), actual.get(a)) {
            (None, None) => return out,
            (Some(line), Some(other)) if line == other => {
                put("  ", line);
                (e, a) = (e + 1, a + 1);
            }
            (Some(line), None) => {
                put("- ", line);
                e += 1;
            }
            // If both choices are equally good, missing lines come before surplus ones.
            (Some(line), Some(_)) if len_at(e + 1, a) >= len_at(e, a + 1) => {
                put("- ", line);
                e += 1;
            }
            (_, Some(line)) => {
                put("+ ", line);
                a += 1;
            }
        }
    }
}

/// For each pair of suffixes, the length of their longest common subsequence of lines.
fn common_lens(expected: &[&str], actual: &[&str]) -> Vec<Vec<usize>> {
    let mut rows = vec![vec![0; actual.len() + 1]];
    for line in expected.iter().rev() {
        let mut row = vec![0; actual.len() + 1];
        if let Some(below) = rows.last() {
            for (at, other) in actual.iter().enumerate().rev() {
                let len = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(0);
                let best = if line == other {
                    len(below, at + 1) + 1
                } else {
                    len(below, at).max(len(&row, at + 1))
                };
                if let Some(cell) = row.get_mut(at) {
                    *cell = best;
                }
            }
        }
        rows.push(row);
    }
    rows.reverse();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_lines_are_aligned() {
        assert_eq!(diff("a\nb\nc\nd", "a\nc\nx\nd\ne"), "  a\n- b\n  c\n+ x\n  d\n+ e\n");
        assert_eq!(diff("", "a\n"), "+ a\n");
        assert_eq!(diff("a", ""), "- a\n");
        assert_eq!(diff("a\nb", "c\nd"), "- a\n- b\n+ c\n+ d\n");
        assert_eq!(diff("", ""), "");
    }
}
