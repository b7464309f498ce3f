//! The other side: a server that receives webhooks, verifies their signatures, and remembers the ids that it has acted on.
//!
//! It is written from the Standard Webhooks specification and shares no code with the sender.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

/// How far a call's time may be from ours.
const TOLERANCE: Duration = Duration::from_secs(300);
const LONGEST_BODY: u64 = 4 << 20;

/// A call that came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Why its signature is not good.
    pub(crate) problem: Option<&'static str>,
    /// An earlier call had the same id, so nothing was done.
    pub(crate) repeated: bool,
    pub(crate) body: Value,
}

/// A server on this machine, for as long as this process lives.
pub(crate) struct Receiver {
    pub(crate) port: u16,
    pub(crate) secret: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Receiver {
    /// Listens on a free port, with a secret of its own.
    pub(crate) fn start() -> io::Result<Self> {
        let mut key = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&calls);
        std::thread::spawn(move || {
            let seen = Arc::new(Mutex::new(BTreeSet::new()));
            for stream in listener.incoming().flatten() {
                let (heard, seen) = (Arc::clone(&heard), Arc::clone(&seen));
                // The sender keeps connections, so each has a thread.
                std::thread::spawn(move || while let Ok(true) = answer(&stream, &key, &heard, &seen) {});
            }
        });
        Ok(Self { port, secret: format!("whsec_{}", STANDARD.encode(key)), calls })
    }

    /// What came so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads one request and answers it; false when the other side has closed.
fn answer(
    stream: &TcpStream,
    key: &[u8],
    calls: &Mutex<Vec<Call>>,
    seen: &Mutex<BTreeSet<String>>,
) -> io::Result<bool> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(false);
    }
    let mut headers: Vec<(String, String)> = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let header = |name: &str| headers.iter().find(|(each, _)| each == name).map_or("", |(_, value)| value.as_str());
    let mut body = Vec::new();
    let length = header("content-length").parse().unwrap_or(0).min(LONGEST_BODY);
    reader.take(length).read_to_end(&mut body)?;

    let id = header("webhook-id");
    let problem = verify(id, header("webhook-timestamp"), header("webhook-signature"), &body, key).err();
    let repeated = problem.is_none() && !seen.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
    let body = serde_json::from_slice(&body).unwrap_or_default();
    calls.lock().unwrap_or_else(PoisonError::into_inner).push(Call { problem, repeated, body });
    let status = if problem.is_none() { "204 No Content" } else { "401 Unauthorized" };
    write!(&mut &*stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")?;
    Ok(true)
}

/// One of the signatures has to be made with our key over id, time and body.
fn verify(id: &str, timestamp: &str, signatures: &str, body: &[u8], key: &[u8]) -> Result<(), &'static str> {
    if id.is_empty() || timestamp.is_empty() {
        return Err("it is not signed");
    }
    let sent = timestamp.parse().map_err(|_| "its time is none")?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if now.abs_diff(Duration::from_secs(sent)) > TOLERANCE {
        return Err("it is from another time");
    }
    let good = |signature: &str| {
        let bytes = signature.strip_prefix("v1,").and_then(|encoded| STANDARD.decode(encoded).ok());
        let mac = Hmac::<Sha256>::new_from_slice(key).ok().map(|mut mac| {
            [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].iter().for_each(|part| mac.update(part));
            mac
        });
        bytes.zip(mac).is_some_and(|(bytes, mac)| mac.verify_slice(&bytes).is_ok())
    };
    if signatures.split(' ').any(good) { Ok(()) } else { Err("its signature is wrong") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_is_verified_and_others_are_not() {
        // The example of the specification, whose time is long ago: only that is wrong with it.
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let body = br#"{"test": 2432232314}"#;
        let of = |id, time: &str, signature| verify(id, time, signature, body, &key);
        assert_eq!(of("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", signature), Err("it is from another time"));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs().to_string();
        assert_eq!(of("msg_p5jXN8AQM9LWM0D4loKWxJek", &now, signature), Err("its signature is wrong"));
        assert_eq!(of("", &now, signature), Err("it is not signed"));
        assert_eq!(of("x", "x", signature), Err("its time is none"));
    }
}
