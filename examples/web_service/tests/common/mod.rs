//! Starts the service, as a child process or in this one, and sends it requests.

#![allow(dead_code, reason = "each test uses some of it")]

pub mod browser;
pub mod feed;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ordering::service::Service;
use ordering::shop::Config;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use ureq::Agent;
use ureq::http::Response;

pub const SECRET: &str = "a secret of at least 32 bytes, for tests";

/// A running service.
pub struct Server {
    child: Child,
    /// `127.0.0.1:` and the port.
    pub address: String,
}

impl Server {
    /// Starts the service, and waits until it listens. Port 0 lets the system choose.
    pub fn start(directory: &Path, address: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_web_service"))
            .arg(directory)
            .arg(address)
            .env("SHOP_SECRET", SECRET)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { child, address }
    }

    pub fn client(&self) -> Client {
        Client::new(&self.address)
    }

    /// A number in `/proc/PID/status`, such as `Threads`.
    pub fn status(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    }

    /// Kills it at once, without a chance to clean up.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it with SIGTERM, and waits until it has closed the store.
    pub fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A service in this process.
pub struct Running {
    pub service: Arc<Service>,
    pub client: Client,
    pub address: String,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Running {
    pub fn start(directory: &Path, disk_reserve_bytes: u64, heartbeat: Duration) -> Self {
        let (directory, secret) = (directory.to_owned(), SECRET.into());
        let runtime = Runtime::new().unwrap();
        let config = Config { directory, secret, disk_reserve_bytes, heartbeat };
        let opened = Service::open(config);
        let service = runtime.block_on(opened).unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let client = Client::new(&address);
        let (stop, stopped) = oneshot::channel();
        let served = ordering::serve(listener, service.clone(), async { _ = stopped.await });
        let thread = std::thread::spawn(move || runtime.block_on(served).unwrap());
        Self { service, client, address, stop, thread }
    }

    pub fn stop(self) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

/// What the service answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub etag: Option<String>,
    pub position: Option<u64>,
    pub is_replayed: bool,
    pub body: Value,
}

impl Answer {
    pub fn id(&self) -> String {
        self.body["id"].as_str().unwrap().to_owned()
    }

    /// The status and the code of an error.
    pub fn error(&self) -> (u16, &str) {
        (self.status, self.body["error"].as_str().unwrap_or_default())
    }
}

/// Sends requests over its own connections.
pub struct Client {
    agent: Agent,
    base: String,
}

impl Client {
    pub fn new(address: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build();
        Self { agent: config.into(), base: format!("http://{address}") }
    }

    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, ureq::Error> {
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = self.agent.run(request.body(body.to_owned()).unwrap())?;
        let text = |response: &Response<_>, name: &str| {
            response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        Ok(Answer {
            status: response.status().as_u16(),
            etag: text(&response, "etag"),
            position: text(&response, "x-position").map(|position| position.parse().unwrap()),
            is_replayed: text(&response, "idempotency-replayed").is_some(),
            body: match response.status().as_u16() {
                204 => Value::Null,
                _ => response.body_mut().read_json()?,
            },
        })
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").unwrap()
    }

    pub fn post(&self, path: &str, key: &str, body: &str) -> Answer {
        self.send("POST", path, &[("idempotency-key", key)], body).unwrap()
    }

    /// Sends a request until it is answered: again after an error of the connection, and after 503.
    pub fn send_until_answered(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        for _ in 0..3_000 {
            match self.send(method, path, headers, body) {
                Ok(answer) if answer.status != 503 => return answer,
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        panic!("{method} {path} was never answered");
    }

    /// All pages of the list of orders.
    pub fn all_orders(&self, limit: usize, at_least: u64) -> Vec<Value> {
        let (mut orders, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/orders?limit={limit}&at_least={at_least}{after}");
            let page = self.get(&path);
            assert_eq!(page.status, 200, "{page:?}");
            orders.extend(page.body["orders"].as_array().unwrap().iter().cloned());
            match page.body["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return orders,
            }
        }
    }
}
