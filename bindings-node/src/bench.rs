//! The Rust call that the package stands on, for `benches/scan.mjs` to compare with: in its process and on its engine,
//! because two processes differ by more than what is asked for.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;
use scan_pipeline::content::Content;
use scan_pipeline::engine::ScanContext;
use scan_pipeline::model::Verdict;

use crate::error::Failure;
use crate::runtime::runtime;
use crate::scanner::NativeScanner;

/// Contents that are in memory beforehand, as they are for JavaScript.
#[napi]
pub struct Files(Vec<Bytes>);

#[napi]
impl Files {
    /// Copies of these.
    #[napi(constructor)]
    pub fn new(contents: Vec<Buffer>) -> Self {
        Self(contents.iter().map(|content| Bytes::copy_from_slice(content)).collect())
    }

    /// Scans those from number `begin` to the one before `end`, as many at a time as there are threads for them.
    #[napi]
    pub fn scan(&self, scanner: &NativeScanner, begin: u32, end: u32, threads: u32) -> napi::Result<()> {
        let files = self.0.get(begin as usize..end as usize);
        let files = files.ok_or_else(|| Failure::invalid("there are not so many files"))?;
        let shared = scanner.shared()?;
        Ok(runtime()?.block_on(async {
            let mut scans = stream::iter(files)
                .map(|file| async {
                    let content = Content::from_bytes(file.clone());
                    shared.engine().scan(&content, &ScanContext::named("a.bin")).await
                })
                .buffer_unordered(threads as usize);
            while let Some(report) = scans.next().await {
                if report?.verdict != Verdict::Clean {
                    return Err(Failure::invalid("a file of the benches is not clean"));
                }
            }
            Ok(())
        })?)
    }
}
