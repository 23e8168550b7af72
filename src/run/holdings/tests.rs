//! Whose snapshots are whose, by hand-made listings.

use super::*;

fn site(letter: char) -> SiteId {
    SiteId::parse(&letter.to_string().repeat(20)).unwrap()
}

fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + hours * 3600).unwrap()
}

fn run(n: u8) -> RunId {
    RunId::from_bytes([n; 16])
}

fn job() -> JobId {
    "etc/nightly".parse().unwrap()
}

fn seen(id: &str, n: u8, site: Option<&SiteId>) -> Seen {
    Seen {
        id: id.to_owned(),
        time: at(i64::from(n)),
        job: Some(job()),
        run: Some(run(n)),
        site: site.map(|site| site.as_str().to_owned()),
        host: "home".to_owned(),
        original: None,
        on: Some("here".to_owned()),
        tree: Some(format!("tree of {n}")),
        repaired: false,
    }
}

fn known(n: u8) -> Known {
    let trees = [format!("tree of {n}")].into();
    Known { run: Some(run(n)), trees, ..Known::new(u64::from(n), at(i64::from(n))) }
}

fn books(all: &[(&str, Known)]) -> Books {
    let highest = all.iter().map(|(_, known)| known.order).max().unwrap_or(0);
    let all = all.iter().map(|(id, known)| ((*id).to_owned(), known.clone())).collect();
    Books { by_job: [(job(), all)].into(), highest }
}

fn sorted(listing: &[Seen], books: &Books, witnessed: &[&str], before: Option<&Holdings>) -> Sorted {
    let witnessed = witnessed.iter().map(|id| (*id).to_owned()).collect();
    let (site, targets) = (site('a'), [Name::parse("etc").unwrap()].into());
    let question = Question {
        destination: &Name::parse("nas").unwrap(),
        site: &site,
        then: books,
        books,
        witnessed: &witnessed,
        // Those of a later state, by the convention of these tests.
        unknown_runs: &(50..100).map(run).collect(),
        elsewhere: &Orders::new(),
        newest_runs: &BTreeSet::new(),
        machine: Some("here"),
        targets: &targets,
        before,
        now: at(100),
    };
    sort(listing, &question)
}

fn ids(sorted: &Sorted) -> Vec<&str> {
    sorted.ours.get(&job()).into_iter().flatten().map(|ours| ours.id.as_str()).collect()
}

#[test]
fn another_site_with_the_same_target_and_name_is_told_and_none_of_its_snapshots_is_ours() {
    let (a, b) = (site('a'), site('b'));
    let listing = [seen("a1", 1, Some(&a)), seen("b1", 2, Some(&b)), seen("a2", 3, Some(&a)), seen("b2", 4, Some(&b))];
    let sorted = sorted(&listing, &Books::default(), &[], None);
    assert_eq!(ids(&sorted), ["a1", "a2"]);
    let [other] = &sorted.holdings.foreign[..] else { panic!("{:?}", sorted.holdings) };
    assert_eq!((other.site.as_deref(), other.snapshots, other.newest), (Some(b.as_str()), 2, at(4)));
    assert!(other.targets.contains("etc"));
    assert!(sorted.holdings.missing.is_empty());
}

#[test]
fn a_snapshot_without_a_mark_is_ours_only_where_our_ledger_has_its_run() {
    let listing = [seen("old", 1, None), seen("other", 2, None)];
    let none = Books::default();
    assert_eq!(unmarked(&listing, &none).count(), 2);
    let sorted = sorted(&listing, &none, &["old"], None);
    assert_eq!(ids(&sorted), ["old"]);
    assert_eq!((sorted.holdings.foreign[0].site.as_ref(), sorted.holdings.foreign[0].snapshots), (None, 1));
    // Once it is in the books its run may leave the history.
    let books = books(&[("old", sorted.adopted[0].2.clone())]);
    assert_eq!(unmarked(&listing, &books).map(|(_, id)| id).collect::<Vec<_>>(), ["other"]);
    assert_eq!(ids(&super::tests::sorted(&listing, &books, &[], None)), ["old"]);
}

#[test]
fn what_we_forgot_is_not_missing_and_what_vanished_is_missing_until_it_is_back() {
    let a = site('a');
    let gone = Known { leaving: true, ..known(1) };
    let books = books(&[("s1", gone), ("s2", known(2)), ("s3", known(3))]);
    let first = sorted(&[seen("s3", 3, Some(&a))], &books, &[], None);
    assert_eq!(first.gone, [(job(), "s1".to_owned())]);
    let [missing] = &first.holdings.missing[..] else { panic!("{:?}", first.holdings) };
    assert_eq!((missing.snapshots, missing.newest, missing.from), (1, false, at(2)));

    let all_gone = sorted(&[], &books, &[], None);
    let [missing] = &all_gone.holdings.missing[..] else { panic!("{:?}", all_gone.holdings) };
    assert_eq!((missing.snapshots, missing.newest), (2, true));
    // A newer one does not make it well.
    let again = sorted(&[seen("s4", 4, Some(&a))], &books, &[], Some(&all_gone.holdings));
    assert!(again.holdings.missing[0].newest);
    let back = [seen("s2", 2, Some(&a)), seen("s3", 3, Some(&a))];
    assert!(sorted(&back, &books, &[], Some(&all_gone.holdings)).holdings.missing.is_empty());
}

#[test]
fn what_was_shipped_while_the_repository_was_listed_is_not_missing_from_the_listing() {
    let (then, now) = (books(&[("s1", known(1))]), books(&[("s1", known(1)), ("s2", known(2))]));
    let (site, targets) = (site('a'), [Name::parse("etc").unwrap()].into());
    let listing = [seen("s1", 1, Some(&site))];
    let none = BTreeSet::new();
    let sorted = sort(
        &listing,
        &Question {
            destination: &Name::parse("nas").unwrap(),
            site: &site,
            then: &then,
            books: &now,
            witnessed: &none,
            unknown_runs: &BTreeSet::new(),
            elsewhere: &Orders::new(),
            newest_runs: &BTreeSet::new(),
            machine: Some("here"),
            targets: &targets,
            before: None,
            now: at(9),
        },
    );
    assert!(sorted.missing.is_empty() && sorted.adopted.is_empty());
}

#[test]
fn what_larder_did_not_make_is_nobodys() {
    let listing = [Seen { job: None, ..seen("x", 1, None) }];
    let sorted = sorted(&listing, &Books::default(), &[], None);
    assert_eq!((sorted.holdings.snapshots, sorted.holdings.ours), (1, 0));
    assert!(sorted.holdings.foreign.is_empty());
}

#[test]
fn snapshots_of_ours_by_later_runs_that_the_ledger_does_not_know_tell_that_it_is_old() {
    let a = site('a');
    let old = books(&[("a1", known(1)), ("a2", known(2))]);
    // The later state forgot `a1` and made two.
    let listing = [seen("a2", 2, Some(&a)), seen("a60", 60, Some(&a)), seen("a61", 61, Some(&a))];
    let first = sorted(&listing, &old, &[], None);
    let [newer] = &first.holdings.newer[..] else { panic!("{:?}", first.holdings) };
    assert_eq!((newer.snapshots, newer.gone, newer.from, newer.to), (2, 1, at(60), at(61)));
    assert_eq!(mark::without(&newer.value()), Some("newer:2"));
    assert_eq!(first.holdings.missing, [], "a later state may have forgotten it");
    assert_eq!(ids(&first), ["a2", "a60", "a61"], "and the newest is the newest run by the repository");

    // Written down, it stays told until it is accepted; what vanishes of the newer ones is another matter.
    let mut later = old.clone();
    later
        .by_job
        .get_mut(&job())
        .unwrap()
        .extend(first.adopted.iter().map(|(_, id, known)| (id.clone(), known.clone())));
    later.highest = 4;
    let second = sorted(&listing, &later, &[], Some(&first.holdings));
    assert_eq!(second.holdings.newer, first.holdings.newer);
    let third = sorted(&listing[..2], &later, &[], Some(&second.holdings));
    assert_eq!(third.holdings.newer.len(), 1);
    assert_eq!(
        third.holdings.missing.iter().map(|each| (each.snapshots, each.newest)).collect::<Vec<_>>(),
        [(1, true)]
    );
}

#[test]
fn snapshots_of_ours_among_the_known_runs_that_the_ledger_does_not_know_are_another_machines() {
    let a = site('a');
    let known = books(&[("a1", known(1)), ("a70", known(70))]);
    let elsewhere = Seen { on: Some("elsewhere".to_owned()), ..seen("a60", 60, Some(&a)) };
    let listing = [seen("a1", 1, Some(&a)), elsewhere, seen("a70", 70, Some(&a))];
    let first = sorted(&listing, &known, &[], None);
    let [newer] = &first.holdings.newer[..] else { panic!("{:?}", first.holdings) };
    assert_eq!((newer.snapshots, newer.beside, newer.on.as_deref()), (1, true, Some("elsewhere")));
    // By the same machine it is the older state only.
    let listing = [seen("a1", 1, Some(&a)), seen("a70", 70, Some(&a)), seen("a71", 71, Some(&a))];
    let later = sorted(&listing, &known, &[], None);
    let [newer] = &later.holdings.newer[..] else { panic!("{:?}", later.holdings) };
    assert_eq!((newer.beside, &newer.on), (false, &None));
}

#[test]
fn what_is_typed_is_of_this_loss_only_and_stays_while_it_is_the_same() {
    let a = site('a');
    let all: Vec<Seen> = (1..=6).map(|n| seen(&format!("s{n}"), n, Some(&a))).collect();
    let known = books(&(1..=6).map(|n| (all[usize::from(n) - 1].id.as_str(), known(n))).collect::<Vec<_>>());
    let value = |listing: &[Seen], before: Option<&Holdings>| {
        let holdings = sorted(listing, &known, &[], before).holdings;
        (holdings.missing[0].value(), holdings)
    };
    let (first, holdings) = value(&all[..4], None);
    assert_eq!(mark::without(&first), Some("missing:2"));
    assert_eq!(value(&all[..4], Some(&holdings)).0, first);
    assert_ne!(value(&all[2..], Some(&holdings)).0, first, "as many others");
    assert_ne!(value(&all[..3], Some(&holdings)).0, first, "one more");
    // Of later runs, too: it stays while no more of them are found.
    let unknown: Vec<Seen> = (60..63).map(|n| seen(&format!("u{n}"), n, Some(&a))).chain(all).collect();
    let newer = |listing: &[Seen], books: &Books, before: Option<&Holdings>| {
        let found = sorted(listing, books, &[], before);
        (found.holdings.newer[0].value(), found)
    };
    let (first, found) = newer(&unknown[1..], &known, None);
    let mut later = known.clone();
    let taken_in = found.adopted.iter().map(|(_, id, known)| (id.clone(), known.clone()));
    later.by_job.get_mut(&job()).unwrap().extend(taken_in);
    assert_eq!(newer(&unknown[1..], &later, Some(&found.holdings)).0, first);
    assert_ne!(newer(&unknown, &later, Some(&found.holdings)).0, first);
    assert_ne!(newer(&[&unknown[..1], &unknown[2..]].concat(), &known, None).0, first, "as many others");
}

#[test]
fn every_job_is_judged_however_many_there_are() {
    let a = site('a');
    let of = |n: u32| -> JobId { format!("t{n:04}/nightly").parse().unwrap() };
    let known_by_id = |n: u32| KnownById::from([(format!("k{n}"), known(1))]);
    let known = Books { by_job: (0..300).map(|n| (of(n), known_by_id(n))).collect(), highest: 1 };
    let of_job = |n: u32, seen: Seen| Seen { job: Some(of(n)), ..seen };
    let there = |n: u32| of_job(n, seen(&format!("k{n}"), 1, Some(&a)));
    let unknown = (0..300).map(|n| of_job(n, seen(&format!("u{n}"), 60, Some(&a))));
    let older = sorted(&unknown.chain((0..300).map(there)).collect::<Vec<_>>(), &known, &[], None);
    assert_eq!(
        older.holdings.newer.iter().map(|newer| &newer.job).collect::<Vec<_>>(),
        known.by_job.keys().collect::<Vec<_>>()
    );
    let gone = sorted(&[], &known, &[], None);
    assert_eq!(gone.holdings.missing.len(), 300);
}

#[test]
fn a_ledger_that_is_empty_or_knows_the_runs_is_not_old() {
    let a = site('a');
    let listing = [seen("a1", 1, Some(&a)), seen("a60", 60, Some(&a))];
    // A lost state: the snapshots are taken in.
    assert_eq!(sorted(&listing, &Books::default(), &[], None).holdings.newer, []);
    // Our own run under way, and one older than what is known.
    let known = books(&[("a3", known(3))]);
    let listing = [seen("a2", 2, Some(&a)), seen("a3", 3, Some(&a)), seen("a4", 4, Some(&a))];
    assert_eq!(sorted(&listing, &known, &[], None).holdings.newer, []);
    // Another site's.
    let listing = [seen("a3", 3, Some(&a)), seen("b60", 60, Some(&site('b')))];
    assert_eq!(sorted(&listing, &known, &[], None).holdings.newer, []);
}

#[test]
fn what_was_tagged_or_rewritten_by_hand_is_the_same_snapshot_and_not_gone() {
    let a = site('a');
    let mut known =
        books(&[("a1", known(1)), ("a2", known(2)), ("a3", Known { run: None, missing: true, ..known(3) })]);
    let mut third = seen("n3", 3, Some(&a));
    third.original = Some("a3".to_owned());
    let listing = [seen("n1", 1, Some(&a)), seen("n2", 2, Some(&a)), seen("m2", 2, Some(&a)), third];
    let renamed = renamed::renamed(&listing, &known, &a);
    let ids_of: Vec<(&str, &str)> = renamed.iter().map(|each| (each.from.as_str(), each.to.as_str())).collect();
    assert_eq!(ids_of, [("a1", "n1"), ("a2", "n2"), ("a3", "n3")]);
    known.rename(&renamed);
    let found = sorted(&listing, &known, &[], None);
    assert_eq!((found.holdings.missing.len(), found.missing.len(), found.adopted.len()), (0, 0, 0), "{found:?}");
    assert_eq!(ids(&found), ["n1", "n2", "n3"], "in the places of those of before");
    assert_eq!((found.holdings.copies, &found.holdings.altered), (1, &Vec::new()));
    // Another site's is not ours, and what is there has its own id.
    let known = books(&[("a1", super::Known { ..self::known(1) })]);
    assert_eq!(renamed::renamed(&[seen("n1", 1, Some(&site('b')))], &known, &a), []);
    assert_eq!(renamed::renamed(&[seen("a1", 1, Some(&a)), seen("n1", 1, Some(&a))], &known, &a), []);
    assert_eq!(renamed::renamed(&[seen("n2", 2, Some(&a))], &known, &a), []);
}

mod anew;
