//! The connection: TLS, names that lead to public addresses only, and one time for everything.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use tower_service::Service;

use super::address::{Refused, is_public};

/// Posts, and does nothing else: it follows no redirect, asks no proxy of the environment, keeps no cookie.
pub(super) struct Client {
    inner: legacy::Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    timeout: Duration,
}

/// Why there is no answer.
pub(super) enum NoAnswer {
    /// None came in time.
    Timeout,
    /// There was no connection, or it broke.
    Broken(legacy::Error),
}

impl Client {
    pub(super) fn new(
        tls: ClientConfig,
        (allow_http, allow_private): (bool, bool),
        (connect_timeout, timeout): (Duration, Duration),
    ) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver { allow_private });
        tcp.set_connect_timeout(Some(connect_timeout));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
        let schemes = if allow_http { builder.https_or_http() } else { builder.https_only() };
        let connector = schemes.enable_http1().wrap_connector(tcp);
        Self { inner: legacy::Client::builder(TokioExecutor::new()).build(connector), timeout }
    }

    pub(super) async fn post(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, NoAnswer> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        let ours = HeaderValue::from_static(concat!("scan-pipeline/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(USER_AGENT).or_insert(ours);
        match tokio::time::timeout(self.timeout, self.inner.request(request)).await {
            Ok(answer) => answer.map_err(NoAnswer::Broken),
            Err(_) => Err(NoAnswer::Timeout),
        }
    }
}

/// Resolves names as the system does, and gives public addresses only, unless all are allowed. What it gives is what is
/// connected to: nothing asks a second time, so an answer that changes in between changes nothing.
#[derive(Clone)]
struct Resolver {
    allow_private: bool,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<_> =
                found.iter().copied().filter(|address| allow_private || is_public(address.ip())).collect();
            match (allowed.is_empty(), found.first()) {
                (true, Some(first)) => Err(Refused(format!("{} ({})", name.as_str(), first.ip())).into()),
                (true, None) => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into()),
                _ => Ok(allowed.into_iter()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_that_lead_inside_are_refused() {
        let resolve = |allow_private| Resolver { allow_private }.call("localhost".parse().expect("a name"));
        let error = resolve(false).await.map(|_| ()).expect_err("refused");
        assert!(error.downcast_ref::<Refused>().is_some(), "{error}");
        assert!(resolve(true).await.expect("allowed").next().is_some());
    }
}
