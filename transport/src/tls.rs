//! TLS 1.3 with raw public keys (RFC 7250): ed25519 only, both sides prove their key, nothing is resumed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::version::TLS13;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use quorate_crypto::{ClusterId, PublicKey, ReplicaId};

use crate::error::StartError;
use crate::key::{TransportKey, public_key_in};

/// Version of everything above QUIC: stream headers, classes, frames. Part of the ALPN name.
const WIRE_VERSION: u32 = 1;

/// Which of a replica's two ports: each has its own ALPN name, so that a link for one is never taken for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Peer,
    Client,
}

impl Port {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Port::Peer => "peer",
            Port::Client => "client",
        }
    }

    /// The ALPN name, such as `quorate-peer/1/3f9ac2...` with the first eight bytes of the cluster id. The full id is
    /// in every signed statement; here it keeps the links of neighbouring clusters apart.
    fn protocol(self, cluster: &ClusterId) -> Vec<u8> {
        let id = cluster.0.to_hex();
        format!("quorate-{}/{WIRE_VERSION}/{}", self.name(), &id[..16]).into_bytes()
    }
}

/// The members whose keys a peer port accepts. Identity on an accepted link comes from here and nowhere else.
#[derive(Default)]
pub(crate) struct Members(RwLock<BTreeMap<PublicKey, ReplicaId>>);

impl Members {
    pub(crate) fn new(members: BTreeMap<PublicKey, ReplicaId>) -> Members {
        Members(RwLock::new(members))
    }

    pub(crate) fn id_of(&self, key: &PublicKey) -> Option<ReplicaId> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    pub(crate) fn remove(&self, id: ReplicaId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|_, member| *member != id);
    }
}

/// Whose connections a port lets through TLS.
#[derive(Clone)]
pub(crate) enum Accepted {
    /// Members only: a stranger fails in the handshake.
    Members(Arc<Members>),
    /// Any well-formed key, proven: what it may do is decided after the handshake, so that a refused client can be
    /// told why.
    AnyKey,
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accepted::Members(_) => "members",
            Accepted::AnyKey => "any key",
        })
    }
}

/// ring, cut down to one signature scheme, one key exchange and the suites QUIC needs.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let provider = PROVIDER.get_or_init(|| {
        use rustls::crypto::ring;
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
                ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            ],
            kx_groups: vec![ring::kx_group::X25519],
            ..ring::default_provider()
        })
    });
    Arc::clone(provider)
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

/// The server side of `port`.
pub(crate) fn server_config(
    port: Port,
    key: &TransportKey,
    cluster: &ClusterId,
    accepted: Accepted,
) -> Result<Arc<QuicServerConfig>, StartError> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(StartError::Tls)?
        .with_client_cert_verifier(Arc::new(ClientKeyVerifier { accepted }))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key.certified_key()?)));
    config.alpn_protocols = vec![port.protocol(cluster)];
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    let config =
        QuicServerConfig::try_from(config).map_err(|error| StartError::Tls(Error::General(error.to_string())))?;
    Ok(Arc::new(config))
}

/// The dialling side of `port`, towards the replica that holds `pinned`.
pub(crate) fn client_config(
    port: Port,
    key: &TransportKey,
    cluster: &ClusterId,
    pinned: PublicKey,
) -> Result<Arc<QuicClientConfig>, StartError> {
    let mut config = pinning_config(key, pinned)?;
    config.alpn_protocols = vec![port.protocol(cluster)];
    let config =
        QuicClientConfig::try_from(config).map_err(|error| StartError::Tls(Error::General(error.to_string())))?;
    Ok(Arc::new(config))
}

/// All of a dialler's TLS but the name of the protocol.
fn pinning_config(key: &TransportKey, pinned: PublicKey) -> Result<rustls::ClientConfig, StartError> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(StartError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedKeyVerifier { pinned }))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key.certified_key()?)));
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    Ok(config)
}

/// The key that the other side of an established connection has proven.
pub(crate) fn proven_key(connection: &quinn::Connection) -> Option<PublicKey> {
    let identity = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    match identity.as_slice() {
        [spki] => public_key_in(spki),
        _ => None,
    }
}

/// Exactly one ed25519 key, and no chain.
fn presented_key(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<PublicKey, Error> {
    match public_key_in(end_entity) {
        Some(key) if intermediates.is_empty() => Ok(key),
        _ => Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
    }
}

fn refused() -> Error {
    Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
}

/// The signature over the handshake transcript (RFC 8446, section 4.4.3): the proof that the presented key is held.
fn verify_transcript(
    message: &[u8],
    end_entity: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    if signature.scheme != SignatureScheme::ED25519 {
        return Err(rustls::PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    }
    let spki = SubjectPublicKeyInfoDer::from(end_entity.as_ref());
    verify_tls13_signature_with_raw_key(message, &spki, signature, &algorithms())
}

fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not spoken here".to_owned())
}

/// Accepts one key: that of the replica that was dialled.
#[derive(Debug)]
struct PinnedKeyVerifier {
    pinned: PublicKey,
}

impl ServerCertVerifier for PinnedKeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if presented_key(end_entity, intermediates)? == self.pinned {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(refused())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_transcript(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Accepts the keys of the members, or any, but always only with its proof.
#[derive(Debug)]
struct ClientKeyVerifier {
    accepted: Accepted,
}

impl ClientCertVerifier for ClientKeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let key = presented_key(end_entity, intermediates)?;
        let accepted = match &self.accepted {
            Accepted::Members(members) => members.id_of(&key).is_some(),
            Accepted::AnyKey => key.is_acceptable(),
        };
        if accepted { Ok(ClientCertVerified::assertion()) } else { Err(refused()) }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_transcript(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use tests::{
    NoKey, bare_client_config, borrowed_identity, impostor_config, impostor_with, other_kind_of_key,
};
