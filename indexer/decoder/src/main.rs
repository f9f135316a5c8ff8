//! `stills-decoder`: the only program that links FFmpeg. Started by the services, never by hand.
//!
//! 1. The service starts it with a control socket as standard input; it loads FFmpeg and sees no media.
//! 2. For each socket that comes over the control socket it forks a worker ([`parent`](stills_decoder::parent)).
//! 3. The worker locks itself in and answers requests on its socket ([`serve`](stills_decoder::serve)).
//! 4. When the control socket closes, it ends, and its workers with it.

use std::process::ExitCode;

fn main() -> ExitCode {
    match stills_decoder::parent::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stills-decoder: {error}");
            ExitCode::FAILURE
        }
    }
}
