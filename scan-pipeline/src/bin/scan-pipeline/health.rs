//! Whether a worker lives and is ready, over HTTP: for whoever restarts it and whoever watches it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use scan_pipeline::worker::Worker;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Who asks slowly is not answered.
const HEADERS: Duration = Duration::from_secs(5);
/// Most connections at a time.
const CONNECTIONS: usize = 64;

/// Answers `GET /livez` (200 while the process answers at all) and `GET /readyz` (200 while everything that it depends on
/// answers, else 503; either way with the state of each), until it is told to stop.
pub(crate) async fn listen(address: SocketAddr, worker: Worker, stop: CancellationToken) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "health is served");
    let room = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    tokio::spawn(async move {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            let Ok((stream, _)) = accepted else {
                // Without descriptors every try fails at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(place) = std::sync::Arc::clone(&room).try_acquire_owned() else { continue };
            let worker = worker.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = answer(&request, &worker);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(HEADERS).keep_alive(false);
                // What goes wrong with one connection is its own.
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
                drop(place);
            });
        }
    });
    Ok(())
}

fn answer(request: &Request<Incoming>, worker: &Worker) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/livez") => (StatusCode::OK, json!({ "status": "ok" })),
        (&Method::GET | &Method::HEAD, "/readyz") => {
            let ready = worker.health().is_ready();
            let counts = worker.counts();
            let body = json!({
                "status": if ready { "ok" } else { "not ready" },
                "dependencies": worker.health().dependencies(),
                "messages": { "done": counts.done, "retried": counts.retried, "dead": counts.dead },
            });
            (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
        }
        _ => (StatusCode::NOT_FOUND, json!({ "error": "ask for /livez or /readyz" })),
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}
