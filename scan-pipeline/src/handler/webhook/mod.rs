//! Tells somebody by HTTPS, as [Standard Webhooks](https://www.standardwebhooks.com) has it.
//!
//! # What is sent
//!
//! A POST with `webhook-id` (the step's idempotency key, also as `Idempotency-Key`), `webhook-timestamp` and, with a
//! secret, `webhook-signature`. The body is JSON, the same to the byte on every attempt:
//!
//! ```json
//! {"type": "scan.completed", "data": {
//!     "task": "64 hexadecimal digits", "workflow": "release", "step": "webhook",
//!     "object": {"bucket": "s3://uploads", "key": "a.pdf", "version": "...", "etag": "...", "size": 4711},
//!     "place": {"place": "moved", "object": {"bucket": "s3://clean", "key": "a.pdf"}},
//!     "status": "clean", "report": {"verdict": {"status": "clean", "threats": [], "reasons": []}}}}
//! ```
//!
//! `report` is the form of [`Report`], with the first 100 of its findings, which are masked; the others are counted in
//! `findings_omitted`. With [`WebhookBuilder::with_outputs`] there is
//! `outputs` as well.
//!
//! # Where to
//!
//! Over TLS and to public addresses only, unless the builder is told otherwise; redirects and proxies of the
//! environment are not followed. Anything that answers 2xx has received it. 408, 425, 429, 5xx and no answer at all are
//! retryable, with the `Retry-After` that the receiver asks for; everything else is fatal. A certificate that is not
//! trusted is retryable, since it may be renewed: the step's retry policy ends it.

mod address;
mod answer;
mod client;
mod sign;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use hyper::Uri;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::json;
use url::{Host, Url};

use super::{HandlerError, Place, ResultHandler, Scanned, StepContext, StepOutput};
use crate::model::{ObjectRef, Report, TaskId, Timestamp};
use crate::{Error, ErrorKind, Result};

use client::Client;

pub use sign::{Secret, SignedHeaders, TOLERANCE, verify};

/// Findings that are sent: a receiver who wants all of them asks the store.
const MOST_FINDINGS: usize = 100;

/// Prepares a webhook; [`WebhookBuilder::build`] makes the handler.
///
/// ```
/// use scan_pipeline::handler::notify;
/// use scan_pipeline::workflow::Workflow;
///
/// # fn main() -> scan_pipeline::Result<()> {
/// let tell = notify("https://example.com/hooks/scans").secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").build()?;
/// assert!(Workflow::new("tell").then(tell).check().is_ok());
/// # Ok(()) }
/// ```
pub fn notify(url: impl Into<String>) -> WebhookBuilder {
    WebhookBuilder {
        url: url.into(),
        secrets: Vec::new(),
        headers: Vec::new(),
        roots: Vec::new(),
        event: String::from("scan.completed"),
        outputs: false,
        allow_http: false,
        allow_private: false,
        connect_timeout: Duration::from_secs(10),
        timeout: Duration::from_secs(30),
    }
}

/// Settings of a [`Webhook`].
#[derive(Clone)]
pub struct WebhookBuilder {
    url: String,
    secrets: Vec<String>,
    headers: Vec<(String, String)>,
    roots: Vec<Vec<u8>>,
    event: String,
    outputs: bool,
    allow_http: bool,
    allow_private: bool,
    connect_timeout: Duration,
    timeout: Duration,
}

impl fmt::Debug for WebhookBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may be a secret itself, and so may any header.
        f.debug_struct("WebhookBuilder").field("event", &self.event).finish_non_exhaustive()
    }
}

impl WebhookBuilder {
    /// Signs with this secret (`whsec_...`). Called again, it signs with each: while a secret is being replaced,
    /// receivers can know the old or the new one.
    #[must_use]
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.secrets.push(secret.into());
        self
    }

    /// Sends this header as well, such as `Authorization`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the `type` in the body. Default `scan.completed`.
    #[must_use]
    pub fn event_type(mut self, event: impl Into<String>) -> Self {
        self.event = event.into();
        self
    }

    /// Sends the outputs of the steps before this one as well.
    #[must_use]
    pub fn with_outputs(mut self) -> Self {
        self.outputs = true;
        self
    }

    /// Trusts the certificates in this PEM text besides the platform's.
    #[must_use]
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots.push(pem.into());
        self
    }

    /// Takes `http://` addresses. What is sent can then be read and changed on its way.
    #[must_use]
    pub fn allow_http(mut self) -> Self {
        self.allow_http = true;
        self
    }

    /// Goes to private, local and other special addresses as well. Only for an address that nobody else chooses.
    #[must_use]
    pub fn allow_private_addresses(mut self) -> Self {
        self.allow_private = true;
        self
    }

    /// Sets the longest times for the connection and for everything together. Default 10 and 30 seconds; keep the
    /// second below the step's timeout.
    #[must_use]
    pub fn timeouts(mut self, connect: Duration, whole: Duration) -> Self {
        (self.connect_timeout, self.timeout) = (connect, whole);
        self
    }

    /// Makes the handler.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for an address, secret, header or certificate that cannot be used.
    pub fn build(self) -> Result<Webhook> {
        let url = self.check_url()?;
        let to = url.origin().ascii_serialization();
        let wrong = |why: &str| Error::new(ErrorKind::Config, why).about(to.clone());
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().map_err(|_| wrong("a header's name cannot be used"))?;
            let mut value: HeaderValue = value.parse().map_err(|_| wrong("a header's value cannot be used"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let mut roots = crate::tls::Roots::default();
        self.roots.iter().try_for_each(|pem| roots.add_pem(pem))?;
        let tls = crate::tls::client_config(&roots)?;
        let allowed = (self.allow_http, self.allow_private);
        let client = Client::new(tls, allowed, (self.connect_timeout, self.timeout));
        let uri = url.as_str().split('#').next().unwrap_or_default();
        let uri = uri.parse::<Uri>().map_err(|why| wrong("is no address for HTTP").with_source(why))?;
        let secrets = self.secrets.iter().map(|secret| secret.parse()).collect::<Result<_>>()?;
        Ok(Webhook { client, uri, to, headers, secrets, event: self.event, outputs: self.outputs })
    }

    fn check_url(&self) -> Result<Url> {
        // The text is not in the messages: it may hold a password.
        let wrong = |why: String| Error::new(ErrorKind::Config, format!("the webhook's address {why}"));
        let url = Url::parse(&self.url).map_err(|why| wrong(format!("is no URL: {why}")))?;
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            "http" => return Err(wrong(String::from("is not https; allow_http() takes it all the same"))),
            other => return Err(wrong(format!("has the scheme {other}, and https is needed"))),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(String::from(
                "has a user or password in it; send them with header(\"Authorization\", ...)",
            )));
        }
        // A name is looked at when it is resolved; an address is connected to without that.
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) => None,
            None => return Err(wrong(String::from("names no host"))),
        };
        match address {
            Some(address) if !self.allow_private && !address::is_public(address) => {
                Err(Error::new(ErrorKind::Config, address::Refused(address.to_string()).to_string()))
            }
            _ => Ok(url),
        }
    }
}

/// A handler made by [`notify`]; the [module page](self) says what it sends.
pub struct Webhook {
    client: Client,
    uri: Uri,
    /// Scheme, host and port. The rest can be a secret: whoever knows a chat's address can write there.
    to: String,
    headers: HeaderMap,
    secrets: Vec<Secret>,
    event: String,
    outputs: bool,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("to", &self.to).field("event", &self.event).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'a str,
    data: Data<'a>,
}

/// A report that a receiver can be expected to take.
fn bounded(report: &Report) -> Cow<'_, Report> {
    if report.findings.len() <= MOST_FINDINGS {
        return Cow::Borrowed(report);
    }
    let mut report = report.clone();
    report.limit_findings(MOST_FINDINGS);
    Cow::Owned(report)
}

/// Nothing here may differ between two attempts.
#[derive(Serialize)]
struct Data<'a> {
    task: TaskId,
    workflow: &'a str,
    step: &'a str,
    object: &'a ObjectRef,
    place: &'a Place,
    status: &'a str,
    report: Cow<'a, Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outputs: Option<serde_json::Value>,
}

impl Webhook {
    fn body(&self, scanned: &Scanned, step: &StepContext) -> Result<Vec<u8>, HandlerError> {
        let outputs = self
            .outputs
            .then(|| step.outputs.iter().map(|(step, output)| (step.clone(), output.value.clone())).collect());
        let data = Data {
            task: scanned.task,
            workflow: &step.workflow,
            step: &step.step,
            object: &scanned.object,
            place: &step.place,
            status: scanned.verdict().status(),
            report: bounded(&scanned.report),
            outputs,
        };
        let body = Body { r#type: &self.event, data };
        serde_json::to_vec(&body)
            .map_err(|why| HandlerError::fatal("the report could not be written as JSON").with_source(why))
    }

    /// The headers of an attempt.
    fn headers(&self, id: &str, body: &[u8]) -> Result<HeaderMap, HandlerError> {
        let timestamp = (Timestamp::now().0 / 1000).to_string();
        let mut headers = self.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut put = |name, value: &str| {
            let value =
                value.parse().map_err(|why| HandlerError::fatal("a header could not be made").with_source(why))?;
            headers.insert(HeaderName::from_static(name), value);
            Ok::<_, HandlerError>(())
        };
        put("webhook-id", id)?;
        put("idempotency-key", id)?;
        put("webhook-timestamp", &timestamp)?;
        if !self.secrets.is_empty() {
            put("webhook-signature", &sign::sign(&self.secrets, id, &timestamp, body))?;
        }
        Ok(headers)
    }
}

#[async_trait]
impl ResultHandler for Webhook {
    fn name(&self) -> &str {
        "webhook"
    }

    fn depends_on(&self) -> Option<&str> {
        Some(&self.to)
    }

    async fn handle(&self, scanned: &Scanned, step: &StepContext) -> Result<StepOutput, HandlerError> {
        let body = self.body(scanned, step)?;
        let headers = self.headers(&step.idempotency_key, &body)?;
        let answer = self.client.post(&self.uri, headers, body).await;
        let response = answer.map_err(|why| answer::no_answer(why, &self.to))?;
        let status = answer::judge(response, &self.to).await?;
        Ok(StepOutput::new(json!({ "to": self.to, "id": step.idempotency_key, "status": status.as_u16() })))
    }
}

#[cfg(test)]
mod tests;
