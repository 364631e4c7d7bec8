//! Frames: the payload of data frames goes through as it comes, control frames are answered.
//! Source: RFC 6455, sections 5 and 7.
//!
//! Invariants worth naming: a frame is judged when its head is there, before its payload; of a
//! frame nothing is kept but its head and, for a control frame, at most 125 bytes of payload.

use std::mem;

use crate::base::Prng;
use crate::transport::{Fault, Flow};

/// Two bytes, eight of length, four of mask.
const HEAD_MAX: usize = 14;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// In place of a length: it follows in two bytes, in eight bytes.
const LENGTH_TWO: u8 = 126;
const LENGTH_EIGHT: u8 = 127;

const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PONG: u8 = 0xa;

const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED_DATA: u16 = 1003;
const INVALID_DATA: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// Both directions of an open connection.
#[derive(Debug)]
pub(super) struct Frames {
    max_frame: u64,
    /// A client's masks; a server has none, and masks are what tells the sides apart.
    masks: Option<Prng>,
    stage: Stage,
    /// The head of the frame that begins, of which `have` bytes are there.
    head: [u8; HEAD_MAX],
    have: usize,
    /// Payload of the frame at hand that is still to come, in bytes.
    left: u64,
    /// Beginning with the byte for the next payload byte.
    mask: [u8; 4],
    /// Payload of the control frame at hand, still masked.
    control: Vec<u8>,
    /// A message has begun and not ended.
    fragmented: bool,
    /// Our close frame is written.
    closing: bool,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Head,
    Data,
    Control(Control),
}

#[derive(Clone, Copy, Debug)]
enum Control {
    Close,
    Ping,
    Pong,
}

/// Why a connection is given up, and what the peer hears of it.
#[derive(Debug)]
struct Broken {
    code: u16,
    what: &'static str,
}

impl Broken {
    #[cold]
    const fn protocol(what: &'static str) -> Broken {
        Broken { code: PROTOCOL_ERROR, what }
    }
}

impl Frames {
    /// The client's side, where there are `masks`, or else the server's.
    pub(super) fn new(max_frame: u64, masks: Option<Prng>) -> Frames {
        Frames {
            max_frame,
            masks,
            stage: Stage::Head,
            head: [0; HEAD_MAX],
            have: 0,
            left: 0,
            mask: [0; 4],
            control: Vec::new(),
            fragmented: false,
            closing: false,
        }
    }

    /// See [`WebSocket::receive`](super::WebSocket::receive). Must not be called again after an end
    /// or a fault.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<Flow, Fault> {
        self.take(bytes, plain, wire).map_err(|broken| {
            self.end(&broken.code.to_be_bytes(), wire);
            Fault::new(broken.what)
        })
    }

    /// Appends `plain` as one frame, if there is anything to send and the stream is not ended.
    pub(super) fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        if !plain.is_empty() && !self.closing {
            self.put(BINARY, plain, wire);
        }
    }

    /// Appends the close frame, unless there was one.
    pub(super) fn close(&mut self, wire: &mut Vec<u8>) {
        self.end(&NORMAL.to_be_bytes(), wire);
    }

    /// Whether our close frame is written.
    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Heap bytes held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.control.capacity()
    }

    fn end(&mut self, payload: &[u8], wire: &mut Vec<u8>) {
        if !self.closing {
            self.put(CLOSE, payload, wire);
        }
        self.closing = true;
    }

    fn put(&mut self, kind: u8, payload: &[u8], wire: &mut Vec<u8>) {
        let mask = self.masks.as_mut().map(|masks| (masks.next_u64() as u32).to_ne_bytes());
        put_frame(kind, mask, payload, wire);
    }

    fn take(
        &mut self,
        mut bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<Flow, Broken> {
        loop {
            match self.stage {
                Stage::Head => {
                    bytes = self.take_head(bytes)?;
                    if matches!(self.stage, Stage::Head) {
                        return Ok(Flow::Open);
                    }
                }
                Stage::Data => {
                    let (payload, rest) = self.take_payload(bytes);
                    bytes = rest;
                    // After our end there is nobody left who would read a packet.
                    if !self.closing {
                        masked_copy(self.mask, payload, plain);
                    }
                    self.mask.rotate_left(payload.len() % 4);
                    if self.left > 0 {
                        return Ok(Flow::Open);
                    }
                    self.stage = Stage::Head;
                }
                Stage::Control(control) => {
                    let (payload, rest) = self.take_payload(bytes);
                    bytes = rest;
                    self.control.extend_from_slice(payload);
                    if self.left > 0 {
                        return Ok(Flow::Open);
                    }
                    self.stage = Stage::Head;
                    if self.answer(control, wire)? == Flow::Ended {
                        return Ok(Flow::Ended);
                    }
                }
            }
        }
    }

    /// Splits off what belongs to the payload at hand.
    fn take_payload<'a>(&mut self, bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let len = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.left -= len as u64;
        bytes.split_at(len)
    }

    /// Fills the head; goes to the payload's stage when it is whole. Gives what is left of `bytes`.
    fn take_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Broken> {
        let bytes = self.fill(2, bytes);
        if self.have < 2 {
            return Ok(bytes);
        }
        let [first, second, ..] = self.head;
        let stage = self.judge(first, second)?;
        let length_len = match second & !MASKED {
            LENGTH_TWO => 2,
            LENGTH_EIGHT => 8,
            _ => 0,
        };
        let masked = second & MASKED != 0;
        let whole = 2 + length_len + if masked { self.mask.len() } else { 0 };
        let bytes = self.fill(whole, bytes);
        if self.have < whole {
            return Ok(bytes);
        }
        self.have = 0;
        let (length, mask) = self.head[2..whole].split_at(length_len);
        self.mask = mask.try_into().unwrap_or_default();
        self.left = self.length(second & !MASKED, length)?;
        self.stage = stage;
        if matches!(stage, Stage::Data) {
            self.fragmented = first & FIN == 0;
        }
        Ok(bytes)
    }

    /// Moves bytes to the head until it has `len` of them, as far as there are any.
    fn fill<'a>(&mut self, len: usize, bytes: &'a [u8]) -> &'a [u8] {
        let missing = len.saturating_sub(self.have).min(bytes.len());
        let (now, rest) = bytes.split_at(missing);
        self.head[self.have..self.have + missing].copy_from_slice(now);
        self.have += missing;
        rest
    }

    /// What follows a head that begins with these bytes.
    fn judge(&self, first: u8, second: u8) -> Result<Stage, Broken> {
        if first & RESERVED != 0 {
            return Err(Broken::protocol("WebSocket frame with reserved bits"));
        }
        match (second & MASKED != 0, &self.masks) {
            (false, None) => return Err(Broken::protocol("WebSocket frame without a mask")),
            (true, Some(_)) => return Err(Broken::protocol("WebSocket frame with a mask")),
            (true, None) | (false, Some(_)) => {}
        }
        let control = match (first & !FIN, self.fragmented) {
            (0x0, true) | (BINARY, false) => return Ok(Stage::Data),
            (0x0, false) => return Err(Broken::protocol("WebSocket continuation of nothing")),
            (0x1, false) => {
                let what = "WebSocket text frame; MQTT needs binary frames";
                return Err(Broken { code: UNSUPPORTED_DATA, what });
            }
            (0x1 | BINARY, true) => {
                return Err(Broken::protocol("WebSocket message inside another"));
            }
            (CLOSE, _) => Control::Close,
            (0x9, _) => Control::Ping,
            (PONG, _) => Control::Pong,
            _ => return Err(Broken::protocol("WebSocket frame of an unknown kind")),
        };
        if first & FIN == 0 || second & !MASKED >= LENGTH_TWO {
            return Err(Broken::protocol("WebSocket control frame fragmented or too long"));
        }
        Ok(Stage::Control(control))
    }

    /// The length that a head declares: `short` itself, or what follows in `long`.
    fn length(&self, short: u8, long: &[u8]) -> Result<u64, Broken> {
        let length = long.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        let (length, least) = match short {
            LENGTH_TWO => (length, u64::from(LENGTH_TWO)),
            LENGTH_EIGHT => (length, u64::from(u16::MAX) + 1),
            _ => (u64::from(short), 0),
        };
        if length < least || length > i64::MAX as u64 {
            return Err(Broken::protocol("malformed length of a WebSocket frame"));
        }
        if length > self.max_frame && !matches!(self.head[0] & !FIN, CLOSE..=PONG) {
            return Err(Broken { code: TOO_BIG, what: "WebSocket frame too large" });
        }
        Ok(length)
    }

    /// Acts on a control frame that is complete.
    fn answer(&mut self, control: Control, wire: &mut Vec<u8>) -> Result<Flow, Broken> {
        let mut payload = mem::take(&mut self.control);
        apply(self.mask, &mut payload);
        match control {
            Control::Pong => {}
            Control::Ping if self.closing => {}
            Control::Ping => self.put(PONG, &payload, wire),
            Control::Close => {
                let code = close_code(&payload)?;
                self.end(code, wire);
                return Ok(Flow::Ended);
            }
        }
        Ok(Flow::Open)
    }
}

/// The two bytes of the code in a close frame's payload, none if it has none.
fn close_code(payload: &[u8]) -> Result<&[u8], Broken> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        let what = "WebSocket close code cut short";
        return if payload.is_empty() { Ok(payload) } else { Err(Broken::protocol(what)) };
    };
    // 1004 to 1006 never stand in a frame; from 1015 to 2999 nothing is assigned.
    if !matches!(u16::from_be_bytes(*code), 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Broken::protocol("WebSocket close code that may not be sent"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Broken { code: INVALID_DATA, what: "WebSocket close reason is not UTF-8" });
    }
    Ok(code)
}

/// Appends a whole frame.
fn put_frame(kind: u8, mask: Option<[u8; 4]>, payload: &[u8], wire: &mut Vec<u8>) {
    let masked = if mask.is_some() { MASKED } else { 0 };
    wire.reserve(HEAD_MAX + payload.len());
    wire.push(FIN | kind);
    match payload.len() {
        short @ 0..126 => wire.push(masked | short as u8),
        len => {
            if let Ok(len) = u16::try_from(len) {
                wire.push(masked | LENGTH_TWO);
                wire.extend_from_slice(&len.to_be_bytes());
            } else {
                wire.push(masked | LENGTH_EIGHT);
                wire.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
    }
    match mask {
        None => wire.extend_from_slice(payload),
        Some(mask) => {
            wire.extend_from_slice(&mask);
            masked_copy(mask, payload, wire);
        }
    }
}

/// Appends `bytes` with the mask on, or off if it was.
fn masked_copy(mask: [u8; 4], bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(bytes);
    apply(mask, &mut out[start..]);
}

/// Applies the mask, which also takes it off, eight bytes at a time.
fn apply(mask: [u8; 4], bytes: &mut [u8]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}
