//! What a program did to the files of one directory, in order, from what strace wrote about it. Knows the text of strace,
//! no file system.
//!
//! The order is strace's own: it stops every thread before and after each call, so that of two calls of which one ended
//! before the other began, the first stands first.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

/// Everything that changes files, or says where in a file the next change lands; and the calls that answer a request.
pub const CALLS: &str = "openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,rename,\
                         renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,fsync,\
                         fdatasync,lseek,fcntl,dup,dup2,dup3,copy_file_range,sendfile,sendto,sendmsg";

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// The line at which it began.
    pub from: usize,
    /// The line at which it was over.
    pub to: usize,
    /// What it did.
    pub what: What,
}

/// What a call did. Paths are relative to the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the members are the arguments of the calls")]
pub enum What {
    Open {
        path: PathBuf,
        fd: i32,
        flags: String,
    },
    Copy {
        fd: i32,
        to: i32,
    },
    Write {
        fd: i32,
        at: Option<u64>,
        bytes: Vec<u8>,
    },
    Seek {
        fd: i32,
        at: u64,
    },
    Truncate {
        fd: i32,
        len: u64,
    },
    Allocate {
        fd: i32,
        flags: String,
        at: u64,
        len: u64,
    },
    Sync {
        fd: i32,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    MakeDir {
        path: PathBuf,
    },
    /// An answer left the program: its status, and the id that the request came with.
    Answer {
        status: u16,
        id: String,
    },
}

/// Reads a log about `dir`; `from` is the number of its first line, for logs that go on where another ended.
///
/// # Errors
/// A line that cannot be read, or a call on `dir` of a kind that this does not know.
pub fn parse(log: &str, dir: &Path, from: usize) -> Result<Vec<Op>, String> {
    let mut begun: HashMap<&str, (usize, String)> = HashMap::new();
    let mut ops = Vec::new();
    for (number, line) in log.lines().enumerate().map(|(n, line)| (from + n, line)) {
        let Some((thread, rest)) = line.split_once(' ').map(|(thread, rest)| (thread, rest.trim_start())) else {
            continue;
        };
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        let (began, text) = if let Some(text) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, (number, text.to_owned()));
            continue;
        } else if rest.starts_with("<... ") {
            let (Some((began, head)), Some((_, tail))) = (begun.remove(thread), rest.split_once("resumed>")) else {
                return Err(format!("line {number} ends what never began"));
            };
            (began, head + tail)
        } else {
            (number, rest.to_owned())
        };
        for what in read(&text, dir).ok_or_else(|| format!("line {number} is not understood: {:.200}", text))?? {
            ops.push(Op { from: began, to: number, what });
        }
    }
    ops.sort_by_key(|op| op.to);
    Ok(ops)
}

/// An argument of a call.
#[derive(Debug)]
enum Arg {
    Bytes(Vec<u8>),
    Word(String),
}

impl Arg {
    fn number<T: std::str::FromStr>(&self) -> Option<T> {
        match self {
            Self::Word(word) => word.split('<').next()?.parse().ok(),
            Self::Bytes(_) => None,
        }
    }

    /// The path behind a descriptor.
    fn place(&self) -> Option<PathBuf> {
        match self {
            Self::Word(word) => {
                let (_, hex) = word.split_once('<')?;
                String::from_utf8(unescape(hex.split('>').next()?)?).ok().map(PathBuf::from)
            }
            Self::Bytes(_) => None,
        }
    }

    fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Bytes(bytes) => String::from_utf8(bytes.clone()).ok().map(PathBuf::from),
            Self::Word(_) => None,
        }
    }

    fn word(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::Bytes(_) => String::new(),
        }
    }

    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Word(_) => None,
        }
    }
}

/// What a whole line says about `dir`: nothing, something, or something that is not known. None: it is malformed.
fn read(text: &str, dir: &Path) -> Option<Result<Vec<What>, String>> {
    let (name, rest) = text.split_once('(')?;
    let (args, result) = rest.rsplit_once(") = ").or_else(|| rest.rsplit_once(" = "))?;
    let args = arguments(args.trim_end().trim_end_matches(')'))?;
    let result = Arg::Word(result.split(' ').next()?.to_owned());
    let Some(done) = result.number::<i64>().filter(|done| *done >= 0) else { return Some(Ok(Vec::new())) };
    let within = |path: &Path| path.strip_prefix(dir).ok().map(Path::to_owned);
    // The path of a call that names one, relative to a descriptor or not.
    let named = |at: Option<usize>, path: usize| {
        let path = args.get(path)?.path()?;
        let base = at.and_then(|at| args.get(at)?.place()).unwrap_or_default();
        within(&tidied(&base.join(path)))
    };
    let is_ours = args.first().and_then(Arg::place).is_some_and(|place| within(&place).is_some());
    let fd = || args.first().and_then(Arg::number::<i32>);
    let number = |n: usize| args.get(n).and_then(Arg::number::<u64>);
    let bytes = |n: usize| {
        let bytes = args.get(n)?.bytes()?;
        Some(bytes[..bytes.len().min(usize::try_from(done).ok()?)].to_vec())
    };
    let one = |what: Option<What>| what.map(|what| Ok(vec![what]));
    match name {
        "write" | "writev" | "sendto" | "sendmsg" if !is_ours => Some(Ok(answers(args.get(1)?.bytes().unwrap_or(&[])))),
        "write" | "writev" => one(Some(What::Write { fd: fd()?, at: None, bytes: bytes(1)? })),
        "pwrite64" | "pwritev" | "pwritev2" if is_ours => {
            one(Some(What::Write { fd: fd()?, at: Some(number(3)?), bytes: bytes(1)? }))
        }
        "openat" => match named(Some(0), 1) {
            Some(path) => one(Some(What::Open { path, fd: result.number()?, flags: args.get(2)?.word() })),
            None => Some(Ok(Vec::new())),
        },
        "fcntl" | "dup" | "dup2" | "dup3" if is_ours => {
            match name != "fcntl" || args.get(1)?.word().contains("DUPFD") {
                true => one(Some(What::Copy { fd: fd()?, to: result.number()? })),
                false => Some(Ok(Vec::new())),
            }
        }
        "lseek" if is_ours => one(Some(What::Seek { fd: fd()?, at: u64::try_from(done).ok()? })),
        "ftruncate" if is_ours => one(Some(What::Truncate { fd: fd()?, len: number(1)? })),
        "fallocate" if is_ours => {
            let flags = args.get(1)?.word();
            one(Some(What::Allocate { fd: fd()?, flags, at: number(2)?, len: number(3)? }))
        }
        "fsync" | "fdatasync" if is_ours => one(Some(What::Sync { fd: fd()? })),
        "rename" => renamed(named(None, 0), named(None, 1)),
        "renameat" | "renameat2" => renamed(named(Some(0), 1), named(Some(2), 3)),
        "unlink" | "rmdir" => Some(Ok(named(None, 0).map(|path| What::Remove { path }).into_iter().collect())),
        "unlinkat" => Some(Ok(named(Some(0), 1).map(|path| What::Remove { path }).into_iter().collect())),
        "mkdir" => Some(Ok(named(None, 0).map(|path| What::MakeDir { path }).into_iter().collect())),
        "mkdirat" => Some(Ok(named(Some(0), 1).map(|path| What::MakeDir { path }).into_iter().collect())),
        _ if is_ours || text.contains(&escape(dir)) => Some(Err(format!("{name} is not modelled"))),
        _ => Some(Ok(Vec::new())),
    }
}

fn renamed(from: Option<PathBuf>, to: Option<PathBuf>) -> Option<Result<Vec<What>, String>> {
    match (from, to) {
        (Some(from), Some(to)) => Some(Ok(vec![What::Rename { from, to }])),
        (None, None) => Some(Ok(Vec::new())),
        _ => Some(Err("something was moved in or out".to_owned())),
    }
}

/// Without `.` and the like, which no path here has in earnest.
fn tidied(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// The answers in what was written to a connection.
fn answers(bytes: &[u8]) -> Vec<What> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes, |end| &bytes[..end]);
    let Some(head) = head.strip_prefix(b"HTTP/1.1 ").and_then(|head| std::str::from_utf8(head).ok()) else {
        return Vec::new();
    };
    let status = head.get(..3).and_then(|status| status.parse().ok());
    let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: "));
    status.zip(id).map(|(status, id)| What::Answer { status, id: id.to_owned() }).into_iter().collect()
}

/// Splits at commas. What is in brackets is a list of buffers, which are one after the other.
fn arguments(mut text: &str) -> Option<Vec<Arg>> {
    let mut args = Vec::new();
    while !text.is_empty() {
        let end = match text.as_bytes()[0] {
            b'"' => {
                let end = text[1..].find('"')? + 1;
                args.push(Arg::Bytes(unescape(&text[1..end])?));
                end + 1
            }
            b'[' => {
                let end = text.find(']')?;
                let buffers: Option<Vec<Vec<u8>>> = text[..end].split('"').skip(1).step_by(2).map(unescape).collect();
                args.push(Arg::Bytes(buffers?.concat()));
                end + 1
            }
            _ => {
                let end = text.find(", ").unwrap_or(text.len());
                args.push(Arg::Word(text[..end].to_owned()));
                end
            }
        };
        text = text[end..].trim_start_matches(", ");
        // strace shortens what is longer than it was told: nothing may be missing here.
        if text.starts_with("...") {
            return None;
        }
    }
    Some(args)
}

/// Undoes `\x2f\x74`.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes().chunks(4);
    bytes
        .map(|four| match four {
            [b'\\', b'x', high, low] => {
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                Some(digit(*high)? << 4 | digit(*low)?)
            }
            _ => None,
        })
        .collect()
}

fn escape(path: &Path) -> String {
    path.as_os_str().as_encoded_bytes().iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> String {
        escape(Path::new(text))
    }

    fn check(line: &str, expected: &[What]) {
        let ops = parse(&format!("77 {line}\n"), Path::new("/d"), 0).expect("a trace");
        let found: Vec<What> = ops.into_iter().map(|op| op.what).collect();
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn lines() {
        let (dir, file, name) = (hex("/d"), hex("/d/x"), hex("x"));
        let bytes = hex("abc");
        let path = || PathBuf::from("x");
        check(
            &format!("write(3<{file}>, \"{bytes}\", 3) = 2"),
            &[What::Write { fd: 3, at: None, bytes: b"ab".into() }],
        );
        let lists = format!(
            "pwritev2(3<{file}>(deleted), [{{iov_base=\"{bytes}\", iov_len=3}}, {{iov_base=\"{bytes}\", iov_len=3}}], 2, 7, 0) = 6"
        );
        check(&lists, &[What::Write { fd: 3, at: Some(7), bytes: b"abcabc".into() }]);
        check(&format!("fsync(4<{dir}>) = 0"), &[What::Sync { fd: 4 }]);
        check(&format!("fdatasync(4<{dir}>) = -1 EIO (Input/output error)"), &[]);
        check(&format!("unlinkat(4<{dir}>, \"{name}\", 0) = 0"), &[What::Remove { path: path() }]);
        let open = format!("openat(AT_FDCWD<{}>, \"{file}\", O_RDWR|O_CREAT, 0600) = 9<{file}>", hex("/w"));
        check(&open, &[What::Open { path: path(), fd: 9, flags: "O_RDWR|O_CREAT".to_owned() }]);
        check(&format!("fcntl(3<{file}>, F_DUPFD_CLOEXEC, 3) = 5<{file}>"), &[What::Copy { fd: 3, to: 5 }]);
        check(&format!("ftruncate(3<{}>, 5) = 0", hex("/elsewhere")), &[]);
        let answer = hex("HTTP/1.1 202 Accepted\r\nx-request-id: e-1\r\n\r\n{}");
        let sent = [What::Answer { status: 202, id: "e-1".to_owned() }];
        check(&format!("sendto(8<{}>, \"{answer}\", 40, MSG_NOSIGNAL, NULL, 0) = 40", hex("socket:[1]")), &sent);
    }

    #[test]
    fn what_is_interrupted_is_put_together() {
        let (file, bytes) = (hex("/d/x"), hex("a"));
        let log = format!(
            "7  write(3<{file}>, \"{bytes}\", 1 <unfinished ...>\n8  fsync(3<{file}>) = 0\n7  <... write resumed>) = 1\n"
        );
        let ops = parse(&log, Path::new("/d"), 10).expect("a trace");
        assert_eq!(ops[0], Op { from: 11, to: 11, what: What::Sync { fd: 3 } });
        assert_eq!(ops[1], Op { from: 10, to: 12, what: What::Write { fd: 3, at: None, bytes: b"a".into() } });
    }

    #[test]
    fn what_is_not_known_or_cut_short_is_no_trace() {
        let file = hex("/d/x");
        for line in [
            format!("7 sendfile(3<{file}>, 4<{file}>, NULL, 5) = 5"),
            format!("7 write(3<{file}>, \"{}\"..., 5) = 5", hex("ab")),
            "7 <... write resumed>) = 1".to_owned(),
        ] {
            assert!(parse(&line, Path::new("/d"), 0).is_err(), "{line}");
        }
    }
}
