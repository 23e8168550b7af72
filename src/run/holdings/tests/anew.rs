//! Snapshots that turn up later, stand beside those that they were made of, or hold something else.

use super::*;

fn of_a(id: &str, n: u8) -> Seen {
    seen(id, n, Some(&site('a')))
}

fn with(listing: &[Seen], books: &Books, elsewhere: &Orders, newest_runs: &[RunId]) -> Sorted {
    let (site, none) = (site('a'), BTreeSet::new());
    sort(
        listing,
        &Question {
            destination: &Name::parse("nas").unwrap(),
            site: &site,
            then: books,
            books,
            witnessed: &none,
            unknown_runs: &BTreeSet::new(),
            elsewhere,
            newest_runs: &newest_runs.iter().copied().collect(),
            machine: None,
            targets: &BTreeSet::new(),
            before: None,
            now: at(100),
        },
    )
}

fn taken_in(mut books: Books, sorted: &Sorted) -> Books {
    for (job, id, known) in sorted.adopted.iter().chain(&sorted.changed) {
        books.by_job.entry(job.clone()).or_default().insert(id.clone(), known.clone());
        books.highest = books.highest.max(known.order);
    }
    books
}

fn rewritten(id: &str, of: &str, n: u8) -> Seen {
    Seen { original: Some(of.to_owned()), tree: Some(format!("tree of {id}")), ..of_a(id, n) }
}

#[test]
fn what_turns_up_later_has_the_place_of_its_run_and_what_is_dated_in_the_future_is_never_the_newest() {
    let listing = [of_a("x", 9), of_a("y", 2), of_a("z", 3), of_a("n", 10), of_a("f", 200)];
    let known = books(&[("x", known(9))]);
    let sorted = with(&listing, &known, &Orders::new(), &[]);
    assert_eq!(ids(&sorted), ["f", "y", "z", "x", "n"]);
    assert_eq!(sorted.holdings.future, 1);
    // And it stays there.
    let again = with(&listing, &taken_in(known, &sorted), &Orders::new(), &[]);
    assert_eq!((ids(&again), again.adopted.len()), (vec!["f", "y", "z", "x", "n"], 0));
    // Where nothing is known the runs decide.
    let lost = with(&listing, &Books::default(), &Orders::new(), &[]);
    assert_eq!(ids(&lost), ["f", "y", "z", "x", "n"]);
}

#[test]
fn what_a_run_under_way_makes_is_the_newest_and_a_clock_that_was_wrong_places_nothing() {
    let x = books(&[("x", known(9))]);
    let listing = [of_a("x", 9), of_a("y", 2)];
    assert_eq!(ids(&with(&listing, &x, &Orders::new(), &[run(2)])), ["x", "y"], "the clock was set back");
    // The clock was ahead at the first run.
    let ahead = books(&[("f", Known { order: 1, ..known(200) }), ("x", Known { order: 2, ..known(5) })]);
    let listing = [of_a("f", 200), of_a("x", 5), of_a("y", 7), of_a("z", 3)];
    assert_eq!(ids(&with(&listing, &ahead, &Orders::new(), &[])), ["f", "z", "x", "y"]);
}

#[test]
fn a_run_has_one_place_in_all_repositories() {
    // A second repository, which began with the fourth run and got the others by `restic copy`, the fourth a second time.
    let fourth = books(&[("x4", Known { order: 5, ..known(4) })]);
    let elsewhere: Orders = [(job(), (1..=4).map(|n| (run(n), u64::from(n))).collect())].into();
    let copied: Vec<Seen> = (1..=4).map(|n| rewritten(&format!("c{n}"), &format!("o{n}"), n)).collect();
    let listing: Vec<Seen> = copied.into_iter().chain([of_a("x4", 4)]).collect();
    let sorted = with(&listing, &fourth, &elsewhere, &[run(4)]);
    assert_eq!((ids(&sorted), sorted.holdings.copies), (vec!["c1", "c2", "c3", "x4"], 1));
    assert_eq!(sorted.adopted.iter().map(|(_, _, known)| known.order).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn what_is_first_seen_in_one_repository_stands_where_its_run_stands_among_those_of_the_others() {
    let runs: Vec<RunId> = (0..10).map(|n| RunId::generate(at(n))).collect();
    let made = |id: &str, n: u8| Seen { run: Some(runs[usize::from(n)]), ..of_a(id, n) };
    let orders = |elsewhere: &Orders, listing: &[Seen], books: &Books| -> Vec<u64> {
        with(listing, books, elsewhere, &[]).adopted.iter().map(|(_, _, known)| known.order).collect()
    };
    // As after a loss of the state: the other one was listed first, and has the later runs.
    let later: Orders = [(job(), [(runs[3], 1), (runs[4], 2)].into())].into();
    let listing = [made("x1", 1), made("x2", 2), made("x5", 5)];
    let nothing = Books { highest: 2, ..Books::default() };
    assert_eq!(orders(&later, &listing, &nothing), [1, 1, 3]);
    // One that the other has forgotten since is before what is later there, whatever is known here.
    let first = books(&[("a1", Known { run: Some(runs[1]), ..known(1) })]);
    let newest: Orders = [(job(), [(runs[4], 4)].into())].into();
    assert_eq!(orders(&newest, &[made("a1", 1), made("x2", 2)], &first), [4]);
    // Another job of the target, but never before an earlier run of its own.
    let weekly: JobId = "etc/weekly".parse().unwrap();
    let other: Orders = [(weekly, [(runs[3], 7), (runs[9], 8)].into())].into();
    assert_eq!(orders(&other, &listing, &Books { highest: 8, ..Books::default() }), [7, 7, 8]);
    let own = books(&[("a2", Known { order: 9, run: Some(runs[2]), ..known(2) })]);
    assert_eq!(orders(&other, &[made("a2", 2), made("x5", 5)], &own), [10]);
}

#[test]
fn a_second_snapshot_of_a_run_takes_no_place_while_the_first_is_there() {
    let known = books(&[("a1", known(1)), ("a2", known(2))]);
    let listing =
        [of_a("a1", 1), of_a("a2", 2), rewritten("r1", "a1", 1), Seen { run: None, ..rewritten("r2", "a2", 2) }];
    let both = with(&listing, &known, &Orders::new(), &[]);
    assert_eq!((ids(&both), both.holdings.copies, both.holdings.ours), (vec!["a1", "a2"], 2, 2));
    assert_eq!((both.holdings.altered.len(), both.adopted.len(), both.holdings.foreign.len()), (0, 0, 0));
    // The first was forgotten by us: the second has its place, and no other.
    let mut left = known.clone();
    left.by_job.get_mut(&job()).unwrap().remove("a1");
    let later = with(&listing[1..], &left, &Orders::new(), &[]);
    assert_eq!(ids(&later), ["r1", "a2"]);
    // Of two that are new at once it is the one that the other was made of.
    let new = with(&listing[..3], &Books::default(), &Orders::new(), &[]);
    assert_eq!(ids(&new), ["a1", "a2"]);
}

#[test]
fn what_was_written_anew_with_something_else_in_it_is_told_until_that_is_accepted() {
    let all = books(&[("a1", known(1)), ("a2", known(2)), ("a3", known(3))]);
    let listing = [of_a("a1", 1), rewritten("r2", "a2", 2), rewritten("r3", "a3", 3)];
    let renamed = renamed::renamed(&listing, &all, &site('a'));
    let mut books = all.clone();
    books.rename(&renamed);
    let first = with(&listing, &books, &Orders::new(), &[]);
    let [altered] = &first.holdings.altered[..] else { panic!("{:?}", first.holdings) };
    assert_eq!((altered.snapshots, altered.newest, altered.from, altered.to), (2, true, at(2), at(3)));
    assert_eq!((ids(&first), first.holdings.missing.len()), (vec!["a1", "r2", "r3"], 0));
    let books = taken_in(books, &first);
    let second = with(&listing, &books, &Orders::new(), &[]);
    assert_eq!((second.holdings.altered[0].value(), second.changed.len()), (altered.value(), 0));
    // One of them more is another value.
    let third = [rewritten("r1", "a1", 1), rewritten("r2", "a2", 2), rewritten("r3", "a3", 3)];
    let mut more = books.clone();
    more.rename(&renamed::renamed(&third, &books, &site('a')));
    assert_ne!(with(&third, &more, &Orders::new(), &[]).holdings.altered[0].value(), altered.value());

    // Tagged again by hand it is the same as before.
    let tagged: Vec<Seen> =
        [of_a("a1", 1)]
            .into_iter()
            .chain([2, 3].map(|n| Seen {
                tree: Some(format!("tree of r{n}")),
                ..rewritten(&format!("t{n}"), &format!("a{n}"), n)
            }))
            .collect();
    let mut accepted = books.clone();
    for known in accepted.by_job.values_mut().flat_map(BTreeMap::values_mut) {
        known.accept_altered();
    }
    assert_eq!(with(&listing, &accepted, &Orders::new(), &[]).holdings.altered, []);
    accepted.rename(&renamed::renamed(&tagged, &accepted, &site('a')));
    let sorted = with(&tagged, &accepted, &Orders::new(), &[]);
    assert_eq!((ids(&sorted), sorted.holdings.altered.len()), (vec!["a1", "t2", "t3"], 0));
}

#[test]
fn what_restic_repaired_tells_that_the_other_one_is_not_whole() {
    let known = books(&[("a1", known(1)), ("a2", known(2))]);
    let repaired = Seen { repaired: true, ..rewritten("r1", "a1", 1) };
    let listing = [of_a("a1", 1), of_a("a2", 2), repaired.clone()];
    let first = with(&listing, &known, &Orders::new(), &[]);
    let [altered] = &first.holdings.altered[..] else { panic!("{:?}", first.holdings) };
    assert_eq!((altered.snapshots, altered.newest, ids(&first)), (1, false, vec!["a1", "a2"]));
    let mut books = taken_in(known, &first);
    books.by_job.get_mut(&job()).unwrap().get_mut("a1").unwrap().accept_altered();
    assert_eq!(with(&listing, &books, &Orders::new(), &[]).holdings.altered, []);
    // What is not known and bears its mark is not whole, either.
    let only = with(&[repaired], &Books::default(), &Orders::new(), &[]);
    assert_eq!((only.holdings.altered.len(), ids(&only)), (1, vec!["r1"]));
}

#[test]
fn what_was_known_before_its_content_was_noted_is_the_same_unless_restic_says_otherwise() {
    let older = |n: u8| Known { trees: BTreeSet::new(), ..known(n) };
    let known = books(&[("a1", older(1)), ("a2", older(2)), ("a3", older(3))]);
    let listing = [of_a("a1", 1), rewritten("n2", "a2", 2), Seen { repaired: true, ..rewritten("n3", "a3", 3) }];
    let mut books = known.clone();
    books.rename(&renamed::renamed(&listing, &known, &site('a')));
    let first = with(&listing, &books, &Orders::new(), &[]);
    let [altered] = &first.holdings.altered[..] else { panic!("{:?}", first.holdings) };
    assert_eq!((altered.snapshots, altered.to, ids(&first)), (1, at(3), vec!["a1", "n2", "n3"]));
    // From then on it is noted.
    let books = taken_in(books, &first);
    assert_eq!(books.by_job[&job()]["a1"].trees, ["tree of 1".to_owned()].into());
    assert_eq!(with(&listing, &books, &Orders::new(), &[]).holdings.altered[0].value(), altered.value());
}

#[test]
fn a_snapshot_that_lost_our_marks_is_known_by_what_it_was_made_of_and_by_what_it_holds() {
    let bare = |seen: Seen| Seen { job: None, run: None, site: None, on: None, ..seen };
    let first = Known { original: Some("a0".to_owned()), ..known(1) };
    let known = books(&[("a1", first), ("a2", known(2)), ("a3", known(3))]);
    let listing = [
        bare(Seen { original: Some("a0".to_owned()), ..of_a("n1", 1) }),
        bare(Seen { original: Some("a2".to_owned()), ..of_a("n2", 2) }),
        bare(Seen { original: Some("elsewhere".to_owned()), ..of_a("n3", 3) }),
        bare(of_a("another", 4)),
    ];
    let renamed = renamed::renamed(&listing, &known, &site('a'));
    let mut books = known.clone();
    books.rename(&renamed);
    let sorted = with(&listing, &books, &Orders::new(), &[]);
    assert_eq!(
        (ids(&sorted), sorted.holdings.missing.len(), sorted.holdings.altered.len()),
        (vec!["n1", "n2", "n3"], 0, 0)
    );
    let marks: Vec<(&str, Option<RunId>)> = sorted.bare.iter().map(|(id, (_, run))| (id.as_str(), *run)).collect();
    assert_eq!(marks, [("n1", Some(run(1))), ("n2", Some(run(2))), ("n3", Some(run(3)))]);
}

#[test]
fn the_value_of_what_was_found_at_once_is_the_same_at_the_next_look() {
    // In the order of their runs at first, in that of their ids later.
    let repaired = |id: &str, n: u8| Seen { repaired: true, ..rewritten(id, &format!("gone{n}"), n) };
    let listing = [repaired("z", 1), repaired("b", 2), repaired("m", 3)];
    let first = with(&listing, &Books::default(), &Orders::new(), &[]);
    let again = with(&listing, &taken_in(Books::default(), &first), &Orders::new(), &[]);
    assert_eq!(first.holdings.altered[0].snapshots, 3);
    assert_eq!(again.holdings.altered[0].value(), first.holdings.altered[0].value());
}

#[test]
fn what_stands_beside_a_repaired_one_is_asked_about_once() {
    let older = Known { trees: BTreeSet::new(), ..known(1) };
    let known = books(&[("a1", older)]);
    let listing = [of_a("a1", 1), Seen { repaired: true, ..rewritten("r1", "a1", 1) }];
    let first = with(&listing, &known, &Orders::new(), &[]);
    assert_eq!(first.holdings.altered.len(), 1);
    let mut books = taken_in(known, &first);
    books.by_job.get_mut(&job()).unwrap().get_mut("a1").unwrap().accept_altered();
    assert_eq!(with(&listing, &books, &Orders::new(), &[]).holdings.altered, []);
}
