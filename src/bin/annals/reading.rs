//! [`Reading`]: a store that a command reads, and releases while its output waits for a slow
//! reader.

use std::path::Path;
use std::thread;
use std::time::Duration;

use annals::{Error, Place, Position, Read, Store, StoreInfo};

use super::output::{Pace, reader_leaves_within, reader_left, stdout_is_file};
use super::print::Printer;
use super::shell::{Failure, Shell, note};

/// Pause between attempts to reopen a store that was released.
const REOPEN_PAUSE: Duration = Duration::from_millis(100);

/// A store that is open for reading, except while the output waits.
pub(crate) struct Reading<'a> {
    shell: &'a Shell,
    dir: &'a Path,
    store: Option<Store>,
    /// Whether the output may wait for a reader. If not, the store stays open to the end.
    lends: bool,
    /// Whether the output is standard output.
    is_stdout: bool,
    /// The state of the store when it was first opened.
    first: StoreInfo,
}

impl<'a> Reading<'a> {
    pub(crate) fn open(shell: &'a Shell, dir: &'a Path) -> Result<Self, Failure> {
        let store = shell.open_to_read(dir)?;
        let first = store.info()?;
        let lends = !stdout_is_file();
        Ok(Self { shell, dir, store: Some(store), lends, is_stdout: true, first })
    }

    /// Sets the output to a file or, if `is_special`, to a pipe or device.
    pub(crate) fn for_file(self, is_special: bool) -> Self {
        Self { lends: is_special, is_stdout: false, ..self }
    }

    /// The head when the store was first opened. A command prints the log up to this head, even if
    /// other processes append while it has released the store.
    pub(crate) fn head(&self) -> Option<Position> {
        self.first.head
    }

    /// Returns the store; reopens it if it was released. Waits while another process holds it.
    pub(crate) fn store(&mut self) -> Result<&Store, Failure> {
        let store = match self.store.take() {
            Some(store) => store,
            None => self.reopen()?,
        };
        Ok(self.store.insert(store))
    }

    /// Releases the store, unless the output is a file, so that other processes can open it for
    /// writing.
    pub(crate) fn let_go(&mut self) -> Result<(), Failure> {
        match self.store.take_if(|_| self.lends) {
            Some(store) => Ok(store.close()?),
            None => Ok(()),
        }
    }

    /// Prints a read of events up to the first head. After the store was released, calls `read`
    /// again, with the printer, which knows the last printed event.
    pub(crate) fn print<P: Place>(
        &mut self,
        printer: &mut Printer,
        read: impl Fn(&Store, &Printer) -> Read<P>,
    ) -> Result<(), Failure> {
        loop {
            let head = self.head();
            let read = read(self.store()?, printer);
            let read = head.into_iter().fold(read, Read::as_of_position);
            let pace = printer.print(read)?;
            if pace == Pace::Steady {
                return Ok(());
            }
            self.let_go()?;
            printer.wait()?;
        }
    }

    fn reopen(&self) -> Result<Store, Failure> {
        let mut has_said = false;
        loop {
            match self.shell.options().read_only(true).open(self.dir) {
                Ok(store) => {
                    self.check(&store.info()?)?;
                    return Ok(store);
                }
                Err(Error::AlreadyOpen { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            if !std::mem::replace(&mut has_said, true) {
                note("the store is open elsewhere; the output continues when it is closed there");
            }
            if !self.is_stdout {
                thread::sleep(REOPEN_PAUSE);
            } else if reader_leaves_within(REOPEN_PAUSE) {
                return Err(reader_left().into());
            }
        }
    }

    /// Checks that the output can continue with this store.
    fn check(&self, now: &StoreInfo) -> Result<(), Failure> {
        check_same(self.dir, &self.first, now)?;
        if now.head < self.first.head {
            let place = |head: Option<Position>| head.map_or(0, Position::get);
            let (now, before) = (place(now.head), place(self.first.head));
            return Err(Failure::Changed(format!(
                "the store in {} went back from position {before} to {now} while it was read: the \
                 output is incomplete; run the command again",
                self.dir.display()
            )));
        }
        Ok(())
    }
}

/// Checks that the directory still holds the store that was read there before.
pub(crate) fn check_same(dir: &Path, before: &StoreInfo, now: &StoreInfo) -> Result<(), Failure> {
    if now.store_id == before.store_id {
        return Ok(());
    }
    Err(Failure::Changed(format!(
        "{} holds another store now ({}, was {}): the output is incomplete; run the command again",
        dir.display(),
        now.store_id,
        before.store_id
    )))
}
