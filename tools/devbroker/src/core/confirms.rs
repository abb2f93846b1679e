//! Confirms: what tells a publisher that the broker is answerable for its message now.
//! <https://www.rabbitmq.com/docs/confirms#publisher-confirms>

use amq_protocol::protocol::{AMQPClass, basic};

use super::{ConnectionId, Core, Out};

impl Core {
    /// Confirms are sent at the end of a turn, one for all that were taken one after the other.
    pub(super) fn confirm(&mut self, id: ConnectionId, number: u16, seq: u64, accepted: bool) {
        if self.drop_confirms > 0 {
            self.drop_confirms -= 1;
            self.flush_confirms(id, number);
            if let Ok(channel) = self.channel(id, number) {
                channel.singly = true;
            }
            return;
        }
        if !accepted {
            self.flush_confirms(id, number);
            let nack = basic::Nack { delivery_tag: seq, multiple: false, requeue: false };
            self.send(id, Out::Method(number, AMQPClass::Basic(basic::AMQPMethod::Nack(nack))));
            return;
        }
        let Ok(channel) = self.channel(id, number) else { return };
        let after_last = channel.taken.is_none_or(|(_, last)| last + 1 == seq) && !channel.singly;
        if !after_last {
            self.flush_confirms(id, number);
        }
        let Ok(channel) = self.channel(id, number) else { return };
        channel.taken = Some((channel.taken.map_or(seq, |(first, _)| first), seq));
        self.confirming.insert((id, number));
    }

    pub(super) fn flush_confirms(&mut self, id: ConnectionId, number: u16) {
        let Ok(channel) = self.channel(id, number) else { return };
        if let Some((first, last)) = channel.taken.take() {
            let ack = basic::Ack { delivery_tag: last, multiple: last > first };
            self.send(id, Out::Method(number, AMQPClass::Basic(basic::AMQPMethod::Ack(ack))));
        }
    }
}
