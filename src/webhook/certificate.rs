//! The webhook's own serving certificates: made here, renewed here, and changed only once the API servers know the new one.
//!
//! Every node signs for itself: no authority exists that could be stolen, and no private half leaves its node. What verifies is
//! the `caBundle` of the registration, which holds the certificates of all nodes. This module knows no files: it is given PEM
//! text and gives PEM text.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject as _;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use thiserror::Error;
use x509_cert::der::Decode as _;

/// Life of a certificate, from its making on.
pub const LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// So long before its end the next one is made: after two thirds of its life.
const RENEWAL: SignedDuration = SignedDuration::from_hours(10 * 24);
/// A certificate is valid from so long before it was made, for clients whose clock is behind.
pub const EARLIER: SignedDuration = SignedDuration::from_hours(1);
/// What clients may call the server.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// It could not be made.
    #[error("cannot make a certificate for the webhook (the one in use stays)")]
    Make(#[source] rcgen::Error),
    /// The moment is outside of what certificates can say.
    #[error("cannot make a certificate for the webhook, because the clock says {0}; set it")]
    Clock(Timestamp),
    /// Text that is no certificate with its key.
    #[error("it holds no private key with its certificate in PEM; remove it, and a new one is made")]
    Read,
    /// The key is of a kind that TLS does not take, or belongs to another certificate.
    #[error("its private key cannot be used with its certificate; remove it, and a new one is made")]
    Pair(#[source] rustls::Error),
}

/// One certificate with its private key.
#[derive(Clone)]
pub struct Certificate {
    text: Arc<str>,
    certificate_pem: Arc<str>,
    pair: Arc<CertifiedKey>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// A certificate and its private key, PEM.
pub struct SelfSigned {
    /// The certificate.
    pub certificate: String,
    /// Its private key, PKCS#8.
    pub private_key: String,
}

/// A new key (P-256) with a certificate that it signed itself, for these names and addresses and so long from now on.
///
/// # Errors
/// A name is none, or the clock says a year that no certificate can name.
pub fn self_signed(
    names: &[String],
    common_name: &str,
    now: Timestamp,
    life: SignedDuration,
) -> Result<SelfSigned, CertificateError> {
    let mut params = CertificateParams::new(names).map_err(CertificateError::Make)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let moment = |at: Result<Timestamp, jiff::Error>| {
        let since_1970 = at.ok().and_then(|at| Duration::try_from(at.as_duration()).ok());
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let moment = since_1970.and_then(|since| epoch.checked_add(since.try_into().ok()?));
        moment.ok_or(CertificateError::Clock(now))
    };
    params.not_before = moment(now.checked_sub(EARLIER))?;
    params.not_after = moment(now.checked_add(life))?;
    let key = KeyPair::generate().map_err(CertificateError::Make)?;
    let certificate = params.self_signed(&key).map_err(CertificateError::Make)?;
    Ok(SelfSigned { certificate: certificate.pem(), private_key: key.serialize_pem() })
}

impl fmt::Debug for Certificate {
    // The text holds the private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { not_before, not_after, .. } = self;
        f.debug_struct("Certificate")
            .field("not_before", not_before)
            .field("not_after", not_after)
            .finish_non_exhaustive()
    }
}

impl Certificate {
    /// A new key (P-256) with a certificate that it signed itself, for 127.0.0.1, ::1 and localhost, valid for [`LIFE`].
    ///
    /// # Errors
    /// The clock says a year that no certificate can name.
    pub fn make(now: Timestamp) -> Result<Self, CertificateError> {
        let made = self_signed(&NAMES.map(str::to_owned), "irsad webhook", now, LIFE)?;
        Self::read(&format!("{}{}", made.certificate, made.private_key))
    }

    /// Reads what [`Certificate::text`] gave.
    ///
    /// # Errors
    /// It is no certificate with its private key.
    pub fn read(text: &str) -> Result<Self, CertificateError> {
        let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| CertificateError::Read)?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| CertificateError::Read)?;
        let validity = x509_cert::Certificate::from_der(&der).map_err(|_| CertificateError::Read)?;
        let validity = validity.tbs_certificate.validity;
        let moment = |since_1970: Duration| {
            let seconds = i64::try_from(since_1970.as_secs()).map_err(|_| CertificateError::Read)?;
            Timestamp::from_second(seconds).map_err(|_| CertificateError::Read)
        };
        let certificate_pem = text.find("-----BEGIN CERTIFICATE-----").and_then(|start| {
            const END: &str = "-----END CERTIFICATE-----";
            let rest = text.get(start..)?;
            rest.get(..rest.find(END)?.checked_add(END.len())?)
        });
        let certificate_pem = format!("{}\n", certificate_pem.ok_or(CertificateError::Read)?);
        let key = any_supported_type(&key).map_err(CertificateError::Pair)?;
        let pair = CertifiedKey::new(vec![der], key);
        pair.keys_match().map_err(CertificateError::Pair)?;
        Ok(Self {
            text: text.into(),
            certificate_pem: certificate_pem.into(),
            pair: Arc::new(pair),
            not_before: moment(validity.not_before.to_unix_duration())?,
            not_after: moment(validity.not_after.to_unix_duration())?,
        })
    }

    /// Certificate and private key in PEM, for a file that only root reads.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The certificate alone in PEM, with a line break at its end.
    pub fn pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Until when it is valid.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether a client takes it at this moment.
    fn is_valid(&self, now: Timestamp) -> bool {
        (self.not_before..self.not_after).contains(&now)
    }

    /// Two thirds of its life are over, or the clock says that it has not begun.
    fn is_due(&self, now: Timestamp) -> bool {
        let due = self.not_after.checked_sub(RENEWAL).unwrap_or(self.not_after);
        !(self.not_before..due).contains(&now)
    }

    /// Whether a bundle of PEM certificates holds this one.
    fn is_in(&self, bundle: &str) -> bool {
        let ours = self.pair.cert.first();
        CertificateDer::pem_slice_iter(bundle.as_bytes()).flatten().any(|other| Some(&other) == ours)
    }
}

/// What has to be done about the certificates next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    Keep,
    /// Make the next one, and keep serving the current one.
    Make,
    /// Serve the next one from now on.
    Switch,
}

/// The certificate that is served and, during a renewal, the one that will be.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// What is served.
    pub current: Certificate,
    /// What is served once the registration holds it.
    pub next: Option<Certificate>,
}

impl Certificates {
    /// What clients have to trust: all that is served or may be next, in PEM.
    pub fn pems(&self) -> Vec<String> {
        std::iter::once(&self.current).chain(&self.next).map(|one| one.pem().to_owned()).collect()
    }

    /// What has to be done, given the `caBundle` (PEM) that is registered now. `None` where nothing is registered or that is not
    /// known: then nobody is known to trust the next one.
    ///
    /// The next one is served too when the current one is not valid at this moment: nobody takes that one anyway.
    pub fn turn(&self, registered: Option<&str>, now: Timestamp) -> Turn {
        match &self.next {
            None if self.current.is_due(now) => Turn::Make,
            None => Turn::Keep,
            // One that waited in vain for two thirds of its life, or was made by a wrong clock.
            Some(next) if next.is_due(now) => Turn::Make,
            Some(next) if registered.is_some_and(|bundle| next.is_in(bundle)) => Turn::Switch,
            Some(_) if !self.current.is_valid(now) => Turn::Switch,
            Some(_) => Turn::Keep,
        }
    }
}

/// The certificate that new connections are shown. It can be changed while connections are open: those keep the old one.
#[derive(Debug)]
pub struct Shown(RwLock<Arc<CertifiedKey>>);

impl Shown {
    /// Shows `certificate`.
    pub fn new(certificate: &Certificate) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::clone(&certificate.pair))))
    }

    /// Shows another one from now on.
    pub fn change(&self, certificate: &Certificate) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&certificate.pair);
    }

    /// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN (RFC 7301).
    pub fn server_config(self: &Arc<Self>) -> ServerConfig {
        let shown: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(shown);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

    fn at(days: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * (20_000 + days))
    }

    #[test]
    fn certificate_is_for_loopback_only_and_lives_30_days() -> Outcome {
        let made = Certificate::make(at(0))?;
        assert_eq!((made.not_before, made.not_after()), (at(0) - EARLIER, at(30)));
        let parsed = x509_cert::Certificate::from_der(made.pair.cert.first().ok_or("no certificate")?)?;
        let extensions = format!("{:?}", parsed.tbs_certificate.extensions);
        // subjectAltName: localhost, 127.0.0.1, ::1 (RFC 5280, 4.2.1.6), and no basicConstraints.
        let names = "OctetString { inner: [48, 35, 130, 9, 108, 111, 99, 97, 108, 104, 111, 115, 116, 135, 4, 127, 0, 0, 1, 135, 16, \
                     0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] }";
        assert!(extensions.contains(names) && !extensions.contains("2.5.29.19"), "{extensions}");
        Ok(())
    }

    #[test]
    fn text_gives_the_same_certificate_again_and_only_its_own_key_fits() -> Outcome {
        let (one, other) = (Certificate::make(at(0))?, Certificate::make(at(0))?);
        let again = Certificate::read(one.text())?;
        assert_eq!((again.pem(), again.not_after()), (one.pem(), one.not_after()));
        assert!(!again.pem().contains("PRIVATE"), "{}", again.pem());
        let key = other.text().split_once("-----END CERTIFICATE-----").map(|(_, key)| key).unwrap_or_default();
        for text in ["", "text", one.pem(), key, &format!("{}{key}", one.pem())] {
            assert!(Certificate::read(text).is_err(), "{text}");
        }
        Ok(())
    }

    #[test]
    fn certificate_is_renewed_at_two_thirds_of_its_life_and_changed_once_the_registration_holds_the_new_one() -> Outcome
    {
        let (old, next) = (Certificate::make(at(0))?, Certificate::make(at(20))?);
        let alone = Certificates { current: old.clone(), next: None };
        let both = Certificates { current: old.clone(), next: Some(next.clone()) };
        let before = format!("{}{}", Certificate::make(at(0))?.pem(), old.pem());
        let after = format!("{before}{}", next.pem());
        for (certificates, registered, day, expected) in [
            (&alone, None, 0, Turn::Keep),
            (&alone, Some(&before), 19, Turn::Keep),
            (&alone, Some(&before), 20, Turn::Make),
            // A clock that was set back by more than the allowance.
            (&alone, Some(&before), -1, Turn::Make),
            (&both, None, 20, Turn::Keep),
            (&both, Some(&before), 29, Turn::Keep),
            (&both, Some(&after), 21, Turn::Switch),
            // Nobody takes the old one any more.
            (&both, Some(&before), 30, Turn::Switch),
            (&both, None, 39, Turn::Switch),
            (&both, None, 40, Turn::Make),
        ] {
            assert_eq!(certificates.turn(registered.map(String::as_str), at(day)), expected, "day {day}");
        }
        assert_eq!(both.pems(), [old.pem(), next.pem()]);
        Ok(())
    }

    #[test]
    fn certificate_is_trusted_by_itself_for_its_names_and_its_time_only() -> Outcome {
        use rustls::{
            RootCertStore,
            client::{WebPkiServerVerifier, danger::ServerCertVerifier},
            pki_types::{ServerName, UnixTime},
        };
        let now = Timestamp::from_second(1_800_000_000)?;
        let made = self_signed(&["webhook.ns.svc".to_owned()], "webhook", now, SignedDuration::from_hours(24))?;
        let certificate = CertificateDer::from_pem_slice(made.certificate.as_bytes())?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build()?;
        for (name, hours, is_trusted) in [
            ("webhook.ns.svc", 0, true),
            ("webhook.ns.svc", 23, true),
            ("webhook.ns.svc", 25, false),
            ("webhook.ns.svc", -2, false),
            ("other.ns.svc", 0, false),
        ] {
            let at = now.checked_add(SignedDuration::from_hours(hours))?;
            let at = UnixTime::since_unix_epoch(Duration::from_secs(at.as_second().try_into()?));
            let verified = verifier.verify_server_cert(&certificate, &[], &ServerName::try_from(name)?, &[], at);
            assert_eq!(verified.is_ok(), is_trusted, "{name} after {hours} h");
        }
        Ok(())
    }

    #[test]
    fn clock_that_no_certificate_can_name_is_said() {
        let refused = Certificate::make(Timestamp::UNIX_EPOCH).map(drop).map_err(|error| error.to_string());
        let said = "cannot make a certificate for the webhook, because the clock says 1970-01-01T00:00:00Z; set it";
        assert_eq!(refused, Err(said.to_owned()));
    }
}
