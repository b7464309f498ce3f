//! Setting up a queue on NATS: the connection, and the streams and consumers, which are made where they are absent.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions};

use super::error::{connecting, request};
use super::turns::Turns;
use super::{Inner, NatsQueue};
use crate::queue::Lane;
use crate::queue::held::Leases;
use crate::tls::{Roots, client_config};
use crate::{Error, ErrorKind, Result};

const NAME: &str = "scan-pipeline";
/// The least that a consumer waits for an acknowledgement: our heartbeat has to be well within.
const LEAST_ACK_WAIT: Duration = Duration::from_secs(1);

/// Settings of a [`NatsQueue`].
#[derive(Clone)]
pub struct NatsQueueBuilder {
    address: String,
    name: Option<String>,
    credentials: Option<String>,
    roots: Roots,
    ack_wait: Duration,
    dedupe: Duration,
    max_held: i64,
    replicas: usize,
    timeout: Duration,
}

impl fmt::Debug for NatsQueueBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password.
        f.debug_struct("NatsQueueBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}

impl NatsQueueBuilder {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            name: None,
            credentials: None,
            roots: Roots::default(),
            ack_wait: Duration::from_secs(30),
            dedupe: Duration::from_secs(120),
            max_held: 10_000,
            replicas: 1,
            timeout: Duration::from_secs(5),
        }
    }

    /// What the stream is called, and its subjects begin with: letters, digits, `-` and `_`. The dead letters are in
    /// another of the same name with `-dead`. Default: the path of the address, or `scan-pipeline`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The text of a credentials file, such as `nsc` writes it. A user with a password, or a token, can be in the
    /// address.
    #[must_use]
    pub fn credentials(mut self, text: impl Into<String>) -> Self {
        self.credentials = Some(text.into());
        self
    }

    /// Trusts the certificates of this PEM text as well as the platform's.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for a text without one.
    pub fn root_certificates(mut self, pem: &[u8]) -> Result<Self> {
        self.roots.add_pem(pem)?;
        Ok(self)
    }

    /// How long the server waits to hear of a delivery before it gives the message to somebody else: so long after a
    /// worker died its messages come again. Leases of any length are kept up by a heartbeat at a third of it. Default 30
    /// seconds, at least one. Counts where the consumers are made; those that are there keep theirs.
    #[must_use]
    pub fn ack_wait(mut self, wait: Duration) -> Self {
        self.ack_wait = wait.max(LEAST_ACK_WAIT);
        self
    }

    /// For how long deduplication keys are remembered. Default 2 minutes: the server holds them in memory. Counts where
    /// the stream is made.
    #[must_use]
    pub fn dedupe(mut self, window: Duration) -> Self {
        self.dedupe = window;
        self
    }

    /// How many messages of a lane are leased at the same time, by all workers together. Default 10,000. Counts where
    /// the consumers are made.
    #[must_use]
    pub fn max_held(mut self, count: u32) -> Self {
        self.max_held = i64::from(count);
        self
    }

    /// On how many servers of a cluster each message is. Default 1. Counts where the streams are made.
    #[must_use]
    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas = count;
        self
    }

    /// Longest time for a connection and for an answer. Default 5 seconds.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Connects, and makes the streams and consumers that are absent.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for an address or name that is none; [`ErrorKind::Denied`] for credentials that are
    /// not good; [`ErrorKind::Config`] for a stream or consumer of this name that would lose messages, and for a server
    /// without JetStream; [`ErrorKind::Unavailable`] and [`ErrorKind::Timeout`] when it cannot be reached.
    pub async fn build(self) -> Result<NatsQueue> {
        let wrong = |why: &str| Error::new(ErrorKind::InvalidInput, why.to_owned());
        let mut url = url::Url::parse(&self.address)
            .ok()
            .filter(|url| matches!(url.scheme(), "nats" | "tls") && url.has_host())
            .ok_or_else(|| wrong("the address of a NATS server looks like nats://127.0.0.1:4222/name"))?;
        let path = url.path().trim_matches('/').to_owned();
        let name = self.name.clone().unwrap_or(if path.is_empty() { NAME.to_owned() } else { path });
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 100 || !name.chars().all(good) {
            return Err(wrong("the name of a queue on NATS has 1 to 100 letters, digits, - and _").about(name));
        }
        url.set_path("");
        self.open(&url, &name).await.map_err(|error| error.about(name))
    }

    async fn open(self, url: &url::Url, name: &str) -> Result<NatsQueue> {
        let client = self.connect(url, name).await?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(self.timeout);
        let dead_name = format!("{name}-dead");
        let schedules = has_schedules(&client.server_info().version);
        let stream = self.stream(&context, name, RetentionPolicy::WorkQueue, schedules).await?;
        let dead = self.stream(&context, &dead_name, RetentionPolicy::Limits, false).await?;
        let config = &stream.cached_info().config;
        let schedules = schedules && config.allow_message_schedules;
        let dedupe = config.duplicate_window;
        let mut consumers = Vec::new();
        for lane in Lane::ALL {
            consumers.push(self.consumer(&stream, name, lane).await?);
        }
        let ack_wait = consumers.iter().map(|one| one.cached_info().config.ack_wait).min().unwrap_or(self.ack_wait);
        let inner = Inner {
            client,
            context,
            name: name.to_owned(),
            dead_name,
            stream,
            dead,
            consumers,
            turns: Turns::default(),
            ack_wait,
            dedupe,
            schedules,
            timeout: self.timeout,
            leases: Leases::default(),
            ring: tokio::sync::Notify::new(),
        };
        Ok(NatsQueue(Arc::new(inner)))
    }

    async fn connect(&self, url: &url::Url, name: &str) -> Result<Client> {
        let mut options = ConnectOptions::new()
            .name(format!("scan-pipeline {name}"))
            .connection_timeout(self.timeout)
            .request_timeout(Some(self.timeout));
        match client_config(&self.roots) {
            Ok(config) => options = options.tls_client_config(config),
            // It is said when somebody asks for it.
            Err(why) if url.scheme() == "tls" => return Err(why),
            Err(why) => tracing::debug!(%why, "NATS without TLS"),
        }
        if let Some(text) = &self.credentials {
            let wrong = |why| Error::new(ErrorKind::Config, "the credentials for NATS are none").with_source(why);
            options = options.credentials(text).map_err(wrong)?;
        }
        let queue = name.to_owned();
        options = options.event_callback(move |event| {
            tracing::debug!(queue, %event, "connection to NATS");
            async {}
        });
        options.connect(url.as_str()).await.map_err(connecting)
    }

    async fn stream(
        &self,
        context: &Context,
        name: &str,
        retention: RetentionPolicy,
        schedules: bool,
    ) -> Result<Stream> {
        let config = Config {
            name: name.to_owned(),
            subjects: vec![format!("{name}.>")],
            retention,
            storage: StorageType::File,
            duplicate_window: self.dedupe,
            num_replicas: self.replicas,
            // Without limits nothing is discarded; schedules do not go with the other policy.
            discard: DiscardPolicy::Old,
            allow_message_schedules: schedules,
            ..Config::default()
        };
        let stream = context.get_or_create_stream(config).await.map_err(|why| request("make the stream", why))?;
        let found = &stream.cached_info().config;
        let wrong = |why: String| Err(Error::new(ErrorKind::Config, why).about(name));
        if found.retention != retention {
            return wrong(format!(
                "the stream is there, and keeps messages by {:?}, not {retention:?}",
                found.retention
            ));
        }
        if !found.subjects.iter().any(|subject| *subject == format!("{name}.>") || subject == ">") {
            return wrong(format!("the stream is there, and does not take the subjects {name}.>"));
        }
        let is_limited = found.max_messages > 0 || found.max_bytes > 0 || found.max_messages_per_subject > 0;
        if is_limited && found.discard == DiscardPolicy::Old {
            return wrong(String::from(
                "the stream is limited, and would discard old messages that nobody has seen: set its discard policy to new",
            ));
        }
        if retention == RetentionPolicy::WorkQueue && found.max_age > Duration::ZERO {
            tracing::warn!(stream = name, age = ?found.max_age, "messages older than this are discarded, seen or not");
        }
        Ok(stream)
    }

    async fn consumer(&self, stream: &Stream, name: &str, lane: Lane) -> Result<PullConsumer> {
        let config = pull::Config {
            durable_name: Some(lane.to_string()),
            name: Some(lane.to_string()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.ack_wait,
            // We count: past the server's own maximum a message would stay without anybody being told.
            max_deliver: -1,
            max_ack_pending: self.max_held,
            filter_subject: format!("{name}.{lane}.>"),
            ..pull::Config::default()
        };
        let made = stream.get_or_create_consumer(lane.as_str(), config).await;
        let consumer = made.map_err(|why| request("make the consumer", why))?;
        let found = &consumer.cached_info().config;
        let wrong = |why: &str| Err(Error::new(ErrorKind::Config, why.to_owned()).about(format!("{name}/{lane}")));
        if found.ack_policy != AckPolicy::Explicit {
            return wrong("the consumer is there, and its acknowledgements are not explicit");
        }
        if found.max_deliver > 0 {
            return wrong("the consumer is there, and stops delivering by itself: set its max_deliver to -1");
        }
        if found.filter_subject != format!("{name}.{lane}.>") {
            return wrong("the consumer is there, and is for other subjects");
        }
        Ok(consumer)
    }
}

/// Messages that come later, since 2.12.
fn has_schedules(version: &str) -> bool {
    let mut parts = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (2, 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_schedules_or_not() {
        for (version, has) in
            [("2.9.10", false), ("2.11.9", false), ("2.12.0", true), ("2.15.2-RC.1", true), ("3.0.0", true)]
        {
            assert_eq!(has_schedules(version), has, "{version}");
        }
    }

    #[tokio::test]
    async fn addresses_are_checked() {
        for address in ["", "127.0.0.1:4222", "http://127.0.0.1", "nats://127.0.0.1/a.b", "nats://127.0.0.1/a/b"] {
            let error = NatsQueueBuilder::new(address.to_owned()).build().await.expect_err(address);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{address}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let shown =
            format!("{:?}", NatsQueueBuilder::new(String::from("nats://user:secret@host")).credentials("secret"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
