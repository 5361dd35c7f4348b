//! [`Shop`]: the open store, everything made from it, and the commands. Every call blocks.

use std::path::PathBuf;
use std::time::Duration;

use annals::prelude::*;
use annals::{
    CommandBuilder, DecideError, Error, Executed, ProjectionError, ProjectionState, UniqueValues,
    View,
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
}

impl std::fmt::Debug for Config {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Config").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// The open store, and everything that is made from it.
#[derive(Debug)]
pub struct Shop {
    pub store: Store,
    pub customers: Repository<Customer>,
    pub products: Repository<Product>,
    pub orders: Repository<Order>,
    emails: UniqueValues,
    references: UniqueValues,
    pub processes: ProjectionManager,
}

impl Shop {
    /// Opens the store, and starts the projections.
    ///
    /// # Errors
    /// Those of opening the store, and of starting a projection.
    pub fn open(config: &Config) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let store = Store::options()
            .disk_reserve_bytes(config.disk_reserve_bytes)
            .open_within(&config.directory, Duration::from_secs(10))?;
        let products = Repository::<Product>::new(&store).cache(CACHED);
        let processes = ProjectionManager::new(&store)
            .register(OrderList)?
            .register(Returns { products: products.clone() })?
            .on_notice(|notice| log(notice));
        match processes.start() {
            // As on a full disk: requests that only read can be served, and it is tried again.
            Err(ProjectionError::Store(error)) if error.is_temporary() => log(error),
            started => started?,
        }
        Ok(Self {
            customers: Repository::new(&store).cache(CACHED),
            orders: Repository::new(&store).cache(CACHED),
            emails: UniqueValues::new(&store, "email", &config.secret)?,
            references: UniqueValues::new(&store, "reference", &config.secret)?,
            products,
            processes,
            store,
        })
    }

    /// Stops the projections, and closes the store.
    ///
    /// # Errors
    /// Those of [`Store::close`].
    pub fn close(&self) -> annals::Result<()> {
        self.processes.stop();
        self.store.clone().close()
    }

    /// Registers a customer, or changes one.
    ///
    /// # Errors
    /// A [`Failure`] for the client.
    pub fn customer(
        &self,
        id: &str,
        command: &CustomerCommand,
        context: &Context,
    ) -> Result<Executed<Customer>, Failure> {
        let done = with_context(self.customers.command(id), context)
            .also(|decision| {
                let (old, new) = (&decision.before().email, &decision.after().email);
                match self.emails.change(decision, old.as_deref(), new.as_deref()) {
                    // As a rejection by the domain it is recorded with the key.
                    Err(Error::ValueTaken { .. }) => {
                        Err(ExecuteError::Rejected(CustomerError::EmailTaken))
                    }
                    other => Ok(other?),
                }
            })
            .run(command);
        Ok(done?)
    }

    /// Adds a product, or stock of one.
    ///
    /// # Errors
    /// A [`Failure`] for the client.
    pub fn product(
        &self,
        id: &str,
        command: &ProductCommand,
        context: &Context,
    ) -> Result<Executed<Product>, Failure> {
        Ok(with_context(self.products.command(id), context).run(command)?)
    }

    /// Places an order: it reserves the stock and claims the reference in the same append.
    ///
    /// # Errors
    /// A [`Failure`] for the client.
    pub fn place(
        &self,
        id: &str,
        placement: &Placement,
        context: &Context,
    ) -> Result<Executed<Order>, Failure> {
        let command = OrderCommand::Place(placement.clone());
        let done = with_context(self.orders.command(id), context)
            .also(|decision| {
                if self.customers.find(&placement.customer)?.is_none() {
                    return Err(ExecuteError::Rejected(OrderError::UnknownCustomer));
                }
                let mut product = self.products.load_or_new(&placement.product)?;
                let order = id.to_owned();
                product
                    .decide(&ProductCommand::Reserve { order, quantity: placement.quantity })
                    .map_err(|error| match error {
                        DecideError::Rejected(rejection) => {
                            ExecuteError::Rejected(rejection.into())
                        }
                        DecideError::Payload(error) => error.into(),
                    })?;
                let reserved: annals::Result<Vec<_>> =
                    product.uncommitted().iter().map(DomainEvent::encode).collect();
                let reserved = reserved?.into_iter().map(|event| context.describe(event));
                decision.to(product.stream(), product.version().into(), reserved);
                let reference = decision.after().unique_reference();
                match self.references.change(decision, None, reference.as_deref()) {
                    Err(Error::ValueTaken { .. }) => {
                        Err(ExecuteError::Rejected(OrderError::ReferenceTaken))
                    }
                    other => Ok(other?),
                }
            })
            .run(&command);
        Ok(done?)
    }

    /// Ships or cancels an order.
    ///
    /// # Errors
    /// A [`Failure`] for the client.
    pub fn order(
        &self,
        id: &str,
        command: &OrderCommand,
        context: &Context,
    ) -> Result<Executed<Order>, Failure> {
        Ok(with_context(self.orders.command(id), context).run(command)?)
    }

    /// The list of orders.
    pub fn order_list(&self) -> View {
        self.store.view(order_list::NAME)
    }

    /// Starts the projections that stopped by themselves or did not start, as on a full disk.
    ///
    /// # Errors
    /// The reason why one stopped or does not start. It may say that the store must be reopened.
    pub fn restart_failed(&self) -> Result<(), Failure> {
        for projection in self.processes.projections() {
            let status = projection.status()?;
            if !matches!(status.state, ProjectionState::Failed | ProjectionState::Stopped) {
                continue;
            }
            let cause = status.failure.as_ref().map(|failure| &failure.cause);
            match cause.and_then(|cause| cause.downcast_ref::<Error>()) {
                Some(error) if error.needs_reopen() => return Err(error.clone().into()),
                _ => projection.start()?,
            }
        }
        Ok(())
    }
}

/// Adds to a command what the headers say. Rejections are recorded with the key, so that the same
/// request always has the same answer.
fn with_context<'r, A: Aggregate>(
    command: CommandBuilder<'r, A>,
    context: &Context,
) -> CommandBuilder<'r, A>
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
