//! The world for an exhaustive checker, and random walks through larger ones.

use stateright::{Model, Property};

use crate::{action::Action, setup::Setup, world::World};

/// Exchanges without an end count as a live-lock: no configuration here needs that many messages in one session.
const MANY: u64 = 60;

impl Model for Setup {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, state: &World, actions: &mut Vec<Action>) {
        if state.broken.is_none() {
            actions.extend(state.actions(self));
        }
    }

    fn next_state(&self, state: &World, action: Action) -> Option<World> {
        let mut next = state.clone();
        next.step(self, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("invariants", |_, world: &World| world.broken.is_none()),
            Property::always("every waiter is served", |setup: &Setup, world: &World| {
                world.unrest(setup).is_none()
            }),
            Property::always(
                "nobody waits beside an unused slot",
                |setup: &Setup, world: &World| !world.waits_beside_unused(setup),
            ),
            Property::always("no endless exchange", |_, world: &World| {
                world.longest_exchange() < MANY
            }),
        ]
    }
}

impl World {
    /// Highest message number of any session that is being followed.
    pub fn longest_exchange(&self) -> u64 {
        self.fes
            .iter()
            .map(|fe| fe.control.said())
            .max()
            .unwrap_or(0)
    }
}

/// Walks `steps` random steps from the start; the error names what broke and how.
pub fn walk(setup: &Setup, seed: u64, steps: usize) -> Result<World, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::new(setup);
    let mut trace = Vec::new();
    for _ in 0..steps {
        let progress = world.progress(setup);
        let all = world.actions(setup);
        // Mostly what happens by itself, so that faults meet worlds in full swing.
        let from = if !progress.is_empty() && random.u8(..10) < 8 {
            &progress
        } else {
            &all
        };
        let Some(action) = random.choice(from) else {
            break;
        };
        trace.push(*action);
        world.step(setup, *action);
        if let Some(broken) = world.broken {
            return Err(format!("seed {seed}: {broken} after {trace:?}"));
        }
        if world.waits_beside_unused(setup) {
            return Err(format!(
                "seed {seed}: a request waits beside an unused slot after {trace:?}"
            ));
        }
    }
    rest(setup, world, &mut random, trace, seed)
}

/// Lets everything come to rest and judges it.
fn rest(
    setup: &Setup,
    mut world: World,
    random: &mut fastrand::Rng,
    mut trace: Vec<Action>,
    seed: u64,
) -> Result<World, String> {
    for _ in 0..100_000 {
        let progress = world.progress(setup);
        let Some(action) = random.choice(&progress) else {
            return match world.unrest(setup) {
                Some(wrong) => Err(format!("seed {seed}: {wrong} after {trace:?}")),
                None => Ok(world),
            };
        };
        trace.push(*action);
        world.step(setup, *action);
        if let Some(broken) = world.broken {
            return Err(format!("seed {seed}: {broken} after {trace:?}"));
        }
    }
    Err(format!(
        "seed {seed}: no rest, at last {:?} after {:?}",
        &trace[trace.len() - 30..],
        &trace[..60]
    ))
}
