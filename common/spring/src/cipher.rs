//! Encryption, and the decryption of `{cipher}` values.
//!
//! The algorithm is that of Spring Security's `Encryptors.text`: PBKDF2 with HMAC-SHA1 derives the key, AES-256-CBC
//! encrypts, and the text is the hexadecimal of the initialization vector and the encrypted bytes. Only the padding
//! shows that a key is wrong. RSA, with key stores, is left out.

use std::fmt;

use aes::Aes256;
use cbc::{
    Decryptor, Encryptor,
    cipher::{BlockDecryptMut as _, BlockEncryptMut as _, KeyIvInit as _, block_padding::Pkcs7},
};
use sha1::Sha1;

use crate::{Properties, Scalar};

/// Prefix of an encrypted value.
pub const CIPHER: &str = "{cipher}";
/// End of the prefixes of a text that begins with a brace of its own.
const PLAIN: &str = "{plain}";
/// Bytes of an initialization vector.
pub const BLOCK: usize = 16;
const ITERATIONS: u32 = 1024;

/// Reason why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// The password is a key of RSA.
    #[error("encrypt_key: is a key in PEM, and RSA is not supported: set a passphrase")]
    Rsa,
    /// The salt is not hexadecimal.
    #[error("encrypt_salt: is not hexadecimal: {0}")]
    Salt(hex::FromHexError),
    /// A line after the first one is not `NAME:PASSWORD`, with another name than the lines before it.
    #[error("encrypt_key: line {0} is not NAME:PASSWORD, with a name of its own of letters, digits and -")]
    Line(usize),
}

/// Key of the encryption. It is derived once, which takes a thousand times as long as to decrypt a value with it.
#[derive(Clone)]
struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Key {
    /// Derives the key from a password and a salt in hexadecimal.
    fn derive(password: &str, salt: &str) -> Result<Self, KeyError> {
        if password.trim_start().starts_with("-----BEGIN") {
            return Err(KeyError::Rsa);
        }
        let salt = hex::decode(salt).map_err(KeyError::Salt)?;
        let mut key = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha1>(password.as_bytes(), &salt, ITERATIONS, &mut key);
        Ok(Self(key))
    }

    fn encrypt(&self, plain: &str, iv: [u8; BLOCK]) -> String {
        let encryptor = Encryptor::<Aes256>::new(&self.0.into(), &iv.into());
        let encrypted = encryptor.encrypt_padded_vec_mut::<Pkcs7>(plain.as_bytes());
        hex::encode(iv) + &hex::encode(encrypted)
    }

    /// Decrypts a text; `None` if it was encrypted with another key, which may go unnoticed, or not at all.
    fn decrypt(&self, encrypted: &str) -> Option<String> {
        let bytes = hex::decode(encrypted).ok()?;
        let (iv, encrypted) = bytes.split_first_chunk::<BLOCK>()?;
        let decryptor = Decryptor::<Aes256>::new(&self.0.into(), iv.into());
        let plain = decryptor.decrypt_padded_vec_mut::<Pkcs7>(encrypted).ok()?;
        String::from_utf8(plain).ok()
    }
}

/// Keys of encrypted values: the first one, and with names those that have replaced it since.
///
/// A value says by its prefix `{key:NAME}` which key it needs, and without a prefix it needs the first one. Keys are not tried in
/// turn: the encryption is not authenticated, so a wrong key may return another text.
#[derive(Debug, Clone)]
pub struct Keys {
    first: Key,
    /// The newest is the last.
    named: Vec<(String, Key)>,
}

impl Keys {
    /// Derives the keys from their passwords and a salt in hexadecimal. The first line is the password of the first key, and each
    /// further line `NAME:PASSWORD` that of a newer one.
    ///
    /// # Errors
    /// A line is wrong, a password is an RSA key, or the salt is not hexadecimal.
    pub fn derive(passwords: &str, salt: &str) -> Result<Self, KeyError> {
        let mut lines = passwords.lines();
        let first = Key::derive(lines.next().unwrap_or_default(), salt)?;
        let mut named: Vec<(String, Key)> = vec![];
        for (number, line) in (2..).zip(lines) {
            let is_name = |name: &str| {
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            let pair = line.split_once(':').filter(|(name, password)| is_name(name) && !password.is_empty());
            let (name, password) = pair.ok_or(KeyError::Line(number))?;
            if named.iter().any(|(known, _)| known == name) {
                return Err(KeyError::Line(number));
            }
            named.push((name.to_owned(), Key::derive(password, salt)?));
        }
        Ok(Self { first, named })
    }

    /// Encrypts a text with the newest key, and keeps its prefixes, one of which may name another key; `None` if there is no such
    /// key. `iv` must be random, so that equal texts differ once they are encrypted.
    #[must_use]
    pub fn encrypt(&self, text: &str, iv: [u8; BLOCK]) -> Option<String> {
        let (prefixes, plain) = split_prefixes(text);
        let (prefix, key) = match (key_name(prefixes), self.named.last()) {
            (None, Some((newest, key))) => (format!("{{key:{newest}}}"), key),
            (name, _) => (String::new(), self.named(name)?),
        };
        Some(format!("{prefix}{prefixes}{}", key.encrypt(plain, iv)))
    }

    /// Decrypts a text with the key that its prefix names; `None` if there is no such key, if the text was encrypted with another one,
    /// or not at all.
    #[must_use]
    pub fn decrypt(&self, text: &str) -> Option<String> {
        let (prefixes, encrypted) = split_prefixes(text);
        self.named(key_name(prefixes))?.decrypt(encrypted)
    }

    /// Returns the key of this name. As in Spring, a single key has every name.
    fn named(&self, name: Option<&str>) -> Option<&Key> {
        match name {
            Some(name) if !self.named.is_empty() => {
                self.named.iter().find(|(known, _)| known == name).map(|(_, key)| key)
            }
            _ => Some(&self.first),
        }
    }
}

/// Returns the name in the prefix `{key:NAME}`.
fn key_name(prefixes: &str) -> Option<&str> {
    prefixes.split_once("{key:")?.1.split_once('}').map(|(name, _)| name)
}

/// Treatment of encrypted values before they are served.
#[derive(Debug, Clone)]
pub struct Decryption {
    /// True if the server decrypts; otherwise its clients do.
    pub enabled: bool,
    /// The keys, if there are any.
    pub keys: Option<Keys>,
    /// True if `invalid.KEY` stands for a value that cannot be decrypted; otherwise the value stays, without `{cipher}`.
    pub prefix_invalid: bool,
}

impl Decryption {
    /// Returns a source with its values decrypted. They come last, in their order, as do those that cannot be decrypted:
    /// their key is gone, so that the value of a lower source shows.
    #[must_use]
    pub fn decrypted(&self, source: Properties) -> Properties {
        if !self.enabled || !source.values().any(|value| encrypted(value).is_some()) {
            return source;
        }
        let is_sealed = |(_, value): &(String, Scalar)| encrypted(value).is_some();
        let (sealed, mut open): (Properties, Properties) = source.into_iter().partition(is_sealed);
        for (key, value) in sealed {
            let text = encrypted(&value).unwrap_or_default();
            let (key, value) = match self.keys.as_ref().and_then(|keys| keys.decrypt(text)) {
                Some(plain) => (key, plain),
                None if self.prefix_invalid => (format!("invalid.{key}"), "<n/a>".to_owned()),
                None => (key, text.to_owned()),
            };
            open.insert(key, Scalar::Text(value));
        }
        open
    }
}

/// Returns the text after `{cipher}`.
fn encrypted(value: &Scalar) -> Option<&str> {
    match value {
        Scalar::Text(text) => text.strip_prefix(CIPHER),
        _ => None,
    }
}

/// Splits a text into its prefixes `{name:value}` and the rest.
fn split_prefixes(text: &str) -> (&str, &str) {
    let mut rest = text;
    loop {
        let prefixes = &text[..text.len() - rest.len()];
        if let Some(plain) = rest.strip_prefix(PLAIN) {
            return (prefixes, plain);
        }
        let prefix = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        match prefix.filter(|(prefix, _)| prefix.contains(':') && !prefix.contains('{')) {
            Some((_, after)) => rest = after,
            None => return (prefixes, rest),
        }
    }
}

#[cfg(test)]
mod tests;
