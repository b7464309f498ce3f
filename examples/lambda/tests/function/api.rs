//! Lambda's side of its runtime API: gives one call at a time to the function that asks, and takes its answer.
//!
//! Written from Amazon's description of the interface (2018-06-01).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::Value;

/// What a call may take, and longer than anybody here waits for an answer.
const TIME: Duration = Duration::from_secs(120);

/// What the function answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Ends in `response` or in `error`, and names the call.
    pub(crate) path: String,
    pub(crate) body: Value,
}

pub(crate) struct RuntimeApi {
    address: String,
    events: Sender<String>,
    answers: Receiver<Answer>,
}

/// What the threads share: one for each connection.
struct Side {
    events: Mutex<Receiver<String>>,
    answers: Sender<Answer>,
}

impl RuntimeApi {
    /// Listens on a free port for as long as this process lives.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (events, waiting) = mpsc::channel();
        let (answered, answers) = mpsc::channel();
        let side = Arc::new(Side { events: Mutex::new(waiting), answers: answered });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let side = Arc::clone(&side);
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    while let Ok(true) = side.serve(&mut reader) {}
                });
            }
        });
        Self { address, events, answers }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Calls the function with an event.
    pub(crate) fn call(&self, event: &str) -> Answer {
        self.events.send(event.to_owned()).expect("the server is there");
        self.answers.recv_timeout(TIME).expect("an answer in time")
    }
}

impl Side {
    /// One request; false when the other side has closed.
    fn serve(&self, reader: &mut BufReader<TcpStream>) -> io::Result<bool> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let stream = reader.get_mut();
        match line.split(' ').next() {
            Some("GET") => {
                assert_eq!(path, "/2018-06-01/runtime/invocation/next");
                // Lambda lets it wait until there is something to do, which may be never.
                let event = self.events.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(event) = event else { return Ok(false) };
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                     Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\n\
                     Lambda-Runtime-Deadline-Ms: {}\r\n\
                     Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-central-1:123456789012:function:scan\r\n\
                     Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700\r\n\r\n{event}",
                    event.len(),
                    (now + TIME).as_millis(),
                )?;
            }
            _ => {
                write!(stream, "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")?;
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let _ = self.answers.send(Answer { path, body });
            }
        }
        Ok(true)
    }
}
