//! Tokens of all algorithms, and every way in which one can be wrong.

use super::super::chain::Said;
use super::super::jwt::Jwt;
use super::super::settings::ProviderSettings;
use super::service::{Service, answer};
use super::{Asker, PATIENCE, Place, credentials, judge, proven, refused};
use crate::access::{Credentials, Verdict};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Map, Value, json};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub(super) const SECRET: &[u8] = b"not very random, but thirty-two bytes long";
const NOW_S: u64 = 1_000_000;

fn with_key(algorithm: Algorithm, id: Option<&str>, key: &EncodingKey, claims: &Value) -> String {
    let header = Header { kid: id.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, claims, key).expect("a token")
}

/// A token that is valid for an hour from the real now.
pub(super) fn signed(claims: &[(&str, Value)]) -> String {
    super::super::jwt::install_cryptography();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let mut all = Map::from_iter([("exp".to_owned(), json!(now + 3600))]);
    all.extend(claims.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    with_key(Algorithm::HS256, None, &EncodingKey::from_secret(SECRET), &Value::Object(all))
}

/// The provider of a configuration that has one.
fn provider(place: &Place, text: &str) -> Jwt {
    let provisions = place.provisions(text).expect(text);
    match &provisions.chains.providers[0] {
        ProviderSettings::Jwt(settings) => Jwt::start(settings).expect("threads"),
        other => panic!("{other:?}"),
    }
}

fn with_secret(more: &str) -> Jwt {
    let place = Place::new();
    place.write("secret", [SECRET, b"\n"].concat());
    let text = "[[auth_jwt]]\nalgorithms = [\"HS256\", \"HS512\"]\nkey_file = \"secret\"\n";
    provider(&place, &format!("{text}{more}"))
}

fn hmac(claims: &Value) -> String {
    with_key(Algorithm::HS256, None, &EncodingKey::from_secret(SECRET), claims)
}

fn ask(jwt: &Jwt, token: &str) -> Option<Verdict> {
    match jwt.judge(&credentials("typed", token), NOW_S) {
        Said::Verdict(verdict) => Some(verdict),
        Said::NotMine => None,
    }
}

#[test]
fn times_issuer_and_audience_are_judged_after_the_signature() {
    let plain = with_secret("");
    let lasts = |claims: &Value| proven(ask(&plain, &hmac(claims)).expect("mine")).lasts_s;
    assert_eq!(lasts(&json!({"sub": "a", "exp": NOW_S + 60})), Some(90), "with the leeway");
    assert_eq!(lasts(&json!({"sub": "a", "exp": NOW_S as f64 - 28.5})), Some(1), "fractions");
    assert_eq!(lasts(&json!({"sub": "a", "exp": 1e300})), Some(u32::MAX));
    for (claims, why) in [
        (json!({"sub": "a", "exp": NOW_S - 30}), "expired"),
        (json!({"sub": "a", "exp": -5}), "long ago"),
        (json!({"sub": "a", "exp": "soon"}), "no date"),
        (json!({"sub": "a"}), "without an end"),
        (json!({"sub": "a", "exp": NOW_S + 60, "nbf": NOW_S + 31}), "not yet"),
        (json!({"exp": NOW_S + 60}), "nobody is named"),
    ] {
        assert_eq!(ask(&plain, &hmac(&claims)), Some(Verdict::Wrong), "{why}");
    }
    let early = json!({"sub": "a", "exp": NOW_S + 60, "nbf": NOW_S + 30});
    proven(ask(&plain, &hmac(&early)).expect("mine"));

    let endless = with_secret("require_expiry = false\n");
    assert_eq!(proven(ask(&endless, &hmac(&json!({"sub": "a"}))).expect("mine")).lasts_s, None);
    let kept = with_secret("close_at_expiry = false\n");
    let token = hmac(&json!({"sub": "a", "exp": NOW_S + 60}));
    assert_eq!(proven(ask(&kept, &token).expect("mine")).lasts_s, None);

    let strict = with_secret("issuer = \"here\"\naudience = \"mqtt\"\n");
    let of = |issuer: &Value, audience: &Value| {
        let claims = json!({"sub": "a", "exp": NOW_S + 60, "iss": issuer, "aud": audience});
        ask(&strict, &hmac(&claims)).expect("mine")
    };
    proven(of(&json!("here"), &json!("mqtt")));
    proven(of(&json!("here"), &json!(["web", "mqtt"])));
    for (issuer, audience) in [
        (json!("there"), json!("mqtt")),
        (json!(null), json!("mqtt")),
        (json!("here"), json!("web")),
        (json!("here"), json!(null)),
        (json!("here"), json!([])),
    ] {
        assert_eq!(of(&issuer, &audience), Verdict::Wrong);
    }
    let named = with_secret("user_claim = \"\"\n");
    assert_eq!(&*proven(ask(&named, &token).expect("mine")).user, "typed");
}

#[test]
fn a_token_may_come_as_user_name() {
    let jwt = with_secret("token = \"user_name\"\nuser_claim = \"\"\n");
    let token = hmac(&json!({"exp": NOW_S + 60, "sub": "a"}));
    let asked = |user: &str| match jwt.judge(&credentials(user, "x"), NOW_S) {
        Said::Verdict(verdict) => Some(verdict),
        Said::NotMine => None,
    };
    assert_eq!(asked("typed"), None);
    // The token is no name.
    assert_eq!(asked(&token), Some(Verdict::Wrong));
    let jwt = with_secret("token = \"user_name\"\n");
    let nobody = Credentials { user: None, ..*credentials("", "x") };
    assert!(matches!(jwt.judge(&nobody, NOW_S), Said::NotMine));
}

#[test]
fn what_is_no_token_of_this_issuer_is_left_to_others() {
    let jwt = with_secret("");
    let token = hmac(&json!({"sub": "a", "exp": NOW_S + 60}));
    let (head, rest) = token.split_once('.').expect("three parts");
    let (body, signature) = rest.split_once('.').expect("three parts");
    let none = BASE64.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let flipped: String = signature.chars().rev().collect();
    let other = BASE64.encode(format!(r#"{{"sub":"root","exp":{}}}"#, NOW_S + 60));
    let short = &signature[..signature.len() - 4];
    for token in [
        "",
        "right",
        "a.b.c",
        &format!("{none}.{body}."),
        &format!("{none}.{body}.{signature}"),
        &format!("{head}.{body}."),
        &format!("{head}.{body}"),
        &format!("{head}.{body}.{flipped}"),
        &format!("{head}.{body}.{short}"),
        &format!("{head}.{other}.{signature}"),
        &with_key(Algorithm::HS384, None, &EncodingKey::from_secret(SECRET), &json!({"sub": "a"})),
    ] {
        assert_eq!(ask(&jwt, token), None, "{token}");
    }
}

/// A key of each kind that `rcgen` makes, its algorithm's name, and its public key as JWK.
fn pairs() -> Vec<(Algorithm, &'static str, KeyPair)> {
    let pair = |kind| KeyPair::generate_for(kind).expect("a pair");
    vec![
        (Algorithm::ES256, "ES256", pair(&rcgen::PKCS_ECDSA_P256_SHA256)),
        (Algorithm::ES384, "ES384", pair(&rcgen::PKCS_ECDSA_P384_SHA384)),
        (Algorithm::EdDSA, "EdDSA", pair(&rcgen::PKCS_ED25519)),
        (Algorithm::RS256, "RS256", pair(&rcgen::PKCS_RSA_SHA256)),
        (Algorithm::PS512, "PS512", pair(&rcgen::PKCS_RSA_SHA512)),
    ]
}

fn private(algorithm: Algorithm, pair: &KeyPair) -> EncodingKey {
    let pem = pair.serialize_pem();
    match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem.as_bytes()),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
        _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
    }
    .expect("a private key")
}

#[test]
fn every_algorithm_checks_with_its_own_key_only() {
    let place = Place::new();
    let pairs = pairs();
    let text =
        |name: &str| format!("[[auth_jwt]]\nalgorithms = [\"{name}\"]\nkey_file = \"{name}\"\n");
    for (_, name, pair) in &pairs {
        place.write(name, pair.public_key_pem());
    }
    let claims = json!({"sub": "a", "exp": NOW_S + 60});
    for (at, (_, name, _)) in pairs.iter().enumerate() {
        let jwt = provider(&place, &text(name));
        for (other, (algorithm, signer, pair)) in pairs.iter().enumerate() {
            let token = with_key(*algorithm, None, &private(*algorithm, pair), &claims);
            assert_eq!(ask(&jwt, &token).is_some(), at == other, "{signer} at {name}");
        }
        // The public key taken for a secret: the classic confusion.
        let pem = std::fs::read(place.0.join(name)).expect("written");
        let token = with_key(Algorithm::HS256, None, &EncodingKey::from_secret(&pem), &claims);
        assert_eq!(ask(&jwt, &token), None, "{name}");
    }
    let wrong = "[[auth_jwt]]\nalgorithms = [\"RS256\"]\nkey_file = \"ES256\"\n";
    assert!(refused(&place, wrong).contains("no PEM file of such a public key"));
    place.write("short", "secret");
    let short = "[[auth_jwt]]\nalgorithms = [\"HS256\"]\nkey_file = \"short\"\n";
    assert!(refused(&place, short).contains("less than 32 bytes"));
}

/// The public keys of `pairs` as a set; identifiers are the names of the algorithms.
fn key_set(pairs: &[(Algorithm, &'static str, KeyPair)]) -> Value {
    let keys = pairs.iter().filter_map(|(algorithm, name, pair)| {
        let raw = pair.der_bytes();
        let half = raw.len() / 2;
        let text = |bytes: &[u8]| BASE64.encode(bytes);
        match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => Some(json!({
                "kty": "EC", "kid": name, "alg": name, "use": "sig",
                "crv": if *name == "ES256" { "P-256" } else { "P-384" },
                "x": text(&raw[1..=half]), "y": text(&raw[half + 1..]),
            })),
            Algorithm::EdDSA => {
                Some(json!({"kty": "OKP", "crv": "Ed25519", "kid": name, "x": text(raw)}))
            }
            _ => None,
        }
    });
    json!({"keys": keys.collect::<Vec<_>>()})
}

#[test]
fn a_key_set_knows_its_keys_by_name() {
    let (place, pairs) = (Place::new(), pairs());
    place.write("set.json", key_set(&pairs).to_string());
    let text = "[[auth_jwt]]\nalgorithms = [\"ES256\", \"ES384\", \"EdDSA\"]\n\
                jwks_file = \"set.json\"\n";
    let jwt = provider(&place, text);
    let claims = json!({"sub": "a", "exp": NOW_S + 60});
    for (algorithm, name, pair) in &pairs[..3] {
        let with = |id| with_key(*algorithm, id, &private(*algorithm, pair), &claims);
        proven(ask(&jwt, &with(Some(name))).expect("mine"));
        proven(ask(&jwt, &with(None)).expect("found without its name"));
        assert_eq!(ask(&jwt, &with(Some("other"))), None, "no key has this name");
    }
    for (bad, said) in [
        ("[]", "no JSON Web Key Set"),
        ("{\"keys\": []}", "no key for signatures"),
        (r#"{"keys": [{"kty": "oct", "k": "c2hvcnQ"}]}"#, "no key for signatures"),
        (r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "use": "enc"}]}"#, "no key"),
    ] {
        place.write("set.json", bad);
        let told = refused(&place, text);
        assert!(told.contains(said), "{bad}: {told}");
    }
}

#[test]
fn fetched_keys_are_fetched_again_for_a_name_that_is_new() {
    let (place, pairs) = (Place::new(), pairs());
    let service = Service::start();
    let text = format!(
        "[[auth_jwt]]\nalgorithms = [\"ES256\", \"EdDSA\"]\njwks_url = \"{}\"\n\
         jwks_refresh_s = 1\n",
        service.url()
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let claims = json!({"sub": "a", "exp": now + 600});
    let token = |at: usize| {
        let (algorithm, name, pair) = &pairs[at];
        with_key(*algorithm, Some(name), &private(*algorithm, pair), &claims)
    };
    let judge = judge(&place, &text);
    let mut asker = Asker::new(&judge);
    // Nobody has answered so far.
    let request = service.next();
    assert_eq!(asker.ask(credentials("x", &token(0))), Verdict::Unavailable);
    request.send(&answer(200, &key_set(&pairs[..1]).to_string()));
    let fetched = |asker: &mut Asker, token: &str, wanted: bool| {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let verdict = asker.ask(credentials("x", token));
            if matches!(verdict, Verdict::Proven(_)) == wanted {
                return;
            }
            std::thread::yield_now();
            if let Some(request) = service.poll() {
                request.send(&answer(200, &key_set(&pairs[..3]).to_string()));
            }
        }
        panic!("the keys never came");
    };
    fetched(&mut asker, &token(0), true);
    assert_eq!(asker.ask(credentials("x", &token(2))), Verdict::Wrong);
    // Signatures of the next key make the keys be fetched again, without a restart.
    let request = service.next();
    request.send(&answer(500, ""));
    proven(asker.ask(credentials("x", &token(0))));
    let request = service.next();
    request.send(&answer(200, &key_set(&pairs[..3]).to_string()));
    fetched(&mut asker, &token(2), true);
}
