//! The door of the HTTP port: only so many connections at a time, and each only for as long as it is of use.
//!
//! Every connection holds a file descriptor. Without a cap whoever reaches the port could take them all, and the log
//! could open no segment any more.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// A listener that lets in as many connections as it has places; further ones wait in the kernel's queue.
pub(super) struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Door {
    /// `places` connections at a time. One that has sent no whole request `patience` after it was let in or last
    /// answered, or takes none of its answer for so long, is closed.
    pub(super) fn new(listener: TcpListener, places: usize, patience: Duration) -> Door {
        Door { listener, places: Arc::new(Semaphore::new(places)), patience }
    }
}

impl Listener for Door {
    type Io = Visitor;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visitor, SocketAddr) {
        // An error means that the semaphore was closed, which nobody does.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        // Retries after an error, EMFILE included.
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Visitor { stream, overdue: Box::pin(sleep(self.patience)), patience: self.patience, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that was let in. Only what is written to it puts off its end: a request that arrives a byte at a time
/// never would.
pub(super) struct Visitor {
    stream: TcpStream,
    overdue: Pin<Box<Sleep>>,
    patience: Duration,
    _place: Option<OwnedSemaphorePermit>,
}

impl Visitor {
    /// `given` while it is ready, and an error once the connection is overdue.
    fn or_overdue<T>(&mut self, given: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if given.is_ready() {
            return given;
        }
        self.overdue.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// As [`Visitor::or_overdue`], for something that was written.
    fn wrote(&mut self, given: Poll<io::Result<usize>>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if matches!(given, Poll::Ready(Ok(_))) {
            self.overdue.as_mut().reset(Instant::now() + self.patience);
        }
        self.or_overdue(given, context)
    }
}

impl AsyncRead for Visitor {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let visitor = self.get_mut();
        let given = Pin::new(&mut visitor.stream).poll_read(context, buffer);
        visitor.or_overdue(given, context)
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let visitor = self.get_mut();
        let given = Pin::new(&mut visitor.stream).poll_write(context, bytes);
        visitor.wrote(given, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let visitor = self.get_mut();
        let given = Pin::new(&mut visitor.stream).poll_write_vectored(context, slices);
        visitor.wrote(given, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const PLACES: usize = 3;
    const PATIENCE: Duration = Duration::from_millis(500);

    async fn door() -> SocketAddr {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "here" }));
        tokio::spawn(async move { axum::serve(Door::new(listener, PLACES, PATIENCE), router).await });
        address
    }

    async fn ask(stream: &mut TcpStream, connection: &str) -> String {
        let question = format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n");
        stream.write_all(question.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"here") && stream.read_buf(&mut answer).await.unwrap() > 0 {}
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn idle_connections_are_capped_and_a_later_request_is_still_answered() {
        let address = door().await;
        let mut idle = Vec::new();
        let began = Instant::now();
        for _ in 0..PLACES {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let mut later = TcpStream::connect(address).await.unwrap();
        let answer = ask(&mut later, "close").await;
        assert!(answer.ends_with("here"), "{answer}");
        assert!(began.elapsed() >= PATIENCE, "there was a place for it after {:?}", began.elapsed());
        for mut stream in idle {
            assert!(matches!(stream.read(&mut [0; 16]).await, Ok(0) | Err(_)), "closed by the node");
        }
    }

    #[tokio::test]
    async fn a_request_that_arrives_a_byte_at_a_time_is_not_waited_for() {
        let mut stream = TcpStream::connect(door().await).await.unwrap();
        let began = Instant::now();
        let mut bytes = b"GET / HTTP/1.1\r\nHost: ".iter().chain(std::iter::repeat(&b'a'));
        loop {
            let sent = stream.write_all(&[*bytes.next().unwrap()]).await;
            let answered = tokio::time::timeout(PATIENCE / 20, stream.read(&mut [0; 16])).await;
            if sent.is_err() || answered.is_ok() {
                break;
            }
            assert!(began.elapsed() < 20 * PATIENCE, "it was waited for");
        }
        assert!(began.elapsed() >= PATIENCE);
    }

    #[tokio::test]
    async fn a_connection_is_used_again_within_its_patience() {
        let mut stream = TcpStream::connect(door().await).await.unwrap();
        for _ in 0..6 {
            let answer = ask(&mut stream, "keep-alive").await;
            assert!(answer.ends_with("here"), "{answer}");
            sleep(PATIENCE / 4).await;
        }
    }
}
