//! Pictures that nobody waits for: which of many keyframes lack theirs, and rendering those with one decode each. What
//! several keyframes need of the stores is looked up for all of them at once.

use std::sync::Arc;

use stills_model::fault::Fault;
use stills_model::rendition::Rendition;
use stills_model::thumb::ThumbKey;

use super::render::Plan;
use super::{LOOKUP_DEADLINE, ThumbError, Thumbs, key_of};
use crate::catalog::Located;
use crate::decode::Class;

/// Keyframes that are looked up at once: a quarter of a second of decoding, after which the look is old.
const LOOKED_UP_AT_ONCE: usize = 8;

/// A keyframe that lacks pictures.
struct Unstored {
    located: Located,
    missing: Vec<ThumbKey>,
    plan: Result<Plan, Fault>,
}

impl Thumbs {
    /// Of these keyframes, those that lack a stored picture in one of the renditions.
    ///
    /// # Errors
    /// [`ThumbError::Busy`] when too much waits, [`ThumbError::Store`] while there is no disk cache.
    pub async fn not_stored(
        &self,
        located: Vec<Located>,
        renditions: &[Rendition],
    ) -> Result<Vec<Located>, ThumbError> {
        let (cache, renditions) = (self.cache()?, renditions.to_vec());
        let is_missing = move |located: &Located| {
            let mut keys = renditions.iter().map(|rendition| key_of(located, *rendition));
            keys.any(|key| !cache.contains(&key).unwrap_or(false))
        };
        let filter = move || located.into_iter().filter(is_missing).collect();
        Ok(self.0.parts.threads.call(LOOKUP_DEADLINE, filter).await?)
    }

    /// Makes sure that the pictures of these keyframes are stored, rendering those that are not with one decode a keyframe.
    /// `told` hears of each that cannot be shown, and may end it all.
    ///
    /// # Errors
    /// [`ThumbError::Busy`] when too much waits, [`ThumbError::Store`] while there is no disk cache; what `told` gives.
    pub async fn ensure_all(
        &self,
        located: &[Located],
        renditions: &[Rendition],
        told: impl Fn(Fault) -> Result<(), ThumbError>,
    ) -> Result<(), ThumbError> {
        for group in located.chunks(LOOKED_UP_AT_ONCE) {
            let (unstored, mut as_of) = self.unstored(group.to_vec(), renditions).await?;
            for keyframe in unstored {
                let n_missing = keyframe.missing.len() as u64;
                match self.ensure(keyframe, as_of).await {
                    // Our own puts are known, and anybody else's show in the count.
                    Ok(()) => as_of += n_missing,
                    Err(fault) => told(fault)?,
                }
            }
        }
        Ok(())
    }

    /// Of these keyframes, those that lack pictures with what it takes to render them, and the puts before the look.
    async fn unstored(
        &self,
        located: Vec<Located>,
        renditions: &[Rendition],
    ) -> Result<(Vec<Unstored>, u64), ThumbError> {
        let (cache, catalog, renditions) = (self.cache()?, self.catalog().await?, renditions.to_vec());
        let look = move || {
            let as_of = cache.n_puts();
            let unstored = located.into_iter().filter_map(|located| {
                let keys = renditions.iter().map(|rendition| key_of(&located, *rendition));
                let missing: Vec<_> = keys.filter(|key| !cache.contains(key).unwrap_or(false)).collect();
                let plan = (!missing.is_empty()).then(|| Plan::of(&catalog, &located))?;
                Some(Unstored { located, missing, plan })
            });
            (unstored.collect(), as_of)
        };
        Ok(self.0.parts.threads.call(LOOKUP_DEADLINE, look).await?)
    }

    async fn ensure(&self, keyframe: Unstored, as_of: u64) -> Result<(), Fault> {
        let Unstored { located, missing, plan } = keyframe;
        let Some(first) = missing.first().copied() else { return Ok(()) };
        if let Some(fault) = self.0.faults.remembered(&first) {
            return Err(fault);
        }
        let this = self.clone();
        let render = move |landing: Arc<_>| async move {
            match this.landed(first, as_of).await {
                Some(body) if missing.len() == 1 => Ok(body),
                _ => {
                    let renditions: Vec<Rendition> = missing.iter().map(|key| key.rendition).collect();
                    this.render(&located, plan, &renditions, Class::Batch, landing).await
                }
            }
        };
        self.0.flights.join(first, render).await.map(drop)
    }
}
