//! `stills-indexer watch`: tells an origin of footage as it is recorded, for recorders that announce nothing.
//!
//! 1. [`notices`] say at once where to look; everything is looked at at the beginning, now and then, and whenever
//!    notices were lost or directories changed;
//! 2. [`tracker`] knows what was told of each file and says what is to be told next;
//! 3. events go out as in backfill; while the origin cannot be reached they wait, and files are looked at again;
//! 4. [`told_log`] remembers over restarts what was told.
//!
//! What is lost as a whole is not deleted: a folder that cannot be read, or is all at once empty, is a mount that is
//! gone, and nothing is told until it is back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

use super::announce;
use super::arguments::WatchArguments;
use super::place::{Place, PlaceError, PlaceKind};
use super::post::{BATCH_MAX, Origin, PostError};
use super::run::{BackfillError, grace, layouts};
use super::state;
use super::walk::{Order, Seen, Walk};
use crate::clock::Clock;
use crate::layout::{Layouts, Unnamed};

pub mod notices;
pub mod told_log;
pub mod tracker;

use notices::{Heard, Notices};
use told_log::ToldLog;
use tracker::{Told, Tracker};

/// The most files that are watched; each takes some 200 bytes.
const FILES_MAX: usize = 2_000_000;

/// How often everything is looked at where notices say what changes.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How often where they do not.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// How often it is asked what was heard and what is due; also the least time between two looks at everything.
const TICK: Duration = Duration::from_millis(100);

/// Files whose trouble is logged one by one.
const LOGGED_MAX: usize = 1000;

/// Watching could not begin, or go on.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each variant is the part that failed")]
pub enum WatchError {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Arguments(#[from] BackfillError),
    #[error(transparent)]
    Post(#[from] PostError),
    #[error("--state {path}: {problem}")]
    State { path: PathBuf, problem: String },
    #[error("{0}: more than {FILES_MAX} files")]
    TooManyFiles(PathBuf),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Tells of the footage in a folder as it comes and goes, until `stop` says so.
///
/// # Errors
/// [`WatchError`]; an origin that cannot be reached is none.
pub async fn run(
    arguments: &WatchArguments,
    all_layouts: &Layouts,
    clock: &Clock,
    mut stop: Receiver<bool>,
) -> Result<(), WatchError> {
    let asked = &arguments.origin;
    let layouts = layouts(all_layouts, asked.layout.as_deref())?;
    let place = Place::open(&arguments.place, asked.media_url.as_deref())?;
    let PlaceKind::Folder(root) = place.kind.clone() else {
        return Err(PlaceError::Watched(arguments.place.clone()).into());
    };
    let origin = Origin::new(&asked.origin, asked.token_file.clone())?;
    let path = asked.state.clone().unwrap_or_else(|| state::default_path("watch", origin.base(), &[&place.url]));
    let (log, told) = ToldLog::open(&path, &place.url).map_err(|problem| WatchError::State { path, problem })?;
    let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let mut watch = Watch {
        tracker: Tracker::new(told, ms(asked.settled), ms(arguments.growing_every)),
        notices: if arguments.poll.is_some() { None } else { listen(&root) },
        poll_every: arguments.poll.unwrap_or(POLL_EVERY),
        root,
        place,
        layouts,
        origin,
        log,
        clock: clock.clone(),
        logged: BTreeSet::new(),
    };
    tracing::info!(place = %watch.root.display(), has_notices = watch.notices.is_some(), "watching");
    watch.go_on(&mut stop).await
}

/// Listens to a folder if that can be done.
fn listen(root: &Path) -> Option<Notices> {
    match Notices::of(root) {
        Ok(notices) => notices,
        Err(error) => {
            tracing::warn!(%error, "no notices from the kernel; everything is looked at more often");
            None
        }
    }
}

/// One folder that is watched.
struct Watch {
    root: PathBuf,
    place: Place,
    layouts: Layouts,
    origin: Origin,
    log: ToldLog,
    clock: Clock,
    tracker: Tracker,
    notices: Option<Notices>,
    poll_every: Duration,
    /// Files whose trouble is in the log already.
    logged: BTreeSet<PathBuf>,
}

impl Watch {
    /// Goes on until `stop` says so, and between two steps only: what the origin has taken is remembered, or the next
    /// run would not know what is deleted meanwhile.
    async fn go_on(&mut self, stop: &mut Receiver<bool>) -> Result<(), WatchError> {
        let mut next_look = Instant::now();
        while !*stop.borrow() {
            if Instant::now() >= next_look {
                self.look_at_everything().await?;
                next_look = Instant::now() + if self.notices.is_some() { LOOK_EVERY } else { self.poll_every };
            }
            tokio::select! {
                told = self.tell() => told?,
                () = grace(stop) => break,
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
            let heard = self.hear();
            for (path, is_closed) in heard.files {
                self.look_at(&path, is_closed);
            }
            if heard.is_everything {
                next_look = Instant::now();
            }
        }
        Ok(())
    }

    /// What the kernel says; nothing where it says nothing.
    fn hear(&mut self) -> Heard {
        match self.notices.as_mut().map(Notices::hear) {
            None => Heard::default(),
            Some(Ok(heard)) => heard,
            Some(Err(error)) => {
                tracing::warn!(%error, "no notices from the kernel any more; everything is looked at more often");
                self.notices = None;
                Heard { is_everything: true, ..Heard::default() }
            }
        }
    }

    /// Looks at one file that something was heard of.
    fn look_at(&mut self, path: &Path, is_closed: bool) {
        match std::fs::symlink_metadata(self.root.join(path)) {
            Ok(metadata) if metadata.is_file() => self.seen(Seen::new(path.to_owned(), &metadata), is_closed),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.tracker.gone(path),
            _ => {}
        }
    }

    /// A file is there; only one that a layout names counts.
    fn seen(&mut self, seen: Seen, is_closed: bool) {
        match self.place.named(&self.layouts, &seen) {
            Ok(_) => self.tracker.seen(seen, is_closed, self.clock.now().as_ms()),
            Err(Unnamed::NoMatch) => {}
            Err(wrong) => self.log_once(&seen.path, &wrong.to_string()),
        }
    }

    fn log_once(&mut self, path: &Path, problem: &str) {
        if self.logged.len() < LOGGED_MAX && self.logged.insert(path.to_owned()) {
            tracing::warn!(path = %path.display(), problem, "not told");
        }
    }

    async fn look_at_everything(&mut self) -> Result<(), WatchError> {
        if let Some(notices) = &mut self.notices
            && let Err(error) = notices.cover()
        {
            tracing::warn!(%error, "no notices from the kernel any more; everything is looked at more often");
            self.notices = None;
        }
        let root = self.root.clone();
        let walked = tokio::task::spawn_blocking(move || {
            let all = Walk::new(&root, Order::Oldest, None).take(FILES_MAX + 1);
            all.collect::<Vec<_>>()
        });
        let walked = walked.await.map_err(std::io::Error::other)?;
        if walked.len() > FILES_MAX || self.tracker.len() > FILES_MAX {
            return Err(WatchError::TooManyFiles(self.root.clone()));
        }
        let mut is_readable = true;
        self.tracker.begin_round(self.clock.now().as_ms());
        for seen in walked {
            match seen {
                Ok(seen) => self.seen(seen, false),
                Err(unreadable) => {
                    is_readable = false;
                    let path = unreadable.path;
                    tracing::warn!(path = %path.display(), error = %unreadable.error, "cannot be looked at");
                }
            }
        }
        // What was not found where all could be looked at is gone.
        if is_readable && !self.tracker.end_round() {
            tracing::warn!("none of the known files is there; taken for a lost mount, nothing is told as deleted");
        }
        Ok(())
    }

    /// Tells all that is due. What cannot be told now stays due.
    async fn tell(&mut self) -> Result<(), WatchError> {
        loop {
            let due = self.tracker.due(self.clock.now().as_ms(), BATCH_MAX);
            if due.is_empty() {
                return Ok(());
            }
            let mut events = Vec::with_capacity(due.len());
            let mut told: Vec<Told> = Vec::with_capacity(due.len());
            for one in due {
                match self.place.named(&self.layouts, &one.seen) {
                    Ok(named) => {
                        events.push(announce::event(&self.place, &one.seen, named, one.phase, one.time_ns));
                        told.push(one);
                    }
                    // A layout that has changed since: what it does not name any more is not ours to tell.
                    Err(wrong) => {
                        self.log_once(&one.seen.path, &wrong.to_string());
                        self.tracker.told(one, self.clock.now().as_ms());
                    }
                }
            }
            if events.is_empty() {
                continue;
            }
            let answer = match self.origin.post(&events).await {
                Ok(answer) => answer,
                Err(error) if error.is_passing() => {
                    tracing::warn!(%error, "the origin cannot be told; trying again");
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            for rejected in &answer.rejected {
                if let Some(one) = told.get(rejected.index) {
                    self.log_once(&one.seen.path, &format!("{} {}", rejected.pointer, rejected.detail));
                }
            }
            tracing::info!(
                accepted = answer.accepted,
                duplicates = answer.duplicates,
                rejected = answer.rejected.len(),
                "told"
            );
            self.log.add(&told)?;
            let now_ms = self.clock.now().as_ms();
            told.into_iter().for_each(|one| self.tracker.told(one, now_ms));
            if self.log.is_long(self.tracker.len()) {
                self.log.shorten().map_err(std::io::Error::other)?;
            }
        }
    }
}
