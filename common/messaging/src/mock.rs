//! Doubles for what is hard to cause, and for "was not called".

use async_trait::async_trait;

use super::{BrokerStatus, ConsumeOptions, Handler, Message, MessagingClient, PublishError, Subscription};

mockall::mock! {
    #[derive(Debug)]
    pub MessagingClient {}

    #[async_trait]
    impl MessagingClient for MessagingClient {
        fn connect(&self);
        async fn publish(&self, exchange: &str, routing_key: &str, message: Message) -> Result<(), PublishError>;
        async fn broadcast(&self, exchange: &str, routing_key: &str, message: Message) -> Result<(), PublishError>;
        async fn publish_on_queue(&self, queue: &str, message: Message) -> Result<(), PublishError>;
        async fn append(&self, stream: &str, message: Message) -> Result<(), PublishError>;
        fn subscribe(&self, exchange: &str, binding_key: &str, options: ConsumeOptions, handler: Handler) -> Subscription;
        fn subscribe_to_queue(&self, queue: &str, options: ConsumeOptions, handler: Handler) -> Subscription;
        fn status(&self) -> BrokerStatus;
        async fn close(&self);
    }
}
