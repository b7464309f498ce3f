//! Real brokers and tables for tests, each started for the test that asks, on 127.0.0.1, and gone with it, in the
//! manner of [`servers`](crate::servers).
//!
//! ```
//! use scan_pipeline_tests::brokers::{Broker, start};
//!
//! let Some(server) = start(Broker::Nats) else { return };
//! assert!(server.url().starts_with("nats://127.0.0.1:"));
//! ```
//!
//! No emulator is the real thing. What each of them gets wrong of SQS, so that what matters is asserted on two:
//!
//! | | moto | ElasticMQ | Amazon, by its documentation |
//! |---|---|---|---|
//! | The handle of an earlier receive, for a delete | **deletes** | refused | done, and may not delete |
//! | The same, to change the visibility | **changes it** | refused | (not said) |
//! | A handle whose time is over, nobody received it since | **good** | **good** | refused |
//! | A handle of a FIFO queue whose time is over, for a delete | **good** | **good** | refused |
//! | Deleted already, and deleted again | done | **refused** | done |
//! | U+0001 in a body, or an empty body | **taken** | refused | refused |
//! | An empty attribute | **taken** | refused | refused |
//! | What a failed request names | the error of the query protocol | **the shape, of no query protocol** | both |
//! | `MaximumMessageSize` | 1 MiB | **not told** | 1 MiB since August 2025 |
//! | The same deduplication id again | **another message id** | the first one's | the first one's |
//! | Why a message is in the dead letters | **not told** | `DeadLetterQueueSourceArn` | the same |
//! | Signatures | **any is accepted** | **any is accepted** | checked |
//!
//! DynamoDB: DynamoDB Local is Amazon's own; moto is another implementation. Conditions, sizes and errors agree where the
//! tests look. moto takes a table name of one letter and checks no signature; neither lets items expire in time.
//!
//! nats-server is the product itself. What is surprising about it is in the documentation of the queue.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use crate::servers::{Keeper, dying_with_us, free_port, is_up, keep_for_process, of_ports, runs, skips, target_dir};

/// What starts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broker {
    /// SQS, DynamoDB and more, in memory.
    Moto,
    /// SQS, in memory.
    ElasticMq,
    /// NATS with JetStream, on disk.
    Nats,
    /// DynamoDB by Amazon, in memory.
    DynamoDbLocal,
}

impl Broker {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Moto, Self::ElasticMq, Self::Nats, Self::DynamoDbLocal];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Moto => "moto",
            Self::ElasticMq => "ElasticMQ",
            Self::Nats => "nats-server",
            Self::DynamoDbLocal => "DynamoDB Local",
        }
    }

    /// What `scripts/servers.sh` has put there.
    fn installed(self) -> PathBuf {
        target_dir().join("servers").join(match self {
            Self::Moto => "moto/bin/python",
            Self::ElasticMq => "elasticmq/lib",
            Self::Nats => "bin/nats-server",
            Self::DynamoDbLocal => "dynamodb/lib",
        })
    }

    fn is_up(self, port: u16) -> bool {
        match self {
            Self::Moto => is_up(port, "/moto-api/").unwrap_or(false),
            Self::ElasticMq => is_up(port, "/health").unwrap_or(false),
            // It speaks first.
            Self::Nats => speaks(port, b"INFO {").unwrap_or(false),
            // It answers, if only that it does not understand.
            Self::DynamoDbLocal => asked(port, b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.1 4").unwrap_or(false),
        }
    }

    fn command(self, dir: &Path, port: u16) -> std::io::Result<Command> {
        let mut command = match self {
            Self::Moto | Self::Nats => dying_with_us(&self.installed()),
            Self::ElasticMq | Self::DynamoDbLocal => dying_with_us(Path::new("java")),
        };
        command.env_clear().env("HOME", dir).env("LC_ALL", "C.UTF-8");
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        let lib = self.installed();
        let classes = format!("{}/*", lib.display());
        // It starts faster, and has little to do.
        let java = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];
        match self {
            Self::Moto => {
                command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
            }
            Self::ElasticMq => {
                let configured = dir.join("elasticmq.conf");
                let text = format!(
                    "include classpath(\"application.conf\")\n\
                     node-address {{ protocol = http, host = \"127.0.0.1\", port = {port}, context-path = \"\" }}\n\
                     rest-sqs {{ enabled = true, bind-port = {port}, bind-hostname = \"127.0.0.1\", sqs-limits = strict }}\n\
                     rest-stats {{ enabled = false }}\n"
                );
                std::fs::write(&configured, text)?;
                command.args(java).arg(format!("-Dconfig.file={}", configured.display())).args(["-cp", &classes]);
                command.arg("org.elasticmq.server.Main");
            }
            Self::Nats => {
                command.args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"]).arg(dir.join("data"));
            }
            Self::DynamoDbLocal => {
                command.args(java).arg(format!("-Djava.library.path={}", lib.display())).args(["-cp", &classes]);
                command.arg("com.amazonaws.services.dynamodbv2.local.main.ServerRunner");
                command.args(["-inMemory", "-disableTelemetry", "-port", &port.to_string()]);
            }
        }
        command.current_dir(dir);
        Ok(command)
    }
}

/// A broker that answers. Dropping it kills it and removes its data; so does the end of our process, but for the data.
#[derive(Debug)]
pub struct RunningBroker {
    broker: Broker,
    port: u16,
    // In this order: the data goes when nobody writes to it any longer.
    keeper: Option<Keeper>,
    dir: TempDir,
}

impl RunningBroker {
    /// Which one it is.
    pub fn broker(&self) -> Broker {
        self.broker
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The same with the scheme of its protocol, without a slash at the end.
    pub fn url(&self) -> String {
        let scheme = if self.broker == Broker::Nats { "nats" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// Its data and its `log`, in a directory that lives as long as we do.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Kills it in the middle of whatever it does, and starts it again on the same port with what is on disk.
    ///
    /// # Panics
    ///
    /// Where it does not start again.
    pub fn restart(&mut self) {
        drop(self.keeper.take());
        let keeper = launch(self.broker, self.dir.path(), self.port).expect("it starts again");
        self.keeper = Some(keeper);
    }
}

/// Starts one of its own for the caller, with nothing in it, and waits until it answers, for up to some seconds. `None`
/// where it is not installed, after saying how to install it.
///
/// # Panics
///
/// Where it is not installed and `REQUIRE_SERVICES` is `1`, and where it is, but does not start.
pub fn start(broker: Broker) -> Option<RunningBroker> {
    if skips(broker.name(), broker.installed().exists()) {
        return None;
    }
    Some(of_ports(broker.name(), || {
        let runs = runs().map_err(|error| error.to_string())?;
        let dir = tempfile::Builder::new().prefix("broker-").tempdir_in(runs).map_err(|error| error.to_string())?;
        let port = free_port().map_err(|error| error.to_string())?;
        let keeper = launch(broker, dir.path(), port)?;
        Ok(RunningBroker { broker, port, keeper: Some(keeper), dir })
    }))
}

/// One for all tests of this program, started for the first that asks; otherwise like [`start`].
///
/// # Panics
///
/// Like [`start`].
pub fn shared(broker: Broker) -> Option<&'static RunningBroker> {
    static BROKERS: [OnceLock<Option<RunningBroker>>; Broker::ALL.len()] =
        [const { OnceLock::new() }; Broker::ALL.len()];
    let place = Broker::ALL.iter().position(|other| *other == broker)?;
    let running = BROKERS[place].get_or_init(|| start(broker).inspect(|running| keep_for_process(running.dir())));
    running.as_ref()
}

fn launch(broker: Broker, dir: &Path, port: u16) -> Result<Keeper, String> {
    let log = dir.join("log");
    let output = std::fs::File::create(&log).map_err(|error| error.to_string())?;
    let errors = output.try_clone().map_err(|error| error.to_string())?;
    let mut command = broker.command(dir, port).map_err(|error| error.to_string())?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let (keeper, _) = Keeper::spawn(command, move || broker.is_up(port))
        .map_err(|reason| format!("{reason}; its output: {}", std::fs::read_to_string(&log).unwrap_or_default()))?;
    Ok(keeper)
}

fn speaks(port: u16, first: &[u8]) -> std::io::Result<bool> {
    asked(port, b"", first)
}

/// Whether the answer begins like this.
fn asked(port: u16, question: &[u8], first: &[u8]) -> std::io::Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    std::io::Write::write_all(&mut stream, question)?;
    let mut answer = vec![0; first.len()];
    stream.read_exact(&mut answer)?;
    Ok(answer == first)
}
