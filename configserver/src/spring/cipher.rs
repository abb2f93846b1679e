//! `{cipher}` values, and the encryption with one key that they are made with: pure, but for the random bytes.
//!
//! It is that of Spring Security's `Encryptors.text`: PBKDF2 with HMAC-SHA1 makes the key, AES-256-CBC encrypts, and
//! the text is the hexadecimal of the initialization vector and what follows it. Nothing in it tells a wrong key from
//! a right one but the padding. RSA, with key stores, is left out.

use std::fmt;

use aes::Aes256;
use cbc::{
    Decryptor, Encryptor,
    cipher::{BlockDecryptMut as _, BlockEncryptMut as _, KeyIvInit as _, block_padding::Pkcs7},
};
use hops_config::secret::Secret;
use sha1::Sha1;

use super::{Properties, Scalar};

/// What an encrypted value begins with.
pub const CIPHER: &str = "{cipher}";
/// Ends the prefixes: what follows begins with a brace of its own.
const PLAIN: &str = "{plain}";
const BLOCK: usize = 16;
const ITERATIONS: u32 = 1024;

/// A key, derived once: that takes a thousand times as long as to decrypt a value with it.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Key {
    /// The key that a password and a salt make.
    ///
    /// # Errors
    /// A password that is an RSA key, or a salt that is not hexadecimal.
    pub fn derive(password: &Secret, salt: &str) -> Result<Self, String> {
        if password.expose().trim_start().starts_with("-----BEGIN") {
            return Err("encrypt_key: is a key in PEM, and RSA is not supported: set a passphrase".into());
        }
        let salt = hex::decode(salt).map_err(|e| format!("encrypt_salt: is not hexadecimal: {e}"))?;
        let mut key = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha1>(password.expose().as_bytes(), &salt, ITERATIONS, &mut key);
        Ok(Self(key))
    }

    /// The text encrypted, and different each time.
    #[must_use]
    pub fn encrypt(&self, plain: &str) -> String {
        let iv: [u8; BLOCK] = rand::random();
        let encryptor = Encryptor::<Aes256>::new(&self.0.into(), &iv.into());
        let encrypted = encryptor.encrypt_padded_vec_mut::<Pkcs7>(plain.as_bytes());
        hex::encode(iv) + &hex::encode(encrypted)
    }

    /// The text that was encrypted, unless it was with another key, or is no such text at all.
    #[must_use]
    pub fn decrypt(&self, encrypted: &str) -> Option<String> {
        let bytes = hex::decode(encrypted).ok()?;
        let (iv, encrypted) = bytes.split_first_chunk::<BLOCK>()?;
        let decryptor = Decryptor::<Aes256>::new(&self.0.into(), iv.into());
        let plain = decryptor.decrypt_padded_vec_mut::<Pkcs7>(encrypted).ok()?;
        String::from_utf8(plain).ok()
    }
}

/// What becomes of the encrypted values on their way out.
#[derive(Debug, Clone)]
pub struct Decryption {
    /// Whether they are decrypted at all; otherwise it is for the clients to do.
    pub enabled: bool,
    /// The key, if there is one.
    pub key: Option<Key>,
    /// Whether `invalid.KEY` stands for a value that cannot be decrypted; otherwise it stays, without `{cipher}`.
    pub prefix_invalid: bool,
}

impl Decryption {
    /// A source with its values decrypted. They come last, in their order, and so do those that cannot be: their key
    /// is gone, so that the value of a lower source is seen.
    #[must_use]
    pub fn decrypted(&self, source: Properties) -> Properties {
        if !self.enabled || !source.values().any(|value| encrypted(value).is_some()) {
            return source;
        }
        let is_sealed = |(_, value): &(String, Scalar)| encrypted(value).is_some();
        let (sealed, mut open): (Properties, Properties) = source.into_iter().partition(is_sealed);
        for (key, value) in sealed {
            let text = encrypted(&value).unwrap_or_default();
            let decrypt = |cipher: &Key| cipher.decrypt(split_prefixes(text).1);
            let (key, value) = match self.key.as_ref().and_then(decrypt) {
                Some(plain) => (key, plain),
                None if self.prefix_invalid => (format!("invalid.{key}"), "<n/a>".to_owned()),
                None => (key, text.to_owned()),
            };
            open.insert(key, Scalar::Text(value));
        }
        open
    }
}

/// What follows `{cipher}`.
fn encrypted(value: &Scalar) -> Option<&str> {
    match value {
        Scalar::Text(text) => text.strip_prefix(CIPHER),
        _ => None,
    }
}

/// The prefixes `{name:value}` of a text, and the rest. They choose among several keys, and here is one.
#[must_use]
pub fn split_prefixes(text: &str) -> (&str, &str) {
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
