//! What is to be written for a decision.

use super::count::Aim;
use crate::index::{Driver, Workload};
use maniple_core::decision::{Decision, Reason};

/// The replica count that this process should write now.
pub(super) fn wish(decision: &Decision, workload: Option<&Workload>) -> Option<u32> {
    let workload = workload.filter(|w| w.driver == Some(Driver::Native) && !w.deleting)?;
    let desired = decision.desired?;
    match decision.reason {
        Reason::Paused | Reason::Unknown => None,
        // Kept because something is unknown: never a reason to take instances away.
        Reason::HoldUnknown => (desired > workload.replicas).then_some(desired),
        _ => (desired != workload.replicas).then_some(desired),
    }
}

/// The same for a group whose instances leave by their slots.
pub(super) fn slots_aim(
    decision: &Decision,
    workload: Option<&Workload>,
    pending: Option<u32>,
    cap: u32,
) -> Option<Aim> {
    let workload = workload.filter(|w| w.driver == Some(Driver::Native) && !w.deleting)?;
    let desired = decision.desired?;
    if matches!(decision.reason, Reason::Paused | Reason::Unknown) {
        return None;
    }
    Some(Aim {
        desired,
        cap,
        present: workload.replicas,
        pending,
        may_lower: may_lower(decision.reason),
    })
}

/// Whether a decision may take instances away: not one that only keeps what is there.
pub(super) fn may_lower(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::Paused | Reason::Unknown | Reason::HoldUnknown
    )
}
