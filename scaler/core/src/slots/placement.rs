//! Which instance of a group gets the next slot.

use super::message::{InstanceUid, Rank, Tier};

/// How the instances of a group fill up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Placement {
    /// Always-ready instances first, then only as many on-demand instances as the demand needs, the oldest; even among these. The others empty and
    /// can leave.
    #[default]
    Pack,
    /// In order of use, each to the brim.
    Fullest,
    /// The least loaded of all. Even latency, but no instance becomes idle while there is traffic, so scale-in waits.
    LeastLoaded,
}

/// An instance that could lend a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The instance.
    pub uid: InstanceUid,
    /// Its place in the order of use.
    pub rank: Rank,
    /// Requests at a time.
    pub cap: u16,
    /// Slots lent.
    pub leased: u32,
    /// Slots that may be lent now.
    pub available: u32,
}

/// Puts the candidates of one group into the order of use. [`choose`] expects that order.
pub fn order(candidates: &mut [Candidate]) {
    candidates.sort_unstable_by_key(|c| (c.rank, c.uid));
}

/// Index of the instance that lends the next slot, none when no slot is available. `demand` is that of the whole group, in requests.
///
/// The pack set is the shortest prefix in order of use whose caps add up to the demand; while it has nothing to lend, the next instance lends, since
/// a request that can run does not wait for tidiness.
pub fn choose(placement: Placement, demand: u32, ordered: &[Candidate]) -> Option<usize> {
    match placement {
        Placement::Fullest => ordered.iter().position(|c| c.available > 0),
        Placement::LeastLoaded => least_loaded(ordered, 0..ordered.len()),
        Placement::Pack => {
            let floor = ordered
                .iter()
                .take_while(|c| c.rank.tier == Tier::AlwaysReady)
                .count();
            let mut set = 0;
            let mut room = 0;
            while set < ordered.len() && (room < demand || set == 0) {
                room += u32::from(ordered[set].cap);
                set += 1;
            }
            least_loaded(ordered, 0..floor.min(set))
                .or_else(|| least_loaded(ordered, floor.min(set)..set))
                .or_else(|| (set..ordered.len()).find(|&i| ordered[i].available > 0))
        }
    }
}

/// The lowest share of the cap lent; the earlier one when equal.
fn least_loaded(ordered: &[Candidate], range: std::ops::Range<usize>) -> Option<usize> {
    range
        .filter(|&i| ordered[i].available > 0)
        .min_by(|&a, &b| {
            let (a, b) = (&ordered[a], &ordered[b]);
            (u64::from(a.leased) * u64::from(b.cap)).cmp(&(u64::from(b.leased) * u64::from(a.cap)))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instances(spec: &[(Tier, u64, u16, u32)]) -> Vec<Candidate> {
        let mut all: Vec<_> = spec
            .iter()
            .enumerate()
            .map(|(i, &(tier, age, cap, leased))| Candidate {
                uid: InstanceUid(i as u128),
                rank: Rank { tier, age },
                cap,
                leased,
                available: u32::from(cap) - leased,
            })
            .collect();
        order(&mut all);
        all
    }

    fn fill(placement: Placement, demand: u32, all: &mut [Candidate]) -> Vec<u32> {
        for _ in all.iter().map(|c| c.leased).sum::<u32>()..demand {
            let Some(i) = choose(placement, demand, all) else {
                break;
            };
            all[i].leased += 1;
            all[i].available -= 1;
        }
        all.iter().map(|c| c.leased).collect()
    }

    #[test]
    fn policies_spread_the_same_demand_differently() {
        use Tier::{AlwaysReady as A, OnDemand as D};
        let four: &[(Tier, u64, u16, u32)] =
            &[(D, 4, 4, 0), (D, 3, 4, 0), (A, 9, 4, 0), (D, 2, 4, 0)];
        // Order of use: always-ready, then ages 2, 3, 4.
        let cases: &[(Placement, u32, &[u32])] = &[
            (Placement::Pack, 3, &[3, 0, 0, 0]),
            (Placement::Pack, 6, &[4, 2, 0, 0]),
            (Placement::Pack, 10, &[4, 3, 3, 0]),
            (Placement::Pack, 20, &[4, 4, 4, 4]),
            (Placement::Fullest, 10, &[4, 4, 2, 0]),
            (Placement::LeastLoaded, 6, &[2, 2, 1, 1]),
            (Placement::LeastLoaded, 10, &[3, 3, 2, 2]),
        ];
        for &(placement, demand, expected) in cases {
            assert_eq!(
                fill(placement, demand, &mut instances(four)),
                expected,
                "{placement:?} {demand}"
            );
        }
    }

    #[test]
    fn a_blocked_pack_set_does_not_block_the_request() {
        let mut all = instances(&[(Tier::OnDemand, 1, 4, 0), (Tier::OnDemand, 2, 4, 0)]);
        all[0].available = 0;
        assert_eq!(choose(Placement::Pack, 2, &all), Some(1));
        all[1].available = 0;
        assert_eq!(choose(Placement::Pack, 2, &all), None);
    }

    #[test]
    fn load_is_compared_by_share_of_the_cap() {
        let all = instances(&[(Tier::OnDemand, 1, 16, 6), (Tier::OnDemand, 2, 4, 1)]);
        assert_eq!(choose(Placement::LeastLoaded, 20, &all), Some(1));
    }
}
