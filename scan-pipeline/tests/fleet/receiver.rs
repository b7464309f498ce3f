//! A receiver of webhooks that holds every call against its signature.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use sha2::Sha256;
use tokio::net::TcpListener;

#[derive(Debug, Default)]
struct Seen {
    /// The verdict of each object, by webhook id.
    told: BTreeMap<String, (String, String)>,
    /// How often it was told, by webhook id.
    calls: BTreeMap<String, u32>,
    refused: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Receiver {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

impl Receiver {
    pub(crate) async fn start(secret: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let key = BASE64_STANDARD.decode(secret.trim_start_matches("whsec_")).expect("base64");
        let all = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (all, key) = (Arc::clone(&all), key.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let (all, key) = (Arc::clone(&all), key.clone());
                        async move {
                            note(request, &key, &all).await;
                            Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
                        }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { port, seen }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/scanned", self.port)
    }

    /// What was told of each object. Two calls with two ids about one object show as one too few here.
    pub(crate) fn told(&self) -> BTreeMap<String, String> {
        let seen = self.seen.lock().expect("no panic");
        let told: BTreeMap<_, _> = seen.told.values().cloned().collect();
        assert_eq!(told.len(), seen.told.len(), "an object was told of under two ids");
        told
    }

    /// How often there was a call, by webhook id.
    pub(crate) fn calls(&self) -> BTreeMap<String, u32> {
        self.seen.lock().expect("no panic").calls.clone()
    }

    pub(crate) fn refused(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").refused.clone()
    }
}

async fn note(request: Request<Incoming>, key: &[u8], seen: &Mutex<Seen>) {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let header =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(&body);
    let signature = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
    let mut seen = seen.lock().expect("no panic");
    if header("webhook-signature") != signature {
        seen.refused.push(id);
        return;
    }
    let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let (key, status) = (text(&body["data"]["object"]["key"]), text(&body["data"]["status"]));
    *seen.calls.entry(id.clone()).or_default() += 1;
    let told = (key, status);
    let first = seen.told.entry(id).or_insert_with(|| told.clone()).clone();
    if first != told {
        seen.refused.push(format!("one id for {first:?} and {told:?}"));
    }
}
