//! The keys of the file, and the form of each key's value, as `docker stack` accepts them.
//!
//! A key is used by `read`, or is ignored because it concerns containers and means nothing for processes, or is refused by
//! name. The form of an ignored key is checked, too: a file that runs here can be deployed on a swarm.
//! The forms are those of Docker's schema for version 3.13 of the file.

/// Form of a value.
#[derive(Debug)]
pub(super) enum Form {
    /// Anything.
    Any,
    /// `true` or `false`; a variable may stand for it.
    Flag,
    /// `true` or `false`, for which no variable may stand.
    PlainFlag,
    /// Whole number; a variable may stand for it.
    Integer,
    /// Whole number, for which no variable may stand.
    PlainInteger,
    /// Number that is not infinite, in any notation.
    Number,
    /// Permissions of a file, such as `0440`; a variable may stand for them.
    Mode,
    /// Text.
    Text,
    /// Text, number, or nothing.
    Value,
    /// Duration, such as `1m30s`.
    Duration,
    /// Number of bytes, such as `64M`.
    Size,
    /// List of values, each of which is in it once.
    List(&'static Self),
    /// Text, or a list of texts.
    TextOrTexts,
    /// Text, or a list of texts, each of which is in it once.
    TextOrSet,
    /// Mapping with names of the writer's own.
    Named(&'static Self),
    /// Mapping with any keys, or a list of `KEY=value`.
    Pairs,
    /// Mapping with these keys and no others.
    Keys(Keys),
    /// Mapping with these keys, and with keys that begin with `x-`, which are the writer's own.
    Extensible(Keys),
    /// The second form for a mapping, the first one for anything else.
    ShortOrLong(&'static Self, &'static Self),
    /// Nothing, or this.
    OrNothing(&'static Self),
    /// Form of a key that must be there.
    Required(&'static Self),
    /// Form of a key that a minor version introduced.
    Since(u8, &'static Self),
    /// Key of Docker's that does not work here; the text says what to write instead.
    Refused(&'static str),
}

pub(super) type Keys = &'static [(&'static str, Form)];

use Form::{
    Any, Duration, Extensible, Flag, Integer, Keys as Only, List, Mode, Named, Number, OrNothing, Pairs,
    PlainFlag, PlainInteger, Refused, Required, ShortOrLong, Since, Size, Text, TextOrSet, TextOrTexts,
    Value,
};

/// Minor versions of the file; older ones lack keys that are used here.
pub(super) const MINOR_VERSIONS: std::ops::RangeInclusive<u8> = 8..=13;

pub(super) const COMPOSE: Form = Extensible(&[
    ("version", Text),
    ("services", Named(&SERVICE)),
    ("networks", Named(&OrNothing(&NETWORK))),
    ("volumes", Named(&OrNothing(&VOLUME))),
    ("secrets", Named(&SECRET)),
    ("configs", Named(&CONFIG)),
]);

const SERVICE: Form = Extensible(&[
    ("image", Text),
    ("command", TextOrTexts),
    ("environment", Pairs),
    ("ports", List(&ShortOrLong(&Any, &PORT))),
    ("deploy", OrNothing(&DEPLOY)),
    ("stop_grace_period", Duration),
    ("stop_signal", Text),
    ("healthcheck", HEALTHCHECK),
    ("secrets", List(&ShortOrLong(&Text, &FILE_MOUNT))),
    ("configs", List(&ShortOrLong(&Text, &FILE_MOUNT))),
    ("volumes", List(&ShortOrLong(&Text, &VOLUME_MOUNT))),
    // Ignored: all below concern containers.
    ("hostname", Text),
    ("networks", ShortOrLong(&List(&Text), &Named(&OrNothing(&SERVICE_NETWORK)))),
    ("cap_drop", List(&Text)),
    ("cap_add", List(&Text)),
    ("read_only", Flag),
    ("user", Text),
    ("init", PlainFlag),
    ("labels", Pairs),
    ("logging", Only(&[("driver", Text), ("options", OPTIONS)])),
    ("tmpfs", TextOrSet),
    (
        "ulimits",
        Named(&ShortOrLong(&Integer, &Only(&[("soft", Required(&Integer)), ("hard", Required(&Integer))]))),
    ),
    ("sysctls", Pairs),
    ("security_opt", List(&Text)),
    // Refused: all below would change a process.
    ("build", Refused("`image` names a binary of this workspace")),
    ("depends_on", Refused("docker stack ignores it; services wait for each other themselves")),
    ("entrypoint", Refused("write the arguments of the binary under `command`")),
    ("env_file", Refused("write the variables under `environment`")),
    ("extends", Refused("docker stack refuses it; write `<<: *anchor`")),
    ("restart", Refused("write `deploy.restart_policy`")),
    ("cgroup_parent", Refused("")),
    ("cgroupns_mode", Refused("")),
    ("container_name", Refused("")),
    ("credential_spec", Refused("")),
    ("devices", Refused("")),
    ("dns", Refused("")),
    ("dns_search", Refused("")),
    ("domainname", Refused("")),
    ("expose", Refused("")),
    ("external_links", Refused("")),
    ("extra_hosts", Refused("")),
    ("ipc", Refused("")),
    ("isolation", Refused("")),
    ("links", Refused("")),
    ("mac_address", Refused("")),
    ("network_mode", Refused("")),
    ("oom_score_adj", Refused("")),
    ("pid", Refused("")),
    ("privileged", Refused("")),
    ("shm_size", Refused("")),
    ("stdin_open", Refused("")),
    ("tty", Refused("")),
    ("userns_mode", Refused("")),
    ("working_dir", Refused("")),
]);

const PORT: Form =
    Only(&[("target", Required(&Integer)), ("published", Integer), ("protocol", Text), ("mode", Text)]);

const FILE_MOUNT: Form =
    Only(&[("source", Required(&Text)), ("target", Text), ("uid", Text), ("gid", Text), ("mode", Mode)]);

const VOLUME_MOUNT: Form = Only(&[
    ("type", Required(&Text)),
    ("source", Text),
    ("target", Text),
    ("read_only", Flag),
    ("consistency", Text),
    ("bind", Only(&[("propagation", Text)])),
    ("volume", Only(&[("nocopy", Flag)])),
    ("tmpfs", Only(&[("size", Integer)])),
]);

const HEALTHCHECK: Form = Only(&[
    ("test", TextOrTexts),
    ("disable", Flag),
    ("interval", Duration),
    ("timeout", Duration),
    ("retries", Integer),
    ("start_period", Duration),
    ("start_interval", Since(12, &Duration)),
]);

const DEPLOY: Form = Only(&[
    ("mode", Text),
    ("replicas", Integer),
    ("update_config", UPDATE),
    (
        "restart_policy",
        Only(&[("condition", Text), ("delay", Duration), ("max_attempts", Integer), ("window", Duration)]),
    ),
    // Ignored: all below.
    ("rollback_config", UPDATE),
    ("endpoint_mode", Text),
    ("labels", Pairs),
    (
        "resources",
        Only(&[
            ("limits", Only(&[("cpus", Text), ("memory", Size), ("pids", Since(9, &Integer))])),
            (
                "reservations",
                Only(&[
                    ("cpus", Text),
                    ("memory", Size),
                    (
                        "generic_resources",
                        List(&Only(&[(
                            "discrete_resource_spec",
                            Only(&[("kind", Text), ("value", PlainInteger)]),
                        )])),
                    ),
                ]),
            ),
        ]),
    ),
    (
        "placement",
        Only(&[
            ("constraints", List(&Text)),
            ("preferences", List(&Only(&[("spread", Text)]))),
            ("max_replicas_per_node", Integer),
        ]),
    ),
]);

const UPDATE: Form = Only(&[
    ("order", Text),
    ("parallelism", Integer),
    ("delay", Duration),
    ("failure_action", Text),
    ("monitor", Duration),
    ("max_failure_ratio", Number),
]);

const SERVICE_NETWORK: Form = Only(&[
    ("aliases", List(&Text)),
    ("driver_opts", Since(13, &OPTIONS)),
    ("ipv4_address", Text),
    ("ipv6_address", Text),
]);

const NETWORK: Form = Extensible(&[
    ("name", Text),
    ("driver", Text),
    ("driver_opts", OPTIONS),
    ("ipam", Only(&[("driver", Text), ("config", List(&Only(&[("subnet", Text)])))])),
    ("external", ShortOrLong(&Flag, &Only(&[("name", Text)]))),
    ("internal", Flag),
    ("attachable", Flag),
    ("labels", Pairs),
]);

const VOLUME: Form = Extensible(&[
    ("name", Text),
    ("driver", Text),
    ("labels", Pairs),
    ("driver_opts", Refused("")),
    ("external", Refused("")),
    ("x-cluster-spec", Refused("")),
]);

const SECRET: Form = Extensible(&[
    ("file", Text),
    ("name", Text),
    ("external", ShortOrLong(&Flag, &Only(&[("name", Text)]))),
    ("labels", Pairs),
    ("driver", Refused("")),
    ("driver_opts", Refused("")),
    ("template_driver", Refused("")),
]);

const CONFIG: Form = Extensible(&[
    ("file", Required(&Text)),
    ("name", Text),
    ("labels", Pairs),
    ("external", Refused("write `file`")),
    ("template_driver", Refused("")),
]);

const OPTIONS: Form = Named(&Value);
