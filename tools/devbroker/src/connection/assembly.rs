//! Frames become inputs: a publish is a method, a content header and as much body as the header says, channel by channel.

use std::collections::HashMap;

use amq_protocol::{
    frame::AMQPFrame,
    protocol::{AMQPClass, BasicProperties, basic, connection},
};
use bytes::{Buf, Bytes, BytesMut};

use crate::{
    core::{Input, Publication, refusal::Refusal},
    wire::{self, Wrong},
};

/// Of what class and method contents are.
const PUBLISH: (u16, u16) = (60, 40);

/// What has come of the publishes of a connection.
#[derive(Debug)]
pub(crate) struct Assembly {
    parts: HashMap<u16, Part>,
    /// Bytes of bodies that are not whole.
    size: usize,
    whole: usize,
    max_message: u64,
}

#[derive(Debug)]
enum Part {
    /// A header has to follow.
    Method(basic::Publish),
    /// Body has to follow.
    Body { method: basic::Publish, properties: Box<BasicProperties>, body: Vec<u8>, left: u64 },
    /// It was too large and is passed over.
    Refused { left: u64 },
}

/// Whether a frame begins a publish: what an alarm stops.
pub(crate) fn begins_publish(frame: &AMQPFrame) -> bool {
    matches!(frame, AMQPFrame::Method(_, AMQPClass::Basic(basic::AMQPMethod::Publish(_))))
}

impl Assembly {
    pub(crate) fn new(max_message: u64) -> Self {
        Self { parts: HashMap::new(), size: 0, whole: 0, max_message }
    }

    /// Takes a frame; `true` if nothing more will be understood after it.
    pub(crate) fn take(&mut self, frame: AMQPFrame, inputs: &mut Vec<Input>) -> bool {
        match self.try_take(frame, inputs) {
            Ok(()) => false,
            Err((refusal, about)) => {
                inputs.push(Input::Wrong(0, refusal, about));
                true
            }
        }
    }

    /// Bytes of the bodies that became whole since the last call, beyond their last frames.
    pub(crate) fn take_size(&mut self) -> usize {
        std::mem::take(&mut self.whole)
    }

    /// Looks through what a client says after our close for its answer.
    pub(crate) fn is_close_ok(&mut self, buffer: &mut BytesMut, frame_max: u32) -> bool {
        loop {
            match wire::take_frame(buffer, frame_max) {
                Ok(Some((length, frame))) => {
                    buffer.advance(length);
                    if let AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::CloseOk(_))) =
                        frame
                    {
                        return true;
                    }
                }
                Ok(None) => return false,
                Err(_) => {
                    buffer.clear();
                    return false;
                }
            }
        }
    }

    fn try_take(&mut self, frame: AMQPFrame, inputs: &mut Vec<Input>) -> Result<(), Wrong> {
        let number = frame.channel_id();
        match frame {
            AMQPFrame::Method(_, method) => {
                match self.parts.remove(&number) {
                    None | Some(Part::Refused { .. }) => {}
                    Some(part) => return Err(part.unexpected()),
                }
                match method {
                    AMQPClass::Basic(basic::AMQPMethod::Publish(method)) if number > 0 => {
                        self.parts.insert(number, Part::Method(method));
                    }
                    method => inputs.push(Input::Method(number, method)),
                }
                Ok(())
            }
            AMQPFrame::Header(_, header) => match self.parts.remove(&number) {
                Some(Part::Method(method)) if header.class_id == PUBLISH.0 => {
                    let (properties, left) = (Box::new(header.properties), header.body_size);
                    if left > self.max_message {
                        let most = self.max_message;
                        let why = format!("message size {left} is larger than configured max size {most}");
                        inputs.push(Input::Wrong(number, Refusal::precondition(why), PUBLISH));
                        self.parts.insert(number, Part::Refused { left });
                        return Ok(());
                    }
                    self.go_on(number, method, properties, vec![], left, inputs);
                    Ok(())
                }
                Some(part @ Part::Method(_)) => Err(part.unexpected()),
                Some(Part::Refused { .. }) => Ok(()),
                Some(part) => Err(part.unexpected()),
                None => Err(no_method()),
            },
            AMQPFrame::Body(_, data) => {
                let length = data.len() as u64;
                match self.parts.remove(&number) {
                    Some(Part::Body { method, properties, mut body, left }) => {
                        // More than the header says is left for the next, which it cannot belong to.
                        let left = left.checked_sub(length).ok_or_else(not_body)?;
                        self.size -= body.len();
                        if body.is_empty() {
                            body = data;
                        } else {
                            body.extend_from_slice(&data);
                        }
                        self.size += body.len();
                        if self.size as u64 > 4 * self.max_message {
                            return Err((
                                Refusal::resource("too many large messages begun at a time"),
                                PUBLISH,
                            ));
                        }
                        self.go_on(number, method, properties, body, left, inputs);
                        Ok(())
                    }
                    Some(Part::Refused { left }) => {
                        if left > length {
                            self.parts.insert(number, Part::Refused { left: left - length });
                        }
                        Ok(())
                    }
                    Some(part) => Err(part.unexpected()),
                    None => Err(no_method()),
                }
            }
            AMQPFrame::Heartbeat => Ok(()),
            _ => Err((Refusal::frame("unexpected frame"), (0, 0))),
        }
    }

    fn go_on(
        &mut self,
        number: u16,
        method: basic::Publish,
        properties: Box<BasicProperties>,
        body: Vec<u8>,
        left: u64,
        inputs: &mut Vec<Input>,
    ) {
        if left > 0 {
            self.parts.insert(number, Part::Body { method, properties, body, left });
            return;
        }
        self.size -= body.len().min(self.size);
        self.whole += body.len();
        let publication = Publication { method, properties: *properties, body: Bytes::from(body) };
        inputs.push(Input::Publish(number, Box::new(publication)));
    }
}

impl Part {
    fn unexpected(&self) -> Wrong {
        match self {
            Self::Method(_) => {
                let why = "expected content header for class 60, got non content header frame instead";
                (Refusal::unexpected(why), PUBLISH)
            }
            Self::Body { .. } | Self::Refused { .. } => not_body(),
        }
    }
}

fn not_body() -> Wrong {
    (Refusal::unexpected("expected content body, got non content body frame instead"), PUBLISH)
}

fn no_method() -> Wrong {
    (Refusal::unexpected("expected method frame, got non method frame instead"), (0, 0))
}
