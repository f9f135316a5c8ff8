//! What kind of problem each error of the parts behind the HTTP is. Chooses kinds, never a status; what is internal is logged
//! here and left out.

use http::header;
use serde_json::{Value, json};
use stills_indexer::catalog::Missing;
use stills_indexer::images::ImageError;
use stills_indexer::pipeline::SubmitError;
use stills_indexer::thumbs::ThumbError;
use stills_model::fault::{Fault, FaultKind};

use super::{Kind, Problem};
use crate::auth::{AuthError, Refusal};

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let kind = match error.refusal() {
            Refusal::Unauthenticated => Kind::InvalidToken,
            Refusal::Forbidden => Kind::InsufficientScope,
            Refusal::Unavailable => Kind::Unavailable,
        };
        let problem = Self::new(kind, error.description());
        match error.www_authenticate() {
            Some(challenge) => problem.with_header(header::WWW_AUTHENTICATE, &challenge),
            None => problem,
        }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let kind = match fault.kind {
            FaultKind::Unsupported | FaultKind::Damaged | FaultKind::TooLarge => Kind::NotDecodable,
            FaultKind::Gone => Kind::MediaGone,
            FaultKind::Unreadable | FaultKind::Changed | FaultKind::Forbidden | FaultKind::Crashed => {
                Kind::MediaUnreadable
            }
            FaultKind::Deadline => Kind::Deadline,
            FaultKind::Busy => Kind::Busy,
            FaultKind::Internal => Kind::Internal,
        };
        Self::new(kind, fault.detail)
    }
}

impl From<Missing> for Problem {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::NotRecorded => Self::new(Kind::NotRecorded, "nothing of this device is recorded"),
            Missing::Deleted => Self::new(Kind::Deleted, "what was recorded at this instant is deleted"),
            Missing::NotIndexed => {
                Self::new(Kind::NotIndexed, "a recording is announced at this instant and not indexed yet")
            }
            Missing::Failed(fault) => fault.into(),
            Missing::Gap { covered_before, covered_after } => {
                let ms = |t: Option<stills_model::time::Timestamp>| t.map_or(Value::Null, |t| json!(t.as_ms()));
                Self::new(Kind::Gap, "nothing is recorded at this instant")
                    .with("covered_before", ms(covered_before))
                    .with("covered_after", ms(covered_after))
            }
        }
    }
}

impl From<ThumbError> for Problem {
    fn from(error: ThumbError) -> Self {
        match error {
            ThumbError::Missing(missing) => missing.into(),
            ThumbError::Fault(fault) => fault.into(),
            ThumbError::Busy => Self::new(Kind::Busy, "too many look-ups are waiting"),
            ThumbError::Rebuilding => Self::new(Kind::Unavailable, "what is known of recordings is being rebuilt"),
            ThumbError::Store(internal) => {
                tracing::error!(error = internal, "the store cannot answer");
                Self::new(Kind::Unavailable, "the store cannot answer at present")
            }
        }
    }
}

impl From<ImageError> for Problem {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::NotAnImage(fault) => Self::new(Kind::BadRequest, fault.detail),
            ImageError::Fault(fault) => Self::new(Kind::NoImage, fault.detail),
            ImageError::Full(detail) => Self::new(Kind::Unavailable, detail),
            ImageError::Busy => Self::new(Kind::Busy, "too many images are asked for at once"),
            ImageError::Store(internal) => {
                tracing::error!(error = internal, "the store of images cannot answer");
                Self::new(Kind::Unavailable, "the store of images cannot answer at present")
            }
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Full => Self::new(Kind::Busy, "the inbox is full"),
            SubmitError::NoSpace => Self::new(Kind::Unavailable, "there is no room for events; send them again later"),
            SubmitError::Failed(internal) => {
                tracing::error!(error = internal, "events could not be kept");
                Self::new(Kind::Unavailable, "the events could not be kept; send them again")
            }
        }
    }
}
