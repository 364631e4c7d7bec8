//! SCRAM (RFC 5802, RFC 7677): a client proves that it knows a password without showing it, and
//! the server that it knows the client.
//!
//! Invariants worth naming:
//! * what is kept of a password proves nothing to a server: who steals the file can't log in with
//!   it, short of guessing;
//! * a name that is not there is found out to be wrong only at the end, as a wrong password is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha512};
use std::borrow::Cow;
use std::fmt;
use subtle::ConstantTimeEq;

/// Iterations of new keys: more than RFC 7677 asks for. Clients compute them at every CONNECT.
const ITERATIONS: u32 = 8192;
/// Keys that would ask more of clients are refused when the file is read; less is too easy to
/// guess (RFC 7677, section 4).
const ITERATION_BOUNDS: std::ops::RangeInclusive<u32> = 4096..=10_000_000;
/// Longest message of a client that is looked at.
const MOST_BYTES: usize = 4096;

/// The hash of a mechanism, and its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScramHash {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

impl ScramHash {
    const ALL: [ScramHash; 2] = [ScramHash::Sha256, ScramHash::Sha512];

    /// The mechanism's name, which MQTT calls the authentication method.
    pub fn method(self) -> &'static str {
        match self {
            ScramHash::Sha256 => "SCRAM-SHA-256",
            ScramHash::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// The hash of a mechanism.
    pub fn of_method(name: &str) -> Option<ScramHash> {
        ScramHash::ALL.into_iter().find(|hash| hash.method() == name)
    }

    fn hash(self, bytes: &[u8]) -> Box<[u8]> {
        match self {
            ScramHash::Sha256 => Sha256::digest(bytes).as_slice().into(),
            ScramHash::Sha512 => Sha512::digest(bytes).as_slice().into(),
        }
    }

    fn hmac(self, key: &[u8], bytes: &[u8]) -> Box<[u8]> {
        const ANY: &str = "HMAC takes keys of any length";
        match self {
            ScramHash::Sha256 => {
                let mac = Hmac::<Sha256>::new_from_slice(key).expect(ANY).chain_update(bytes);
                mac.finalize().into_bytes().as_slice().into()
            }
            ScramHash::Sha512 => {
                let mac = Hmac::<Sha512>::new_from_slice(key).expect(ANY).chain_update(bytes);
                mac.finalize().into_bytes().as_slice().into()
            }
        }
    }

    fn stretch(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut out = vec![0; self.bytes()];
        match self {
            ScramHash::Sha256 => {
                pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut out);
            }
            ScramHash::Sha512 => {
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut out);
            }
        }
        out
    }

    fn bytes(self) -> usize {
        match self {
            ScramHash::Sha256 => 32,
            ScramHash::Sha512 => 64,
        }
    }
}

/// What is kept of a password. Pure value.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    hash: ScramHash,
    iterations: u32,
    salt: Box<[u8]>,
    stored: Box<[u8]>,
    server: Box<[u8]>,
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScramKeys({}, hidden)", self.hash.method())
    }
}

/// The text as SCRAM compares it (SASLprep, RFC 4013); as it is where it can't be prepared.
pub fn prepared(text: &str) -> Cow<'_, str> {
    stringprep::saslprep(text).unwrap_or(Cow::Borrowed(text))
}

fn prepared_password(password: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(password).map(prepared) {
        Ok(Cow::Owned(text)) => text.into_bytes().into(),
        _ => password.into(),
    }
}

impl ScramKeys {
    /// The keys of `password` under `salt`, sixteen bytes that nobody can guess. Takes
    /// milliseconds.
    pub fn new(hash: ScramHash, password: &[u8], salt: [u8; 16]) -> ScramKeys {
        ScramKeys::derive(hash, password, &salt, ITERATIONS)
    }

    fn derive(hash: ScramHash, password: &[u8], salt: &[u8], iterations: u32) -> ScramKeys {
        let salted = hash.stretch(&prepared_password(password), salt, iterations);
        let stored = hash.hash(&hash.hmac(&salted, b"Client Key"));
        let server = hash.hmac(&salted, b"Server Key");
        ScramKeys { hash, iterations, salt: salt.into(), stored, server }
    }

    /// Reads what stands in a password file behind `$scram-sha-256$` or `$scram-sha-512$`:
    /// iterations, salt, stored key and server key.
    pub(super) fn parse(hash: ScramHash, rest: &str) -> Result<ScramKeys, &'static str> {
        const WRONG: &str = "the SCRAM keys are damaged; they are iterations, salt and two keys";
        let parts: Vec<&str> = rest.split('$').collect();
        let [iterations, salt, stored, server] = parts[..] else { return Err(WRONG) };
        let bytes = |text: &str| BASE64.decode(text).map(Vec::into_boxed_slice).map_err(|_| WRONG);
        let iterations = iterations.parse().map_err(|_| WRONG)?;
        let (salt, stored, server) = (bytes(salt)?, bytes(stored)?, bytes(server)?);
        if salt.is_empty() || [&stored, &server].iter().any(|key| key.len() != hash.bytes()) {
            return Err(WRONG);
        }
        if !ITERATION_BOUNDS.contains(&iterations) {
            return Err("the SCRAM keys have less than 4096 iterations or more than ten million");
        }
        Ok(ScramKeys { hash, iterations, salt, stored, server })
    }

    pub(super) fn to_text(&self) -> String {
        let [salt, stored, server] =
            [&self.salt, &self.stored, &self.server].map(|bytes| BASE64.encode(bytes));
        let name = self.hash.method().to_lowercase();
        format!("${name}${}${salt}${stored}${server}", self.iterations)
    }

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        let keys = ScramKeys::derive(self.hash, password, &self.salt, self.iterations);
        keys.stored.ct_eq(&self.stored).into()
    }

    /// For which mechanism they are.
    pub fn hash(&self) -> ScramHash {
        self.hash
    }

    /// Keys that look like those of `user` and that no password has; the same for the same name.
    pub(super) fn decoy(&self, user: &str) -> ScramKeys {
        let made = |what: &str| {
            let text = format!("{what},{user}");
            self.hash.hmac(&self.server, text.as_bytes())
        };
        let salt = made("salt").iter().copied().take(self.salt.len()).collect();
        ScramKeys { salt, stored: made("stored"), server: made("server"), ..self.clone() }
    }
}

/// What the client has sent first.
struct First<'a> {
    /// What stands before the message itself, which the client repeats at the end.
    header: &'a str,
    bare: &'a str,
    user: String,
    nonce: &'a str,
}

/// Why an exchange can't go on; said to nobody but the log.
pub type ScramFault = &'static str;

/// What a server keeps between its first message and the client's last. Pure value.
#[derive(Clone, PartialEq, Eq)]
pub struct Exchange {
    user: Box<str>,
    keys: ScramKeys,
    header: Box<str>,
    nonce: Box<str>,
    /// Both first messages, as the proof is about them.
    messages: Box<str>,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exchange({:?}, hidden)", self.user)
    }
}

impl Exchange {
    /// Begins with the client's first message. `keys` gives the keys of a user name; `nonce` is
    /// text that nobody can guess, without commas. Gives the server's first message.
    ///
    /// # Errors
    /// The message is none, or wants what is not offered (channel binding, another identity).
    pub fn begin(
        message: &[u8],
        nonce: &str,
        keys: impl FnOnce(&str) -> ScramKeys,
    ) -> Result<(Vec<u8>, Exchange), ScramFault> {
        let first = first(message)?;
        let keys = keys(&first.user);
        let nonce = format!("{}{nonce}", first.nonce);
        let (salt, iterations) = (BASE64.encode(&keys.salt), keys.iterations);
        let answer = format!("r={nonce},s={salt},i={iterations}");
        let exchange = Exchange {
            messages: format!("{},{answer}", first.bare).into(),
            header: first.header.into(),
            user: first.user.into(),
            nonce: nonce.into(),
            keys,
        };
        Ok((answer.into_bytes(), exchange))
    }

    /// The authentication method of the exchange.
    pub fn method(&self) -> &'static str {
        self.keys.hash.method()
    }

    /// Who the client says that it is.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Ends with the client's last message: gives the server's, by which the client knows that the
    /// server is the one that has its keys.
    ///
    /// # Errors
    /// The client has not proven that it knows the password.
    pub fn finish(&self, message: &[u8]) -> Result<Vec<u8>, ScramFault> {
        let text = text(message)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or("the proof is missing")?;
        let mut parts = without_proof.split(',');
        let binding = parts.next().and_then(|part| part.strip_prefix("c="));
        let binding = binding.and_then(|text| BASE64.decode(text).ok());
        if binding.as_deref() != Some(self.header.as_bytes()) {
            return Err("the channel binding is not what the exchange began with");
        }
        if parts.next().and_then(|part| part.strip_prefix("r=")) != Some(&*self.nonce) {
            return Err("the nonce is not that of this exchange");
        }
        let proof = BASE64.decode(proof).map_err(|_| "the proof is no base64")?;
        let (hash, keys) = (self.keys.hash, &self.keys);
        let signed = format!("{},{without_proof}", self.messages);
        let signature = hash.hmac(&keys.stored, signed.as_bytes());
        if proof.len() != signature.len() {
            return Err("the proof has the wrong length");
        }
        let key: Vec<u8> = proof.iter().zip(&*signature).map(|(a, b)| a ^ b).collect();
        if !bool::from(hash.hash(&key).ct_eq(&keys.stored)) {
            return Err("the proof is wrong");
        }
        let signature = hash.hmac(&keys.server, signed.as_bytes());
        Ok(format!("v={}", BASE64.encode(signature)).into_bytes())
    }
}

fn text(message: &[u8]) -> Result<&str, ScramFault> {
    if message.len() > MOST_BYTES {
        return Err("the message is too long");
    }
    std::str::from_utf8(message).map_err(|_| "the message is not UTF-8")
}

fn first(message: &[u8]) -> Result<First<'_>, ScramFault> {
    const CUT: ScramFault = "the first message is cut short";
    let text = text(message)?;
    let (flag, rest) = text.split_once(',').ok_or(CUT)?;
    let (identity, bare) = rest.split_once(',').ok_or(CUT)?;
    if flag != "n" && flag != "y" {
        return Err("channel binding is not offered");
    }
    let header = &text[..text.len() - bare.len()];
    let mut parts = bare.split(',');
    let name = parts.next().and_then(|part| part.strip_prefix("n="));
    let name = name.ok_or("the user name is missing, or an extension is not known")?;
    let user = unescaped(name)?;
    if !identity.is_empty() && identity.strip_prefix("a=") != Some(name) {
        return Err("acting for another user is not offered");
    }
    let nonce = parts.next().and_then(|part| part.strip_prefix("r="));
    let nonce = nonce.ok_or("the nonce is missing")?;
    if nonce.is_empty() || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the nonce is empty or not printable");
    }
    let user = stringprep::saslprep(&user).map_err(|_| "the user name has forbidden characters")?;
    if user.is_empty() {
        return Err("the user name is empty");
    }
    Ok(First { header, bare, user: user.into_owned(), nonce })
}

/// A name without the escapes of commas and equals signs.
fn unescaped(name: &str) -> Result<String, ScramFault> {
    let mut pieces = name.split('=');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => out.extend([",", rest]),
            (_, Some(rest)) => out.extend(["=", rest]),
            _ => return Err("the user name has an escape that is none"),
        }
    }
    Ok(out)
}

/// The client's side, written from the RFC: its last message for a first one of the server, and
/// the server's that it expects then.
#[cfg(test)]
pub(crate) fn client_final(
    hash: ScramHash,
    password: &str,
    (header, bare): (&str, &str),
    server_first: &str,
) -> (String, String) {
    let field = |name: &str| {
        let mut parts = server_first.split(',');
        parts.find_map(|part| part.strip_prefix(name)).expect(name)
    };
    let salt = BASE64.decode(field("s=")).expect("base64");
    let iterations = field("i=").parse().expect("a number");
    let salted = hash.stretch(password.as_bytes(), &salt, iterations);
    let key = hash.hmac(&salted, b"Client Key");
    let without_proof = format!("c={},r={}", BASE64.encode(header), field("r="));
    let signed = format!("{bare},{server_first},{without_proof}");
    let signature = hash.hmac(&hash.hash(&key), signed.as_bytes());
    let proof: Vec<u8> = key.iter().zip(&*signature).map(|(a, b)| a ^ b).collect();
    let server = hash.hmac(&hash.hmac(&salted, b"Server Key"), signed.as_bytes());
    let expected = format!("v={}", BASE64.encode(server));
    (format!("{without_proof},p={}", BASE64.encode(proof)), expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_comes_out_byte_for_byte() {
        // RFC 7677, section 3.
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let keys = ScramKeys::derive(ScramHash::Sha256, b"pencil", &salt, 4096);
        let first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
        let nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let (answer, exchange) = Exchange::begin(first, nonce, |user| {
            assert_eq!(user, "user");
            keys
        })
        .expect("valid");
        let expected = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(String::from_utf8(answer).expect("text"), expected);
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let answer = exchange.finish(last.as_bytes()).expect("proven");
        assert_eq!(answer, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn only_who_knows_the_password_comes_to_the_end() {
        for hash in ScramHash::ALL {
            let keys = ScramKeys::new(hash, "p\u{ad}encil".as_bytes(), [7; 16]);
            let text = keys.to_text();
            let rest = text.strip_prefix(&format!("${}$", hash.method().to_lowercase()));
            let read = ScramKeys::parse(hash, rest.expect("its prefix"));
            assert_eq!(read.as_ref(), Ok(&keys));
            assert!(keys.verify(b"pencil") && !keys.verify(b"pencils"), "prepared before hashing");
            let bare = "n=a=2Cb=3D,r=abc";
            let begin = |keys: &ScramKeys| {
                let first = format!("y,,{bare}");
                let begun = Exchange::begin(first.as_bytes(), "xyz", |_| keys.clone());
                begun.expect("valid")
            };
            let (answer, exchange) = begin(&keys);
            assert_eq!(exchange.user(), "a,b=");
            let server_first = String::from_utf8(answer).expect("text");
            let (last, expected) = client_final(hash, "pencil", ("y,,", bare), &server_first);
            assert_eq!(exchange.finish(last.as_bytes()), Ok(expected.into_bytes()));
            let (wrong, _) = client_final(hash, "pen", ("y,,", bare), &server_first);
            let (other, _) = client_final(hash, "pencil", ("n,,", bare), &server_first);
            let replayed = server_first.replace("abcxyz", "abcxyy");
            let (replayed, _) = client_final(hash, "pencil", ("y,,", bare), &replayed);
            let short = last.rsplit_once(",p=").expect("a proof").0;
            for bad in
                [&wrong, &other, &replayed, short, &format!("{short},p=AAAA"), "", "c=,r=,p="]
            {
                assert!(exchange.finish(bad.as_bytes()).is_err(), "{bad}");
            }
            // A name that is not there looks like one that is, each time the same.
            let decoy = keys.decoy("mallory");
            assert_eq!(decoy, keys.decoy("mallory"));
            assert_ne!(decoy.salt, keys.decoy("malice").salt);
            assert_eq!((decoy.salt.len(), decoy.iterations), (keys.salt.len(), keys.iterations));
            let (answer, exchange) = begin(&decoy);
            let server_first = String::from_utf8(answer).expect("text");
            let (last, _) = client_final(hash, "pencil", ("y,,", bare), &server_first);
            assert_eq!(exchange.finish(last.as_bytes()), Err("the proof is wrong"));
        }
    }

    #[test]
    fn what_is_no_first_message_is_refused() {
        let keys = ScramKeys::new(ScramHash::Sha256, b"x", [7; 16]);
        let long = format!("n,,n={},r=a", "x".repeat(MOST_BYTES));
        for bad in [
            "",
            "n",
            "n,",
            "n,,",
            "n,,n=a",
            "n,,r=a,n=a",
            "n,,n=a,r=",
            "n,,n=a,r=\u{e9}",
            "n,,n=,r=a",
            "n,,n=a=2,r=a",
            "n,,n=a=2c,r=a",
            "n,,n=\u{7},r=a",
            "n,,m=x,n=a,r=a",
            "n,a=b,n=a,r=a",
            "p=tls-unique,,n=a,r=a",
            "x,,n=a,r=a",
            &long,
        ] {
            let begun = Exchange::begin(bad.as_bytes(), "b", |_| keys.clone());
            assert!(begun.is_err(), "{bad:?}");
        }
        assert!(Exchange::begin(b"n,,n=\xff,r=a", "b", |_| keys.clone()).is_err());
        for good in ["n,a=a,n=a,r=a", "y,,n=a,r=a,x=extension"] {
            assert!(Exchange::begin(good.as_bytes(), "b", |_| keys.clone()).is_ok(), "{good}");
        }
        for bad in ["", "4096$AA==", "4095$AA==$AA==$AA==", "x$AA==$AA==$AA=="] {
            assert!(ScramKeys::parse(ScramHash::Sha256, bad).is_err(), "{bad}");
        }
    }
}
