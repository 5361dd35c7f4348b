//! The free space of a file system, and whether a compaction fits into it.

use std::path::Path;

use crate::error::Result;

/// More than compactions usually rewrite at once.
const COMPACTION_LEN_MAX: u64 = 2 << 30;

/// Whether compactions can run at open, when the size of the tables is not known yet.
pub(super) fn can_compact(path: &Path, reserve: u64) -> bool {
    reserve == 0 || fits_compaction(free_bytes(path), reserve, || Ok(COMPACTION_LEN_MAX))
}

/// Whether a compaction leaves the reserve untouched. Its output is at most as long as its input.
pub(super) fn fits_compaction(
    free: u64,
    reserve: u64,
    table_bytes: impl FnOnce() -> Result<u64>,
) -> bool {
    let Some(room) = free.checked_sub(reserve) else { return false };
    room >= COMPACTION_LEN_MAX || table_bytes().is_ok_and(|bytes| room >= bytes)
}

/// The free bytes of a file system. If it does not answer, nothing is refused: a failed write is
/// then the only sign of a full disk, as without a reserve.
pub(super) fn free_bytes(path: &Path) -> u64 {
    fs4::available_space(path).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVE: u64 = 64 << 20;

    #[test]
    fn compactions_need_room_for_all_tables_or_for_the_largest() {
        let fits = |free, tables| fits_compaction(free, RESERVE, || Ok(tables));
        assert!(fits(RESERVE + 100, 100));
        assert!(!fits(RESERVE + 99, 100));
        assert!(!fits(RESERVE - 1, 0));
        assert!(fits(RESERVE + COMPACTION_LEN_MAX, u64::MAX));
    }
}
