//! Texts that Spring encrypted, and texts that cannot be decrypted.

use serde_json::Value;

use super::*;

const HUNTER2: &str = "6e5ec07d552183fc5ce5c21e24c05965da840f146e0043dfc8b857e65886cad0";

fn key(password: &str, salt: &str) -> Key {
    Key::derive(password, salt).unwrap()
}

fn decryption(password: Option<&str>) -> Decryption {
    let keys = password.map(|password| Keys::derive(password, "deadbeef").unwrap());
    Decryption { enabled: true, keys, prefix_invalid: true }
}

/// The source of these values, decrypted, as text.
fn decrypted(by: &Decryption, values: &[(&str, &str)]) -> Vec<(String, String)> {
    let source = values.iter().map(|(key, value)| ((*key).to_owned(), Scalar::text(*value))).collect();
    by.decrypted(source).into_iter().map(|(key, value)| (key, value.to_string())).collect()
}

fn check(by: &Decryption, values: &[(&str, &str)], expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    assert_eq!(decrypted(by, values), expected, "{values:?}");
}

#[test]
fn what_spring_encrypted_is_decrypted_and_what_is_encrypted_here_too() {
    let recorded: Vec<Value> = serde_json::from_str(include_str!("recorded.json")).unwrap();
    assert!(recorded.len() >= 6);
    for row in recorded {
        let text = |name: &str| row[name].as_str();
        let key = key(text("key").unwrap(), text("salt").unwrap());
        if let Some(derived) = text("derivedKeyHex") {
            assert_eq!(hex::encode(key.0), derived);
        }
        let Some(plain) = text("plain") else { continue };
        assert_eq!(key.decrypt(text("cipher").unwrap()).as_deref(), Some(plain), "{row}");
        let (first, second) = (key.encrypt(plain, rand::random()), key.encrypt(plain, rand::random()));
        assert_ne!(first, second, "each has an initialization vector of its own");
        assert_eq!(
            (key.decrypt(&first).as_deref(), key.decrypt(&second).as_deref()),
            (Some(plain), Some(plain))
        );
    }
}

#[test]
fn texts_and_keys_are_utf_8_and_of_any_length() {
    let key = key("schlüssel ✓", "00ff");
    for plain in ["", "x", "0123456789abcdef", "åäö ✓", &"long ".repeat(10_000)] {
        let encrypted = key.encrypt(plain, rand::random());
        assert!(
            encrypted.len() >= 64 && encrypted.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
        );
        assert_eq!(key.decrypt(&encrypted).as_deref(), Some(plain));
    }
}

#[test]
fn what_was_not_encrypted_with_this_key_is_refused() {
    let key = key("foo", "deadbeef");
    for text in [
        "",
        " ",
        "zz",
        "68",
        &HUNTER2[..32],
        &HUNTER2[..40],
        &HUNTER2[..63],
        &format!("{HUNTER2}\n"),
        "{cipher}",
    ] {
        assert_eq!(key.decrypt(text), None, "{text:?}");
    }
    assert_eq!(self::key("other", "deadbeef").decrypt(HUNTER2), None);
    assert_eq!(self::key("foo", "deadbeee").decrypt(HUNTER2), None);
}

#[test]
fn a_key_that_cannot_be_used_is_refused_and_none_is_ever_shown() {
    let derive = |password: &str, salt: &str| Key::derive(password, salt).unwrap_err().to_string();
    assert!(derive("-----BEGIN RSA PRIVATE KEY-----\nMII", "deadbeef").contains("RSA is not supported"));
    assert!(derive("foo", "salt").contains("encrypt_salt: is not hexadecimal"));
    assert_eq!(format!("{:?}", key("foo", "")), "***");
}

#[test]
fn encrypted_values_go_out_decrypted_after_the_others() {
    let foo = decryption(Some("foo"));
    let sealed = &format!("{{cipher}}{HUNTER2}");
    check(&foo, &[("a", sealed), ("b", "x")], &[("b", "x"), ("a", "hunter2")]);
    for prefixes in ["{key:any}", "{key:k}{secret:s}", "{name:n}{plain}", "{:}"] {
        let value = format!("{{cipher}}{prefixes}{HUNTER2}");
        check(&foo, &[("list[0]", &value)], &[("list[0]", "hunter2")]);
    }
    let upper = format!("{{cipher}}{}", HUNTER2.to_uppercase());
    check(&foo, &[("a", &upper)], &[("a", "hunter2")]);
    // Only what begins with it.
    let middle = format!("x {sealed}");
    check(&foo, &[("a", &middle), ("b", "{ciph}"), ("c", "")], &[("a", &middle), ("b", "{ciph}"), ("c", "")]);
}

#[test]
fn what_cannot_be_decrypted_is_named_and_the_value_below_it_is_seen() {
    let foo = decryption(Some("foo"));
    let newline = format!("{{cipher}}{HUNTER2}\n");
    for value in ["{cipher}", "{cipher} ", "{cipher}AQB1", &newline, "{cipher}{key:k", "{cipher}{cipher}00"] {
        check(&foo, &[("list[1]", value), ("z", "1")], &[("z", "1"), ("invalid.list[1]", "<n/a>")]);
    }
    let sealed = &format!("{{cipher}}{HUNTER2}");
    // One password that was encrypted with another's key is no reason to serve nothing, and none to serve it as it is.
    check(&decryption(Some("other")), &[("a", sealed)], &[("invalid.a", "<n/a>")]);
    check(&decryption(None), &[("a", sealed)], &[("invalid.a", "<n/a>")]);
    let kept = Decryption { prefix_invalid: false, ..decryption(None) };
    check(&kept, &[("a", sealed)], &[("a", HUNTER2)]);
    let left_to_clients = Decryption { enabled: false, ..foo };
    check(&left_to_clients, &[("a", sealed)], &[("a", sealed)]);
}

#[test]
fn prefixes_are_told_from_braces_of_the_text() {
    for (text, prefixes, rest) in [
        ("hunter2", "", "hunter2"),
        ("{key:x}hunter2", "{key:x}", "hunter2"),
        ("{key:x}{secret:y}", "{key:x}{secret:y}", ""),
        ("{plain}{a:b}hunter2", "", "{a:b}hunter2"),
        ("{key:x}{plain}{a:b}", "{key:x}", "{a:b}"),
        ("{cipher}00", "", "{cipher}00"),
        ("{a{b:c}d", "", "{a{b:c}d"),
        ("{a:b", "", "{a:b"),
        ("x{a:b}", "", "x{a:b}"),
    ] {
        assert_eq!(split_prefixes(text), (prefixes, rest), "{text}");
    }
}

#[test]
fn a_value_is_decrypted_with_the_key_that_it_names_and_with_no_other() {
    let keys = |passwords: &str| Keys::derive(passwords, "deadbeef").unwrap();
    let (old, new) = (keys("foo"), keys("foo\nnext:bar\nafter-next:baz:b"));
    let sealed = new.encrypt("hunter2", rand::random()).unwrap();
    assert!(sealed.starts_with("{key:after-next}"), "{sealed}");
    let by_next = new.encrypt("{key:next}hunter2", rand::random()).unwrap();
    for (text, expected) in [
        (HUNTER2, Some("hunter2")),
        (&sealed, Some("hunter2")),
        (&by_next, Some("hunter2")),
        (&format!("{{secret:y}}{by_next}"), Some("hunter2")),
        (&format!("{{key:unknown}}{HUNTER2}"), None),
        (&sealed.replace("after-next", "unknown"), None),
    ] {
        assert_eq!(new.decrypt(text).as_deref(), expected, "{text}");
    }
    assert_eq!(new.encrypt("{key:unknown}hunter2", rand::random()), None);
    assert_eq!(old.decrypt(&format!("{{key:any}}{HUNTER2}")).as_deref(), Some("hunter2"), "as in Spring");
    // A wrong key is found out only where the padding shows it, so no key is tried in another's place.
    assert_ne!(new.decrypt(&by_next.replace("next", "after-next")).as_deref(), Some("hunter2"));
    assert!(old.encrypt("hunter2", rand::random()).unwrap().bytes().all(|byte| byte.is_ascii_hexdigit()));
}

#[test]
fn a_line_that_is_no_key_is_named() {
    for (passwords, line) in [
        ("foo\nbar", 2),
        ("foo\n:bar", 2),
        ("foo\nnext:", 2),
        ("foo\nne}xt:bar", 2),
        ("foo\nnext:bar\n\n", 3),
        ("foo\nnext:bar\nnext:baz", 3),
    ] {
        let error = Keys::derive(passwords, "deadbeef").unwrap_err();
        assert_eq!(error, KeyError::Line(line), "{passwords:?}");
        assert!(!error.to_string().contains("bar"), "no password is shown");
    }
}
