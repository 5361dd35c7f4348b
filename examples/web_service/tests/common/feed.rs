//! Clients of the feed: Server-Sent Events, and a WebSocket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

/// Longest wait for a message: a test fails instead of hanging.
const WAIT: Duration = Duration::from_secs(30);
/// The code of the end of a WebSocket: the service restarts.
const RESTART: u16 = 1012;

#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Where to continue. Empty: at the beginning.
    pub id: String,
    pub event: String,
    pub data: Value,
}

impl Message {
    pub fn position(&self) -> u64 {
        assert_eq!(self.event, "change", "{self:?}");
        let position = self.data["position"].as_u64().unwrap();
        assert!(self.id.ends_with(&format!(":{position}")), "{self:?}");
        position
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Sse,
    WebSocket,
}

pub const KINDS: [Kind; 2] = [Kind::Sse, Kind::WebSocket];

/// A connected client.
pub enum Feed {
    Sse(Sse),
    WebSocket(WebSocket),
}

impl Feed {
    /// Connects, and continues after this id unless it is empty.
    pub fn open(kind: Kind, address: &str, after: &str) -> Self {
        match kind {
            Kind::Sse => Self::Sse(Sse::open(address, "", Some(after))),
            Kind::WebSocket => {
                Self::WebSocket(WebSocket::open(address, &format!("?after={after}")))
            }
        }
    }

    /// The next message; `None` at the end.
    pub fn next(&mut self) -> Option<Message> {
        match self {
            Self::Sse(sse) => sse.next(),
            Self::WebSocket(socket) => socket.next(),
        }
    }

    /// The service ends the feed, properly.
    pub fn check_end(&mut self) {
        assert_eq!(self.next(), None);
        let (Self::Sse(Sse { has_ended, .. }) | Self::WebSocket(WebSocket { has_ended, .. })) =
            self;
        assert!(*has_ended);
    }

    /// The messages up to the next one with this event, which is the last.
    pub fn up_to(&mut self, event: &str) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            messages.push(self.next().unwrap());
            if messages.last().unwrap().event == event {
                return messages;
            }
        }
    }

    /// The changes that exist.
    pub fn history(&mut self) -> Vec<Message> {
        let mut messages = self.up_to("live");
        messages.pop();
        messages
    }
}

/// Reads Server-Sent Events as a browser does.
pub struct Sse {
    lines: BufReader<ureq::BodyReader<'static>>,
    last_id: String,
    /// Whether the service ended the answer.
    has_ended: bool,
}

impl Sse {
    pub fn open(address: &str, query: &str, last_id: Option<&str>) -> Self {
        let config = Agent::config_builder().timeout_global(Some(WAIT)).build();
        let mut request = Agent::from(config).get(format!("http://{address}/events{query}"));
        if let Some(id) = last_id.filter(|id| !id.is_empty()) {
            request = request.header("last-event-id", id);
        }
        let response = request.call().unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let lines = BufReader::new(response.into_body().into_reader());
        Self { lines, last_id: String::new(), has_ended: false }
    }

    pub fn next(&mut self) -> Option<Message> {
        let mut message = Message { id: String::new(), event: String::new(), data: Value::Null };
        let mut has_data = false;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                // Only what has data is an event, but the id counts in any case.
                let is_heartbeat = message.event == "heartbeat";
                if has_data || is_heartbeat {
                    return Some(Message { id: self.last_id.clone(), ..message });
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap();
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => value.clone_into(&mut self.last_id),
                // A comment too, which browsers omit.
                "event" | "" => value.clone_into(&mut message.event),
                "data" => {
                    message.data = serde_json::from_str(value).unwrap();
                    has_data = true;
                }
                "retry" => assert_eq!(value, "1000"),
                _ => panic!("{line}"),
            }
        }
    }

    /// `None` at the end, also at an end by force.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => {
                self.has_ended = true;
                None
            }
            Err(_) => None,
            Ok(_) => Some(line.trim_end_matches('\n').to_owned()),
        }
    }
}

/// A WebSocket client that is just good enough.
pub struct WebSocket {
    stream: BufReader<TcpStream>,
    /// Whether the service closed it properly.
    has_ended: bool,
}

impl WebSocket {
    pub fn open(address: &str, query: &str) -> Self {
        let (stream, head) = Self::ask(address, query);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        Self { stream, has_ended: false }
    }

    /// The head of an answer that refuses the connection.
    pub fn refused(address: &str, query: &str) -> String {
        Self::ask(address, query).1
    }

    fn ask(address: &str, query: &str) -> (BufReader<TcpStream>, String) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        // The key of RFC 6455, whose answer is known.
        write!(
            stream,
            "GET /events/ws{query} HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .unwrap();
        let (mut stream, mut head) = (BufReader::new(stream), String::new());
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).unwrap(), 0, "{head}");
        }
        (stream, head)
    }

    pub fn next(&mut self) -> Option<Message> {
        let (opcode, payload) = self.frame()?;
        match opcode {
            1 => {
                let message: Value = serde_json::from_slice(&payload).unwrap();
                let text = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
                let data = message["data"].clone();
                Some(Message { id: text("id"), event: text("event"), data })
            }
            8 => {
                assert_eq!(payload[..2], RESTART.to_be_bytes());
                self.has_ended = true;
                None
            }
            _ => panic!("a frame of type {opcode}"),
        }
    }

    /// A frame of the service: never masked, never in parts. `None` at the end.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        assert_eq!((head[0] & 0xf0, head[1] & 0x80), (0x80, 0));
        let len = match head[1] {
            126 => {
                let mut len = [0; 2];
                self.stream.read_exact(&mut len).ok()?;
                u64::from(u16::from_be_bytes(len))
            }
            127 => {
                let mut len = [0; 8];
                self.stream.read_exact(&mut len).ok()?;
                u64::from_be_bytes(len)
            }
            len => u64::from(len),
        };
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        self.stream.read_exact(&mut payload).ok()?;
        Some((head[0] & 0x0f, payload))
    }

    /// Leaves properly.
    pub fn close(mut self) {
        // The mask is zero.
        let frame = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
        self.stream.get_mut().write_all(&frame).unwrap();
        while let Some((opcode, _)) = self.frame() {
            if opcode == 8 {
                return;
            }
        }
        panic!("the service did not answer the end");
    }
}
