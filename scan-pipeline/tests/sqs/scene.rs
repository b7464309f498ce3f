//! Servers with a queue and its dead letters.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use scan_pipeline::queue::{SqsQueue, SqsQueueBuilder};
use scan_pipeline_tests::brokers::{Broker, RunningBroker, shared};

/// A server with a queue, and a client to look behind our back.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) server: &'static RunningBroker,
    pub(crate) client: Client,
    pub(crate) url: String,
    pub(crate) dead: String,
}

/// After so many receives the broker moves a message away.
pub(crate) const MAX_RECEIVE: u32 = 1000;

impl Scene {
    /// With a queue of this kind, where the server is there.
    pub(crate) async fn new(broker: Broker, fifo: bool) -> Option<Self> {
        Self::moving_after(broker, fifo, MAX_RECEIVE).await
    }

    pub(crate) async fn moving_after(broker: Broker, fifo: bool, max_receive: u32) -> Option<Self> {
        let server = shared(broker)?;
        let client = client(&server.url());
        let (url, dead) = make(&client, fifo, max_receive).await;
        Some(Self { server, client, url, dead })
    }

    /// Settings for the queue.
    pub(crate) fn builder(&self) -> SqsQueueBuilder {
        SqsQueue::builder(&self.url).region("us-east-1").credentials("test", "test", None)
    }

    pub(crate) async fn queue(&self) -> SqsQueue {
        self.builder().build().await.expect("a queue")
    }

    /// Sends a message as anybody would.
    pub(crate) async fn send(&self, body: &str) {
        let request = self.client.send_message().queue_url(&self.url).message_body(body);
        request.send().await.expect("sent");
    }
}

pub(crate) fn client(endpoint: &str) -> Client {
    let credentials = aws_sdk_sqs::config::Credentials::new("test", "test", None, None, "test");
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
        .region(aws_sdk_sqs::config::Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(credentials)
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    Client::from_conf(config.build())
}

/// A queue and its dead letters.
async fn make(client: &Client, fifo: bool, max_receive: u32) -> (String, String) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (count, ending) = (COUNT.fetch_add(1, Ordering::Relaxed), if fifo { ".fifo" } else { "" });
    let create = |name: String| {
        let request = client.create_queue().queue_name(format!("{name}-{count}{ending}"));
        if fifo { request.attributes(QueueAttributeName::FifoQueue, "true") } else { request }
    };
    let dead = create(String::from("dead")).send().await.expect("created").queue_url.expect("its address");
    let request = client.get_queue_attributes().queue_url(&dead).attribute_names(QueueAttributeName::QueueArn);
    let attributes = request.send().await.expect("answers").attributes.expect("attributes");
    let arn = &attributes[&QueueAttributeName::QueueArn];
    let policy = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":{max_receive}}}"#);
    let request = create(String::from("queue")).attributes(QueueAttributeName::RedrivePolicy, policy);
    (request.send().await.expect("created").queue_url.expect("its address"), dead)
}
