//! Random walks through worlds that are too large to be explored.

use maniple_core::slots::pool::SlotPool;
use maniple_slot_model::{
    action::Action,
    checker::walk,
    setup::{Setup, Wrong},
    world::{World, group},
};

fn many(setup: &Setup, seeds: u64, steps: usize) {
    for seed in 0..seeds {
        if let Err(broken) = walk(setup, seed, steps) {
            panic!("{broken}");
        }
    }
}

#[test]
fn three_front_ends_with_every_fault() {
    many(
        &Setup {
            front_ends: 3,
            joins: 1,
            data_roles: 2,
            instances: 2,
            late_instances: 1,
            cap: 3,
            arrivals: [12, 9, 5, 4],
            idle_returns: 6,
            cancels: 4,
            cuts: 5,
            front_end_crashes: 1,
            data_role_crashes: 2,
            depositions: 2,
            removals: 1,
            new_cap: Some(2),
            duplicates: 4,
            leaves: 1,
            wire: true,
            ahead_percent: 25,
            wrong: None,
        },
        300,
        300,
    );
}

#[test]
fn scarce_slots_move_between_front_ends() {
    many(
        &Setup {
            front_ends: 4,
            cap: 1,
            arrivals: [9, 9, 9, 9],
            cuts: 3,
            duplicates: 2,
            ..Setup::default()
        },
        200,
        200,
    );
}

#[test]
fn endless_traffic_elsewhere_delays_a_waiter_by_a_bounded_number_of_requests() {
    for seed in 0..50 {
        let setup = Setup {
            front_ends: 3,
            arrivals: [200, 200, 1, 0],
            ..Setup::default()
        };
        let served = served_before(&setup, seed, 2);
        // Two others, each with a request running and one turn before its slot comes back, and what they finish while messages are under way.
        assert!(
            served <= 12,
            "seed {seed}: {served} requests of others first"
        );
    }
}

#[test]
fn without_turns_endless_traffic_elsewhere_starves_a_waiter() {
    let setup = Setup {
        front_ends: 2,
        arrivals: [100, 1, 0, 0],
        wrong: Some(Wrong::NoMust),
        ..Setup::default()
    };
    let served: Vec<_> = (0..10).map(|seed| served_before(&setup, seed, 1)).collect();
    assert!(served.iter().any(|n| *n >= 60), "{served:?}");
}

/// Requests of others that complete between the arrival at `starved` and its start, while the others always have one more waiting.
fn served_before(setup: &Setup, seed: u64, starved: usize) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::new(setup);
    let mut arrived = false;
    let mut served = 0;
    for step in 0..10_000 {
        for fe in (0..setup.front_ends).filter(|fe| *fe != starved) {
            while world.fes[fe].arrivals > 0 && world.fes[fe].pool.waiting(&group()) < 2 {
                world.step(setup, Action::Arrive(fe));
            }
        }
        if step == 40 {
            world.step(setup, Action::Arrive(starved));
            arrived = true;
        }
        if arrived && world.fes[starved].pool.waiting(&group()) == 0 {
            return served;
        }
        let progress = world.progress(setup);
        // Messages are quicker than requests.
        let quick: Vec<_> = progress
            .iter()
            .filter(|a| !matches!(a, Action::Complete(..)))
            .copied()
            .collect();
        let from = if quick.is_empty() || random.u8(..8) == 0 {
            &progress
        } else {
            &quick
        };
        let Some(action) = random.choice(from) else {
            break;
        };
        served += usize::from(arrived && matches!(action, Action::Complete(..)));
        world.step(setup, *action);
    }
    served
}
