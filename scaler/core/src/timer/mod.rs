//! The timer trigger: schedules as the function host reads them, and when an instance must be awake.

mod cron;
mod field;
mod schedule;
mod status;
mod timespan;
mod waker;
mod zone;

pub use cron::Cron;
pub use field::FieldKind;
pub use schedule::{Persistence, Schedule, ScheduleError, ScheduleWarning};
pub use status::{ListenerStart, ScheduleStatus, StatusError, wait_until};
pub use timespan::{TICKS_PER_SECOND, parse_timespan};
pub use waker::{
    AlwaysOn, Awake, MAX_LEAD, MIN_LEAD, StartTimes, StatusReading, Timer, TimerError, WakeState,
};
pub use zone::{Zone, ZoneError};
