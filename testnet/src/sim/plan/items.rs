//! A plan as a list of faults that can be left out one by one: what shrinking a failure works on.

use std::collections::BTreeSet;

use quorate_crypto::ReplicaId;

use super::{FAIR_WEATHER, Garbling, Plan};

/// One planned fault.
#[derive(Debug, Clone, Copy)]
enum Item {
    Breakage(usize),
    Liar(ReplicaId),
    FaultyClient(usize),
    Clock(usize),
    Weather,
    LinkWeather,
    Garbling,
    DeathsInRecovery,
    Skews,
}

impl Plan {
    fn items(&self) -> Vec<Item> {
        let mut items: Vec<Item> = (0..self.breakages.len()).map(Item::Breakage).collect();
        items.extend(self.liars.keys().map(|id| Item::Liar(*id)));
        items.extend((0..self.faulty_clients.len()).map(Item::FaultyClient));
        items.extend(self.clocks.keys().map(|replica| Item::Clock(*replica)));
        items.push(Item::Weather);
        items.extend((!self.link_weather.is_empty()).then_some(Item::LinkWeather));
        items.extend((self.garbling != Garbling::default()).then_some(Item::Garbling));
        items.extend(self.dies_in_recovery.then_some(Item::DeathsInRecovery));
        items.extend(self.skews.iter().any(|skew| *skew != 0).then_some(Item::Skews));
        items
    }

    /// Everything that is planned to go wrong, a line each. The place in the list is the fault's number.
    pub(in crate::sim) fn planned(&self) -> Vec<String> {
        let describe = |item: Item| match item {
            Item::Breakage(index) => {
                let (at, breakage) = &self.breakages[index];
                format!("at {:.3} s {breakage:?}", *at as f64 / 1e6)
            }
            Item::Liar(id) => {
                let behaviours = self.liars[&id].iter();
                let behaviours: Vec<String> =
                    behaviours.map(|one| format!("{} {:?} until {:?}", one.behaviour, one.when, one.until)).collect();
                format!("replica {id} lies: {}", behaviours.join(", "))
            }
            Item::FaultyClient(index) => format!("a client misbehaves: {}", self.faulty_clients[index]),
            Item::Clock(replica) => format!("clock of replica {replica}: {:?}", self.clocks[&replica]),
            Item::Weather => format!("{:?}", self.weather),
            Item::LinkWeather => format!("weather of {} links of its own", self.link_weather.len()),
            Item::Garbling => format!("{:?}", self.garbling),
            Item::DeathsInRecovery => "processes die while they recover".to_owned(),
            Item::Skews => format!("clocks off by milliseconds {:?}", self.skews),
        };
        self.items().into_iter().map(describe).collect()
    }

    /// Takes the faults of these numbers out of the plan.
    pub(in crate::sim) fn leave_out(&mut self, numbers: &BTreeSet<usize>) {
        let items = self.items();
        let (mut breakages, mut clients) = (BTreeSet::new(), BTreeSet::new());
        for item in items.into_iter().enumerate().filter(|(number, _)| numbers.contains(number)).map(|(_, item)| item) {
            match item {
                Item::Breakage(index) => {
                    breakages.insert(index);
                }
                Item::Liar(id) => {
                    self.liars.remove(&id);
                }
                Item::FaultyClient(index) => {
                    clients.insert(index);
                }
                Item::Clock(replica) => {
                    self.clocks.remove(&replica);
                }
                Item::Weather => self.weather = FAIR_WEATHER,
                Item::LinkWeather => self.link_weather.clear(),
                Item::Garbling => self.garbling = Garbling::default(),
                Item::DeathsInRecovery => self.dies_in_recovery = false,
                Item::Skews => self.skews.fill(0),
            }
        }
        keep_but(&mut self.breakages, &breakages);
        keep_but(&mut self.faulty_clients, &clients);
    }
}

/// Takes what stands at these places out of a list.
fn keep_but<T>(list: &mut Vec<T>, places: &BTreeSet<usize>) {
    let mut place = 0;
    list.retain(|_| {
        place += 1;
        !places.contains(&(place - 1))
    });
}
