//! Listeners and connections: HTTP/1.1 behind NGINX, bounded in number and in time, drained at the end.
//!
//! `hyper::server::conn::http1` and not hyper-util's `auto` builder, which waits without limit while it sniffs the
//! protocol; and always with a timer, without which no header time-out runs.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::reply::HttpResponse;

/// What the parser takes beyond the longest head, so that a head over the limit is answered with a problem and not
/// with hyper's bare status.
const HEAD_MARGIN_BYTES: usize = 64 * 1024;

/// What bounds connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at once; further ones wait in the listener's backlog.
    pub(crate) connections_max: usize,
    /// From the opening of a connection, or the end of the last request, to the end of a request's head.
    pub(crate) header_timeout: Duration,
    /// The longest request head.
    pub(crate) header_bytes_max: usize,
}

/// A listener and the task that serves it.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where it really listens, port 0 resolved.
    pub(crate) address: SocketAddr,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<JoinSet<()>>,
}

impl Server {
    /// Binds and serves until [`Server::drain`].
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub(crate) async fn start<S, F>(address: SocketAddr, limits: Limits, serve: S) -> std::io::Result<Self>
    where
        S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = HttpResponse> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept(listener, limits, serve, stopped));
        Ok(Self { address, stop, task })
    }

    /// Stops listening, lets requests in flight finish for at most `grace`, then closes what is left.
    pub(crate) async fn drain(self, grace: Duration) {
        let _ = self.stop.send(true);
        let Ok(mut connections) = self.task.await else { return };
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            tracing::warn!(left = connections.len(), "connections were cut off after their time to finish");
            // Waited for, because they hold the parts that are stopped next.
            connections.shutdown().await;
        }
    }
}

async fn accept<S, F>(
    listener: TcpListener,
    limits: Limits,
    serve: S,
    mut stopped: watch::Receiver<bool>,
) -> JoinSet<()>
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = HttpResponse> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            _ = stopped.changed() => return connections,
        };
        while connections.try_join_next().is_some() {}
        match (place, accepted) {
            (Ok(place), Ok((stream, _))) => {
                connections.spawn(connection(stream, place, limits, serve.clone(), stopped.clone()));
            }
            (_, Err(error)) => {
                // Out of descriptors, most likely: pause instead of spinning, and go on.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            (Err(_), _) => return connections,
        }
    }
}

async fn connection<S, F>(
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    limits: Limits,
    serve: S,
    mut stopped: watch::Receiver<bool>,
) where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = HttpResponse> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let answer = serve(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = http1::Builder::new();
    // Header lines: hyper's own limit of 100, for which it needs no memory but the stack's; NGINX passes on some dozen.
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes_max.saturating_add(HEAD_MARGIN_BYTES))
        .half_close(true);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let stop = async move {
        // The sender goes away only with the server, which is a stop as well.
        let _ = stopped.wait_for(|stopped| *stopped).await.map(|_| ());
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
    drop(place);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What requests hold must be free when the drain returns: it is stopped next.
    #[tokio::test]
    async fn a_drain_ends_every_connection_even_one_that_hangs() {
        let held = Arc::new(tokio::sync::Notify::new());
        let serve = {
            let held = Arc::clone(&held);
            move |_: Request<Incoming>| {
                let held = Arc::clone(&held);
                async move {
                    held.notify_one();
                    std::future::pending::<HttpResponse>().await
                }
            }
        };
        let limits =
            Limits { connections_max: 8, header_timeout: Duration::from_secs(60), header_bytes_max: 16 * 1024 };
        let server = Server::start(([127, 0, 0, 1], 0).into(), limits, serve).await.expect("bind");
        let mut idle = TcpStream::connect(server.address).await.expect("connect");
        let mut hanging = TcpStream::connect(server.address).await.expect("connect");
        hanging.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("send");
        held.notified().await;
        server.drain(Duration::ZERO).await;
        assert!(Arc::try_unwrap(held).is_ok(), "a connection still holds what its requests need");
        for stream in [&mut idle, &mut hanging] {
            let left = stream.read(&mut [0; 16]).await;
            assert!(matches!(left, Ok(0) | Err(_)), "closed: {left:?}");
        }
    }
}
