//! Bodies of answers that last: nobody knows how long they are when they begin.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use accept::Connection;
use axum::{
    Error,
    body::{Body, Bytes, HttpBody},
    response::Response,
};
use hyper::body::Frame;

/// Body without a known length. Its connection is busy while the server makes the next piece, however long that takes. It
/// waits for its client again while the client has yet to read the pieces before: only then hyper asks for the next one.
struct Lasting {
    body: Body,
    connection: Arc<Connection>,
}

/// Returns the answer, which keeps its connection busy if its length is unknown.
pub(crate) fn watched(answer: Response, connection: Arc<Connection>) -> Response {
    if answer.body().size_hint().exact().is_some() {
        return answer;
    }
    answer.map(|body| Body::new(Lasting { body, connection }))
}

impl HttpBody for Lasting {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.connection.set_busy();
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() {
            self.connection.set_waiting();
        }
        frame
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        self.connection.set_waiting();
    }
}
