//! What a driver says against the calls of a scope: caught where they are made, and asked for later by the one who made them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

#[cfg(not(target_arch = "wasm32"))]
type Answer = Pin<Box<dyn Future<Output = Option<wgpu::Error>> + Send>>;
/// A browser's futures belong to their thread.
#[cfg(target_arch = "wasm32")]
type Answer = Pin<Box<dyn Future<Output = Option<wgpu::Error>>>>;

/// Unmaps a buffer. With its device it may have been destroyed, which is nobody's mistake: what the driver says of that is dropped, where
/// the device's owner would otherwise be told of an error that it did not make.
pub(super) fn unmap(device: Option<&wgpu::Device>, buffer: &wgpu::Buffer) {
    match device {
        Some(device) if !cfg!(target_arch = "wasm32") => Refusal::of(device, || buffer.unmap()).0,
        _ => buffer.unmap(),
    }
}

/// What an error scope caught: off the web it is known as soon as the scope is closed.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn now(caught: impl Future<Output = Option<wgpu::Error>>) -> Option<wgpu::Error> {
    match std::pin::pin!(caught).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(error) => error,
        Poll::Pending => None,
    }
}

/// The driver's refusal of some calls, or that there was none. A browser tells it later, everybody else at once.
pub(super) struct Refusal(Mutex<State>);

enum State {
    Asked(Answer),
    Known(Option<String>),
}

impl State {
    fn of(error: Option<wgpu::Error>) -> State {
        State::Known(error.map(|error| error.to_string()))
    }
}

impl Refusal {
    /// Runs `calls` in a scope that closes before this returns.
    pub(super) fn of<T>(device: &wgpu::Device, calls: impl FnOnce() -> T) -> (T, Refusal) {
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let made = calls();
        let mut answer = scope.pop();
        let state = match Pin::new(&mut answer).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(error) => State::of(error),
            Poll::Pending => State::Asked(Box::pin(answer)),
        };
        (made, Refusal(Mutex::new(state)))
    }

    /// The driver's words, once they are known.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<Option<String>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Asked(answer) = &mut *state {
            match answer.as_mut().poll(context) {
                Poll::Ready(error) => *state = State::of(error),
                Poll::Pending => return Poll::Pending,
            }
        }
        match &*state {
            State::Known(words) => Poll::Ready(words.clone()),
            State::Asked(_) => Poll::Pending,
        }
    }

    /// The driver's words.
    pub(super) async fn words(&self) -> Option<String> {
        std::future::poll_fn(|context| self.poll(context)).await
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refusal")
    }
}
