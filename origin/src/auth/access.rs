//! The one decision about access: [`authorize`], asked by lists and gets alike. Never reads a request.

use std::collections::BTreeSet;
use std::sync::Arc;

use stills_model::id::{DeviceId, Timeline, UserId};
use stills_model::time::{Span, Timestamp};

use super::error::AuthError;
use super::scope::{Scope, ScopeSet};

/// The users whose footage a token may touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Users {
    /// Every user (scope `users:all`).
    All,
    /// These, perhaps none.
    These(BTreeSet<UserId>),
}

/// Who a verified token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The `sub` claim, where the token has one. For logs; access never depends on it alone.
    pub sub: Option<String>,
    /// Whose footage it may touch.
    pub users: Users,
    /// The devices it is narrowed to; nothing: all devices of its users.
    pub devices: Option<BTreeSet<DeviceId>>,
    /// What it may do.
    pub scopes: ScopeSet,
    /// The token's `exp`, without leeway.
    pub expires_at: Timestamp,
}

impl Caller {
    /// The one user that an action is for whose path names none: the only one, or the subject among several or all.
    pub(crate) fn own_user(&self) -> Option<UserId> {
        let subject = || self.sub.as_ref().and_then(|sub| sub.parse::<UserId>().ok());
        match &self.users {
            Users::All => subject(),
            Users::These(users) if users.len() == 1 => users.first().copied(),
            Users::These(users) => subject().filter(|subject| users.contains(subject)),
        }
    }
}

/// One device's footage of one span: what a signed URL opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Whose device, and which.
    pub timeline: Timeline,
    /// From when to when, as the path says.
    pub span: Span,
}

/// What a verified signature of a window allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The window that was signed; the signature opens nothing outside of it.
    pub window: Window,
    /// The scope that was signed.
    pub scope: Scope,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A verified credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A bearer token. Shared with the cache of verified tokens.
    Caller(Arc<Caller>),
    /// A signed window.
    Grant(Grant),
}

impl Identity {
    /// When the credential ends (a token's leeway not counted): no answer about it may be kept for longer.
    pub fn expires_at(&self) -> Timestamp {
        match self {
            Self::Caller(caller) => caller.expires_at,
            Self::Grant(grant) => grant.expires_at,
        }
    }

    /// Whether the credential is a signed window rather than a token.
    pub fn is_signed(&self) -> bool {
        matches!(self, Self::Grant(_))
    }

    /// The caller of a token.
    pub fn caller(&self) -> Option<&Caller> {
        match self {
            Self::Caller(caller) => Some(caller),
            Self::Grant(_) => None,
        }
    }
}

/// What an action touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// No footage: the scope alone decides.
    Nothing,
    /// A window of a device. The only target that a signed URL may touch.
    Window(Window),
    /// One device of a user, whatever the time.
    Device(Timeline),
    /// Every device of a user, now and later; a token narrowed to devices may not.
    AllDevices(UserId),
    /// Some devices of a user: a list whose every entry is asked about again as [`Target::Device`].
    SomeDevices(UserId),
}

/// Decides whether a verified credential may do what `scope` stands for to `target`.
///
/// # Errors
/// [`AuthError::InsufficientScope`], then [`AuthError::WrongUser`], then [`AuthError::WrongDevice`]; the same for
/// footage that exists and for footage that does not.
pub fn authorize(identity: &Identity, scope: Scope, target: Target) -> Result<(), AuthError> {
    match identity {
        Identity::Caller(caller) => authorize_caller(caller, scope, target),
        Identity::Grant(grant) => authorize_grant(grant, scope, target),
    }
}

fn authorize_caller(caller: &Caller, scope: Scope, target: Target) -> Result<(), AuthError> {
    if !caller.scopes.has(scope) {
        return Err(AuthError::InsufficientScope(scope));
    }
    let (user, device) = match target {
        Target::Nothing => return Ok(()),
        Target::Window(window) => (window.timeline.user, Some(window.timeline.device)),
        Target::Device(timeline) => (timeline.user, Some(timeline.device)),
        Target::AllDevices(user) | Target::SomeDevices(user) => (user, None),
    };
    match &caller.users {
        Users::These(users) if !users.contains(&user) => return Err(AuthError::WrongUser),
        Users::These(_) | Users::All => {}
    }
    match (&caller.devices, device) {
        (Some(devices), Some(device)) if !devices.contains(&device) => Err(AuthError::WrongDevice),
        (Some(_), None) if matches!(target, Target::AllDevices(_)) => Err(AuthError::WrongDevice),
        _ => Ok(()),
    }
}

fn authorize_grant(grant: &Grant, scope: Scope, target: Target) -> Result<(), AuthError> {
    if grant.scope != scope {
        return Err(AuthError::InsufficientScope(scope));
    }
    let Target::Window(window) = target else {
        return Err(AuthError::InsufficientScope(scope));
    };
    let signed = grant.window.timeline;
    if window.timeline.user != signed.user {
        Err(AuthError::WrongUser)
    } else if window.timeline.device != signed.device {
        Err(AuthError::WrongDevice)
    } else if window.span != grant.window.span {
        Err(AuthError::InsufficientScope(scope))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: [UserId; 2] = [UserId::from_bytes([1; 12]), UserId::from_bytes([2; 12])];
    const DEVICE: [DeviceId; 2] = [DeviceId::from_bytes([1; 12]), DeviceId::from_bytes([2; 12])];

    fn timeline(user: usize, device: usize) -> Timeline {
        Timeline { user: USER[user], device: DEVICE[device] }
    }

    fn window(user: usize, device: usize, end: i64) -> Window {
        let span = Span { start: Timestamp::from_ms(0), end: Timestamp::from_ms(end) };
        Window { timeline: timeline(user, device), span }
    }

    fn caller(scopes: &str, devices: Option<usize>) -> Identity {
        let scopes = ScopeSet::from_text(scopes);
        let users =
            if scopes.has(Scope::UsersAll) { Users::All } else { Users::These(std::iter::once(USER[0]).collect()) };
        Identity::Caller(Arc::new(Caller {
            sub: None,
            users,
            devices: devices.map(|device| std::iter::once(DEVICE[device]).collect()),
            scopes,
            expires_at: Timestamp::from_ms(0),
        }))
    }

    fn check(identity: &Identity, scope: Scope, target: Target, expected: Result<(), AuthError>) {
        assert_eq!(authorize(identity, scope, target), expected, "{identity:?} {scope} {target:?}");
    }

    #[test]
    fn tokens() {
        use AuthError::{InsufficientScope, WrongDevice, WrongUser};
        use Scope::{ImagesRead, RecordingsRead, ThumbnailsRead};
        let own = caller("thumbnails:read", None);
        check(&own, ThumbnailsRead, Target::Nothing, Ok(()));
        check(&own, ThumbnailsRead, Target::Device(timeline(0, 1)), Ok(()));
        check(&own, ThumbnailsRead, Target::Window(window(0, 1, 5)), Ok(()));
        check(&own, ThumbnailsRead, Target::AllDevices(USER[0]), Ok(()));
        check(&own, ThumbnailsRead, Target::SomeDevices(USER[0]), Ok(()));
        check(&own, ThumbnailsRead, Target::Device(timeline(1, 1)), Err(WrongUser));
        check(&own, ThumbnailsRead, Target::Window(window(1, 1, 5)), Err(WrongUser));
        check(&own, ThumbnailsRead, Target::AllDevices(USER[1]), Err(WrongUser));
        check(&own, ThumbnailsRead, Target::SomeDevices(USER[1]), Err(WrongUser));
        check(&own, RecordingsRead, Target::Device(timeline(0, 1)), Err(InsufficientScope(RecordingsRead)));
        check(&own, ImagesRead, Target::Nothing, Err(InsufficientScope(ImagesRead)));
        // Another user's footage and a missing scope: the scope is told first, whoever's it is.
        check(&own, ImagesRead, Target::Device(timeline(1, 1)), Err(InsufficientScope(ImagesRead)));

        let narrowed = caller("thumbnails:read", Some(0));
        check(&narrowed, ThumbnailsRead, Target::Device(timeline(0, 0)), Ok(()));
        check(&narrowed, ThumbnailsRead, Target::Device(timeline(0, 1)), Err(WrongDevice));
        check(&narrowed, ThumbnailsRead, Target::Window(window(0, 1, 5)), Err(WrongDevice));
        check(&narrowed, ThumbnailsRead, Target::Device(timeline(1, 0)), Err(WrongUser));
        check(&narrowed, ThumbnailsRead, Target::AllDevices(USER[0]), Err(WrongDevice));
        check(&narrowed, ThumbnailsRead, Target::SomeDevices(USER[0]), Ok(()));

        let all = caller("thumbnails:read users:all", None);
        check(&all, ThumbnailsRead, Target::Device(timeline(1, 1)), Ok(()));
        check(&all, ThumbnailsRead, Target::AllDevices(USER[1]), Ok(()));
        check(&all, ImagesRead, Target::Device(timeline(1, 1)), Err(InsufficientScope(ImagesRead)));
        let all_narrowed = caller("thumbnails:read users:all", Some(0));
        check(&all_narrowed, ThumbnailsRead, Target::Device(timeline(1, 0)), Ok(()));
        check(&all_narrowed, ThumbnailsRead, Target::Device(timeline(1, 1)), Err(WrongDevice));
        check(&caller("users:all", None), ThumbnailsRead, Target::Nothing, Err(InsufficientScope(ThumbnailsRead)));
    }

    #[test]
    fn the_user_a_caller_speaks_for() {
        let check = |sub: Option<UserId>, users: Option<&[UserId]>, expected: Option<UserId>| {
            let users = users.map_or(Users::All, |users| Users::These(users.iter().copied().collect()));
            let (sub, expires_at) = (sub.map(|sub| sub.to_string()), Timestamp::from_ms(0));
            let caller = Caller { sub, users, devices: None, scopes: ScopeSet::EMPTY, expires_at };
            assert_eq!(caller.own_user(), expected, "{caller:?}");
        };
        let [one, other] = USER;
        check(None, Some(&[one]), Some(one));
        check(Some(other), Some(&[one]), Some(one));
        check(Some(other), Some(&[one, other]), Some(other));
        check(None, Some(&[one, other]), None);
        check(Some(UserId::from_bytes([9; 12])), Some(&[one, other]), None);
        check(None, Some(&[]), None);
        check(Some(one), None, Some(one));
        check(None, None, None);
    }

    #[test]
    fn grants() {
        use AuthError::{InsufficientScope, WrongDevice, WrongUser};
        use Scope::{RecordingsRead, ThumbnailsRead};
        let grant = Identity::Grant(Grant {
            window: window(0, 0, 5),
            scope: ThumbnailsRead,
            expires_at: Timestamp::from_ms(0),
        });
        check(&grant, ThumbnailsRead, Target::Window(window(0, 0, 5)), Ok(()));
        check(&grant, ThumbnailsRead, Target::Window(window(0, 0, 6)), Err(InsufficientScope(ThumbnailsRead)));
        check(&grant, ThumbnailsRead, Target::Window(window(0, 1, 5)), Err(WrongDevice));
        check(&grant, ThumbnailsRead, Target::Window(window(1, 0, 5)), Err(WrongUser));
        check(&grant, RecordingsRead, Target::Window(window(0, 0, 5)), Err(InsufficientScope(RecordingsRead)));
        check(&grant, ThumbnailsRead, Target::Device(timeline(0, 0)), Err(InsufficientScope(ThumbnailsRead)));
        check(&grant, ThumbnailsRead, Target::AllDevices(USER[0]), Err(InsufficientScope(ThumbnailsRead)));
        check(&grant, ThumbnailsRead, Target::SomeDevices(USER[0]), Err(InsufficientScope(ThumbnailsRead)));
        check(&grant, ThumbnailsRead, Target::Nothing, Err(InsufficientScope(ThumbnailsRead)));
    }
}
