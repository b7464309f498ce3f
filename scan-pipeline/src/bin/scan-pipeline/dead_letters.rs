//! `scan-pipeline dead-letters`: the messages that failed for good.

use std::io::{self, Write};
use std::time::Duration;

use scan_pipeline::config::Config;
use scan_pipeline::queue::{DeadLetter, Queue, Which};
use scan_pipeline::{Error, ErrorKind};
use serde_json::{Value, json};

use crate::args::{DeadLettersArgs, DeadLettersCommand, WhichArgs};
use crate::text::{plural, printable};
use crate::{EXIT_CLEAN, EXIT_ERROR, EXIT_LOOK, from, progress};

/// Messages that are read or moved at once.
const PAGE: usize = 100;

/// Does it, and returns the exit code.
pub(crate) async fn run(args: &DeadLettersArgs) -> io::Result<u8> {
    let opened = async {
        let config = Config::load(&args.config).await?;
        from::queue(&config, &args.config).await
    };
    let result = match opened.await {
        Ok(queue) => command(args, &*queue).await,
        Err(why) => Err(why),
    };
    result.unwrap_or_else(|why| {
        from::say(&why);
        Ok(EXIT_ERROR)
    })
}

async fn command(args: &DeadLettersArgs, queue: &dyn Queue) -> Result<io::Result<u8>, Error> {
    match &args.command {
        DeadLettersCommand::List => list(queue, args.json).await,
        DeadLettersCommand::Show { id } => {
            let missing = || Error::new(ErrorKind::InvalidInput, "there is no such dead letter").about(id.clone());
            let letter = queue.dead_letters().get(id).await?.ok_or_else(missing)?;
            Ok(show(&letter, args.json).map(|()| EXIT_CLEAN))
        }
        DeadLettersCommand::Redrive { which, rate } => {
            let which = meant(which)?;
            // So many at a time, with a pause between, that no more than `rate` a second come back.
            let most = rate.map_or(PAGE, |rate| (rate as usize).clamp(1, PAGE));
            let pause =
                rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(most as f64 / f64::from(rate.max(1))));
            let redrive = async || {
                let moved = queue.dead_letters().redrive(&which, most).await?;
                if moved > 0 {
                    tokio::time::sleep(pause).await;
                }
                Ok(moved)
            };
            let moved = until_none(queue, &which, args.json, redrive).await?;
            Ok(said(moved, "put back into the queue", args.json))
        }
        DeadLettersCommand::Purge { which } => {
            let which = meant(which)?;
            let purge = async || queue.dead_letters().purge(&which, PAGE).await;
            let gone = until_none(queue, &which, args.json, purge).await?;
            Ok(said(gone, "removed for good", args.json))
        }
    }
}

/// Does some at a time until none is left, shows how far it is, and says how many these were.
async fn until_none(
    queue: &dyn Queue,
    which: &Which,
    json: bool,
    some: impl AsyncFn() -> Result<u64, Error>,
) -> Result<u64, Error> {
    let bar = progress::bar(json, "{spinner} {bar:30} {human_pos}/{human_len} {per_sec}");
    if let Some(bar) = &bar {
        // How many have a reason nobody knows before.
        let all = if which.ids.is_empty() { queue.depth().await?.dead } else { which.ids.len() as u64 };
        bar.set_length(all);
    }
    let mut count = 0;
    let ended = loop {
        match some().await {
            Ok(0) => break Ok(count),
            Ok(more) => count += more,
            Err(why) => break Err(why),
        }
        if let Some(bar) = &bar {
            bar.set_position(count);
        }
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    ended
}

/// That everything is meant has to be said.
fn meant(args: &WhichArgs) -> Result<Which, Error> {
    if args.ids.is_empty() && args.reason.is_none() && !args.all {
        let why = "say which: by their ids, by --reason TEXT, or --all";
        return Err(Error::new(ErrorKind::InvalidInput, why));
    }
    Ok(Which { ids: args.ids.clone(), reason: args.reason.clone() })
}

fn said(count: u64, what: &str, json: bool) -> io::Result<u8> {
    if json {
        writeln!(
            io::stdout(),
            "{}",
            json!({ "schema": "scan-pipeline.dead-letters/1", "count": count, "done": what })
        )?;
    } else {
        writeln!(io::stdout(), "{} {what}", plural(count, "message"))?;
    }
    Ok(if count == 0 { EXIT_LOOK } else { EXIT_CLEAN })
}

fn as_json(letter: &DeadLetter) -> Value {
    let body = String::from_utf8_lossy(&letter.body);
    json!({
        "schema": "scan-pipeline.dead-letter/1",
        "id": letter.id,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "tenant": letter.tenant,
        "lane": letter.lane,
        "died": letter.died.map(|at| at.to_string()),
        "body": body,
    })
}

async fn list(queue: &dyn Queue, json: bool) -> Result<io::Result<u8>, Error> {
    let mut out = io::BufWriter::new(io::stdout());
    let mut after: Option<String> = None;
    loop {
        let page = queue.dead_letters().list(after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        for letter in &page {
            let written = if json {
                writeln!(out, "{}", as_json(letter))
            } else {
                let died = letter.died.map_or_else(|| String::from("-"), |at| at.to_string());
                writeln!(
                    out,
                    "{}  {died}  {}  {}",
                    letter.id,
                    plural(u64::from(letter.attempts), "delivery"),
                    printable(&letter.reason)
                )
            };
            if let Err(why) = written {
                return Ok(Err(why));
            }
        }
        if !queue.caps().lists_dead {
            // There is no second page, only the same sample once more.
            break;
        }
    }
    Ok(out.flush().map(|()| EXIT_CLEAN))
}

fn show(letter: &DeadLetter, json: bool) -> io::Result<()> {
    if json {
        return writeln!(io::stdout(), "{}", as_json(letter));
    }
    let mut out = io::stdout().lock();
    let mut line = |name: &str, value: &str| writeln!(out, "{name:<10}{}", printable(value));
    line("id", &letter.id)?;
    line("reason", &letter.reason)?;
    line("delivered", &format!("{} times", letter.attempts))?;
    line("tenant", &letter.tenant)?;
    line("lane", letter.lane.as_str())?;
    line("died", &letter.died.map_or_else(|| String::from("-"), |at| at.to_string()))?;
    line("body", &String::from_utf8_lossy(&letter.body))
}
