//! A closure as an engine: for tests, and for checks of your own.

use async_trait::async_trait;

use super::{Engine, ScanContext, before};
use crate::content::Content;
use crate::model::{EngineInfo, Report};
use crate::{Error, Result};

/// An engine made of a function of the content's bytes. It runs on a thread for blocking work, and cannot be stopped
/// there: a scan that was given up runs to its end, without anybody to hear the answer.
///
/// ```
/// use scan_pipeline::content::Content;
/// use scan_pipeline::engine::{Closure, Engine, ScanContext};
/// use scan_pipeline::model::{Threat, Verdict};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// let engine = Closure::new("no-cats", |bytes, name| {
///     Ok(match bytes.windows(3).any(|part| part == b"cat") {
///         true => Verdict::Infected { threats: vec![Threat { signature: "Cat".into(), layer_path: name.into() }] },
///         false => Verdict::Clean,
///     })
/// });
/// let report = engine.scan(&Content::from_bytes(&b"concatenated"[..]), &ScanContext::named("a.txt")).await?;
/// assert_eq!(report.verdict.status(), "infected");
/// # Ok(()) }
/// ```
pub struct Closure<F> {
    info: EngineInfo,
    scan: std::sync::Arc<F>,
}

impl<F> Closure<F>
where
    F: Fn(&[u8], &str) -> Result<crate::model::Verdict> + Send + Sync + 'static,
{
    /// Wraps a function of the bytes and their name. It vouches for its verdicts: its "clean" counts as proven. They are
    /// not remembered, since nobody knows when the function answers differently; see
    /// [`with_generation`](Self::with_generation).
    pub fn new(name: impl Into<String>, scan: F) -> Self {
        Self { info: EngineInfo::new(name, env!("CARGO_PKG_VERSION"), ""), scan: std::sync::Arc::new(scan) }
    }

    /// Lets verdicts be remembered, also in the store and over restarts. A function that answers differently than an
    /// earlier one of this name needs another generation, or old answers go on being given.
    #[must_use]
    pub fn with_generation(mut self, generation: impl Into<String>) -> Self {
        self.info.generation = generation.into();
        self
    }
}

#[async_trait]
impl<F> Engine for Closure<F>
where
    F: Fn(&[u8], &str) -> Result<crate::model::Verdict> + Send + Sync + 'static,
{
    fn info(&self) -> EngineInfo {
        self.info.clone()
    }

    async fn scan(&self, content: &Content, context: &ScanContext) -> Result<Report> {
        let (scan, name) = (std::sync::Arc::clone(&self.scan), context.label().to_owned());
        let bytes = content.bytes().await?;
        let started = std::time::Instant::now();
        let scan = async {
            let done = tokio::task::spawn_blocking(move || scan(&bytes, &name)).await;
            done.map_err(|why| Error::unfinished("the engine's function did not come to its end", why))?
        };
        let verdict = before(context.deadline, scan).await.map_err(|why| why.about(context.label()))?;
        let mut report = Report::new(verdict, self.info.clone());
        report.coverage.proven = true;
        report.coverage.started = true;
        report.coverage.layers = 1;
        report.coverage.bytes = content.size();
        report.sha256 = Some(content.sha256());
        report.size = Some(content.size());
        report.elapsed = started.elapsed();
        Ok(report)
    }
}
