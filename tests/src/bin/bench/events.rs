//! How fast recording events are taken: a hundred a request as NDJSON, and one a request, over many connections. An answer says
//! that its events are durable; what they announce is scanned meanwhile, as it would be.

use std::io;
use std::path::Path;

use e2e::harness::event::media_type;
use e2e::harness::{Camera, START, Setup, procfs};

use crate::inputs;
use crate::sheet::{Goal, Sheet};
use crate::wrk::{self, Load};

const CONNECTIONS: usize = 32;

/// How often and for how long each is measured. All events of all rounds are other recordings.
const ROUNDS: usize = 3;
const SECONDS: u64 = 5;

/// Cameras that the events are spread over.
const CAMERAS: usize = 1000;

/// Measures both and publishes them.
pub(crate) async fn run(place: &Path) -> io::Result<()> {
    let film = inputs::camera(place)?;
    let mut sheet = Sheet::default();
    for (per_request, name) in [(100, "NDJSON of 100"), (1, "one event a request")] {
        for round in 0..ROUNDS {
            let setup = Setup::new().set("prerender.policy", "\"none\"").set("decoders.running_max", "1");
            let mut stills = setup.start().await;
            let camera = Camera::first();
            inputs::link(&film.file, &stills.media_path(&camera, "film"))?;
            let (address, origin) = (stills.origin_address(), stills.origin().id());
            let url = stills.media_url(&camera, "film");
            let script = script(&camera, &url, per_request);
            // Of the server alone: what scans take meanwhile is not the price of an event.
            let cpu = || procfs::tree(origin).first().map_or(0.0, |process| process.cpu.as_secs_f64());
            let before = cpu();
            let load =
                Load { address, token: Some(stills.owner()), script, connections: CONNECTIONS, seconds: SECONDS };
            let counted = wrk::run(&load)?;
            let events = counted.requests * f64::from(per_request);
            sheet.add(name, "events/s", events / counted.seconds);
            sheet.add(name, "ms to an answer, 99 %", counted.p99_ms);
            sheet.add(name, "CPU ms for 1,000 events", (cpu() - before) * 1e6 / events);
            let metrics = stills.metrics().await;
            // What arrived while wrk was closing its connections is taken too, and not counted by it.
            let taken = metrics.sum("stills_events_total", &[("outcome", "new")]);
            if taken < events {
                return Err(io::Error::other(format!("{taken} events taken of {events} acknowledged")));
            }
            sheet.add(name, "events a sync", taken / metrics.sum("stills_journal_syncs_total", &[]));
            eprintln!("events: {name}, round {} of {ROUNDS}", round + 1);
        }
        let goal = Some(Goal::AtLeast(20_000.0)).filter(|_| per_request == 100);
        sheet.judge(&format!("{name}, events/s"), sheet.median(name, "events/s"), goal);
    }
    sheet.publish(place, "events")
}

/// Lua that words events of recordings of a minute, each another one.
fn script(camera: &Camera, url: &str, per_request: i32) -> String {
    format!(
        "local n = 0\n\
         local headers = {{['Content-Type'] = '{lines}', ['Authorization'] = token}}\n\
         local form = '{{\"specversion\":\"1.0\",\"id\":\"%d\",\"source\":\"/bench\",\"type\":\"recording.available\",' ..\n\
         '\"time\":\"2026-01-01T00:00:00Z\",\"data\":{{\"user_id\":\"{user}\",\"device_id\":\"%024x\",\"recording_id\":\"r%d\",' ..\n\
         '\"start_timestamp\":%d,\"end_timestamp\":%d,\"media_url\":\"{url}\",\"growing\":false}}}}'\n\
         request = function()\n\
         local all = {{}}\n\
         for i = 1, {per_request} do\n\
         n = n + 1\n\
         local start = {START} + math.floor(n / {CAMERAS}) * 60000\n\
         all[i] = string.format(form, n, n % {CAMERAS} + 1, n, start, start + 60000)\n\
         end\n\
         return wrk.format('POST', '/v1/recordings/events', headers, table.concat(all, '\\n'))\n\
         end\n",
        lines = media_type::LINES,
        user = camera.user,
    )
}
