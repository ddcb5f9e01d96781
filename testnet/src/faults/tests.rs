use super::*;

#[test]
fn every_behaviour_is_found_by_its_name() {
    for (behaviour, name, line) in CATALOGUE {
        assert_eq!(name.parse::<Behaviour>(), Ok(*behaviour));
        assert_eq!(behaviour.name(), *name);
        assert!(!line.is_empty());
    }
    assert!("honest-to-god".parse::<Behaviour>().is_err());
}

#[test]
fn a_switch_is_turned_through_any_of_its_clones() {
    let switch = Switch::honest();
    let hand = switch.clone();
    assert!(switch.is_honest());
    hand.set(vec![Misbehaviour::always(Behaviour::Silent)]);
    assert!(!switch.is_honest());
    hand.set(Vec::new());
    assert!(switch.is_honest());
}
