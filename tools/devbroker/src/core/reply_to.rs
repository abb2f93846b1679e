//! Direct reply-to: a reply goes to the channel of its request, without a queue.
//! <https://www.rabbitmq.com/docs/direct-reply-to>

use std::sync::Arc;

use amq_protocol::{protocol::basic, types::ShortString};

use super::{
    ChannelId, Core, DeliveryHeader, Outgoing,
    deliver::deliver_method,
    error::AmqpError,
    message::Message,
    method::{Answer, answer_unless_nowait},
    value::short_string,
};

/// Name of the pseudo-queue for replies.
pub(super) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

impl Core {
    pub(super) fn consume_replies(
        &mut self,
        at: ChannelId,
        tag: ShortString,
        method: &basic::Consume,
    ) -> Answer {
        if !method.no_ack {
            return Err(AmqpError::precondition("reply consumer cannot acknowledge"));
        }
        if self.channel(at)?.reply.is_some() {
            return Err(AmqpError::precondition("reply consumer already set"));
        }
        let address = self.generated_name(&format!("{REPLY_TO}."));
        self.channel(at)?.reply = Some((tag.clone(), address.clone()));
        self.replies.insert(address, at);
        answer_unless_nowait(method.nowait, basic::ConsumeOk { consumer_tag: tag })
    }

    /// Replaces the pseudo-queue in a request by the address of this channel.
    pub(super) fn set_reply_address(
        &mut self,
        at: ChannelId,
        message: &mut Message,
    ) -> Result<(), AmqpError> {
        if message.properties.reply_to().as_ref().is_some_and(|to| to.as_str() == REPLY_TO) {
            let reply = self.channel(at)?.reply.as_ref();
            let (_, address) =
                reply.ok_or_else(|| AmqpError::precondition("fast reply consumer does not exist"))?;
            message.properties = message.properties.clone().with_reply_to(short_string(address));
        }
        Ok(())
    }

    /// Returns whether a message is a reply, and delivers it to the channel that waits for it, if that is still there.
    pub(super) fn reply(&mut self, message: &Arc<Message>) -> bool {
        let key = message.routing_key.as_str();
        if !message.exchange.as_str().is_empty() || !key.starts_with(REPLY_TO) {
            return false;
        }
        let waiting = self.replies.get(key).copied();
        let Some((at, (tag, _))) = waiting.and_then(|at| Some((at, self.channel(at).ok()?.reply.clone()?)))
        else {
            return true;
        };
        let Ok(channel) = self.channel(at) else { return true };
        channel.last_tag += 1;
        let deliver = deliver_method(tag, channel.last_tag, false, message);
        self.send(
            at.connection,
            Outgoing::Content(at.channel, deliver, Arc::clone(message), DeliveryHeader::None),
        );
        true
    }
}
