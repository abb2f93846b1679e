//! The words of the command line, with what `--help` says of each.

use clap::{Arg, ArgAction, Command};

pub(super) fn command() -> Command {
    let text = |id: &'static str, name: &'static str| Arg::new(id).value_name(name);
    let option = |id: &'static str, name: &'static str| text(id, name).long(id);
    let flag = |id: &'static str| Arg::new(id).long(id).action(ArgAction::SetTrue);
    let broker = || option("broker", "URL");
    Command::new("cargo hops")
        .about("The system of docker-compose.yml as processes of this machine, with Docker's verbs")
        .subcommand_required(true)
        .arg(flag("json").global(true).help("JSON instead of text: one value per line"))
        .subcommand(
            Command::new("up")
                .about("Builds the services, starts them, waits until they are ready; Ctrl-C takes them down")
                .arg(
                    flag("detach").short('d').help("Comes back when they are ready, and leaves them running"),
                )
                .arg(broker().help("A broker that is there already, as in amqp://guest:guest@localhost:5672"))
                .arg(flag("release").help("Builds them as they are shipped, which takes minutes longer")),
        )
        .subcommand(
            Command::new("service")
                .about("What runs, as `docker service` has it")
                .subcommand_required(true)
                .subcommand(Command::new("ls").about("The services"))
                .subcommand(
                    Command::new("ps")
                        .about("The tasks of a service, those that ended too")
                        .arg(text("name", "NAME").required(true)),
                )
                .subcommand(
                    Command::new("logs")
                        .about("What the tasks print")
                        .arg(
                            text("name", "NAME")
                                .num_args(0..)
                                .help("A service or a task; all if none is named"),
                        )
                        .arg(flag("follow").short('f').help("Goes on until Ctrl-C"))
                        .arg(option("request", "ID").help("Only the lines of one request")),
                )
                .subcommand(
                    Command::new("scale")
                        .about("More or fewer tasks; comes back when they are ready")
                        .arg(text("wanted", "NAME=N").required(true).num_args(1..)),
                )
                .subcommand(
                    Command::new("update")
                        .about("New tasks for old ones, of what is built now, in the order of update_config")
                        .arg(flag("force").help("Even if nothing has changed"))
                        .arg(text("name", "NAME").required(true)),
                ),
        )
        .subcommand(
            Command::new("kill")
                .about("kill -9 one task; it comes back by its restart policy")
                .arg(text("task", "NAME.N").required(true)),
        )
        .subcommand(
            Command::new("walk")
                .about("One read, and its nine hops as they happen")
                .arg(text("account", "ACCOUNT").default_value("10000")),
        )
        .subcommand(
            Command::new("queues")
                .about("The broker's queues")
                .arg(broker().global(true).help("Another broker's"))
                .subcommand(
                    Command::new("peek")
                        .about("The first message of a queue with its properties, left where it is")
                        .arg(text("name", "NAME").required(true)),
                ),
        )
        .subcommand(
            Command::new("verify")
                .about("Reads the VIP's account and matches each read with its offer")
                .arg(
                    option("read", "N")
                        .default_value("100")
                        .value_parser(clap::value_parser!(u32).range(1..=9000)),
                )
                .arg(option("kill", "NAME.N").help("A task to kill in the middle"))
                .arg(option("account-url", "URL").help("Another accountservice, as in http://localhost:6767"))
                .arg(option("vip-url", "URL").help("Another vipservice, as in http://localhost:6868"))
                .arg(broker().help("Another broker, to count dead letters at"))
                .arg(
                    option("patience", "SECONDS")
                        .default_value("60")
                        .value_parser(clap::value_parser!(u64))
                        .help("For how long nothing may move before what is missing is lost"),
                ),
        )
        .subcommand(Command::new("status").about("Everything that runs, with its memory"))
        .subcommand(
            Command::new("down")
                .about("Ends everything")
                .arg(flag("all").help("And removes all data, secrets, logs and copies: the folder .hops")),
        )
        .subcommand(Command::new("supervise").hide(true).arg(text("binaries", "DIR").required(true)))
}
