//! The live and the durable image, and the changes between them.
//!
//! ```text
//!   node: file { live bytes, durable bytes, pending writes }
//!         dir  { live names, durable names }          pending names: one list for all directories
//! ```
//!
//! Invariants
//! * live = durable + all pending changes in order, unless a sync was lost.
//! * Pending changes carry one common sequence, so that a prefix of them means one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

use super::Keep;
use super::fault::Faults;

const SECTOR: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(u64);

const ROOT: NodeId = NodeId(0);

#[derive(Clone, Debug)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Clone, Debug, Default)]
struct DirNode {
    live: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct FileNode {
    pub(super) live: Vec<u8>,
    durable: Vec<u8>,
    pub(super) pending: Vec<(u64, Change)>,
    pub(super) handles: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { position: usize, bytes: Vec<u8> },
    SetLen(usize),
}

/// A change of names, kept or lost as a whole: making, removing (no `to`) or renaming (both).
#[derive(Clone, Debug)]
struct NameChange {
    from: Option<(NodeId, String)>,
    to: Option<(NodeId, String, NodeId)>,
}

#[derive(Clone, Debug)]
pub(super) struct State {
    nodes: BTreeMap<NodeId, Node>,
    pending_names: Vec<(u64, NameChange)>,
    next_node: u64,
    next_change: u64,
    seed: u64,
    boot: u64,
    random: Random,
    pub(super) locks: BTreeSet<NodeId>,
    pub(super) faults: Faults,
}

/// SplitMix64.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn overwrite(bytes: &mut Vec<u8>, position: usize, new: &[u8]) {
    let end = position + new.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[position..end].copy_from_slice(new);
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { position, bytes: new } => overwrite(bytes, *position, new),
            Self::SetLen(len) => bytes.resize(*len, 0),
        }
    }

    /// Applies as much of the change as chance lets the disk keep.
    fn apply_by_chance(&self, bytes: &mut Vec<u8>, random: &mut Random) {
        match (self, random.below(10)) {
            (_, 0..=3) => self.apply(bytes),
            (Self::Write { position, bytes: new }, 4..=6) => {
                if random.below(2) == 0 {
                    bytes.resize(bytes.len().max(position + new.len()), 0);
                }
                let mut start = 0;
                while start < new.len() {
                    let sector_end = ((*position + start) / SECTOR + 1) * SECTOR - *position;
                    let end = sector_end.min(new.len());
                    if random.below(2) == 0 {
                        overwrite(bytes, position + start, &new[start..end]);
                    }
                    start = end;
                }
            }
            // The file has grown, what was written is not there: zeros.
            (Self::Write { position, bytes: new }, 7) => {
                let end = position + new.len();
                bytes.resize(bytes.len().max(end), 0);
            }
            _ => {}
        }
    }
}

impl FileNode {
    pub(super) fn sync(&mut self) {
        for (_, change) in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    pub(super) fn rot(&mut self, position: usize, mask: u8) -> io::Result<()> {
        let missing = || io::Error::from(io::ErrorKind::UnexpectedEof);
        *self.live.get_mut(position).ok_or_else(missing)? ^= mask;
        if let Some(byte) = self.durable.get_mut(position) {
            *byte ^= mask;
        }
        Ok(())
    }
}

impl NameChange {
    fn touches(&self, dir: NodeId) -> bool {
        self.from.as_ref().is_some_and(|(parent, _)| *parent == dir)
            || self.to.as_ref().is_some_and(|(parent, ..)| *parent == dir)
    }

    fn apply(
        &self,
        nodes: &mut BTreeMap<NodeId, Node>,
        names: impl Fn(&mut DirNode) -> &mut BTreeMap<String, NodeId>,
    ) {
        if let Some((dir, name)) = &self.from
            && let Some(Node::Dir(dir)) = nodes.get_mut(dir)
        {
            names(dir).remove(name);
        }
        if let Some((dir, name, node)) = &self.to
            && let Some(Node::Dir(dir)) = nodes.get_mut(dir)
        {
            names(dir).insert(name.clone(), *node);
        }
    }
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Dir(DirNode::default()))]),
            pending_names: Vec::new(),
            next_node: 1,
            next_change: 0,
            seed,
            boot: 0,
            random: Random(seed),
            locks: BTreeSet::new(),
            faults: Faults::default(),
        }
    }

    pub(super) fn boot_id(&self) -> String {
        format!("memory-{:016x}-{}", self.seed, self.boot)
    }

    pub(super) fn random_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.random.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    // Names.

    pub(super) fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut node = ROOT;
        for component in path.components() {
            let name = match component {
                Component::Normal(name) => name.to_string_lossy(),
                Component::RootDir | Component::CurDir => continue,
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
            };
            let Some(Node::Dir(dir)) = self.nodes.get(&node) else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            node = *dir.live.get(&*name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    pub(super) fn find_file(&self, path: &Path) -> io::Result<NodeId> {
        let node = self.find(path)?;
        match self.nodes[&node] {
            Node::File(_) => Ok(node),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn find_dir(&self, path: &Path) -> io::Result<NodeId> {
        let node = self.find(path)?;
        match self.nodes[&node] {
            Node::Dir(_) => Ok(node),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn find_parent(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = self.find_dir(path.parent().unwrap_or(Path::new("")))?;
        Ok((parent, name.to_string_lossy().into_owned()))
    }

    fn dir(&self, node: NodeId) -> &DirNode {
        match &self.nodes[&node] {
            Node::Dir(dir) => dir,
            Node::File(_) => unreachable!("found as a directory"),
        }
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        Ok(self.dir(self.find_dir(path)?).live.keys().cloned().collect())
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.nodes, |dir| &mut dir.live);
        self.pending_names.push((self.next_change, change));
        self.next_change += 1;
    }

    fn add(&mut self, parent: NodeId, name: String, node: Node) -> NodeId {
        let id = NodeId(self.next_node);
        self.next_node += 1;
        self.nodes.insert(id, node);
        self.change_names(NameChange { from: None, to: Some((parent, name, id)) });
        id
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        for dir in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            match self.find_dir(dir) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let (parent, name) = self.find_parent(dir)?;
                    self.add(parent, name, Node::Dir(DirNode::default()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<NodeId> {
        let (parent, name) = self.find_parent(path)?;
        if self.dir(parent).live.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(self.add(parent, name, Node::File(FileNode::default())))
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        let source = self.find_parent(from)?;
        let (parent, name) = self.find_parent(to)?;
        if let Some(replaced) = self.dir(parent).live.get(&name).copied() {
            if replaced == node {
                return Ok(());
            }
            match &self.nodes[&replaced] {
                Node::Dir(_) => return Err(io::ErrorKind::IsADirectory.into()),
                Node::File(file) => self.faults.give_space(file.live.len()),
            }
        }
        self.change_names(NameChange { from: Some(source), to: Some((parent, name, node)) });
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let node = self.find_file(path)?;
        let source = self.find_parent(path)?;
        self.faults.give_space(self.file(node).live.len());
        self.change_names(NameChange { from: Some(source), to: None });
        Ok(())
    }

    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let node = self.find_dir(path)?;
        for name in self.dir(node).live.keys().cloned().collect::<Vec<_>>() {
            let child = path.join(name);
            if self.find_dir(&child).is_ok() {
                self.remove_dir_all(&child)?;
            } else {
                self.remove_file(&child)?;
            }
        }
        let source = self.find_parent(path)?;
        self.change_names(NameChange { from: Some(source), to: None });
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.find_dir(path)?;
        let mut removed = false;
        for (sequence, change) in std::mem::take(&mut self.pending_names) {
            if change.touches(dir) {
                removed |= change.from.is_some();
                change.apply(&mut self.nodes, |dir| &mut dir.durable);
            } else {
                self.pending_names.push((sequence, change));
            }
        }
        if removed {
            self.forget_unreachable();
        }
        Ok(())
    }

    /// Drops files and directories that no name and no handle leads to any more.
    fn forget_unreachable(&mut self) {
        let mut reachable = BTreeSet::from([ROOT]);
        for node in self.nodes.values() {
            if let Node::Dir(dir) = node {
                reachable.extend(dir.live.values().chain(dir.durable.values()));
            }
        }
        let pending = self.pending_names.iter().filter_map(|(_, change)| change.to.as_ref());
        reachable.extend(pending.map(|(.., node)| node));
        self.nodes.retain(|id, node| {
            reachable.contains(id) || matches!(node, Node::File(file) if file.handles > 0)
        });
    }

    // Files.

    pub(super) fn file(&self, node: NodeId) -> &FileNode {
        match &self.nodes[&node] {
            Node::File(file) => file,
            Node::Dir(_) => unreachable!("found as a file"),
        }
    }

    pub(super) fn file_mut(&mut self, node: NodeId) -> &mut FileNode {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => file,
            _ => unreachable!("found as a file, and kept while there are handles"),
        }
    }

    pub(super) fn close(&mut self, node: NodeId) {
        self.file_mut(node).handles -= 1;
    }

    pub(super) fn open_files(&self) -> usize {
        let handles = |node: &Node| match node {
            Node::File(file) => file.handles,
            Node::Dir(_) => 0,
        };
        self.nodes.values().map(handles).sum()
    }

    pub(super) fn write(&mut self, node: NodeId, position: usize, bytes: &[u8]) {
        let change = Change::Write { position, bytes: bytes.to_owned() };
        self.change_file(node, change);
    }

    pub(super) fn set_len(&mut self, node: NodeId, len: usize) {
        let before = self.file(node).live.len();
        self.faults.give_space(before.saturating_sub(len));
        self.change_file(node, Change::SetLen(len));
    }

    fn change_file(&mut self, node: NodeId, change: Change) {
        let sequence = self.next_change;
        self.next_change += 1;
        let file = self.file_mut(node);
        change.apply(&mut file.live);
        file.pending.push((sequence, change));
    }

    // Images.

    pub(super) fn unsynced_changes(&self) -> usize {
        self.pending_sequences().len()
    }

    /// Numbers of all pending changes, ascending.
    fn pending_sequences(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.pending_names.iter().map(|(sequence, _)| *sequence).collect();
        for node in self.nodes.values() {
            if let Node::File(file) = node {
                all.extend(file.pending.iter().map(|(sequence, _)| *sequence));
            }
        }
        all.sort_unstable();
        all
    }

    pub(super) fn kill_image(&self) -> Self {
        let mut image = self.clone();
        image.locks.clear();
        image.faults = Faults::default();
        for node in image.nodes.values_mut() {
            if let Node::File(file) = node {
                file.handles = 0;
            }
        }
        image.forget_unreachable();
        image
    }

    pub(super) fn crash_image(&self, keep: Keep) -> Self {
        let mut image = self.kill_image();
        image.boot += 1;
        let end = match keep {
            Keep::None | Keep::Random(_) => 0,
            Keep::All => u64::MAX,
            Keep::Prefix(count) => self.pending_sequences().get(count).copied().unwrap_or(u64::MAX),
        };
        let mut random = match keep {
            Keep::Random(seed) => Some(Random(seed)),
            Keep::None | Keep::All | Keep::Prefix(_) => None,
        };
        for node in image.nodes.values_mut() {
            if let Node::File(file) = node {
                for (sequence, change) in std::mem::take(&mut file.pending) {
                    match &mut random {
                        Some(random) => change.apply_by_chance(&mut file.durable, random),
                        None if sequence < end => change.apply(&mut file.durable),
                        None => {}
                    }
                }
                file.live.clone_from(&file.durable);
            }
        }
        for (sequence, change) in std::mem::take(&mut image.pending_names) {
            let kept = match &mut random {
                Some(random) => random.below(2) == 0,
                None => sequence < end,
            };
            if kept {
                change.apply(&mut image.nodes, |dir| &mut dir.durable);
            }
        }
        for node in image.nodes.values_mut() {
            if let Node::Dir(dir) = node {
                dir.live.clone_from(&dir.durable);
            }
        }
        image.forget_unreachable();
        image
    }
}
