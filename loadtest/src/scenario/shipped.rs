//! The scenarios inside the binary.

use super::{Scenario, ScenarioError, parse};

macro_rules! shipped {
    ($($name:literal)+; $($transport:literal)+) => {
        /// Name and text of each shipped scenario, in order.
        pub const SHIPPED: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../scenarios/", $name, ".toml"))),)+
            $((concat!("S14-", $transport), concat!(
                "name = \"S14-", $transport, "\"\ntransport = \"", $transport, "\"\n",
                include_str!("../../scenarios/S14.toml"),
            )),)+
        ];
    };
}

shipped! {
    "S1" "S2" "S3" "S4" "S5" "S6" "S7" "S8" "S9" "S10" "S11" "S12" "S13";
    "tls" "ws" "wss"
}

/// Their names, for people.
pub const SHIPPED_NAMES: &str = "S1 to S13, S14-tls, S14-ws and S14-wss";

/// The shipped scenario with this name (case does not matter), or the one in the file of that
/// path.
///
/// # Errors
/// No such name and no such file, or the file is wrong.
pub fn find(name: &str) -> Result<Scenario, ScenarioError> {
    let shipped = SHIPPED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    if let Some((known, text)) = shipped {
        return parse(known, text);
    }
    let text = std::fs::read_to_string(name).map_err(|error| ScenarioError {
        source: name.to_owned(),
        line: 0,
        what: format!("{error}; give a path, or one of the shipped scenarios: {SHIPPED_NAMES}"),
    })?;
    parse(name, &text)
}
