//! Bytes both ways between two streams, until both directions have ended.
//!
//! Called by `forward`, and by those who relay to something other than a TCP backend. Knows neither services nor
//! backends, and how long is too long is [`Lifecycle`]'s business.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::buffer::{Kept, with_buffer};
use crate::{Ending, Lifecycle, Limits, Way};

/// What one direction may move each time its task is woken, in bytes, before the thread's other tasks get their turn.
const BURST: usize = 256 * 1024;

/// Counts what a relay moves, readable while it runs and after it was dropped.
#[derive(Debug)]
pub struct Meter<'g> {
    up: AtomicU64,
    down: AtomicU64,
    held: &'g AtomicU64,
}

impl<'g> Meter<'g> {
    /// Nothing moved yet. `held` is a gauge several relays may share: bytes of memory they hold because a peer does
    /// not take what the other sent.
    #[must_use]
    pub const fn new(held: &'g AtomicU64) -> Self {
        Self { up: AtomicU64::new(0), down: AtomicU64::new(0), held }
    }

    /// Bytes written to the receiver of this direction.
    pub fn bytes(&self, way: Way) -> u64 {
        self.of(way).load(Ordering::Relaxed)
    }

    fn add(&self, way: Way, count: usize) {
        self.of(way).fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    const fn of(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }
}

/// Relays between `client` and `backend` until both directions have ended, a limit is over, one of them fails, or
/// `stop` resolves; says why. An end of stream is passed on and leaves the other direction running.
///
/// `stop` is polled with each wake: it is where a caller cuts the connection, and where it reports a reset that shows
/// while nothing is read (see [`reset_of`](crate::reset_of)). After an ending other than
/// [`Finished`](crate::CloseReason::Finished) the stream was cut short, and the caller owes both peers a reset.
///
/// # Cancel safety
/// Dropping it stops the relay; bytes that were read and not yet written are lost, so both peers are owed a reset.
pub async fn relay<A, B>(
    client: A,
    backend: B,
    mut stop: Pin<&mut (dyn Future<Output = Ending> + Send)>,
    limits: &Limits,
    meter: &Meter<'_>,
) -> Ending
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut client, mut backend) = (client, backend);
    let mut life = Lifecycle::new(Instant::now().into_std());
    let mut up = Direction::new(Way::Up, meter);
    let mut down = Direction::new(Way::Down, meter);
    let mut armed = None;
    let mut alarm = pin!(sleep_until(Instant::now()));
    poll_fn(|cx| {
        let steps = match (up.poll(cx, &mut client, &mut backend), down.poll(cx, &mut backend, &mut client)) {
            (Ok(up), Ok(down)) => [(Way::Up, up), (Way::Down, down)],
            (Err(ending), _) | (_, Err(ending)) => return Poll::Ready(ending),
        };
        // The clock is read only when something moved, and the timer is left alone then: see `poll_alarm`.
        if steps.iter().any(|(_, step)| *step != Step::Quiet) {
            let now = Instant::now().into_std();
            life.on_progress(now);
            for (way, _) in steps.into_iter().filter(|(_, step)| *step == Step::Ended) {
                life.on_finished(way, now);
            }
            if let Some(ending) = life.ending(now, limits) {
                return Poll::Ready(ending);
            }
        }
        // Asked after the directions: what a peer sent before it reset is passed on as far as it can be.
        if let Poll::Ready(ending) = stop.as_mut().poll(cx) {
            return Poll::Ready(ending);
        }
        poll_alarm(cx, alarm.as_mut(), &mut armed, &life, limits)
    })
    .await
}

/// Resolves when the connection has been quiet for too long. The timer is moved only when it fired too early because
/// of progress made meanwhile, or when a half-close brought the deadline forward: not with every byte.
fn poll_alarm(
    cx: &mut Context<'_>,
    mut alarm: Pin<&mut Sleep>,
    armed: &mut Option<Instant>,
    life: &Lifecycle,
    limits: &Limits,
) -> Poll<Ending> {
    loop {
        let Some(deadline) = life.deadline(limits).map(Instant::from_std) else { return Poll::Pending };
        if armed.is_none_or(|armed| deadline < armed) {
            alarm.as_mut().reset(deadline);
            *armed = Some(deadline);
        }
        ready!(alarm.as_mut().poll(cx));
        if let Some(ending) = life.ending(Instant::now().into_std(), limits) {
            return Poll::Ready(ending);
        }
        *armed = None;
    }
}

/// What one wake did for a direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// Nothing moved.
    Quiet,
    /// Bytes moved.
    Moved,
    /// The end of stream was passed on. Said once.
    Ended,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Copying,
    /// The source has ended; the sink does not know yet.
    Ending,
    Ended,
}

/// One direction: a source, a sink, and what the sink has not taken yet.
#[derive(Debug)]
struct Direction<'m> {
    way: Way,
    state: State,
    kept: Kept<'m>,
    unflushed: bool,
    meter: &'m Meter<'m>,
}

impl<'m> Direction<'m> {
    const fn new(way: Way, meter: &'m Meter<'m>) -> Self {
        Self { way, state: State::Copying, kept: Kept::new(meter.held), unflushed: false, meter }
    }

    /// Moves what can be moved now, at most [`BURST`] bytes; afterwards the task is woken when more can be.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, source: &mut R, sink: &mut W) -> Result<Step, Ending>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let before = self.meter.bytes(self.way);
        let was = self.state;
        let mut budget = BURST;
        let mut read_any = false;
        while self.state != State::Ended {
            let progress = match self.state {
                _ if !self.kept.unwritten().is_empty() => self.poll_write_kept(cx, sink),
                State::Copying if budget == 0 => {
                    cx.waker().wake_by_ref();
                    break;
                }
                State::Copying => self.poll_copy(cx, source, sink).map_ok(|count| {
                    read_any |= count > 0;
                    budget = budget.saturating_sub(count);
                }),
                State::Ending | State::Ended => self.poll_end(cx, sink),
            };
            match progress {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(ending)) => return Err(ending),
                Poll::Pending => break,
            }
        }
        Ok(match self.state {
            State::Ended if was != State::Ended => Step::Ended,
            _ if read_any || self.meter.bytes(self.way) != before => Step::Moved,
            _ => Step::Quiet,
        })
    }

    fn poll_write_kept<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut W,
    ) -> Poll<Result<(), Ending>> {
        let written = ready!(Pin::new(sink).poll_write(cx, self.kept.unwritten()));
        let count = self.written(written)?;
        self.kept.on_written(count);
        Poll::Ready(Ok(()))
    }

    /// Reads once and writes at once; `Ready` with the number of bytes read, 0 at the end of stream.
    fn poll_copy<R, W>(&mut self, cx: &mut Context<'_>, source: &mut R, sink: &mut W) -> Poll<Result<usize, Ending>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        with_buffer(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            match Pin::new(source).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Ending::of_error(self.way.source(), &error))),
                Poll::Pending => {
                    // Nothing follows for now: what the sink may have buffered must not wait for it.
                    if self.unflushed {
                        let flushed = ready!(Pin::new(sink).poll_flush(cx));
                        self.unflushed = false;
                        if let Err(error) = flushed {
                            return Poll::Ready(Err(self.sink_failed(&error)));
                        }
                    }
                    return Poll::Pending;
                }
            }
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.state = State::Ending;
                return Poll::Ready(Ok(0));
            }
            let count = match Pin::new(sink).poll_write(cx, bytes) {
                Poll::Ready(written) => self.written(written)?,
                Poll::Pending => 0,
            };
            let rest = bytes.get(count..).unwrap_or_default();
            if !rest.is_empty() {
                self.kept.keep(rest);
            }
            Poll::Ready(Ok(bytes.len()))
        })
    }

    fn poll_end<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, sink: &mut W) -> Poll<Result<(), Ending>> {
        let ended = ready!(Pin::new(sink).poll_shutdown(cx));
        self.state = State::Ended;
        Poll::Ready(ended.map_err(|error| self.sink_failed(&error)))
    }

    fn written(&mut self, written: io::Result<usize>) -> Result<usize, Ending> {
        match written {
            Ok(0) => Err(self.sink_failed(&ErrorKind::WriteZero.into())),
            Ok(count) => {
                self.unflushed = true;
                self.meter.add(self.way, count);
                Ok(count)
            }
            Err(error) => Err(self.sink_failed(&error)),
        }
    }

    fn sink_failed(&self, error: &io::Error) -> Ending {
        Ending::of_error(self.way.sink(), error)
    }
}
