//! Why there is no picture of a clip: the URL, the credentials, or the media.

use stills_model::fault::{Fault, FaultKind};

/// No picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClipError {
    /// The configuration does not let this user have this URL fetched; public text.
    #[error("{0}")]
    Refused(String),
    /// The user may name no credentials of this name, whether or not there are any.
    #[error("credentials_key names no credentials that this user may use")]
    UnknownCredentials,
    /// The media could not be read or shown.
    #[error("{0}")]
    Fault(Fault),
}

impl From<Fault> for ClipError {
    fn from(fault: Fault) -> Self {
        // A name or a redirect led to an address that may not be reached, or the credentials are for other URLs.
        if fault.kind == FaultKind::Forbidden { Self::Refused(fault.detail) } else { Self::Fault(fault) }
    }
}
