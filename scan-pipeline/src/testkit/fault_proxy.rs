//! A proxy that does to requests what networks and servers do on their bad days.

use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

const LONGEST_HEAD: usize = 64 << 10;
/// What is read at once.
const PART: usize = 64 << 10;

/// A proxy on 127.0.0.1 in front of a plain HTTP server, with [`Fault`]s to be added at any time.
///
/// It passes on what it was sent, the `Host` header included, so that signatures stay good: a server that checks them
/// takes that header for the host, and not its own address. Every connection carries one request.
///
/// ```no_run
/// use scan_pipeline::testkit::{Fault, FaultProxy};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let proxy = FaultProxy::start("127.0.0.1:9000".parse().expect("an address")).await?;
/// proxy.add(Fault::answer(503).header("retry-after", "7").on("PUT", "tagging"));
/// println!("{}", proxy.endpoint());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    state: Arc<State>,
    task: AbortHandle,
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    faults: Vec<Fault>,
    seen: Vec<String>,
}

/// What happens to a request, and to which. By default to the first one that comes.
#[derive(Clone)]
pub struct Fault {
    act: Act,
    method: Option<String>,
    target: Option<String>,
    first: u32,
    times: u32,
    matched: u32,
}

type Callback = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

#[derive(Clone)]
enum Act {
    /// These do not keep the request from being passed on.
    Delay(Duration),
    Call(Callback),
    /// These end it.
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    CutRequest(usize),
    LoseAnswer,
    Truncate(usize),
    Stall(Option<usize>),
    Slow(usize, Duration),
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let act = match &self.act {
            Act::Delay(_) => "delay",
            Act::Call(_) => "call",
            Act::Answer(..) => "answer",
            Act::CutRequest(_) => "cut the request",
            Act::LoseAnswer => "lose the answer",
            Act::Truncate(_) => "truncate",
            Act::Stall(_) => "stall",
            Act::Slow(..) => "slow",
        };
        write!(f, "Fault({act} on {:?} {:?}, {} of {})", self.method, self.target, self.first, self.times)
    }
}

impl Fault {
    fn new(act: Act) -> Self {
        Self { act, method: None, target: None, first: 1, times: 1, matched: 0 }
    }

    /// The proxy answers, and the server never sees the request.
    pub fn answer(status: u16) -> Self {
        Self::new(Act::Answer(status, Vec::new(), Vec::new()))
    }

    /// The connection ends after so many bytes of the request's body came to the server.
    pub fn cut_request(after: usize) -> Self {
        Self::new(Act::CutRequest(after))
    }

    /// The server does what it was asked for, and nobody hears of it.
    pub fn lose_answer() -> Self {
        Self::new(Act::LoseAnswer)
    }

    /// The connection ends after so many bytes of the answer's body.
    pub fn truncate(after: usize) -> Self {
        Self::new(Act::Truncate(after))
    }

    /// The server does what it was asked for, and the answer never begins.
    pub fn stall() -> Self {
        Self::new(Act::Stall(None))
    }

    /// Nothing comes after so many bytes of the answer's body.
    pub fn stall_after(after: usize) -> Self {
        Self::new(Act::Stall(Some(after)))
    }

    /// The answer's body comes in pieces with pauses.
    pub fn slow(piece: usize, pause: Duration) -> Self {
        Self::new(Act::Slow(piece.max(1), pause))
    }

    /// Every request is late by this much, as from far away.
    pub fn latency(delay: Duration) -> Self {
        Self::new(Act::Delay(delay)).times(u32::MAX)
    }

    /// Something happens before the request is passed on, such as an overwrite.
    pub fn call<F>(callback: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::new(Act::Call(Arc::new(move || Box::pin(callback()))))
    }

    /// A header of an answer of the proxy's own.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Act::Answer(_, headers, _) = &mut self.act {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// The body of an answer of the proxy's own.
    #[must_use]
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        if let Act::Answer(_, _, body) = &mut self.act {
            *body = bytes.into();
        }
        self
    }

    /// Only requests with this method whose path and query, as they are on the wire, contain this text.
    #[must_use]
    pub fn on(mut self, method: &str, target: &str) -> Self {
        (self.method, self.target) = (Some(method.to_owned()), Some(target.to_owned()));
        self
    }

    /// Not the first request that matches, but the nth (1 is the first).
    #[must_use]
    pub fn nth(mut self, nth: u32) -> Self {
        self.first = nth.max(1);
        self
    }

    /// Not one request, but so many in a row.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Counts the request if it matches, and says whether it is one of those that are meant.
    fn hits(&mut self, method: &str, target: &str) -> bool {
        let same = self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.target.as_ref().is_none_or(|wanted| target.contains(wanted.as_str()));
        if same {
            self.matched = self.matched.saturating_add(1);
        }
        same && self.matched >= self.first && self.matched - self.first < self.times
    }
}

impl FaultProxy {
    /// Starts a proxy on a free port. It ends when it is dropped.
    ///
    /// # Errors
    ///
    /// There is no port.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { upstream, plan: Mutex::default() });
        let task = tokio::spawn(accept(listener, Arc::clone(&state))).abort_handle();
        Ok(Self { address, state, task })
    }

    /// Where it answers.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a fault. Of several that want to end a request, the one that was added first does.
    pub fn add(&self, fault: Fault) {
        self.state.plan().faults.push(fault);
    }

    /// Removes all faults, and forgets what was seen.
    pub fn clear(&self) {
        *self.state.plan() = Plan::default();
    }

    /// The requests that came, as `PUT /bucket/key?tagging`, each as it was on the wire.
    pub fn seen(&self) -> Vec<String> {
        self.state.plan().seen.clone()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acts(&self, method: &str, target: &str) -> Vec<Act> {
        let mut plan = self.plan();
        plan.seen.push(format!("{method} {target}"));
        plan.faults.iter_mut().filter_map(|fault| fault.hits(method, target).then(|| fault.act.clone())).collect()
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // With this task go its connections.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let state = Arc::clone(&state);
        // What goes wrong with a connection, its client sees.
        connections.spawn(async move { serve(client, &state).await });
    }
}

/// A request or an answer: the head's lines, and what came of the body with it.
struct Message {
    lines: Vec<String>,
    rest: Vec<u8>,
}

impl Message {
    /// `None` when the connection ends before one begins.
    async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut bytes = Vec::with_capacity(PART);
        loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = bytes.split_off(end + 4);
                let head = String::from_utf8_lossy(&bytes[..end]);
                return Ok(Some(Self { lines: head.split("\r\n").map(str::to_owned).collect(), rest }));
            }
            if bytes.len() > LONGEST_HEAD {
                return Err(ErrorKind::InvalidData.into());
            }
            if from.read_buf(&mut bytes).await? == 0 {
                return if bytes.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.lines.iter().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn length(&self) -> Option<usize> {
        self.header("content-length")?.parse().ok()
    }

    /// The head, with the connection's end announced: one request each.
    fn head(&self) -> Vec<u8> {
        let is_hop = |line: &&String| line.to_ascii_lowercase().starts_with("connection:");
        let lines: Vec<_> = self.lines.iter().filter(|line| !is_hop(line)).map(String::as_str).collect();
        format!("{}\r\nConnection: close\r\n\r\n", lines.join("\r\n")).into_bytes()
    }
}

async fn serve(mut client: TcpStream, state: &State) -> io::Result<()> {
    let Some(mut request) = Message::read(&mut client).await? else { return Ok(()) };
    let mut words = request.lines[0].split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut body = std::mem::take(&mut request.rest);
    let length = request.length().unwrap_or(0);
    if request.header("transfer-encoding").is_some() || request.header("expect").is_some() {
        return client.write_all(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n").await;
    }
    while body.len() < length {
        if client.read_buf(&mut body).await? == 0 {
            return Ok(());
        }
    }
    let mut end = None;
    for act in state.acts(&method, &target) {
        match act {
            Act::Delay(delay) => tokio::time::sleep(delay).await,
            Act::Call(callback) => callback().await,
            last => end = end.or(Some(last)),
        }
    }
    match end {
        Some(Act::Answer(status, headers, bytes)) => {
            let mut head =
                format!("HTTP/1.1 {status} Fault\r\nConnection: close\r\nContent-Length: {}\r\n", bytes.len());
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            client.write_all(head.as_bytes()).await?;
            client.write_all(b"\r\n").await?;
            if method != "HEAD" {
                client.write_all(&bytes).await?;
            }
            client.shutdown().await
        }
        Some(Act::CutRequest(after)) => {
            let mut upstream = TcpStream::connect(state.upstream).await?;
            upstream.write_all(&request.head()).await?;
            upstream.write_all(&body[..after.min(body.len())]).await
        }
        end => {
            let mut upstream = TcpStream::connect(state.upstream).await?;
            upstream.write_all(&request.head()).await?;
            upstream.write_all(&body).await?;
            pass_back(&mut upstream, &mut client, &method, end).await
        }
    }
}

async fn pass_back(upstream: &mut TcpStream, client: &mut TcpStream, method: &str, end: Option<Act>) -> io::Result<()> {
    let answer = Message::read(upstream).await?.ok_or(ErrorKind::UnexpectedEof)?;
    // Without a length the body goes on to the connection's end.
    let length = if method == "HEAD" { 0 } else { answer.length().unwrap_or(usize::MAX) };
    if let Some(Act::LoseAnswer | Act::Stall(None)) = end {
        drain(upstream, length.saturating_sub(answer.rest.len())).await?;
        if let Some(Act::Stall(_)) = end {
            wait_for_end(client).await;
        }
        return Ok(());
    }
    client.write_all(&answer.head()).await?;
    let (most, piece, pause) = match end {
        Some(Act::Truncate(after) | Act::Stall(Some(after))) => (after, usize::MAX, Duration::ZERO),
        Some(Act::Slow(piece, pause)) => (usize::MAX, piece, pause),
        _ => (usize::MAX, usize::MAX, Duration::ZERO),
    };
    let mut left = length.min(most);
    let mut part = answer.rest;
    while left > 0 {
        if part.is_empty() {
            // It would be filled no further than it happens to be large, which is a few bytes a piece.
            part.reserve(PART);
            if upstream.read_buf(&mut part).await? == 0 {
                break;
            }
        }
        let now = part.len().min(left).min(piece);
        client.write_all(&part[..now]).await?;
        part.drain(..now);
        left -= now;
        if !pause.is_zero() && left > 0 {
            tokio::time::sleep(pause).await;
        }
    }
    if let Some(Act::Stall(_)) = end {
        wait_for_end(client).await;
    }
    client.shutdown().await
}

async fn drain(from: &mut TcpStream, mut left: usize) -> io::Result<()> {
    let mut part = Vec::with_capacity(PART);
    while left > 0 && from.read_buf(&mut part).await? > 0 {
        left = left.saturating_sub(part.len());
        part.clear();
    }
    Ok(())
}

async fn wait_for_end(client: &mut TcpStream) {
    let mut nothing = [0; 64];
    while matches!(client.read(&mut nothing).await, Ok(read) if read > 0) {}
}
