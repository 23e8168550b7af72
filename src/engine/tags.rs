//! What a snapshot says of itself in tags: all that rebuilding a history needs.

use super::children::host_name;
use crate::types::site::SiteId;
use crate::types::{JobId, Revision, RunId};

/// The tags that every snapshot of a job has.
#[must_use]
pub fn job_tags(job: &JobId) -> Vec<String> {
    vec!["larder".to_owned(), format!("target:{}", job.target), format!("policy:{}", job.policy)]
}

/// What this machine calls itself; none where that is no plain name.
#[must_use]
pub fn machine() -> Option<String> {
    let is_plain = |name: &String| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    Some(host_name()).filter(is_plain)
}

/// The tags of a run's snapshot.
#[must_use]
pub fn run_tags(site: &SiteId, job: &JobId, run: RunId, revision: Option<&Revision>) -> Vec<String> {
    let mut tags = job_tags(job);
    tags.push(format!("site:{site}"));
    tags.extend(machine().map(|machine| format!("on:{machine}")));
    tags.push(format!("run:{run}"));
    tags.extend(revision.map(|revision| format!("revision:{}", revision.short12())));
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tags_of_a_run_name_all_that_rebuilding_needs() {
        let job: JobId = "photos/daily".parse().unwrap();
        let run = RunId::from_bytes([1; 16]);
        let revision = Revision::parse(&"a".repeat(40)).unwrap();
        let site = SiteId::parse("0123456789abcdef0123").unwrap();
        let mut tags = run_tags(&site, &job, run, Some(&revision));
        if let Some(machine) = machine() {
            assert_eq!(tags.remove(4), format!("on:{machine}"));
        }
        let run = format!("run:{run}");
        let site = "site:0123456789abcdef0123";
        assert_eq!(tags, ["larder", "target:photos", "policy:daily", site, &run, "revision:aaaaaaaaaaaa"]);
    }
}
