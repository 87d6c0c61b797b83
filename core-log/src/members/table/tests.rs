//! Hand-overs, without threads: who owns what, and where it begins.

use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}

fn partition(n: u32) -> PartitionName {
    PartitionName { topic: topic(), partition: n }
}

fn at(offset: Offset) -> Handed {
    Handed { offset, leader_epoch: 0 }
}

fn join(group: &mut Membership, partitions: u32) -> MemberId {
    let member = group.join("", Assignor::Sticky, MINUTE, Duration::ZERO);
    group.subscribe(member, &BTreeMap::from([(topic(), partitions)]));
    member
}

fn acquired(group: &mut Membership, member: MemberId) -> Vec<(u32, Option<Offset>)> {
    let acquired = group.acquire(member).into_iter();
    acquired.map(|(p, handed)| (p.partition, handed.map(|handed| handed.offset))).collect()
}

#[test]
fn a_partition_changes_hands_only_once_its_owner_lets_go_and_with_its_position() {
    let mut group = Membership::default();
    let a = join(&mut group, 2);
    assert_eq!(acquired(&mut group, a), [(0, None), (1, None)]);
    let b = join(&mut group, 2);
    assert_eq!(acquired(&mut group, b), []);
    let revoked = group.revoked(a);
    assert_eq!(revoked, [partition(1)]);
    assert!(group.owns(a, &partition(1)), "it may commit until it lets go");
    group.release(a, [(partition(1), Some(at(7)))]);
    assert!(!group.owns(a, &partition(1)));
    assert_eq!(acquired(&mut group, b), [(1, Some(7))]);
    assert_eq!(acquired(&mut group, b), []);
}

#[test]
fn who_leaves_with_positions_hands_them_over_and_who_dies_does_not() {
    let mut group = Membership::default();
    let (a, b) = (join(&mut group, 1), join(&mut group, 1));
    assert_eq!(acquired(&mut group, a), [(0, None)]);
    group.leave(a, &BTreeMap::from([(partition(0), Some(at(5)))]));
    assert_eq!(acquired(&mut group, b), [(0, Some(5))]);
    let c = join(&mut group, 1);
    // It dies with what it was handed: that was done with, all behind it is read again.
    group.leave(b, &BTreeMap::new());
    assert_eq!(acquired(&mut group, c), [(0, Some(5))]);
    let d = join(&mut group, 1);
    // It has committed: the committed offset is newer than what it was handed.
    group.committed(c, &[partition(0)]);
    group.leave(c, &BTreeMap::new());
    assert_eq!(acquired(&mut group, d), [(0, None)]);
}

#[test]
fn a_group_that_was_left_by_all_begins_at_its_committed_offsets() {
    let mut group = Membership::default();
    let a = join(&mut group, 1);
    group.acquire(a);
    group.leave(a, &BTreeMap::from([(partition(0), Some(at(5)))]));
    let b = join(&mut group, 1);
    assert_eq!(acquired(&mut group, b), [(0, None)]);
    // Also what was on its way when they left.
    let c = join(&mut group, 2);
    group.release(b, [(partition(0), Some(at(7)))]);
    for member in [c, b] {
        group.leave(member, &BTreeMap::new());
    }
    let d = join(&mut group, 2);
    assert_eq!(acquired(&mut group, d), [(0, None), (1, None)]);
}

#[test]
fn a_silent_member_expires_unless_a_call_of_its_is_running() {
    let mut group = Membership::default();
    let (a, b) = (join(&mut group, 2), join(&mut group, 2));
    group.acquire(a);
    group.acquire(b);
    assert!(group.begin_call(a, Duration::ZERO));
    let (names, is_due) = group.expire(MINUTE * 2);
    assert_eq!((names, is_due), (vec!["consumer-2".to_owned()], true));
    assert!(!group.begin_call(b, MINUTE * 2), "it must join again");
    assert_eq!(acquired(&mut group, a), [(1, None)]);
    group.end_call(a, MINUTE * 2);
    assert_eq!(group.expire(MINUTE * 3).0.len(), 0);
    assert_eq!(group.expire(MINUTE * 3 + Duration::from_millis(1)).0, ["consumer-1"]);
}

#[test]
fn a_waiting_member_is_woken_once_when_it_asked_to_be() {
    let mut group = Membership::default();
    let a = join(&mut group, 1);
    assert!(group.begin_call(a, Duration::ZERO));
    group.wake_at(a, MINUTE);
    assert!(!group.expire(MINUTE / 2).1);
    assert!(group.expire(MINUTE).1);
    assert!(!group.expire(MINUTE * 2).1);
}

/// What the members of the model do.
#[derive(Clone, Debug)]
enum Step {
    Join,
    /// A member polls: lets go, takes, reads on.
    Poll(usize),
    Close(usize),
    Die(usize),
    Commit(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => Just(Step::Join),
        6 => (0..6_usize).prop_map(Step::Poll),
        1 => (0..6_usize).prop_map(Step::Close),
        1 => (0..6_usize).prop_map(Step::Die),
        2 => (0..6_usize).prop_map(Step::Commit),
    ];
    proptest::collection::vec(step, 1..80)
}

/// Members that read one record of each of their partitions at each poll.
#[derive(Default)]
struct Model {
    group: Membership,
    members: Vec<(MemberId, BTreeMap<PartitionName, Offset>)>,
    /// The version that each member saw before it looked, the last time.
    followed: BTreeMap<MemberId, u64>,
    committed: BTreeMap<PartitionName, Offset>,
    /// How far everybody together has read.
    read: BTreeMap<PartitionName, Offset>,
    deaths: u32,
}

impl Model {
    fn poll(&mut self, n: usize) {
        let Some((id, positions)) = self.members.get_mut(n) else { return };
        let version = self.group.version();
        if self.followed.insert(*id, version) == Some(version) {
            // Whoever looks at nothing else misses nothing.
            assert!(self.group.revoked(*id).is_empty() && !self.group.has_free(*id));
        }
        for revoked in self.group.revoked(*id) {
            let position = positions.remove(&revoked).map(at);
            self.group.release(*id, [(revoked, position)]);
        }
        for (partition, handed) in self.group.acquire(*id) {
            let start = handed.map(|handed| handed.offset);
            let start = start.or(self.committed.get(&partition).copied()).unwrap_or(0);
            let read = self.read.entry(partition.clone()).or_insert(0);
            assert!(start <= *read, "{partition}: begins at {start}, only {read} were read");
            assert!(self.deaths > 0 || start == *read, "{partition} is read twice");
            positions.insert(partition, start);
        }
        for (partition, position) in positions {
            *position += 1;
            let read = self.read.entry(partition.clone()).or_insert(0);
            *read = (*read).max(*position);
        }
    }

    fn commit(&mut self, n: usize) {
        let Some((id, positions)) = self.members.get(n) else { return };
        for (partition, position) in positions {
            assert!(self.group.owns(*id, partition));
            self.committed.insert(partition.clone(), *position);
        }
        self.group.committed(*id, positions.keys());
    }

    fn leave(&mut self, n: usize, dies: bool) {
        // The last one stays: what it leaves behind is another test.
        if n >= self.members.len() || self.members.len() == 1 {
            return;
        }
        let (id, positions) = self.members.remove(n);
        let positions = positions.into_iter().map(|(p, offset)| (p, Some(at(offset))));
        self.deaths += u32::from(dies);
        self.group.leave(id, &if dies { BTreeMap::new() } else { positions.collect() });
    }
}

proptest! {
    #[test]
    fn nothing_is_skipped_and_without_deaths_nothing_is_read_twice(steps in steps()) {
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Join => {
                    let id = join(&mut model.group, 5);
                    model.members.push((id, BTreeMap::new()));
                }
                Step::Poll(n) => model.poll(n),
                Step::Commit(n) => model.commit(n),
                Step::Close(n) => model.leave(n, false),
                Step::Die(n) => model.leave(n, true),
            }
            let mut owned: Vec<_> = model.members.iter().flat_map(|(_, p)| p.keys()).collect();
            let all = owned.len();
            owned.sort();
            owned.dedup();
            prop_assert_eq!(owned.len(), all, "two members read one partition");
        }
    }
}
