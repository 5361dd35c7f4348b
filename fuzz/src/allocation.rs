//! Counts what a thread allocates, so that a target can limit the memory of a decoder.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes allocated and not yet freed since the count began.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    /// The maximum of that number.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn add(bytes: isize) {
    // A thread that ends may free memory after its counters are gone.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

fn len(layout: Layout) -> isize {
    isize::try_from(layout.size()).unwrap_or(isize::MAX)
}

// Every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(len(layout));
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(len(layout));
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        add(-len(layout));
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_len: usize) -> *mut u8 {
        // Both the old and the new allocation may exist at once.
        add(isize::try_from(new_len).unwrap_or(isize::MAX));
        add(-len(layout));
        unsafe { System.realloc(at, layout, new_len) }
    }
}

/// Runs `work`, and panics if it ever held more than `bound` additional bytes.
pub(crate) fn within<T>(bound: usize, what: &str, work: impl FnOnce() -> T) -> T {
    within_bound_of(|_| bound, what, work)
}

/// The same, if the bound depends on the result.
pub(crate) fn within_bound_of<T>(
    bound: impl FnOnce(&T) -> usize,
    what: &str,
    work: impl FnOnce() -> T,
) -> T {
    let before = LIVE.get();
    PEAK.set(before);
    let done = work();
    let most = PEAK.get() - before;
    let bound = bound(&done);
    assert!(
        most <= isize::try_from(bound).unwrap_or(isize::MAX),
        "{what} allocated {most} bytes, more than {bound}"
    );
    done
}
