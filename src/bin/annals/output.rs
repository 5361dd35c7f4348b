//! Output of commands that print much, written by a thread of its own: a slow reader, such as a
//! pager, keeps that thread waiting and not the command, which can let go of the store meanwhile.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How much is handed to the writing thread at once.
const CHUNK_LEN: usize = 1 << 16;
/// How many chunks may wait there.
const CHUNKS_MAX: usize = 4;
/// A reader that takes no chunk for this long is slow.
const PATIENCE: Duration = Duration::from_millis(50);

/// Collects bytes, and has them written to `W` in order.
pub(crate) struct Output<W> {
    chunk: Vec<u8>,
    /// How many bytes were collected so far.
    len: u64,
    /// To the writing thread; `None` once it is to end.
    chunks: Option<Sender<Vec<u8>>>,
    /// Chunks that were written come back, emptied.
    written: Receiver<Vec<u8>>,
    /// How many chunks have not come back.
    waiting: usize,
    thread: Option<JoinHandle<io::Result<W>>>,
}

/// Whether the reader keeps up.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use = "a slow reader must not keep the store"]
pub(crate) enum Pace {
    Steady,
    /// Let go of the store, then call [`Output::wait`].
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

    /// Has what was collected written once it is worth it. A caller asks after each event.
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

    /// How many bytes were collected so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Waits until all that was collected is written.
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

    /// Waits until everything is written, and gives back what it was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.hand_over()?;
        self.end().unwrap_or_else(|| Err(ended()))
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        // One that came back is used again.
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

    /// Why the writing thread ended before its time.
    fn failure(&mut self) -> io::Error {
        self.end().and_then(Result::err).unwrap_or_else(ended)
    }
}

impl<W> Output<W> {
    /// Lets the writing thread write what it has, and end; `None` if it had ended before.
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
        // The command takes none back at its end.
        let _ = written.send(chunk);
    }
    out.flush()?;
    Ok(out)
}

/// Only collects: [`Output::offer`] has it written.
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

/// What a command printed before it failed is written.
impl<W> Drop for Output<W> {
    fn drop(&mut self) {
        if let Some(chunks) = self.chunks.take() {
            // The thread may have failed; the command has a failure to report already.
            let _ = chunks.send(mem::take(&mut self.chunk));
        }
        let _ = self.end();
    }
}

/// Waits, at most for this long, for the reader of standard output to go away; whether it did.
#[cfg(unix)]
pub(crate) fn reader_leaves_within(pause: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let stdout = io::stdout();
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    let Ok(timeout) = Timespec::try_from(pause) else { return false };
    match poll(&mut watched, Some(&timeout)) {
        Ok(0) => false,
        Ok(_) => true,
        // A signal came, or this cannot be watched.
        Err(_) => {
            thread::sleep(pause);
            false
        }
    }
}

/// Waits for this long: nothing here watches standard output.
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

/// Whether standard output is known to be a file.
#[cfg(not(unix))]
pub(crate) fn stdout_is_file() -> bool {
    false
}

/// The failure of a command whose reader went away while it waited.
pub(crate) fn reader_left() -> io::Error {
    io::Error::from(ErrorKind::BrokenPipe)
}
