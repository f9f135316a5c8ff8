//! `GET /problems/{slug}`: a page that explains a kind of problem to whoever followed its `type`.

use crate::reply::{Kind, Problem, Reply};

/// What a person can do about each kind.
const fn advice(kind: Kind) -> &'static str {
    match kind {
        Kind::InvalidParameters => {
            "The list `errors` names every parameter that is outside its limits, and what is allowed."
        }
        Kind::InvalidEvents => {
            "The list `errors` names index, JSON pointer and fault of every event that cannot be taken. Nothing of the \
             request was taken; with `Prefer: handling=lenient` the good events are."
        }
        Kind::InvalidToken => {
            "Send one bearer token that is signed by the configured key and has not expired, or one signed URL."
        }
        Kind::InsufficientScope => "The credential is good, but not for this action, user or device.",
        Kind::NotFound => "Check the path against /openapi.json.",
        Kind::Gap => {
            "Nothing was recorded at this instant. `covered_before` and `covered_after` are the nearest covered \
             instants in milliseconds."
        }
        Kind::NotRecorded => "No recording of this device has been announced and indexed.",
        Kind::Deleted => "The recording was deleted by an event or has expired.",
        Kind::MediaGone => "The recording's media is no longer at its place, and this picture was not stored.",
        Kind::MethodNotAllowed => "The header `Allow` lists the methods of this path.",
        Kind::ContentTooLarge => "Send less at once: for events, several requests.",
        Kind::UnsupportedMediaType => "The detail lists the content types that are taken.",
        Kind::UriTooLong => "Shorten the request's URI.",
        Kind::HeaderFieldsTooLarge => "Send fewer or shorter headers.",
        Kind::NotDecodable => "The detail names what is wrong with the media: its codec, container or damage.",
        Kind::BadRequest => {
            "The request is not valid HTTP; or the list `errors` names every parameter that is wrong, and what is allowed."
        }
        Kind::UrlNotAllowed => {
            "The operator allows no fetch of this URL for this caller: the detail says whether by its text, by the address \
             behind its name, or by the credentials that go with it."
        }
        Kind::UnknownCredentials => {
            "Ask the operator for credentials that your user may name, or leave `credentials_key` out."
        }
        Kind::Internal => "The fault is logged under the request's id. Trying again may help.",
        Kind::NoImage => {
            "There is no such image, or it cannot be shown, and no default is configured for its content type \
             (`images.defaults`)."
        }
        Kind::MediaUnreadable => "The media's place did not answer as it should. Trying again may help.",
        Kind::NotIndexed => "Try again after the seconds in `Retry-After`.",
        Kind::Busy | Kind::TooManyRequests => "Try again after the seconds in `Retry-After`, more slowly.",
        Kind::Unavailable => "A part of the service is down or starting. Try again after `Retry-After`.",
        Kind::Deadline => "Making the picture took longer than allowed. Trying again may help.",
    }
}

/// The page of a slug.
pub(crate) fn page(slug: &str) -> Result<Reply, Problem> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.facts().1 == slug);
    let Some(kind) = kind else { return Err(Problem::new(Kind::NotFound, "there is no problem of this name")) };
    let (status, slug, title) = kind.facts();
    let (code, advice) = (status.as_u16(), advice(kind));
    // Backticks mark what is code, as they do in the texts themselves.
    let advice: String = advice
        .split('`')
        .enumerate()
        .map(|(n, part)| if n % 2 == 0 { part.to_owned() } else { format!("<code>{part}</code>") })
        .collect();
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n\
         <h1>{title}</h1>\n<p>Status {code}, type <code>/problems/{slug}</code>.</p>\n<p>{advice}</p>\n</html>\n"
    );
    Ok(Reply::ok("text/html; charset=utf-8", page).with(http::header::CACHE_CONTROL, "public, max-age=3600"))
}
