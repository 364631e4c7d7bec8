//! Two ways for an idle core to sleep until a completion, a doorbell or a deadline.
//!
//! *Ring* blocks the thread in the driver's own ring: one system call, but glommio's tasks stand
//! still meanwhile. *Glommio* awaits the driver's bell as a read on glommio's ring, so that tasks
//! go on; it costs several system calls. `benches/sleep.rs` compares them.

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::time::Duration;

use glommio::io::BufferedFile;

use crate::net::Driver;

/// How a core sleeps when it has no choice forced upon it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Way {
    /// Block in the driver's ring.
    #[default]
    Ring,
    /// Await the driver's bell.
    Glommio,
}

/// Puts one core to sleep. Lives on the core, inside its executor.
pub struct Sleeper {
    way: Way,
    /// The driver's bell as glommio's file: glommio has no other public way to wait for an
    /// eventfd, and uses a read for its own as well.
    bell: BufferedFile,
}

impl Sleeper {
    /// A sleeper for the core that owns `driver`.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    ///
    /// # Panics
    /// Outside a glommio executor, and where the driver watches no eventfd.
    pub fn new(driver: &Driver, way: Way) -> io::Result<Sleeper> {
        let bell = driver.bell().expect("the driver watches its core's doorbell");
        let bell = bell.try_clone_to_owned()?.into_raw_fd();
        // SAFETY: the fd was made here, and its ownership goes to the file.
        let bell = unsafe { BufferedFile::from_raw_fd(bell) };
        Ok(Sleeper { way, bell })
    }

    /// Submits, then sleeps until something completes, the watched eventfd is written, or
    /// `at_most` has passed. May return early; returns at once when there is something to do.
    /// The future must run to its end.
    ///
    /// # Errors
    /// Only where the ring itself is broken: the core cannot go on.
    pub async fn sleep(&self, driver: &mut Driver, at_most: Option<Duration>) -> io::Result<()> {
        match self.way {
            Way::Ring => driver.wait(at_most),
            Way::Glommio => self.sleep_beside_tasks(driver, at_most).await,
        }
    }

    /// As [`Sleeper::sleep`], and lets other tasks of the executor run whatever the way: for a
    /// core with file operations in flight.
    ///
    /// # Errors
    /// As [`Sleeper::sleep`].
    pub async fn sleep_beside_tasks(
        &self,
        driver: &mut Driver,
        at_most: Option<Duration>,
    ) -> io::Result<()> {
        let slept = if driver.arm_bell(at_most)? {
            self.bell.read_at(0, size_of::<u64>()).await.map(drop)
        } else {
            Ok(())
        };
        driver.disarm_bell();
        slept.map_err(io::Error::from)?;
        driver.submit()
    }
}
