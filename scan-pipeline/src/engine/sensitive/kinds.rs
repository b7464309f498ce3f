//! The detectors that there are, by name.

use std::fmt;
use std::str::FromStr;

use crate::{Error, ErrorKind, Result};

/// A kind of sensitive data that can be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Detector {
    /// US social security numbers.
    Ssn,
    /// Payment card numbers.
    CreditCard,
    /// AWS access key ids.
    AwsAccessKey,
    /// AWS secret access keys.
    AwsSecretKey,
    /// E-mail addresses.
    Email,
    /// Phone numbers of the North American Numbering Plan.
    Phone,
    /// Tokens of GitHub.
    GithubToken,
    /// Tokens of Slack.
    SlackToken,
    /// Secret and restricted keys of Stripe.
    StripeKey,
    /// API keys of Google.
    GoogleApiKey,
    /// Access tokens of npm.
    NpmToken,
    /// API tokens of PyPI.
    PypiToken,
    /// Private keys in PEM form.
    PrivateKey,
    /// JSON web tokens.
    Jwt,
    /// Passwords and secrets that are assigned to a name that says so.
    Password,
}

impl Detector {
    /// Every detector.
    pub const ALL: [Self; 15] = [
        Self::Ssn,
        Self::CreditCard,
        Self::AwsAccessKey,
        Self::AwsSecretKey,
        Self::Email,
        Self::Phone,
        Self::GithubToken,
        Self::SlackToken,
        Self::StripeKey,
        Self::GoogleApiKey,
        Self::NpmToken,
        Self::PypiToken,
        Self::PrivateKey,
        Self::Jwt,
        Self::Password,
    ];

    /// Those that look by default: people's data and AWS keys.
    pub const FIRST_TIER: [Self; 6] =
        [Self::Ssn, Self::CreditCard, Self::AwsAccessKey, Self::AwsSecretKey, Self::Email, Self::Phone];

    /// The name as a stable word, such as `credit_card`, which findings carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ssn => "ssn",
            Self::CreditCard => "credit_card",
            Self::AwsAccessKey => "aws_access_key",
            Self::AwsSecretKey => "aws_secret_key",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::GithubToken => "github_token",
            Self::SlackToken => "slack_token",
            Self::StripeKey => "stripe_key",
            Self::GoogleApiKey => "google_api_key",
            Self::NpmToken => "npm_token",
            Self::PypiToken => "pypi_token",
            Self::PrivateKey => "private_key",
            Self::Jwt => "jwt",
            Self::Password => "password",
        }
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Detector {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            let message = format!("there is no detector {}; there are {names}", crate::error::excerpt(name));
            Error::new(ErrorKind::Config, message)
        })
    }
}

/// Some of the detectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Set(u32);

impl Set {
    pub(super) fn insert(&mut self, one: Detector) {
        self.0 |= 1 << one as u32;
    }

    pub(super) fn has(self, one: Detector) -> bool {
        self.0 >> one as u32 & 1 == 1
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Detector> {
        Detector::ALL.into_iter().filter(move |one| self.has(*one))
    }
}
