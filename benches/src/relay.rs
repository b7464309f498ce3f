//! A server that is far away: everything that it says comes later.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::Result;

/// Bytes that are read at once.
const PART: usize = 64 << 10;
/// Parts of a connection that are on their way at once: 4 MB, which no answer waits for.
const PARTS: usize = 64;

/// Says where it answers, and passes connections on to `upstream` until its input ends. What the server sends takes
/// `latency` longer; connections stay open, as those to a server far away do.
///
/// # Errors
///
/// When there is no free port.
pub fn relay(upstream: SocketAddr, latency: Duration, mut say: impl Write) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    writeln!(say, "http://{}", listener.local_addr()?)?;
    say.flush()?;
    runtime.spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // A connection that breaks is the client's to notice.
            tokio::spawn(connection(client, upstream, latency));
        }
    });
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

async fn connection(client: TcpStream, upstream: SocketAddr, latency: Duration) -> io::Result<()> {
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((mut asks, answers), (says, mut asked)) = (client.into_split(), server.into_split());
    let (sender, receiver) = mpsc::channel(PARTS);
    let there = async {
        tokio::io::copy(&mut asks, &mut asked).await?;
        asked.shutdown().await
    };
    tokio::try_join!(there, take(says, latency, sender), give(receiver, answers)).map(drop)
}

async fn take(mut from: OwnedReadHalf, latency: Duration, parts: mpsc::Sender<(Instant, Bytes)>) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PART);
        if from.read_buf(&mut buffer).await? == 0
            || parts.send((Instant::now() + latency, buffer.split().freeze())).await.is_err()
        {
            return Ok(());
        }
    }
}

async fn give(mut parts: mpsc::Receiver<(Instant, Bytes)>, mut to: OwnedWriteHalf) -> io::Result<()> {
    while let Some((due, part)) = parts.recv().await {
        sleep_until(due).await;
        to.write_all(&part).await?;
    }
    to.shutdown().await
}
