//! Setting up a queue of SQS, and what is wrong with how it is set up there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::Value;

use super::error::failure;
use super::message::Form;
use super::{Inner, SqsQueue};
use crate::aws::{Connection, connection_methods};
use crate::queue::held::Leases;
use crate::{Error, ErrorKind, Result};

/// What a message has to fit in where the queue does not say.
const MOST: usize = 1 << 20;
/// By so much the broker's own limit should be above ours.
const ABOVE: u32 = 2;

/// Settings of an [`SqsQueue`].
#[derive(Debug, Clone)]
pub struct SqsQueueBuilder {
    address: String,
    connection: Connection,
    dead_letters: Option<String>,
    fair_groups: bool,
}

impl SqsQueueBuilder {
    pub(super) fn new(address: String) -> Self {
        // An answer may take as long as SQS waits for a message.
        let connection = Connection::new(Duration::from_secs(30), Duration::from_secs(100));
        Self { address, connection, dead_letters: None, fair_groups: false }
    }

    connection_methods!(read: "30 seconds; at least 21, since SQS waits up to 20 for a message.", operation: "100 seconds.");

    /// The queue for dead letters, by URL or name. Default: that of the queue's redrive policy.
    #[must_use]
    pub fn dead_letters(mut self, address: impl Into<String>) -> Self {
        self.dead_letters = Some(address.into());
        self
    }

    /// Sends the tenant as the message group to a standard queue, too, which makes it one of Amazon's *fair queues*: a
    /// tenant with a backlog does not delay the others much. Default: no. FIFO queues have groups in any case.
    #[must_use]
    pub fn fair_groups(mut self, fair: bool) -> Self {
        self.fair_groups = fair;
        self
    }

    /// Connects, and asks the queue for its kind, its limits and its dead letters.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for an address that is none; [`ErrorKind::Config`] where there is no such queue, no
    /// region, or no dead-letter queue, or one that is FIFO beside a queue that is not; [`ErrorKind::Denied`],
    /// [`ErrorKind::Unavailable`] and [`ErrorKind::Timeout`] as the broker has it.
    pub async fn build(self) -> Result<SqsQueue> {
        let address = Address::read(&self.address)?;
        let name = address.name.clone();
        self.open(address).await.map_err(|error| error.about(name))
    }

    async fn open(self, address: Address) -> Result<SqsQueue> {
        let mut connection = self.connection;
        connection.endpoint = connection.endpoint.or(address.endpoint);
        connection.region = connection.region.or(address.region);
        connection.check()?;
        let client = Client::new(&connection.load().await?);
        let url = match address.url {
            Some(url) => url,
            None => ask_url(&client, &address.name, address.account.as_deref()).await?,
        };
        let attributes = ask(&client, &url).await?;
        let policy = Redrive::of(&attributes);
        let dead_url = match (&self.dead_letters, &policy) {
            (Some(dead), _) => match Address::read(dead)? {
                Address { url: Some(url), .. } => url,
                Address { name, account, .. } => ask_url(&client, &name, account.as_deref()).await?,
            },
            (None, Some(policy)) => ask_url(&client, &policy.name, Some(&policy.account)).await?,
            (None, None) => {
                let why = "the queue has no dead-letter queue: give it a redrive policy, or name one";
                return Err(Error::new(ErrorKind::Config, why));
            }
        };
        let dead = ask(&client, &dead_url).await?;
        let (fifo, dead_fifo) = (is_fifo(&url, &attributes), is_fifo(&dead_url, &dead));
        if fifo != dead_fifo {
            let why = "one of the queue and its dead-letter queue is FIFO, and the other is not";
            return Err(Error::new(ErrorKind::Config, why));
        }
        let most = |all: &Attributes| number(all, &QueueAttributeName::MaximumMessageSize).unwrap_or(MOST);
        let form = Form { fifo, groups: self.fair_groups, most: most(&attributes).min(most(&dead)) };
        let max_receive = policy.and_then(|policy| policy.max_receive);
        let (name, leases) = (address.name, Leases::default());
        Ok(SqsQueue(Arc::new(Inner { client, name, url, dead_url, max_receive, form, leases })))
    }
}

impl SqsQueue {
    /// What is set up at the broker in a way that loses sight of messages, in words: for a check before the start.
    /// `max_attempts` is after how many deliveries a worker gives a message up.
    ///
    /// # Errors
    ///
    /// When the broker cannot be asked.
    pub async fn check(&self, max_attempts: u32) -> Result<Vec<String>> {
        let inner = &*self.0;
        let ask = async |url: &str| ask(&inner.client, url).await.map_err(|error| error.about(inner.name.as_str()));
        let (queue, dead) = (ask(&inner.url).await?, ask(&inner.dead_url).await?);
        let mut warnings = Vec::new();
        let least = max_attempts.saturating_add(ABOVE);
        match Redrive::of(&queue) {
            None => warnings.push(format!(
                "{}: there is no redrive policy, so a message that kills every worker comes for ever; set maxReceiveCount to {least}",
                inner.name
            )),
            Some(policy) => {
                if let Some(count) = policy.max_receive.filter(|count| *count < least) {
                    warnings.push(format!(
                        "{}: the broker moves a message away after {count} receives, and workers give up after \
                         {max_attempts}: set maxReceiveCount to {least} or more, so that they can say why",
                        inner.name
                    ));
                }
                if inner.dead_url.rsplit('/').next() != Some(policy.name.as_str()) {
                    warnings.push(format!(
                        "{}: the redrive policy names another dead-letter queue ({}), which nobody looks at",
                        inner.name, policy.name
                    ));
                }
            }
        }
        let kept = |all: &Attributes| number(all, &QueueAttributeName::MessageRetentionPeriod);
        if let (Some(queue), Some(dead)) = (kept(&queue), kept(&dead))
            && dead <= queue
        {
            warnings.push(format!(
                "{}: dead letters are kept for {} hours from when the message was enqueued, no longer than the queue \
                 keeps messages: make that more, up to 14 days",
                inner.name,
                dead / 3600
            ));
        }
        Ok(warnings)
    }
}

type Attributes = HashMap<QueueAttributeName, String>;

async fn ask(client: &Client, url: &str) -> Result<Attributes> {
    let request = client.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
    let answer = request.send().await.map_err(|why| failure(&why))?;
    Ok(answer.attributes.unwrap_or_default())
}

async fn ask_url(client: &Client, name: &str, account: Option<&str>) -> Result<String> {
    let request = client.get_queue_url().queue_name(name).set_queue_owner_aws_account_id(account.map(str::to_owned));
    let answer = request.send().await.map_err(|why| failure(&why).about(name))?;
    answer.queue_url.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the broker gave no address").about(name))
}

fn is_fifo(url: &str, attributes: &Attributes) -> bool {
    attributes.get(&QueueAttributeName::FifoQueue).map_or_else(|| url.ends_with(".fifo"), |fifo| fifo == "true")
}

fn number(attributes: &Attributes, name: &QueueAttributeName) -> Option<usize> {
    attributes.get(name).and_then(|value| value.parse().ok())
}

/// Where the broker itself moves messages that were received too often.
struct Redrive {
    name: String,
    account: String,
    max_receive: Option<u32>,
}

impl Redrive {
    fn of(attributes: &Attributes) -> Option<Self> {
        let policy: Value = serde_json::from_str(attributes.get(&QueueAttributeName::RedrivePolicy)?).ok()?;
        let mut parts = policy["deadLetterTargetArn"].as_str()?.rsplit(':');
        let (name, account) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        // Some write the number as a text.
        let count = &policy["maxReceiveCount"];
        let count = count.as_u64().or_else(|| count.as_str().and_then(|count| count.parse().ok()));
        Some(Self { name, account, max_receive: count.and_then(|count| u32::try_from(count).ok()) })
    }
}

/// Where a queue is, as far as its address says.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    name: String,
    url: Option<String>,
    account: Option<String>,
    endpoint: Option<String>,
    region: Option<String>,
}

impl Address {
    fn read(address: &str) -> Result<Self> {
        let wrong = |why: &str| Error::new(ErrorKind::InvalidInput, why.to_owned()).about(address);
        if let Some(rest) = address.strip_prefix("sqs://") {
            let (name, query) = rest.split_once('?').unwrap_or((rest, ""));
            let mut read = Self { name: named(name).ok_or_else(|| wrong(NAME))?, ..Self::empty() };
            for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
                let slot = match name.as_ref() {
                    "endpoint" => &mut read.endpoint,
                    "region" => &mut read.region,
                    "account" => &mut read.account,
                    _ => return Err(wrong("only endpoint, region and account are known behind the question mark")),
                };
                *slot = Some(value.into_owned());
            }
            return Ok(read);
        }
        if !address.contains("://") {
            return Ok(Self { name: named(address).ok_or_else(|| wrong(NAME))?, ..Self::empty() });
        }
        let url = url::Url::parse(address).ok().filter(|url| url.scheme().starts_with("http") && url.has_host());
        let url = url.ok_or_else(|| wrong("is neither a queue's URL nor sqs://NAME"))?;
        let name = url.path_segments().and_then(|mut parts| parts.next_back()).and_then(named);
        let name = name.ok_or_else(|| wrong(NAME))?;
        let host = url.host_str().unwrap_or_default();
        let amazon = host.contains(".amazonaws.com") || host.contains(".api.aws");
        // https://sqs.REGION.amazonaws.com/ACCOUNT/NAME
        let region = host.strip_prefix("sqs.").filter(|_| amazon).and_then(|rest| rest.split('.').next());
        Ok(Self {
            name,
            url: Some(address.to_owned()),
            region: region.map(str::to_owned),
            endpoint: (!amazon).then(|| url.origin().ascii_serialization()),
            account: None,
        })
    }

    fn empty() -> Self {
        Self { name: String::new(), url: None, account: None, endpoint: None, region: None }
    }
}

const NAME: &str = "a queue's name has 1 to 80 letters, digits, - and _, and .fifo at its end if it is one";

fn named(name: &str) -> Option<String> {
    let stem = name.strip_suffix(".fifo").unwrap_or(name);
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (!stem.is_empty() && name.len() <= 80 && stem.chars().all(good)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_where_the_queue_is() {
        let read = Address::read("https://sqs.eu-central-1.amazonaws.com/123456789012/uploads.fifo").expect("read");
        assert_eq!(
            (read.name.as_str(), read.region.as_deref(), &read.endpoint),
            ("uploads.fifo", Some("eu-central-1"), &None)
        );
        let read = Address::read("http://127.0.0.1:4100/000000000000/q").expect("read");
        assert_eq!((read.name.as_str(), read.endpoint.as_deref()), ("q", Some("http://127.0.0.1:4100")));
        let read = Address::read("sqs://q?region=r&endpoint=http://e&account=1").expect("read");
        let (endpoint, region, account) = (read.endpoint.as_deref(), read.region.as_deref(), read.account.as_deref());
        assert_eq!((endpoint, region, account, read.url), (Some("http://e"), Some("r"), Some("1"), None));
        for wrong in ["", "sqs://", "sqs://a/b", "sqs://q?x=1", "https://host/", "ftp://host/q", "a b", &"q".repeat(81)]
        {
            let error = Address::read(wrong).expect_err(wrong);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{wrong}");
        }
    }

    #[test]
    fn a_redrive_policy_is_read() {
        let policy = |text: &str| Redrive::of(&HashMap::from([(QueueAttributeName::RedrivePolicy, text.to_owned())]));
        let read = policy(r#"{"deadLetterTargetArn":"arn:aws:sqs:r:1234:dead","maxReceiveCount":"3"}"#).expect("read");
        assert_eq!((read.name.as_str(), read.account.as_str(), read.max_receive), ("dead", "1234", Some(3)));
        let read = policy(r#"{"deadLetterTargetArn":"arn:aws:sqs:r:1234:dead","maxReceiveCount":7}"#).expect("read");
        assert_eq!(read.max_receive, Some(7));
        assert!(policy("").is_none() && policy("{}").is_none());
    }
}
