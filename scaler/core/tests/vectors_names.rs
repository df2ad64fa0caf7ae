//! `%name%` against recordings of the host.

mod recorded;

use maniple_core::names::{Settings, resolve};
use recorded::{cases, none_of, text, whole};

#[test]
fn vectors_name_resolution() {
    let file = whole("host/name-resolution.json");
    let settings = Settings::plain(
        file["settings"]
            .as_object()
            .expect("settings")
            .iter()
            .map(|(name, value)| (name, value.as_str().expect("a text"))),
    );
    let mut differences = Vec::new();
    let all = cases("host/name-resolution.json");
    for case in &all {
        let seen = resolve(text(case, "text"), &settings);
        let same = match (&seen, case["error"].as_str()) {
            (Ok(resolved), None) => case["resolved"] == resolved.as_str(),
            // Ours says the same and adds what to do.
            (Err(error), Some(expected)) => error
                .to_string()
                .to_lowercase()
                .starts_with(expected.trim_end_matches('.').to_lowercase().as_str()),
            _ => false,
        };
        if !same || case["tryResolve"] != seen.is_ok() {
            differences.push(format!("{case}: {seen:?}"));
        }
    }
    none_of(differences, all.len());
}

#[test]
fn environment_names_are_paths() {
    let settings = Settings::from_environment([("A__B", "x")]);
    assert_eq!(resolve("%a:b%", &settings).as_deref(), Ok("x"));
    assert!(resolve("%A__B%", &settings).is_err());
}
