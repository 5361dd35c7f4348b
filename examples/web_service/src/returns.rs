//! A process manager: a cancelled order returns its stock to the product.

use annals::prelude::*;
use annals::{AsyncProjection, AsyncRepository, IdempotencyKey, Query, RequestDigest, Target};

use crate::order::OrderEvent;
use crate::product::{Product, ProductCommand};

#[derive(Debug)]
pub struct Returns {
    pub products: AsyncRepository<Product>,
}

impl AsyncProjection for Returns {
    type Event = OrderEvent;

    fn name(&self) -> &'static str {
        "returns"
    }

    fn target(&self) -> Target {
        Target::Reactor
    }

    fn query(&self) -> Query {
        Query::category("order")
    }

    async fn handle(
        &self,
        event: &TypedEvent<OrderEvent>,
        _: &mut ViewWriter,
    ) -> Result<(), HandlerError> {
        let OrderEvent::Cancelled { product, quantity } = &event.event else { return Ok(()) };
        let order = event.stream().as_str().strip_prefix("order-").unwrap_or_default().to_owned();
        // After a crash the event may be handled again; its id as a key returns the stock once.
        let digest = RequestDigest::of(event.id().as_bytes());
        let key = IdempotencyKey::new("returns", event.id().to_string(), digest)?;
        let command = self.products.command(product).idempotency_key(key).following(event);
        command.run(ProductCommand::Return { order, quantity: *quantity }).await?;
        Ok(())
    }
}
