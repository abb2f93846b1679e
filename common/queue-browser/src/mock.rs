//! Doubles for what is hard to cause, and for "was not called".

use async_trait::async_trait;
use messaging::Message;

use super::{BrowseError, BrowseSession, QueueBrowser};

mockall::mock! {
    #[derive(Debug)]
    pub QueueBrowser {}

    #[async_trait]
    impl QueueBrowser for QueueBrowser {
        async fn browse(&self, queue: &str) -> Result<Box<dyn BrowseSession>, BrowseError>;
        async fn count_ready(&self, queue: &str) -> Result<u32, BrowseError>;
    }
}

mockall::mock! {
    #[derive(Debug)]
    pub BrowseSession {}

    #[async_trait]
    impl BrowseSession for BrowseSession {
        async fn next(&mut self) -> Result<Option<Message>, BrowseError>;
        fn remaining(&self) -> u32;
        async fn remove(&mut self) -> Result<(), BrowseError>;
        async fn close(&mut self) -> Result<(), BrowseError>;
    }
}
