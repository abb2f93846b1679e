//! Confirms: what tells a publisher that the broker is answerable for its message now.
//! <https://www.rabbitmq.com/docs/confirms#publisher-confirms>

use amq_protocol::protocol::basic;

use super::{At, Core, refusal::Refusal};

impl Core {
    /// The fate of the channel's next message. Acks are sent at the end of a turn, one for all in a row.
    pub(super) fn confirm(&mut self, at: At, accepted: bool) -> Result<(), Refusal> {
        let channel = self.channel(at)?;
        if !channel.confirms {
            return Ok(());
        }
        channel.published += 1;
        let seq = channel.published;
        let is_next = channel.taken.is_none_or(|(_, last)| last + 1 == seq) && !channel.singly;
        if self.drop_confirms > 0 {
            self.drop_confirms -= 1;
            self.flush_confirms(at);
            self.channel(at)?.singly = true;
        } else if accepted {
            if !is_next {
                self.flush_confirms(at);
            }
            let channel = self.channel(at)?;
            channel.taken = Some((channel.taken.map_or(seq, |(first, _)| first), seq));
            self.confirming.insert(at);
        } else {
            self.flush_confirms(at);
            let nack = basic::Nack { delivery_tag: seq, multiple: false, requeue: false };
            self.send_method(at, nack);
        }
        Ok(())
    }

    pub(super) fn flush_confirms(&mut self, at: At) {
        let Ok(channel) = self.channel(at) else { return };
        if let Some((first, last)) = channel.taken.take() {
            let ack = basic::Ack { delivery_tag: last, multiple: last > first };
            self.send_method(at, ack);
        }
    }
}
