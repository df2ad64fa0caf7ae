//! What can happen next.

/// One event. Front ends, data roles and instances by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A request arrives.
    Arrive(usize),
    /// A sent request reaches its instance.
    Land(usize, usize),
    /// A response is complete.
    Complete(usize, usize),
    /// A client leaves.
    Cancel(usize, usize),
    /// An abandoned request ends.
    LingerEnd(usize, usize),
    /// A request of a dead front end ends.
    OrphanEnd(usize),
    /// A front end says what it has to say.
    Flush(usize),
    /// A front end returns a free slot unasked.
    IdleReturn(usize, usize),
    /// A front end opens a stream to a data role.
    Connect(usize, usize),
    /// A stream breaks.
    Cut(usize, usize),
    /// A message arrives.
    Deliver(Packet),
    /// A message arrives and will again.
    Duplicate(Packet),
    /// A data role's next write to the cluster happens.
    Write(usize),
    /// A front end process starts.
    Join(usize),
    /// A front end begins to leave.
    Leave(usize),
    /// A front end process dies.
    CrashFrontEnd(usize),
    /// Its death is proved to every data role.
    ProveDead(usize),
    /// An instance is asked for its outstanding requests.
    Outstanding(usize),
    /// A data role process dies.
    CrashDataRole(usize),
    /// A process takes the record.
    Takeover(usize),
    /// An instance appears.
    Appear(usize),
    /// A data role hears of a drain mark that another one has set.
    Watch(usize, usize),
    /// A data role starts to remove an instance.
    Remove(usize, usize),
    /// The cap of every instance changes.
    ChangeCap,
}

/// Which message: stream, direction, place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packet {
    /// The front end's end.
    pub fe: usize,
    /// The data role's end.
    pub dr: usize,
    /// Number of the stream between the two.
    pub stream: u8,
    /// Towards the front end.
    pub down: bool,
    /// Place in the queue.
    pub at: usize,
}
