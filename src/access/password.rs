//! Hashed passwords: argon2id for new ones, and the formats of mosquitto's password files.
//!
//! | form | what it is |
//! |---|---|
//! | `$argon2id$v=19$m=…,t=…,p=…$salt$hash` | argon2id in PHC form; what `corelane passwd` writes |
//! | `$7$iterations$salt$hash` | PBKDF2 with HMAC-SHA-512, as mosquitto 1.6 to 2.0 write it |
//! | `$scram-sha-256$iterations$salt$key$key` | keys of SCRAM (or `512`), good for both |
//! | `$6$salt$hash` | SHA-512 of password and salt, as older mosquitto wrote it |
//!
//! Invariants worth naming:
//! * comparing takes the same time wherever the texts differ;
//! * a hash is never printed.

use super::scram::{ScramHash, ScramKeys};
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest, Sha512};
use std::fmt;
use subtle::ConstantTimeEq;

/// Memory in KiB, passes and lanes of new argon2id hashes: the second recommendation of RFC 9106
/// scaled down to what the OWASP cheat sheet names as enough for interactive log-ins.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// A hash that would take longer than these is refused when the file is read.
const MOST_MEMORY_KIB: u32 = 1 << 20;
const MOST_PASSES: u32 = 64;
const MOST_ITERATIONS: u32 = 10_000_000;

/// Padding or none: both are found in the wild.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A hashed password in checked form. Pure value; verifying one takes milliseconds by design and
/// is no work for a core.
#[derive(Clone, PartialEq, Eq)]
pub struct HashedPassword(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    Argon2id(Box<str>),
    Pbkdf2 { iterations: u32, salt: Box<[u8]>, hash: Box<[u8]> },
    Sha512 { salt: Box<[u8]>, hash: Box<[u8]> },
    Scram(ScramKeys),
}

impl fmt::Debug for HashedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashedPassword(hidden)")
    }
}

impl HashedPassword {
    /// Hashes `password` with argon2id under `salt`, sixteen bytes that nobody can guess.
    pub fn new(password: &[u8], salt: [u8; 16]) -> HashedPassword {
        let salt = SaltString::encode_b64(&salt).expect("sixteen bytes are a salt");
        let hash = argon2(MEMORY_KIB, PASSES, LANES).hash_password(password, &salt);
        let hash = hash.expect("the parameters are in range");
        HashedPassword(Form::Argon2id(hash.to_string().into()))
    }

    /// Keeps `keys` in place of a hash.
    pub fn scram(keys: ScramKeys) -> HashedPassword {
        HashedPassword(Form::Scram(keys))
    }

    /// The keys of SCRAM, if that is what is kept.
    pub fn scram_keys(&self) -> Option<&ScramKeys> {
        match &self.0 {
            Form::Scram(keys) => Some(keys),
            _ => None,
        }
    }

    /// Reads one of the forms above.
    ///
    /// # Errors
    /// Says what is wrong with it, without repeating it.
    pub fn parse(text: &str) -> Result<HashedPassword, &'static str> {
        let form = match text.strip_prefix('$').and_then(|rest| rest.split_once('$')) {
            Some(("6", rest)) => sha512(rest)?,
            Some(("7", rest)) => pbkdf2(rest)?,
            Some(("argon2id", _)) => argon2id(text)?,
            Some(("scram-sha-256", rest)) => {
                Form::Scram(ScramKeys::parse(ScramHash::Sha256, rest)?)
            }
            Some(("scram-sha-512", rest)) => {
                Form::Scram(ScramKeys::parse(ScramHash::Sha512, rest)?)
            }
            _ => return Err("the password is not hashed; `corelane passwd` hashes it"),
        };
        Ok(HashedPassword(form))
    }

    /// Whether `password` is the one that was hashed.
    pub fn verify(&self, password: &[u8]) -> bool {
        match &self.0 {
            Form::Argon2id(text) => PasswordHash::new(text)
                .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok()),
            Form::Pbkdf2 { iterations, salt, hash } => {
                let mut derived = vec![0; hash.len()];
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, *iterations, &mut derived);
                derived.ct_eq(hash).into()
            }
            Form::Sha512 { salt, hash } => {
                let derived = Sha512::new().chain_update(password).chain_update(salt).finalize();
                derived.as_slice().ct_eq(hash).into()
            }
            Form::Scram(keys) => keys.verify(password),
        }
    }

    /// The hash as it stands in a file.
    pub fn to_text(&self) -> String {
        match &self.0 {
            Form::Argon2id(text) => text.to_string(),
            Form::Scram(keys) => keys.to_text(),
            Form::Pbkdf2 { iterations, salt, hash } => {
                format!("$7${iterations}${}${}", BASE64.encode(salt), BASE64.encode(hash))
            }
            Form::Sha512 { salt, hash } => {
                format!("$6${}${}", BASE64.encode(salt), BASE64.encode(hash))
            }
        }
    }
}

fn argon2(memory_kib: u32, passes: u32, lanes: u32) -> Argon2<'static> {
    let params = Params::new(memory_kib, passes, lanes, None).expect("constants in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn argon2id(text: &str) -> Result<Form, &'static str> {
    const WRONG: &str = "the argon2id hash is damaged";
    let hash = PasswordHash::new(text).map_err(|_| WRONG)?;
    let params = Params::try_from(&hash).map_err(|_| WRONG)?;
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err(WRONG);
    }
    if params.m_cost() > MOST_MEMORY_KIB || params.t_cost() > MOST_PASSES {
        return Err("the argon2id hash asks for more than 1 GiB or 64 passes");
    }
    Ok(Form::Argon2id(text.into()))
}

fn pbkdf2(rest: &str) -> Result<Form, &'static str> {
    const WRONG: &str = "the $7$ hash is damaged; it has iterations, salt and hash";
    let mut parts = rest.split('$');
    let mut next = || parts.next().ok_or(WRONG);
    let iterations = next()?.parse().map_err(|_| WRONG)?;
    let (salt, hash) = (bytes(next()?).ok_or(WRONG)?, bytes(next()?).ok_or(WRONG)?);
    if parts.next().is_some() || hash.len() != 64 {
        return Err(WRONG);
    }
    if !(1..=MOST_ITERATIONS).contains(&iterations) {
        return Err("the $7$ hash has no iterations or more than ten million");
    }
    Ok(Form::Pbkdf2 { iterations, salt, hash })
}

fn sha512(rest: &str) -> Result<Form, &'static str> {
    const WRONG: &str = "the $6$ hash is damaged; it has salt and hash";
    let (salt, hash) = rest.split_once('$').ok_or(WRONG)?;
    let (salt, hash) = (bytes(salt).ok_or(WRONG)?, bytes(hash).ok_or(WRONG)?);
    if hash.len() == 64 { Ok(Form::Sha512 { salt, hash }) } else { Err(WRONG) }
}

fn bytes(text: &str) -> Option<Box<[u8]>> {
    BASE64.decode(text).ok().map(Vec::into_boxed_slice)
}
