//! Requests of programs, of pages of this server, and of pages of elsewhere.

use super::*;

const HERE: (&str, &str) = ("host", "127.0.0.1:7878");

fn request(given: &[(&str, &str)]) -> Request<()> {
    let request = Request::get("/offers");
    given.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
}

#[track_caller]
fn check(hosts: &Hosts, given: &[(&str, &str)], expected: Result<(), Refused>) {
    assert_eq!(hosts.check(&request(given)), expected, "{hosts:?} {given:?}");
}

#[test]
fn a_request_names_its_host_once() {
    let hosts = Hosts::new(Scope::Any, []);
    check(&hosts, &[HERE], Ok(()));
    check(&hosts, &[], Err(Refused::Malformed));
    check(&hosts, &[HERE, HERE], Err(Refused::Malformed));
    for host in ["", "a b", "127.0.0.1:7878, evil.example", "::1:7878", "u@127.0.0.1", ":80", "http://a"] {
        check(&hosts, &[("host", host)], Err(Refused::Malformed));
    }
    let mut of_a_program = request(&[]);
    *of_a_program.version_mut() = Version::HTTP_10;
    assert_eq!(Hosts::default().check(&of_a_program), Ok(()));
    assert_eq!(Refused::Malformed.status(), 400);
}

#[test]
fn a_server_answers_under_its_own_names() {
    let own = || ["shop.example".to_owned()];
    let (machine, network, any) =
        (Hosts::new(Scope::Machine, own()), Hosts::new(Scope::Network, own()), Hosts::new(Scope::Any, []));
    for (host, [by_machine, by_network]) in [
        ("127.0.0.1:7878", [true, true]),
        ("localhost:7878", [true, true]),
        ("LocalHost", [true, true]),
        ("[::1]:7878", [true, true]),
        ("10.0.0.5:6868", [true, true]),
        ("shop.example", [true, true]),
        ("Shop.Example:443", [true, true]),
        ("configserver:8888", [false, true]),
        ("evil.example:7878", [false, false]),
        ("127.0.0.1.evil.example:7878", [false, false]),
        ("localhost.evil.example", [false, false]),
        ("localhost.:7878", [false, false]),
        ("a.shop.example", [false, false]),
        // They lead to this machine, and a browser does not know that.
        ("0.0.0.0:7878", [false, false]),
        ("[::]:7878", [false, false]),
        ("[::ffff:127.0.0.1]:7878", [false, false]),
        ("[::ffff:0.0.0.0]:7878", [false, false]),
    ] {
        let expected = |is_ok: bool| if is_ok { Ok(()) } else { Err(Refused::Host) };
        check(&machine, &[("host", host)], expected(by_machine));
        check(&network, &[("host", host)], expected(by_network));
        check(&any, &[("host", host)], Ok(()));
    }
    // The target counts, if it has a host.
    let mut absolute = request(&[HERE]);
    *absolute.uri_mut() = "http://evil.example/offers".parse().unwrap();
    assert_eq!(machine.check(&absolute), Err(Refused::Host));
    assert_eq!(Refused::Host.status(), 403);
}

#[test]
fn a_page_of_another_site_is_refused_under_any_name() {
    for hosts in [Hosts::default(), Hosts::new(Scope::Any, [])] {
        for own in [
            &[][..],
            &[("origin", "http://127.0.0.1:7878")],
            &[("origin", "https://127.0.0.1:7878")],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")],
        ] {
            check(&hosts, &[&[HERE][..], own].concat(), Ok(()));
        }
        for others in [
            &[("origin", "https://evil.example")][..],
            &[("origin", "http://evil.example:7878")],
            &[("origin", "http://localhost:7878")],
            &[("origin", "http://127.0.0.1:7879")],
            &[("origin", "null")],
            &[("origin", "")],
            &[("origin", "file://")],
            &[("origin", "ftp://127.0.0.1:7878")],
            &[("origin", "http://127.0.0.1:7878"), ("origin", "http://127.0.0.1:7878")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ],
        ] {
            check(&hosts, &[&[HERE][..], others].concat(), Err(Refused::OtherSite));
        }
    }
    assert_eq!(Refused::OtherSite.status(), 403);
}

#[test]
fn a_link_leads_to_a_page_and_to_nothing_else() {
    const LINK: [(&str, &str); 3] =
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    let hosts = Hosts::default();
    let check = |given: &[(&str, &str)]| hosts.check_page(&request(&[&[HERE], given].concat()));
    assert_eq!(check(&LINK), Ok(()));
    assert_eq!(check(&[]), Ok(()));
    for other in [
        &[LINK[0]][..],
        &[LINK[0], LINK[1], ("sec-fetch-dest", "iframe")],
        &[LINK[0], ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")],
        &[LINK[0], LINK[1], LINK[2], ("origin", "https://evil.example")],
    ] {
        assert_eq!(check(other), Err(Refused::OtherSite), "{other:?}");
    }
    let rebound = [&[("host", "evil.example")], &LINK[..]].concat();
    assert_eq!(hosts.check_page(&request(&rebound)), Err(Refused::Host));
    let mut form = request(&[&[HERE], &LINK[..]].concat());
    *form.method_mut() = Method::POST;
    assert_eq!(hosts.check_page(&form), Err(Refused::OtherSite));
}
