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
    /// These bytes, of which the bits that are set in the second value are not known; the name.
    Partly(Vec<u8>, Vec<u8>, String),
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
    /// The bits that are not known: none for all of them, if the value has a name here.
    unsure: [u8; 4],
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
            Value::Partly(bytes, unsure, what) => {
                let parts = bytes.chunks(4).zip(unsure.chunks(4));
                for (slot, (part, unsure)) in self.slots.iter_mut().skip(first).zip(parts) {
                    *slot = Slot::default();
                    slot.bytes.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
                    slot.unsure.iter_mut().zip(unsure).for_each(|(to, from)| *to = *from);
                    slot.unknown = (slot.unsure != [0; 4]).then(|| what.clone());
                }
            }
            // How many registers it takes is not known. Those of later fields are written afterwards.
            Value::Unknown(what) => {
                let unknown = Slot { unknown: Some(what), ..Slot::default() };
                self.slots.iter_mut().skip(first).for_each(|slot| slot.clone_from(&unknown));
            }
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

    /// Whether what is known of the bytes from this register on rules out that they are these.
    pub fn differs(&self, register: u32, wanted: &[u8]) -> bool {
        let (bytes, unsure) = self.partly(register, wanted.len());
        bytes.iter().zip(&unsure).zip(wanted).any(|((byte, unsure), wanted)| (byte ^ wanted) & !unsure != 0)
    }

    /// Bytes from this register on, and which of their bits are not known.
    fn partly(&self, register: u32, len: usize) -> (Vec<u8>, Vec<u8>) {
        let slots = || self.slots.iter().skip(slot(register)).take(len.div_ceil(4));
        let bits = |slot: &Slot| match slot.unknown {
            Some(_) if slot.unsure == [0; 4] => [0xff; 4],
            _ => slot.unsure,
        };
        let (mut bytes, mut unsure): (Vec<u8>, Vec<u8>) =
            (slots().flat_map(|slot| slot.bytes).collect(), slots().flat_map(bits).collect());
        bytes.truncate(len);
        unsure.truncate(len);
        (bytes, unsure)
    }

    /// `(from & mask) ^ xor`.
    pub fn mask(&mut self, from: u32, to: u32, mask: &[u8], xor: &[u8]) {
        let what = self.read(from, mask.len()).err();
        let (bytes, unsure) = self.partly(from, mask.len());
        let xor = xor.iter().chain(std::iter::repeat(&0));
        let bytes = bytes.iter().zip(mask).zip(xor).map(|((byte, mask), xor)| (byte & mask) ^ xor).collect();
        let unsure: Vec<u8> = unsure.iter().zip(mask).map(|(unsure, mask)| unsure & mask).collect();
        let masked = match what {
            Some(what) if unsure.iter().any(|bits| *bits != 0) => Value::Partly(bytes, unsure, what),
            _ => Value::Known(bytes),
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
