//! Every interleaving of small worlds. The larger ones take minutes and 2 GiB, are cut off where they are too large, and need an optimised build:
//! `cargo test --release -p maniple-slot-model --features model-large --test explore`.

use maniple_slot_model::setup::Setup;
use stateright::{Checker, Model};

/// The nearest so many states of a world are explored, about 1 KiB of memory each: no exploration may starve the machine.
const MOST_STATES: usize = 1_200_000;

/// Explores `setup`, all of it up to [`MOST_STATES`]; at least `least` states, or a fault was never reached.
fn explore(name: &str, setup: Setup, least: usize) {
    let checker = setup
        .checker()
        .threads(2)
        .target_state_count(MOST_STATES)
        .spawn_bfs()
        .join();
    let states = checker.unique_state_count();
    println!("{name}: {states} states");
    if let Some((property, path)) = checker.discoveries().into_iter().next() {
        panic!("{name}: {property} broken after {:?}", path.into_actions());
    }
    assert!(states >= least, "{name}: only {states} states");
}

#[test]
fn slots_move_and_clients_leave() {
    let setup = Setup {
        arrivals: [1, 2, 0, 0],
        idle_returns: 1,
        cancels: 1,
        ..Setup::default()
    };
    explore("idle return, cancel", setup, 10_000);
}

#[test]
fn a_stream_breaks() {
    explore(
        "cut",
        Setup {
            cuts: 1,
            arrivals: [1, 2, 0, 0],
            ..Setup::default()
        },
        5_000,
    );
}

#[test]
fn a_front_end_dies_with_bytes_on_the_wire() {
    explore(
        "front end crash, wire",
        Setup {
            front_end_crashes: 1,
            wire: true,
            ..Setup::default()
        },
        2_000,
    );
}

#[test]
fn the_data_role_is_deposed() {
    let setup = Setup {
        front_ends: 1,
        data_roles: 2,
        depositions: 1,
        arrivals: [2, 0, 0, 0],
        ..Setup::default()
    };
    explore("deposed", setup, 300);
}

#[test]
fn a_new_instance_and_a_deposed_data_role() {
    let setup = Setup {
        front_ends: 1,
        data_roles: 2,
        instances: 0,
        late_instances: 1,
        depositions: 1,
        arrivals: [2, 0, 0, 0],
        ..Setup::default()
    };
    explore("late instance, deposed", setup, 300);
}

#[test]
fn an_instance_is_removed() {
    let setup = Setup {
        instances: 2,
        removals: 1,
        ..Setup::default()
    };
    explore("removal of one of two", setup, 5_000);
}

#[test]
fn the_cap_changes() {
    explore(
        "cap 1 to 2",
        Setup {
            new_cap: Some(2),
            ..Setup::default()
        },
        3_000,
    );
    explore(
        "cap 2 to 1",
        Setup {
            front_ends: 1,
            cap: 2,
            new_cap: Some(1),
            arrivals: [3, 0, 0, 0],
            ..Setup::default()
        },
        100,
    );
}

#[test]
fn a_front_end_leaves() {
    explore(
        "leave",
        Setup {
            leaves: 1,
            arrivals: [1, 2, 0, 0],
            ..Setup::default()
        },
        500,
    );
}

#[cfg(feature = "model-large")]
mod large {
    use super::*;

    #[test]
    fn a_lowered_cap_and_two_front_ends() {
        let setup = Setup {
            cap: 2,
            new_cap: Some(1),
            arrivals: [2, 1, 0, 0],
            ..Setup::default()
        };
        explore("cap 2 to 1, 2 front ends", setup, 50_000);
    }

    #[test]
    fn two_cuts() {
        explore(
            "2 cuts",
            Setup {
                cuts: 2,
                ..Setup::default()
            },
            50_000,
        );
    }

    #[test]
    fn a_data_role_dies_or_is_deposed() {
        let setup = Setup {
            data_roles: 2,
            data_role_crashes: 1,
            ..Setup::default()
        };
        explore("data role crash", setup, 5_000);
        let setup = Setup {
            data_roles: 2,
            depositions: 1,
            ..Setup::default()
        };
        explore("deposed", setup, 50_000);
        explore(
            "deposed, cap 2",
            Setup {
                cap: 2,
                arrivals: [2, 1, 0, 0],
                ..setup
            },
            50_000,
        );
    }

    #[test]
    fn a_front_end_joins_while_the_data_role_is_deposed() {
        let setup = Setup {
            front_ends: 1,
            joins: 1,
            data_roles: 2,
            depositions: 1,
            ..Setup::default()
        };
        explore("join, deposed", setup, 50_000);
    }

    #[test]
    fn a_new_instance_two_front_ends_and_a_deposed_data_role() {
        let setup = Setup {
            data_roles: 2,
            instances: 0,
            late_instances: 1,
            depositions: 1,
            ..Setup::default()
        };
        explore("late instance, 2 front ends, deposed", setup, 50_000);
    }

    #[test]
    fn a_removal_while_the_data_role_is_deposed() {
        let setup = Setup {
            front_ends: 1,
            data_roles: 2,
            depositions: 1,
            removals: 1,
            arrivals: [2, 0, 0, 0],
            ..Setup::default()
        };
        explore("removal, deposed", setup, 5_000);
    }

    #[test]
    fn front_end_and_data_role_die() {
        let setup = Setup {
            data_roles: 2,
            front_end_crashes: 1,
            data_role_crashes: 1,
            ..Setup::default()
        };
        explore("front end and data role crash", setup, 50_000);
    }
}
