//! The request's id and its W3C trace context, which connect the nine hops in two processes.
//!
//! A trace is carried on; spans are not exported.

use messaging::Message;
use uuid::Uuid;

/// Header with the ids of the trace and of the parent span, in HTTP and in AMQP: <https://www.w3.org/TR/trace-context/>.
pub const TRACEPARENT: &str = "traceparent";
/// Header with the other systems' part of the trace context.
pub const TRACESTATE: &str = "tracestate";

/// The request that work belongs to, and its trace. Hop 1 makes it, the message carries it, hop 7 reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestContext {
    /// Id of the request: the caller's `x-request-id`, or a generated one; the message's `correlation_id`.
    pub request_id: String,
    /// Trace of the request.
    pub trace: TraceContext,
}

impl RequestContext {
    /// Keeps the caller's request id and trace where they are valid, and generates them otherwise.
    #[must_use]
    pub fn from_parts_or_new(
        request_id: Option<&str>,
        traceparent: Option<&str>,
        tracestate: Option<&str>,
    ) -> Self {
        Self {
            request_id: request_id.filter(|id| is_request_id(id)).map_or_else(new_request_id, str::to_owned),
            trace: TraceContext::from_parts_or_new(traceparent, tracestate),
        }
    }

    /// Returns the request that a message belongs to: its id, and its trace with a new span.
    #[must_use]
    pub fn of(message: &Message) -> Self {
        let header = |name: &str| message.headers.get(name).map(String::as_str);
        let request_id = message.correlation_id.as_deref();
        Self::from_parts_or_new(request_id, header(TRACEPARENT), header(TRACESTATE))
    }
}

fn new_request_id() -> String {
    Uuid::now_v7().hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned()
}

/// Accepts 1 to 128 visible ASCII characters, which fit into a header, a log line and AMQP's short string.
fn is_request_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

/// A position in a distributed trace: <https://www.w3.org/TR/trace-context/>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
    state: Option<String>,
}

impl TraceContext {
    /// Returns a new span in the caller's trace; a malformed or missing `traceparent` starts a new trace and drops the
    /// `tracestate` (Trace Context, sections 3.2.2.3 and 4.3).
    #[must_use]
    pub fn from_parts_or_new(traceparent: Option<&str>, tracestate: Option<&str>) -> Self {
        let span_id = rand::random_range(1..=u64::MAX);
        match traceparent.and_then(parse_traceparent) {
            Some((trace_id, flags)) => Self {
                trace_id,
                span_id,
                flags,
                state: tracestate.filter(|s| s.len() <= 512 && s.is_ascii()).map(str::to_owned),
            },
            None => Self { trace_id: rand::random_range(1..=u128::MAX), span_id, flags: 1, state: None },
        }
    }

    /// Returns the trace's id, which is written with 32 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> u128 {
        self.trace_id
    }

    /// Returns the value of a `traceparent` header with this span as the parent.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }

    /// Returns the caller's `tracestate`, which is passed on unchanged.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

/// Reads trace id and flags of a valid `traceparent`; versions above 00 may have more fields (section 3.2.4).
fn parse_traceparent(value: &str) -> Option<(u128, u8)> {
    fn hex(field: &str, len: usize) -> Option<u128> {
        let lower = field.len() == len && field.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        lower.then(|| u128::from_str_radix(field, 16).ok()).flatten()
    }
    let mut fields = value.split('-');
    let version = hex(fields.next()?, 2)?;
    let trace_id = hex(fields.next()?, 32)?;
    let parent_id = hex(fields.next()?, 16)?;
    let flags = u8::try_from(hex(fields.next()?, 2)?).ok()?;
    let valid =
        version != 0xff && trace_id != 0 && parent_id != 0 && (version > 0 || fields.next().is_none());
    valid.then_some((trace_id, flags & 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_parent_is_continued_with_a_span_of_our_own() {
        let context = TraceContext::from_parts_or_new(Some(PARENT), Some("vendor=1"));
        assert_eq!(context.id(), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_ne!(context.traceparent(), PARENT);
        assert_eq!(context.tracestate(), Some("vendor=1"));
        let next = TraceContext::from_parts_or_new(Some(&context.traceparent()), context.tracestate());
        assert_eq!(next.id(), context.id());
    }

    #[test]
    fn anything_malformed_starts_a_new_trace_and_is_never_an_error() {
        for bad in [
            "",
            "00",
            "hello",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            let context = TraceContext::from_parts_or_new(Some(bad), Some("vendor=1"));
            assert_ne!(context.id(), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, "{bad}");
            assert_eq!(context.tracestate(), None, "{bad}");
        }
    }

    #[test]
    fn a_usable_request_id_is_kept_and_any_other_is_replaced() {
        let kept = |id: &str| RequestContext::from_parts_or_new(Some(id), None, None).request_id == id;
        assert!(kept("7f3a"));
        assert!(kept(&"x".repeat(128)));
        for bad in ["", "a b", "a\n", "é", &"x".repeat(129)] {
            assert!(!kept(bad), "{bad:?}");
        }
    }
}
