//! Registers of the kernel's rule machine: four bytes each, and each known or not.

/// The first register of four bytes; those below have 16 bytes (`NFT_REG32_00`).
const FIRST: u32 = 8;
const COUNT: usize = 16;

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// These bytes.
    Known(Vec<u8>),
    /// It has one, but which one is not known; this is its name.
    Unknown(String),
    /// The packet has no such field: the rule does not match.
    Missing,
}

/// All registers.
#[derive(Debug, Clone, Default)]
pub struct Registers {
    slots: [Slot; COUNT],
}

#[derive(Debug, Clone, Default)]
struct Slot {
    bytes: [u8; 4],
    unknown: Option<String>,
}

fn slot(register: u32) -> usize {
    match register.checked_sub(FIRST) {
        Some(slot) => slot as usize,
        None => (register.saturating_sub(1) * 4) as usize,
    }
}

impl Registers {
    /// Writes a value from this register on; `None` for a missing one.
    pub fn write(&mut self, register: u32, value: Value) -> Option<()> {
        let first = slot(register);
        match value {
            Value::Missing => return None,
            Value::Known(bytes) => {
                for (slot, part) in self.slots.iter_mut().skip(first).zip(bytes.chunks(4)) {
                    *slot = Slot::default();
                    slot.bytes.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
                }
            }
            Value::Unknown(what) => self.slots.get_mut(first)?.unknown = Some(what),
        }
        Some(())
    }

    /// Reads bytes from this register on.
    ///
    /// # Errors
    /// The name of an unknown value.
    pub fn read(&self, register: u32, len: usize) -> Result<Vec<u8>, String> {
        let slots = self.slots.iter().skip(slot(register)).take(len.div_ceil(4));
        let mut bytes = Vec::new();
        for slot in slots {
            if let Some(what) = &slot.unknown {
                return Err(what.clone());
            }
            bytes.extend(slot.bytes);
        }
        bytes.truncate(len);
        Ok(bytes)
    }

    /// `(from & mask) ^ xor`.
    pub fn mask(&mut self, from: u32, to: u32, mask: &[u8], xor: &[u8]) {
        let masked = match self.read(from, mask.len()) {
            Ok(bytes) => {
                let xor = xor.iter().chain(std::iter::repeat(&0));
                Value::Known(bytes.iter().zip(mask).zip(xor).map(|((byte, mask), xor)| (byte & mask) ^ xor).collect())
            }
            Err(what) => Value::Unknown(what),
        };
        self.write(to, masked);
    }

    /// Turns the order of bytes of each number of `size` bytes.
    pub fn swap(&mut self, from: u32, to: u32, len: u32, size: u32) {
        let swapped = match self.read(from, len as usize) {
            Ok(bytes) => {
                Value::Known(bytes.chunks(size.max(1) as usize).flat_map(|part| part.iter().rev().copied()).collect())
            }
            Err(what) => Value::Unknown(what),
        };
        self.write(to, swapped);
    }
}
