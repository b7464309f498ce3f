use super::*;
use crate::handler::HandlerErrorKind;
use crate::handler::fixture::certificates::CERTIFICATES;
use crate::handler::fixture::smtp::{Replies, Server, Tls};
use crate::handler::fixture::{infected, scan_of, scanned, step};
use crate::model::ObjectRef;
use crate::objects::Buckets;

fn to(server: &Server) -> EmailBuilder {
    email("localhost")
        .port(server.port)
        .root_certificate(CERTIFICATES.ca.clone())
        .from("Scanner <scanner@example.com>")
        .to("security@example.com")
        .timeout(Duration::from_secs(5))
}

async fn send(mail: EmailBuilder, scanned: &Scanned, attempt: u32) -> Result<StepOutput, HandlerError> {
    mail.build().expect("a handler").handle(scanned, &step(scanned, &Buckets::new(), attempt)).await
}

#[tokio::test]
async fn a_repeated_mail_has_the_same_id() {
    let server = Server::start(Tls::FromTheStart, Replies::new()).await;
    let scanned = scanned(infected());
    let mail = to(&server).to("Other <other@example.com>").credentials("me", "secret");
    let first = send(mail.clone(), &scanned, 1).await.expect("sent");
    assert_eq!(first, send(mail, &scanned, 2).await.expect("sent again"));
    let seen = server.seen();
    let id = format!("Message-ID: {}\r\n", first.value["message_id"].as_str().expect("an id"));
    assert!(id.ends_with("@example.com>\r\n") && seen.mails.len() == 2);
    for mail in &seen.mails {
        assert!(mail.contains(&id), "{mail}");
        assert!(mail.contains("Subject: infected: a.zip\r\n"), "{mail}");
        assert!(mail.contains("Auto-Submitted: auto-generated\r\n"), "{mail}");
        assert!(mail.contains("Threats: {HEX}Test") && mail.contains("dir/a.zip"), "{mail}");
    }
    assert!(seen.commands.iter().any(|command| command.starts_with("AUTH PLAIN")));
    assert_eq!(seen.commands.iter().filter(|command| command.starts_with("RCPT")).count(), 4);
}

#[tokio::test]
async fn no_key_becomes_a_header_or_a_reply_or_a_line_of_its_own() {
    let server = Server::start(Tls::FromTheStart, Replies::new()).await;
    for key in [
        "a\r\nBcc: victim@example.com\r\n\r\nHello",
        "a\nBcc: victim@example.com",
        "\r\n.\r\nMAIL FROM:<x@example.com>\r\n",
        "fdp.\u{202e}exe",
        &"ü\r\nBcc: v@example.com".repeat(400),
        "=?utf-8?Q?=0D=0ABcc:_victim=40example.com?=",
    ] {
        let object = ObjectRef::new("memory://b".parse().expect("an address"), key).with_etag("1");
        let mail = to(&server).subject("{key}").body("{key}\n\n{name}\n");
        send(mail, &scan_of(object, infected()), 1).await.expect("sent");
        let seen = server.seen();
        let mail = seen.mails.last().expect("a mail");
        let (head, body) = mail.split_once("\r\n\r\n").expect("a head");
        let names: Vec<_> = head.lines().filter(|line| !line.starts_with([' ', '\t'])).collect();
        assert_eq!(names.len(), 8, "{head}");
        assert!(names.iter().all(|line| line.contains(": ") && !line.starts_with("Bcc")), "{head}");
        assert!(mail.is_ascii() && mail.lines().all(|line| line.len() < 999), "{mail}");
        assert!(!body.lines().any(|line| line.starts_with("Bcc") || line.starts_with("MAIL")), "{body}");
    }
    let seen = server.seen();
    assert_eq!(seen.mails.len(), 6);
    assert!(seen.mails[5].contains("Subject: = ?utf-8?Q?=0D=0ABcc"), "{}", seen.mails[5]);
    assert_eq!(seen.commands.iter().filter(|command| command.starts_with("RCPT")).count(), 6);
}

#[tokio::test]
async fn the_body_of_a_function_has_lines_and_nothing_hidden() {
    let server = Server::start(Tls::FromTheStart, Replies::new()).await;
    let scanned = scanned(infected());
    let mail =
        to(&server).body_with(|scanned, step| format!("{}\nstep {}\u{202e}\n.\n", scanned.object.key, step.step));
    send(mail, &scanned, 1).await.expect("sent");
    let mail = &server.seen().mails[0];
    assert!(mail.contains("dir/a.zip\r\nstep step\\u{202e}\r\n..\r\n"), "{mail}");
}

#[tokio::test]
async fn replies_decide() {
    use HandlerErrorKind::{Fatal, Retryable};
    let retryable = Retryable { after: None };
    for (word, reply, kind) in [
        ("RCPT", "450 mailbox busy", retryable),
        ("RCPT", "550 no such user", Fatal),
        ("MAIL", "421 shutting down", retryable),
        ("DATA", "554 no", Fatal),
        (".", "451 try again", retryable),
        (".", "552 too large", Fatal),
        ("AUTH", "535 wrong password", Fatal),
        ("AUTH", "454 not now", retryable),
    ] {
        let server = Server::start(Tls::FromTheStart, Replies::from([(word, reply)])).await;
        let mail = to(&server).credentials("me", "PASSWORD");
        let error = send(mail, &scanned(infected()), 1).await.expect_err(reply);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&reply[4..]), "{error}");
        assert!(!format!("{error:?}").contains("PASSWORD"), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_but_not_when_it_has_the_mail() {
    let quick = Duration::from_millis(300);
    for word in ["MAIL", "."] {
        let server = Server::start(Tls::FromTheStart, Replies::from([(word, "")])).await;
        let error = send(to(&server).timeout(quick), &scanned(infected()), 1).await.expect_err("fails");
        assert_eq!(error.kind(), HandlerErrorKind::Retryable { after: None }, "{error}");
    }
    let server = Server::start(Tls::FromTheStart, Replies::from([("QUIT", "")])).await;
    send(to(&server), &scanned(infected()), 1).await.expect("sent");
    assert_eq!(server.seen().mails.len(), 1);
}

#[tokio::test]
async fn nothing_is_sent_without_tls_unless_that_is_asked_for() {
    let scanned = scanned(infected());
    let server = Server::start(Tls::WhenAsked, Replies::new()).await;
    send(to(&server).starttls().credentials("me", "secret"), &scanned, 1).await.expect("sent");
    let commands = server.seen().commands;
    let at = |word: &str| commands.iter().position(|command| command.starts_with(word)).expect(word);
    assert!(at("STARTTLS") < at("AUTH") && at("STARTTLS") < at("MAIL"), "{commands:?}");

    let bare = Server::start(Tls::Never, Replies::new()).await;
    let error = send(to(&bare).starttls(), &scanned, 1).await.expect_err("refused");
    assert_eq!(error.kind(), HandlerErrorKind::Fatal);
    send(to(&bare), &scanned, 1).await.expect_err("no TLS");
    let commands = bare.seen().commands;
    assert!(!commands.iter().any(|command| command.starts_with("MAIL")), "{commands:?}");
    send(to(&bare).plaintext(), &scanned, 1).await.expect("sent");
    assert_eq!(bare.seen().mails.len(), 1);
}

#[tokio::test]
async fn certificates_are_checked() {
    let server = Server::start(Tls::FromTheStart, Replies::new()).await;
    let stranger = email("localhost").port(server.port).from("a@example.com").to("b@example.com");
    let other_name = EmailBuilder { server: String::from("127.0.0.1"), ..to(&server) };
    for mail in [stranger, other_name] {
        let error = send(mail, &scanned(infected()), 1).await.expect_err("refused");
        assert_eq!(error.kind(), HandlerErrorKind::Retryable { after: None });
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    assert!(server.seen().commands.is_empty());
}

#[test]
fn settings_are_checked_and_nothing_secret_is_shown() {
    let base = || email("smtp.example.com").credentials("me", "PASSWORD").from("a@example.com").to("b@example.com");
    for (mail, why) in [
        (base().plaintext(), "TLS"),
        (base().to("nobody"), "nobody"),
        (base().from("a@example.com\r\nBcc: c@example.com"), "address"),
        (base().subject("{nmae}"), "nmae"),
        (base().body("{"), "brace"),
        (base().root_certificate("no PEM"), "certificate"),
        (email("smtp.example.com").from("a@example.com"), "to("),
        (email("smtp.example.com").to("a@example.com"), "from("),
    ] {
        let error = mail.build().expect_err(why);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
    let shown = format!("{:?} {:?}", base(), base().build().expect("a handler"));
    assert!(!shown.contains("PASSWORD"), "{shown}");
}
