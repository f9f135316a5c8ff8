//! A backfill from its arguments to its exit code.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::percent_decode_str;
use stills_model::event::Event;
use stills_model::fault::Fault;
use thiserror::Error;
use tokio::sync::watch;

use super::announce::{self, Phase};
use super::arguments::BackfillArguments;
use super::made::{Metrics, Settled, Told};
use super::place::{Place, PlaceError, PlaceKind};
use super::post::{BATCH_MAX, Origin, PostError};
use super::progress::{Counts, Made, Progress};
use super::seek::{Stores, Total};
use super::state::{self, PlaceState, StateError, StateFile};
use super::walk::{Order, Seen, Unreadable};
use crate::clock::Clock;
use crate::config::Config;
use crate::layout::{Layouts, Unnamed};

/// Files of one kind of trouble that are listed one by one; beyond, they are counted.
const LISTED_MAX: u64 = 100;

/// How often what is shown is brought up to date.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// How often the origin's metrics are read.
const METRICS_EVERY: Duration = Duration::from_secs(2);

/// How long a request may still take after the signal to stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A run could not begin, or go on.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each variant is the part that failed")]
pub enum BackfillError {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Post(#[from] PostError),
    #[error("--media-url and PLACE: one URL can stand for one folder only")]
    ManyPlaces,
    #[error("--layout {0}: no such layout; give it in [media.layout.{0}]")]
    NoSuchLayout(String),
    #[error("no layout tells what the names of files mean: give one in [media.layout.<name>]")]
    NoLayout,
    #[error("--order {asked}: an earlier run began with --order {begun}; give that, or --restart")]
    Order { asked: &'static str, begun: String },
    #[error("{place}: object stores list oldest first; --order newest is for folders")]
    OldestFirst { place: String },
    #[error("{place}: {}", fault.detail)]
    Listing { place: String, fault: Fault },
    #[error("{0}")]
    Stores(String),
    #[error("output: {0}")]
    Output(#[from] io::Error),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What was counted.
    pub counts: Counts,
    /// Whether it was stopped before its end.
    pub is_stopped: bool,
    /// What became of the recordings, if that was waited for.
    pub settled: Option<Settled>,
}

impl Summary {
    /// Whether everything that looks like footage was taken.
    pub fn is_clean(&self) -> bool {
        self.counts.rejected == 0 && self.counts.unreadable == 0
    }
}

/// The layouts that count for a run.
///
/// # Errors
/// There is none, or none of that name.
pub fn layouts(all: &Layouts, only: Option<&str>) -> Result<Layouts, BackfillError> {
    match only {
        Some(name) => all.only(name).ok_or_else(|| BackfillError::NoSuchLayout(name.to_owned())),
        None if all.0.is_empty() => Err(BackfillError::NoLayout),
        None => Ok(all.clone()),
    }
}

/// Tells the origin of all footage at the places, until `stop` says so.
///
/// # Errors
/// [`BackfillError`]. What was acknowledged until then is remembered.
pub async fn run(
    arguments: &BackfillArguments,
    config: &Config,
    clock: &Clock,
    mut stop: watch::Receiver<bool>,
) -> Result<Summary, BackfillError> {
    let asked = &arguments.origin;
    let layouts = layouts(&config.media.layouts, asked.layout.as_deref())?;
    if asked.media_url.is_some() && arguments.places.len() > 1 {
        return Err(BackfillError::ManyPlaces);
    }
    let open = |text: &String| Place::open(text, asked.media_url.as_deref());
    let places = arguments.places.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let stores = Stores::new(config).map_err(BackfillError::Stores)?;
    if arguments.dry_run {
        return dry_run(arguments, &places, &stores, &layouts, clock).await;
    }
    let origin = Origin::new(&asked.origin, asked.token_file.clone())?;
    let urls: Vec<&str> = places.iter().map(|place| place.url.as_str()).collect();
    let path = asked.state.clone().unwrap_or_else(|| state::default_path("backfill", origin.base(), &urls));
    let mut run = Run {
        arguments,
        layouts,
        stores,
        origin,
        state: StateFile::open(&path)?,
        counts: Counts::default(),
        told: Told::default(),
        progress: Progress::new(),
        metrics: metrics(arguments.admin.as_deref()),
    };
    let total = Total::count(&places)?;
    for place in &places {
        if *stop.borrow() {
            break;
        }
        run.place(place, clock, &total, &mut stop).await?;
    }
    let is_stopped = *stop.borrow();
    let settled = if arguments.wait && !is_stopped { Some(run.wait(&mut stop).await?) } else { None };
    run.progress.finish();
    total.end();
    let is_stopped = is_stopped || *stop.borrow();
    Ok(Summary { counts: run.counts, is_stopped, settled: settled.flatten() })
}

/// The origin's metrics, read beside everything else.
fn metrics(admin: Option<&str>) -> Option<watch::Receiver<Option<Made>>> {
    let mut metrics = Metrics::new(admin?);
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        while sender.send(metrics.look().await).is_ok() {
            tokio::time::sleep(METRICS_EVERY).await;
        }
    });
    Some(receiver)
}

/// A run that sends.
struct Run<'a> {
    arguments: &'a BackfillArguments,
    layouts: Layouts,
    stores: Stores,
    origin: Origin,
    state: StateFile,
    counts: Counts,
    told: Told,
    progress: Progress,
    metrics: Option<watch::Receiver<Option<Made>>>,
}

/// Events that wait to be sent, and the files they tell of.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    paths: Vec<PathBuf>,
}

impl Run<'_> {
    /// Where an earlier run came to, or a beginning, which is remembered before anything is sent.
    fn begin(
        &mut self,
        place: &Place,
        order: Order,
        clock: &Clock,
        total: &Total,
    ) -> Result<PlaceState, BackfillError> {
        let order = order.name();
        match self.state.get(&place.url) {
            Some(earlier) if !earlier.is_complete && !self.arguments.restart => {
                if earlier.order != order {
                    return Err(BackfillError::Order { asked: order, begun: earlier.order.clone() });
                }
                let earlier = earlier.clone();
                let n_files = earlier.n_files;
                if n_files > 0 {
                    self.progress.say(&format!("{}: going on behind {n_files} files of an earlier run", place.url));
                }
                self.counts.before += n_files;
                if matches!(place.kind, PlaceKind::Store(_)) {
                    total.add(n_files);
                }
                Ok(earlier)
            }
            _ => {
                let started_ms = clock.now().as_ms();
                let begun = PlaceState { order: order.to_owned(), started_ms, ..PlaceState::default() };
                self.state.set(&place.url, begun.clone())?;
                Ok(begun)
            }
        }
    }

    async fn place(
        &mut self,
        place: &Place,
        clock: &Clock,
        total: &Total,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), BackfillError> {
        let order = order_of(place, self.arguments.order)?;
        let mut reached = self.begin(place, order, clock, total)?;
        let after = reached.cursor.as_deref().map(unescaped);
        let failed = |fault| BackfillError::Listing { place: place.url.clone(), fault };
        let mut seen = self.stores.seek(place, order, after, total).map_err(failed)?;
        let mut batch = Batch::default();
        let mut show = tokio::time::interval(SHOW_EVERY);
        loop {
            (self.counts.found, self.counts.is_found_complete) = total.look();
            let next = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                _ = show.tick() => {
                    let made = self.metrics.as_ref().and_then(|made| *made.borrow());
                    self.progress.show(&self.counts, made.as_ref());
                    continue;
                }
                next = seen.recv() => next,
            };
            let Some(next) = next else {
                self.send(place, &mut batch, &mut reached).await?;
                let complete = PlaceState { is_complete: true, ..reached };
                return Ok(self.state.set(&place.url, complete)?);
            };
            self.take(place, next.map_err(failed)?, &mut batch, &mut reached);
            if batch.events.len() == BATCH_MAX {
                tokio::select! {
                    sent = self.send(place, &mut batch, &mut reached) => sent?,
                    () = grace(stop) => return Ok(()),
                }
            }
        }
        // Stopped: what was seen is still sent. If it cannot be, it is not remembered, and comes first the next time.
        tokio::select! {
            sent = self.send(place, &mut batch, &mut reached) => sent,
            () = grace(stop) => Ok(()),
        }
    }

    /// One file, or a place that cannot be read.
    fn take(&mut self, place: &Place, next: Result<Seen, Unreadable>, batch: &mut Batch, reached: &mut PlaceState) {
        let seen = match next {
            Ok(seen) => seen,
            Err(Unreadable { path, error }) => {
                self.counts.unreadable += 1;
                let text = format!("unreadable {}: {error}", place.shown(&path));
                return self.list(self.counts.unreadable, &text);
            }
        };
        self.counts.walked += 1;
        reached.n_files += 1;
        reached.cursor = Some(escaped(&seen.path));
        if seen.size == 0 {
            self.counts.empty += 1;
            return;
        }
        let settled = self.arguments.origin.settled;
        match event(place, &self.layouts, &seen, reached.started_ms, settled) {
            Ok(event) => {
                batch.events.push(event);
                batch.paths.push(seen.path);
            }
            Err(Unnamed::NoMatch) => self.counts.unmatched += 1,
            Err(wrong) => {
                self.counts.rejected += 1;
                let text = format!("rejected {}: {wrong}", place.shown(&seen.path));
                self.list(self.counts.rejected, &text);
            }
        }
    }

    /// Sends a batch, and remembers what was reached with it.
    async fn send(&mut self, place: &Place, batch: &mut Batch, reached: &mut PlaceState) -> Result<(), BackfillError> {
        if !batch.events.is_empty() {
            let answer = self.origin.post(&batch.events).await?;
            batch.events.iter().for_each(|event| self.told.add(event));
            self.counts.accepted += answer.accepted;
            self.counts.duplicates += answer.duplicates;
            let mut last = None;
            for rejected in answer.rejected {
                // An event with several faults is one file.
                if last.replace(rejected.index) != Some(rejected.index) {
                    self.counts.rejected += 1;
                }
                let path = batch.paths.get(rejected.index).map(|path| place.shown(path)).unwrap_or_default();
                let text = format!("rejected {path}: {} {}", rejected.pointer, rejected.detail);
                self.list(self.counts.rejected, &text);
            }
        }
        *batch = Batch::default();
        self.state.set(&place.url, reached.clone())?;
        Ok(())
    }

    fn list(&self, count: u64, text: &str) {
        if count <= LISTED_MAX {
            self.progress.say(text);
        } else if count == LISTED_MAX + 1 {
            self.progress.say("further ones are counted only");
        }
    }

    /// Waits until nothing is pending, or for the signal to stop.
    async fn wait(&mut self, stop: &mut watch::Receiver<bool>) -> Result<Option<Settled>, BackfillError> {
        let (counts, metrics, progress) = (self.counts, self.metrics.clone(), &mut self.progress);
        let waiting = |n_pending: u64| {
            let seen = metrics.as_ref().and_then(|made| *made.borrow());
            let made = Made { backlog: n_pending, ..seen.unwrap_or_default() };
            progress.show(&counts, Some(&made));
        };
        tokio::select! {
            settled = self.told.wait(&self.origin, waiting) => Ok(Some(settled?)),
            _ = stop.wait_for(|stop| *stop) => Ok(None),
        }
    }
}

/// Ends some time after the signal to stop: a request in flight may end, attempts without end may not go on.
pub(super) async fn grace(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        return std::future::pending().await;
    }
    tokio::time::sleep(STOP_GRACE).await;
}

/// The order in which a place is walked.
fn order_of(place: &Place, asked: Option<Order>) -> Result<Order, BackfillError> {
    match (&place.kind, asked) {
        (PlaceKind::Folder(_), asked) => Ok(asked.unwrap_or(Order::Newest)),
        (PlaceKind::Store(_), None | Some(Order::Oldest)) => Ok(Order::Oldest),
        (PlaceKind::Store(_), Some(Order::Newest)) => Err(BackfillError::OldestFirst { place: place.url.clone() }),
    }
}

/// The event of a file. One that was written within `settled` of the run's beginning may still grow; an object never.
fn event(place: &Place, layouts: &Layouts, seen: &Seen, started_ms: i64, settled: Duration) -> Result<Event, Unnamed> {
    let named = place.named(layouts, seen)?;
    let settled_ms = i64::try_from(settled.as_millis()).unwrap_or(i64::MAX);
    let age_ms = started_ms.saturating_sub(seen.modified_ns.div_euclid(1_000_000));
    let is_growing = matches!(place.kind, PlaceKind::Folder(_)) && age_ms < settled_ms;
    let phase = if is_growing { Phase::Growing } else { Phase::Whole };
    Ok(announce::event(place, seen, named, phase, seen.modified_ns))
}

/// Lists what would be sent, one JSON event a line, and to standard error what would not.
async fn dry_run(
    arguments: &BackfillArguments,
    places: &[Place],
    stores: &Stores,
    layouts: &Layouts,
    clock: &Clock,
) -> Result<Summary, BackfillError> {
    let progress = Progress::new();
    let mut counts = Counts { is_found_complete: true, ..Counts::default() };
    let mut out = io::BufWriter::new(io::stdout());
    for place in places {
        let failed = |fault| BackfillError::Listing { place: place.url.clone(), fault };
        let order = order_of(place, arguments.order)?;
        let mut all = stores.seek(place, order, None, &Total::default()).map_err(failed)?;
        while let Some(seen) = all.recv().await {
            let seen = match seen.map_err(failed)? {
                Ok(seen) => seen,
                Err(Unreadable { path, error }) => {
                    counts.unreadable += 1;
                    progress.say(&format!("unreadable {}: {error}", place.shown(&path)));
                    continue;
                }
            };
            counts.walked += 1;
            counts.found += 1;
            let path = place.shown(&seen.path);
            match event(place, layouts, &seen, clock.now().as_ms(), arguments.origin.settled) {
                _ if seen.size == 0 => counts.empty += 1,
                Ok(event) => writeln!(out, "{}", crate::events::emit::to_structured(&event))?,
                Err(Unnamed::NoMatch) => {
                    counts.unmatched += 1;
                    progress.say(&format!("unmatched {path}"));
                }
                Err(wrong) => {
                    counts.rejected += 1;
                    progress.say(&format!("rejected {path}: {wrong}"));
                }
            }
        }
    }
    out.flush()?;
    Ok(Summary { counts, is_stopped: false, settled: None })
}

/// The summary, one fact a line.
///
/// # Errors
/// The output's.
pub fn report(summary: &Summary, mut out: impl Write) -> io::Result<()> {
    let Summary { counts, is_stopped, settled } = summary;
    writeln!(out, "files       {}", counts.before + counts.walked)?;
    let lines = [
        ("earlier", counts.before, "of them by earlier runs"),
        ("accepted", counts.accepted, "taken by the origin"),
        ("duplicates", counts.duplicates, "of them known to it already"),
        ("rejected", counts.rejected, "not taken; listed above"),
        ("unmatched", counts.unmatched, "match no pattern of media.layout"),
        ("empty", counts.empty, "without a byte"),
        ("unreadable", counts.unreadable, "could not be looked at; listed above"),
    ];
    for (what, count, meaning) in lines.iter().filter(|(_, count, _)| *count > 0) {
        writeln!(out, "{what:<11} {count} ({meaning})")?;
    }
    for (state, count) in settled.iter().flat_map(|settled| &settled.states) {
        writeln!(out, "{state:<11} {count} (recordings at the origin)")?;
    }
    for (reason, count) in settled.iter().flat_map(|settled| &settled.reasons) {
        writeln!(out, "failed      {count}: {reason}")?;
    }
    if *is_stopped {
        writeln!(out, "stopped; the same command goes on from here")?;
    }
    out.flush()
}

fn escaped(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    crate::layout::spelling::escaped(path.as_os_str().as_bytes())
}

fn unescaped(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    PathBuf::from(std::ffi::OsString::from_vec(percent_decode_str(text).collect()))
}
