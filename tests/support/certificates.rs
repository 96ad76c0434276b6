//! A certificate authority of a test's own.

use super::TempDir;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Signs certificates and keeps them as files. Gone when dropped.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

/// The files of one certificate.
pub struct Identity {
    /// The certificate.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

// === impl Authority ===

impl Authority {
    /// An authority that nobody knows yet.
    pub fn new() -> Authority {
        // Names tell authorities apart, also to those who look for the issuer of a certificate.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let dir = TempDir::new();
        std::fs::write(dir.join("ca.pem"), issuer.pem()).expect("write a certificate");
        Authority { issuer, dir }
    }

    /// Its own certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A certificate for these names, in files called `name`. Existing ones are replaced, the key first.
    pub fn sign(&self, name: &str, names: &[&str]) -> Identity {
        self.sign_with(name, names, |_| ())
    }

    /// The same, with something about it changed.
    pub fn sign_with(
        &self,
        name: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(names).expect("valid names");
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let files = Identity {
            cert: self.dir.join(&format!("{name}.pem")),
            key: self.dir.join(&format!("{name}.key")),
        };
        std::fs::write(&files.key, key.serialize_pem()).expect("write a key");
        std::fs::write(&files.cert, cert.pem()).expect("write a certificate");
        files
    }

    /// What a client needs that trusts this authority, and shows `identity`.
    pub fn client(&self, identity: Option<&Identity>) -> Arc<rustls::ClientConfig> {
        self.client_speaking(identity, rustls::ALL_VERSIONS)
    }

    /// The same, speaking these versions only.
    pub fn client_speaking(
        &self,
        identity: Option<&Identity>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a valid root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions that exist")
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let chain = CertificateDer::pem_file_iter(&files.cert).expect("a file");
                let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
                let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("a matching key")
            }
        };
        Arc::new(config)
    }
}
