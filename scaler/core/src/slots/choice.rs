//! Which of the instances that a front end holds slots of gets the next request.
//!
//! [`placement`](super::placement) is the other half: there the data role chooses who lends a slot, here the requests are spread over the slots that are held. Both
//! follow the same [`Placement`], so that a simulator can compare what the policies do.

use std::ops::Range;

use super::placement::Placement;

/// Ranges up to this length are compared as a whole; of longer ones two instances by chance, which keeps them nearly as even at a cost that does not grow.
const COMPARED: usize = 8;

/// How many are looked at in a row when both are full. Where so many are, the rest is nearly full too, and the next instance in order of use is found sooner.
const LOOKED_AT: usize = 16;

/// The instances of a group, in order of use: always-ready ones, then on-demand ones by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// How many there are.
    pub len: usize,
    /// How many of them are always ready.
    pub floor: usize,
    /// How many on-demand instances are to get work: [`pack_set`].
    pub pack: usize,
}

/// One instance at one front end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Slots held.
    pub held: u16,
    /// Slots in use.
    pub used: u16,
    /// Whether a request may start there now.
    pub usable: bool,
}

/// Index of the instance that gets the next request; none when none may start one. `random` spreads choices that are equal by rule.
///
/// With [`Placement::Pack`] the always-ready instances are filled first, then the pack set, both evenly; beyond them the first that can, since a request that
/// can run does not wait for tidiness.
pub fn choose(
    placement: Placement,
    order: Order,
    random: u32,
    load: impl Fn(usize) -> Load,
) -> Option<usize> {
    let any = |mut range: Range<usize>| range.find(|&i| load(i).usable);
    match placement {
        Placement::Fullest => any(0..order.len),
        Placement::LeastLoaded => even(0..order.len, random, &load).or_else(|| any(0..order.len)),
        Placement::Pack => {
            let floor = order.floor.min(order.len);
            let set = (floor + order.pack).min(order.len);
            even(0..floor, random, &load)
                .or_else(|| even(floor..set, random, &load))
                .or_else(|| any(set..order.len))
                .or_else(|| any(0..set))
        }
    }
}

/// The least loaded of `range`, or of two of it. None of a long range may also mean that nearly all are full.
fn even(range: Range<usize>, random: u32, load: &impl Fn(usize) -> Load) -> Option<usize> {
    if range.len() <= COMPARED {
        return lighter(range, load);
    }
    let (len, random) = (range.len(), random as usize);
    let first = range.start + random % len;
    // Never the same twice.
    let second = range.start + (random % len + 1 + (random / len) % (len - 1)) % len;
    lighter([first, second].into_iter(), load).or_else(|| {
        (first..range.end)
            .chain(range.start..first)
            .take(LOOKED_AT)
            .find(|&i| load(i).usable)
    })
}

/// The usable one with the lowest share of its slots in use; the earlier one when equal.
fn lighter(among: impl Iterator<Item = usize>, load: &impl Fn(usize) -> Load) -> Option<usize> {
    let usable = among.map(|i| (i, load(i))).filter(|(_, load)| load.usable);
    usable
        .min_by_key(|&(i, load)| {
            let share = u64::from(load.used) << 32;
            (share / u64::from(load.held.max(1)), i)
        })
        .map(|(i, _)| i)
}

/// How many on-demand instances are needed for `demand` requests, of which always-ready ones take as many as they have slots: the shortest prefix whose slots suffice.
/// `held` are the slots of the on-demand instances in order of use, `floor` those of all always-ready ones.
pub fn pack_set(demand: u32, floor: u32, held: impl IntoIterator<Item = u16>) -> usize {
    let mut left = demand.saturating_sub(floor);
    held.into_iter()
        .take_while(|held| {
            let needed = left > 0;
            left = left.saturating_sub(u32::from(*held));
            needed
        })
        .count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Starts `requests` on instances with so many slots each; what each runs then.
    fn spread(placement: Placement, floor: usize, slots: &[u16], requests: u32) -> Vec<u16> {
        let mut used = vec![0; slots.len()];
        let floor_slots: u32 = slots[..floor].iter().map(|held| u32::from(*held)).sum();
        let pack = pack_set(requests, floor_slots, slots[floor..].iter().copied());
        let order = Order {
            len: slots.len(),
            floor,
            pack,
        };
        for request in 0..requests {
            let random = request.wrapping_mul(2_654_435_761);
            let load = |i: usize| Load {
                held: slots[i],
                used: used[i],
                usable: used[i] < slots[i],
            };
            match choose(placement, order, random, load) {
                Some(i) => used[i] += 1,
                None => break,
            }
        }
        used
    }

    #[test]
    fn policies_spread_the_same_requests_differently() {
        use Placement::{Fullest, LeastLoaded, Pack};
        type Case<'a> = (Placement, usize, &'a [u16], u32, &'a [u16]);
        let cases: &[Case<'_>] = &[
            (Pack, 0, &[4, 4, 4], 0, &[0, 0, 0]),
            (Pack, 0, &[4, 4, 4], 3, &[3, 0, 0]),
            (Pack, 0, &[4, 4, 4], 6, &[3, 3, 0]),
            (Pack, 1, &[4, 4, 4, 4], 3, &[3, 0, 0, 0]),
            (Pack, 1, &[4, 4, 4, 4], 10, &[4, 3, 3, 0]),
            (Pack, 2, &[4, 4, 4], 3, &[2, 1, 0]),
            (Pack, 0, &[4, 0, 4], 6, &[3, 0, 3]),
            (Pack, 0, &[16, 4], 10, &[10, 0]),
            (Pack, 0, &[16, 4], 20, &[16, 4]),
            (Pack, 0, &[4, 4], 9, &[4, 4]),
            (Fullest, 0, &[4, 4, 4], 6, &[4, 2, 0]),
            (LeastLoaded, 0, &[4, 4, 4], 6, &[2, 2, 2]),
            (LeastLoaded, 0, &[16, 4, 4], 6, &[4, 1, 1]),
        ];
        for (placement, floor, slots, requests, expected) in cases {
            let used = spread(*placement, *floor, slots, *requests);
            assert_eq!(used, *expected, "{placement:?} {slots:?} {requests}");
        }
    }

    #[test]
    fn many_instances_are_nearly_even_and_the_rest_stay_nearly_empty() {
        // 63 instances are the set for 1,000 requests, and 8 slots of it are left at the end.
        let used = spread(Placement::Pack, 0, &[16; 200], 1_000);
        let (set, rest) = used.split_at(63);
        assert!(rest.iter().sum::<u16>() <= 10, "{used:?}");
        assert!(rest[1..].iter().all(|used| *used == 0), "{used:?}");
        let least = set.iter().min().unwrap();
        assert!(*least >= 12, "nearly 1,000 / 63: {set:?}");
    }

    #[test]
    fn what_cannot_be_used_is_passed_over() {
        let order = Order {
            len: 40,
            floor: 0,
            pack: 20,
        };
        let only = |wanted: usize| {
            move |i: usize| Load {
                held: 1,
                used: 0,
                usable: i == wanted,
            }
        };
        for wanted in 0..40 {
            for placement in [Placement::Pack, Placement::Fullest, Placement::LeastLoaded] {
                let random = u32::try_from(wanted).unwrap() * 977;
                let chosen = choose(placement, order, random, only(wanted));
                assert_eq!(chosen, Some(wanted), "{placement:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_slot_that_can_be_used_is_found(
            instances in proptest::collection::vec((0u16..3, 0u16..3, any::<bool>()), 0..40),
            floor in 0usize..50,
            pack in 0usize..50,
            random: u32,
        ) {
            let order = Order { len: instances.len(), floor, pack };
            let load = |i: usize| Load { held: instances[i].0, used: instances[i].1, usable: instances[i].2 };
            for placement in [Placement::Pack, Placement::Fullest, Placement::LeastLoaded] {
                let chosen = choose(placement, order, random, load);
                prop_assert_eq!(chosen.is_some(), instances.iter().any(|i| i.2));
                prop_assert!(chosen.is_none_or(|i| instances[i].2));
            }
        }
    }
}
