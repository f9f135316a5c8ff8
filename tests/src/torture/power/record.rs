//! A load on the real server while strace writes down what it does to its data directory, and when it answered.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;

use reqwest::Method;

use super::disk::Disk;
use super::trace::{self, Op, What};
use crate::harness::dice::Dice;
use crate::harness::{Camera, Setup, Stills, event};
use crate::torture::{announce, is_shown, minute, send};

/// Lives of the server in one recording.
const LIVES: u32 = 3;
/// Waves of requests in one life; one waits for the answers of the one before.
const WAVES: u32 = 4;
/// Recordings announced in one wave.
const ANNOUNCED: u32 = 2;

/// What was asked for.
#[derive(Debug, Clone)]
pub enum Asked {
    /// A recording.
    Announce(Camera),
    /// Its end.
    Delete(Camera),
    /// An image, by its name.
    Image(String),
}

/// What was asked for at once, and the ids of the requests.
type Wave = Vec<(String, Asked)>;

/// A request, and its answer where one left the server.
#[derive(Debug)]
struct Request {
    asked: Asked,
    /// Before this line it had not been sent.
    sent: usize,
    /// The line at which the answer left.
    answered: Option<usize>,
}

/// A load, and everything that it did to the disk.
#[derive(Debug)]
pub struct Recording {
    requests: Vec<Request>,
    /// What was done.
    pub disk: Disk,
    /// Lines of the trace.
    pub end: usize,
}

/// What has to be so after a cut.
#[derive(Debug, Default)]
pub struct Demand {
    /// Announced, and nobody asked for the end.
    pub there: Vec<Camera>,
    /// Deleted.
    pub deleted: Vec<Camera>,
    /// Images that are there.
    pub images: Vec<String>,
}

impl Recording {
    /// What was acknowledged before line `at`.
    pub fn demand(&self, at: usize) -> Demand {
        let is_answered = |request: &&Request| request.answered.is_some_and(|line| line < at);
        let mut demand = Demand::default();
        for request in self.requests.iter().filter(is_answered) {
            match &request.asked {
                Asked::Announce(camera) => demand.there.push(camera.clone()),
                Asked::Delete(camera) => demand.deleted.push(camera.clone()),
                Asked::Image(name) => demand.images.push(name.clone()),
            }
        }
        // A delete that was on its way may have been taken or not.
        for request in self.requests.iter().filter(|request| request.sent < at) {
            if let Asked::Delete(camera) = &request.asked {
                demand.there.retain(|other| other != camera);
            }
        }
        demand
    }

    /// A line at which the power may go: most often just behind an answer, else anywhere.
    pub fn moment(&self, dice: &mut Dice) -> usize {
        let answers: Vec<usize> = self.requests.iter().filter_map(|request| request.answered).collect();
        let last = i64::try_from(answers.len()).unwrap_or(1) - 1;
        if dice.roll(0, 2) > 0 && last >= 0 {
            return answers[usize::try_from(dice.roll(0, last)).unwrap_or(0)] + 1;
        }
        usize::try_from(dice.roll(0, i64::try_from(self.end).unwrap_or(0))).unwrap_or(0)
    }
}

/// Plays the load on a server that is left killed.
///
/// # Panics
/// When the server refuses something, or its trace cannot be followed.
pub async fn record(dice: &mut Dice) -> (Stills, Recording) {
    let mut home = Setup::new()
        .set("prerender.interval", "\"10s\"")
        .set("data.free_min", "\"1MiB\"")
        .set("cache.max_bytes", "\"4MiB\"")
        .set("cache.volume_bytes", "\"1MiB\"")
        .lay_out();
    std::fs::create_dir_all(home.data()).expect("a directory");
    let log = |life: u32| format!("trace-{life}");
    home.set_under(strace(&home.path(&log(0))));
    let mut stills = Stills::start(home, false).await;
    let media = stills.place(&Camera::first(), &minute().path, "shared");
    let (mut waves, mut lives): (Vec<Wave>, Vec<Vec<Op>>) = (Vec::new(), Vec::new());
    let mut end = 0;
    for life in 0..LIVES {
        for _ in 0..WAVES {
            let wave = play(&stills, &media, &waves, dice).await;
            waves.push(wave);
        }
        // Half of the lives end well; the last one is over at once.
        if life + 1 < LIVES && dice.roll(0, 1) == 0 {
            stills.origin().stop().await;
        } else {
            stills.kill9().await;
        }
        let text = std::fs::read_to_string(stills.home().path(&log(life))).expect("a trace");
        lives.push(trace::parse(&text, &stills.home().data(), end).unwrap_or_else(|fault| panic!("{fault}")));
        end += text.lines().count();
        if life + 1 < LIVES {
            let next = strace(&stills.home().path(&log(life + 1)));
            stills.home_mut().set_under(next);
            stills.start_again().await;
        }
    }
    stills.home_mut().set_under(Vec::new());
    let ops = lives.concat();
    let requests = requests(waves, &ops);
    let disk = Disk::of(&ops).unwrap_or_else(|fault| panic!("{fault}"));
    (stills, Recording { requests, disk, end })
}

/// strace beside the server, which stays our child: what is killed is the server.
fn strace(log: &Path) -> Vec<String> {
    let text = str::to_owned;
    let options = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "134217728", "-e", "signal=none"];
    let calls = format!("trace={}", trace::CALLS.replace(",", ",?"));
    let mut command: Vec<String> = options.into_iter().map(text).collect();
    command.extend([text("-e"), calls, text("-o"), log.display().to_string()]);
    command
}

/// One wave: what was asked for, under which ids. All of it is answered when this returns.
async fn play(stills: &Stills, media: &str, before: &[Wave], dice: &mut Dice) -> Wave {
    let number = u32::try_from(before.len()).expect("few");
    let cameras: Vec<Camera> = (0..ANNOUNCED).map(|n| Camera::numbered(number * 100 + n)).collect();
    let mut sent: Vec<_> = cameras.iter().map(|camera| announce(stills, camera, media)).collect();
    let known = before.iter().flatten().filter_map(|(_, asked)| match asked {
        Asked::Announce(camera) => Some(camera.clone()),
        _ => None,
    });
    let known: Vec<Camera> = known.collect();
    let gone: Vec<&Camera> = before.iter().flatten().filter_map(|(_, asked)| deleted(asked)).collect();
    let doomed = known.iter().find(|camera| !gone.contains(camera) && dice.roll(0, 2) == 0);
    sent.extend(doomed.map(|camera| send(stills, camera, event::deleted(camera, "r-1"))));
    let mut asked = Wave::new();
    for sent in sent {
        let camera = sent.camera.clone();
        let what = if sent.is_delete { Asked::Delete(camera) } else { Asked::Announce(camera) };
        asked.push((sent.id.clone(), what));
        assert_eq!(sent.task.await.expect("a task"), Some(202));
    }
    let name = format!("Show/{number}/Poster");
    let id = format!("image-{number:06}");
    let put = stills.ask(Method::PUT, &image_path(&name)).bearer(stills.owner()).header("x-request-id", &id);
    put.body("image/png", picture()).send().await.expect(201);
    asked.push((id, Asked::Image(name)));
    for camera in known.iter().rev().take(3) {
        let _ = is_shown(stills, camera, 1000 * dice.roll(0, 59)).await;
    }
    asked
}

fn deleted(asked: &Asked) -> Option<&Camera> {
    match asked {
        Asked::Delete(camera) => Some(camera),
        _ => None,
    }
}

/// The path of an image.
pub fn image_path(name: &str) -> String {
    format!("/images/v1/image/{name}?width=64&height=36")
}

/// Puts together what was asked and when it was answered.
fn requests(waves: Vec<Wave>, ops: &[Op]) -> Vec<Request> {
    let answers: HashMap<&str, usize> = ops
        .iter()
        .filter_map(|op| match &op.what {
            What::Answer { status: 200..300, id } => Some((id.as_str(), op.from)),
            _ => None,
        })
        .collect();
    let (mut requests, mut sent) = (Vec::new(), 0);
    for wave in waves {
        let mut last = sent;
        for (id, asked) in wave {
            let answered = answers.get(id.as_str()).copied();
            assert!(answered.is_some(), "{id} was answered, and the trace does not say so");
            last = answered.unwrap_or(0).max(last);
            requests.push(Request { asked, sent, answered });
        }
        sent = last;
    }
    requests
}

/// A picture to put.
fn picture() -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image::RgbImage::new(64, 36).write_to(&mut file, image::ImageFormat::Png).expect("a picture");
    file.into_inner()
}
