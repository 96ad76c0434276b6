//! Certificates and keys in files, and what they make of a side. Read anew when the files change.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ALL_VERSIONS, ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::config::{ClientCert, TlsVersion};

/// What a listener shows and asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// Its certificate, then those that lead to its CA; PEM.
    pub cert: PathBuf,
    /// The private key; PEM.
    pub key: PathBuf,
    /// The CAs of clients' certificates; PEM.
    pub client_ca: Option<PathBuf>,
    /// Who must show one.
    pub client_cert: ClientCert,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// What a store must show, and what is shown to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// The CAs of the store's certificate; PEM. `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// The proxy's own certificate and key; PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// When files were last changed, as far as their metadata tell.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp(Vec<Option<(u64, SystemTime, u64)>>);

/// A set of files of which something is made.
pub trait Files: Clone + PartialEq {
    /// The files.
    fn paths(&self) -> Vec<&Path>;
}

/// What was made of files, until they change.
#[derive(Debug)]
pub struct Kept<F, T>(Mutex<Option<Made<F, T>>>);

#[derive(Debug)]
struct Made<F, T> {
    files: F,
    stamp: Stamp,
    outcome: Result<Arc<T>, String>,
}

static ONLY_13: [&SupportedProtocolVersion; 1] = [&TLS13];

fn versions(least: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match least {
        TlsVersion::V12 => ALL_VERSIONS,
        TlsVersion::V13 => &ONLY_13,
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn failed<'a, E: Display>(path: &'a Path) -> impl Fn(E) -> String + 'a {
    move |error| format!("{}: {error}", path.display())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(failed(path))?.collect();
    match all.map_err(failed(path))? {
        none if none.is_empty() => Err(format!("{}: no certificate stands there", path.display())),
        some => Ok(some),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    // The texts of this error never quote the file.
    PrivateKeyDer::from_pem_file(path).map_err(failed(path))
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(failed(path))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    match added {
        0 => Err("the system has no CA certificates; name a file of them (tls_ca)".to_owned()),
        _ => Ok(roots),
    }
}

// === impl ServerFiles ===

impl ServerFiles {
    /// What a listener needs to shake hands.
    pub fn load(&self) -> Result<Arc<ServerConfig>, String> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(self.min_version))
            .map_err(|error| error.to_string())?;
        let builder = match self.verifier()? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(certificates(&self.cert)?, key(&self.key)?)
            .map_err(|error| format!("{} and {}: {error}", self.cert.display(), self.key.display()))?;
        if self.client_cert != ClientCert::None {
            // A session that is resumed shows no certificate: it would outlive the one that it began with.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Arc::new(config))
    }

    fn verifier(&self) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
        let Some(path) = self.client_ca.as_ref().filter(|_| self.client_cert != ClientCert::None) else {
            return Ok(None);
        };
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider());
        let builder = match self.client_cert {
            ClientCert::Required => builder,
            ClientCert::Optional | ClientCert::None => builder.allow_unauthenticated(),
        };
        builder.build().map(Some).map_err(failed(path))
    }
}

impl Files for ServerFiles {
    fn paths(&self) -> Vec<&Path> {
        let all = [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()];
        all.into_iter().flatten().map(PathBuf::as_path).collect()
    }
}

// === impl ClientFiles ===

impl ClientFiles {
    /// What a connection to a store needs to shake hands.
    pub fn load(&self) -> Result<Arc<ClientConfig>, String> {
        let roots = match &self.ca {
            Some(path) => roots(path)?,
            None => system_roots()?,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(self.min_version))
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((cert, private)) => builder
                .with_client_auth_cert(certificates(cert)?, key(private)?)
                .map_err(|error| format!("{} and {}: {error}", cert.display(), private.display()))?,
        };
        Ok(Arc::new(config))
    }
}

impl Files for ClientFiles {
    fn paths(&self) -> Vec<&Path> {
        let identity = self.identity.iter().flat_map(|(cert, key)| [cert.as_path(), key.as_path()]);
        self.ca.iter().map(PathBuf::as_path).chain(identity).collect()
    }
}

// === impl Stamp ===

impl Stamp {
    fn of(paths: &[&Path]) -> Stamp {
        use std::os::unix::fs::MetadataExt;
        let one = |path: &&Path| -> io::Result<(u64, SystemTime, u64)> {
            let metadata = std::fs::metadata(path)?;
            Ok((metadata.ino(), metadata.modified()?, metadata.len()))
        };
        Stamp(paths.iter().map(|path| one(path).ok()).collect())
    }
}

// === impl Kept ===

impl<F, T> Default for Kept<F, T> {
    fn default() -> Kept<F, T> {
        Kept(Mutex::new(None))
    }
}

impl<F: Files, T> Kept<F, T> {
    /// What `files` make; made anew only when they have changed since, failures included.
    pub fn get(&self, files: &F, make: impl FnOnce() -> Result<Arc<T>, String>) -> Result<Arc<T>, String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = Stamp::of(&files.paths());
        match &*kept {
            Some(made) if made.files == *files && made.stamp == stamp => made.outcome.clone(),
            _ => {
                let outcome = make();
                *kept = Some(Made { files: files.clone(), stamp, outcome: outcome.clone() });
                outcome
            }
        }
    }
}
