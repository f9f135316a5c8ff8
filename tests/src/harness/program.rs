//! A program that was started: its process id, its output, its end. Stops what it started and nothing else.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::wait;

/// How long a program may take from `SIGTERM` to its end before it is killed, when a test is over.
const STOP_MAX: Duration = Duration::from_secs(5);

/// A running program, or one that has ended.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Program {
    /// Starts it with its output collected.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &'static str, command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}: {command:?}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>),
            child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>),
        ];
        let reader = |stream| {
            let lines = Arc::clone(&lines);
            std::thread::spawn(move || collect(stream, &lines))
        };
        let readers = streams.into_iter().flatten().map(reader).collect();
        Self { name, child, lines, readers }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it wrote so far, line by line.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("a reader panicked").clone()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&mut self, signal: Signal) {
        assert!(self.is_running(), "{} has ended already", self.name);
        kill_process(self.pid(), signal).expect("a signal to a child");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within [`wait::DEADLINE`].
    pub async fn end(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status = wait::some("the end of a program", async || child.try_wait().expect("a child")).await;
        // Whatever it wrote last is there once its pipes are closed.
        self.readers.drain(..).for_each(|reader| drop(reader.join()));
        status
    }

    /// Asks it to stop, and waits for its end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.end().await
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Whether it ends within `time_max`; blocks.
    fn ends_within(&mut self, time_max: Duration) -> bool {
        let Ok(pidfd) = pidfd_open(self.pid(), PidfdFlags::empty()) else { return false };
        let timeout = Timespec::try_from(time_max).unwrap_or_default();
        matches!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)), Ok(1))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.is_running() {
            // Both fail only when it ended meanwhile.
            let _ = kill_process(self.pid(), Signal::TERM);
            if !self.ends_within(STOP_MAX) {
                let _ = self.child.kill();
            }
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- what {} said:", self.name);
            self.lines().iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

fn collect(stream: Box<dyn Read + Send>, lines: &Mutex<Vec<String>>) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while matches!(stream.read_until(b'\n', &mut line), Ok(len) if len > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if let Ok(mut lines) = lines.lock() {
            lines.push(text);
        }
        line.clear();
    }
}
