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
