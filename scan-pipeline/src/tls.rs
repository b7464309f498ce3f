//! TLS for what connects to the outside: certificates as the platform trusts them, cryptography under a licence that
//! goes with libclamav's.

use std::sync::Arc;

#[cfg(any(feature = "webhook", feature = "nats"))]
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
#[cfg(any(feature = "webhook", feature = "nats"))]
use rustls_platform_verifier::Verifier;

use crate::{Error, ErrorKind, Result};

/// Certificates of one's own that are trusted besides the platform's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roots(Vec<CertificateDer<'static>>);

impl Roots {
    /// Adds every certificate of a PEM text.
    pub(crate) fn add_pem(&mut self, pem: &[u8]) -> Result<()> {
        let wrong = || Error::new(ErrorKind::Config, "the root certificate is no PEM text with a certificate in it");
        let certificates: Vec<_> =
            CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|why| wrong().with_source(why))?;
        if certificates.is_empty() {
            return Err(wrong());
        }
        self.0.extend(certificates);
        Ok(())
    }

    /// The certificates, in DER.
    #[cfg(feature = "email")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|certificate| &**certificate)
    }
}

/// Makes sure that the process has a provider, for a crate that can be given none.
#[cfg(feature = "email")]
pub(crate) fn ensure_default_provider() -> Result<()> {
    if CryptoProvider::get_default().is_none() {
        // When another thread was faster, there is one as well.
        let _ = Arc::unwrap_or_clone(provider()?).install_default();
    }
    Ok(())
}

#[cfg(any(feature = "webhook", feature = "nats"))]
/// TLS 1.2 and 1.3 with the platform's certificates and these.
pub(crate) fn client_config(roots: &Roots) -> Result<ClientConfig> {
    let wrong = |why: rustls::Error| {
        let what = "TLS could not be set up; where the platform has no certificates, install ca-certificates";
        Error::new(ErrorKind::Config, what).with_source(why)
    };
    let provider = provider()?;
    let verifier = Verifier::new_with_extra_roots(roots.0.iter().cloned(), Arc::clone(&provider)).map_err(wrong)?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// The process's own choice where it made one, else Graviola.
pub(crate) fn provider() -> Result<Arc<CryptoProvider>> {
    if let Some(chosen) = CryptoProvider::get_default() {
        return Ok(Arc::clone(chosen));
    }
    if !runs_graviola() {
        let why = "this processor lacks instructions that the default cryptography needs (on x86-64 AES, PCLMUL, AVX2, \
                   BMI and ADX, on ARM64 AES and SHA-2); give the process another with rustls's \
                   CryptoProvider::install_default";
        return Err(Error::new(ErrorKind::Unsupported, why));
    }
    Ok(Arc::new(rustls_graviola::default_provider()))
}

/// Graviola panics at its first use where one of these is absent.
fn runs_graviola() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        has!("aes")
            && has!("ssse3")
            && has!("pclmulqdq")
            && has!("avx")
            && has!("avx2")
            && has!("bmi1")
            && has!("bmi2")
            && has!("adx")
    }
    #[cfg(target_arch = "aarch64")]
    {
        use std::arch::is_aarch64_feature_detected as has;
        has!("neon") && has!("aes") && has!("pmull") && has!("sha2")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(any(feature = "webhook", feature = "nats"))]
    #[test]
    fn a_configuration_needs_no_default_of_the_process() {
        assert!(client_config(&Roots::default()).is_ok());
    }

    #[test]
    fn roots_are_checked() {
        for pem in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"] {
            let error = Roots::default().add_pem(pem.as_bytes()).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Config, "{pem}");
        }
    }
}
