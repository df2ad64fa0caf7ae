//! Rules that look reasonable and are wrong: each must be found out, else the model would prove nothing.

use maniple_slot_model::setup::{Setup, Wrong};
use stateright::{Checker, HasDiscoveries, Model};

const INVARIANTS: &str = "invariants";
const SERVED: &str = "every waiter is served";
const UNUSED: &str = "nobody waits beside an unused slot";

/// With the wrong rule `property` breaks; the shortest trace is in the output.
fn found_out(setup: Setup, wrong: Wrong, property: &'static str) {
    let setup = Setup {
        wrong: Some(wrong),
        ..setup
    };
    let checker = setup
        .checker()
        .finish_when(HasDiscoveries::AnyOf([property].into()))
        .spawn_bfs()
        .join();
    let states = checker.unique_state_count();
    let path = checker
        .discovery(property)
        .unwrap_or_else(|| panic!("{wrong:?} is not found out in {states} states"));
    println!(
        "{wrong:?}, {states} states: {:?} after {:?}",
        path.last_state().broken,
        path.clone().into_actions()
    );
}

#[test]
fn w3_data_role_takes_returns_of_an_older_session() {
    let setup = Setup {
        idle_returns: 1,
        cuts: 1,
        arrivals: [2, 1, 0, 0],
        ..Setup::default()
    };
    found_out(setup, Wrong::DataRoleTakesOldSession, INVARIANTS);
}

#[test]
fn w4_front_end_takes_grants_of_an_older_session() {
    found_out(
        Setup {
            cuts: 1,
            ..Setup::default()
        },
        Wrong::FrontEndTakesOldSession,
        INVARIANTS,
    );
}

#[test]
fn w5_last_report_wins() {
    found_out(
        Setup {
            cuts: 1,
            duplicates: 1,
            ..Setup::default()
        },
        Wrong::LastReportWins,
        INVARIANTS,
    );
}

#[test]
fn w6_new_data_role_starts_from_empty_books() {
    let setup = Setup {
        data_roles: 2,
        data_role_crashes: 1,
        ..Setup::default()
    };
    found_out(setup, Wrong::EmptyMemory, INVARIANTS);
}

#[test]
fn w7_no_epoch_fence_at_the_front_end() {
    let setup = Setup {
        data_roles: 2,
        depositions: 1,
        ..Setup::default()
    };
    found_out(setup, Wrong::NoEpochFence, INVARIANTS);
}

#[test]
fn w9_join_without_the_record() {
    let setup = Setup {
        front_ends: 1,
        joins: 1,
        data_roles: 2,
        depositions: 1,
        ..Setup::default()
    };
    found_out(setup, Wrong::JoinWithoutRecord, INVARIANTS);
}

#[test]
fn w10_no_quarantine() {
    found_out(
        Setup {
            front_end_crashes: 1,
            ..Setup::default()
        },
        Wrong::NoQuarantine,
        INVARIANTS,
    );
}

#[test]
fn w11_count_believed_before_the_wire_is_quiet() {
    found_out(
        Setup {
            front_end_crashes: 1,
            wire: true,
            ..Setup::default()
        },
        Wrong::CountWithoutSettle,
        INVARIANTS,
    );
}

#[test]
fn w12_no_claim() {
    let setup = Setup {
        data_roles: 2,
        depositions: 1,
        instances: 0,
        late_instances: 1,
        ..Setup::default()
    };
    found_out(setup, Wrong::NoClaim, INVARIANTS);
}

#[test]
fn w13_recall_forgotten() {
    found_out(Setup::default(), Wrong::RecallForgotten, SERVED);
}

#[test]
fn w14_sync_only_on_change() {
    found_out(
        Setup {
            front_ends: 1,
            cap: 2,
            arrivals: [2, 0, 0, 0],
            ..Setup::default()
        },
        Wrong::SyncOnlyOnChange,
        UNUSED,
    );
}

#[test]
fn w16_delete_without_the_record() {
    let setup = Setup {
        front_ends: 1,
        data_roles: 2,
        depositions: 1,
        removals: 1,
        ..Setup::default()
    };
    found_out(setup, Wrong::DeleteWithoutRecord, INVARIANTS);
}

#[test]
fn w17_slot_free_at_disconnect() {
    found_out(
        Setup {
            cancels: 1,
            arrivals: [2, 0, 0, 0],
            ..Setup::default()
        },
        Wrong::FreeAtDisconnect,
        INVARIANTS,
    );
}

#[test]
fn w18_hello_without_waiting() {
    let setup = Setup {
        data_roles: 2,
        data_role_crashes: 1,
        ..Setup::default()
    };
    found_out(setup, Wrong::HelloWithoutWaiting, SERVED);
}

#[test]
fn w19_quarantine_freed_only_whole() {
    let setup = Setup {
        cap: 2,
        front_end_crashes: 1,
        arrivals: [2, 1, 0, 0],
        ..Setup::default()
    };
    found_out(setup, Wrong::QuarantineWhole, UNUSED);
}
