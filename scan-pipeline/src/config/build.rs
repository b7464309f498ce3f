//! From a checked configuration to what it describes.

use std::collections::BTreeMap;
use std::sync::Arc;

#[cfg(feature = "azure")]
use object_store::azure::MicrosoftAzureBuilder;
#[cfg(feature = "gcs")]
use object_store::gcp::GoogleCloudStorageBuilder;

use super::Config;
use super::buckets::{BucketSpec, Place};
use super::detect::DetectSpec;
use super::engine::EngineSpec;
use super::open::OpenStore;
use super::steps::{Action, RelocateSpec, StepSpec};
use super::workflows::{LEAVE, NodeSpec, WorkflowSpec};
use crate::content::{Budget, SpoolOptions};
use crate::engine::{DetectOnly, Engine, Group};
use crate::handler::{delete, record, record_to, relocate, tag};
#[cfg(any(feature = "gcs", feature = "azure"))]
use crate::objects::ObjectStoreBucket;
use crate::objects::{Buckets, LocalBucket, LocalOptions, MemoryBucket, ObjectOps};
use crate::pipeline::PipelineBuilder;
use crate::workflow::{Branch, RetryPolicy, Step, Workflow};
use crate::{Error, ErrorKind, Pipeline, Policy, Result};

impl Config {
    /// Opens the store and builds the pipeline. Loading the official definitions takes seconds and over a gigabyte.
    ///
    /// # Errors
    ///
    /// The store, a bucket or the definitions cannot be used; the message names which.
    pub async fn build(&self) -> Result<Pipeline> {
        self.build_with(&self.store.open().await?).await
    }

    /// The same with a store that is open already.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub async fn build_with(&self, store: &OpenStore) -> Result<Pipeline> {
        let mut builder = Pipeline::builder().policy(self.policy()?).shared_store(store.store());
        let buckets = self.buckets(store).await?;
        for (name, bucket) in buckets.iter() {
            builder = builder.bucket(name, Arc::clone(bucket));
        }
        for spec in self.buckets.iter().filter(|spec| spec.accept_unpinned_delete) {
            builder = builder.accept_unpinned_delete(spec.name.as_str());
        }
        // Last, because it takes longest: whatever else is wrong is said before.
        self.with_limits(self.with_engine(builder, &buckets).await?).build()
    }

    /// The buckets alone, for what needs no engine.
    ///
    /// # Errors
    ///
    /// A bucket cannot be used; the message names which.
    pub async fn buckets(&self, store: &OpenStore) -> Result<Buckets> {
        let mut buckets = Buckets::new();
        for spec in &self.buckets {
            let about = |why: Error| why.about(format!("bucket {}", spec.name));
            buckets.insert(spec.name.as_str(), bucket(spec, store).await.map_err(about)?);
        }
        Ok(buckets)
    }

    async fn with_engine(&self, builder: PipelineBuilder, buckets: &Buckets) -> Result<PipelineBuilder> {
        let engine = match &self.provided.engine {
            Some(engine) => Arc::clone(engine),
            None => joined(engines(&self.engines, self.detect.as_ref(), buckets).await?)?,
        };
        Ok(builder.shared_engine(engine))
    }

    fn with_limits(&self, mut builder: PipelineBuilder) -> PipelineBuilder {
        let limits = &self.limits;
        let (default, shared) = match &self.provided.spool {
            Some((options, budget)) => (options.clone(), Some(budget.clone())),
            None => (SpoolOptions::default(), None),
        };
        // What no engine scans need not be taken in, and what one scans has to be.
        let scanned = self.engines.iter().filter_map(EngineSpec::max_file_size).max();
        builder = builder.spool(SpoolOptions {
            max_size: limits.max_size.or(scanned).unwrap_or(default.max_size),
            memory_threshold: limits.memory_threshold.unwrap_or(default.memory_threshold),
            stall_timeout: limits.stall_timeout.unwrap_or(default.stall_timeout),
            max_time: limits.read_timeout.unwrap_or(default.max_time),
            dir: limits.temp_dir.clone().or(default.dir),
        });
        let own = limits.memory.map(|bytes| match &shared {
            Some(shared) => shared.anew(bytes),
            None => Budget::new(bytes),
        });
        if let Some(budget) = own.or(shared) {
            builder = builder.memory(budget);
        }
        if let Some(tasks) = limits.concurrency {
            builder = builder.concurrency(tasks);
        }
        if let Some(time) = limits.scan_timeout {
            builder = builder.scan_timeout(time);
        }
        if let Some(max_attempts) = limits.scan_attempts {
            builder = builder.scan_retry(RetryPolicy { max_attempts, ..RetryPolicy::default() });
        }
        if let Some(ttl) = limits.lease {
            builder = builder.lease(ttl);
        }
        if let Some(unchanged) = limits.settle {
            builder = builder.settle(unchanged);
        }
        if let Some(longest) = limits.patience {
            builder = builder.patience(longest);
        }
        if limits.verdict_cache.is_some() || limits.durable_verdict_cache.is_some() {
            let durable = limits.durable_verdict_cache.unwrap_or(true);
            builder = builder.verdict_cache(limits.verdict_cache.unwrap_or(100_000), durable);
        }
        builder
    }

    /// The policy with its workflows; it needs neither engine nor store.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when a handler cannot be set up.
    pub fn policy(&self) -> Result<Policy> {
        let mut made: BTreeMap<&str, Arc<Workflow>> = BTreeMap::new();
        made.insert(LEAVE, Arc::new(Workflow::new(LEAVE)));
        for (name, spec) in &self.workflows {
            made.insert(name, Arc::new(self.workflow(name, spec)?));
        }
        let named = |name: &str| {
            made.get(name).cloned().ok_or_else(|| Error::new(ErrorKind::Config, format!("there is no workflow {name}")))
        };
        let spec = &self.policy;
        let mut policy = Policy::new().accept_unproven(spec.accept_unproven);
        if let Some(name) = &spec.clean {
            policy = policy.clean(named(name)?);
        }
        if let Some(name) = &spec.infected {
            policy = policy.infected(named(name)?);
        }
        if let Some(name) = &spec.unscannable {
            policy = policy.unscannable(named(name)?);
        }
        for rule in &spec.findings {
            let detectors = rule.detectors.iter().map(String::as_str);
            policy = policy.findings_of(detectors, rule.min_confidence, named(&rule.workflow)?);
        }
        for (reason, name) in &spec.unscannable_for {
            policy = policy.unscannable_for(*reason, named(name)?);
        }
        policy.check()?;
        Ok(policy)
    }

    fn workflow(&self, name: &str, spec: &WorkflowSpec) -> Result<Workflow> {
        let workflow = self.nodes(Workflow::new(name), &spec.steps)?;
        if spec.on_fatal.is_empty() {
            return Ok(workflow);
        }
        let fatal = Workflow::new(format!("{name}.on_fatal"));
        Ok(workflow.on_fatal(self.nodes(fatal, &spec.on_fatal)?))
    }

    fn nodes(&self, mut workflow: Workflow, nodes: &[NodeSpec]) -> Result<Workflow> {
        for node in nodes {
            workflow = match node {
                NodeSpec::Step(step) => workflow.then(self.step(step)?),
                NodeSpec::Parallel(branches) => {
                    let branch = |steps: &Vec<StepSpec>| {
                        steps.iter().try_fold(Branch::default(), |branch, step| Ok(branch.then(self.step(step)?)))
                    };
                    workflow.parallel(branches.iter().map(branch).collect::<Result<Vec<_>>>()?)
                }
            };
        }
        Ok(workflow)
    }

    fn step(&self, spec: &StepSpec) -> Result<Step> {
        let unproven = self.policy.accept_unproven;
        let mut step = match &spec.action {
            Action::Tag { vocabulary, optional } => {
                let tag = tag().vocabulary(vocabulary.build(unproven));
                Step::new(if *optional { tag.optional() } else { tag })
            }
            Action::Relocate(spec) => Step::new(mover(spec, unproven)?),
            Action::Delete => Step::new(delete()),
            Action::Notify(spec) => spec.build()?,
            Action::Email(spec) => spec.build()?,
            Action::RecordToTable(spec) => spec.build()?,
            Action::Custom(name) => self.provided.step(name)?,
            Action::Record { to: None, .. } => Step::new(record()),
            Action::Record { to: Some(to), prefix } => {
                let handler = record_to(to.value.as_str());
                Step::new(handler.prefix(prefix.as_deref().unwrap_or_default()))
            }
        };
        if let Some(retry) = spec.retry {
            step = step.retry(retry);
        }
        if let Some(timeout) = spec.timeout {
            step = step.timeout(timeout);
        }
        Ok(step.named(spec.name.as_str()))
    }
}

fn mover(spec: &RelocateSpec, accept_unproven: bool) -> Result<crate::handler::Relocate> {
    let mut handler = relocate(spec.to.value.as_str()).on_conflict(spec.on_conflict);
    if let Some(prefix) = &spec.prefix {
        handler = handler.prefix(prefix.as_str());
    }
    if let Some(template) = &spec.template {
        handler = handler.key_template(template)?;
    }
    if let Some(tags) = &spec.tags {
        handler = handler.tags(tags.build(accept_unproven));
    }
    Ok(if spec.keep_source { handler.keep_source() } else { handler })
}

/// Each engine that is set up; the buckets may hold its definitions.
pub(super) async fn engines(
    specs: &[EngineSpec],
    detect: Option<&DetectSpec>,
    buckets: &Buckets,
) -> Result<Vec<Arc<dyn Engine>>> {
    let mut engines: Vec<Arc<dyn Engine>> = Vec::new();
    // Who unpacks the layers shows them to the detectors; without such an engine they see what lies there.
    let unpacks = |spec: &EngineSpec| matches!(spec, EngineSpec::ClamAv(_));
    if let (Some(detect), false) = (detect, specs.iter().any(unpacks)) {
        engines.push(Arc::new(DetectOnly::new(detect.build()?)));
    }
    for spec in specs {
        engines.push(engine(spec, detect, buckets).await?);
    }
    Ok(engines)
}

/// The engine that is all of them.
pub(super) fn joined(mut engines: Vec<Arc<dyn Engine>>) -> Result<Arc<dyn Engine>> {
    match engines.pop() {
        Some(only) if engines.is_empty() => Ok(only),
        Some(last) => {
            engines.push(last);
            Ok(Arc::new(Group::new(engines)?))
        }
        None => Err(Error::new(ErrorKind::Config, "no engine is set up")),
    }
}

async fn engine(spec: &EngineSpec, detect: Option<&DetectSpec>, buckets: &Buckets) -> Result<Arc<dyn Engine>> {
    match spec {
        EngineSpec::ClamAv(spec) => spec.build(detect, buckets).await,
        EngineSpec::Clamd(spec) => spec.build(),
    }
}

async fn bucket(spec: &BucketSpec, store: &OpenStore) -> Result<Arc<dyn ObjectOps>> {
    match &spec.place {
        Place::Folder(path) => {
            let options = LocalOptions { tag_store: Some(store.tags()), ..LocalOptions::default() };
            Ok(Arc::new(LocalBucket::open_with(path, options).await?))
        }
        Place::Memory(url) => Ok(Arc::new(MemoryBucket::new(url.rest())?)),
        #[cfg(feature = "s3")]
        Place::S3(spec) => super::s3::build(spec).await,
        // Credentials come from the environment, as Google's and Microsoft's own tools take them.
        #[cfg(feature = "gcs")]
        Place::Gcs(url) => {
            let bucket = ObjectStoreBucket::gcs(url.rest(), GoogleCloudStorageBuilder::from_env())?;
            Ok(Arc::new(bucket.with_tag_store(store.tags())))
        }
        #[cfg(feature = "azure")]
        Place::Azure(url) => {
            let bucket = ObjectStoreBucket::azure(url.rest(), MicrosoftAzureBuilder::from_env())?;
            Ok(Arc::new(bucket.with_tag_store(store.tags())))
        }
        #[allow(unreachable_patterns, reason = "with every feature nothing is left")]
        place => {
            let why = "this build has no buckets of this kind";
            Err(Error::new(ErrorKind::Unsupported, why).about(place.describe()))
        }
    }
}
