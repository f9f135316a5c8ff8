//! `GET|PUT|DELETE /images/v1/image/{contentType}/{id}/{imageType}`: images that people put, and two that footage gives.
//!
//! 1. authenticate; 2. read the parameters; 3. authorise;
//! 4. find the image, or the keyframe, and its shape; 5. where there is none, or it lies the other way than was asked: the
//!    configured default of its content type;
//! 6. answer 304 without a picture where the client has it; 7. show it in its box, never cropped, and say whether it fills it.
//!
//! Whose images: where they are private, those of one user of the token; where they are public, everyone's. What footage
//! gives is always the token's users' and devices'.

mod ask;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::request::Parts;
use stills_indexer::catalog::Located;
use stills_indexer::decode::Class;
use stills_indexer::images::{Image, ImageError};
use stills_indexer::thumbs::{self, ThumbError};
use stills_indexer::uploads::{Owner, UploadKey};
use stills_model::fault::FaultKind;
use stills_model::id::UserId;
use stills_model::rendition::Rendition;
use stills_model::thumb::ETag;

use crate::app::App;
use crate::auth::{Credentials, Identity, Scope, Target, authorize};
use crate::conditional::is_known;
use crate::image_path::{ImageOf, ImagePath};
use crate::query::Query;
use crate::reply::{Kind, Problem, Reply, content_type};

use ask::Ask;

const ASPECT_MATCH: HeaderName = HeaderName::from_static("aspectmatch");
const FRAME_TIMESTAMP: HeaderName = HeaderName::from_static("stills-frame-timestamp");

/// What anyone may keep of an image that can be put again; then the entity tag is asked about.
const PUT_AGE_S: i64 = 60;

/// Of a finished recording's poster.
const POSTER_AGE_S: i64 = 300;

/// Of what the next keyframe or recording changes.
const SHORT_AGE_S: i64 = 5;

/// How often an image is looked for again that was replaced meanwhile.
const ATTEMPTS_MAX: usize = 5;

/// Something that can be shown.
enum Found {
    Image(Image),
    Keyframe(Located, (u32, u32)),
}

impl Found {
    /// Width to height.
    fn shape(&self) -> (u32, u32) {
        match self {
            Self::Image(image) => image.size(),
            Self::Keyframe(_, shape) => *shape,
        }
    }

    fn etag(&self, rendition: Rendition) -> ETag {
        match self {
            Self::Image(image) => image.etag(&rendition),
            Self::Keyframe(located, _) => thumbs::key_of(located, rendition).etag(),
        }
    }
}

/// Answers with the picture.
pub(crate) async fn get(app: &App, parts: &Parts, path: &ImagePath) -> Result<Reply, Problem> {
    let is_public = app.config().images.public && matches!(path.image, ImageOf::Put { .. } | ImageOf::Malformed(_));
    let identity = if is_public { None } else { Some(authenticate(app, parts).await?) };
    let mut query = Query::parse(parts.uri.query().unwrap_or_default());
    let ask = Ask::read(&mut query, &app.config().images.ratios);
    let owner = owner(identity.as_ref(), path, &mut query);
    let (ask, owner) = checked(path, query, ask.zip(owner))?;
    if let Some(identity) = &identity {
        authorize(identity, Scope::ImagesRead, target(path, owner))?;
    }

    for _ in 0..ATTEMPTS_MAX {
        if let Some(reply) = attempt(app, parts, path, owner, &ask).await? {
            return Ok(reply);
        }
    }
    Err(Problem::new(Kind::Busy, "the image is replaced faster than it can be shown"))
}

/// The answer; none where the image was replaced between the look and the picture.
async fn attempt(
    app: &App,
    parts: &Parts,
    path: &ImagePath,
    owner: Owner,
    ask: &Ask,
) -> Result<Option<Reply>, Problem> {
    let default = || app.engine.images.default_of(&path.content_type).cloned().map(Found::Image);
    let no_image = |why: String| Problem::new(Kind::NoImage, why);
    let found = match find(app, path, owner, ask.locale.as_deref()).await? {
        Ok(found) if ask.is_against(found.shape()) => default().unwrap_or(found),
        Ok(found) => found,
        Err(why) => default().ok_or_else(|| no_image(why))?,
    };
    match answer(app, parts, path, ask, &found).await? {
        Shown::Reply(reply) => Ok(Some(reply)),
        Shown::Replaced => Ok(None),
        Shown::Not(why) => {
            let default = default().ok_or_else(|| no_image(why))?;
            match answer(app, parts, path, ask, &default).await? {
                Shown::Reply(reply) => Ok(Some(reply)),
                Shown::Not(why) => Err(no_image(why)),
                Shown::Replaced => Ok(None),
            }
        }
    }
}

/// What came of showing something.
enum Shown {
    Reply(Reply),
    /// It cannot be shown, and why.
    Not(String),
    /// There is another image in its place by now.
    Replaced,
}

async fn answer(app: &App, parts: &Parts, path: &ImagePath, ask: &Ask, found: &Found) -> Result<Shown, Problem> {
    let (rendition, is_match) = ask.rendition(found.shape());
    let etag = found.etag(rendition);
    let reply = if is_known(parts, etag) {
        Reply::not_modified()
    } else {
        let picture = match found {
            Found::Image(image) => match app.engine.images.picture(image, rendition).await {
                Err(ImageError::Fault(fault)) if fault.kind == FaultKind::Changed => return Ok(Shown::Replaced),
                Err(ImageError::Fault(fault)) => return Ok(Shown::Not(fault.detail)),
                picture => picture?,
            },
            Found::Keyframe(located, _) => {
                match app.engine.thumbs.picture(located, rendition, Class::Interactive).await {
                    Ok(picture) => picture.body,
                    Err(error) => return absent(error).map(Shown::Not),
                }
            }
        };
        Reply::ok(content_type(rendition.format), picture)
    };
    Ok(Shown::Reply(headers(app, path, reply, found, etag, is_match)))
}

/// Stores an image in place of the one before. The body is read only for a caller who may put one.
pub(crate) async fn put<B>(app: &App, parts: &Parts, path: &ImagePath, read_body: B) -> Result<Reply, Problem>
where
    B: Future<Output = Result<Bytes, Problem>>,
{
    let key = writable(app, parts, path).await?;
    let permit = app.engine.images.admit()?;
    let file = read_body.await?;
    let is_new = app.engine.images.put(&permit, key, file).await?;
    Ok(if is_new { Reply::created() } else { Reply::nothing() })
}

/// Removes an image.
pub(crate) async fn delete(app: &App, parts: &Parts, path: &ImagePath) -> Result<Reply, Problem> {
    let key = writable(app, parts, path).await?;
    if app.engine.images.delete(key).await? {
        return Ok(Reply::nothing());
    }
    Err(Problem::new(Kind::NotFound, "there is no such image"))
}

/// The key of an image that this caller may put or remove.
async fn writable(app: &App, parts: &Parts, path: &ImagePath) -> Result<UploadKey, Problem> {
    let identity = authenticate(app, parts).await?;
    let mut query = Query::parse(parts.uri.query().unwrap_or_default());
    let locale = ask::locale(&mut query);
    let is_public = app.config().images.public;
    let owner = if is_public { Some(Owner::Everyone) } else { owner(Some(&identity), path, &mut query) };
    let (locale, owner) = checked(path, query, owner.map(|owner| (locale, owner)))?;
    authorize(&identity, Scope::ImagesWrite, target(path, owner))?;
    upload_key(path, owner, locale).ok_or_else(|| Problem::new(Kind::BadRequest, "this image is not put"))
}

async fn authenticate(app: &App, parts: &Parts) -> Result<Identity, Problem> {
    Ok(app.auth.authenticate(Credentials::from_headers(&parts.headers)?, None).await?)
}

/// Whose images: everyone's without an identity, else those of the user that `user_id` names, or that the token speaks for.
fn owner(identity: Option<&Identity>, path: &ImagePath, query: &mut Query) -> Option<Owner> {
    let Some(identity) = identity else { return Some(Owner::Everyone) };
    match &path.image {
        ImageOf::Latest(timeline) | ImageOf::Poster(timeline, _) => return Some(Owner::User(timeline.user)),
        ImageOf::Put { .. } | ImageOf::Malformed(_) => {}
    }
    let user = match query.optional("user_id") {
        Some(text) => text.parse::<UserId>().map_err(|error| query.fault("user_id", error.to_string())).ok(),
        None => {
            let own = identity.caller().and_then(|caller| caller.own_user());
            if own.is_none() {
                query.fault("user_id", "is required: the token is for several users");
            }
            own
        }
    };
    user.map(Owner::User)
}

/// What an action on this path touches.
fn target(path: &ImagePath, owner: Owner) -> Target {
    match (&path.image, owner) {
        (ImageOf::Latest(timeline) | ImageOf::Poster(timeline, _), _) => Target::Device(*timeline),
        // A token that is narrowed to devices may not: an image is of no device.
        (_, Owner::User(user)) => Target::AllDevices(user),
        (_, Owner::Everyone) => Target::Nothing,
    }
}

/// The parameters, if the path and all of them are right.
fn checked<T>(path: &ImagePath, mut query: Query, read: Option<T>) -> Result<T, Problem> {
    if let ImageOf::Malformed(why) = path.image {
        query.fault("path", why);
    }
    let bad = |problem: Problem| problem.of_kind(Kind::BadRequest);
    query.finish().map_err(|faults| bad(Problem::of_parameters(&faults)))?;
    read.ok_or_else(|| Problem::new(Kind::BadRequest, "the parameters name no image"))
}

fn upload_key(path: &ImagePath, owner: Owner, locale: Option<Box<str>>) -> Option<UploadKey> {
    let ImageOf::Put { id, image_type } = &path.image else { return None };
    let (content_type, id, image_type) = (path.content_type.as_str(), id.as_str(), image_type.as_str());
    Some(UploadKey { owner, content_type: content_type.into(), id: id.into(), image_type: image_type.into(), locale })
}

/// What the path names, or why it is not there. Overload and a failing store are no absence.
async fn find(
    app: &App,
    path: &ImagePath,
    owner: Owner,
    locale: Option<&str>,
) -> Result<Result<Found, String>, Problem> {
    let thumbs = &app.engine.thumbs;
    let keyframe = match &path.image {
        ImageOf::Put { .. } | ImageOf::Malformed(_) => {
            let locales = locales(locale, &app.config().images.locales);
            let keys = locales.into_iter().filter_map(|locale| upload_key(path, owner, locale)).collect();
            let image = app.engine.images.find(keys).await?;
            return Ok(image.map(Found::Image).ok_or_else(|| "there is no such image".to_owned()));
        }
        ImageOf::Latest(timeline) => match thumbs.latest(*timeline).await {
            Ok(located) => thumbs.shape(&located, Class::Interactive).await.map(|shape| (located, shape)),
            Err(error) => Err(error),
        },
        ImageOf::Poster(timeline, recording) => {
            thumbs.poster_shape(*timeline, recording.clone(), Class::Interactive).await
        }
    };
    match keyframe {
        Ok((located, shape)) => Ok(Ok(Found::Keyframe(located, shape))),
        Err(error) => absent(error).map(Err),
    }
}

/// The locales to look under, best first: the asked one, the configured ones, none. Where none was asked for, none is best.
fn locales(asked: Option<&str>, configured: &[String]) -> Vec<Option<Box<str>>> {
    let configured = configured.iter().map(|locale| Some(locale.to_ascii_lowercase().into()));
    match asked {
        Some(asked) => std::iter::once(Some(asked.into())).chain(configured).chain([None]).collect(),
        None => std::iter::once(None).chain(configured).collect(),
    }
}

/// Why footage gives no picture, where a default may stand in for it.
fn absent(error: ThumbError) -> Result<String, Problem> {
    let is_passing = match &error {
        ThumbError::Missing(_) => false,
        ThumbError::Fault(fault) => fault.kind == FaultKind::Busy,
        ThumbError::Busy | ThumbError::Store(_) | ThumbError::Rebuilding => true,
    };
    let problem = Problem::from(error);
    if is_passing { Err(problem) } else { Ok(problem.detail) }
}

fn headers(app: &App, path: &ImagePath, reply: Reply, found: &Found, etag: ETag, is_match: bool) -> Reply {
    let (is_footage, age_s) = match (&path.image, found) {
        (ImageOf::Poster(..), Found::Keyframe(located, _)) if located.is_settled => (true, POSTER_AGE_S),
        (ImageOf::Latest(_) | ImageOf::Poster(..), _) => (true, SHORT_AGE_S),
        (ImageOf::Put { .. } | ImageOf::Malformed(_), _) => (false, PUT_AGE_S),
    };
    let expires_at = if let Found::Keyframe(located, _) = found { located.expires_at } else { None };
    let left_s = expires_at.map_or(i64::MAX, |end| end.since_ms(app.engine.clock.now()) / 1000);
    let who = if app.config().images.public && !is_footage { "public" } else { "private" };
    let mut reply = reply
        .with(header::CACHE_CONTROL, &format!("{who}, max-age={}", age_s.min(left_s).max(0)))
        .with(header::ETAG, &format!("\"{etag}\""))
        .with(ASPECT_MATCH, if is_match { "true" } else { "false" });
    if let Found::Keyframe(located, _) = found {
        reply = reply.with(FRAME_TIMESTAMP, &located.timestamp.to_string());
    }
    reply
}
