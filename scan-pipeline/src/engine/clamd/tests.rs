//! Against a server that says what the test wants, for the faults that a real one cannot be made to show. The real one
//! is in `engine/tests.rs`.

use std::io;

use futures_util::future::BoxFuture;
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::content::{Spool, SpoolOptions};

/// A server whose connections are served by `serve`, which is told their numbers. It ends with the value.
struct Fake {
    address: String,
    _tasks: JoinSet<()>,
}

type Serve = dyn Fn(usize, TcpStream) -> BoxFuture<'static, io::Result<()>> + Send + Sync;

impl Fake {
    async fn new<F>(serve: impl Fn(usize, TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let serve: Arc<Serve> = Arc::new(move |number, stream| Box::pin(serve(number, stream)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut served = JoinSet::new();
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let serving = serve(number, stream);
                served.spawn(async move { serving.await.unwrap_or_default() });
            }
        });
        Self { address, _tasks: tasks }
    }

    /// Says its version when asked, takes every content whole and then says these words, in so many writes.
    async fn saying(words: &'static [&'static [u8]]) -> Self {
        Self::new(move |_, mut stream| async move {
            if !versioned(&mut stream).await? {
                read_content(&mut stream).await?;
                for part in words {
                    stream.write_all(part).await?;
                    stream.flush().await?;
                }
            }
            Ok(())
        })
        .await
    }

    fn builder(&self) -> ClamdBuilder {
        Clamd::tcp(&self.address)
    }
}

const VERSION: &[u8] = b"ClamAV 1.4.6/27500/Sat Jan 10 09:30:00 2026\0";

/// Reads the command and answers it if it asks for the version; `false` for `INSTREAM`.
async fn versioned(stream: &mut TcpStream) -> io::Result<bool> {
    let mut command = Vec::new();
    while command.last() != Some(&0) {
        command.push(stream.read_u8().await?);
    }
    if command == b"zVERSION\0" {
        stream.write_all(VERSION).await?;
        return Ok(true);
    }
    assert_eq!(command, b"zINSTREAM\0");
    Ok(false)
}

async fn read_content(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let length = stream.read_u32().await?;
        if length == 0 {
            return Ok(content);
        }
        let start = content.len();
        content.resize(start + length as usize, 0);
        stream.read_exact(&mut content[start..]).await?;
    }
}

async fn scan(builder: ClamdBuilder, content: &Content) -> Result<Report> {
    builder.build().expect("an engine").scan(content, &ScanContext::named("a.txt")).await
}

fn reason_of(report: &Report) -> ReasonKind {
    match &report.verdict {
        Verdict::Unscannable { reasons } if reasons.len() == 1 => reasons[0].kind,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn whole_answers_become_reports() {
    let content = Content::from_bytes("text");
    let fake = Fake::saying(&[b"stream: O", b"K\0"]).await;
    let report = scan(fake.builder(), &content).await.expect("a report");
    assert_eq!(reason_of(&report), ReasonKind::Unproven);
    assert!(!report.coverage.proven && !report.is_complete());
    assert_eq!((report.sha256, report.size), (Some(content.sha256()), Some(4)));
    let fake = Fake::saying(&[b"stream: A: b FOUND\0"]).await;
    let report = scan(fake.builder(), &content).await.expect("a report");
    let threat = Threat { signature: String::from("A: b"), layer_path: String::from("a.txt") };
    assert_eq!(report.verdict, Verdict::Infected { threats: vec![threat] });
    assert!(!report.is_complete(), "what else there is, it does not say");
    assert_eq!(report.engine.generation, "27500/Sat Jan 10 09:30:00 2026");
}

#[tokio::test]
async fn anything_but_a_whole_answer_is_an_error() {
    let content = Content::from_bytes("text");
    const LONG: &[u8] = &[b'a'; 8 << 10];
    const ANSWERS: &[&[&[u8]]] = &[
        &[],
        &[b"\0"],
        &[b"stream: OK"],
        &[b"stream: OK\n"],
        &[b"stream: O\0"],
        &[b"stream: OK\0", b"stream: A FOUND\0"],
        &[b"stream: OK\0\0"],
        &[b"stream: A FOUND"],
        &[b"stream: \xff\xfe FOUND\0"],
        &[b"stream: Can't allocate memory ERROR\0"],
        &[b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        &[LONG],
        &[b"stream: ", LONG, b" FOUND\0"],
    ];
    for words in ANSWERS {
        let fake = Fake::saying(words).await;
        let error = scan(fake.builder(), &content).await.expect_err("no verdict");
        assert!(matches!(error.kind(), ErrorKind::Engine | ErrorKind::Unavailable), "{error}");
        assert!(error.is_retryable(), "{error}");
        assert_eq!(error.context(), Some("a.txt"));
    }
}

#[tokio::test]
async fn a_server_that_says_no_more_is_left() {
    let content = Content::from_bytes("text");
    // It answers and does not close, answers half, or not at all.
    for words in [&b"stream: OK\0"[..], b"stream: O", b""] {
        let fake = Fake::new(move |_, mut stream| async move {
            if !versioned(&mut stream).await? {
                read_content(&mut stream).await?;
                stream.write_all(words).await?;
                std::future::pending::<()>().await;
            }
            Ok(())
        })
        .await;
        let error = scan(fake.builder().scan_timeout(Duration::from_millis(50)), &content).await.expect_err("late");
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        let engine = fake.builder().build().expect("an engine");
        engine.refresh().await.expect("a version");
        let deadline = Some(Instant::now() + Duration::from_millis(50));
        let context = ScanContext { deadline, ..ScanContext::named("a") };
        assert_eq!(engine.scan(&content, &context).await.expect_err("late").kind(), ErrorKind::Timeout);
    }
    // It accepts and says nothing, not even its version.
    let fake = Fake::new(|_, stream| async move {
        let _open = stream;
        std::future::pending().await
    })
    .await;
    let error = scan(fake.builder().io_timeout(Duration::from_millis(50)), &content).await.expect_err("late");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

/// More than all buffers between the two hold.
fn large() -> Content {
    Content::from_bytes(vec![b'a'; 32 << 20])
}

#[tokio::test]
async fn a_server_that_takes_no_more_is_left() {
    let fake = Fake::new(|_, mut stream| async move {
        if !versioned(&mut stream).await? {
            std::future::pending::<()>().await;
        }
        Ok(())
    })
    .await;
    let error = scan(fake.builder().io_timeout(Duration::from_millis(200)), &large()).await.expect_err("late");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn what_is_said_before_the_end_is_no_verdict() {
    // Words, and whether the connection stays open after them: closed with bytes unread, it is reset.
    for (words, stays) in [
        (&b"INSTREAM size limit exceeded. ERROR\0"[..], false),
        (b"INSTREAM size limit exceeded. ERROR\0", true),
        (b"stream: OK\0", false),
        (b"stream: A FOUND\0", false),
        (b"INSTREAM size lim", false),
        (b"", false),
    ] {
        let fake = Fake::new(move |_, mut stream| async move {
            if !versioned(&mut stream).await? {
                stream.read_u32().await?;
                stream.write_all(words).await?;
                if stays {
                    // The client has to read before it has written.
                    stream.shutdown().await?;
                    std::future::pending::<()>().await;
                }
            }
            Ok(())
        })
        .await;
        let content = large();
        match scan(fake.builder(), &content).await {
            // A reset can take the words with it. Then nothing is known, which is an error.
            Err(error) => assert!(!stays && error.is_retryable(), "{words:?}: {error}"),
            Ok(report) => {
                assert!(words.starts_with(b"INSTREAM size limit exceeded."), "{report:?}");
                assert_eq!((reason_of(&report), report.sha256), (ReasonKind::TooLarge, None));
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let dir = tempfile::tempdir().expect("a directory");
    for builder in [Clamd::tcp(address), Clamd::unix(dir.path().join("none"))] {
        let error = scan(builder, &Content::from_bytes("text")).await.expect_err("nobody is there");
        assert!(error.kind() == ErrorKind::Unavailable && error.is_retryable(), "{error}");
    }
}

#[tokio::test]
async fn every_byte_is_sent_from_memory_and_from_disk() {
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    let fake = Fake::new(move |_, mut stream| {
        let sender = sender.clone();
        async move {
            if !versioned(&mut stream).await? {
                let content = read_content(&mut stream).await?;
                let _ = sender.send(content);
                stream.write_all(b"stream: OK\0").await?;
            }
            Ok(())
        }
    })
    .await;
    let engine = fake.builder().build().expect("an engine");
    let on_disk = Spool::new(SpoolOptions { memory_threshold: 0, ..SpoolOptions::default() }, Default::default());
    for length in [0, 1, 255, 256 << 10, (256 << 10) + 1, 3_000_000] {
        let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let parts = stream::iter([Ok::<_, io::Error>(bytes::Bytes::from(bytes.clone()))]);
        let spooled = Content::from_stream(parts, &on_disk).await.expect("spooled");
        for content in [Content::from_bytes(bytes.clone()), spooled] {
            engine.scan(&content, &ScanContext::named("a")).await.expect("a report");
            assert!(received.recv().await.expect("the content") == bytes, "{content:?}");
        }
    }
}

#[tokio::test]
async fn what_is_too_large_is_not_sent() {
    let fake = Fake::new(|_, mut stream| async move {
        assert!(versioned(&mut stream).await?, "nothing but the version was to be asked for");
        Ok(())
    })
    .await;
    let report = scan(fake.builder().max_size(3), &Content::from_bytes("text")).await.expect("a report");
    assert_eq!((reason_of(&report), report.sha256), (ReasonKind::TooLarge, None));
}

#[tokio::test]
async fn connections_are_bounded() {
    let open = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let most = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = (Arc::clone(&open), Arc::clone(&most));
    let fake = Fake::new(move |_, mut stream| {
        use std::sync::atomic::Ordering::SeqCst;
        let (open, most) = counted.clone();
        most.fetch_max(open.fetch_add(1, SeqCst) + 1, SeqCst);
        async move {
            let answered = async {
                if !versioned(&mut stream).await? {
                    read_content(&mut stream).await?;
                    // Others get the chance to come meanwhile.
                    for _ in 0..100 {
                        tokio::task::yield_now().await;
                    }
                    open.fetch_sub(1, SeqCst);
                    stream.write_all(b"stream: OK\0").await?;
                } else {
                    open.fetch_sub(1, SeqCst);
                }
                Ok(())
            };
            answered.await
        }
    })
    .await;
    let engine = fake.builder().connections(3).build().expect("an engine");
    engine.refresh().await.expect("a version");
    let (content, context) = (Content::from_bytes("text"), ScanContext::named("a"));
    let scans = (0..40).map(|_| engine.scan(&content, &context));
    futures_util::future::try_join_all(scans).await.expect("reports");
    let most = most.load(std::sync::atomic::Ordering::SeqCst);
    assert!((2..=3).contains(&most), "{most} at once");
}

#[tokio::test]
async fn the_version_is_asked_for_again() {
    let fake = Fake::new(|number, mut stream| async move {
        let mut command = [0; 9];
        stream.read_exact(&mut command).await?;
        stream.write_all(format!("ClamAV 1.4.6/{}/a day\0", number + 1).as_bytes()).await
    })
    .await;
    let engine = fake.builder().refresh(Duration::from_secs(3600)).build().expect("an engine");
    assert_eq!(engine.info().generation, "", "nobody was asked yet");
    assert_eq!(engine.refresh().await.expect("a version").generation, "1/a day");
    assert_eq!(engine.info().generation, "1/a day");
    assert_eq!(engine.refresh().await.expect("a version").generation, "2/a day");
    let stale = fake.builder().refresh(Duration::ZERO).build().expect("an engine");
    stale.refresh().await.expect("a version");
    let info = stale.info();
    assert_eq!((&*info.generation, &*info.library), ("", "1.4.6"), "what it was is not what it is");
}

#[test]
fn addresses_and_settings() {
    for (text, shown) in [
        ("unix:/run/clamav/clamd.ctl", "unix:/run/clamav/clamd.ctl"),
        ("unix:///run/clamd", "unix:/run/clamd"),
        ("/run/clamd", "unix:/run/clamd"),
        ("tcp://scanner:3310", "tcp://scanner:3310"),
        ("[::1]:3310", "tcp://[::1]:3310"),
    ] {
        assert_eq!(Clamd::at(text).expect(text).address.to_string(), shown);
    }
    for text in ["", "scanner", "tcp://scanner", "tcp://:3310", "scanner:0", "unix:run", "http://scanner:3310/", "a:b"]
    {
        assert_eq!(Clamd::at(text).expect_err(text).kind(), ErrorKind::Config, "{text}");
    }
    for wrong in [
        Clamd::tcp("a:1").pass_descriptors(true),
        Clamd::tcp("a:1").connections(0),
        Clamd::tcp("a:1").scan_timeout(Duration::ZERO),
    ] {
        assert_eq!(wrong.build().expect_err("refused").kind(), ErrorKind::Config);
    }
    let settings = |builder: ClamdBuilder| builder.build().expect("an engine").info().settings;
    let base = settings(Clamd::unix("/a"));
    assert_eq!(settings(Clamd::unix("/a").connections(1)), base);
    for other in [
        Clamd::unix("/b"),
        Clamd::unix("/a").max_size(1),
        Clamd::unix("/a").pass_descriptors(true),
        Clamd::unix("/a").configuration("of Monday"),
    ] {
        assert_ne!(settings(other), base);
    }
}
