//! [`AsyncRepository`]: a repository for tasks.

use std::fmt;

use super::command::CommandBuilder;
use super::execution::{Execution, Outcome, Planned, RepositoryRef, Step};
use super::turns::Turn;
use super::{Aggregate, AggregateRoot, ExecuteError, Executed, Repository};
use crate::error::Result;
use crate::event_store::Async;
use crate::model::{Timestamp, Version};
use crate::pool;

/// A [`Repository`] for tasks. Clones share its cache. Events, commands and errors of the aggregate
/// must be `Send`.
///
/// ```
/// # futures_lite::future::block_on(async {
/// use annals::prelude::*;
/// use annals::{AsyncRepository, AsyncStore};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Deposited { amount: u64 }
/// # annals::domain_events! { Deposited => "Deposited" }
/// # #[derive(Default, Clone)]
/// # struct Account { balance: u64 }
/// # impl Aggregate for Account {
/// #     const CATEGORY: &'static str = "account";
/// #     type Event = Deposited;
/// #     type Command = u64;
/// #     type Error = std::convert::Infallible;
/// #     fn apply(&mut self, event: Deposited) { self.balance += event.amount; }
/// #     fn handle(&self, amount: &u64) -> Result<Vec<Deposited>, Self::Error> {
/// #         Ok(vec![Deposited { amount: *amount }])
/// #     }
/// # }
/// let store = AsyncStore::new(MemoryStore::new());
/// let accounts = AsyncRepository::new(Repository::<Account>::new(store.blocking()).cache(1_000));
/// let done = accounts.command("7").with_metadata("user", "ada").run(200).await?;
/// assert_eq!(done.state().balance, 200);
/// assert_eq!(accounts.load("7").await?.state().balance, 200);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct AsyncRepository<A: Aggregate> {
    repository: Repository<A>,
}

impl<A> AsyncRepository<A>
where
    A: Aggregate<Event: Send, Command: Send, Error: Send>,
{
    /// Opens the async API to a repository.
    pub fn new(repository: Repository<A>) -> Self {
        Self { repository }
    }

    /// The repository itself, whose methods may block.
    pub fn blocking(&self) -> &Repository<A> {
        &self.repository
    }

    /// Runs work that may block, such as [`Repository::save`], on a thread of a pool. If the future
    /// is dropped, work that has begun is completed.
    pub async fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Repository<A>) -> T + Send + 'static,
    ) -> T {
        let repository = self.repository.clone();
        pool::unblock(move || work(&repository)).await
    }

    /// A command to the aggregate with this id: see [`Repository::command`].
    pub fn command(&self, id: impl fmt::Display) -> CommandBuilder<'static, A, Async> {
        let stream = self.repository.stream_id(id);
        CommandBuilder::new(RepositoryRef::Owned(Box::new(self.repository.clone())), stream)
    }

    /// Executes a command. Short for [`AsyncRepository::command`] followed by `run`.
    ///
    /// # Errors
    /// Those of [`Repository::execute`].
    pub async fn execute(
        &self,
        id: impl fmt::Display,
        command: A::Command,
    ) -> Result<Executed<A>, ExecuteError<A::Error>> {
        self.command(id).run(command).await
    }

    /// Loads the current aggregate.
    ///
    /// # Errors
    /// Those of [`Repository::load`].
    pub async fn load(&self, id: impl fmt::Display) -> Result<AggregateRoot<A>> {
        self.read(id, Repository::load).await
    }

    /// Loads the current aggregate; `None` if it does not exist.
    ///
    /// # Errors
    /// Those of [`Repository::find`].
    pub async fn find(&self, id: impl fmt::Display) -> Result<Option<AggregateRoot<A>>> {
        self.read(id, Repository::find).await
    }

    /// Loads the current aggregate, or a new one in its default state if it does not exist.
    ///
    /// # Errors
    /// Those of [`Repository::load_or_new`].
    pub async fn load_or_new(&self, id: impl fmt::Display) -> Result<AggregateRoot<A>> {
        self.read(id, Repository::load_or_new).await
    }

    /// Loads the aggregate as it was at this version.
    ///
    /// # Errors
    /// Those of [`Repository::load_as_of_version`].
    pub async fn load_as_of_version(
        &self,
        id: impl fmt::Display,
        version: Version,
    ) -> Result<AggregateRoot<A>> {
        self.read(id, move |repository, id| repository.load_as_of_version(id, version)).await
    }

    /// Loads the aggregate as it was at this time.
    ///
    /// # Errors
    /// Those of [`Repository::load_as_of`].
    pub async fn load_as_of(
        &self,
        id: impl fmt::Display,
        time: Timestamp,
    ) -> Result<AggregateRoot<A>> {
        self.read(id, move |repository, id| repository.load_as_of(id, time)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        id: impl fmt::Display,
        work: impl FnOnce(&Repository<A>, String) -> T + Send + 'static,
    ) -> T {
        let (repository, id) = (self.repository.clone(), id.to_string());
        pool::run(move || work(&repository, id)).await
    }
}

/// Executes a command as a task.
impl<A> CommandBuilder<'static, A, Async>
where
    A: Aggregate<Event: Send, Command: Send, Error: Send>,
{
    /// Loads the aggregate, lets it decide, and stores the resulting events.
    ///
    /// The aggregate and [`CommandBuilder::also`] decide on a thread of a pool. There `also` may read
    /// with blocking calls, but it must not wait for other tasks, nor command the same aggregate. No
    /// thread waits while the events are stored, or while other callers have their turn. So the
    /// command is taken by value, and closures own what they use, such as a clone of
    /// [`AsyncRepository::blocking`] or of a [`UniqueValues`](crate::UniqueValues).
    ///
    /// If the future is dropped, the command is executed whole or not at all. To find out, send it
    /// again with the same idempotency key.
    ///
    /// # Errors
    /// Those of `run` of the blocking API.
    ///
    /// # Cost
    /// That of `run` of the blocking API, and two hand-overs to the pool; three with a key.
    pub async fn run(self, command: A::Command) -> Outcome<A> {
        let mut execution = Execution::new(self.request, self.stream?);
        let begin = move || {
            let step = execution.begin(&command);
            (execution, command, step)
        };
        let (mut execution, mut command, mut step) = pool::run(begin).await;
        loop {
            (execution, command, step) = match step {
                Step::Done(outcome) => return outcome,
                Step::Wait(stream) => {
                    let turn = Turn::wait_as_task(stream).await;
                    let resume = move || {
                        let step = execution.resume(&command, turn);
                        (execution, command, step)
                    };
                    pool::run(resume).await
                }
                Step::Submit(planned) => {
                    let Planned { work, follow_up } = *planned;
                    let answer = work.submit_async(execution.store()).await;
                    let conclude = move || {
                        let step = execution.conclude(&command, follow_up, answer);
                        (execution, command, step)
                    };
                    pool::run(conclude).await
                }
            };
        }
    }
}

impl<A: Aggregate> Clone for AsyncRepository<A> {
    fn clone(&self) -> Self {
        Self { repository: self.repository.clone() }
    }
}

impl<A: Aggregate> fmt::Debug for AsyncRepository<A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("AsyncRepository").field(&self.repository).finish()
    }
}
