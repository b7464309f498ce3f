//! `scan-pipeline work`: takes messages from the queue and does what follows from them.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget};
use scan_pipeline::Error;
use scan_pipeline::queue::Queue;
use scan_pipeline::worker::Worker;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::args::WorkArgs;
use crate::text::{self, plural};
use crate::{EXIT_CLEAN, EXIT_ERROR, EXIT_LOOK, complain, from, health, run};

/// Time between two looks at how much there is left.
const LOOK: Duration = Duration::from_millis(500);

/// Works until it is told to stop, or until nothing is left, and returns the exit code.
pub(crate) async fn run(args: &WorkArgs) -> io::Result<u8> {
    let stop = CancellationToken::new();
    run::listen(&stop)?;
    let opened = async {
        let config = run::load(&args.config).await?;
        let queue = from::queue(&config, &args.config).await?;
        if let Some(url) = config.queue_url() {
            for warning in url.warnings(config.worker().retry.max_attempts).await? {
                complain(&warning);
            }
        }
        let store = config.store_url().open().await?;
        Ok::<_, Error>((config, queue, store))
    };
    let (config, queue, store) = match opened.await {
        Ok(opened) => opened,
        Err(why) => {
            from::say(&why);
            return Ok(EXIT_ERROR);
        }
    };
    let built = run::build(&config, &store, &stop).await;
    let worker = built
        .and_then(|pipeline| Worker::with_jobs(pipeline, Arc::clone(&queue), store.jobs(), config.worker().clone()));
    let code = match worker {
        Ok(worker) => work(args, &worker, &*queue, stop).await,
        Err(why) => {
            from::say(&why);
            Ok(EXIT_ERROR)
        }
    };
    if let Err(why) = store.close().await {
        from::say(&why);
    }
    code
}

async fn work(args: &WorkArgs, worker: &Worker, queue: &dyn Queue, stop: CancellationToken) -> io::Result<u8> {
    if let Some(address) = args.health
        && let Err(why) = health::listen(address, worker.clone(), stop.clone()).await
    {
        complain(&format!("{address}: health cannot be served: {why}"));
        return Ok(EXIT_ERROR);
    }
    run::refresh_definitions(worker.pipeline(), &stop);
    let started = Instant::now();
    if !args.json && !args.until_empty {
        writeln!(io::stdout(), "Working. Ctrl-C ends it.")?;
    }
    let bar = bar(args.json);
    let look = look(args.until_empty, worker, queue, &stop, bar.as_ref());
    let ((), stopped) = tokio::join!(look, worker.run(stop.clone()));
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let counts = worker.counts();
    let mut out = io::stdout().lock();
    if args.json {
        let line = json!({
            "schema": "scan-pipeline.work/1",
            "messages": { "done": counts.done, "retried": counts.retried, "dead": counts.dead },
            "abandoned": stopped.abandoned,
            "elapsed_ms": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        writeln!(out, "{line}")?;
    } else {
        let (done, took) = (plural(counts.done, "message"), text::duration(started.elapsed()));
        writeln!(out, "{done} done in {took}, {} come again, {} dead", counts.retried, counts.dead)?;
        if counts.dead > 0 {
            writeln!(out, "`scan-pipeline dead-letters list` shows what is dead, and why.")?;
        }
        if stopped.abandoned > 0 {
            writeln!(
                out,
                "{} were given up at the end; they come again.",
                plural(stopped.abandoned as u64, "message")
            )?;
        }
    }
    Ok(if counts.dead > 0 || stopped.abandoned > 0 { EXIT_LOOK } else { EXIT_CLEAN })
}

/// A line about what is going on, where somebody looks at it.
fn bar(json: bool) -> Option<ProgressBar> {
    (!json && io::stderr().is_terminal()).then(|| {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    })
}

/// Shows how much is left, and stops the worker when nothing is, if that was asked for.
async fn look(
    until_empty: bool,
    worker: &Worker,
    queue: &dyn Queue,
    stop: &CancellationToken,
    bar: Option<&ProgressBar>,
) {
    // Twice in a row: what one message leads to is enqueued before that message is settled, and counted a moment later.
    let mut empty = 0;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        if !until_empty && bar.is_none() {
            continue;
        }
        let depth = match queue.depth().await {
            Ok(depth) => depth,
            Err(why) => {
                tracing::warn!(error = %why, "how much is left could not be asked");
                continue;
            }
        };
        if let Some(bar) = bar {
            let broken: Vec<_> = worker.health().dependencies().into_iter().filter(|one| one.until.is_some()).collect();
            let broken: String = broken.iter().map(|one| format!(", {} does not answer", one.name)).collect();
            let done = worker.counts().done;
            bar.set_message(format!(
                "{done} done, {} wait, {} at work{broken}",
                depth.ready + depth.delayed,
                depth.leased
            ));
        }
        empty = if depth.ready + depth.delayed + depth.leased == 0 { empty + 1 } else { 0 };
        if until_empty && empty >= 2 {
            stop.cancel();
        }
    }
}
