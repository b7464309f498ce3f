//! Tells somebody by mail.

mod text;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use serde_json::json;

use super::template::Template;
use super::{HandlerError, ResultHandler, Scanned, StepContext, StepOutput};
use crate::{Error, ErrorKind, Result};

use text::{lines, one_line};

/// Most characters of a subject, and of a value in a body. A key has up to 1024 bytes.
const LONGEST_SUBJECT: usize = 150;
const LONGEST_VALUE: usize = 1100;
const LONGEST_LINE: usize = 4000;
/// How long the goodbye may take, when the mail is accepted already.
const GOODBYE: Duration = Duration::from_secs(1);

const SUBJECT: &str = "{status}: {name}";
const BODY: &str = "The scan of an object came to its end.

Verdict: {status}
Threats: {threats}
Reasons: {reasons}
Findings: {findings}

Bucket:  {bucket}
Key:     {key}
Size:    {size}
SHA-256: {sha256}
Task:    {task}
";

/// Prepares mails by this SMTP server; [`EmailBuilder::build`] makes the handler.
///
/// The connection is TLS from its start, to port 465, and the certificate is checked. What an attempt cannot do now
/// (4xx replies, no connection, a certificate that is not trusted) is retryable; what the server refuses for good (5xx)
/// is fatal. The answer to a mail can get lost after the server has taken it, and no SMTP server tells: then it is sent
/// again, with the same `Message-ID`, which is made of the step's idempotency key and by which mail systems drop what
/// they have.
///
/// The values in subject and body come from strangers. They stay on their line, and what a reader would not see is
/// written as its number, such as `\u{202e}`.
///
/// ```
/// use scan_pipeline::handler::email;
/// use scan_pipeline::workflow::Workflow;
///
/// # fn main() -> scan_pipeline::Result<()> {
/// let tell = email("smtp.example.com")
///     .credentials("scanner", "password")
///     .from("Scanner <scanner@example.com>")
///     .to("security@example.com")
///     .subject("{status}: {name} ({threats})")
///     .build()?;
/// assert!(Workflow::new("tell").then(tell).check().is_ok());
/// # Ok(()) }
/// ```
pub fn email(server: impl Into<String>) -> EmailBuilder {
    EmailBuilder {
        server: server.into(),
        port: None,
        security: Security::Tls,
        credentials: None,
        roots: Vec::new(),
        from: String::new(),
        to: Vec::new(),
        subject: String::from(SUBJECT),
        body: BodyRule::Template(String::from(BODY)),
        timeout: Duration::from_secs(30),
    }
}

/// Settings of an [`Email`].
#[derive(Clone)]
pub struct EmailBuilder {
    server: String,
    port: Option<u16>,
    security: Security,
    credentials: Option<(String, String)>,
    roots: Vec<Vec<u8>>,
    from: String,
    to: Vec<String>,
    subject: String,
    body: BodyRule,
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    Tls,
    StartTls,
    None,
}

type BodyFn = dyn Fn(&Scanned, &StepContext) -> String + Send + Sync;

#[derive(Clone)]
enum BodyRule {
    Template(String),
    Function(Arc<BodyFn>),
}

impl fmt::Debug for EmailBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, security, from, to, .. } = self;
        let mut shown = f.debug_struct("EmailBuilder");
        shown.field("server", server).field("security", security).field("from", from).field("to", to);
        shown.finish_non_exhaustive()
    }
}

impl EmailBuilder {
    /// Sets the port. Default 465, with [`starttls`](Self::starttls) 587, with [`plaintext`](Self::plaintext) 25.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Begins without TLS and asks for it, and sends nothing to a server that does not grant it.
    #[must_use]
    pub fn starttls(mut self) -> Self {
        self.security = Security::StartTls;
        self
    }

    /// Sends without TLS, for a relay on the same machine. No password can be sent that way.
    #[must_use]
    pub fn plaintext(mut self) -> Self {
        self.security = Security::None;
        self
    }

    /// Logs in.
    #[must_use]
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some((user.into(), password.into()));
        self
    }

    /// Trusts the certificates in this PEM text besides the platform's.
    #[must_use]
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots.push(pem.into());
        self
    }

    /// The sender, as `a@b` or `Name <a@b>`.
    #[must_use]
    pub fn from(mut self, address: impl Into<String>) -> Self {
        self.from = address.into();
        self
    }

    /// A receiver. Called again, one more; each sees the others.
    #[must_use]
    pub fn to(mut self, address: impl Into<String>) -> Self {
        self.to.push(address.into());
        self
    }

    /// The subject's template: `{status}` (the verdict), `{name}` (the last part of the key), `{key}`, `{bucket}`,
    /// `{size}`, `{sha256}`, `{threats}`, `{reasons}`, `{findings}` (how many of what), `{task}`; `{{` and `}}` for braces. Default `{status}: {name}`.
    #[must_use]
    pub fn subject(mut self, template: impl Into<String>) -> Self {
        self.subject = template.into();
        self
    }

    /// The body's template, with the same names.
    #[must_use]
    pub fn body(mut self, template: impl Into<String>) -> Self {
        self.body = BodyRule::Template(template.into());
        self
    }

    /// Makes the body by a function, which sees the outputs of earlier steps. It has to give the same text each time.
    #[must_use]
    pub fn body_with(mut self, body: impl Fn(&Scanned, &StepContext) -> String + Send + Sync + 'static) -> Self {
        self.body = BodyRule::Function(Arc::new(body));
        self
    }

    /// Sets the longest time for one mail. Default 30 seconds; keep it below the step's timeout.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Makes the handler.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for an address, template or certificate that cannot be used, for a mail from or to nobody,
    /// and for a password without TLS.
    pub fn build(self) -> Result<Email> {
        let wrong = |what: String| Error::new(ErrorKind::Config, what);
        let mailbox = |address: &String| {
            let parsed: Result<Mailbox, _> = address.parse();
            parsed.map_err(|why| wrong(String::from("is no mail address")).about(address.clone()).with_source(why))
        };
        if self.to.is_empty() || self.from.is_empty() {
            return Err(wrong(String::from("a mail needs from(...) and to(...)")));
        }
        if self.security == Security::None && self.credentials.is_some() {
            return Err(wrong(String::from(
                "a password is not sent without TLS; leave out plaintext() or credentials()",
            )));
        }
        let tls = match self.security {
            Security::None => None,
            Security::Tls | Security::StartTls => Some(self.tls()?),
        };
        let body = match self.body {
            BodyRule::Template(text) => Body::Template(Template::parse(&text, "mail")?),
            BodyRule::Function(function) => Body::Function(function),
        };
        Ok(Email {
            port: self.port.unwrap_or(match self.security {
                Security::Tls => 465,
                Security::StartTls => 587,
                Security::None => 25,
            }),
            server: self.server,
            security: self.security,
            tls,
            credentials: self.credentials.map(|(user, password)| Credentials::new(user, password)),
            from: mailbox(&self.from)?,
            to: self.to.iter().map(mailbox).collect::<Result<_>>()?,
            subject: Template::parse(&self.subject, "subject")?,
            body,
            timeout: self.timeout,
        })
    }

    fn tls(&self) -> Result<TlsParameters> {
        let wrong = |why: lettre::transport::smtp::Error| {
            let what = "TLS could not be set up; where the platform has no certificates, install ca-certificates";
            Error::new(ErrorKind::Config, what).about(self.server.clone()).with_source(why)
        };
        // The crate takes cryptography from the process, and panics where there is none.
        crate::tls::ensure_default_provider()?;
        let mut roots = crate::tls::Roots::default();
        self.roots.iter().try_for_each(|pem| roots.add_pem(pem))?;
        let mut parameters = TlsParameters::builder(self.server.clone());
        for root in roots.iter() {
            parameters = parameters.add_root_certificate(Certificate::from_der(root.to_vec()).map_err(wrong)?);
        }
        parameters.build().map_err(wrong)
    }
}

/// A handler made by [`email`].
pub struct Email {
    server: String,
    port: u16,
    security: Security,
    tls: Option<TlsParameters>,
    credentials: Option<Credentials>,
    from: Mailbox,
    to: Vec<Mailbox>,
    subject: Template,
    body: Body,
    timeout: Duration,
}

enum Body {
    Template(Template),
    Function(Arc<BodyFn>),
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, port, security, .. } = self;
        let mut shown = f.debug_struct("Email");
        shown.field("server", server).field("port", port).field("security", security).finish_non_exhaustive()
    }
}

impl Email {
    fn message_id(&self, step: &StepContext) -> String {
        format!("<{}@{}>", step.idempotency_key, self.from.email.domain())
    }

    fn message(&self, scanned: &Scanned, step: &StepContext) -> Result<Message, HandlerError> {
        let value = |value: String| one_line(&value, LONGEST_VALUE);
        // `=?` would begin a word in another encoding, which readers decode: with that, anything could be hidden again.
        let subject = self.subject.render(scanned, &scanned.object, value).replace("=?", "= ?");
        let body = match &self.body {
            Body::Template(template) => template.render(scanned, &scanned.object, value),
            Body::Function(function) => function(scanned, step),
        };
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(one_line(&subject, LONGEST_SUBJECT))
            .message_id(Some(self.message_id(step)))
            // So that no out-of-office assistant answers.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                String::from("auto-generated"),
            ))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            message = message.to(to.clone());
        }
        message
            .body(lines(&body, LONGEST_LINE))
            .map_err(|why| HandlerError::fatal("the mail could not be written").with_source(why))
    }

    async fn send(&self, message: &Message) -> Result<(), HandlerError> {
        let hello = ClientId::default();
        let wrapped = self.tls.clone().filter(|_| self.security == Security::Tls);
        let address = (self.server.as_str(), self.port);
        let connected = AsyncSmtpConnection::connect_tokio1(address, Some(self.timeout), &hello, wrapped, None).await;
        let mut connection = connected.map_err(|why| self.failed(why))?;
        if let (Security::StartTls, Some(tls)) = (self.security, &self.tls) {
            if !connection.can_starttls() {
                return Err(HandlerError::fatal(format!(
                    "{}: the server offers no STARTTLS; nothing was sent",
                    self.server
                )));
            }
            connection.starttls(tls.clone(), &hello).await.map_err(|why| self.failed(why))?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await.map_err(|why| self.failed(why))?;
        }
        let sent = connection.send(message.envelope(), &message.formatted()).await;
        sent.map_err(|why| self.failed(why))?;
        // It is accepted: a server that is slow to say goodbye must not make it fail, and be sent twice.
        let _ = tokio::time::timeout(GOODBYE, connection.quit()).await;
        Ok(())
    }

    fn failed(&self, error: lettre::transport::smtp::Error) -> HandlerError {
        let why = one_line(&format!("{}: {error}", self.server), LONGEST_VALUE);
        // `is_client` is what we cannot do with this server at all, such as log in where it knows no login.
        if error.is_permanent() || error.is_client() { HandlerError::fatal(why) } else { HandlerError::retryable(why) }
    }
}

#[async_trait]
impl ResultHandler for Email {
    fn name(&self) -> &str {
        "email"
    }

    fn depends_on(&self) -> Option<&str> {
        Some(&self.server)
    }

    async fn handle(&self, scanned: &Scanned, step: &StepContext) -> Result<StepOutput, HandlerError> {
        let message = self.message(scanned, step)?;
        match tokio::time::timeout(self.timeout, self.send(&message)).await {
            Ok(sent) => sent?,
            Err(_) => return Err(HandlerError::retryable(format!("{}: the mail was not sent in time", self.server))),
        }
        let to: Vec<_> = self.to.iter().map(|to| to.email.to_string()).collect();
        Ok(StepOutput::new(json!({ "message_id": self.message_id(step), "to": to })))
    }
}

#[cfg(test)]
mod tests;
