//! The certificate of the gRPC port: an ECDSA P-256 leaf that signs itself, made at first start and made anew before it
//! expires, while the daemon runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::rpc::auth::{now, replace};

/// The certificate's file in the network's folder.
pub const CERTIFICATE_FILE: &str = "tls.cert";
/// The key's file in the network's folder, for its owner alone.
pub const KEY_FILE: &str = "tls.key";

const DAY: u64 = 86_400;
/// How long a certificate is good for: what most clients accept at most.
const LIFETIME: u64 = 825 * DAY;
/// A certificate with less left is made anew.
const RENEW_BEFORE: u64 = 90 * DAY;
/// The line before the PEM block that says when the certificate expires, in seconds since 1970. A certificate without
/// that line is the operator's own and is never replaced.
const EXPIRES: &str = "Expires: ";

/// The certificate that is shown, and the files that it comes from. What is shown can change while the port is open.
#[derive(Debug)]
pub struct Certificate {
    folder: PathBuf,
    hosts: Vec<String>,
    shown: RwLock<Shown>,
}

#[derive(Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    fingerprint: String,
}

impl Certificate {
    /// Reads the certificate of the folder, or makes one where there is none or it expires soon. `hosts` are the names
    /// and addresses that it is for, beside `localhost`, `127.0.0.1` and `::1`.
    ///
    /// # Errors
    /// As the file system has it, or where a certificate cannot be read or made.
    pub fn open(folder: &Path, hosts: &[String]) -> io::Result<Certificate> {
        let shown = RwLock::new(read_or_make(folder, hosts)?);
        Ok(Certificate { folder: folder.to_owned(), hosts: hosts.to_vec(), shown })
    }

    /// Looks at the files again: a certificate that expires soon is made anew, one that the operator has put there is
    /// taken. Whether another one is shown from now on; connections that there are stay.
    ///
    /// # Errors
    /// As [`Certificate::open`]; the one before is shown further.
    pub fn renew(&self) -> io::Result<bool> {
        let found = read_or_make(&self.folder, &self.hosts)?;
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        let changed = shown.fingerprint != found.fingerprint;
        *shown = found;
        Ok(changed)
    }

    /// SHA-256 of the certificate, 64 hex digits: what a client pins.
    pub fn fingerprint(&self) -> String {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).fingerprint.clone()
    }

    /// The port's TLS settings, which always show the newest certificate.
    ///
    /// # Errors
    /// Where the library has no protocol version for us: a defect of the build.
    pub fn server_config(self: &Arc<Certificate>) -> io::Result<Arc<ServerConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as Arc<dyn ResolvesServerCert>;
        let mut config = builder.map_err(io::Error::other)?.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner).key))
    }
}

fn read_or_make(folder: &Path, hosts: &[String]) -> io::Result<Shown> {
    let (certificate, key) = (folder.join(CERTIFICATE_FILE), folder.join(KEY_FILE));
    if certificate.exists() && key.exists() {
        let text = fs::read_to_string(&certificate)?;
        let key_text = Zeroizing::new(fs::read_to_string(&key)?);
        let expires = expiry(&text);
        match parse(&text, &key_text) {
            // Of our own: the process died between the two files.
            Err(error) if expires.is_some() => tracing::warn!(%error, "the TLS certificate is made anew"),
            found if expires.is_none_or(|expires| expires > now() + RENEW_BEFORE) => return found,
            _ => tracing::info!("the TLS certificate expires soon and is made anew; its fingerprint changes"),
        }
    }
    let (text, key_text) = make(hosts, now()).map_err(io::Error::other)?;
    replace(&key, key_text.as_bytes(), 0o600)?;
    replace(&certificate, text.as_bytes(), 0o644)?;
    parse(&text, &key_text)
}

fn parse(text: &str, key_text: &str) -> io::Result<Shown> {
    let unreadable = |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{CERTIFICATE_FILE}: {what}"));
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let chain = chain.map_err(|error| unreadable(error.to_string()))?;
    let first = chain.first().ok_or_else(|| unreadable("holds no certificate".to_owned()))?;
    let fingerprint = hex::encode(Sha256::digest(first));
    let key = PrivateKeyDer::from_pem_slice(key_text.as_bytes()).map_err(|error| unreadable(error.to_string()))?;
    let provider = rustls::crypto::ring::default_provider();
    let key = CertifiedKey::from_der(chain, key, &provider);
    let key = key.map_err(|error| unreadable(format!("not the certificate of {KEY_FILE}: {error}")))?;
    Ok(Shown { key: Arc::new(key), fingerprint })
}

fn expiry(certificate_pem: &str) -> Option<u64> {
    certificate_pem.lines().find_map(|line| line.strip_prefix(EXPIRES)?.trim().parse().ok())
}

fn make(hosts: &[String], now: u64) -> Result<(String, Zeroizing<String>), rcgen::Error> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
    names.extend(hosts.iter().filter(|host| !names.contains(host)).cloned().collect::<Vec<_>>());
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "channeld");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    // A day back, for clocks that are a little behind.
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(DAY));
    params.not_after = epoch + Duration::from_secs(now + LIFETIME);
    let certificate = params.self_signed(&key)?;
    let text = format!("{EXPIRES}{}\n{}", now + LIFETIME, certificate.pem());
    Ok((text, Zeroizing::new(key.serialize_pem())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_certificate_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = Certificate::open(folder.path(), &[]).unwrap();
        let second = Certificate::open(folder.path(), &[]).unwrap();
        assert_eq!(first.fingerprint(), second.fingerprint());
        assert_eq!(first.fingerprint().len(), 64);
        assert!(!first.renew().unwrap());
        let mode = fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    fn let_expire(folder: &Path) {
        let path = folder.join(CERTIFICATE_FILE);
        let text = fs::read_to_string(&path).unwrap();
        let expires = expiry(&text).unwrap().to_string();
        fs::write(&path, text.replace(&expires, &(now() + DAY).to_string())).unwrap();
    }

    #[test]
    fn a_certificate_is_made_anew_before_it_expires_while_it_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let certificate = Certificate::open(folder.path(), &[]).unwrap();
        let first = certificate.fingerprint();
        let_expire(folder.path());
        assert!(certificate.renew().unwrap());
        assert_ne!(certificate.fingerprint(), first);
        assert_eq!(Certificate::open(folder.path(), &[]).unwrap().fingerprint(), certificate.fingerprint());
    }

    #[test]
    fn a_key_of_another_certificate_is_ours_to_mend_and_the_operators_to_know() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let certificate = Certificate::open(folder.path(), &[]).unwrap();
        Certificate::open(other.path(), &[]).unwrap();
        fs::copy(other.path().join(KEY_FILE), folder.path().join(KEY_FILE)).unwrap();
        assert!(certificate.renew().unwrap(), "it is made anew");
        fs::copy(other.path().join(KEY_FILE), folder.path().join(KEY_FILE)).unwrap();
        let path = folder.path().join(CERTIFICATE_FILE);
        let own: Vec<String> = fs::read_to_string(&path).unwrap().lines().skip(1).map(String::from).collect();
        fs::write(&path, own.join("\n")).unwrap();
        let error = certificate.renew().unwrap_err().to_string();
        assert!(error.contains("tls.key"), "{error}");
    }

    #[test]
    fn what_is_no_certificate_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(CERTIFICATE_FILE), "nothing").unwrap();
        fs::write(folder.path().join(KEY_FILE), "nothing").unwrap();
        assert!(Certificate::open(folder.path(), &[]).is_err());
    }
}
