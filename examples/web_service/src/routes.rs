//! The routes: each turns a request into a call of the [`Shop`](crate::shop::Shop), and its result
//! into an answer.

use std::sync::Arc;
use std::time::Duration;

use annals::prelude::*;
use annals::{AggregateRoot, Executed, HealthState, Position, Version};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::customer::{Customer, CustomerCommand};
use crate::failure::Failure;
use crate::live;
use crate::order::{Order, OrderCommand, Placement};
use crate::order_list;
use crate::product::{Product, ProductCommand};
use crate::request::{BODY_LEN_MAX, Command, Id, Params, etag};
use crate::service::Service;
use crate::shop::Shop;

/// The position of the last event in an answer: send it as `at_least` to read a list that has it.
const POSITION: HeaderName = HeaderName::from_static("x-position");
/// Whether the request had been done before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// How long a list waits until it has the position that the client wants to see.
const WAIT: Duration = Duration::from_secs(5);
const PAGE_DEFAULT: usize = 20;
const PAGE_MAX: usize = 100;

type Shared = State<Arc<Service>>;

/// All routes.
pub fn router(service: Arc<Service>) -> Router {
    let missing = async || Failure::new(StatusCode::NOT_FOUND, "no_route", "there is no such path");
    let method = async || {
        let text = "this path does not have this method";
        Failure::new(StatusCode::METHOD_NOT_ALLOWED, "no_method", text)
    };
    Router::new()
        .route("/customers", post(register_customer))
        .route("/customers/{id}", get(customer))
        .route("/customers/{id}/email", put(change_email))
        .route("/products", post(add_product))
        .route("/products/{id}", get(product))
        .route("/products/{id}/stock", post(add_stock))
        .route("/orders", post(place_order).get(orders))
        .route("/orders/{id}", get(order))
        .route("/orders/{id}/ship", post(ship_order))
        .route("/orders/{id}/cancel", post(cancel_order))
        .route("/healthz", get(health))
        .merge(live::router())
        .fallback(missing)
        .method_not_allowed_fallback(method)
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .with_state(service)
}

/// A projection that is behind and does not move for this long is a problem.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// An aggregate as an answer.
struct Answer {
    status: StatusCode,
    version: Option<Version>,
    position: Option<Position>,
    is_retry: bool,
    /// `None` for a command that changed nothing: its state is not recorded, so a repeated request
    /// could get another one.
    body: Option<Value>,
}

impl Answer {
    /// The result of a command. `status` is for one that changed something.
    fn of<A: Aggregate + Shown>(status: StatusCode, id: &str, done: &Executed<A>) -> Self {
        let has_changed = done.appended().is_some();
        Self {
            status: if has_changed { status } else { StatusCode::NO_CONTENT },
            version: done.version().filter(|_| has_changed),
            // Of the whole append: an order also reserves stock, in the stream of its product.
            position: done.appended().map(Appended::last_position),
            is_retry: done.is_retry(),
            body: has_changed.then(|| done.state().shown(id)),
        }
    }

    fn read<A: Aggregate + Shown>(id: &str, root: &AggregateRoot<A>) -> Self {
        Self {
            status: StatusCode::OK,
            version: root.version(),
            position: root.position(),
            is_retry: false,
            body: Some(root.state().shown(id)),
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = match self.body {
            Some(body) => (self.status, Json(body)).into_response(),
            None => self.status.into_response(),
        };
        let headers = response.headers_mut();
        if let Some(version) = self.version
            && let Ok(etag) = HeaderValue::try_from(etag(version))
        {
            headers.insert(header::ETAG, etag);
        }
        if let Some(position) = self.position {
            headers.insert(POSITION, position.get().into());
        }
        if self.is_retry {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// An aggregate as JSON.
trait Shown {
    fn shown(&self, id: &str) -> Value;
}

impl Shown for Customer {
    fn shown(&self, id: &str) -> Value {
        json!({ "id": id, "name": self.name, "email": self.email })
    }
}

impl Shown for Product {
    fn shown(&self, id: &str) -> Value {
        json!({ "id": id, "name": self.name, "stock": self.stock })
    }
}

impl Shown for Order {
    fn shown(&self, id: &str) -> Value {
        json!({ "id": id, "status": self.status, "placed": self.placed })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCustomer {
    name: String,
    email: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewEmail {
    email: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewProduct {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewStock {
    quantity: u64,
}

/// The body of a command that needs none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

async fn register_customer(
    State(service): Shared,
    Command { context, body }: Command<NewCustomer>,
) -> Result<Answer, Failure> {
    let command = CustomerCommand::Register { name: body.name, email: body.email };
    let register = |shop: Arc<Shop>| async move {
        let id = context.new_id();
        let done = shop.customer(&id, command, &context).await?;
        Ok(Answer::of(StatusCode::CREATED, &id, &done))
    };
    service.call(register).await
}

async fn change_email(
    State(service): Shared,
    Id(id): Id,
    Command { context, body }: Command<NewEmail>,
) -> Result<Answer, Failure> {
    let command = CustomerCommand::ChangeEmail { email: body.email };
    let change = |shop: Arc<Shop>| async move {
        let done = shop.customer(&id, command, &context).await?;
        Ok(Answer::of(StatusCode::OK, &id, &done))
    };
    service.call(change).await
}

async fn add_product(
    State(service): Shared,
    Command { context, body }: Command<NewProduct>,
) -> Result<Answer, Failure> {
    let command = ProductCommand::Add { name: body.name };
    let add = |shop: Arc<Shop>| async move {
        let id = context.new_id();
        let done = shop.product(&id, command, &context).await?;
        Ok(Answer::of(StatusCode::CREATED, &id, &done))
    };
    service.call(add).await
}

async fn add_stock(
    State(service): Shared,
    Id(id): Id,
    Command { context, body }: Command<NewStock>,
) -> Result<Answer, Failure> {
    let command = ProductCommand::AddStock { quantity: body.quantity };
    let add = |shop: Arc<Shop>| async move {
        let done = shop.product(&id, command, &context).await?;
        Ok(Answer::of(StatusCode::OK, &id, &done))
    };
    service.call(add).await
}

async fn place_order(
    State(service): Shared,
    Command { context, body }: Command<Placement>,
) -> Result<Answer, Failure> {
    let place = |shop: Arc<Shop>| async move {
        let id = context.new_id();
        let done = shop.place(&id, body, &context).await?;
        Ok(Answer::of(StatusCode::CREATED, &id, &done))
    };
    service.call(place).await
}

async fn ship_order(
    State(service): Shared,
    Id(id): Id,
    Command { context, body: Nothing {} }: Command<Nothing>,
) -> Result<Answer, Failure> {
    let ship = |shop: Arc<Shop>| async move {
        let done = shop.order(&id, OrderCommand::Ship, &context).await?;
        Ok(Answer::of(StatusCode::OK, &id, &done))
    };
    service.call(ship).await
}

async fn cancel_order(
    State(service): Shared,
    Id(id): Id,
    Command { context, body: Nothing {} }: Command<Nothing>,
) -> Result<Answer, Failure> {
    let cancel = |shop: Arc<Shop>| async move {
        let done = shop.order(&id, OrderCommand::Cancel, &context).await?;
        Ok(Answer::of(StatusCode::OK, &id, &done))
    };
    service.call(cancel).await
}

async fn customer(State(service): Shared, Id(id): Id) -> Result<Answer, Failure> {
    let read =
        |shop: Arc<Shop>| async move { Ok(Answer::read(&id, &shop.customers.load(&id).await?)) };
    service.call(read).await
}

async fn product(State(service): Shared, Id(id): Id) -> Result<Answer, Failure> {
    let read =
        |shop: Arc<Shop>| async move { Ok(Answer::read(&id, &shop.products.load(&id).await?)) };
    service.call(read).await
}

async fn order(State(service): Shared, Id(id): Id) -> Result<Answer, Failure> {
    let read =
        |shop: Arc<Shop>| async move { Ok(Answer::read(&id, &shop.orders.load(&id).await?)) };
    service.call(read).await
}

/// Which orders are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    /// The `next` of the page before.
    after: Option<String>,
    limit: Option<usize>,
    /// The `X-Position` of an answer: the list waits until it has that event.
    at_least: Option<u64>,
}

#[derive(Serialize)]
struct Orders {
    orders: Vec<order_list::OrderLine>,
    /// `None` after the last page.
    next: Option<String>,
}

async fn orders(
    State(service): Shared,
    Params(page): Params<Page>,
) -> Result<Json<Orders>, Failure> {
    let limit = page.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        let text = format!("limit is 1 to {PAGE_MAX}");
        return Err(Failure::bad_request("invalid_query", text));
    }
    let read = move |shop: Arc<Shop>| async move {
        if let Some(position) = page.at_least.and_then(Position::new) {
            let reached = shop.processes.wait_for(order_list::NAME, position);
            timeout(WAIT, reached).await.map_err(|_| Failure::behind())??;
        }
        let list = shop.order_list();
        let (orders, next) = order_list::page(&list, page.after.as_deref(), limit).await?;
        Ok(Json(Orders { orders, next }))
    };
    service.call(read).await
}

/// 503 while the store or a projection does not work until somebody does something. Otherwise the
/// health, with its problems, and how far the projections are behind.
async fn health(State(service): Shared) -> Result<Json<Value>, Failure> {
    let read = |shop: Arc<Shop>| async move {
        let of_store = shop.store.health().await;
        let health = of_store.and(shop.processes.health(STUCK_AFTER).await);
        if health.state == HealthState::Failed {
            return Err(Failure::unavailable("failed", health));
        }
        let mut projections = serde_json::Map::new();
        for projection in shop.processes.projections() {
            let status = projection.status().await?;
            projections.insert(status.name, json!({ "behind": status.lag_events }));
        }
        let head = shop.store.head()?;
        Ok(Json(json!({
            "health": health.to_string(), "head": head, "projections": projections
        })))
    };
    service.call(read).await
}
