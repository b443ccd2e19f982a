//! What a start may do, given what is on the engine already. The one place where drivers judge this.

use super::{Instance, Labels, StartError, State};

/// Looks at all that any server of the cluster has made for the space on this engine.
///
/// Returns what a start should adopt or finish, if it is there. What another server made and does
/// not run is none of its concern.
pub(super) fn settle(
    wanted: &Labels,
    present: Vec<Instance>,
) -> Result<Option<Instance>, StartError> {
    let (own, others): (Vec<_>, Vec<_>) =
        present.into_iter().partition(|found| found.labels.owner == wanted.owner);
    if let Some(found) = others.into_iter().find(|found| found.state == State::Running) {
        return Err(if found.labels.generation > wanted.generation {
            StartError::Newer(Box::new(found))
        } else {
            StartError::Elsewhere(Box::new(found))
        });
    }
    // The latest first: that a later one is there says more than that an older one is.
    let latest = own.into_iter().max_by_key(|found| found.labels.generation);
    let Some(found) = latest else { return Ok(None) };
    if found.labels.generation > wanted.generation {
        return Err(StartError::Newer(Box::new(found)));
    }
    if found.labels.generation < wanted.generation {
        return Err(StartError::Older(Box::new(found)));
    }
    if found.labels.revision != wanted.revision {
        return Err(StartError::Revision {
            wanted: wanted.revision.clone(),
            found: found.labels.revision,
        });
    }
    match found.state {
        State::Ended(ended) => Err(StartError::Ended { ended }),
        State::Created | State::Running => Ok(Some(found)),
    }
}

#[cfg(test)]
mod tests {
    use knot_core::generation::Generation;
    use uuid::Uuid;

    use super::*;
    use crate::spaces::drivers::{Ended, InstanceId, Owner};

    fn labels(home: u128, term: u64, n: u64) -> Labels {
        Labels {
            owner: Owner { cluster: Uuid::from_u128(1), home: Uuid::from_u128(home) },
            space: Uuid::from_u128(2),
            generation: Generation { term, n },
            revision: "r".to_owned(),
        }
    }

    fn there(labels: Labels, state: State) -> Instance {
        Instance { id: InstanceId("x".to_owned()), labels, state }
    }

    fn code(present: Vec<Instance>) -> &'static str {
        match settle(&labels(1, 2, 5), present) {
            Ok(None) => "free",
            Ok(Some(_)) => "adopt",
            Err(error) => error.code(),
        }
    }

    #[test]
    fn a_start_adopts_its_own_generation_and_respects_every_other() {
        let ended = || State::Ended(Ended::default());
        assert_eq!(code(vec![]), "free");
        for state in [State::Running, State::Created] {
            assert_eq!(code(vec![there(labels(1, 2, 5), state.clone())]), "adopt");
            assert_eq!(code(vec![there(labels(1, 2, 4), state.clone())]), "older-generation");
            assert_eq!(code(vec![there(labels(1, 1, 9), state.clone())]), "older-generation");
            assert_eq!(code(vec![there(labels(1, 3, 1), state)]), "newer-generation");
        }
        assert_eq!(code(vec![there(labels(1, 2, 5), ended())]), "ended");
        assert_eq!(code(vec![there(labels(1, 2, 4), ended())]), "older-generation");
        let other = Labels { revision: "s".to_owned(), ..labels(1, 2, 5) };
        assert_eq!(code(vec![there(other, State::Running)]), "revision");
    }

    #[test]
    fn a_space_that_runs_for_another_server_is_not_started_beside_it() {
        assert_eq!(code(vec![there(labels(9, 1, 5), State::Running)]), "runs-elsewhere");
        assert_eq!(code(vec![there(labels(9, 3, 1), State::Running)]), "newer-generation");
        assert_eq!(code(vec![there(labels(9, 1, 5), State::Ended(Ended::default()))]), "free");
        assert_eq!(code(vec![there(labels(9, 1, 5), State::Created)]), "free");
    }
}
