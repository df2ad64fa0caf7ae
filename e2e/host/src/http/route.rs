//! Route templates of HTTP functions: `items/{id:int?}`, `files/{*rest}`. Literal parts ignore case.

/// A route below the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTemplate {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter { is_optional: bool, is_number: bool },
    Rest,
}

/// A route that the host refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// It would hide the host's own routes.
    #[error("The specified route conflicts with one or more built in routes.")]
    BuiltIn,
    /// A brace without its partner.
    #[error("The route template '{0}' has an unbalanced brace.")]
    Brace(String),
}

impl RouteError {
    /// A stable name of the kind of error.
    pub fn category(&self) -> &'static str {
        match self {
            Self::BuiltIn => "route-built-in",
            Self::Brace(_) => "route-malformed",
        }
    }
}

impl RouteTemplate {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, RouteError> {
        let text = text.trim_matches('/').to_owned();
        let mut segments = Vec::new();
        for part in text.split('/').filter(|part| !part.is_empty()) {
            let is_open = part.starts_with('{');
            if is_open != part.ends_with('}')
                || part.matches('{').count() != part.matches('}').count()
            {
                return Err(RouteError::Brace(text));
            }
            segments.push(if !is_open {
                Segment::Literal(part.to_lowercase())
            } else if part.starts_with("{*") {
                Segment::Rest
            } else {
                let inner = &part[1..part.len() - 1];
                Segment::Parameter {
                    is_optional: inner.ends_with('?') || inner.contains('='),
                    is_number: inner
                        .split(':')
                        .any(|rule| matches!(rule.trim_end_matches('?'), "int" | "long")),
                }
            });
        }
        if let Some(Segment::Literal(first)) = segments.first()
            && matches!(first.as_str(), "admin" | "runtime")
        {
            return Err(RouteError::BuiltIn);
        }
        Ok(Self { text, segments })
    }

    /// The template as written, without slashes at the ends.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a path below the prefix fits.
    pub fn matches(&self, path: &str) -> bool {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        for segment in &self.segments {
            match (segment, parts.next()) {
                (Segment::Rest, _) => return true,
                (Segment::Literal(literal), Some(part)) if part.to_lowercase() == *literal => {}
                (Segment::Parameter { is_number, .. }, Some(part))
                    if !is_number || part.parse::<i64>().is_ok() => {}
                (
                    Segment::Parameter {
                        is_optional: true, ..
                    },
                    None,
                ) => {}
                _ => return false,
            }
        }
        parts.next().is_none()
    }

    /// How literal the template is; of several that fit, the most literal one serves.
    pub fn rank(&self) -> (usize, usize) {
        let literals = self
            .segments
            .iter()
            .filter(|segment| matches!(segment, Segment::Literal(_)))
            .count();
        (literals, self.segments.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_paths() {
        for (template, path, fits) in [
            ("hello", "hello", true),
            ("hello", "HELLO/", true),
            ("hello", "hello/x", false),
            ("items/{id}", "items/7", true),
            ("items/{id}", "items", false),
            ("items/{id:int}", "items/x", false),
            ("items/{id:int?}", "items", true),
            ("files/{*rest}", "files/a/b", true),
            ("files/{*rest}", "files", true),
            ("{*any}", "", true),
        ] {
            let route = RouteTemplate::parse(template).unwrap();
            assert_eq!(route.matches(path), fits, "{template} {path}");
        }
    }

    #[test]
    fn built_in_and_broken_routes_are_refused() {
        assert_eq!(RouteTemplate::parse("/Admin/x"), Err(RouteError::BuiltIn));
        assert_eq!(RouteTemplate::parse("runtime"), Err(RouteError::BuiltIn));
        assert_eq!(
            RouteTemplate::parse("a/{b").unwrap_err().category(),
            "route-malformed"
        );
    }
}
