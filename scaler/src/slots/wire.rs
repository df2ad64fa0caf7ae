//! Between the plain messages of the slot protocol and what goes over the wire. Both sides use it.

mod read;
mod write;

use maniple_core::slots::message::{GroupId, InstanceUid, ToDataRole, ToFrontEnd};
use maniple_front::cold::StartAges;
use maniple_proto::slots as proto;
use std::time::Duration;

pub use read::WireError;

/// What a front end hears on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message of the slot protocol.
    Slots(ToFrontEnd),
    /// All routes: those before are void. They count when they come on the stream that is followed, or after its Lead.
    Routes(Vec<RouteSpec>),
}

/// Which requests a group gets, and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteSpec {
    /// Host name without port, lower case.
    pub host: String,
    /// Prefix of whole path segments, such as `/` or `/api`.
    pub path_prefix: String,
    /// The group; without a name when the app is there and its functions are not known yet.
    pub group: GroupId,
    /// Longest time from the arrival of a request at an instance to its response, in whole milliseconds.
    pub request_timeout: Duration,
    /// Longest time that an instance works on a request, answered or not, in whole milliseconds; none: no limit.
    pub run_limit: Option<Duration>,
    /// Requests that may wait for a slot at one front end.
    pub room: u32,
    /// How long one may wait, in whole milliseconds.
    pub patience: Duration,
    /// HTTP towards the instances.
    pub protocol: UpstreamProtocol,
    /// Paths of the host's administration.
    pub admin: AdminPaths,
    /// Namespace of the app, for metrics and logs.
    pub namespace: String,
    /// Name of the app, for metrics and logs.
    pub app: String,
}

/// HTTP towards the instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge, without encryption.
    H2c,
}

/// Whether the administration of the host can be reached from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AdminPaths {
    /// `/admin` and everything below it is not found.
    #[default]
    Closed,
    /// The app has paths of that name itself.
    Open,
}

/// A message of a front end as it is sent.
pub fn encode_from_front_end(message: &ToDataRole) -> proto::FromFrontEnd {
    write::from_front_end(message)
}

/// A message of a front end as it was received.
///
/// # Errors
/// When it cannot come from a front end of a version that this process knows.
pub fn decode_from_front_end(message: proto::FromFrontEnd) -> Result<ToDataRole, WireError> {
    read::from_front_end(message)
}

/// A message of the data role as it is sent.
pub fn encode_from_data_role(message: &ToFrontEnd) -> proto::FromDataRole {
    write::from_data_role(message)
}

/// A message about an instance that has just started, as it is sent.
pub fn encode_start(message: &ToFrontEnd, ages: &StartAges) -> proto::FromDataRole {
    write::start(message, ages)
}

/// The routes as they are sent. `epoch` is that of the data role.
pub fn encode_routes(epoch: u64, routes: &[RouteSpec]) -> proto::FromDataRole {
    write::routes(epoch, routes)
}

/// A message of the data role as it was received.
///
/// # Errors
/// When it cannot come from a data role of a version that this process knows.
pub fn decode_from_data_role(message: proto::FromDataRole) -> Result<Heard, WireError> {
    read::from_data_role(message)
}

/// What a message tells of the start of an instance, beside what [`decode_from_data_role`] reads.
pub fn decode_start(message: &proto::FromDataRole) -> Option<(InstanceUid, StartAges)> {
    read::start(message)
}

#[cfg(test)]
mod tests;
