//! What can be asked of the books.

use super::{
    books::{Life, Removal},
    data_role::{DataRole, InstanceSpec},
    message::{FrontEndId, Handle, InstanceUid},
};

impl DataRole {
    /// The most that a member can have running at an instance, as far as the books know.
    pub fn bound_of(&self, id: FrontEndId, uid: InstanceUid) -> u16 {
        self.members.get(&id).map_or(0, |m| match m.life {
            Life::Dead { .. } if !m.reported => m.bounds.get(&uid).copied().unwrap_or(u16::MAX),
            _ => m.lease.get(&uid).copied().unwrap_or(0),
        })
    }

    /// How far the removal of an instance is; none when it is not known.
    pub fn removal(&self, uid: InstanceUid) -> Option<RemovalState> {
        let instance = self.instances.get(&uid)?;
        Some(match instance.removal {
            Removal::None => RemovalState::Serving,
            Removal::Marking | Removal::Draining => RemovalState::Draining,
            Removal::Confirming => RemovalState::Empty,
            Removal::Deleted => RemovalState::Deleted,
        })
    }

    /// The instance as last seen in the cluster.
    pub fn instance(&self, uid: InstanceUid) -> Option<&InstanceSpec> {
        self.instances.get(&uid).map(|i| &i.spec)
    }

    /// The instance of that name in messages of this data role.
    pub fn instance_of(&self, handle: Handle) -> Option<&InstanceSpec> {
        self.instance(*self.handles.get(&handle)?)
    }

    /// The name of an instance in messages of this data role.
    pub fn handle(&self, uid: InstanceUid) -> Option<Handle> {
        self.instances.get(&uid).map(|i| i.handle)
    }

    /// The front ends of the record.
    pub fn members(&self) -> impl Iterator<Item = FrontEndId> {
        self.members.keys().copied()
    }
}

/// Life of an instance as the books see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RemovalState {
    /// Lends slots.
    Serving,
    /// Lends nothing, waits until every slot is back.
    Draining,
    /// Nothing can run there; the record is being confirmed.
    Empty,
    /// Deletion was asked for.
    Deleted,
}
