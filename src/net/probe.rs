//! What the process needs from the kernel, asked before any core starts, with remedies.

use std::fmt;
use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::event::DriverSettings;
use super::ring::{self, Ring};

/// Why io_uring cannot be used here, and what helps.
#[derive(Debug)]
pub struct ProbeError {
    cause: io::Error,
}

impl ProbeError {
    /// What the operator can do.
    pub fn remedy(&self) -> &'static str {
        match Errno::from_io_error(&self.cause) {
            Some(Errno::NOSYS) => {
                "the kernel was built without io_uring, or a sandbox hides it; corelane needs \
                 Linux 6.1 or later with CONFIG_IO_URING"
            }
            Some(Errno::PERM | Errno::ACCESS) => {
                "io_uring is forbidden here: set `sysctl kernel.io_uring_disabled=0`, and in a \
                 container allow io_uring_setup, io_uring_enter and io_uring_register in the \
                 seccomp profile"
            }
            Some(Errno::INVAL) => {
                "the kernel does not know the io_uring flags that corelane uses; it needs \
                 Linux 6.1 or later"
            }
            Some(Errno::NOMEM) => {
                "too little lockable memory: raise `ulimit -l` (LimitMEMLOCK= in a systemd \
                 unit), or make the rings and receive buffers smaller"
            }
            Some(Errno::MFILE | Errno::NFILE) => {
                "too few open files: raise `ulimit -n` (LimitNOFILE= in a systemd unit)"
            }
            _ => "corelane needs io_uring of Linux 6.1 or later",
        }
    }
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "io_uring is not usable: {}; {}", self.cause, self.remedy())
    }
}

impl std::error::Error for ProbeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Tries what a core will do: a ring with our flags, receive buffers, an eventfd.
///
/// # Errors
/// When any of it is refused.
pub fn probe(settings: &DriverSettings) -> Result<(), ProbeError> {
    let old_kernel = || ProbeError { cause: Errno::INVAL.into() };
    let io = ring::build(settings).map_err(|cause| ProbeError { cause })?;
    if !io.params().is_feature_ext_arg() || !io.params().is_feature_nodrop() {
        return Err(old_kernel());
    }
    drop(io);
    Ring::new(settings).map(drop).map_err(|cause| ProbeError { cause })
}

/// Raises the limit of open files as far as this process may; returns the limit that holds now.
///
/// # Errors
/// When the kernel refuses.
pub fn raise_open_files() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let reached = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.unwrap_or(u64::MAX) < reached {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised)?;
    }
    Ok(reached)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_passes_the_probe() {
        probe(&DriverSettings::default()).expect("io_uring is usable");
        assert!(raise_open_files().expect("the soft limit may rise") >= 256);
    }

    #[test]
    fn refusals_name_their_remedy() {
        let told = |errno: Errno| ProbeError { cause: errno.into() }.to_string();
        assert!(told(Errno::PERM).contains("kernel.io_uring_disabled"));
        assert!(told(Errno::PERM).contains("seccomp"));
        assert!(told(Errno::NOMEM).contains("ulimit -l"));
        assert!(told(Errno::INVAL).contains("6.1"));
        assert!(told(Errno::NOSYS).contains("CONFIG_IO_URING"));
    }
}
