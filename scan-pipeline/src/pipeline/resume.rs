//! Taking up what was left in the middle, and what failed for good.

use super::{Pipeline, Processed, Round, UPLOAD_SCHEME};
use crate::model::TaskId;
use crate::store::{Claim, TaskFilter, TaskRecord, TaskState};
use crate::{Error, ErrorKind, Result};

/// What a resume found to do.
#[derive(Debug, Default)]
pub struct Resumed {
    /// Tasks that were taken up.
    pub tasks: Vec<Processed>,
    /// Tasks that could not be, with why.
    pub errors: Vec<(TaskId, Error)>,
}

impl Pipeline {
    /// Takes up every task that was left in the middle and whose time has come, by this process or another that is
    /// gone. Call it at the start, and from time to time for workflows that wait.
    ///
    /// # Errors
    ///
    /// The store could not be read. What happened to single tasks is in the answer.
    pub async fn resume(&self) -> Result<Resumed> {
        let states = vec![TaskState::Pending, TaskState::Scanning, TaskState::Handling];
        let mut filter = TaskFilter { states, due: true, ..TaskFilter::default() };
        let mut resumed = Resumed::default();
        loop {
            let page = self.shared.store.tasks(&filter).await?;
            let Some(last) = page.last() else { return Ok(resumed) };
            filter.after = Some(last.id);
            let all = page.into_iter().map(|record| async move { (record.id, self.take_up(record).await) });
            for (id, result) in futures_util::future::join_all(all).await {
                match result {
                    Ok(Some(done)) => resumed.tasks.push(done),
                    Ok(None) => {}
                    Err(why) => resumed.errors.push((id, why)),
                }
            }
        }
    }

    async fn take_up(&self, record: TaskRecord) -> Result<Option<Processed>> {
        let object = record.object.clone();
        let mut permit = self.permit().await?;
        let round = loop {
            let claim = self.claim(record.id, &object).await?;
            // Another process was faster, or it is not yet time.
            if !matches!(claim, Claim::Mine(..)) {
                return Ok(None);
            }
            match self.claimed(claim, &object, &permit).await? {
                Round::Alone => {
                    drop(permit);
                    permit = self.permit_alone().await?;
                }
                round => break round,
            }
        };
        drop(permit);
        match round {
            Round::Ended(done) => Ok(Some(*done)),
            Round::Known(_) | Round::Alone => Ok(None),
            // The state that took its place may be handled already, or gone: neither is an error here.
            Round::Superseded => match self.process(object.unpinned()).await {
                Ok(done) => Ok(Some(done)),
                Err(why) if why.kind() == ErrorKind::Gone => Ok(None),
                Err(why) => Err(why),
            },
        }
    }

    /// Goes on with a task that failed for good, where it stopped: after the cause was removed. It is the same task, so
    /// that what is done stays done, the object is where its steps have put it, and handlers are called with the same
    /// idempotency keys. Steps that failed have their attempts anew; where it was the scan that failed, the object is
    /// scanned.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when there is no such task or it is not dead; else as [`Pipeline::process`].
    pub async fn retry(&self, task: TaskId) -> Result<Processed> {
        let about = |why: &str| Error::new(ErrorKind::InvalidInput, why).about(format!("task {task}"));
        let record = self.shared.store.task(task).await?.ok_or_else(|| about("there is no such task"))?;
        if record.state != TaskState::Dead {
            return Err(about(&format!("is {} and not dead, so there is nothing to retry", record.state)));
        }
        if record.object.bucket.scheme() == UPLOAD_SCHEME && record.report.is_none() {
            return Err(about("was an upload, whose bytes are gone: upload it again"));
        }
        let object = record.object;
        let mut permit = self.permit().await?;
        loop {
            let claim = self.shared.store.reopen(&self.request(task, &object)?).await?;
            match self.claimed(claim, &object, &permit).await? {
                Round::Ended(done) => return Ok(*done),
                Round::Known(known) => return Err(known.into()),
                Round::Alone => {
                    drop(permit);
                    permit = self.permit_alone().await?;
                }
                // What took its place is another task.
                Round::Superseded => {
                    drop(permit);
                    return self.process(object.unpinned()).await;
                }
            }
        }
    }
}
