//! What the clients of Amazon's services share: where the server is, who we are, how long we wait, and what an answer
//! that is none means.

pub(crate) mod error;

use std::fmt;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls;

use crate::{Error, ErrorKind, Result};

/// How a service is reached. Its methods for users are those of [`connection_methods`].
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) endpoint: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) credentials: Option<SharedCredentialsProvider>,
    pub(crate) attempts: u32,
    pub(crate) connect_timeout: Duration,
    pub(crate) read_timeout: Duration,
    pub(crate) operation_timeout: Duration,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the credentials.
        let mut out = f.debug_struct("Connection");
        out.field("endpoint", &self.endpoint).field("region", &self.region).finish_non_exhaustive()
    }
}

impl Connection {
    /// With the longest times until an answer begins, and for a request with its repetitions.
    pub(crate) fn new(read_timeout: Duration, operation_timeout: Duration) -> Self {
        Self {
            endpoint: None,
            region: None,
            credentials: None,
            attempts: 3,
            connect_timeout: Duration::from_secs(5),
            read_timeout,
            operation_timeout,
        }
    }

    /// The endpoint must be an address of HTTP.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(endpoint) = &self.endpoint {
            let url = url::Url::parse(endpoint).ok().filter(|url| url.has_host() && url.scheme().starts_with("http"));
            if url.is_none() {
                let why = "the endpoint is no address such as http://127.0.0.1:9000";
                return Err(Error::new(ErrorKind::InvalidInput, why));
            }
        }
        Ok(())
    }

    /// What every client is made of: what was said here, and the rest from the environment and the profile.
    pub(crate) async fn load(&self) -> Result<SdkConfig> {
        // One for each client: its connections belong to the runtime that made them.
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_https();
        let region = self.region.clone().or_else(|| self.endpoint.is_some().then(|| String::from("us-east-1")));
        let config = match (&self.credentials, &region) {
            // Nothing of the environment is looked at when everything was said.
            (Some(credentials), Some(region)) => {
                SdkConfig::builder().credentials_provider(credentials.clone()).region(Region::new(region.clone()))
            }
            (credentials, region) => {
                let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
                if let Some(region) = region {
                    loader = loader.region(Region::new(region.clone()));
                }
                if let Some(credentials) = credentials {
                    loader = loader.credentials_provider(credentials.clone());
                }
                let shared = loader.load().await;
                if shared.region().is_none() {
                    let why = "no region is known: set one, or AWS_REGION, or one in the profile";
                    return Err(Error::new(ErrorKind::Config, why));
                }
                shared.into_builder()
            }
        };
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.connect_timeout)
            .read_timeout(self.read_timeout)
            .operation_timeout(self.operation_timeout)
            .build();
        let retries = RetryConfig::standard()
            .with_max_attempts(self.attempts)
            .with_initial_backoff(Duration::from_millis(100))
            .with_max_backoff(Duration::from_secs(5));
        let mut config = config
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .timeout_config(timeouts)
            .retry_config(retries)
            .stalled_stream_protection(
                // Bodies that come are watched by who reads them: this begins to count after a window of 20 s of wall
                // clock, which may be set.
                StalledStreamProtectionConfig::enabled()
                    .download_enabled(false)
                    .grace_period(self.read_timeout)
                    .build(),
            );
        if let Some(endpoint) = &self.endpoint {
            config = config.endpoint_url(endpoint);
        }
        Ok(config.build())
    }
}

/// The methods that set a [`Connection`] up, for a builder that has one in its field `connection`.
macro_rules! connection_methods {
    (read: $read:literal, operation: $operation:literal) => {
        /// Where the server is, such as `http://127.0.0.1:9000`. Default: Amazon's for the region.
        #[must_use]
        pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
            self.connection.endpoint = Some(endpoint.into().trim_end_matches('/').to_owned());
            self
        }

        /// The region. Default: what the environment and the profile say; `us-east-1` at an endpoint of your own.
        #[must_use]
        pub fn region(mut self, region: impl Into<String>) -> Self {
            self.connection.region = Some(region.into());
            self
        }

        /// An access key, its secret and, for temporary ones, the session token. Default: the SDK's chain (environment,
        /// profile, web identity, ECS, EC2).
        #[must_use]
        pub fn credentials(
            self,
            access_key: impl Into<String>,
            secret_key: impl Into<String>,
            session_token: Option<String>,
        ) -> Self {
            self.credentials_provider(aws_credential_types::Credentials::new(
                access_key,
                secret_key,
                session_token,
                None,
                "explicit",
            ))
        }

        /// Credentials from a provider of the SDK, such as one that assumes a role.
        #[must_use]
        pub fn credentials_provider(
            mut self,
            provider: impl aws_credential_types::provider::ProvideCredentials + 'static,
        ) -> Self {
            self.connection.credentials =
                Some(aws_credential_types::provider::SharedCredentialsProvider::new(provider));
            self
        }

        /// How often a request is tried, with growing and jittered waits in between. Default 3.
        #[must_use]
        pub fn attempts(mut self, attempts: u32) -> Self {
            self.connection.attempts = attempts.max(1);
            self
        }

        /// Longest time for a connection. Default 5 seconds.
        #[must_use]
        pub fn connect_timeout(mut self, limit: Duration) -> Self {
            self.connection.connect_timeout = limit;
            self
        }

        #[doc = concat!("Longest time until an answer begins, and in which nothing of a body comes. Default ", $read)]
        #[must_use]
        pub fn read_timeout(mut self, limit: Duration) -> Self {
            self.connection.read_timeout = limit;
            self
        }

        #[doc = concat!("Longest time for one request with its repetitions; the body that is read afterwards is not part of it. Default ", $operation)]
        #[must_use]
        pub fn operation_timeout(mut self, limit: Duration) -> Self {
            self.connection.operation_timeout = limit;
            self
        }
    };
}
pub(crate) use connection_methods;
