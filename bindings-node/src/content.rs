//! Contents behind the gate: the bytes that were scanned, to those who may have them.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use futures_util::TryStreamExt;
use napi::Env;
use napi::bindgen_prelude::{Buffer, Object, ObjectFinalize};
use napi_derive::napi;
use scan_pipeline::content::Content;
use scan_pipeline::model::Report;
use scan_pipeline::{Error, ErrorKind};

use crate::error::{Failure, Result};
use crate::runtime::promise;

/// What was taken in and scanned.
#[napi(custom_finalize)]
pub struct NativeUpload {
    report: String,
    task: Option<String>,
    verdict: &'static str,
    admitted: bool,
    name: String,
    size: u64,
    /// Until it is given up. What nobody may have is not kept at all.
    content: Mutex<Option<Content>>,
}

impl ObjectFinalize for NativeUpload {
    fn finalize(self, env: Env) -> napi::Result<()> {
        self.give_up(&env)
    }
}

impl NativeUpload {
    pub(crate) fn new(name: String, report: &Report, admitted: bool, content: Content) -> Result<Self> {
        let verdict = report.verdict.status();
        let (size, content) = (content.size(), Mutex::new(admitted.then_some(content)));
        Ok(Self { report: json(report)?, task: None, verdict, admitted, name, size, content })
    }

    pub(crate) fn with_task(mut self, task: String) -> Self {
        self.task = Some(task);
        self
    }

    /// Tells JavaScript's collector how much hangs on this object: memory of the budget or room on the disk, of which it
    /// would see nothing, and so not hurry.
    pub(crate) fn arrive(env: &Env, upload: Self) -> napi::Result<Self> {
        if upload.admitted {
            env.adjust_external_memory(upload.weight())?;
        }
        Ok(upload)
    }

    fn weight(&self) -> i64 {
        i64::try_from(self.size).unwrap_or(i64::MAX)
    }

    fn give_up(&self, env: &Env) -> napi::Result<()> {
        let held = self.content.lock().unwrap_or_else(PoisonError::into_inner).take();
        if held.is_some() {
            env.adjust_external_memory(-self.weight())?;
        }
        Ok(())
    }

    /// The gate: nobody gets at the content but through here.
    fn content(&self) -> Result<Content> {
        if self.admitted {
            let content = self.content.lock().unwrap_or_else(PoisonError::into_inner).clone();
            return content.ok_or_else(|| Failure::closed("content"));
        }
        let why = format!("the content is {} and is not handed on", self.verdict);
        Err(Error::new(ErrorKind::Denied, why).about(self.name.as_str()).into())
    }
}

#[napi]
impl NativeUpload {
    /// The report as JSON.
    #[napi(getter)]
    pub fn report(&self) -> String {
        self.report.clone()
    }

    /// What became of its task as JSON, where there is one.
    #[napi(getter)]
    pub fn task(&self) -> Option<String> {
        self.task.clone()
    }

    /// Whether the content is handed on.
    #[napi(getter)]
    pub fn admitted(&self) -> bool {
        self.admitted
    }

    /// How many bytes there are.
    #[napi(getter)]
    pub fn size(&self) -> f64 {
        self.size as f64
    }

    /// Bytes from `offset` on, `length` of them or as many as there are.
    #[napi(ts_return_type = "Promise<Buffer>")]
    pub fn read<'env>(&self, env: &'env Env, offset: f64, length: f64) -> napi::Result<Object<'env>> {
        let content = self.content()?;
        promise(env, async move {
            // A copy: JavaScript may write to what it gets, and others may be reading the content.
            let bytes = content.range(offset as u64, length as usize).await?;
            Ok(Buffer::from(bytes.to_vec()))
        })
    }

    /// Gives the content up, with the memory or the room on the disk that it takes.
    #[napi]
    pub fn dispose(&self, env: &Env) -> napi::Result<()> {
        self.give_up(env)
    }

    /// Writes the content to a file that is not there yet.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn save_to<'env>(&self, env: &'env Env, path: &[u8]) -> napi::Result<Object<'env>> {
        let (content, path) = (self.content()?, path_of(path));
        promise(env, async move { save(&content, path).await })
    }
}

/// Into a file beside it first, so that nobody ever meets a part of it.
async fn save(content: &Content, path: PathBuf) -> Result<()> {
    let about = path.display().to_string();
    let failed = |why| Failure::from(Error::io("the content could not be written", why).about(about.clone()));
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or_else(|| ".".into(), PathBuf::from);
    let made = tokio::task::spawn_blocking(move || tempfile::NamedTempFile::new_in(folder)).await;
    let mut file = made.map_err(|why| failed(std::io::Error::other(why)))?.map_err(failed)?;
    let mut parts = content.stream();
    while let Some(part) = parts.try_next().await? {
        let written = tokio::task::spawn_blocking(move || file.write_all(&part).map(|()| file)).await;
        file = written.map_err(|why| failed(std::io::Error::other(why)))?.map_err(failed)?;
    }
    let kept = tokio::task::spawn_blocking(move || {
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map(drop).map_err(|why| why.error)
    });
    kept.await.map_err(|why| failed(std::io::Error::other(why)))?.map_err(failed)
}

/// A path as JavaScript hands it over, which need not be text.
pub(crate) fn path_of(path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(path))
}

/// A value as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|why| Error::new(ErrorKind::Corrupt, "cannot be written as JSON").with_source(why).into())
}
