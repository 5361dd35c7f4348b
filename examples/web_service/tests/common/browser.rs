//! Drives a headless Chromium through the `WebDriver` interface of chromedriver.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::Agent;

/// Where the packages of Debian have them.
const BROWSER: &str = "/usr/bin/chromium";
const DRIVER: &str = "/usr/bin/chromedriver";
const WAIT: Duration = Duration::from_secs(30);
const ARGUMENTS: [&str; 7] = [
    "--headless",
    // Chromium refuses to run as root otherwise.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--window-size=1200,900",
];

/// Why no browser can run here; `None` if one can.
pub fn missing() -> Option<String> {
    let is_missing = |program: &&str| {
        let version = Command::new(program).arg("--version").output();
        !version.is_ok_and(|version| version.status.success())
    };
    let program = [BROWSER, DRIVER].into_iter().find(is_missing)?;
    Some(format!("{program} is not installed: apt-get install chromium chromium-driver"))
}

/// A browser with one tab.
pub struct Browser {
    driver: Child,
    agent: Agent,
    session: String,
}

impl Browser {
    pub fn start() -> Self {
        let mut driver = Command::new(DRIVER)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.map(Result::unwrap).find_map(|line| {
            let (_, port) = line.split_once("successfully on port ")?;
            Some(port.trim_end_matches('.').to_owned())
        });
        let driver_url = format!("http://127.0.0.1:{}", port.unwrap());
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(WAIT))
            .build()
            .into();
        let mut browser = Self { driver, agent, session: format!("{driver_url}/session") };
        let options = json!({ "binary": BROWSER, "args": ARGUMENTS });
        let capabilities = json!({ "browserName": "chrome", "goog:chromeOptions": options });
        let began = browser.post("", &json!({ "capabilities": { "alwaysMatch": capabilities } }));
        let id = began["sessionId"].as_str().unwrap();
        browser.session = format!("{}/{id}", browser.session);
        browser
    }

    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Runs the body of a function in the page, and returns its result.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs it until the result is as it should be.
    pub fn run_until(&self, script: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let value = self.run(script);
            if is_right(&value) {
                return value;
            }
            assert!(began.elapsed() < WAIT, "{script}: {value}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let mut response =
            self.agent.post(format!("{}{path}", self.session)).send_json(body).unwrap();
        let answer: Value = response.body_mut().read_json().unwrap();
        assert!(response.status().is_success(), "{path}: {answer}");
        answer["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser, which is a process of its own.
        _ = self.agent.delete(&self.session).call();
        _ = self.driver.kill();
        _ = self.driver.wait();
    }
}
