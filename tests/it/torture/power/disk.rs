//! A disk that keeps what was flushed, and of everything else what it likes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::trace::Call;
use crate::histories::dice::Dice;

/// The files of a folder, by their names from there.
pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

#[derive(Clone, Debug, Default)]
struct File<'t> {
    /// What was flushed.
    safe: Vec<u8>,
    /// What was done since.
    since: Vec<&'t Call>,
}

/// A disk while calls are made to it.
#[derive(Clone, Debug)]
pub(super) struct Disk<'t> {
    files: Vec<File<'t>>,
    /// The names that were flushed with their folders,
    names: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
    /// and what was made and removed since.
    names_since: Vec<&'t Call>,
    /// The last page that was said to be committed.
    pub(super) said: usize,
}

/// What is kept of all that was not flushed, when the power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    All,
    Nothing,
    /// All but one of the calls: they are counted, names first, then file by file.
    Without(usize),
    /// The first calls.
    First(usize),
    /// All, the last one torn.
    LastTorn,
    /// Any, whole.
    Any,
    /// Any, whole or torn, or the length without what was written.
    AnyTorn,
}

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
    /// Some of its sectors.
    Torn,
    /// Only that the file became longer.
    Grown,
}

impl<'t> Disk<'t> {
    pub(super) fn new(base: &Files) -> Self {
        let file = |content: &Vec<u8>| File { safe: content.clone(), since: Vec::new() };
        let folders = base.keys().flat_map(|name| name.ancestors().skip(1));
        Self {
            files: base.values().map(file).collect(),
            names: base.keys().cloned().zip(0..).collect(),
            folders: folders.chain([Path::new("")]).map(Path::to_owned).collect(),
            names_since: Vec::new(),
            said: 0,
        }
    }

    /// A call is made.
    pub(super) fn make(&mut self, call: &'t Call) {
        match call {
            Call::Make { file, .. } => {
                assert_eq!(*file, self.files.len());
                self.files.push(File::default());
                self.names_since.push(call);
            }
            Call::MakeFolder { .. } | Call::Remove { .. } => self.names_since.push(call),
            Call::Write { file, .. } | Call::Resize { file, .. } => self.files[*file].since.push(call),
            Call::Flush { file } => {
                let File { safe, since } = &mut self.files[*file];
                since.drain(..).for_each(|call| apply(safe, call, Fate::Kept, &mut Dice(0)));
            }
            Call::FlushFolder { name } => {
                let is_in = |call: &&Call| name_of(call).parent() == Some(name);
                let (flushed, others) = std::mem::take(&mut self.names_since).into_iter().partition(is_in);
                self.names_since = others;
                let flushed: Vec<&Call> = flushed;
                flushed.into_iter().for_each(|call| rename(&mut self.names, &mut self.folders, call));
            }
            Call::Said { page_id } => self.said = self.said.max(*page_id),
        }
    }

    /// How many calls may be lost now.
    pub(super) fn unsafe_calls(&self) -> usize {
        self.names_since.len() + self.files.iter().map(|file| file.since.len()).sum::<usize>()
    }

    /// What is there after a power cut.
    pub(super) fn after_cut(&self, choice: Choice, dice: &mut Dice) -> Files {
        let calls = self.unsafe_calls();
        let kept_percent = *dice.one_of(&[10, 50, 90]);
        let mut number = 0;
        let mut fate = |dice: &mut Dice| {
            let this = number;
            number += 1;
            let kept = |is: bool| if is { Fate::Kept } else { Fate::Lost };
            match choice {
                Choice::All => Fate::Kept,
                Choice::Nothing => Fate::Lost,
                Choice::Without(lost) => kept(this != lost),
                Choice::First(count) => kept(this < count),
                Choice::LastTorn if this + 1 == calls => Fate::Torn,
                Choice::LastTorn => Fate::Kept,
                Choice::Any => kept(dice.chance(kept_percent)),
                Choice::AnyTorn => *dice.one_of(&[Fate::Kept, Fate::Kept, Fate::Lost, Fate::Torn, Fate::Grown]),
            }
        };
        let (mut names, mut folders) = (self.names.clone(), self.folders.clone());
        for call in &self.names_since {
            // A name is there or not.
            if fate(dice) != Fate::Lost {
                rename(&mut names, &mut folders, call);
            }
        }
        let mut contents = Vec::new();
        for file in &self.files {
            let mut content = file.safe.clone();
            file.since.iter().for_each(|call| apply(&mut content, call, fate(dice), dice));
            contents.push(content);
        }
        let is_reachable = |name: &PathBuf| name.ancestors().skip(1).all(|folder| folders.contains(folder));
        let reachable = names.into_iter().filter(|(name, _)| is_reachable(name));
        reachable.map(|(name, file)| (name, std::mem::take(&mut contents[file]))).collect()
    }
}

fn name_of(call: &Call) -> &Path {
    match call {
        Call::Make { name, .. } | Call::MakeFolder { name } | Call::Remove { name } => name,
        _ => unreachable!("{call:?} is about no name"),
    }
}

fn rename(names: &mut BTreeMap<PathBuf, usize>, folders: &mut BTreeSet<PathBuf>, call: &Call) {
    match call {
        Call::Make { name, file } => drop(names.insert(name.clone(), *file)),
        Call::MakeFolder { name } => drop(folders.insert(name.clone())),
        Call::Remove { name } => drop(names.remove(name)),
        _ => unreachable!("{call:?} is about no name"),
    }
}

/// Does to a file what is left of a call.
fn apply(content: &mut Vec<u8>, call: &Call, fate: Fate, dice: &mut Dice) {
    match (call, fate) {
        (_, Fate::Lost) => {}
        (Call::Resize { len, .. }, Fate::Kept) => content.resize(*len, 0),
        (Call::Resize { len, .. }, _) => {
            if dice.chance(50) {
                content.resize(*len, 0);
            }
        }
        (Call::Write { at, bytes, .. }, Fate::Kept) => put(content, *at, bytes),
        (Call::Write { at, bytes, .. }, Fate::Torn) => {
            let sector = *dice.one_of(&[512, 4096]);
            let mut start = 0;
            while start < bytes.len() {
                let end = bytes.len().min((at + start) / sector * sector + sector - at);
                if dice.chance(50) {
                    put(content, at + start, &bytes[start..end]);
                }
                start = end;
            }
        }
        (Call::Write { at, bytes, .. }, Fate::Grown) => {
            // What was on the disk before, or zeros.
            let filler = if dice.chance(50) { 0 } else { dice.next() as u8 };
            let longer = content.len().max(at + bytes.len());
            content.resize(longer, filler);
        }
        _ => unreachable!("{call:?} is about no content"),
    }
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}
