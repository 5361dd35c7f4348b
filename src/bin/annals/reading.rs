//! [`Reading`]: a store that a command reads, and lets go of while its output waits for a slow
//! reader.

use std::path::Path;
use std::thread;
use std::time::Duration;

use annals::{Error, Place, Position, Read, Store, StoreInfo};

use super::output::{Pace, reader_leaves_within, reader_left, stdout_is_file};
use super::print::Printer;
use super::shell::{Failure, Shell, note};

/// How often a command that let go of a store tries to open it again.
const REOPEN_PAUSE: Duration = Duration::from_millis(100);

/// A store that is open for reading, but for the time that the output waits.
pub(crate) struct Reading<'a> {
    shell: &'a Shell,
    dir: &'a Path,
    store: Option<Store>,
    /// Whether the output may wait for a reader: else the store is kept to the end.
    lends: bool,
    /// Whether the output is standard output.
    is_stdout: bool,
    /// The store as it was when it was opened first.
    first: StoreInfo,
}

impl<'a> Reading<'a> {
    pub(crate) fn open(shell: &'a Shell, dir: &'a Path) -> Result<Self, Failure> {
        let store = shell.open_to_read(dir)?;
        let first = store.info()?;
        let lends = !stdout_is_file();
        Ok(Self { shell, dir, store: Some(store), lends, is_stdout: true, first })
    }

    /// The output is a file, or, if that is special, a pipe or a device.
    pub(crate) fn for_file(self, is_special: bool) -> Self {
        Self { lends: is_special, is_stdout: false, ..self }
    }

    /// The head when the store was opened first: a command prints the log up to there, even if
    /// others append while it has let go of the store.
    pub(crate) fn head(&self) -> Option<Position> {
        self.first.head
    }

    /// The store; opened again if it was let go of. Waits while another process holds it.
    pub(crate) fn store(&mut self) -> Result<&Store, Failure> {
        let store = match self.store.take() {
            Some(store) => store,
            None => self.reopen()?,
        };
        Ok(self.store.insert(store))
    }

    /// Lets other processes open the store for writing, unless the output is a file.
    pub(crate) fn let_go(&mut self) -> Result<(), Failure> {
        match self.store.take_if(|_| self.lends) {
            Some(store) => Ok(store.close()?),
            None => Ok(()),
        }
    }

    /// Prints a read of events up to the first head. `read` is asked again, with what was printed
    /// so far, after the store was let go of.
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
                note("the store is open elsewhere: the output goes on when it is closed there");
            }
            if !self.is_stdout {
                thread::sleep(REOPEN_PAUSE);
            } else if reader_leaves_within(REOPEN_PAUSE) {
                return Err(reader_left().into());
            }
        }
    }

    /// Whether the output can go on with this store.
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
