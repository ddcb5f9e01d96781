use super::*;

#[test]
fn a_raw_public_key_reads_back_and_nothing_else_does() {
    let key = TransportKey::from_seed(&[7; 32]).public_key();
    let spki = raw_public_key(&key);
    assert_eq!(public_key_in(&spki), Some(key));
    for cut in 0..spki.len() {
        assert_eq!(public_key_in(&spki[..cut]), None, "cut at {cut}");
    }
    let mut longer = spki.clone();
    longer.push(0);
    assert_eq!(public_key_in(&longer), None);
    for place in 0..SPKI_PREFIX.len() {
        let mut changed = spki.clone();
        changed[place] ^= 1;
        assert_eq!(public_key_in(&changed), None, "changed at {place}");
    }
}

#[test]
fn the_tls_key_is_the_transport_key() {
    let key = TransportKey::from_seed(&[9; 32]);
    let certified = key.certified_key().expect("an ed25519 key");
    assert_eq!(certified.key.algorithm(), rustls::SignatureAlgorithm::ED25519);
    assert_eq!(certified.key.public_key().expect("known").as_ref(), raw_public_key(&key.public_key()));
}

#[test]
fn derived_keys_survive_a_restart_and_differ_by_port() {
    let (first, second) = (TransportKey::from_seed(&[1; 32]), TransportKey::from_seed(&[1; 32]));
    assert_eq!(first.connection_id_key("peer"), second.connection_id_key("peer"));
    assert_ne!(first.connection_id_key("peer"), first.connection_id_key("client"));
    let sign = |key: &TransportKey| hmac::sign(&key.reset_key("peer"), b"id").as_ref().to_vec();
    assert_eq!(sign(&first), sign(&second));
    assert_ne!(sign(&first), sign(&TransportKey::from_seed(&[2; 32])));
}
