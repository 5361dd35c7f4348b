//! Output of commands that print much. A separate thread writes it: a slow reader, such as a pager,
//! blocks that thread and not the command, which can release the store meanwhile.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How many bytes are handed to the writing thread at once.
const CHUNK_LEN: usize = 1 << 16;
/// The most chunks that may wait there.
const CHUNKS_MAX: usize = 4;
/// A reader that takes no chunk for this long is slow.
const PATIENCE: Duration = Duration::from_millis(50);

/// Collects bytes for a thread that writes them to `W` in order.
pub(crate) struct Output<W> {
    chunk: Vec<u8>,
    /// The number of bytes collected so far.
    len: u64,
    /// Sends chunks to the writing thread; `None` once the thread must end.
    chunks: Option<Sender<Vec<u8>>>,
    /// Written chunks come back here, emptied.
    written: Receiver<Vec<u8>>,
    /// The number of chunks that have not come back.
    waiting: usize,
    thread: Option<JoinHandle<io::Result<W>>>,
}

/// Whether the reader keeps up.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use = "a slow reader must not keep the store"]
pub(crate) enum Pace {
    Steady,
    /// The reader is slow: release the store, then call [`Output::wait`].
    Slow,
}

impl<W: Write + Send + 'static> Output<W> {
    pub(crate) fn new(out: W) -> io::Result<Self> {
        let (chunks, to_write) = mpsc::channel();
        let (back, written) = mpsc::channel();
        let thread = thread::Builder::new().spawn(move || write_chunks(out, &to_write, &back))?;
        Ok(Self {
            chunk: Vec::with_capacity(CHUNK_LEN),
            len: 0,
            chunks: Some(chunks),
            written,
            waiting: 0,
            thread: Some(thread),
        })
    }

    /// Hands the collected bytes to the writing thread once a chunk is full. Callers call it after
    /// each event.
    pub(crate) fn offer(&mut self) -> io::Result<Pace> {
        if self.chunk.len() < CHUNK_LEN {
            return Ok(Pace::Steady);
        }
        if self.waiting == CHUNKS_MAX {
            match self.written.recv_timeout(PATIENCE) {
                Ok(_) => self.waiting -= 1,
                Err(RecvTimeoutError::Timeout) => return Ok(Pace::Slow),
                Err(RecvTimeoutError::Disconnected) => return Err(self.failure()),
            }
        }
        self.hand_over()?;
        Ok(Pace::Steady)
    }

    /// The number of bytes collected so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Waits until all collected bytes are written.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        self.hand_over()?;
        while self.waiting > 0 {
            if self.written.recv().is_err() {
                return Err(self.failure());
            }
            self.waiting -= 1;
        }
        Ok(())
    }

    /// Waits until everything is written, and returns the writer.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.hand_over()?;
        self.end().unwrap_or_else(|| Err(ended()))
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        // A chunk that came back is reused.
        let next = self.written.try_recv().ok();
        self.waiting -= usize::from(next.is_some());
        let next = next.unwrap_or_else(|| Vec::with_capacity(CHUNK_LEN));
        let full = mem::replace(&mut self.chunk, next);
        let sent = self.chunks.as_ref().is_some_and(|chunks| chunks.send(full).is_ok());
        if !sent {
            return Err(self.failure());
        }
        self.waiting += 1;
        Ok(())
    }

    /// The error that ended the writing thread early.
    fn failure(&mut self) -> io::Error {
        self.end().and_then(Result::err).unwrap_or_else(ended)
    }
}

impl<W> Output<W> {
    /// Lets the writing thread write its remaining chunks and end; `None` if it has already ended.
    fn end(&mut self) -> Option<io::Result<W>> {
        self.chunks = None;
        Some(self.thread.take()?.join().unwrap_or_else(|_| Err(ended())))
    }
}

fn ended() -> io::Error {
    io::Error::other("the thread that writes the output ended")
}

fn write_chunks<W: Write>(
    mut out: W,
    chunks: &Receiver<Vec<u8>>,
    written: &Sender<Vec<u8>>,
) -> io::Result<W> {
    for mut chunk in chunks {
        out.write_all(&chunk)?;
        chunk.clear();
        // At its end, the command no longer receives chunks.
        let _ = written.send(chunk);
    }
    out.flush()?;
    Ok(out)
}

/// Only collects bytes: [`Output::offer`] hands them to the writing thread.
impl<W> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        self.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the output that a command printed before it failed.
impl<W> Drop for Output<W> {
    fn drop(&mut self) {
        if let Some(chunks) = self.chunks.take() {
            // The thread may have failed, but the command already has a failure to report.
            let _ = chunks.send(mem::take(&mut self.chunk));
        }
        let _ = self.end();
    }
}

/// Waits up to `pause` for the reader of standard output to exit; returns whether it did.
#[cfg(unix)]
pub(crate) fn reader_leaves_within(pause: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let stdout = io::stdout();
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    let Ok(timeout) = Timespec::try_from(pause) else { return false };
    match poll(&mut watched, Some(&timeout)) {
        Ok(0) => false,
        Ok(_) => true,
        // A signal arrived, or standard output cannot be polled.
        Err(_) => {
            thread::sleep(pause);
            false
        }
    }
}

/// Waits for `pause`: standard output cannot be watched on this platform.
#[cfg(not(unix))]
pub(crate) fn reader_leaves_within(pause: Duration) -> bool {
    thread::sleep(pause);
    false
}

/// Whether standard output is a file, which never waits for a reader.
#[cfg(unix)]
pub(crate) fn stdout_is_file() -> bool {
    use std::os::fd::AsFd;

    let copy = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    copy.and_then(|file| file.metadata()).is_ok_and(|about| about.is_file())
}

/// Whether standard output is known to be a file: never, on this platform.
#[cfg(not(unix))]
pub(crate) fn stdout_is_file() -> bool {
    false
}

/// The failure of a command when the reader of its output exits while it waits.
pub(crate) fn reader_left() -> io::Error {
    io::Error::from(ErrorKind::BrokenPipe)
}
