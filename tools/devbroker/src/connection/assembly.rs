//! Assembles inputs from frames, per channel: a publish is a method, a content header, and as much body as the header announces.

use std::collections::HashMap;

use amq_protocol::{
    frame::AMQPFrame,
    protocol::{AMQPClass, BasicProperties, basic},
};
use bytes::Bytes;

use crate::{
    core::{Input, Publication, error::AmqpError},
    wire::FrameError,
};

/// Class and method id of `basic.publish`.
const PUBLISH: (u16, u16) = (60, 40);

/// The incomplete publishes of a connection.
#[derive(Debug)]
pub(super) struct Assembly {
    parts: HashMap<u16, PartialPublish>,
    max_message: u64,
}

#[derive(Debug)]
enum PartialPublish {
    /// The header is still missing.
    Method(basic::Publish),
    /// `left` bytes of the body are still missing.
    Body { method: basic::Publish, properties: Box<BasicProperties>, body: Vec<u8>, left: u64 },
    /// The message is too large, and its body is skipped.
    Refused { left: u64 },
}

/// Returns whether a frame begins a publish, which waits during a memory alarm.
pub(super) fn begins_publish(frame: &AMQPFrame) -> bool {
    matches!(frame, AMQPFrame::Method(_, AMQPClass::Basic(basic::AMQPMethod::Publish(_))))
}

impl Assembly {
    pub(super) fn new(max_message: u64) -> Self {
        Self { parts: HashMap::new(), max_message }
    }

    /// Takes a frame, and appends the input that it completes. An error closes the connection.
    pub(super) fn take(&mut self, frame: AMQPFrame, inputs: &mut Vec<Input>) -> Result<(), FrameError> {
        let number = frame.channel_id();
        let part = match (self.parts.remove(&number), frame) {
            (None | Some(PartialPublish::Refused { .. }), AMQPFrame::Method(_, method)) => match method {
                AMQPClass::Basic(basic::AMQPMethod::Publish(method)) if number > 0 => {
                    Some(PartialPublish::Method(method))
                }
                method => {
                    inputs.push(Input::Method(number, method));
                    None
                }
            },
            (Some(PartialPublish::Method(method)), AMQPFrame::Header(_, header))
                if header.class_id == PUBLISH.0 =>
            {
                let (left, most) = (header.body_size, self.max_message);
                if left > most {
                    let why = format!("message size {left} is larger than configured max size {most}");
                    inputs.push(Input::Invalid(number, AmqpError::precondition(why), PUBLISH));
                    Some(PartialPublish::Refused { left })
                } else {
                    Some(PartialPublish::Body {
                        method,
                        properties: Box::new(header.properties),
                        body: vec![],
                        left,
                    })
                }
            }
            (Some(PartialPublish::Body { method, properties, mut body, left }), AMQPFrame::Body(_, data)) => {
                let left = left.checked_sub(data.len() as u64).ok_or_else(too_much_body)?;
                if body.is_empty() {
                    body = data;
                } else {
                    body.extend_from_slice(&data);
                }
                Some(PartialPublish::Body { method, properties, body, left })
            }
            (Some(PartialPublish::Refused { left }), AMQPFrame::Body(_, data)) => {
                let left = left.saturating_sub(data.len() as u64);
                (left > 0).then_some(PartialPublish::Refused { left })
            }
            (None, AMQPFrame::Heartbeat) | (Some(PartialPublish::Refused { .. }), AMQPFrame::Header(..)) => {
                None
            }
            (None, AMQPFrame::Header(..) | AMQPFrame::Body(..)) => return Err(no_method()),
            (None, _) => return Err((AmqpError::frame("unexpected frame"), (0, 0))),
            (Some(PartialPublish::Method(_)), _) => return Err(no_header()),
            (Some(_), _) => return Err(no_body()),
        };
        match part {
            Some(PartialPublish::Body { method, properties, body, left: 0 }) => {
                let publication = Publication { method, properties: *properties, body: Bytes::from(body) };
                inputs.push(Input::Publish(number, Box::new(publication)));
            }
            Some(part) => {
                self.parts.insert(number, part);
            }
            None => {}
        }
        self.check_size()
    }

    /// Limits the memory of incomplete bodies.
    fn check_size(&self) -> Result<(), FrameError> {
        let size = |part: &PartialPublish| {
            if let PartialPublish::Body { body, .. } = part { body.len() as u64 } else { 0 }
        };
        if self.parts.values().map(size).sum::<u64>() > 4 * self.max_message {
            return Err((AmqpError::resource("too many large messages begun at a time"), PUBLISH));
        }
        Ok(())
    }
}

fn no_header() -> FrameError {
    let why = "expected content header for class 60, got non content header frame instead";
    (AmqpError::unexpected(why), PUBLISH)
}

fn no_body() -> FrameError {
    (AmqpError::unexpected("expected content body, got non content body frame instead"), PUBLISH)
}

fn too_much_body() -> FrameError {
    (AmqpError::frame("content body frame exceeds remaining content size"), PUBLISH)
}

fn no_method() -> FrameError {
    (AmqpError::unexpected("expected method frame, got non method frame instead"), (0, 0))
}
