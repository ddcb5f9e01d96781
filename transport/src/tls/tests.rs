use quorate_crypto::Digest;

use super::*;
use crate::key::raw_public_key;

/// The TLS of a dialler, for tests that then break it.
pub(crate) fn bare_client_config(key: &TransportKey, pinned: PublicKey) -> rustls::ClientConfig {
    pinning_config(key, pinned).expect("a key")
}

/// A dialler that proves no key.
#[derive(Debug)]
pub(crate) struct NoKey;

impl rustls::client::ResolvesClientCert for NoKey {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// Shows one key and signs with another.
pub(crate) fn borrowed_identity(shown: &PublicKey, held: &TransportKey) -> AlwaysResolvesClientRawPublicKeys {
    let signing_key = Arc::clone(&held.certified_key().expect("a key").key);
    let shown = CertificateDer::from(raw_public_key(shown));
    AlwaysResolvesClientRawPublicKeys::new(Arc::new(rustls::sign::CertifiedKey::new(vec![shown], signing_key)))
}

/// The TLS of a replica that shows one key and signs with another.
pub(crate) fn impostor_config(shown: &PublicKey, held: &TransportKey, name: &[u8]) -> Arc<QuicServerConfig> {
    let signing_key = Arc::clone(&held.certified_key().expect("a key").key);
    impostor_with(CertificateDer::from(raw_public_key(shown)), signing_key, name)
}

/// The TLS of a replica with any identity and key.
pub(crate) fn impostor_with(
    shown: CertificateDer<'static>,
    held: Arc<dyn rustls::sign::SigningKey>,
    name: &[u8],
) -> Arc<QuicServerConfig> {
    let identity = Arc::new(rustls::sign::CertifiedKey::new(vec![shown], held));
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(Arc::new(ClientKeyVerifier { accepted: Accepted::AnyKey }))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(identity)));
    config.alpn_protocols = vec![name.to_vec()];
    Arc::new(QuicServerConfig::try_from(config).expect("TLS 1.3"))
}

/// A P-256 key and its SubjectPublicKeyInfo.
pub(crate) fn other_kind_of_key() -> (CertificateDer<'static>, Arc<dyn rustls::sign::SigningKey>) {
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    let random = ring::rand::SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("a key");
    let document = rustls::pki_types::PrivatePkcs8KeyDer::from(document.as_ref());
    let key = rustls::crypto::ring::sign::any_ecdsa_type(&document.into()).expect("a key");
    (CertificateDer::from(key.public_key().expect("known").to_vec()), key)
}

fn identity(seed: u8) -> CertificateDer<'static> {
    CertificateDer::from(raw_public_key(&TransportKey::from_seed(&[seed; 32]).public_key()))
}

fn name() -> ServerName<'static> {
    ServerName::try_from("replica").expect("a name")
}

#[test]
fn the_alpn_name_binds_port_version_and_cluster() {
    let cluster = ClusterId(Digest([0xab; 32]));
    assert_eq!(Port::Peer.protocol(&cluster), b"quorate-peer/1/abababababababab");
    assert_eq!(Port::Client.protocol(&cluster), b"quorate-client/1/abababababababab");
}

#[test]
fn only_the_pinned_key_passes_for_the_dialled_replica() {
    let verifier = PinnedKeyVerifier { pinned: TransportKey::from_seed(&[1; 32]).public_key() };
    let check = |end: &CertificateDer<'_>, chain: &[CertificateDer<'_>]| {
        verifier.verify_server_cert(end, chain, &name(), &[], UnixTime::now())
    };
    assert!(check(&identity(1), &[]).is_ok());
    assert_eq!(check(&identity(2), &[]).unwrap_err(), refused());
    assert!(check(&identity(1), &[identity(1)]).is_err(), "a chain has no meaning here");
    assert!(check(&CertificateDer::from(vec![0x30, 0x82, 1, 2]), &[]).is_err(), "an X.509 certificate is not a key");
}

#[test]
fn only_members_pass_a_peer_port_and_a_removed_one_does_not() {
    let key = TransportKey::from_seed(&[1; 32]).public_key();
    let members = Arc::new(Members::new(BTreeMap::from([(key, ReplicaId(3))])));
    let verifier = ClientKeyVerifier { accepted: Accepted::Members(Arc::clone(&members)) };
    assert!(verifier.client_auth_mandatory());
    assert!(verifier.verify_client_cert(&identity(1), &[], UnixTime::now()).is_ok());
    assert!(verifier.verify_client_cert(&identity(2), &[], UnixTime::now()).is_err());
    members.remove(ReplicaId(3));
    assert!(verifier.verify_client_cert(&identity(1), &[], UnixTime::now()).is_err());
}

#[test]
fn a_client_port_refuses_keys_of_small_order() {
    let verifier = ClientKeyVerifier { accepted: Accepted::AnyKey };
    assert!(verifier.verify_client_cert(&identity(1), &[], UnixTime::now()).is_ok());
    let mut identity_point = [0; 32];
    identity_point[0] = 1;
    let weak = CertificateDer::from(raw_public_key(&PublicKey(identity_point)));
    assert!(verifier.verify_client_cert(&weak, &[], UnixTime::now()).is_err());
}

#[test]
fn only_ed25519_is_offered() {
    let verifier = ClientKeyVerifier { accepted: Accepted::AnyKey };
    assert_eq!(verifier.supported_verify_schemes(), [SignatureScheme::ED25519]);
    assert!(verifier.requires_raw_public_keys());
    let verifier = PinnedKeyVerifier { pinned: PublicKey([0; 32]) };
    assert_eq!(verifier.supported_verify_schemes(), [SignatureScheme::ED25519]);
    assert!(verifier.requires_raw_public_keys());
}
