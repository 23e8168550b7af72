//! What stays in Git accepts one loss: which of its values did so already. Pure.

use jiff::Timestamp;

use super::{ACCEPTED_MAX, Accepted, Hold, HoldKind, is_value};

/// Whether a value of Git accepts one loss of this `kind`. What only goes on as it is (a missing proof) is accepted as long
/// as the value stays there.
fn is_of_one_time(kind: HoldKind) -> bool {
    matches!(kind, HoldKind::Shrank | HoldKind::LostMount | HoldKind::RetentionCut | HoldKind::JumpedClock)
}

/// Notes that `hold` ended: by the value that it shows, and by those of `in_git` that were shown for it.
///
/// A value that stays in Git stays spent, whatever is accepted after it.
pub fn spend(spent: &mut Vec<Accepted>, hold: &Hold, in_git: &[String], now: Timestamp) {
    if !is_of_one_time(hold.kind) {
        return;
    }
    let shown = hold.value.iter();
    let of_git = in_git.iter().filter(|value| hold.is_accepted_by(&|shown| is_value(shown, value)));
    for value in shown.chain(of_git) {
        let is_same = |each: &Accepted| (each.kind, &each.subject, &each.value) == (hold.kind, &hold.subject, value);
        spent.retain(|each| !is_same(each));
        spent.push(Accepted { kind: hold.kind, subject: hold.subject.clone(), value: value.clone(), at: now });
    }
    let stays = |each: &Accepted| in_git.iter().any(|value| is_value(&each.value, value) || *value == each.value);
    let mut excess = spent.iter().filter(|each| !stays(each)).count().saturating_sub(ACCEPTED_MAX);
    spent.retain(|each| {
        let goes = excess > 0 && !stays(each);
        excess -= usize::from(goes);
        !goes
    });
}

/// Whether a value by which `hold` could end did end an earlier one: the same again is another loss, accepted by command.
pub fn is_spent<'a>(spent: impl IntoIterator<Item = &'a Accepted>, hold: &Hold, value: &str) -> bool {
    is_of_one_time(hold.kind)
        && spent.into_iter().any(|each| {
            (each.kind, &each.subject) == (hold.kind, &hold.subject)
                && each.at < hold.since
                && (each.value == value || is_value(&each.value, value))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Trouble;
    use crate::error::codes;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + hours * 3600).unwrap()
    }

    fn hold(kind: HoldKind, value: &str, shown: &[&str], hours: i64) -> Hold {
        Hold {
            kind,
            subject: String::new(),
            since: at(hours),
            trouble: Trouble::new(codes::SHRANK, "it shrank"),
            value: Some(value.to_owned()),
            shown: shown.iter().map(|each| (*each).to_owned()).collect(),
            told: at(hours),
        }
    }

    #[test]
    fn a_value_in_git_stays_spent_whatever_is_accepted_after_it() {
        let (mut spent, in_git) = (Vec::new(), ["783".to_owned()]);
        spend(&mut spent, &hold(HoldKind::Shrank, "783", &[], 0), &in_git, at(1));
        for other in 0..100 {
            spend(&mut spent, &hold(HoldKind::Shrank, &(1000 + other).to_string(), &[], 2), &in_git, at(3));
        }
        let again = hold(HoldKind::Shrank, "783", &[], 4);
        assert!(is_spent(&spent, &again, "783") && !is_spent(&spent, &again, "784"));
        assert!(spent.len() <= ACCEPTED_MAX + 1, "{}", spent.len());
        // Another subject, or another kind, is another loss.
        assert!(!is_spent(&spent, &Hold { subject: "/srv".to_owned(), ..again.clone() }, "783"));
        assert!(!is_spent(&spent, &Hold { kind: HoldKind::RetentionCut, ..again }, "783"));
        // Out of Git it goes as others do.
        for other in 0..100 {
            spend(&mut spent, &hold(HoldKind::Shrank, &(2000 + other).to_string(), &[], 4), &[], at(5));
        }
        assert!(!is_spent(&spent, &hold(HoldKind::Shrank, "783", &[], 6), "783"));
    }

    #[test]
    fn the_value_as_git_writes_it_is_spent_and_one_that_was_shown_before() {
        let (mut spent, in_git) = (Vec::new(), ["2kB".to_owned()]);
        spend(&mut spent, &hold(HoldKind::Shrank, "1990", &["2000"], 0), &in_git, at(1));
        for value in ["2kB", "1990", "1.99kB"] {
            assert!(is_spent(&spent, &hold(HoldKind::Shrank, "2000", &[], 2), value), "{value}: {spent:?}");
            assert!(!is_spent(&spent, &hold(HoldKind::Shrank, "2000", &[], 0), value), "one that was there before");
        }
    }

    #[test]
    fn a_missing_proof_is_accepted_as_long_as_git_says_so() {
        let mut spent = Vec::new();
        let hold = hold(HoldKind::MissingProof, "all rows", &[], 0);
        spend(&mut spent, &hold, &["all rows".to_owned()], at(1));
        assert!(spent.is_empty() && !is_spent(&spent, &hold, "all rows"));
    }
}
