//! placeholder
use crate::args::SoakArgs;
use std::io;
pub fn soak(_args: &SoakArgs) -> io::Result<bool> {
    Ok(true)
}
