//! Trust in one certificate by its fingerprint: no authority, no name, no date, for the string says it all.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use sha2::{Digest, Sha256};

use crate::failure::{Exit, Failure};

/// What the error says when the certificate is another one.
pub const WRONG_CERTIFICATE: &str = "the certificate is not the pinned one";

/// What is asked of a certificate; whoever shows it must have its key in any case.
#[derive(Debug)]
enum Demand {
    /// That its SHA-256 is this one.
    Pinned([u8; 32]),
    /// Nothing: it is kept to be looked at.
    Seen(Mutex<Option<CertificateDer<'static>>>),
}

#[derive(Debug)]
struct Verifier {
    demand: Demand,
    provider: Arc<CryptoProvider>,
}

/// The TLS settings that accept exactly the certificate with this SHA-256.
pub fn config(fingerprint: &str) -> Result<ClientConfig, String> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(fingerprint, &mut bytes).map_err(|_| "the fingerprint is not 64 hexadecimal digits")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pin = Arc::new(Verifier { demand: Demand::Pinned(bytes), provider: provider.clone() });
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(pin).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.demand {
            Demand::Pinned(fingerprint) if Sha256::digest(end_entity)[..] == *fingerprint => {}
            Demand::Pinned(_) => {
                let why = rustls::OtherError(Arc::new(std::io::Error::other(WRONG_CERTIFICATE)));
                return Err(Error::InvalidCertificate(CertificateError::Other(why)));
            }
            Demand::Seen(seen) => {
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.clone().into_owned());
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a port shows when nothing is demanded of it: for `doctor`.
#[derive(Debug)]
pub struct ServedCertificate {
    /// SHA-256 of the certificate, 64 hex digits.
    pub fingerprint: String,
    /// Whether it is valid at this machine's time, or why not.
    pub date: Result<(), String>,
    /// Whether it is for the name that was asked for, or why not.
    pub name: Result<(), String>,
}

/// Shakes hands with whatever certificate there is, and says what it is.
///
/// # Errors
/// Where nothing that speaks TLS answers.
pub async fn served_certificate(address: &str, host: &str) -> Result<ServedCertificate, Failure> {
    let failed = |why: String| {
        let next = "check that this is channeld's gRPC port, and that it serves TLS";
        Failure::new(Exit::Unreachable, format!("{address} does not speak TLS as channeld does: {why}"), next)
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let look = Arc::new(Verifier { demand: Demand::Seen(Mutex::new(None)), provider: provider.clone() });
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| failed(error.to_string()))?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(look.clone()).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(address).await.map_err(|error| failed(error.to_string()))?;
    let localhost = ServerName::try_from("localhost").map_err(|error| failed(error.to_string()))?;
    let shaken = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(localhost, stream);
    let shaken = tokio::time::timeout(std::time::Duration::from_secs(5), shaken).await;
    shaken.map_err(|_| failed("no answer".to_owned()))?.map_err(|error| failed(error.to_string()))?;
    let seen = match &look.demand {
        Demand::Seen(seen) => seen.lock().unwrap_or_else(PoisonError::into_inner).take(),
        Demand::Pinned(_) => None,
    };
    let certificate = seen.ok_or_else(|| failed("it shows no certificate".to_owned()))?;
    let judged = |host: &str| judge(&certificate, host, provider.clone());
    Ok(ServedCertificate {
        fingerprint: hex::encode(Sha256::digest(&certificate)),
        // The certificates that channeld makes are for localhost in any case, so that only the date can be wrong here.
        date: judged("localhost").or_else(|error| match error {
            Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => Err(error.to_string()),
            _ => Ok(()),
        }),
        name: judged(host).or_else(|error| match error {
            Error::InvalidCertificate(CertificateError::NotValidForName) => {
                Err(format!("the certificate is not for {host}"))
            }
            Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
                Err(format!("the certificate is not for {host}, but for {}", presented.join(", ")))
            }
            _ => Ok(()),
        }),
    })
}

/// What an ordinary client would say of a certificate that it trusts.
fn judge(certificate: &CertificateDer<'static>, host: &str, provider: Arc<CryptoProvider>) -> Result<(), Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone())?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| Error::General(error.to_string()))?;
    verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now()).map(drop)
}
