//! Decodes and encodes frames, with the codec that lapin uses.
//!
//! The codec itself has no limits, so they are checked first: the size of a frame, and the depth and the number of values
//! of a header table (the codec is recursive).

mod bounds;

use amq_protocol::{
    frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame},
    protocol::BasicProperties,
    types::{AMQPValue, FieldTable},
};

use crate::core::{DeliveryHeader, Outgoing, error::AmqpError, message::Message};

/// Largest frame in bytes, including the 8 bytes around the payload: RabbitMQ's default.
pub(crate) const FRAME_MAX: u32 = 131_072;
/// Bytes of a frame around its payload: type, channel, size and end marker.
pub(crate) const FRAME_OVERHEAD: usize = 8;
/// End marker of every frame.
const FRAME_END: u8 = 206;

/// The error of a frame, with the ids of the class and the method that caused it.
pub(crate) type FrameError = (AmqpError, (u16, u16));

/// Decodes the first frame of the bytes and returns it with its length; `None` if it is not complete yet.
///
/// # Errors
/// 501 for bytes that are not a frame, 502 for a frame that cannot be decoded, 540 for a prefetch size.
pub(crate) fn take_frame(bytes: &[u8], frame_max: u32) -> Result<Option<(usize, AMQPFrame)>, FrameError> {
    let Some((head, _)) = bytes.split_at_checked(7) else { return Ok(None) };
    let kind = head[0];
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    if !matches!(kind, 1 | 2 | 3 | 8) {
        return Err(frame_error(kind, "unknown_frame"));
    }
    if size + FRAME_OVERHEAD > frame_max as usize {
        let most = frame_max as usize - FRAME_OVERHEAD;
        return Err(frame_error(kind, &format!("{{frame_too_large,{size},{most}}}")));
    }
    let Some(frame) = bytes.get(..size + FRAME_OVERHEAD) else { return Ok(None) };
    let end = frame[size + 7];
    if end != FRAME_END {
        return Err(frame_error(kind, &format!("{{invalid_frame_end_marker,{end}}}")));
    }
    let payload = &frame[7..size + 7];
    // The codec ignores the prefetch size, which RabbitMQ refuses.
    if let ([0, 60, 0, 10, size @ ..], 1) = (payload, kind)
        && let Some(size) = size.first_chunk().map(|size| u32::from_be_bytes(*size))
        && size != 0
    {
        return Err((AmqpError::not_implemented(format!("prefetch_size!=0 ({size})")), (60, 10)));
    }
    if !bounds::is_within(kind, payload) {
        return Err((AmqpError::syntax("a table is too deep, too large, or no table"), (0, 0)));
    }
    match parse_frame(frame) {
        Ok((_, parsed)) => Ok(Some((frame.len(), parsed))),
        Err(_) => Err((AmqpError::syntax("a frame cannot be read"), (0, 0))),
    }
}

fn frame_error(kind: u8, why: &str) -> FrameError {
    (AmqpError::frame(format!("type {kind}, all octets = <<>>: {why}")), (0, 0))
}

/// Appends the frames of an outgoing method.
pub(crate) fn encode(out: &Outgoing, frame_max: u32, buffer: &mut Vec<u8>) {
    match out {
        Outgoing::Shutdown => {}
        Outgoing::Method(channel, method) => frame(&AMQPFrame::Method(*channel, method.clone()), buffer),
        Outgoing::Content(channel, method, message, extra) => {
            frame(&AMQPFrame::Method(*channel, method.clone()), buffer);
            let header = AMQPContentHeader {
                class_id: 60,
                body_size: message.body.len() as u64,
                properties: properties(message, *extra),
            };
            frame(&AMQPFrame::Header(*channel, header), buffer);
            for part in message.body.chunks(frame_max as usize - FRAME_OVERHEAD) {
                // Like `AMQPFrame::Body`, without copying the body first.
                buffer.push(3);
                buffer.extend_from_slice(&channel.to_be_bytes());
                buffer.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
                buffer.extend_from_slice(part);
                buffer.push(FRAME_END);
            }
        }
    }
}

/// Appends a heartbeat.
pub(crate) fn encode_heartbeat(buffer: &mut Vec<u8>) {
    frame(&AMQPFrame::Heartbeat, buffer);
}

fn frame(frame: &AMQPFrame, buffer: &mut Vec<u8>) {
    let context = WriteContext::from(std::mem::take(buffer));
    let written = gen_frame(frame)(context).expect("BUG: writing to memory cannot fail");
    *buffer = written.into_inner().0;
}

/// Returns the properties of one delivery, with the header that the broker adds.
fn properties(message: &Message, extra: DeliveryHeader) -> BasicProperties {
    let properties = message.properties.clone();
    match extra {
        DeliveryHeader::None | DeliveryHeader::Counts { acquired: 0, failed: 0 } => properties,
        DeliveryHeader::Counts { acquired, failed } => {
            let mut headers = message.headers();
            for (name, count) in [("x-acquired-count", acquired), ("x-delivery-count", failed)] {
                if count > 0 {
                    headers.insert(name.into(), AMQPValue::LongLongInt(count.into()));
                }
            }
            properties.with_headers(headers)
        }
        DeliveryHeader::StreamOffset(offset) => {
            let mut headers = simple(&message.headers());
            let offset = i64::try_from(offset).unwrap_or(i64::MAX);
            headers.insert("x-stream-offset".into(), AMQPValue::LongLongInt(offset));
            // RabbitMQ stores stream messages in another format, in which the delivery mode is always set.
            let mode = properties.delivery_mode().unwrap_or(1);
            properties.with_headers(headers).with_delivery_mode(mode)
        }
    }
}

/// Returns the headers that RabbitMQ's streams keep: all but tables and arrays.
fn simple(headers: &FieldTable) -> FieldTable {
    let simple = |value: &AMQPValue| !matches!(value, AMQPValue::FieldTable(_) | AMQPValue::FieldArray(_));
    let kept = headers.into_iter().filter(|(_, value)| simple(value));
    kept.map(|(name, value)| (name.clone(), value.clone()))
        .collect::<std::collections::BTreeMap<_, _>>()
        .into()
}

#[cfg(test)]
mod tests {
    use amq_protocol::protocol::{AMQPClass, basic, queue};
    use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

    use super::{
        bounds::{MAX_TABLE_DEPTH, MAX_TABLE_VALUES},
        *,
    };

    fn bytes(it: &AMQPFrame) -> Vec<u8> {
        let mut bytes = vec![];
        frame(it, &mut bytes);
        bytes
    }

    fn nested(levels: usize) -> FieldTable {
        let mut table = FieldTable::default();
        let array = AMQPValue::FieldArray(vec![AMQPValue::Void, AMQPValue::Boolean(true)].into());
        table.insert("array".into(), array);
        for _ in 1..levels {
            let mut outer = FieldTable::default();
            outer.insert("inner".into(), AMQPValue::FieldTable(table));
            table = outer;
        }
        table
    }

    fn declare(arguments: FieldTable) -> AMQPFrame {
        let declare = queue::Declare { queue: "q".into(), arguments, ..queue::Declare::default() };
        AMQPFrame::Method(1, AMQPClass::Queue(queue::AMQPMethod::Declare(declare)))
    }

    #[test]
    fn a_frame_is_taken_when_it_is_whole_and_not_before() {
        let header = AMQPContentHeader {
            class_id: 60,
            body_size: 3,
            properties: BasicProperties::default().with_content_type("a/b".into()).with_headers(nested(3)),
        };
        let consume = basic::Consume { arguments: nested(2), ..basic::Consume::default() };
        let consume = AMQPClass::Basic(basic::AMQPMethod::Consume(consume));
        for it in [
            AMQPFrame::Heartbeat,
            AMQPFrame::Header(1, header),
            AMQPFrame::Body(7, vec![1, 2, 3]),
            AMQPFrame::Method(2, consume),
            declare(nested(3)),
        ] {
            let whole = bytes(&it);
            for end in 0..whole.len() {
                assert_eq!(take_frame(&whole[..end], FRAME_MAX), Ok(None), "{it:?}");
            }
            assert_eq!(take_frame(&whole, FRAME_MAX), Ok(Some((whole.len(), it))));
        }
    }

    #[test]
    fn tables_are_taken_up_to_a_depth_and_a_size() {
        // The array in the innermost table is one level more.
        assert!(take_frame(&bytes(&declare(nested(MAX_TABLE_DEPTH - 1))), FRAME_MAX).is_ok());
        assert!(take_frame(&bytes(&declare(nested(MAX_TABLE_DEPTH))), FRAME_MAX).is_err());
        for (count, fits) in [(MAX_TABLE_VALUES - 1, true), (MAX_TABLE_VALUES, false)] {
            let mut table = FieldTable::default();
            table.insert("many".into(), AMQPValue::FieldArray(vec![AMQPValue::Void; count].into()));
            assert_eq!(take_frame(&bytes(&declare(table)), FRAME_MAX).is_ok(), fits, "{count}");
        }
    }

    #[test]
    fn whatever_the_bytes_are_there_is_an_answer() {
        for seed in 0..20_000 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut noise = match rng.random_range(0..3) {
                0 => bytes(&declare(nested(rng.random_range(1..10)))),
                1 => bytes(&AMQPFrame::Body(1, vec![0; 30])),
                _ => vec![0; rng.random_range(0..300)],
            };
            if rng.random_bool(0.3) {
                rng.fill_bytes(&mut noise);
            }
            for _ in 0..rng.random_range(0..4) {
                let position = rng.random_range(0..noise.len().max(1));
                if let Some(byte) = noise.get_mut(position) {
                    *byte = rng.random();
                }
            }
            if let Ok(Some((length, _))) = take_frame(&noise, FRAME_MAX) {
                assert!((FRAME_OVERHEAD..=noise.len()).contains(&length), "seed {seed}");
            }
        }
    }
}
