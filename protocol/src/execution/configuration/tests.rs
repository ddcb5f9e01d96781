use quorate_crypto::{SecretKey, Signer as _};

use super::*;
use crate::execution::tests::hex;

fn key(fill: u8) -> PublicKey {
    SecretKey::from_seed(&[fill; 32]).public_key()
}

fn configuration() -> Configuration {
    let parameters = ExecutionParameters {
        request_lifetime_max: 1,
        sessions_per_client: 0,
        session_courtesy: 3,
        reply_cache_bytes: 4,
    };
    Configuration::new(&InitialConfiguration {
        clients: vec![key(1), key(2)],
        admins: vec![key(2), key(3)],
        parameters,
    })
}

fn permissions(configuration: &Configuration) -> Vec<Option<Permission>> {
    (1..=4).map(|fill| configuration.client(&key(fill)).map(|client| client.permission)).collect()
}

#[test]
fn clients_come_and_go_and_admins_stay() {
    use ConfigurationResult::{AdminKeysAreFixed, NotRegistered, Registered, Removed, UnacceptableKey};
    use Permission::{Admin, Read, Write};
    let mut configuration = configuration();
    assert_eq!(configuration.parameters().sessions_per_client, 1, "at least one");
    assert_eq!(permissions(&configuration), [Some(Write), Some(Admin), Some(Admin), None]);
    let add = |fill, permission| ConfigurationOperation::AddClient { key: key(fill), permission };
    let remove = |fill| ConfigurationOperation::RemoveClient { key: key(fill) };
    let steps = [
        (add(4, Write), Registered(Write)),
        (add(4, Read), Registered(Read)),
        (remove(1), Removed),
        (remove(1), NotRegistered),
        (add(1, Admin), AdminKeysAreFixed),
        (add(2, Read), AdminKeysAreFixed),
        (remove(3), AdminKeysAreFixed),
        (ConfigurationOperation::AddClient { key: PublicKey([0; 32]), permission: Write }, UnacceptableKey),
    ];
    for (operation, expected) in steps {
        let bytes = operation.to_bytes();
        assert_eq!(ConfigurationOperation::from_bytes(&bytes), Some(operation.clone()));
        assert_eq!(ConfigurationOperation::from_bytes(&bytes[..bytes.len() - 1]), None);
        assert_eq!(configuration.execute(&operation, Seq(9)), Some(expected));
        assert_eq!(configuration.clients, configuration.clients().count());
    }
    assert_eq!(permissions(&configuration), [None, Some(Admin), Some(Admin), Some(Read)]);
    assert_eq!(configuration.client(&key(4)), Some(ClientRecord { permission: Read, since: Seq(9) }));
    let restored = Configuration::restore(configuration.table()).expect("restores");
    assert_eq!(restored.clients, 3);
    assert_eq!(restored.parameters(), configuration.parameters());
}

#[test]
fn the_number_of_keys_is_capped() {
    let mut configuration = configuration();
    configuration.clients = CLIENTS_MAX;
    let add = |fill| ConfigurationOperation::AddClient { key: key(fill), permission: Permission::Write };
    assert_eq!(configuration.execute(&add(4), Seq(1)), Some(ConfigurationResult::TooManyClients));
    let known = ConfigurationOperation::AddClient { key: key(1), permission: Permission::Read };
    assert_eq!(configuration.execute(&known, Seq(1)), Some(ConfigurationResult::Registered(Permission::Read)));
}

#[test]
fn bytes_are_pinned() {
    let add = ConfigurationOperation::AddClient { key: PublicKey([7; 32]), permission: Permission::Read };
    assert_eq!(hex(&add.to_bytes()), format!("00000000{}00000000", "07".repeat(32)));
    let remove = ConfigurationOperation::RemoveClient { key: PublicKey([7; 32]) };
    assert_eq!(hex(&remove.to_bytes()), format!("00000001{}", "07".repeat(32)));
    let configuration = configuration();
    let parameters = configuration.table().get(PARAMETERS_KEY).expect("parameters");
    assert_eq!(hex(parameters), "0000000000000001000000000000000100000000000000030000000000000004");
    let client = configuration.table().get(&client_key(&key(3))).expect("client");
    assert_eq!(hex(client), "000000020000000000000000");
}
