//! The files on an S3 server that answers late, and what the processes beside ours use of the processor.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use scan_pipeline::content::Content;
use scan_pipeline::objects::{ObjectOps, PutOptions, S3Bucket, S3Keys};
use scan_pipeline_tests::servers::{Running, S3Server, start};

use crate::Result;
use crate::files::BenchFile;

/// The bucket's name.
const BUCKET: &str = "bench";

/// A server with a bucket, and a proxy in front of it, in a process of its own, that answers late.
#[derive(Debug)]
pub struct Remote {
    server: Running,
    proxy: Child,
    endpoint: String,
    /// The proxy lives as long as this is open.
    _stdin: Option<ChildStdin>,
}

impl Remote {
    /// Starts the server of this name, and this program once more as its proxy ([`relay`](crate::relay::relay)).
    ///
    /// # Errors
    ///
    /// When there is no such server, or it is not installed.
    pub fn start(name: &str, latency: Duration) -> Result<Self> {
        let server = S3Server::ALL.into_iter().find(|server| server.name().eq_ignore_ascii_case(name));
        let server = server.ok_or_else(|| format!("{name} is no server that is known"))?;
        let server = start(server).ok_or("the server is not installed: run scripts/servers.sh")?;
        // A bucket is a directory to both of them.
        std::fs::create_dir(server.dir().join("data").join(BUCKET))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--proxy", &server.address().to_string(), "--latency", &latency.as_millis().to_string()]);
        let mut proxy = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut endpoint = String::new();
        BufReader::new(proxy.stdout.take().ok_or("the proxy has no output")?).read_line(&mut endpoint)?;
        let stdin = proxy.stdin.take();
        Ok(Self { server, proxy, endpoint: endpoint.trim().to_owned(), _stdin: stdin })
    }

    /// The bucket through the proxy.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached.
    pub async fn bucket(&self) -> Result<S3Bucket> {
        self.open(&self.endpoint).await
    }

    /// Puts the files under numbers, past the proxy, so that they are listed in this order.
    ///
    /// # Errors
    ///
    /// When one of them cannot be put.
    pub async fn upload(&self, files: &[BenchFile]) -> Result<()> {
        let (bucket, options) = (self.open(&self.server.endpoint()).await?, PutOptions::default());
        let (bucket, options) = (&bucket, &options);
        let puts = files.iter().enumerate().map(|(number, file)| async move {
            let content = Content::from_bytes(file.bytes.to_vec());
            bucket.put(&format!("{number:05}/{}", file.name()), &content, options).await
        });
        let puts: Vec<_> = puts.collect();
        stream::iter(puts).buffer_unordered(8).try_for_each(|_| async { Ok(()) }).await?;
        Ok(())
    }

    /// Processor time that the server and the proxy have used so far.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn cpu(&self) -> Result<[Duration; 2]> {
        Ok([cpu_of(self.server.pid())?, cpu_of(self.proxy.id())?])
    }

    /// The processes of both.
    pub fn pids(&self) -> Vec<u32> {
        vec![self.server.pid(), self.proxy.id()]
    }

    async fn open(&self, endpoint: &str) -> Result<S3Bucket> {
        let builder = S3Bucket::builder(BUCKET).endpoint(endpoint).region(self.server.region()).keys(S3Keys::Paths);
        Ok(builder.credentials(self.server.access_key(), self.server.secret_key(), None).build().await?)
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

/// User and system time of another process, in the system's ticks.
///
/// # Errors
///
/// When the system does not say.
pub fn cpu_of(pid: u32) -> Result<Duration> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
    // Behind the name, which may hold spaces and brackets.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default().split_whitespace();
    let ticks = fields.skip(11).take(2).map(str::parse::<u64>).sum::<std::result::Result<u64, _>>()?;
    // SAFETY: the call only gives a number.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1);
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}
