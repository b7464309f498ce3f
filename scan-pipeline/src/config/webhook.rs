//! `do = "notify"`: a webhook.

use std::time::Duration;

use super::read::Section;
use super::text::{Secret, Text};
use crate::Result;
use crate::workflow::Step;

/// A webhook. Its address can be a secret by itself, so it shows itself as it stands in the file, and by its host alone
/// where there is none.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "webhook"), allow(dead_code, reason = "it is checked all the same, and refused"))]
pub(super) struct WebhookSpec {
    url: Secret,
    pub(super) shown: String,
    secrets: Vec<Secret>,
    headers: Vec<(String, Secret)>,
    event_type: Option<String>,
    with_outputs: bool,
    root_certificate: Option<Vec<u8>>,
    allow_http: bool,
    allow_private_addresses: bool,
    /// The time of the step, of which a call has the most.
    timeout: Option<Duration>,
}

pub(super) fn webhook(step: &Section<'_>) -> Option<WebhookSpec> {
    let reader = step.reader;
    let url = step.required("url", "write the address that the webhook is sent to: url = \"https://...\"");
    let secrets = step.texts("secrets");
    let spec = WebhookSpec {
        url: Secret::new(url.as_ref().map(|url| url.value.clone()).unwrap_or_default()),
        shown: url.as_ref().map(|url| shown(step, url)).unwrap_or_default(),
        headers: step.section("headers").map(|section| headers(&section)).unwrap_or_default(),
        event_type: step.text("event_type").map(|text| text.value),
        with_outputs: step.flag("with_outputs").unwrap_or_default(),
        root_certificate: step.text("root_certificate").and_then(|file| certificate(step, &file)),
        allow_http: step.flag("allow_http").unwrap_or_default(),
        allow_private_addresses: step.flag("allow_private_addresses").unwrap_or_default(),
        // The step reads it, and says what is wrong with it.
        timeout: None,
        secrets: secrets.iter().map(|secret| check_secret(step, secret)).collect(),
    };
    let url = url?;
    let unsigned = !step.is_there("secrets");
    address(step, &url, &spec)?;
    if unsigned {
        let why = "is not signed, so its receiver cannot tell it from a forged one: write secrets = [\"${NAME}\"]";
        url.warning(reader, why);
    }
    if !cfg!(feature = "webhook") {
        url.mistake(reader, "this build sends no webhooks; rebuild with --features webhook");
        return None;
    }
    Some(spec)
}

/// What others may read of an address.
fn shown(step: &Section<'_>, url: &Text) -> String {
    if step.reader.environment.is_some() {
        return url.address();
    }
    let parsed = url::Url::parse(&url.value).ok();
    let host = parsed.as_ref().and_then(|url| Some((url.scheme(), url.host_str()?)));
    host.map_or_else(|| String::from("..."), |(scheme, host)| format!("{scheme}://{host}/..."))
}

fn address(step: &Section<'_>, url: &Text, spec: &WebhookSpec) -> Option<()> {
    let wrong = |why: &str| {
        url.mistake(step.reader, format!("`{}` {why}", spec.shown));
        None
    };
    let Ok(parsed) = url::Url::parse(&url.value) else { return wrong("is no address: write https://host/path") };
    if !["http", "https"].contains(&parsed.scheme()) {
        return wrong("is no address of a webhook: write https://host/path");
    }
    if parsed.scheme() == "http" && !spec.allow_http {
        return wrong("is not encrypted: write https://, or allow_http = true where nobody can listen");
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return wrong("has a name or password in it: write headers = { Authorization = \"${NAME}\" }");
    }
    let inside = match parsed.host() {
        None => return wrong("names no host: write https://host/path"),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback() || ip.is_unspecified(),
    };
    if inside && !spec.allow_private_addresses {
        return wrong("leads inside: write allow_private_addresses = true if that is meant");
    }
    Some(())
}

/// Headers often carry keys, so all of them are kept as secrets; only some are expected to be.
fn headers(section: &Section<'_>) -> Vec<(String, Secret)> {
    let read = |(name, _, item): (String, usize, super::read::Item<'_>)| {
        let value = item.text()?;
        let lower = name.to_ascii_lowercase();
        let is_name =
            !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c));
        if !is_name {
            item.mistake("is no name of a header");
        }
        if value.value.contains(['\r', '\n', '\0']) {
            item.mistake("has a line break in it, which no header can have");
        }
        let carries_key = ["authorization", "token", "key", "secret", "cookie"].iter().any(|word| lower.contains(word));
        let value = if carries_key { value.secret(section.reader) } else { Secret::new(value.value) };
        Some((name, value))
    };
    section.entries().into_iter().filter_map(read).collect()
}

/// The certificates in a file.
pub(super) fn certificate(step: &Section<'_>, file: &Text) -> Option<Vec<u8>> {
    match std::fs::read(file.path(step.reader)) {
        Ok(pem) if pem.windows(27).any(|part| part == b"-----BEGIN CERTIFICATE-----") => Some(pem),
        Ok(_) => {
            file.mistake(step.reader, format!("`{}` has no certificate in PEM form in it", file.written));
            None
        }
        Err(why) => {
            file.mistake(step.reader, format!("`{}` cannot be read: {why}", file.written));
            None
        }
    }
}

/// The value is never shown, whatever is wrong with it.
fn check_secret(step: &Section<'_>, secret: &Text) -> Secret {
    #[cfg(feature = "webhook")]
    if let Err(why) = secret.value.parse::<crate::handler::webhook::Secret>() {
        secret.mistake(step.reader, why.to_string());
    }
    secret.clone().secret(step.reader)
}

impl WebhookSpec {
    /// The time of the step.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = Some(timeout);
    }

    #[cfg(feature = "webhook")]
    pub(super) fn build(&self) -> Result<Step> {
        let mut builder = crate::handler::notify(self.url.reveal());
        for secret in &self.secrets {
            builder = builder.secret(secret.reveal());
        }
        for (name, value) in &self.headers {
            builder = builder.header(name.as_str(), value.reveal());
        }
        if let Some(event) = &self.event_type {
            builder = builder.event_type(event.as_str());
        }
        if let Some(pem) = &self.root_certificate {
            builder = builder.root_certificate(pem.clone());
        }
        if let Some(whole) = self.timeout {
            // The call has to end before the step does, or nobody learns what it said.
            let whole = whole.mul_f64(0.9);
            builder = builder.timeouts(whole.min(Duration::from_secs(10)), whole);
        }
        for (wanted, apply) in [
            (self.with_outputs, crate::handler::WebhookBuilder::with_outputs as fn(_) -> _),
            (self.allow_http, crate::handler::WebhookBuilder::allow_http),
            (self.allow_private_addresses, crate::handler::WebhookBuilder::allow_private_addresses),
        ] {
            if wanted {
                builder = apply(builder);
            }
        }
        Ok(Step::new(builder.build()?))
    }

    #[cfg(not(feature = "webhook"))]
    pub(super) fn build(&self) -> Result<Step> {
        let why = "this build sends no webhooks; rebuild with --features webhook";
        Err(crate::Error::new(crate::ErrorKind::Unsupported, why))
    }
}
