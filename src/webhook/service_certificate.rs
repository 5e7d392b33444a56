//! Certificates for a webhook that runs in pods, behind a Service. They sign themselves: no authority exists that could be stolen.

use std::{fmt, time::Duration};

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use thiserror::Error;

/// A certificate is valid from so long before it was made, for clients whose clock is behind.
const EARLIER: SignedDuration = SignedDuration::from_hours(1);

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum ServiceCertificateError {
    /// It could not be made.
    #[error("cannot make a certificate for {0} (the one in use stays)")]
    Make(String, #[source] rcgen::Error),
    /// The moment is outside of what certificates can say.
    #[error("cannot make a certificate, because the clock says {0}; set it")]
    Clock(Timestamp),
}

/// A certificate and its private half, PEM.
pub struct ServiceCertificate {
    /// The certificate.
    pub certificate: String,
    /// Its private half, PKCS#8.
    pub private_key: String,
}

impl fmt::Debug for ServiceCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceCertificate").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// A new key (P-256) with a certificate that it signed itself, for these DNS names and until `until`.
///
/// # Errors
/// A name is none, or the clock says a year that no certificate can name.
pub fn make(names: &[String], now: Timestamp, until: Timestamp) -> Result<ServiceCertificate, ServiceCertificateError> {
    let failed = |error| ServiceCertificateError::Make(names.join(", "), error);
    let mut params = CertificateParams::new(names).map_err(failed)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "irsad upstream webhook");
    params.distinguished_name = name;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = |at: Option<Timestamp>| {
        let seconds = at.and_then(|at| u64::try_from(at.as_second()).ok());
        // Beyond the year 3000 the date type of certificates does not go.
        seconds.filter(|seconds| *seconds < 32_503_680_000).ok_or(ServiceCertificateError::Clock(now))
    };
    params.not_before = epoch + Duration::from_secs(seconds(now.checked_sub(EARLIER).ok())?);
    params.not_after = epoch + Duration::from_secs(seconds(Some(until))?);
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(ServiceCertificate { certificate: certificate.pem(), private_key: key.serialize_pem() })
}
