//! The vipservice's settings, composed of those of its parts.

use hops_config::ServiceSettings;

use crate::{consumer, offer, offers};

hops_config::sections! {
    /// The vipservice's settings.
    pub struct Settings {
        /// How notifications are consumed.
        pub consumer: consumer::Settings,
        /// Which offers are made.
        pub offer: offer::Settings,
        /// How many offers are kept.
        pub offers: offers::Settings,
        /// The work queue.
        pub vip_queue: contracts::topology::Settings,
        /// The keys of every service.
        pub service: service::Settings,
    }
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = "vipservice";
}
