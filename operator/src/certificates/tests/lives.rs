//! Years of ordinary life, and clocks that jump.

use super::handshake::{comes_together, shake};
use super::world::{World, days};
use crate::certificates::found::TRUSTED_SINCE;
use crate::certificates::settings::Side;
use jiff::SignedDuration;

/// Pods see a changed Secret after this time at the latest.
const SEEN: SignedDuration = SignedDuration::from_mins(5);
/// Time between two looks, much longer than in truth, so that years pass quickly.
const LOOK: SignedDuration = SignedDuration::from_hours(6);

#[tokio::test]
async fn for_three_years_every_two_pods_come_together_at_any_time() {
    let world = World::new();
    world.settle().await;
    let (mut renewals, mut authorities) = (0, 0);
    let end = world.time() + days(3 * 365);
    while world.time() < end {
        world.pass(LOOK);
        // Pods that have not seen the changes of this look yet, and those that have.
        let old = (world.pod(Side::Front), world.pod(Side::Scaler));
        let done = world.settle().await;
        assert!(done.iter().all(|new| !new.warning), "{done:?}");
        if done.is_empty() {
            continue;
        }
        authorities += u32::from(
            done.iter()
                .any(|new| new.text.contains("a new CA was made")),
        );
        renewals += u32::from(
            done.iter()
                .any(|new| new.text.contains("certificate was made")),
        );
        let new = (world.pod(Side::Front), world.pod(Side::Scaler));
        let seen = world.time() + SEEN;
        for front in [&old.0, &new.0] {
            for scaler in [&old.1, &new.1] {
                shake(front, scaler, seen).unwrap();
            }
        }
    }
    // A certificate every 60 days, a CA every 180.
    assert!((17..=24).contains(&renewals), "{renewals}");
    assert_eq!(authorities, 6);
    // No more CAs are trusted than overlap.
    let trusted = String::from_utf8(world.pod(Side::Front).trusted).unwrap();
    assert!(trusted.matches("BEGIN").count() <= 2, "{trusted}");
}

#[tokio::test]
async fn an_operator_that_was_away_for_long_puts_everything_right() {
    for away in [59, 61, 89, 91, 181, 359, 361, 2000] {
        let world = World::new();
        world.settle().await;
        world.pass(days(away));
        world.settle().await;
        comes_together(&world);
        for _ in 0..3 {
            world.pass(SignedDuration::from_mins(61));
            world.settle().await;
            comes_together(&world);
        }
        assert!(world.settle().await.is_empty(), "{away}");
    }
}

#[tokio::test]
async fn a_clock_that_jumps_and_comes_back_leaves_certificates_that_are_good() {
    for jump in [
        days(-400),
        days(-1),
        days(1),
        days(70),
        days(100),
        days(400),
    ] {
        let world = World::new();
        world.settle().await;
        world.pass(jump);
        world.settle().await;
        comes_together(&world);
        world.pass(-jump);
        world.settle().await;
        comes_together(&world);
        // A time to come is not waited for.
        for side in Side::ALL {
            let annotations = world.side(side).unwrap().metadata.annotations.unwrap();
            let since: jiff::Timestamp = annotations[TRUSTED_SINCE].parse().unwrap();
            assert!(since <= world.time(), "{jump}");
        }
        world.pass(SignedDuration::from_mins(61));
        let found = world.try_settle().await.unwrap();
        assert!(found.authority.usable().unwrap().not_before <= world.time());
        comes_together(&world);
        assert!(world.settle().await.is_empty());
    }
}
