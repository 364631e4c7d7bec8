//! Frames: heads, masks, fragments and control frames.

use super::super::Flow;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Close codes of RFC 6455, section 7.4.1.
pub const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED: u16 = 1003;
const TOO_BIG: u16 = 1009;

const CONTROL_MAX: usize = 125;
const HEAD_MAX: usize = 14;

/// Why a frame can't be taken.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// For the close frame.
    pub code: u16,
    pub what: &'static str,
}

fn refuse<T>(code: u16, what: &'static str) -> Result<T, Refusal> {
    Err(Refusal { code, what })
}

/// Reads the frames of a client, cut anywhere.
#[derive(Default, Debug)]
pub struct Reader {
    /// What has come of the head of the next frame.
    head: [u8; HEAD_MAX],
    head_len: u8,
    /// Of the frame that is being read: its type, its last part, its mask in turn.
    opcode: u8,
    in_frame: bool,
    last: bool,
    mask: [u8; 4],
    left: u64,
    /// A message of several frames has begun.
    fragmented: bool,
    /// Payload of a control frame; empty otherwise.
    control: Vec<u8>,
}

impl Reader {
    /// Heap bytes that it holds.
    #[cfg(test)]
    pub fn kept_bytes(&self) -> usize {
        self.control.capacity()
    }

    /// Takes bytes; appends data to `plain` and answers to `wire`.
    pub fn read(
        &mut self,
        mut bytes: &[u8],
        max_frame: u64,
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<Flow, Refusal> {
        loop {
            if !self.in_frame {
                bytes = self.read_head(bytes, max_frame)?;
                if !self.in_frame {
                    return Ok(Flow::Open);
                }
            }
            let taken = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let (part, rest) = bytes.split_at(taken);
            let is_control = self.opcode >= CLOSE;
            self.unmask(part, if is_control { None } else { Some(&mut *plain) });
            bytes = rest;
            if self.left > 0 {
                return Ok(Flow::Open);
            }
            self.in_frame = false;
            if is_control {
                if self.finish_control(wire)? == Flow::Ended {
                    return Ok(Flow::Ended);
                }
            } else {
                self.fragmented = !self.last;
            }
        }
    }

    /// Takes as much of a head as there is; gives back what is behind it.
    fn read_head<'b>(&mut self, mut bytes: &'b [u8], max_frame: u64) -> Result<&'b [u8], Refusal> {
        loop {
            let have = usize::from(self.head_len);
            let need = needed(&self.head[..have]);
            if have == need {
                self.begin(max_frame)?;
                return Ok(bytes);
            }
            let taken = bytes.len().min(need - have);
            if taken == 0 {
                return Ok(bytes);
            }
            self.head[have..have + taken].copy_from_slice(&bytes[..taken]);
            self.head_len += taken as u8;
            bytes = &bytes[taken..];
            if self.head_len >= 2 && have < 2 {
                self.check_head()?;
            }
        }
    }

    /// Judges the first two bytes of a head.
    fn check_head(&self) -> Result<(), Refusal> {
        let [first, second, ..] = self.head;
        let (last, opcode) = (first & 0x80 != 0, first & 15);
        match opcode {
            _ if first & 0x70 != 0 => refuse(PROTOCOL_ERROR, "a frame with reserved bits"),
            _ if second & 0x80 == 0 => refuse(PROTOCOL_ERROR, "a frame without a mask"),
            CONTINUATION if !self.fragmented => {
                refuse(PROTOCOL_ERROR, "a continuation without a beginning")
            }
            TEXT => refuse(UNSUPPORTED, "a text frame"),
            BINARY if self.fragmented => {
                refuse(PROTOCOL_ERROR, "a new message within a message of several frames")
            }
            CLOSE | PING | PONG if !last || usize::from(second & 127) > CONTROL_MAX => {
                refuse(PROTOCOL_ERROR, "a control frame that is cut or too long")
            }
            CONTINUATION | BINARY | CLOSE | PING | PONG => Ok(()),
            _ => refuse(PROTOCOL_ERROR, "a frame of an unknown type"),
        }
    }

    /// The head is whole.
    fn begin(&mut self, max_frame: u64) -> Result<(), Refusal> {
        let have = usize::from(std::mem::take(&mut self.head_len));
        let head = &self.head[..have];
        let length = &head[2..have - 4];
        self.left = match length.len() {
            0 => u64::from(head[1] & 127),
            _ => length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        self.mask.copy_from_slice(&head[have - 4..]);
        (self.opcode, self.last, self.in_frame) = (head[0] & 15, head[0] & 0x80 != 0, true);
        match self.left {
            left if left >> 63 != 0 => refuse(PROTOCOL_ERROR, "a frame of a negative length"),
            left if left > max_frame => refuse(TOO_BIG, "a frame longer than the largest packet"),
            _ => Ok(()),
        }
    }

    /// Takes the mask off and puts the bytes where they belong.
    fn unmask(&mut self, part: &[u8], plain: Option<&mut Vec<u8>>) {
        let into = plain.unwrap_or(&mut self.control);
        let start = into.len();
        into.extend_from_slice(part);
        let word = u64::from_ne_bytes(std::array::from_fn(|at| self.mask[at % 4]));
        let mut words = into[start..].chunks_exact_mut(8);
        for chunk in &mut words {
            let bytes: [u8; 8] = (&*chunk).try_into().expect("8 bytes");
            chunk.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ word).to_ne_bytes());
        }
        for (byte, mask) in words.into_remainder().iter_mut().zip(self.mask.iter().cycle()) {
            *byte ^= mask;
        }
        self.mask.rotate_left(part.len() % 4);
        self.left -= part.len() as u64;
    }

    fn finish_control(&mut self, wire: &mut Vec<u8>) -> Result<Flow, Refusal> {
        let payload = std::mem::take(&mut self.control);
        match self.opcode {
            PING => {
                write_head(PONG, payload.len(), wire);
                wire.extend_from_slice(&payload);
            }
            CLOSE => {
                let code = match payload[..] {
                    [] => NORMAL,
                    [high, low, ..] => u16::from_be_bytes([high, low]),
                    [_] => return refuse(PROTOCOL_ERROR, "a close frame with half a code"),
                };
                let known = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
                if !known || payload.len() > 2 && std::str::from_utf8(&payload[2..]).is_err() {
                    return refuse(PROTOCOL_ERROR, "a close frame with a wrong code or reason");
                }
                write_close(code, wire);
                return Ok(Flow::Ended);
            }
            _ => {}
        }
        Ok(Flow::Open)
    }
}

/// How many bytes the head has that begins with `head`, as far as can be seen.
fn needed(head: &[u8]) -> usize {
    match head.get(1).map(|second| second & 127) {
        None => 2,
        Some(126) => 2 + 2 + 4,
        Some(127) => 2 + 8 + 4,
        Some(_) => 2 + 4,
    }
}

/// Writes the head of an unmasked frame that is whole.
pub fn write_head(opcode: u8, len: usize, wire: &mut Vec<u8>) {
    wire.push(0x80 | opcode);
    match len {
        0..126 => wire.push(len as u8),
        126..65_536 => {
            wire.push(126);
            wire.extend((len as u16).to_be_bytes());
        }
        _ => {
            wire.push(127);
            wire.extend((len as u64).to_be_bytes());
        }
    }
}

/// Writes a close frame.
pub fn write_close(code: u16, wire: &mut Vec<u8>) {
    write_head(CLOSE, 2, wire);
    wire.extend(code.to_be_bytes());
}
