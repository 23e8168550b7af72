//! A watched branch of a real repository: every way in which it moves is seen, and nothing else.

use std::fs;
use std::time::{Duration, Instant};

use larder::source::{Bare, FileSet as _, watch};
use larder::types::Revision;
use tokio_util::sync::CancellationToken;

use super::{Sandbox, gits};

/// How long a watch may take to say something after a change; far below the poll of these tests.
const REACTION: Duration = Duration::from_secs(1);
const NO_POLL: Duration = Duration::from_mins(10);

/// Someone who looks at a branch when the watch says so, and at no other time.
struct Follower {
    /// How often it looked, and what it saw last, or why it could not.
    seen: tokio::sync::watch::Receiver<(usize, Result<Option<Revision>, String>)>,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Follower {
    async fn new(sandbox: &Sandbox, branch: &str, poll: Duration) -> Self {
        let cancel = CancellationToken::new();
        let mut signals = watch(&sandbox.bare(), branch, poll, cancel.clone());
        let (tell, seen) = tokio::sync::watch::channel((0, Err("not looked yet".to_owned())));
        let (path, branch) = (sandbox.bare(), branch.to_owned());
        let task = tokio::spawn(async move {
            let mut looks = 0;
            while signals.recv().await.is_some() {
                looks += 1;
                let head = Bare::open(&path).and_then(|bare| bare.head(&branch)).map_err(|error| error.to_string());
                tell.send_modify(|seen| *seen = (looks, head));
            }
        });
        let mut follower = Self { seen, cancel, task };
        follower.looks_after(0, "the first look").await;
        follower
    }

    fn looks(&self) -> usize {
        self.seen.borrow().0
    }

    async fn looks_after(&mut self, before: usize, what: &str) {
        let looked = tokio::time::timeout(REACTION, self.seen.wait_for(|(looks, _)| *looks > before)).await;
        assert!(looked.is_ok(), "{what}: no look within {REACTION:?}");
    }

    async fn sees(&mut self, wanted: Option<&Revision>, what: &str) {
        let start = Instant::now();
        let seen = self.seen.wait_for(|(_, head)| head.as_ref().map(Option::as_ref) == Ok(wanted));
        let seen = tokio::time::timeout(REACTION, seen).await.is_ok();
        assert!(seen, "{what}: it still sees {:?}", self.seen.borrow());
        println!("{what}: seen after {:?}", start.elapsed());
    }

    /// Waits until what was reported so far has been looked at.
    async fn settle(&self) {
        loop {
            let before = self.looks();
            tokio::time::sleep(Duration::from_millis(200)).await;
            if self.looks() == before {
                return;
            }
        }
    }

    async fn end(self) {
        self.cancel.cancel();
        tokio::time::timeout(REACTION, self.task).await.expect("the watch ends when it is cancelled").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_which_a_branch_moves_is_seen_within_a_second() {
    for git in gits() {
        let sandbox = Sandbox::new(&git);
        let mut follower = Follower::new(&sandbox, "main", NO_POLL).await;

        let a = sandbox.commit(&[("a.yaml", "a: 1\n")]);
        sandbox.push(&["origin", "main"]);
        follower.sees(Some(&a), "a push").await;

        sandbox.git_in("site.git", ["pack-refs", "--all", "--prune"]);
        follower.settle().await;
        follower.sees(Some(&a), "a packed branch").await;
        let b = sandbox.commit(&[("a.yaml", "a: 2\n")]);
        sandbox.push(&["origin", "main"]);
        follower.sees(Some(&b), "a push after pack-refs").await;

        sandbox.git_in("site.git", ["update-ref", "refs/heads/main", a.as_str()]);
        follower.sees(Some(&a), "update-ref").await;

        fs::write(sandbox.bare().join("refs/heads/main"), format!("{b}\n")).unwrap();
        follower.sees(Some(&b), "a ref written by hand").await;

        sandbox.git_in("work", ["commit", "-q", "--amend", "-m", "Rewritten"]);
        let c = Revision::parse(&sandbox.git_in("work", ["rev-parse", "HEAD"])).unwrap();
        sandbox.push(&["--force", "origin", "main"]);
        follower.sees(Some(&c), "a force-push").await;

        sandbox.git_in("site.git", ["gc", "--quiet", "--prune=now"]);
        follower.settle().await;
        follower.sees(Some(&c), "gc").await;
        sandbox.git_in("site.git", ["update-ref", "-d", "refs/heads/main"]);
        follower.sees(None, "a deleted branch that was packed").await;
        sandbox.push(&["origin", "main"]);
        follower.sees(Some(&c), "a branch that is back").await;

        fs::write(sandbox.bare().join("packed-refs"), "").unwrap();
        fs::write(sandbox.bare().join("refs/heads/main"), "").unwrap();
        follower.settle().await;
        assert!(follower.seen.borrow().1.is_err(), "a ref of zero length cannot be read");
        fs::write(sandbox.bare().join("refs/heads/main"), format!("{c}\n")).unwrap();
        follower.sees(Some(&c), "a mended ref").await;
        follower.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_in_directories_that_do_not_exist_yet_is_seen() {
    for git in gits() {
        let sandbox = Sandbox::new(&git);
        let main = sandbox.head("main").unwrap();
        let mut follower = Follower::new(&sandbox, "team/home/main", NO_POLL).await;
        for round in 0..20 {
            sandbox.git_in("site.git", ["update-ref", "refs/heads/team/home/main", main.as_str()]);
            follower.sees(Some(&main), &format!("made in round {round}")).await;
            sandbox.git_in("site.git", ["update-ref", "-d", "refs/heads/team/home/main"]);
            follower.sees(None, &format!("gone in round {round}")).await;
            assert!(!sandbox.bare().join("refs/heads/team").exists(), "Git removes the empty directories");
        }
        follower.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_at_an_idle_repository_causes_no_further_look() {
    let sandbox = Sandbox::new(&gits()[0]);
    let follower = Follower::new(&sandbox, "main", NO_POLL).await;
    let revision = sandbox.head("main").unwrap();
    for _ in 0..50 {
        assert_eq!(sandbox.head("main"), Some(revision.clone()));
        let files = sandbox.files(&revision);
        files.read(&files.entries()[0]).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(follower.looks(), 1, "reading caused a look");

    sandbox.push(&["origin", "main:other", "main:refs/tags/v1"]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(follower.looks(), 1, "another branch caused a look");

    let next = sandbox.commit(&[("a.yaml", "a: 1\n")]);
    let mut follower = follower;
    sandbox.push(&["origin", "main"]);
    follower.sees(Some(&next), "a push").await;
    follower.settle().await;
    assert!(follower.looks() <= 4, "one push caused {} looks", follower.looks() - 1);
    follower.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_pushes_is_one_waiting_signal_and_ends_at_the_last() {
    let sandbox = Sandbox::new(&gits()[0]);
    let mut commits = vec![sandbox.head("main").unwrap()];
    for i in 0..20 {
        commits.push(sandbox.commit(&[("a.yaml", &format!("a: {i}\n"))]));
    }
    sandbox.push(&["origin", "main:all"]);
    let cancel = CancellationToken::new();
    let mut unread = watch(&sandbox.bare(), "main", NO_POLL, cancel.clone());
    let mut follower = Follower::new(&sandbox, "main", NO_POLL).await;
    for _ in 0..5 {
        for commit in &commits {
            sandbox.git_in("site.git", ["update-ref", "refs/heads/main", commit.as_str()]);
        }
    }
    follower.sees(commits.last(), "the last of the storm").await;
    follower.settle().await;
    let mut waiting = 0;
    while unread.try_recv().is_ok() {
        waiting += 1;
    }
    assert_eq!(waiting, 1, "a hundred moves wait as one signal");
    drop(unread);
    cancel.cancel();
    follower.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_comes_late_or_is_exchanged_is_watched_from_then_on() {
    let sandbox = Sandbox::empty(&gits()[0]);
    let mut follower = Follower::new(&sandbox, "main", NO_POLL).await;
    assert!(follower.seen.borrow().1.is_err(), "there is nothing yet");

    sandbox.git_in(".", ["init", "-q", "--bare", "-b", "main", "site.git"]);
    follower.sees(None, "the repository is there").await;
    sandbox.clone_work();
    let first = sandbox.commit(&[("site.yaml", "kind: Site\n")]);
    sandbox.push(&["origin", "main"]);
    follower.sees(Some(&first), "the first push").await;

    let second = sandbox.commit(&[("site.yaml", "kind: Site\nname: x\n")]);
    sandbox.git_in(".", ["clone", "-q", "--bare", "work", "other.git"]);
    follower.settle().await;
    fs::rename(sandbox.bare(), sandbox.dir.path().join("old.git")).unwrap();
    fs::rename(sandbox.dir.path().join("other.git"), sandbox.bare()).unwrap();
    follower.sees(Some(&second), "the exchange").await;

    follower.settle().await;
    let third = sandbox.commit(&[("site.yaml", "kind: Site\nname: y\n")]);
    sandbox.push(&["origin", "main"]);
    follower.sees(Some(&third), "a push to the new one").await;

    let before = follower.looks();
    fs::remove_dir_all(sandbox.bare()).unwrap();
    follower.looks_after(before, "the removal").await;
    follower.settle().await;
    assert!(follower.seen.borrow().1.is_err());
    follower.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_made_slowly_is_seen_when_it_is_whole() {
    let sandbox = Sandbox::new(&gits()[0]);
    let main = sandbox.head("main").unwrap();
    let config = fs::read(sandbox.bare().join("config")).unwrap();
    fs::write(sandbox.bare().join("config"), "[core\n").unwrap();
    let mut follower = Follower::new(&sandbox, "main", NO_POLL).await;
    follower.settle().await;
    assert!(follower.seen.borrow().1.is_err(), "half made");
    assert!(follower.looks() <= 2, "waiting for it is quiet");
    fs::write(sandbox.bare().join("config"), config).unwrap();
    follower.sees(Some(&main), "a whole repository").await;
    follower.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_poll_looks_even_when_nothing_is_reported() {
    let sandbox = Sandbox::new(&gits()[0]);
    let mut follower = Follower::new(&sandbox, "main", Duration::from_millis(100)).await;
    for look in 1..5 {
        follower.looks_after(look, "a poll").await;
    }
    follower.end().await;
}
