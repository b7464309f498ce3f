#![forbid(unsafe_code)]
//! An AWS Lambda function that SQS triggers: a batch of messages in, and out the ones that have to come back.
//!
//! It does what `scan-pipeline work` does, with the same configuration file, which is that of the variable
//! `SCAN_PIPELINE_CONFIG` or `pipeline.toml` in the function's folder. What outlasts a call has to be outside of the
//! function: the store in PostgreSQL, the objects in S3 (feature `aws`). What the trigger and the queue need is on the
//! page of [`scan_pipeline::worker::lambda`].

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lambda_runtime::{Context, Error, LambdaEvent, service_fn};
use scan_pipeline::config::Config;
use scan_pipeline::event::lambda::BatchItemFailures;
use scan_pipeline::queue::SqliteQueue;
use scan_pipeline::worker::{Worker, lambda};
use serde_json::Value;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What is kept of a call's time for the answer. A call that is late counts as failed with every message of its batch.
const TO_ANSWER: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<(), Error> {
    log();
    // Once for all calls: loading the official definitions takes seconds.
    let worker = worker().await?;
    lambda_runtime::run(service_fn(|event| handle(&worker, event))).await
}

async fn worker() -> Result<Worker, Error> {
    let file = std::env::var_os("SCAN_PIPELINE_CONFIG").unwrap_or_else(|| "pipeline.toml".into());
    let config = Config::load(file).await?;
    let store = config.store_url().open().await?;
    let pipeline = config.build_with(&store).await?;
    let options = config.worker().clone();
    Ok(match config.queue_url() {
        // Bulk jobs put their parts there; the function is triggered by the same queue.
        Some(url) => Worker::with_jobs(pipeline, url.open().await?, store.jobs(), options)?,
        // Without them nothing is ever put into it.
        None => Worker::new(pipeline, Arc::new(SqliteQueue::in_memory().await?), options)?,
    })
}

async fn handle(worker: &Worker, event: LambdaEvent<Value>) -> Result<BatchItemFailures, Error> {
    let batch = event.payload.to_string();
    // An error here fails the call, upon which the whole batch comes back.
    Ok(lambda::handle(worker, batch.as_bytes(), time(&event.context)).await?)
}

/// How long a call may take from now on.
fn time(context: &Context) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(context.deadline).saturating_sub(now).saturating_sub(TO_ANSWER)
}

/// Warnings go to standard error, where CloudWatch takes them from.
fn log() {
    let filter = Targets::new().with_default(tracing_subscriber::filter::LevelFilter::WARN);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).without_time();
    tracing_subscriber::registry().with(lines).with(filter).init();
}
