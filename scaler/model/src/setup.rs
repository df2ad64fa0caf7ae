//! What a world consists of and which faults it may have.

/// Numbers of parts and budgets of events. An event with budget 0 never happens.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Front ends that are members from the start.
    pub front_ends: usize,
    /// Front ends that join later.
    pub joins: usize,
    /// Data role processes, one leading at the start.
    pub data_roles: usize,
    /// Instances that an earlier data role claimed.
    pub instances: usize,
    /// Instances that appear later.
    pub late_instances: usize,
    /// Requests at a time of each instance.
    pub cap: u16,
    /// Requests that arrive at each front end, by index; missing: none.
    pub arrivals: [u8; 4],
    /// Slots returned unasked.
    pub idle_returns: u8,
    /// Clients that leave while their request runs.
    pub cancels: u8,
    /// Broken streams.
    pub cuts: u8,
    /// Front end processes that die.
    pub front_end_crashes: u8,
    /// Data role processes that die.
    pub data_role_crashes: u8,
    /// Takeovers while the old data role goes on.
    pub depositions: u8,
    /// Removals of the first instance.
    pub removals: u8,
    /// A change of every instance's cap to this.
    pub new_cap: Option<u16>,
    /// Messages delivered twice.
    pub duplicates: u8,
    /// Front ends that leave in order.
    pub leaves: u8,
    /// Whether a sent request arrives later.
    pub wire: bool,
    /// Slots lent ahead, in percent.
    pub ahead_percent: u32,
    /// The wrong rule to be found out.
    pub wrong: Option<Wrong>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            front_ends: 2,
            joins: 0,
            data_roles: 1,
            instances: 1,
            late_instances: 0,
            cap: 1,
            arrivals: [1, 1, 0, 0],
            idle_returns: 0,
            cancels: 0,
            cuts: 0,
            front_end_crashes: 0,
            data_role_crashes: 0,
            depositions: 0,
            removals: 0,
            new_cap: None,
            duplicates: 0,
            leaves: 0,
            wire: false,
            ahead_percent: 0,
            wrong: None,
        }
    }
}

/// Rules that look reasonable and are wrong. Each is made at the edges of the production code, which stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The data role takes returns of an older session.
    DataRoleTakesOldSession,
    /// The front end takes grants of an older session.
    FrontEndTakesOldSession,
    /// A repeated report overwrites the row.
    LastReportWins,
    /// A new data role starts from empty books.
    EmptyMemory,
    /// The front end does not look at the epoch.
    NoEpochFence,
    /// A deposed data role lets front ends join.
    JoinWithoutRecord,
    /// Slots of a dead front end are free at once.
    NoQuarantine,
    /// The count of an instance is believed before the wire is quiet.
    CountWithoutSettle,
    /// A data role lends every new instance, whoever saw it first.
    NoClaim,
    /// A recall that finds no free slot is forgotten.
    RecallForgotten,
    /// A Sync leaves only when a number changed.
    SyncOnlyOnChange,
    /// Waiting requests are never interrupted for others.
    NoMust,
    /// An instance is deleted without asking the record.
    DeleteWithoutRecord,
    /// A client that leaves frees its slot.
    FreeAtDisconnect,
    /// A Hello does not say who waits.
    HelloWithoutWaiting,
    /// Quarantined slots return only when the instance is idle.
    QuarantineWhole,
}
