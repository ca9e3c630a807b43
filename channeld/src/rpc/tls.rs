//! The certificate of the gRPC port: an ECDSA P-256 leaf that signs itself, made at first start.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use sha2::{Digest, Sha256};
use tonic::transport::Identity as TonicIdentity;
use zeroize::Zeroizing;

/// The certificate's file in the network's folder.
pub const CERTIFICATE_FILE: &str = "tls.cert";
/// The key's file in the network's folder, for its owner alone.
pub const KEY_FILE: &str = "tls.key";

const DAY: u64 = 86_400;
/// How long a certificate is good for: what most clients accept at most.
const LIFETIME: u64 = 825 * DAY;
/// A certificate with less left is made anew at the next start.
const RENEW_BEFORE: u64 = 90 * DAY;
/// The line before the PEM block that says when the certificate expires, in seconds since 1970. A certificate without
/// that line is the operator's own and is never replaced.
const EXPIRES: &str = "Expires: ";

/// A certificate and its key.
pub struct Identity {
    certificate_pem: String,
    key_pem: Zeroizing<String>,
    fingerprint: String,
}

impl Identity {
    /// Reads the certificate of the folder, or makes one where there is none or it expires soon. `hosts` are the names
    /// and addresses that it is for, beside `localhost`, `127.0.0.1` and `::1`.
    ///
    /// # Errors
    /// As the file system has it, or where a certificate cannot be read or made.
    pub fn open(folder: &Path, hosts: &[String]) -> io::Result<Identity> {
        let (certificate, key) = (folder.join(CERTIFICATE_FILE), folder.join(KEY_FILE));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?.as_secs();
        if certificate.exists() && key.exists() {
            let certificate_pem = fs::read_to_string(&certificate)?;
            if expiry(&certificate_pem).is_none_or(|expires| expires > now + RENEW_BEFORE) {
                return Identity::from_pem(certificate_pem, Zeroizing::new(fs::read_to_string(&key)?));
            }
            tracing::info!("the TLS certificate expires soon and is made anew; its fingerprint changes");
        }
        let (certificate_pem, key_pem) = make(hosts, now).map_err(io::Error::other)?;
        write(&key, &key_pem, 0o600)?;
        write(&certificate, &certificate_pem, 0o644)?;
        Identity::from_pem(certificate_pem, key_pem)
    }

    fn from_pem(certificate_pem: String, key_pem: Zeroizing<String>) -> io::Result<Identity> {
        let unreadable = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{CERTIFICATE_FILE}: {what}"));
        let body: String = certificate_pem
            .lines()
            .skip_while(|line| !line.starts_with("-----BEGIN CERTIFICATE"))
            .skip(1)
            .take_while(|line| !line.starts_with("-----END"))
            .collect();
        let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body.trim())
            .map_err(|_| unreadable("not a PEM certificate"))?;
        if der.is_empty() {
            return Err(unreadable("holds no certificate"));
        }
        Ok(Identity { certificate_pem, key_pem, fingerprint: hex::encode(Sha256::digest(&der)) })
    }

    /// SHA-256 of the certificate, 64 hex digits: what a client pins.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// As tonic takes it.
    pub fn to_tonic(&self) -> TonicIdentity {
        TonicIdentity::from_pem(&self.certificate_pem, self.key_pem.as_bytes())
    }
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

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    if path.exists() {
        fs::remove_file(path)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_certificate_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = Identity::open(folder.path(), &[]).unwrap();
        let second = Identity::open(folder.path(), &[]).unwrap();
        assert_eq!(first.fingerprint(), second.fingerprint());
        assert_eq!(first.fingerprint().len(), 64);
        let mode = fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_certificate_is_made_anew_before_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let first = Identity::open(folder.path(), &[]).unwrap();
        let path = folder.path().join(CERTIFICATE_FILE);
        let text = fs::read_to_string(&path).unwrap();
        let expires = expiry(&text).unwrap();
        let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + DAY;
        fs::write(&path, text.replace(&expires.to_string(), &soon.to_string())).unwrap();
        assert_ne!(Identity::open(folder.path(), &[]).unwrap().fingerprint(), first.fingerprint());
    }

    #[test]
    fn what_is_no_certificate_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(CERTIFICATE_FILE), "nothing").unwrap();
        fs::write(folder.path().join(KEY_FILE), "nothing").unwrap();
        assert!(Identity::open(folder.path(), &[]).is_err());
    }
}
