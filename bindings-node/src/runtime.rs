//! The threads that futures run on, and promises for what they give.
//!
//! One runtime for the process, whatever the number of JavaScript threads: engines are shared between them. It is never
//! shut down. What a JavaScript thread has begun is dropped when that thread ends, which cancels its scans.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::FutureExt;
use napi::bindgen_prelude::{Object, ToNapiValue};
use napi::{Env, JsDeferred};
use scan_pipeline::{Error, ErrorKind};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Failure, Result};

/// How long the end of a JavaScript thread waits for what it had begun: dropping a future takes no time, and a scan
/// notices between two layers.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// What one JavaScript thread has begun.
#[derive(Clone)]
struct Begun {
    ending: CancellationToken,
    tasks: TaskTracker,
}

thread_local! {
    static BEGUN: RefCell<Option<Begun>> = const { RefCell::new(None) };
}

/// The runtime of this process.
pub(crate) fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<std::result::Result<Runtime, String>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("scan-pipeline")
            .enable_all()
            .build()
            .map_err(|why| why.to_string())
    });
    made.as_ref().map_err(|why| {
        Error::new(ErrorKind::Resources, format!("the threads of scan-pipeline could not be started: {why}")).into()
    })
}

/// A promise for what a future gives. While it is pending, the process goes on.
pub(crate) fn promise<T>(env: &Env, work: impl Future<Output = Result<T>> + Send + 'static) -> napi::Result<Object<'_>>
where
    T: ToNapiValue + Send + 'static,
{
    promise_for(env, work, |_, value| Ok(value))
}

/// The same for what is told on the JavaScript thread that it has arrived there.
pub(crate) fn promise_for<T>(
    env: &Env,
    work: impl Future<Output = Result<T>> + Send + 'static,
    arrive: impl FnOnce(&Env, T) -> napi::Result<T> + Send + 'static,
) -> napi::Result<Object<'_>>
where
    T: ToNapiValue + Send + 'static,
{
    let runtime = runtime()?;
    let begun = begun(env)?;
    let (deferred, promise): (JsDeferred<T, _>, _) = env.create_deferred()?;
    let ending = begun.ending.clone();
    runtime.spawn(begun.tasks.track_future(async move {
        let work = AssertUnwindSafe(work).catch_unwind();
        match ending.run_until_cancelled(work).await {
            // Nobody is left to hear it.
            None => {}
            Some(Ok(Ok(value))) => deferred.resolve(move |env| arrive(&env, value)),
            Some(Ok(Err(failure))) => deferred.reject(failure.into()),
            Some(Err(_)) => {
                let failure: Failure =
                    Error::new(ErrorKind::Panicked, "the native part of scan-pipeline panicked").into();
                deferred.reject(failure.into());
            }
        }
    }));
    Ok(promise)
}

/// What this JavaScript thread has begun; its end is listened for from the first time on.
fn begun(env: &Env) -> napi::Result<Begun> {
    BEGUN.with_borrow_mut(|slot| {
        if let Some(begun) = slot {
            return Ok(begun.clone());
        }
        let begun = Begun { ending: CancellationToken::new(), tasks: TaskTracker::new() };
        env.add_env_cleanup_hook(begun.clone(), |begun| {
            begun.ending.cancel();
            begun.tasks.close();
            BEGUN.with_borrow_mut(Option::take);
            if let Ok(runtime) = runtime() {
                // Whoever takes longer goes on behind the back of a thread that is gone.
                let _ = runtime.block_on(async { tokio::time::timeout(LAST_WAIT, begun.tasks.wait()).await });
            }
        })?;
        *slot = Some(begun.clone());
        Ok(begun)
    })
}
