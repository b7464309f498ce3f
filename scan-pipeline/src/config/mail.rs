//! `do = "email"`: a message by SMTP.

use std::time::Duration;

use super::read::Section;
use super::text::{Secret, Text};
use super::webhook::certificate;
use crate::Result;
use crate::workflow::Step;

#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "email"), allow(dead_code, reason = "it is checked all the same, and refused"))]
pub(super) struct EmailSpec {
    server: String,
    port: Option<u16>,
    security: Security,
    credentials: Option<(String, Secret)>,
    root_certificate: Option<Vec<u8>>,
    from: String,
    pub(super) to: Vec<String>,
    subject: Option<String>,
    body: Option<String>,
    /// The time of the step, of which the sending has the most.
    timeout: Option<Duration>,
}

/// How the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    /// TLS from the first byte; port 465.
    Tls,
    /// TLS after a greeting, and required; port 587.
    StartTls,
    /// None; port 25.
    None,
}

pub(super) fn email(step: &Section<'_>) -> Option<EmailSpec> {
    let reader = step.reader;
    let server = step.required("server", "name the mail server: server = \"smtp.example.com\"");
    let port = step.count("port", 1..=65_535).and_then(|port| u16::try_from(port).ok());
    let choices = [("tls", Security::Tls), ("starttls", Security::StartTls), ("none", Security::None)];
    let security = step.get("tls").and_then(|item| item.choice(&choices)).unwrap_or(Security::Tls);
    let username = step.text("username").map(|name| name.value);
    let password = step.text("password").map(|password| password.secret(reader));
    let from = step.required("from", "name the sender: from = \"scanner@example.com\"");
    let to = step.texts("to");
    let (subject, body) = (step.text("subject"), step.text("body"));
    let root_certificate = step.text("root_certificate").and_then(|file| certificate(step, &file));
    if !step.is_there("to") {
        step.missing("to", "is missing: name the receivers: to = [\"security@example.com\"]");
    }
    for address in from.iter().chain(&to) {
        check_address(step, address);
    }
    for text in subject.iter().chain(&body) {
        check_template(step, text);
    }
    if let (Security::None, Some(_)) = (security, &password) {
        step.mistake("the password would be sent without encryption: write tls = \"tls\" or \"starttls\"");
    }
    if step.is_there("username") != step.is_there("password") {
        let missing = if step.is_there("username") { "password" } else { "username" };
        step.missing(missing, "is missing: a name and a password belong together");
    }
    let server = server?;
    if server.value.is_empty() || server.value.contains(['/', '@', ' ', ':']) {
        let why = format!("`{}` is no host: write smtp.example.com, and the port as port", server.address());
        server.mistake(reader, why);
        return None;
    }
    if !cfg!(feature = "email") {
        server.mistake(reader, "this build sends no e-mail; rebuild with --features email");
        return None;
    }
    Some(EmailSpec {
        server: server.value,
        port,
        security,
        credentials: username.zip(password),
        root_certificate,
        from: from?.value,
        to: to.into_iter().map(|address| address.value).collect(),
        subject: subject.map(|subject| subject.value),
        body: body.map(|body| body.value),
        timeout: None,
    })
}

fn check_address(step: &Section<'_>, address: &Text) {
    #[cfg(feature = "email")]
    let good = address.value.parse::<lettre::message::Mailbox>().is_ok();
    #[cfg(not(feature = "email"))]
    let good = address.value.contains('@');
    if !good {
        address.mistake(step.reader, format!("`{}` is no address: write name@example.com", address.written));
    }
}

/// Mails and keys have the same names in braces.
fn check_template(step: &Section<'_>, text: &Text) {
    if let Err(why) = crate::handler::relocate("any").key_template(&text.value) {
        text.mistake(step.reader, text.hide(&why.to_string()).replace("template of a key", "template"));
    }
}

impl EmailSpec {
    /// The time of the step.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = Some(timeout);
    }

    #[cfg(feature = "email")]
    pub(super) fn build(&self) -> Result<Step> {
        let mut builder = crate::handler::email(self.server.as_str()).from(self.from.as_str());
        builder = match self.security {
            Security::Tls => builder,
            Security::StartTls => builder.starttls(),
            Security::None => builder.plaintext(),
        };
        for address in &self.to {
            builder = builder.to(address.as_str());
        }
        if let Some(port) = self.port {
            builder = builder.port(port);
        }
        if let Some((user, password)) = &self.credentials {
            builder = builder.credentials(user.as_str(), password.reveal());
        }
        if let Some(pem) = &self.root_certificate {
            builder = builder.root_certificate(pem.clone());
        }
        if let Some(subject) = &self.subject {
            builder = builder.subject(subject.as_str());
        }
        if let Some(body) = &self.body {
            builder = builder.body(body.as_str());
        }
        if let Some(whole) = self.timeout {
            // It has to end before the step does, or nobody learns what the server said.
            builder = builder.timeout(whole.mul_f64(0.9));
        }
        Ok(Step::new(builder.build()?))
    }

    #[cfg(not(feature = "email"))]
    pub(super) fn build(&self) -> Result<Step> {
        let why = "this build sends no e-mail; rebuild with --features email";
        Err(crate::Error::new(crate::ErrorKind::Unsupported, why))
    }
}
