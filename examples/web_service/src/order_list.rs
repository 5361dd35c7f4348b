//! The list of orders: a read model of the events of orders and products.

use annals::prelude::*;
use annals::{Async, Query, QueryItem, View, ViewKey};
use serde::{Deserialize, Serialize};

use crate::order::{OrderEvent, OrderStatus, Placement};
use crate::product::ProductEvent;

domain_event_union! {
    pub enum ShopEvent {
        Order(OrderEvent),
        Product(ProductEvent),
    }
}

pub const NAME: &str = "orders";

/// One line of the list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    pub id: String,
    pub customer: String,
    pub product: String,
    pub product_name: String,
    pub quantity: u64,
    pub status: OrderStatus,
    /// Whether a cancelled order has returned its stock.
    pub returned: bool,
}

#[derive(Debug)]
pub struct OrderList;

impl Projection for OrderList {
    type Event = ShopEvent;

    fn name(&self) -> &'static str {
        NAME
    }

    fn query(&self) -> Query {
        QueryItem::new().category("order").category("product").into()
    }

    fn handle(
        &self,
        event: &TypedEvent<ShopEvent>,
        view: &mut ViewWriter,
    ) -> Result<(), HandlerError> {
        let id = id_of(event.stream());
        match &event.event {
            ShopEvent::Product(ProductEvent::Added { name }) => view.put(("product", id), name)?,
            ShopEvent::Product(ProductEvent::StockReturned { order, .. }) => {
                view.update(("order", order), |line: &mut OrderLine| line.returned = true)?;
            }
            ShopEvent::Product(
                ProductEvent::StockAdded { .. } | ProductEvent::StockReserved { .. },
            ) => {}
            ShopEvent::Order(OrderEvent::Placed(placed)) => {
                let Placement { customer, product, quantity, .. } = placed.clone();
                let product_name = view.get(("product", &product))?.unwrap_or_default();
                let line = OrderLine {
                    id: id.to_owned(),
                    customer,
                    product,
                    product_name,
                    quantity,
                    ..OrderLine::default()
                };
                view.put(("order", id), &line)?;
            }
            ShopEvent::Order(OrderEvent::Shipped) => set_status(view, id, OrderStatus::Shipped)?,
            ShopEvent::Order(OrderEvent::Cancelled { .. }) => {
                set_status(view, id, OrderStatus::Cancelled)?;
            }
        }
        Ok(())
    }
}

fn set_status(view: &mut ViewWriter, id: &str, status: OrderStatus) -> annals::Result<()> {
    view.update(("order", id), |line: &mut OrderLine| line.status = status)
}

fn id_of(stream: &StreamId) -> &str {
    stream.as_str().split_once('-').map_or("", |(_, id)| id)
}

/// A page of the list, in the order of the ids, and the id after which the next page begins.
///
/// # Errors
/// An error of reading the read model.
pub async fn page(
    orders: &View<Async>,
    after: Option<&str>,
    limit: usize,
) -> annals::Result<(Vec<OrderLine>, Option<String>)> {
    let mut entries = orders.entries().under("order");
    if let Some(after) = after {
        entries = entries.after(ViewKey::new(("order", after))?);
    }
    // One more than the page shows whether there is a next one.
    let mut lines = Vec::new();
    let mut items = entries.limit(limit + 1).items::<OrderLine>();
    while let Some(entry) = items.next().await {
        let (_, line) = entry?;
        lines.push(line);
    }
    let has_next = lines.len() > limit;
    lines.truncate(limit);
    let next = lines.last().filter(|_| has_next).map(|line| line.id.clone());
    Ok((lines, next))
}
