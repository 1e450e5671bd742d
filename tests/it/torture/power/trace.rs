//! What processes did to the files of a folder, as `strace` saw it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Calls that are asked for: those that are modelled, and those whose appearance would make the model wrong.
pub(super) const CALLS: &str = "openat,close,write,pwrite64,ftruncate,fsync,fdatasync,unlink,unlinkat,mkdir,mkdirat,\
                                mmap,open,creat,writev,pwritev,pwritev2,truncate,fallocate,rename,renameat,renameat2,\
                                link,linkat,symlink,symlinkat,rmdir,sync_file_range,copy_file_range,sendfile,splice";

/// A call that changed what is on the disk, or what is known of it. Names begin at the folder.
#[derive(Debug)]
pub(super) enum Call {
    /// A new file got a name. Files are numbered in the order in which they were made.
    Make {
        name: PathBuf,
        file: usize,
    },
    MakeFolder {
        name: PathBuf,
    },
    Remove {
        name: PathBuf,
    },
    Write {
        file: usize,
        at: usize,
        bytes: Vec<u8>,
    },
    Resize {
        file: usize,
        len: usize,
    },
    Flush {
        file: usize,
    },
    FlushFolder {
        name: PathBuf,
    },
    /// The process said that all pages up to this one are committed.
    Said {
        page_id: usize,
    },
}

/// What a descriptor or a name stands for.
#[derive(Clone, Debug)]
enum Target {
    File(usize),
    Folder(PathBuf),
}

/// Reads the traces of processes that worked in a folder one after the other.
#[derive(Debug)]
pub(super) struct Tracer {
    root: PathBuf,
    root_in_hex: String,
    names: BTreeMap<PathBuf, Target>,
    files: usize,
    pub(super) calls: Vec<Call>,
}

/// One line, taken apart. Its texts are in hexadecimal, so that no comma in them misleads.
struct Line<'t> {
    name: &'t str,
    arguments: Vec<&'t str>,
    result: i64,
}

impl Tracer {
    /// `root` without links; `files` are in it already, and numbered in this order.
    pub(super) fn new<'n>(root: &Path, files: impl Iterator<Item = &'n PathBuf>) -> Self {
        let mut tracer = Self {
            root: root.to_owned(),
            root_in_hex: root.as_os_str().as_encoded_bytes().iter().map(|byte| format!("\\x{byte:02x}")).collect(),
            names: BTreeMap::from([(PathBuf::new(), Target::Folder(PathBuf::new()))]),
            files: 0,
            calls: Vec::new(),
        };
        for name in files {
            let folders = name.ancestors().skip(1).map(|folder| (folder.to_owned(), Target::Folder(folder.to_owned())));
            tracer.names.extend(folders);
            tracer.names.insert(name.clone(), Target::File(tracer.files));
            tracer.files += 1;
        }
        tracer
    }

    /// Reads what one process did. A call that two threads were in at the same time counts from its end.
    pub(super) fn read(&mut self, trace: &str) {
        let mut descriptors = HashMap::new();
        let mut begun: HashMap<&str, &str> = HashMap::new();
        for line in trace.lines() {
            let (thread, rest) = line.split_once(' ').unwrap();
            let rest = rest.trim_start();
            if let Some(beginning) = rest.strip_suffix(" <unfinished ...>") {
                begun.insert(thread, beginning);
            } else if rest.starts_with("<... ") {
                let whole = begun.remove(thread).unwrap().to_owned() + rest.split_once("resumed>").unwrap().1;
                self.call(&whole, &mut descriptors);
            } else {
                self.call(rest, &mut descriptors);
            }
        }
    }

    fn call(&mut self, text: &str, descriptors: &mut HashMap<i64, Target>) {
        // Without a result: a signal, an end, or a call that the process died in.
        let Some(line) = Line::parse(text).filter(|line| line.result >= 0) else { return };
        let target = line.arguments.first().and_then(|first| descriptors.get(&descriptor(first)).cloned());
        match (line.name, target) {
            ("openat", _) => self.open(&line, descriptors),
            ("close", _) => drop(descriptors.remove(&descriptor(line.arguments[0]))),
            ("write", _) if line.arguments[0].starts_with("2<") => {
                let said = String::from_utf8(text_of(line.arguments[1])).unwrap();
                if let Some((_, number)) = said.split_once(" last_page_id=") {
                    self.calls.push(Call::Said { page_id: number.trim_end().parse().unwrap() });
                }
            }
            ("pwrite64", Some(Target::File(file))) => {
                let mut bytes = text_of(line.arguments[1]);
                bytes.truncate(usize::try_from(line.result).unwrap());
                self.calls.push(Call::Write { file, bytes, at: line.arguments[3].parse().unwrap() });
            }
            ("ftruncate", Some(Target::File(file))) => {
                self.calls.push(Call::Resize { file, len: line.arguments[1].parse().unwrap() });
            }
            ("fsync" | "fdatasync", Some(Target::File(file))) => self.calls.push(Call::Flush { file }),
            ("fsync" | "fdatasync", Some(Target::Folder(name))) => self.calls.push(Call::FlushFolder { name }),
            ("unlink", _) => self.remove(line.arguments[0]),
            ("unlinkat", _) => self.remove(line.arguments[1]),
            ("mkdir", _) => self.make_folder(line.arguments[0]),
            ("mkdirat", _) => self.make_folder(line.arguments[1]),
            ("mmap", _) => {
                let mapped = line.arguments.get(4).and_then(|fifth| descriptors.get(&descriptor(fifth)));
                assert!(mapped.is_none() || !text.contains("PROT_WRITE"), "a file is written in memory: {text:.200}");
            }
            (name, target) => {
                let is_inside = |text: &&str| text.contains(&self.root_in_hex) && self.inside(text).is_some();
                let touches = target.is_some() || line.arguments.iter().any(is_inside);
                assert!(!touches, "{name} is not modelled: {text:.200}");
            }
        }
    }

    /// The name below the folder that an argument stands for, as a text or beside a descriptor. The lock file and the
    /// index of the WAL are left out: of the one nothing is read, and the other is made anew.
    fn inside(&self, argument: &str) -> Option<PathBuf> {
        let start = argument.find(['"', '<'])?;
        let path = PathBuf::from(String::from_utf8(text_of(&argument[start..])).ok()?);
        let name = self.root.join(path).strip_prefix(&self.root).ok()?.to_owned();
        let text = name.to_str().unwrap();
        (!text.ends_with(".lock") && !text.ends_with("-shm")).then_some(name)
    }

    fn open(&mut self, line: &Line<'_>, descriptors: &mut HashMap<i64, Target>) {
        descriptors.remove(&line.result);
        let Some(name) = self.inside(line.arguments[1]) else { return };
        let flags = line.arguments[2];
        assert!(!flags.contains("O_APPEND") && !flags.contains("O_TRUNC"), "{flags} is not modelled");
        let target = match self.names.get(&name) {
            Some(target) => target.clone(),
            None if flags.contains("O_CREAT") => {
                let file = self.files;
                self.files += 1;
                self.calls.push(Call::Make { name: name.clone(), file });
                self.names.insert(name, Target::File(file));
                Target::File(file)
            }
            // The configuration.
            None => {
                assert!(flags.starts_with("O_RDONLY"), "{} is written", name.display());
                return;
            }
        };
        descriptors.insert(line.result, target);
    }

    fn remove(&mut self, argument: &str) {
        if let Some(name) = self.inside(argument) {
            self.names.remove(&name).unwrap();
            self.calls.push(Call::Remove { name });
        }
    }

    fn make_folder(&mut self, argument: &str) {
        if let Some(name) = self.inside(argument) {
            self.names.insert(name.clone(), Target::Folder(name.clone()));
            self.calls.push(Call::MakeFolder { name });
        }
    }
}

impl<'t> Line<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let (call, result) = text.rsplit_once(" = ")?;
        let (name, arguments) = call.trim_end().strip_suffix(')')?.split_once('(')?;
        let digits = result.split(['<', ' ']).next()?;
        let result = digits.strip_prefix("0x").map_or_else(|| digits.parse().ok(), |_| Some(0))?;
        Some(Self { name, arguments: arguments.split(", ").collect(), result })
    }
}

/// The number before `<path>`; -1 where there is none.
fn descriptor(argument: &str) -> i64 {
    argument.split('<').next().and_then(|number| number.parse().ok()).unwrap_or(-1)
}

/// The bytes of `"\x61\x62"`.
fn text_of(argument: &str) -> Vec<u8> {
    let digit = |letter: u8| char::from(letter).to_digit(16).unwrap() as u8;
    let inner = argument[1..].split(['"', '>']).next().unwrap().as_bytes();
    assert!(!argument.ends_with("..."), "strace has cut a text short");
    inner.chunks_exact(4).map(|letters| digit(letters[2]) << 4 | digit(letters[3])).collect()
}
