//! Frames become inputs: a publish is a method, a content header and as much body as the header says, channel by channel.

use std::collections::HashMap;

use amq_protocol::{
    frame::AMQPFrame,
    protocol::{AMQPClass, BasicProperties, basic},
};
use bytes::Bytes;

use crate::{
    core::{Input, Publication, refusal::Refusal},
    wire::Wrong,
};

/// Of what class and method contents are.
const PUBLISH: (u16, u16) = (60, 40);

/// What has come of the publishes of a connection.
#[derive(Debug)]
pub(super) struct Assembly {
    parts: HashMap<u16, Part>,
    max_message: u64,
}

#[derive(Debug)]
enum Part {
    /// A header has to follow.
    Method(basic::Publish),
    /// As much body has to follow.
    Body { method: basic::Publish, properties: Box<BasicProperties>, body: Vec<u8>, left: u64 },
    /// It was too large and is passed over.
    Refused { left: u64 },
}

/// Whether a frame begins a publish: what an alarm stops.
pub(super) fn begins_publish(frame: &AMQPFrame) -> bool {
    matches!(frame, AMQPFrame::Method(_, AMQPClass::Basic(basic::AMQPMethod::Publish(_))))
}

impl Assembly {
    pub(super) fn new(max_message: u64) -> Self {
        Self { parts: HashMap::new(), max_message }
    }

    /// Takes a frame; what is wrong with it is wrong with the whole connection.
    pub(super) fn take(&mut self, frame: AMQPFrame, inputs: &mut Vec<Input>) -> Result<(), Wrong> {
        let number = frame.channel_id();
        let part = match (self.parts.remove(&number), frame) {
            (None | Some(Part::Refused { .. }), AMQPFrame::Method(_, method)) => match method {
                AMQPClass::Basic(basic::AMQPMethod::Publish(method)) if number > 0 => {
                    Some(Part::Method(method))
                }
                method => {
                    inputs.push(Input::Method(number, method));
                    None
                }
            },
            (Some(Part::Method(method)), AMQPFrame::Header(_, header)) if header.class_id == PUBLISH.0 => {
                let (left, most) = (header.body_size, self.max_message);
                if left > most {
                    let why = format!("message size {left} is larger than configured max size {most}");
                    inputs.push(Input::Wrong(number, Refusal::precondition(why), PUBLISH));
                    Some(Part::Refused { left })
                } else {
                    Some(Part::Body { method, properties: Box::new(header.properties), body: vec![], left })
                }
            }
            (Some(Part::Body { method, properties, mut body, left }), AMQPFrame::Body(_, data)) => {
                // More than the header says would belong to nothing.
                let left = left.checked_sub(data.len() as u64).ok_or_else(no_body)?;
                if body.is_empty() {
                    body = data;
                } else {
                    body.extend_from_slice(&data);
                }
                Some(Part::Body { method, properties, body, left })
            }
            (Some(Part::Refused { left }), AMQPFrame::Body(_, data)) => {
                let left = left.saturating_sub(data.len() as u64);
                (left > 0).then_some(Part::Refused { left })
            }
            (None, AMQPFrame::Heartbeat) | (Some(Part::Refused { .. }), AMQPFrame::Header(..)) => None,
            (None, AMQPFrame::Header(..) | AMQPFrame::Body(..)) => return Err(no_method()),
            (None, _) => return Err((Refusal::frame("unexpected frame"), (0, 0))),
            (Some(Part::Method(_)), _) => return Err(no_header()),
            (Some(_), _) => return Err(no_body()),
        };
        match part {
            Some(Part::Body { method, properties, body, left: 0 }) => {
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

    /// Bodies that are not whole are kept within bounds.
    fn check_size(&self) -> Result<(), Wrong> {
        let size = |part: &Part| if let Part::Body { body, .. } = part { body.len() as u64 } else { 0 };
        if self.parts.values().map(size).sum::<u64>() > 4 * self.max_message {
            return Err((Refusal::resource("too many large messages begun at a time"), PUBLISH));
        }
        Ok(())
    }
}

fn no_header() -> Wrong {
    let why = "expected content header for class 60, got non content header frame instead";
    (Refusal::unexpected(why), PUBLISH)
}

fn no_body() -> Wrong {
    (Refusal::unexpected("expected content body, got non content body frame instead"), PUBLISH)
}

fn no_method() -> Wrong {
    (Refusal::unexpected("expected method frame, got non method frame instead"), (0, 0))
}
