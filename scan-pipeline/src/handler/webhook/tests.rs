use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::handler::HandlerErrorKind;
use crate::handler::fixture::certificates::CERTIFICATES;
use crate::handler::fixture::http::{Answer, Request, Server, answer};
use crate::handler::fixture::{infected, scanned, step};
use crate::objects::Buckets;

const SECRETS: [&str; 2] = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"];

/// A webhook to a server of ours, which is inside.
fn to(server: &Server) -> WebhookBuilder {
    notify(format!("https://localhost:{}/hooks/TOKEN?key=TOKEN", server.port))
        .root_certificate(CERTIFICATES.ca.clone())
        .allow_private_addresses()
}

async fn call(webhook: WebhookBuilder, attempt: u32) -> Result<StepOutput, HandlerError> {
    let scanned = scanned(infected());
    webhook.build().expect("a webhook").handle(&scanned, &step(&scanned, &Buckets::new(), attempt)).await
}

async fn fails(answer: Answer) -> HandlerError {
    let server = Server::start(true, answer).await;
    let error = call(to(&server).timeouts(Duration::from_secs(5), Duration::from_secs(5)), 1).await.expect_err("fails");
    assert_eq!(server.requests().len(), 1, "one call makes one request");
    assert!(!format!("{error} {error:?}").contains("TOKEN"), "{error:?}");
    error
}

fn signed(request: &Request) -> SignedHeaders<'_> {
    let header = |name| request.header(name).expect(name);
    SignedHeaders {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
    }
}

#[tokio::test]
async fn a_receiver_can_check_it_and_tell_a_repetition() {
    let server = Server::start(true, answer("204 No Content", "", "")).await;
    let webhook = to(&server).secret(SECRETS[0]).secret(SECRETS[1]).header("Authorization", "Bearer x");
    for attempt in [1, 2] {
        let output = call(webhook.clone(), attempt).await.expect("delivered");
        assert_eq!(output.value["status"], 204);
        assert!(!output.value.to_string().contains("TOKEN"), "{output:?}");
    }
    let requests = server.requests();
    for (request, secret) in requests.iter().zip(SECRETS) {
        let secret = [secret.parse().expect("a secret")];
        verify(signed(request), &request.body, &secret, Timestamp::now(), TOLERANCE).expect("genuine");
        assert_eq!(request.line(), "POST /hooks/TOKEN?key=TOKEN HTTP/1.1");
        assert_eq!(request.header("idempotency-key"), request.header("webhook-id"));
        assert_eq!(request.header("authorization"), Some("Bearer x"));
        assert_eq!(request.header("content-type"), Some("application/json"));
    }
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    let body: serde_json::Value = serde_json::from_slice(&requests[0].body).expect("JSON");
    assert_eq!(body["type"], "scan.completed");
    assert_eq!(body["data"]["status"], "infected");
    assert_eq!(body["data"]["object"]["key"], "dir/a.zip");
    assert_eq!(body["data"]["report"]["verdict"]["threats"][0]["signature"], "{HEX}Test");
    assert!(body["data"].get("outputs").is_none());
}

#[tokio::test]
async fn the_body_is_the_same_after_a_restart() {
    let webhook = notify("https://example.com").with_outputs().build().expect("a webhook");
    let mut before = scanned(infected());
    Arc::make_mut(&mut before.report).elapsed = Duration::from_nanos(1_234_567_891);
    let stored = serde_json::to_string(&*before.report).expect("JSON");
    let after = Scanned { report: Arc::new(serde_json::from_str(&stored).expect("a report")), ..before.clone() };
    let outputs = BTreeMap::from([(String::from("ticket"), StepOutput::new(json!({ "number": 7 })))]);
    let step = StepContext { outputs: Arc::new(outputs), ..step(&before, &Buckets::new(), 1) };
    let body = webhook.body(&before, &step).expect("a body");
    assert_eq!(body, webhook.body(&after, &StepContext { attempt: 2, ..step }).expect("a body"));
    assert!(String::from_utf8_lossy(&body).contains(r#""outputs":{"ticket":{"number":7}}"#));
}

#[tokio::test]
async fn findings_are_bounded_and_the_rest_is_counted() {
    use crate::model::Finding;
    let webhook = notify("https://example.com").build().expect("a webhook");
    for (count, listed, omitted) in [(0, 0, 2), (100, 100, 2), (5000, 100, 4902)] {
        let mut report = crate::handler::fixture::clean();
        report.findings = (0..count).map(|byte_offset| Finding { byte_offset, ..Finding::default() }).collect();
        report.findings_omitted = 2;
        let scanned = scanned(report);
        let body = webhook.body(&scanned, &step(&scanned, &Buckets::new(), 1)).expect("a body");
        assert!(body.len() < 100_000, "{}", body.len());
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let report = &body["data"]["report"];
        assert_eq!(report["findings"].as_array().map(Vec::len), Some(listed));
        assert_eq!(report["findings_omitted"], omitted);
    }
}

#[tokio::test]
async fn what_can_change_is_retryable_and_the_rest_is_fatal() {
    use HandlerErrorKind::{Fatal, Retryable};
    let none = Retryable { after: None };
    let wait = |seconds| Retryable { after: Some(Duration::from_secs(seconds)) };
    for (status, headers, kind) in [
        ("500 Internal Server Error", "", none),
        ("503 Service Unavailable", "Retry-After: 120\r\n", wait(120)),
        ("429 Too Many Requests", "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", wait(0)),
        ("408 Request Timeout", "", none),
        ("425 Too Early", "", none),
        ("400 Bad Request", "Retry-After: 1\r\n", Fatal),
        ("401 Unauthorized", "", Fatal),
        ("410 Gone", "", Fatal),
        ("501 Not Implemented", "", Fatal),
    ] {
        let error = fails(answer(status, headers, "because\nof this")).await;
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().ends_with(&format!("{status}: because of this")), "{error}");
    }
    let error = fails(Answer::Bytes(String::from("not HTTP\r\n\r\n"))).await;
    assert_eq!(error.kind(), none, "{error}");
    let error = fails(Answer::Bytes(String::new())).await;
    assert_eq!(error.kind(), none, "{error}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let inside = Server::start(false, answer("200 OK", "", "")).await;
    for target in
        [format!("http://127.0.0.1:{}/", inside.port), String::from("http://169.254.169.254/latest/meta-data")]
    {
        for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
            let error = fails(answer(status, &format!("Location: {target}\r\n"), "")).await;
            assert_eq!(error.kind(), HandlerErrorKind::Fatal);
            assert!(error.to_string().contains("redirect"), "{error}");
        }
    }
    assert!(inside.requests().is_empty());
}

#[tokio::test]
async fn a_receiver_that_hangs_is_given_up() {
    let server = Server::start(true, Answer::Hang).await;
    let webhook = to(&server).timeouts(Duration::from_secs(5), Duration::from_millis(300));
    let error = call(webhook, 1).await.expect_err("fails");
    assert_eq!(error.kind(), HandlerErrorKind::Retryable { after: None });
    assert!(error.to_string().contains("did not answer in time"), "{error}");
}

#[tokio::test]
async fn an_answer_without_an_end_is_read_so_far_and_no_further() {
    let endless = |status: &str| Answer::Endless(format!("HTTP/1.1 {status}\r\nContent-Length: 99999999999\r\n\r\n"));
    let server = Server::start(true, endless("200 OK")).await;
    assert_eq!(call(to(&server), 1).await.expect("delivered").value["status"], 200);
    let error = fails(endless("500 Internal Server Error")).await;
    assert!(error.to_string().len() < 400, "{error}");
}

#[tokio::test]
async fn certificates_are_checked() {
    let server = Server::start(true, answer("200 OK", "", "")).await;
    let stranger = notify(format!("https://localhost:{}", server.port)).allow_private_addresses();
    let other_name = notify(format!("https://127.0.0.1:{}", server.port))
        .root_certificate(CERTIFICATES.ca.clone())
        .allow_private_addresses();
    for webhook in [stranger, other_name] {
        let error = call(webhook, 1).await.expect_err("refused");
        assert_eq!(error.kind(), HandlerErrorKind::Retryable { after: None });
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    assert!(server.requests().is_empty());
    // Nobody listens any more.
    let closed = to(&server);
    drop(server);
    let error = call(closed, 1).await.expect_err("fails");
    assert_eq!(error.kind(), HandlerErrorKind::Retryable { after: None });
}

#[tokio::test]
async fn names_that_lead_inside_are_not_connected_to() {
    let server = Server::start(false, answer("200 OK", "", "")).await;
    let inside = || notify(format!("http://localhost:{}", server.port)).allow_http();
    let error = call(inside(), 1).await.expect_err("refused");
    assert_eq!(error.kind(), HandlerErrorKind::Fatal);
    assert!(error.to_string().contains("private"), "{error}");
    assert!(server.requests().is_empty());
    call(inside().allow_private_addresses(), 1).await.expect("the same is delivered where it is allowed");
}

#[test]
fn addresses_are_checked() {
    for (url, why) in [
        ("", "no URL"),
        ("example.com", "no URL"),
        ("http://example.com", "https"),
        ("ftp://example.com", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("https://me:PASSWORD@example.com", "password"),
        ("https://PASSWORD@example.com", "password"),
        ("https://127.0.0.1", "private"),
        ("https://0x7f.1", "private"),
        ("https://0177.0.0.1", "private"),
        ("https://2130706433", "private"),
        ("https://127.1", "private"),
        ("https://0", "private"),
        ("https://１２７.0.0.1", "private"),
        ("https://%31%32%37.0.0.1", "private"),
        ("https://169.254.169.254", "private"),
        ("https://[::1]", "private"),
        ("https://[::ffff:127.0.0.1]", "private"),
        ("https://[64:ff9b::a00:1]", "private"),
        ("https://[fd00:ec2::254]", "private"),
    ] {
        let error = notify(url).build().expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Config, "{url}: {error}");
        assert!(error.to_string().contains(why), "{url}: {error}");
        assert!(!error.to_string().contains("PASSWORD"), "{error}");
    }
    for url in ["https://example.com/a?b", "https://8.8.8.8", "https://[2606:4700::1111]:8443"] {
        assert!(notify(url).build().is_ok(), "{url}");
    }
}

#[test]
fn settings_are_checked_and_nothing_secret_is_shown() {
    let base = || notify("https://example.com/TOKEN").secret(SECRETS[0]).header("Authorization", "TOKEN");
    assert!(base().secret("whsec_short").build().is_err());
    assert!(base().header("a b", "c").build().is_err());
    assert!(base().header("a", "b\r\nc: d").build().is_err());
    assert!(base().root_certificate("no PEM").build().is_err());
    let shown = format!("{:?} {:?}", base(), base().build().expect("a webhook"));
    assert!(!shown.contains("TOKEN") && !shown.contains("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "{shown}");
}
