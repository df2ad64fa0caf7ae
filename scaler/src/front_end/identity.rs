//! Who this process is among the front ends.

use std::{
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

use maniple_core::slots::message::{FrontEndId, FrontEndPod, MemberRecord};

use super::{FrontArgs, FrontError};

/// What is in this file when a container ends stands in the status of its pod. Kubernetes makes it; elsewhere there is none.
const LAST_WORDS: &str = "/dev/termination-log";
/// Counts the processes of a pod.
const FILE: &str = "processes";

/// A new process with a random id, in its pod.
pub(super) fn new(args: &FrontArgs) -> Result<MemberRecord, FrontError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| FrontError::Random(error.to_string()))?;
    let id = u128::from_ne_bytes(id);
    let uid = match &args.pod_uid {
        Some(text) => pod_uid(text)?,
        // Outside of a cluster: a pod of its own, whose end nobody sees.
        None => id,
    };
    let restarts = match &args.state_directory {
        Some(folder) => count(folder)?,
        None => 0,
    };
    sign(Path::new(LAST_WORDS), id);
    Ok(MemberRecord {
        id: FrontEndId(id),
        pod: FrontEndPod { uid, restarts },
    })
}

/// Writes the id where it stays when this process has ended: the proof by which its slots return soon. Nothing else depends on it.
fn sign(path: &Path, id: u128) {
    if path.exists()
        && let Err(error) = std::fs::write(path, format!("{id:032x}"))
    {
        tracing::warn!(path = %path.display(), "the id of this process cannot be written: {error}; should it end without a farewell, its slots return later");
    }
}

fn pod_uid(text: &str) -> Result<u128, FrontError> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&digits, 16)
        .ok()
        .filter(|_| digits.len() == 32)
        .ok_or_else(|| FrontError::PodUid {
            text: text.to_owned(),
        })
}

/// Processes of this pod before this one. On disk before anybody hears of it, so that no later process says the same number.
fn count(folder: &Path) -> Result<u32, FrontError> {
    let path = folder.join(FILE);
    let wrong = |message: String| FrontError::State {
        path: path.clone(),
        message,
    };
    let counted = || -> std::io::Result<Result<u32, String>> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let before = match text.trim() {
            "" => 0,
            text => match text.parse::<u32>() {
                Ok(before) => before,
                Err(error) => return Ok(Err(format!("{text:?} is no count: {error}"))),
            },
        };
        file.rewind()?;
        // Counts only grow, so that the new text covers the old one.
        writeln!(file, "{}", before.saturating_add(1))?;
        file.sync_all()?;
        Ok(Ok(before))
    };
    counted()
        .map_err(|error| wrong(error.to_string()))?
        .map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_uid_is_read_in_both_spellings() {
        let uid = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        assert_eq!(
            pod_uid("01234567-89ab-cdef-0123-456789abcdef").unwrap(),
            uid
        );
        assert_eq!(pod_uid("0123456789abcdef0123456789abcdef").unwrap(), uid);
        for wrong in ["", "0123", "01234567-89ab-cdef-0123-456789abcdeg"] {
            assert_eq!(
                pod_uid(wrong).unwrap_err().category(),
                "identity",
                "{wrong}"
            );
        }
    }

    #[test]
    fn the_id_is_written_where_there_is_a_place_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("termination-log");
        sign(&path, 7);
        assert!(!path.exists());
        std::fs::write(&path, "").unwrap();
        sign(&path, 7);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "00000000000000000000000000000007"
        );
    }

    #[test]
    fn every_process_of_a_pod_has_a_higher_number() {
        let folder = tempfile::tempdir().unwrap();
        for expected in 0..12 {
            assert_eq!(count(folder.path()).unwrap(), expected);
        }
        std::fs::write(folder.path().join(FILE), "no number").unwrap();
        let error = count(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no number"), "{error}");
    }
}
