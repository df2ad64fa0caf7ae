//! The number of instances follows the requests that all front ends have at one moment, exactly.

mod reports;
mod town;

use std::ops::RangeInclusive;

use town::{Case, Town};

/// Longer than the decision looks back.
const SETTLED_MS: u64 = 45_000;

fn case(
    (clients, cap, front_ends): (usize, u16, usize),
    service: RangeInclusive<u64>,
    seed: u64,
) -> Case {
    Case {
        clients,
        cap,
        front_ends,
        service,
        instances: clients.div_ceil(cap.into()) + 1,
        seed,
    }
}

/// What is decided after everything has settled, in so many milliseconds.
fn decided(case: &Case, time_ms: u64) -> Vec<(u64, usize)> {
    let mut town = Town::new(case);
    town.run_for_ms(SETTLED_MS);
    let since = town.now_ms();
    town.run_for_ms(time_ms);
    assert!(town.answered > 100, "{case:?}: {}", town.answered);
    let before = town.decided.iter().rfind(|(at, _)| *at <= since);
    let after = town.decided.iter().filter(|(at, _)| *at > since);
    before.into_iter().chain(after).copied().collect()
}

#[test]
fn clients_that_move_between_front_ends_get_what_they_need_and_no_more() {
    let sizes = [
        (3, 4, 2),
        (4, 4, 3),
        (5, 4, 2),
        (24, 4, 3),
        (1, 1, 2),
        (16, 16, 5),
        (7, 3, 4),
        (12, 1, 2),
    ];
    for size in sizes {
        for seed in 0..2 {
            let case = case(size, 1..=600, seed);
            let decided = decided(&case, 60_000);
            let exact = case.clients.div_ceil(case.cap.into());
            assert!(
                matches!(decided[..], [(_, count)] if count == exact),
                "{case:?}: {decided:?}"
            );
        }
    }
}

#[test]
fn more_clients_get_their_instances_at_once_and_no_more_than_these() {
    let rises = [
        (4, 5, 4, 2),
        (3, 24, 4, 3),
        (24, 25, 4, 3),
        (16, 17, 16, 5),
        (1, 2, 1, 2),
        (1, 5, 1, 3),
        (4, 100, 4, 3),
    ];
    for (few, many, cap, front_ends) in rises {
        for seed in 0..3 {
            let case = case((few, cap, front_ends), 1..=600, seed);
            let mut town = Town::new(&case);
            town.run_for_ms(SETTLED_MS);
            let since = town.now_ms();
            town.ask_for(many);
            town.run_for_ms(10_000);
            let exact = many.div_ceil(cap.into());
            let rise: Vec<_> = town.decided.iter().filter(|(at, _)| *at > since).collect();
            let reached = rise.iter().find(|(_, count)| *count == exact);
            assert!(
                reached.is_some_and(|(at, _)| at - since <= 150)
                    && rise.iter().all(|(_, count)| *count <= exact),
                "{case:?} to {many}: since {since} {rise:?}"
            );
        }
    }
}
