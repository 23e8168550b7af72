//! A made-up bucket that a made-up restic works in: backups, forgets and prunes in single steps, with the steps of looks
//! between them, and a time that passes.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3600;
/// Of every retention, so that the steps of one prune are minutes of it.
const STEP_S: i64 = 20;

struct Object {
    kind: Kind,
    lock: Option<Lock>,
    put: i64,
    /// When it was marked as deleted.
    gone: Option<i64>,
}

struct Snapshot {
    object: usize,
    packs: BTreeSet<usize>,
}

type Step = Box<dyn FnOnce(&mut World)>;

/// A bucket, and what restic still has to do in it.
struct World {
    now_s: i64,
    /// The bucket's default retention.
    default_s: Option<i64>,
    objects: Vec<Object>,
    snapshots: Vec<Snapshot>,
    /// Put by the work that is going on.
    fresh: Vec<usize>,
    steps: VecDeque<Step>,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

impl World {
    fn new(default_s: Option<i64>) -> Self {
        let (objects, snapshots, fresh) = (Vec::new(), Vec::new(), Vec::new());
        let mut world = Self { now_s: 0, default_s, objects, snapshots, fresh, steps: VecDeque::new() };
        world.put(Kind::Key);
        world.put(Kind::Config);
        world
    }

    fn put(&mut self, kind: Kind) -> usize {
        let until = self.default_s.map(|default| at(self.now_s + default));
        let lock = until.map(|until| Lock { mode: LockMode::Compliance, until });
        self.objects.push(Object { kind, lock, put: self.now_s, gone: None });
        self.objects.len() - 1
    }

    fn there(&self, kind: Kind) -> Vec<usize> {
        let of_kind =
            self.objects.iter().enumerate().filter(|(_, object)| object.kind == kind && object.gone.is_none());
        of_kind.map(|(id, _)| id).collect()
    }

    fn delete(&mut self, id: usize) {
        self.objects[id].gone = Some(self.now_s);
    }

    fn backup(&mut self, fresh: usize, reused: usize) {
        for _ in 0..fresh {
            self.steps.push_back(Box::new(|world| {
                let pack = world.put(Kind::Data);
                world.fresh.push(pack);
            }));
        }
        self.steps.push_back(Box::new(|world| {
            world.put(Kind::Index);
        }));
        self.steps.push_back(Box::new(move |world| {
            let known: BTreeSet<usize> = world.snapshots.iter().flat_map(|each| each.packs.clone()).collect();
            let packs = known.into_iter().take(reused).chain(std::mem::take(&mut world.fresh)).collect();
            let object = world.put(Kind::Snapshot);
            world.snapshots.push(Snapshot { object, packs });
        }));
    }

    /// Forgets the oldest `count`, and prunes as restic does: what is repacked, the new index, the old ones, the old packs.
    fn forget(&mut self, count: usize, repacked: usize) {
        self.steps.push_back(Box::new(move |world| {
            let kept = world.snapshots.split_off(count.min(world.snapshots.len()));
            for gone in std::mem::replace(&mut world.snapshots, kept) {
                world.delete(gone.object);
            }
            let needed: BTreeSet<usize> = world.snapshots.iter().flat_map(|each| each.packs.clone()).collect();
            let old: Vec<usize> = needed.iter().copied().take(repacked).collect();
            let obsolete: Vec<usize> = world
                .there(Kind::Data)
                .into_iter()
                .filter(|pack| !needed.contains(pack) || old.contains(pack))
                .collect();
            let mut steps: Vec<Step> = Vec::new();
            for _ in &old {
                steps.push(Box::new(|world| {
                    let pack = world.put(Kind::Data);
                    world.fresh.push(pack);
                }));
            }
            steps.push(Box::new(move |world| {
                let indexes = world.there(Kind::Index);
                world.put(Kind::Index);
                let fresh = std::mem::take(&mut world.fresh);
                for each in &mut world.snapshots {
                    for (old, new) in old.iter().zip(&fresh) {
                        if each.packs.remove(old) {
                            each.packs.insert(*new);
                        }
                    }
                }
                for index in indexes {
                    world.delete(index);
                }
            }));
            for pack in obsolete {
                steps.push(Box::new(move |world| world.delete(pack)));
            }
            steps.into_iter().rev().for_each(|step| world.steps.push_front(step));
        }));
    }

    /// What the kept snapshots need, each of them.
    fn needed(&self) -> Vec<(usize, BTreeSet<usize>)> {
        let shared = [Kind::Config, Kind::Key, Kind::Index].map(|kind| self.there(kind)).concat();
        let of = |each: &Snapshot| each.packs.iter().copied().chain([each.object]).chain(shared.clone()).collect();
        self.snapshots.iter().map(|each| (each.object, of(each))).collect()
    }

    /// Names are hashes, so a list has another order than time.
    fn listed(&self) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.objects.len()).collect();
        all.sort_by_key(|id| (self.objects[*id].kind, id.wrapping_mul(2_654_435_761) % 1_000_003));
        all
    }

    fn versions(&self, id: usize) -> Vec<Version> {
        let object = &self.objects[id];
        let version = |is_delete_marker: bool, put: i64, is_latest: bool| Version {
            name: id.to_string(),
            id: format!("{id} {is_delete_marker}"),
            is_latest,
            is_delete_marker,
            modified: Some(at(put)),
            bytes: 1,
            etag: String::new(),
        };
        let mark = object.gone.map(|gone| version(true, gone, true));
        mark.into_iter().chain([version(false, object.put, object.gone.is_none())]).collect()
    }
}

/// A look on its way, and what was there when it began.
struct Looking {
    begun: Timestamp,
    look: Look,
    /// The list goes on behind these.
    done: BTreeSet<usize>,
    needed: Vec<(usize, BTreeSet<usize>)>,
}

impl Looking {
    fn begun(world: &World, rule: ObjectLock) -> Self {
        let begun = at(world.now_s);
        Self { begun, look: Look::begun(rule.mode, begun), done: BTreeSet::new(), needed: world.needed() }
    }

    /// Looks at the next that is listed now; the horizon behind the last.
    fn step(&mut self, world: &mut World, rule: ObjectLock, is_refused: bool) -> Option<Horizon> {
        let listed = world.listed();
        // A list never goes back: what came before where it is now is not seen.
        let from = listed.iter().rposition(|id| self.done.contains(id)).map_or(0, |last| last + 1);
        let Some(&id) = listed.get(from) else { return Some(self.look.horizon()) };
        self.done.insert(id);
        let versions = there(world.versions(id), self.begun);
        if !versions.is_empty() {
            self.look.named(world.objects[id].kind);
        }
        for _ in versions {
            let object = &mut world.objects[id];
            if let Some(longer) = extension(rule, object.lock, self.begun).filter(|_| !is_refused) {
                assert!(object.lock.is_none_or(|lock| !longer.loosens(lock)), "{:?} becomes {longer:?}", object.lock);
                object.lock = Some(longer);
            }
            self.look.locked(object.lock);
        }
        None
    }
}

#[derive(Clone, Debug)]
enum Event {
    Backup {
        fresh: usize,
        reused: usize,
    },
    Forget {
        count: usize,
        repacked: usize,
    },
    /// restic goes on by so many steps.
    Work(usize),
    /// A look begins, where none is going on.
    Look,
    /// It goes on by so many; what it wants to extend is refused.
    Goes {
        steps: usize,
        is_refused: bool,
    },
    Pass(i64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (1_usize..4, 0_usize..5).prop_map(|(fresh, reused)| Event::Backup { fresh, reused }),
        2 => (0_usize..3, 0_usize..3).prop_map(|(count, repacked)| Event::Forget { count, repacked }),
        6 => (1_usize..9).prop_map(Event::Work),
        3 => Just(Event::Look),
        6 => (1_usize..20, prop::bool::weighted(0.1)).prop_map(|(steps, is_refused)| Event::Goes { steps, is_refused }),
        3 => (0_i64..40 * 24).prop_map(|hours| Event::Pass(hours * HOUR)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_date_is_later_than_the_end_of_a_lock_on_what_the_snapshots_of_then_needed(
        days in 1_u32..40,
        mode in prop::sample::select(vec![LockMode::Governance, LockMode::Compliance]),
        default in prop::option::of(0_i64..60 * 24),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let rule = ObjectLock { mode, days };
        let mut world = World::new(default.map(|hours| hours * HOUR));
        let mut looking: Option<Looking> = None;
        let mut published: Vec<(Timestamp, BTreeSet<usize>)> = Vec::new();
        for event in events {
            match event {
                Event::Backup { fresh, reused } => world.backup(fresh, reused),
                Event::Forget { count, repacked } => world.forget(count, repacked),
                Event::Work(steps) => for _ in 0..steps {
                    let Some(step) = world.steps.pop_front() else { break };
                    world.now_s += STEP_S;
                    step(&mut world);
                },
                Event::Look => if looking.is_none() {
                    world.now_s += 1;
                    looking = Some(Looking::begun(&world, rule));
                },
                Event::Goes { steps, is_refused } => for _ in 0..steps {
                    let Some(look) = &mut looking else { break };
                    world.now_s += 1;
                    let Some(horizon) = look.step(&mut world, rule, is_refused) else { continue };
                    if let Horizon::Until(until) = horizon {
                        let needed = look.needed.iter().flat_map(|(_, needed)| needed.clone()).collect();
                        published.push((until, needed));
                    }
                    looking = None;
                },
                Event::Pass(seconds) => world.now_s += seconds,
            }
            for (until, needed) in &published {
                for id in needed {
                    let lock = world.objects[*id].lock.filter(|lock| lock.mode >= mode);
                    prop_assert!(lock.is_some_and(|lock| lock.until >= *until), "{until} is told, and {id} has {lock:?}");
                }
            }
        }
    }

    #[test]
    fn a_lock_is_never_loosened_and_behind_an_extension_nothing_is_left_to_extend(
        days in 1_u32..1_000,
        hard in any::<bool>(),
        lock in prop::option::of((any::<bool>(), -1_000_000_000_i64..1_000_000_000, 0_i32..1_000_000_000)),
    ) {
        let mode = |hard| if hard { LockMode::Compliance } else { LockMode::Governance };
        let rule = ObjectLock { mode: mode(hard), days };
        let until = |seconds, nanoseconds| Timestamp::new(1_800_000_000 + seconds, nanoseconds).unwrap();
        let lock = lock.map(|(hard, seconds, nanoseconds)| Lock { mode: mode(hard), until: until(seconds, nanoseconds) });
        let now = until(0, 7);
        let ends_soonest = now + SignedDuration::from_hours(24 * i64::from(days)) - spare(rule);
        if let Some(longer) = extension(rule, lock, now) {
            prop_assert!(lock.is_none_or(|lock| !longer.loosens(lock)));
            prop_assert!(longer.mode >= rule.mode && longer.until > ends_soonest);
            prop_assert_eq!(longer.until.subsec_nanosecond(), 0);
            prop_assert_eq!(extension(rule, Some(longer), now), None);
        } else {
            prop_assert!(lock.is_some_and(|lock| lock.mode >= rule.mode && lock.until >= ends_soonest));
        }
        // The next look comes before the lock is over, and then some.
        let every = SignedDuration::try_from(looked_at_every(rule)).unwrap();
        prop_assert!(ends_soonest - every - every > now);
    }
}

#[test]
fn an_object_without_a_lock_or_with_a_softer_one_makes_nothing_immutable() {
    let lock = |mode, seconds| Some(Lock { mode, until: at(seconds) });
    let mut look = Look::begun(LockMode::Compliance, at(0));
    assert_eq!(look.horizon(), Horizon::Nothing);
    look.named(Kind::Key);
    look.locked(lock(LockMode::Compliance, 90));
    assert_eq!(look.horizon(), Horizon::Lacking(Kind::Config));
    look.named(Kind::Config);
    look.locked(lock(LockMode::Compliance, 50));
    assert_eq!(look.horizon(), Horizon::Until(at(50)));
    look.named(Kind::Snapshot);
    look.locked(lock(LockMode::Compliance, 70));
    assert_eq!(look.horizon(), Horizon::Lacking(Kind::Index));
    look.named(Kind::Index);
    look.named(Kind::Data);
    assert_eq!(look.horizon(), Horizon::Until(at(50)));
    look.locked(lock(LockMode::Governance, 99));
    look.locked(lock(LockMode::Compliance, 0));
    look.locked(None);
    assert_eq!(look.horizon(), Horizon::Open(3));
}

#[test]
fn what_was_deleted_during_the_look_counts_and_what_was_before_does_not() {
    let version = |id: &str, second: i64, is_delete_marker: bool, is_latest: bool| Version {
        name: "config".to_owned(),
        id: id.to_owned(),
        is_latest,
        is_delete_marker,
        modified: Some(at(second)),
        bytes: 1,
        etag: String::new(),
    };
    let ids = |versions: Vec<Version>| -> Vec<String> {
        there(versions, at(10)).into_iter().map(|version| version.id).collect()
    };
    let old = || version("old", 1, false, false);
    assert_eq!(ids(vec![version("new", 5, false, true), old()]), ["new", "old"], "somebody put another on top");
    assert_eq!(ids(vec![version("mark", 5, true, true), old()]), [""; 0]);
    assert_eq!(ids(vec![version("mark", 12, true, true), old()]), ["old"]);
    // A server whose list has the marks behind the versions, and one that cuts its seconds off.
    assert_eq!(ids(vec![old(), version("mark", 12, true, true)]), ["old"]);
    assert_eq!(ids(vec![old(), version("mark", 9, true, true)]), ["old"]);
    assert_eq!(ids(vec![version("mark", 12, true, false), version("old", 1, false, false)]), ["old"]);
}
