//! What must hold between the keys of those who check credentials, and how listeners name them.

use super::choice::{Choice, TokenAlgorithm};
use super::fault::Fault;
use super::read::Scan;
use super::{Config, HttpConfig, JwtConfig, Url};

/// What `listener.authentication` calls the password file.
const PASSWORD: &str = "password";

/// The key, what is wrong with it, and what mends it.
type Wrong = (&'static str, &'static str, &'static str);

impl Config {
    /// The names of all who check credentials, in the order in which they are asked where a
    /// listener names none.
    pub fn providers(&self) -> Vec<&str> {
        let password = self.access.password_file.given().map(|_| PASSWORD);
        let tokens = self.auth_jwt.iter().map(|one| one.name.as_str());
        let requests = self.auth_http.iter().map(|one| one.name.as_str());
        password.into_iter().chain(tokens).chain(requests).collect()
    }
}

/// Files a fault for each key that says nothing without another one, and for each unknown name.
pub(super) fn check(config: &Config, scan: &mut Scan) {
    for (at, provider) in config.auth_jwt.iter().enumerate() {
        file(&format!("auth_jwt[{at}]"), token_faults(provider), scan);
    }
    for (at, provider) in config.auth_http.iter().enumerate() {
        file(&format!("auth_http[{at}]"), request_faults(provider), scan);
    }
    check_names(config, scan);
    check_chains(config, scan);
}

fn file(path: &str, faults: Vec<Wrong>, scan: &mut Scan) {
    if scan.is_faulty(path) {
        return;
    }
    for (key, reason, remedy) in faults {
        let key = format!("{path}.{key}");
        let line = scan.line_of(&key).or_else(|| scan.line_of(path));
        scan.file(Fault { line, key, reason: reason.into(), remedy: remedy.into() });
    }
}

/// Algorithms of one kind have one kind of key.
fn family(algorithm: TokenAlgorithm) -> &'static str {
    match algorithm.word().get(..2) {
        Some("PS") => "RS",
        Some(family) => family,
        None => "",
    }
}

fn token_faults(provider: &JwtConfig) -> Vec<Wrong> {
    let sources = [
        provider.key_file.given().is_some(),
        provider.jwks_file.given().is_some(),
        provider.jwks_url.given().is_some(),
    ];
    let algorithms = provider.algorithms.as_slice();
    let mixed = algorithms.windows(2).any(|two| family(two[0]) != family(two[1]));
    let mut faults = Vec::new();
    if algorithms.is_empty() {
        faults.push((
            "algorithms",
            "nobody can tell which signatures are believed",
            "write algorithms = [\"ES256\"] or those that your issuer uses",
        ));
    }
    if sources.iter().filter(|given| **given).count() != 1 {
        faults.push((
            "key_file",
            "the key of tokens comes from one place",
            "write one of key_file, jwks_file and jwks_url",
        ));
    }
    if sources[0] && mixed {
        faults.push((
            "algorithms",
            "one key does not fit all of these algorithms",
            "name those of one kind (HS, RS with PS, ES, EdDSA), or use a key set",
        ));
    }
    faults.extend(authorities(&provider.jwks_url, provider.ca_file.given().is_some()));
    faults
}

fn request_faults(provider: &HttpConfig) -> Vec<Wrong> {
    let mut faults = Vec::new();
    if provider.url.given().is_none() {
        faults.push((
            "url",
            "nobody can be asked without an address",
            "write url = \"http://127.0.0.1:8080/mqtt\"",
        ));
    }
    faults.extend(authorities(&provider.url, provider.ca_file.given().is_some()));
    faults
}

fn authorities(url: &Url, named: bool) -> Option<Wrong> {
    let remedy = "write ca_file = \"/etc/ssl/certs/ca-certificates.crt\" or your own";
    (url.is_encrypted() && !named).then_some((
        "ca_file",
        "nobody is named by whom the server is believed",
        remedy,
    ))
}

fn check_names(config: &Config, scan: &mut Scan) {
    let mut known = vec![PASSWORD];
    let tokens = config.auth_jwt.iter().map(|one| &one.name);
    let requests = config.auth_http.iter().map(|one| &one.name);
    let paths = (0..).map(|at| format!("auth_jwt[{at}]")).zip(tokens);
    let paths = paths.chain((0..).map(|at| format!("auth_http[{at}]")).zip(requests));
    for (path, name) in paths {
        if known.contains(&name.as_str()) {
            let key = format!("{path}.name");
            let line = scan.line_of(&key).or_else(|| scan.line_of(&path));
            let reason = format!("\"{}\" is the name of another provider", name.as_str());
            scan.file(Fault { line, key, reason, remedy: "write another name".into() });
        }
        known.push(name.as_str());
    }
}

fn check_chains(config: &Config, scan: &mut Scan) {
    let known = config.providers();
    for (at, listener) in config.listeners.iter().enumerate() {
        let key = format!("listener[{at}].authentication");
        let names = listener.authentication.as_slice();
        for (place, name) in names.iter().enumerate() {
            let reason = match () {
                () if names[..place].contains(name) => format!("\"{name}\" stands there twice"),
                () if known.contains(&&**name) => continue,
                () if **name == *PASSWORD => "there is no access.password_file".into(),
                () => format!("there is no provider \"{name}\""),
            };
            let remedy = match known.is_empty() {
                true => "write [access] password_file, [[auth_jwt]] or [[auth_http]]".into(),
                false => format!("name each of {} once at most", known.join(", ")),
            };
            scan.file(Fault { line: scan.line_of(&key), key: key.clone(), reason, remedy });
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    #[test]
    fn providers_that_lack_something_say_what() {
        let jwt = "[[auth_jwt]]\n";
        let http = "[[auth_http]]\n";
        let chain = "[[listener]]\nauthentication = ";
        for (text, line, said) in [
            (format!("{jwt}key_file = \"a\""), 1, "algorithms"),
            (format!("{jwt}algorithms = [\"ES256\"]"), 1, "one of key_file, jwks_file"),
            (format!("{jwt}algorithms = [\"none\"]\nkey_file = \"a\""), 2, "\"none\" is no"),
            (format!("{jwt}key_file = \"a\"\nalgorithms = [\"HS256\", \"RS256\"]"), 3, "one key"),
            (format!("{jwt}algorithms = [\"RS256\"]\njwks_url = \"https://a/k\""), 1, "ca_file"),
            (format!("{jwt}algorithms = [\"RS256\"]\njwks_url = \"ftp://a/k\""), 3, "https://"),
            (http.into(), 1, "nobody can be asked"),
            (format!("{http}url = \"https://a/\""), 1, "ca_file"),
            (format!("{http}url = \"http://u:p@a/\""), 2, "without user and password"),
            (format!("{http}url = \"http://a/\"\nname = \"password\""), 3, "another provider"),
            (format!("{chain}[\"password\"]"), 2, "no access.password_file"),
            (format!("{chain}[\"ldap\"]"), 2, "no provider \"ldap\""),
            (format!("{chain}[]"), 2, "an empty list"),
        ] {
            let faults = parse(&text).expect_err(&text);
            let shown = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            assert!(shown.contains(&format!("line {line}: ")), "{text}\n{shown}");
            assert!(shown.contains(said), "{text}\n{shown}");
        }
        let text = "[access]\npassword_file = \"users\"\n[[auth_jwt]]\nalgorithms = [\"RS256\", \
                    \"PS256\"]\nkey_file = \"key.pem\"\n[[auth_http]]\nurl = \"http://[::1]:80\"\n\
                    [[listener]]\naddress = \"0.0.0.0:1883\"\n\
                    authentication = [\"http\", \"jwt\"]\n";
        let config = parse(text).expect("valid");
        assert_eq!(config.providers(), ["password", "jwt", "http"]);
        assert!(!config.listeners[0].allow_anonymous, "closed to the anonymous by itself");
    }
}
