//! The keys of session tickets: one set for all cores, replaced at an age the operator chooses.

use rustls::Error;
use rustls::crypto::GetRandomFailed;
use rustls::server::ProducesTickets;
use rustls::ticketer::TicketRotator;
use std::sync::Arc;

#[cfg(feature = "tls-aws-lc")]
use rustls::crypto::aws_lc_rs::Ticketer;
#[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc")))]
use rustls::crypto::ring::Ticketer;

/// Makes the tickets of one listener. `rotation_s` is the age at which a new key takes over; the
/// old one still opens its tickets for as long again.
///
/// The library's own ticketer has a fixed age of six hours, so ours turns over whole ticketers.
pub fn ticketer(rotation_s: u32) -> Result<Arc<dyn ProducesTickets>, Error> {
    Ok(Arc::new(TicketRotator::new(rotation_s, one_key)?))
}

fn one_key() -> Result<Box<dyn ProducesTickets>, GetRandomFailed> {
    let inner = Ticketer::new().map_err(|_| GetRandomFailed)?;
    Ok(Box::new(Key(inner)))
}

/// A ticketer of the library, owned.
#[derive(Debug)]
struct Key(Arc<dyn ProducesTickets>);

impl ProducesTickets for Key {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}
