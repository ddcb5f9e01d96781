use super::*;

#[test]
fn every_behaviour_is_found_by_its_name() {
    for entry in CATALOGUE {
        assert_eq!(entry.name.parse::<Behaviour>(), Ok(entry.behaviour));
        assert_eq!(entry.behaviour.name(), entry.name);
        assert!(!entry.line.is_empty());
    }
    let names: std::collections::BTreeSet<&str> = CATALOGUE.iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), CATALOGUE.len());
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
