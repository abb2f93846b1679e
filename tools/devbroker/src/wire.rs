//! Frames: bytes to inputs and outs to bytes, with the codec that lapin uses.
//!
//! The codec reads whatever it is given, so what it is given is bounded here first: the size of a frame, and how deep
//! and how many the values of a header table are (it calls itself for each level).

mod bounds;

use amq_protocol::{
    frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame},
    protocol::BasicProperties,
    types::{AMQPValue, FieldTable},
};

use crate::core::{Extra, Out, message::Message, refusal::Refusal};

/// The largest frame, with its 8 bytes around the payload: RabbitMQ's default.
pub(crate) const FRAME_MAX: u32 = 131_072;
/// What a frame has around its payload: type, channel, size, and the end.
pub(crate) const FRAME_OVERHEAD: usize = 8;
/// How a frame ends.
const FRAME_END: u8 = 206;

/// What is wrong with a frame, and the class and the method that it is about.
pub(crate) type Wrong = (Refusal, (u16, u16));

/// Takes the first frame off the bytes: its length and itself; `None` if it is not all there.
///
/// # Errors
/// 501 for what is no frame, 502 for one that cannot be read, 540 for a class that is not known.
pub(crate) fn take_frame(bytes: &[u8], frame_max: u32) -> Result<Option<(usize, AMQPFrame)>, Wrong> {
    let Some((head, _)) = bytes.split_at_checked(7) else { return Ok(None) };
    let kind = head[0];
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    if !matches!(kind, 1 | 2 | 3 | 8) {
        return Err(no_frame(kind, "unknown_frame"));
    }
    if size + FRAME_OVERHEAD > frame_max as usize {
        let most = frame_max as usize - FRAME_OVERHEAD;
        return Err(no_frame(kind, &format!("{{frame_too_large,{size},{most}}}")));
    }
    let Some(frame) = bytes.get(..size + FRAME_OVERHEAD) else { return Ok(None) };
    let end = frame[size + 7];
    if end != FRAME_END {
        return Err(no_frame(kind, &format!("{{invalid_frame_end_marker,{end}}}")));
    }
    let payload = &frame[7..size + 7];
    // The codec passes over the prefetch size, which nobody has ever implemented.
    if let ([0, 60, 0, 10, size @ ..], 1) = (payload, kind)
        && let Some(size) = size.first_chunk().map(|size| u32::from_be_bytes(*size))
        && size != 0
    {
        return Err((Refusal::not_implemented(format!("prefetch_size!=0 ({size})")), (60, 10)));
    }
    if !bounds::is_within(kind, payload) {
        return Err((Refusal::syntax("a table is too deep, too large, or no table"), (0, 0)));
    }
    match parse_frame(frame) {
        Ok((_, parsed)) => Ok(Some((frame.len(), parsed))),
        Err(_) => Err((Refusal::syntax("a frame cannot be read"), (0, 0))),
    }
}

fn no_frame(kind: u8, why: &str) -> Wrong {
    (Refusal::frame(format!("type {kind}, all octets = <<>>: {why}")), (0, 0))
}

/// Writes what a client gets.
pub(crate) fn encode(out: &Out, frame_max: u32, buffer: &mut Vec<u8>) {
    match out {
        Out::Hangup => {}
        Out::Method(channel, method) => frame(&AMQPFrame::Method(*channel, method.clone()), buffer),
        Out::Content(channel, method, message, extra) => {
            frame(&AMQPFrame::Method(*channel, method.clone()), buffer);
            let header = AMQPContentHeader {
                class_id: 60,
                body_size: message.body.len() as u64,
                properties: properties(message, *extra),
            };
            frame(&AMQPFrame::Header(*channel, header), buffer);
            for part in message.body.chunks(frame_max as usize - FRAME_OVERHEAD) {
                // What `AMQPFrame::Body` would write, without a copy of the body before.
                buffer.push(3);
                buffer.extend_from_slice(&channel.to_be_bytes());
                buffer.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
                buffer.extend_from_slice(part);
                buffer.push(FRAME_END);
            }
        }
    }
}

/// Writes a heartbeat.
pub(crate) fn encode_heartbeat(buffer: &mut Vec<u8>) {
    frame(&AMQPFrame::Heartbeat, buffer);
}

fn frame(frame: &AMQPFrame, buffer: &mut Vec<u8>) {
    let context = WriteContext::from(std::mem::take(buffer));
    let written = gen_frame(frame)(context).expect("BUG: writing to memory cannot fail");
    *buffer = written.into_inner().0;
}

/// The properties of one delivery: with the header that the broker adds.
fn properties(message: &Message, extra: Extra) -> BasicProperties {
    let with = |name: &str, value: i64| {
        let mut headers = message.headers();
        if let Extra::StreamOffset(_) = extra {
            headers = simple(&headers);
        }
        headers.insert(name.into(), AMQPValue::LongLongInt(value));
        message.properties.clone().with_headers(headers)
    };
    match extra {
        Extra::None => message.properties.clone(),
        Extra::DeliveryCount(count) => with("x-delivery-count", count.into()),
        Extra::StreamOffset(offset) => {
            let properties = with("x-stream-offset", i64::try_from(offset).unwrap_or(i64::MAX));
            // A stream of RabbitMQ keeps messages in another form, which has no "not said".
            let mode = properties.delivery_mode().unwrap_or(1);
            properties.with_delivery_mode(mode)
        }
    }
}

/// The headers that come out of RabbitMQ's streams: no tables and no arrays.
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
        bounds::{MOST_LEVELS, MOST_VALUES},
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
        // An array in the innermost takes a level too.
        assert!(take_frame(&bytes(&declare(nested(MOST_LEVELS - 1))), FRAME_MAX).is_ok());
        assert!(take_frame(&bytes(&declare(nested(MOST_LEVELS))), FRAME_MAX).is_err());
        for (count, fits) in [(MOST_VALUES - 1, true), (MOST_VALUES, false)] {
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
                let place = rng.random_range(0..noise.len().max(1));
                if let Some(byte) = noise.get_mut(place) {
                    *byte = rng.random();
                }
            }
            if let Ok(Some((length, _))) = take_frame(&noise, FRAME_MAX) {
                assert!((FRAME_OVERHEAD..=noise.len()).contains(&length), "seed {seed}");
            }
        }
    }
}
