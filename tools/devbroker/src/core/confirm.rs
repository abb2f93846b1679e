//! Confirms, which tell a publisher that the broker has taken responsibility for a message.
//! <https://www.rabbitmq.com/docs/confirms#publisher-confirms>

use amq_protocol::protocol::basic;

use super::{ChannelId, Core, error::AmqpError};

impl Core {
    /// Confirms the channel's next message. Acks are sent at the end of a turn, one for all consecutive messages.
    pub(super) fn confirm(&mut self, at: ChannelId, accepted: bool) -> Result<(), AmqpError> {
        let channel = self.channel(at)?;
        if !channel.confirms {
            return Ok(());
        }
        channel.published += 1;
        let seq = channel.published;
        let is_next =
            channel.accepted_range.is_none_or(|(_, last)| last + 1 == seq) && !channel.confirms_singly;
        if self.drop_confirms > 0 {
            self.drop_confirms -= 1;
            self.flush_confirms(at);
            self.channel(at)?.confirms_singly = true;
        } else if accepted {
            if !is_next {
                self.flush_confirms(at);
            }
            let channel = self.channel(at)?;
            channel.accepted_range = Some((channel.accepted_range.map_or(seq, |(first, _)| first), seq));
            self.confirming.insert(at);
        } else {
            self.flush_confirms(at);
            let nack = basic::Nack { delivery_tag: seq, multiple: false, requeue: false };
            self.send_method(at, nack);
        }
        Ok(())
    }

    pub(super) fn flush_confirms(&mut self, at: ChannelId) {
        let Ok(channel) = self.channel(at) else { return };
        if let Some((first, last)) = channel.accepted_range.take() {
            let ack = basic::Ack { delivery_tag: last, multiple: last > first };
            self.send_method(at, ack);
        }
    }
}
