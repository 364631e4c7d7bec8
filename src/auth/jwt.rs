//! Clients that prove who they are by a signed token.

use super::chain::Said;
use super::claims::{self, ClaimNames, Claims};
use super::keys::{KeySet, Keys};
use super::settings::JwtSettings;
use crate::access::{Credentials, Verdict};
use crate::config::{JwtConfig, TokenAlgorithm, TokenField};
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::Value;
use std::io;
use std::sync::Arc;

/// Checks tokens of one issuer.
pub(super) struct Jwt {
    settings: JwtSettings,
    keys: Keys,
}

impl Jwt {
    /// Begins to fetch keys where they are fetched.
    ///
    /// # Errors
    /// When the host allows no more threads.
    pub(super) fn start(settings: &JwtSettings) -> io::Result<Jwt> {
        install_cryptography();
        let (config, bytes) = (&settings.config, settings.keys.bytes());
        let keys = if config.jwks_url.given().is_some() {
            Keys::fetched(config, &settings.authorities)?
        } else {
            let keys = match config.key_file.given() {
                Some(_) => KeySet::of_file(bytes, config.algorithms.as_slice()),
                None => KeySet::of_jwks(bytes),
            };
            Keys::Fixed(Arc::new(keys.unwrap_or_default()))
        };
        Ok(Jwt { settings: settings.clone(), keys })
    }

    /// Whose the token is. `now_s` are seconds since 1970.
    pub(super) fn judge(&self, credentials: &Credentials, now_s: u64) -> Said {
        let config = &self.settings.config;
        let token = match config.token {
            TokenField::Password => credentials.password.as_deref(),
            TokenField::UserName => credentials.user.as_deref().map(str::as_bytes),
        };
        let Some(token) = token else { return Said::NotMine };
        let claims = match self.claims(token) {
            Ok(claims) => claims,
            Err(said) => return said,
        };
        let given = credentials.user.as_deref().filter(|_| config.token == TokenField::Password);
        match self.identity(&claims, given, now_s) {
            Ok(verdict) => Said::Verdict(verdict),
            Err(why) => {
                let (provider, client) = (config.name.as_str(), &*credentials.client_id);
                tracing::debug!(provider, client, "the token is refused: {why}");
                Said::Verdict(Verdict::Wrong)
            }
        }
    }

    /// What a token says whose signature is that of a key.
    fn claims(&self, token: &[u8]) -> Result<Claims, Said> {
        let config = &self.settings.config;
        let header = decode_header(token).map_err(|_| Said::NotMine)?;
        let believed = config.algorithms.as_slice().iter();
        if !believed.copied().map(algorithm).any(|one| one == header.alg) {
            return Err(Said::NotMine);
        }
        let keys = self.keys.current().ok_or(Said::Verdict(Verdict::Unavailable))?;
        let mut known = false;
        for key in keys.fitting(header.kid.as_deref(), header.alg) {
            known = true;
            if let Ok(token) = decode::<Claims>(token, key, &signature_only(header.alg)) {
                return Ok(token.claims);
            }
        }
        if !known {
            self.keys.refresh();
        }
        Err(Said::NotMine)
    }

    fn identity(
        &self,
        claims: &Claims,
        given: Option<&str>,
        now_s: u64,
    ) -> Result<Verdict, String> {
        let config = &self.settings.config;
        if let Some(issuer) = config.issuer.given()
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err("it has another issuer".into());
        }
        if let Some(audience) = config.audience.given()
            && !is_for(claims.get("aud"), audience)
        {
            return Err("it is for another audience".into());
        }
        let lasts_s = lifetime(claims, config, now_s)?;
        let names = ClaimNames {
            user: config.user_claim.as_str(),
            groups: config.groups_claim.as_str(),
            clients: config.clients_claim.as_str(),
            acl: config.acl_claim.as_str(),
        };
        let mut identity = claims::identity(claims, names, given)?;
        identity.lasts_s = lasts_s.filter(|_| config.close_at_expiry);
        Ok(Verdict::Proven(Box::new(identity)))
    }
}

/// Seconds for which a token is valid from now on; `None`: for ever.
fn lifetime(claims: &Claims, config: &JwtConfig, now_s: u64) -> Result<Option<u32>, String> {
    let leeway_s = u64::from(config.leeway_s);
    let date = |name: &str| match claims.get(name) {
        None => Ok(None),
        // Fractions are allowed (RFC 7519, section 2).
        Some(value) => match value.as_f64() {
            Some(seconds) => Ok(Some(seconds.max(0.0) as u64)),
            None => Err(format!("\"{name}\" is no date")),
        },
    };
    if date("nbf")?.is_some_and(|begin| begin > now_s.saturating_add(leeway_s)) {
        return Err("it is not valid yet".into());
    }
    let Some(end) = date("exp")? else {
        return match config.require_expiry {
            true => Err("it has no end (exp), and require_expiry is true".into()),
            false => Ok(None),
        };
    };
    match end.saturating_add(leeway_s).checked_sub(now_s) {
        None | Some(0) => Err("it has expired".into()),
        Some(left) => Ok(Some(u32::try_from(left).unwrap_or(u32::MAX))),
    }
}

fn is_for(audience: Option<&Value>, wanted: &str) -> bool {
    match audience {
        Some(Value::String(one)) => one == wanted,
        Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(wanted)),
        _ => false,
    }
}

/// The library checks the signature; claims are checked here, against a clock that is an argument.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

fn algorithm(algorithm: TokenAlgorithm) -> Algorithm {
    match algorithm {
        TokenAlgorithm::Hs256 => Algorithm::HS256,
        TokenAlgorithm::Hs384 => Algorithm::HS384,
        TokenAlgorithm::Hs512 => Algorithm::HS512,
        TokenAlgorithm::Rs256 => Algorithm::RS256,
        TokenAlgorithm::Rs384 => Algorithm::RS384,
        TokenAlgorithm::Rs512 => Algorithm::RS512,
        TokenAlgorithm::Ps256 => Algorithm::PS256,
        TokenAlgorithm::Ps384 => Algorithm::PS384,
        TokenAlgorithm::Ps512 => Algorithm::PS512,
        TokenAlgorithm::Es256 => Algorithm::ES256,
        TokenAlgorithm::Es384 => Algorithm::ES384,
        TokenAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

/// Chooses who computes signatures, as the library wants it where it was built with both.
pub(super) fn install_cryptography() {
    #[cfg(feature = "tls-aws-lc")]
    let provider = &jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
    #[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc")))]
    let provider = &jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
    // It was done before.
    let _ = provider.install_default();
}
