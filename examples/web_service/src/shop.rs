//! [`Shop`]: the open store, everything made from it, and the commands.

use std::path::PathBuf;
use std::time::Duration;

use annals::prelude::*;
use annals::{
    Async, AsyncProjectionManager, AsyncRepository, AsyncStore, CommandBuilder, DecideError, Error,
    Executed, ProjectionError, ProjectionState, UniqueValues, View,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::customer::{Customer, CustomerCommand, CustomerError};
use crate::failure::{Failure, log};
use crate::order::{Order, OrderCommand, OrderError, Placement};
use crate::order_list::{self, OrderList};
use crate::product::{Product, ProductCommand};
use crate::request::Context;
use crate::returns::Returns;

/// How many aggregates of each type are kept in memory.
const CACHED: usize = 10_000;

/// How the store is opened.
#[derive(Clone)]
pub struct Config {
    pub directory: PathBuf,
    /// Hides unique values in stream ids. It must stay the same, and outside the store.
    pub secret: Vec<u8>,
    pub disk_reserve_bytes: u64,
    /// How often a feed without changes sends something, so that a broken connection is found.
    pub heartbeat: Duration,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Config").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// The open store, and everything that is made from it.
#[derive(Debug)]
pub struct Shop {
    pub store: AsyncStore,
    pub customers: AsyncRepository<Customer>,
    pub products: AsyncRepository<Product>,
    pub orders: AsyncRepository<Order>,
    emails: UniqueValues,
    references: UniqueValues,
    pub processes: AsyncProjectionManager,
}

impl Shop {
    /// Opens the store, and starts the projections.
    ///
    /// # Errors
    /// Those of opening the store, and of starting a projection.
    pub async fn open(config: &Config) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let options = Store::options().disk_reserve_bytes(config.disk_reserve_bytes);
        let ten_seconds = Duration::from_secs(10);
        let store = AsyncStore::open_within(options, &config.directory, ten_seconds).await?;
        let products = repository(&store);
        let processes = ProjectionManager::new(store.blocking())
            .register(OrderList)?
            .register_async(Returns { products: products.clone() })?
            .on_notice(|notice| log(notice));
        let processes = AsyncProjectionManager::new(processes);
        match processes.start().await {
            // As on a full disk: requests that only read can be served, and it is tried again.
            Err(ProjectionError::Store(error)) if error.is_temporary() => log(error),
            started => started?,
        }
        Ok(Self {
            customers: repository(&store),
            orders: repository(&store),
            emails: UniqueValues::new(store.blocking(), "email", &config.secret)?,
            references: UniqueValues::new(store.blocking(), "reference", &config.secret)?,
            products,
            processes,
            store,
        })
    }

    /// Stops the projections, and closes the store.
    ///
    /// # Errors
    /// Those of [`AsyncStore::close`].
    pub async fn close(&self) -> annals::Result<()> {
        self.processes.stop().await;
        self.store.close().await
    }

    /// Registers a customer, or changes one.
    ///
    /// # Errors
    /// A [`Failure`] for the client.
    pub async fn customer(
        &self,
        id: &str,
        command: CustomerCommand,
        context: &Context,
    ) -> Result<Executed<Customer>, Failure> {
        let emails = self.emails.clone();
        let done = with_context(self.customers.command(id), context)
            .also(move |decision| {
                let (old, new) = (&decision.before().email, &decision.after().email);
                match emails.change(decision, old.as_deref(), new.as_deref()) {
                    // As a rejection by the domain it is recorded with the key.
                    Err(Error::ValueTaken { .. }) => {
                        Err(ExecuteError::Rejected(CustomerError::EmailTaken))
                    }
                    other => Ok(other?),
                }
            })
            .run(command);
        Ok(done.await?)
    }

    /// Adds a product, or stock of one.
    ///
    /// # Errors
    /// A [`Failure`] for the client.
    pub async fn product(
        &self,
        id: &str,
        command: ProductCommand,
        context: &Context,
    ) -> Result<Executed<Product>, Failure> {
        Ok(with_context(self.products.command(id), context).run(command).await?)
    }

    /// Places an order: it reserves the stock and claims the reference in the same append.
    ///
    /// # Errors
    /// A [`Failure`] for the client.
    pub async fn place(
        &self,
        id: &str,
        placement: Placement,
        context: &Context,
    ) -> Result<Executed<Order>, Failure> {
        let (order, context) = (id.to_owned(), context.clone());
        let command = with_context(self.orders.command(id), &context);
        let Placement { customer, product, quantity, .. } = placement.clone();
        // `also` runs on a thread that may block, so it reads with the blocking calls.
        let customers = self.customers.blocking().clone();
        let products = self.products.blocking().clone();
        let references = self.references.clone();
        let done = command
            .also(move |decision| {
                if customers.find(&customer)?.is_none() {
                    return Err(ExecuteError::Rejected(OrderError::UnknownCustomer));
                }
                let mut product = products.load_or_new(&product)?;
                let reserve = ProductCommand::Reserve { order: order.clone(), quantity };
                product.decide(&reserve).map_err(|error| match error {
                    DecideError::Rejected(rejection) => ExecuteError::Rejected(rejection.into()),
                    DecideError::Payload(error) => error.into(),
                })?;
                let reserved: annals::Result<Vec<_>> =
                    product.uncommitted().iter().map(DomainEvent::encode).collect();
                let reserved = reserved?.into_iter().map(|event| context.describe(event));
                decision.to(product.stream(), product.version().into(), reserved);
                let reference = decision.after().unique_reference();
                match references.change(decision, None, reference.as_deref()) {
                    Err(Error::ValueTaken { .. }) => {
                        Err(ExecuteError::Rejected(OrderError::ReferenceTaken))
                    }
                    other => Ok(other?),
                }
            })
            .run(OrderCommand::Place(placement));
        Ok(done.await?)
    }

    /// Ships or cancels an order.
    ///
    /// # Errors
    /// A [`Failure`] for the client.
    pub async fn order(
        &self,
        id: &str,
        command: OrderCommand,
        context: &Context,
    ) -> Result<Executed<Order>, Failure> {
        Ok(with_context(self.orders.command(id), context).run(command).await?)
    }

    /// The list of orders.
    pub fn order_list(&self) -> View<Async> {
        self.store.view(order_list::NAME)
    }

    /// Starts the projections that stopped by themselves or did not start, as on a full disk.
    ///
    /// # Errors
    /// The reason why one stopped or does not start. It may say that the store must be reopened.
    pub async fn restart_failed(&self) -> Result<(), Failure> {
        for projection in self.processes.projections() {
            let status = projection.status().await?;
            if !matches!(status.state, ProjectionState::Failed | ProjectionState::Stopped) {
                continue;
            }
            let cause = status.failure.as_ref().map(|failure| &failure.cause);
            match cause.and_then(|cause| cause.downcast_ref::<Error>()) {
                Some(error) if error.needs_reopen() => return Err(error.clone().into()),
                _ => projection.start().await?,
            }
        }
        Ok(())
    }
}

fn repository<A>(store: &AsyncStore) -> AsyncRepository<A>
where
    A: Aggregate<Event: Send, Command: Send, Error: Send> + Clone,
{
    AsyncRepository::new(Repository::new(store.blocking()).cache(CACHED))
}

/// Adds to a command what the headers say. Rejections are recorded with the key, so that the same
/// request always has the same answer.
fn with_context<A: Aggregate>(
    command: CommandBuilder<'static, A, Async>,
    context: &Context,
) -> CommandBuilder<'static, A, Async>
where
    A::Error: Serialize + DeserializeOwned,
{
    let command = command
        .expecting(context.expected)
        .with_metadata("user", &context.user)
        .correlated_by(&context.request_id)
        .recording_rejections();
    match &context.key {
        Some(key) => command.idempotency_key(key.clone()),
        None => command,
    }
}
