//! A receiver of webhooks, outside of the processes that die: it notes each call before it answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::history::note;

/// It listens for as long as it lives.
pub(crate) struct Receiver {
    port: u16,
    over: Arc<AtomicBool>,
}

impl Receiver {
    /// One that notes its calls in a directory.
    pub(crate) fn start(dir: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let over = Arc::new(AtomicBool::new(false));
        let (ended, dir) = (Arc::clone(&over), dir.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let dir = dir.clone();
                // A sender that dies in the middle of a call has told nothing.
                std::thread::spawn(move || stream.and_then(|stream| serve(&stream, &dir)));
            }
        });
        Self { port, over }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/scanned", self.port)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // It looks when somebody comes.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Takes calls until the sender has no more.
fn serve(stream: &TcpStream, dir: &Path) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut id, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                if line == "\r\n" { break } else { continue }
            };
            match name.to_ascii_lowercase().as_str() {
                "webhook-id" => value.clone_into(&mut id),
                "content-length" => length = value.parse().expect("a length"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let data = &body["data"];
        let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
        let (key, sha256) = (text(&data["object"]["key"]), text(&data["report"]["sha256"]));
        note(dir, "webhooks", &format!("{id} {key} {sha256} {}", text(&data["status"])));
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
}
