//! The read and write path of images that people put: from a key to a picture, and from a file to a stored image.
//!
//! 1. A put is decoded in a worker first: what no worker can show is never stored ([`Images::put`]).
//! 2. A look-up reads the head alone ([`Images::find`]); with it a caller's copy is compared without any picture.
//! 3. A picture comes from memory, else one worker makes it for all who wait ([`Images::picture`]). Nothing derived is on
//!    disk: the image is, and it is decoded in some milliseconds.
//!
//! Every key begins with whose image it is. Where images are everyone's, each has decoder workers of its own instead: one that
//! is taken over by the image it decodes can forge no other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stills_model::fault::{Fault, FaultKind};
use stills_model::id::UserId;
use stills_model::rendition::Rendition;
use stills_model::thumb::ETag;
use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::decode::{Class, DecodePool};
use crate::disk::Disk;
use crate::threads::{CallError, Threads};
use crate::thumbs::flight::Flights;
use crate::uploads::{Head, Owner, UploadError, UploadKey, UploadStats, Uploads};

/// A look-up reads one block of a local disk.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(2);

/// A put waits for the disk, behind other puts.
const PUT_DEADLINE: Duration = Duration::from_secs(20);

/// Puts at once: each holds a whole file in memory.
const PUTS_MAX: usize = 16;

/// Pictures of images that may wait to be made.
const RENDERS_QUEUED_MAX: usize = 64;

/// The longest that one of them waits. A page may ask for dozens at once, and has not given up by then.
const RENDER_WAIT_MAX: Duration = Duration::from_secs(15);

/// An image could not be stored or shown.
#[derive(Debug, Clone, Error)]
pub enum ImageError {
    /// The file that was put is none that can be shown: unknown, broken or too large.
    #[error("{0}")]
    NotAnImage(Fault),
    /// A stored image could not be shown.
    #[error("{0}")]
    Fault(Fault),
    /// There is no room for more.
    #[error("{0}")]
    Full(String),
    /// Too much is asked at once.
    #[error("too many images are asked for at once")]
    Busy,
    /// The store cannot answer; for the log.
    #[error("{0}")]
    Store(String),
}

impl From<CallError> for ImageError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Full | CallError::Late => Self::Busy,
            CallError::Died => Self::Store("a call to the store of images died".to_owned()),
        }
    }
}

impl From<UploadError> for ImageError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Full { .. } => Self::Full(error.to_string()),
            _ => Self::Store(error.to_string()),
        }
    }
}

/// An image that can be shown.
#[derive(Debug, Clone)]
pub struct Image {
    source: Source,
    head: Head,
}

#[derive(Debug, Clone)]
enum Source {
    Put(UploadKey),
    Default(Bytes),
}

impl Image {
    /// Width and height in pixels, upright.
    pub fn size(&self) -> (u32, u32) {
        self.head.size
    }

    /// The strong entity tag of it in a rendition.
    pub fn etag(&self, rendition: &Rendition) -> ETag {
        ETag::of_image(&self.head.content, rendition)
    }

    /// Whose decoder workers show it.
    fn workers(&self) -> UserId {
        match &self.source {
            Source::Put(key) => workers_of(key.owner, &self.head.content),
            Source::Default(_) => workers_of(Owner::Everyone, &self.head.content),
        }
    }
}

/// A user's workers for a user's image. What is everyone's has, under the first bytes of its digest, workers of its own.
fn workers_of(owner: Owner, content: &[u8; 32]) -> UserId {
    match owner {
        Owner::User(user) => user,
        Owner::Everyone => {
            let mut id = [0; 12];
            id.copy_from_slice(&content[..12]);
            UserId::from_bytes(id)
        }
    }
}

/// What the path is built of.
#[derive(Debug)]
pub struct Parts {
    /// The store.
    pub uploads: Uploads,
    /// The disk that it is on.
    pub disk: Arc<Disk>,
    /// Decoders.
    pub pool: Arc<DecodePool>,
    /// How many of them images may use at once; at least 1. The rest is left to footage.
    pub running_max: usize,
    /// Threads for calls to the store.
    pub threads: Threads,
    /// The most pixels of an image.
    pub pixels_max: u64,
    /// Bytes of pictures kept in memory.
    pub derived_bytes: u64,
}

/// Content, whose, and how it is shown: what a picture in memory is kept under.
type DerivedKey = (UserId, [u8; 32], Rendition);

/// The images. Clones share everything.
#[derive(Debug, Clone)]
pub struct Images(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    uploads: Arc<Uploads>,
    disk: Arc<Disk>,
    pool: Arc<DecodePool>,
    threads: Threads,
    pixels_max: u64,
    derived: moka::sync::Cache<DerivedKey, Bytes>,
    flights: Flights<DerivedKey>,
    defaults: BTreeMap<String, Image>,
    puts: Semaphore,
    /// Places for pictures that wait or are made.
    queued: Semaphore,
    /// Turns of decoders. Only whoever has one holds a file to decode.
    running: Semaphore,
}

/// The right to put one image.
#[derive(Debug)]
pub struct PutPermit<'a>(#[expect(dead_code, reason = "held")] SemaphorePermit<'a>);

impl Images {
    /// Builds the path. `defaults` are files of images by content type, each of which is decoded once.
    ///
    /// # Errors
    /// Which default cannot be read or shown, and why.
    pub async fn new(parts: Parts, defaults: &BTreeMap<String, PathBuf>) -> Result<Self, String> {
        let Parts { uploads, disk, pool, running_max, threads, pixels_max, derived_bytes } = parts;
        let mut images = BTreeMap::new();
        for (content_type, path) in defaults {
            let wrong = |why: String| format!("images.defaults.{content_type} = {}: {why}", path.display());
            let file = tokio::fs::read(path).await.map_err(|error| wrong(error.to_string()))?;
            let (file, mut head) = (Bytes::from(file.clone()), Head::of((0, 0), &file));
            let workers = workers_of(Owner::Everyone, &head.content);
            let shown = pool.picture(workers, Class::Batch, pixels_max, &file, &[]).await;
            head.size = shown.map_err(|fault| wrong(fault.detail))?.size;
            images.insert(content_type.clone(), Image { source: Source::Default(file), head });
        }
        let weigh = |_: &DerivedKey, picture: &Bytes| u32::try_from(picture.len()).unwrap_or(u32::MAX);
        let derived = moka::sync::Cache::builder().max_capacity(derived_bytes).weigher(weigh).build();
        Ok(Self(Arc::new(Inner {
            uploads: Arc::new(uploads),
            disk,
            pool,
            threads,
            pixels_max,
            derived,
            flights: Flights::default(),
            defaults: images,
            puts: Semaphore::new(PUTS_MAX),
            queued: Semaphore::new(RENDERS_QUEUED_MAX),
            running: Semaphore::new(running_max.max(1)),
        })))
    }

    /// The right to put an image, to be had before its bytes are read.
    ///
    /// # Errors
    /// [`ImageError::Busy`] at once.
    pub fn admit(&self) -> Result<PutPermit<'_>, ImageError> {
        self.0.puts.try_acquire().map(PutPermit).map_err(|_| ImageError::Busy)
    }

    /// Stores an image in place of the one before, durably, if it can be shown. Says whether there was none.
    ///
    /// # Errors
    /// [`ImageError::NotAnImage`], [`ImageError::Full`], [`ImageError::Busy`], [`ImageError::Store`].
    pub async fn put(&self, _permit: &PutPermit<'_>, key: UploadKey, file: Bytes) -> Result<bool, ImageError> {
        if !self.0.disk.is_well() {
            return Err(ImageError::Full("the disk has no room for images at present".to_owned()));
        }
        let workers = workers_of(key.owner, &Head::of((0, 0), &file).content);
        let shown = {
            let _turn = self.turn().await.map_err(refused)?;
            self.0.pool.picture(workers, Class::Interactive, self.0.pixels_max, &file, &[]).await
        };
        let size = shown.map_err(refused)?.size;
        let uploads = Arc::clone(&self.0.uploads);
        Ok(self.0.threads.call(PUT_DEADLINE, move || uploads.put(&key, size, &file)).await??)
    }

    /// Removes an image, durably. Says whether there was one.
    ///
    /// # Errors
    /// [`ImageError::Busy`] and [`ImageError::Store`].
    pub async fn delete(&self, key: UploadKey) -> Result<bool, ImageError> {
        let uploads = Arc::clone(&self.0.uploads);
        Ok(self.0.threads.call(PUT_DEADLINE, move || uploads.delete(&key)).await??)
    }

    /// The first of these images that is there. A damaged one counts as not there, and is logged.
    ///
    /// # Errors
    /// [`ImageError::Busy`] and [`ImageError::Store`].
    pub async fn find(&self, keys: Vec<UploadKey>) -> Result<Option<Image>, ImageError> {
        let uploads = Arc::clone(&self.0.uploads);
        let look = move || {
            for key in keys {
                match uploads.head(&key) {
                    Ok(Some(head)) => return Ok(Some(Image { source: Source::Put(key), head })),
                    Ok(None) => {}
                    Err(error @ UploadError::Damaged { .. }) => tracing::error!(%error, "an image is left out"),
                    Err(error) => return Err(error),
                }
            }
            Ok(None)
        };
        Ok(self.0.threads.call(LOOKUP_DEADLINE, look).await??)
    }

    /// The configured image of a content type.
    pub fn default_of(&self, content_type: &str) -> Option<&Image> {
        self.0.defaults.get(content_type)
    }

    /// An image in a rendition.
    ///
    /// # Errors
    /// [`ImageError::Fault`] where it cannot be shown, [`ImageError::Busy`].
    pub async fn picture(&self, image: &Image, rendition: Rendition) -> Result<Bytes, ImageError> {
        let key = (image.workers(), image.head.content, rendition);
        if let Some(picture) = self.0.derived.get(&key) {
            return Ok(picture);
        }
        let (this, image) = (self.clone(), image.clone());
        let picture = self.0.flights.join(key, move |_| async move { this.derive(key, &image).await }).await;
        picture.map_err(|fault| if fault.kind == FaultKind::Busy { ImageError::Busy } else { ImageError::Fault(fault) })
    }

    /// How many images there are, and their bytes.
    pub fn stats(&self) -> UploadStats {
        self.0.uploads.stats()
    }

    /// The right to use a decoder.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Fault> {
        let turn = timeout(RENDER_WAIT_MAX, self.0.running.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or_else(busy)
    }

    async fn derive(&self, key: DerivedKey, image: &Image) -> Result<Bytes, Fault> {
        // Another flight may have landed between the look and this one.
        if let Some(picture) = self.0.derived.get(&key) {
            return Ok(picture);
        }
        let _place = self.0.queued.try_acquire().map_err(|_| busy())?;
        let _turn = self.turn().await?;
        let file = match &image.source {
            Source::Default(file) => file.clone(),
            Source::Put(upload) => self.read(upload.clone(), &image.head).await?,
        };
        let (workers, _, rendition) = key;
        let shown = self.0.pool.picture(workers, Class::Interactive, self.0.pixels_max, &file, &[rendition]).await?;
        let none = || Fault::new(FaultKind::Internal, "the decoder gave no picture");
        let picture = shown.pictures.into_iter().next().ok_or_else(none)?;
        self.0.derived.insert(key, picture.clone());
        Ok(picture)
    }

    async fn read(&self, key: UploadKey, head: &Head) -> Result<Bytes, Fault> {
        let uploads = Arc::clone(&self.0.uploads);
        match self.0.threads.call(LOOKUP_DEADLINE, move || uploads.read(&key)).await {
            Ok(Ok(Some((read, file)))) if read == *head => Ok(file),
            Ok(Ok(_)) => Err(Fault::new(FaultKind::Changed, "the image was replaced while it was asked for")),
            Ok(Err(error)) => {
                tracing::error!(%error, "an image cannot be read");
                Err(Fault::new(FaultKind::Internal, "the image cannot be read"))
            }
            Err(CallError::Full | CallError::Late) => Err(busy()),
            Err(CallError::Died) => Err(Fault::new(FaultKind::Internal, "the image cannot be read")),
        }
    }
}

fn busy() -> Fault {
    Fault::new(FaultKind::Busy, "too many images are asked for at once")
}

/// What kills a worker or keeps it busy beyond its deadline is no image for us; only overload and our own faults are not its.
fn refused(fault: Fault) -> ImageError {
    match fault.kind {
        FaultKind::Busy => ImageError::Busy,
        FaultKind::Internal => ImageError::Store(fault.detail),
        _ => ImageError::NotAnImage(fault),
    }
}
