//! Names of apps and groups as the tables of this process use them: cheap to clone and to compare.

use maniple_crds::GroupName;
use std::fmt;
use std::sync::Arc;

/// Namespace and name of a FunctionApp.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppKey {
    /// Namespace of the app.
    pub namespace: Arc<str>,
    /// Name of the app.
    pub name: Arc<str>,
}

impl AppKey {
    /// The app `namespace/name`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A group of an app. Two spellings of a group that differ only in letter case are the same key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The app.
    pub app: AppKey,
    group: Arc<str>,
}

impl GroupKey {
    /// The group `group` of `app`.
    pub fn new(app: AppKey, group: &GroupName) -> Self {
        Self {
            app,
            group: group.key().into(),
        }
    }

    /// The group whose name is written `group`, in any letter case.
    pub fn from_text(app: AppKey, group: &str) -> Self {
        Self {
            app,
            group: group.to_ascii_lowercase().into(),
        }
    }

    /// Name of the group in lower case.
    pub fn group(&self) -> &str {
        &self.group
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.app, self.group)
    }
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letter_case_of_a_group_does_not_matter() {
        let app = AppKey::new("ns", "shop");
        let declared = GroupKey::new(app.clone(), &GroupName::Function("Orders".into()));
        assert_eq!(
            declared,
            GroupKey::from_text(app.clone(), "FUNCTION:orders")
        );
        assert_ne!(declared, GroupKey::from_text(app, "http"));
        assert_eq!(declared.to_string(), "ns/shop function:orders");
    }
}
