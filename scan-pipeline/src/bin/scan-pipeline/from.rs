//! Which store a command looks at, and what it says when it cannot.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use scan_pipeline::config::{Config, OpenStore, StoreUrl};
use scan_pipeline::model::TaskId;
use scan_pipeline::queue::Queue;
use scan_pipeline::store::{Store, TaskFilter, TaskRecord};
use scan_pipeline::{Error, ErrorKind};

use crate::args::FromArgs;
use crate::{EXIT_ERROR, complain};

/// A store that is there, and the configuration that named it.
pub(crate) struct Source {
    pub(crate) store: OpenStore,
    pub(crate) config: Option<Config>,
}

/// Does something with the store, closes it, and says what went wrong. Returns the exit code.
pub(crate) async fn with(
    args: &FromArgs,
    work: impl AsyncFnOnce(&Source) -> Result<io::Result<u8>, Error>,
) -> io::Result<u8> {
    let result = match open(args).await {
        Ok(source) => {
            let result = work(&source).await;
            if let Err(why) = source.store.close().await {
                say(&why);
            }
            result
        }
        Err(why) => Err(why),
    };
    result.unwrap_or_else(|why| {
        say(&why);
        Ok(EXIT_ERROR)
    })
}

async fn open(args: &FromArgs) -> Result<Source, Error> {
    let (url, config) = match (&args.store, &args.config) {
        (Some(store), _) => (named(store)?, None),
        (None, Some(file)) => {
            let config = Config::load(file).await?;
            (config.store_url().clone(), Some(config))
        }
        (None, None) => {
            let why = "name the store: --store FILE, or --config FILE for the one that a configuration names";
            return Err(Error::new(ErrorKind::Config, why));
        }
    };
    Ok(Source { store: url.open_existing().await?, config })
}

/// The queue of a configuration.
pub(crate) async fn queue(config: &Config, file: &Path) -> Result<Arc<dyn Queue>, Error> {
    let Some(url) = config.queue_url() else {
        let why = "no queue is set up: write [queue] with url = \"sqlite:///path/to/queue.db\"";
        return Err(Error::new(ErrorKind::Config, why).about(file.display().to_string()));
    };
    url.open().await
}

fn named(store: &str) -> Result<StoreUrl, Error> {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    // An address may hold a password.
    let shown = if store.contains('@') { String::from("--store") } else { format!("--store {store}") };
    StoreUrl::parse(store, Path::new(&here)).map_err(|why| Error::new(ErrorKind::Config, why).about(shown))
}

/// An error on standard error, each of its lines on its own: a configuration has a line for each mistake.
pub(crate) fn say(why: &Error) {
    why.to_string().lines().for_each(complain);
}

/// The task whose id begins with these digits.
pub(crate) async fn task(store: &dyn Store, prefix: &str) -> Result<TaskRecord, Error> {
    let about = |why: &str| Error::new(ErrorKind::InvalidInput, why).about(format!("task {prefix}"));
    if let Ok(id) = prefix.parse() {
        return store.task(TaskId(id)).await?.ok_or_else(|| about("there is no such task"));
    }
    let filter = TaskFilter { after: before(prefix), most: 2, ..TaskFilter::default() };
    let page = store.tasks(&filter).await?;
    let mut found = page.iter().filter(|record| record.id.to_string().starts_with(prefix));
    match (found.next(), found.next()) {
        (None, _) => Err(about("there is no task whose id begins so")),
        (Some(_), Some(_)) => Err(about("several tasks begin so; give more digits")),
        // Listings are without steps.
        (Some(record), None) => store.task(record.id).await?.ok_or_else(|| about("there is no such task")),
    }
}

/// The largest id before all that begin with these digits; `None` when there is none.
fn before(prefix: &str) -> Option<TaskId> {
    let mut digits: Vec<u8> = format!("{prefix:0<64}").into_bytes();
    for digit in digits.iter_mut().rev() {
        match digit {
            b'0' => *digit = b'f',
            b'a' => {
                *digit = b'9';
                return String::from_utf8(digits).ok()?.parse().ok().map(TaskId);
            }
            _ => {
                *digit -= 1;
                return String::from_utf8(digits).ok()?.parse().ok().map(TaskId);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_begins_right_before_what_is_looked_for() {
        assert_eq!(before("0000"), None);
        for (prefix, start, end) in [("1000", "0fff", "f"), ("a0", "9f", "f"), ("0b1", "0b0", "f")] {
            let id = before(prefix).expect("one").to_string();
            assert!(id.starts_with(start) && id.ends_with(end), "{prefix}: {id}");
        }
    }
}
