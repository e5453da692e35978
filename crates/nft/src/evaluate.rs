//! Evaluates a rule for one packet, as the kernel would, from the expressions that a listing returns.
//!
//! A condition can be undecided: a packet that is only described has fields that are not known, and this module does not
//! know every expression. The result then says so instead of guessing.

use netlink::tlv::{Attributes, big32, text};

use crate::expression::{DATA_VERDICT, EXPR_DATA, EXPR_NAME, VERDICT_CODE};
use crate::extension;
use crate::message::{DATA_VALUE, LIST_ITEM};
use crate::registers::{Registers, Value};

/// `NFT_JUMP`, `NFT_GOTO` and `NFT_RETURN`.
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;
/// `NFTA_VERDICT_CHAIN`.
const VERDICT_CHAIN: u16 = 2;
/// `NFTA_COUNTER_PACKETS`.
const COUNTER_PACKETS: u16 = 2;
/// `NFTA_EXTHDR_SREG`.
const EXTHDR_SOURCE: u16 = 7;
/// `NFT_NAT_DNAT`.
const NAT_DESTINATION: u32 = 1;
const LOOKUP_INVERTED: u32 = 1;

/// What a rule does with a packet that it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The chain is done with the packet.
    Accept,
    /// The packet ends here without an answer.
    Drop,
    /// The packet ends here with an answer.
    Reject,
    /// The calling chain continues.
    Return,
    /// This chain is evaluated next, then this one continues.
    Jump(String),
    /// This chain is evaluated instead.
    Goto(String),
    /// The destination becomes this address and port, where they change.
    Destination(Option<Vec<u8>>, Option<u16>),
    /// The source is translated.
    Source,
    /// Something that this module does not know.
    Unknown(String),
}

/// The result for one rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// Whether a condition is false: then the rule has no effect.
    pub fails: bool,
    /// What would have to be known, if the rule may match or not.
    pub undecided: Option<String>,
    /// What it does if it matches; `None` if the next rule is evaluated.
    pub verdict: Option<Verdict>,
    /// Packets that its counter counted.
    pub packets: Option<u64>,
    /// What it changes or records beside its verdict: if it matches, or if only a later condition is false.
    pub effect: Option<String>,
}

/// The packet, as rules see it.
pub trait Subject {
    /// `meta KEY`.
    fn meta(&self, key: u32) -> Value;
    /// Bytes of a header: 0 link, 1 network, 2 transport.
    fn payload(&self, base: u32, offset: u32, len: u32) -> Value;
    /// `ct KEY`, of one direction where there are two.
    fn connection(&self, key: u32) -> Value;
    /// The result of a route lookup (`NFT_FIB_RESULT_*`) with these flags.
    fn fib(&self, result: u32, flags: u32) -> Value;
    /// `socket KEY`.
    fn socket(&self, key: u32) -> Value;
    /// Bytes of a key of a set; `None` for a set that cannot be read.
    fn key_length(&self, set: &str) -> Option<usize>;
    /// Whether a set contains a key; in a map the value too.
    fn lookup(&self, set: &str, key: &[u8]) -> Lookup;
}

/// The result of a lookup in a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// It does not contain the key.
    Missing,
    /// It does; with the value of a map.
    Found(Vec<u8>),
    /// It is a map of verdicts.
    Verdict(Verdict),
    /// The set cannot be read.
    Unknown,
}

/// Evaluates the expressions of a rule.
pub fn evaluate(expressions: &[u8], packet: &dyn Subject) -> Evaluation {
    let mut machine = Machine { registers: Registers::default(), result: Evaluation::default(), packet };
    for (kind, item) in Attributes::new(expressions) {
        let item = Attributes::new(item);
        let Some(name) = (kind == LIST_ITEM).then(|| item.find(EXPR_NAME).and_then(text)).flatten() else { continue };
        let data = Attributes::new(item.find(EXPR_DATA).unwrap_or_default());
        machine.step(name, &data);
        if machine.result.verdict.is_some() {
            break;
        }
    }
    machine.result
}

/// The verdict that the data of an expression or an element has.
pub fn verdict_of(data: &[u8]) -> Option<Verdict> {
    let verdict = Attributes::new(Attributes::new(data).find(DATA_VERDICT)?);
    let chain = || verdict.find(VERDICT_CHAIN).and_then(text).unwrap_or_default().to_owned();
    Some(match verdict.find(VERDICT_CODE).and_then(big32)? as i32 {
        libc::NF_ACCEPT => Verdict::Accept,
        libc::NF_DROP => Verdict::Drop,
        JUMP => Verdict::Jump(chain()),
        GOTO => Verdict::Goto(chain()),
        RETURN => Verdict::Return,
        // `NFT_CONTINUE`
        -1 => return None,
        code => Verdict::Unknown(format!("verdict {code}")),
    })
}

struct Machine<'a> {
    registers: Registers,
    result: Evaluation,
    packet: &'a dyn Subject,
}

impl Machine<'_> {
    /// Notes the result of a condition.
    fn condition(&mut self, holds: Option<bool>, what: &str) {
        match holds {
            Some(true) => {}
            Some(false) => self.result.fails = true,
            None => drop(self.result.undecided.get_or_insert_with(|| what.to_owned())),
        }
    }

    fn load(&mut self, register: u32, value: Value) {
        if self.registers.write(register, value).is_none() {
            self.result.fails = true;
        }
    }

    fn compare(&mut self, register: u32, len: usize, holds: impl FnOnce(&[u8]) -> bool) {
        match self.registers.read(register, len) {
            Ok(bytes) => {
                let holds = holds(&bytes);
                self.condition(Some(holds), "");
            }
            Err(what) => self.condition(None, &what),
        }
    }

    /// Compares a register that is not entirely known: what is known may rule out that it has the value.
    fn is_other(&self, register: u32, wanted: &[u8], operation: u32) -> Option<bool> {
        let differs = self.registers.read(register, wanted.len()).is_err() && self.registers.differs(register, wanted);
        (differs && operation < 2).then_some(operation == 1)
    }

    fn step(&mut self, name: &str, data: &Attributes<'_>) {
        let number = |kind| data.find(kind).and_then(big32).unwrap_or_default();
        let value = |kind| Attributes::new(data.find(kind).unwrap_or_default()).find(DATA_VALUE).unwrap_or_default();
        match name {
            "meta" if data.find(1).is_some() => self.load(number(1), self.packet.meta(number(2))),
            "payload" if data.find(5).is_none() => {
                self.load(number(1), self.packet.payload(number(2), number(3), number(4)));
            }
            "ct" if data.find(1).is_some() => self.load(number(1), self.packet.connection(number(2))),
            "fib" => self.load(number(1), self.packet.fib(number(2), number(3))),
            "socket" => self.load(number(2), self.packet.socket(number(1))),
            "cmp" => {
                let (wanted, operation) = (value(3), number(2));
                if let Some(holds) = self.is_other(number(1), wanted, operation) {
                    return self.condition(Some(holds), "");
                }
                self.compare(number(1), wanted.len(), |bytes| match operation {
                    0 => bytes == wanted,
                    1 => bytes != wanted,
                    2 => bytes < wanted,
                    3 => bytes <= wanted,
                    4 => bytes > wanted,
                    _ => bytes >= wanted,
                });
            }
            "range" => {
                let (from, to, inverted) = (value(3), value(4), number(2) == 1);
                self.compare(number(1), from.len(), |bytes| (from..=to).contains(&bytes) != inverted);
            }
            "bitwise" if number(6) == 0 => self.registers.mask(number(1), number(2), value(4), value(5)),
            "byteorder" => self.registers.swap(number(1), number(2), number(4), number(5)),
            "immediate" => match verdict_of(data.find(2).unwrap_or_default()) {
                Some(verdict) => self.result.verdict = Some(verdict),
                None => self.load(number(1), Value::Known(value(2).to_vec())),
            },
            "lookup" => self.lookup(data),
            "counter" => {
                let packets = data.find(COUNTER_PACKETS).and_then(|bytes| bytes.first_chunk());
                self.result.packets = packets.map(|bytes| u64::from_be_bytes(*bytes));
            }
            "reject" => self.result.verdict = Some(Verdict::Reject),
            "masq" => self.result.verdict = Some(Verdict::Source),
            "nat" if number(1) == NAT_DESTINATION => {
                let len = if number(2) as i32 == libc::NFPROTO_IPV6 { 16 } else { 4 };
                self.translate(data.find(3).map(|_| (number(3), len)), data.find(5).map(|_| number(5)));
            }
            "nat" => self.result.verdict = Some(Verdict::Source),
            "match" => {
                let holds = extension::matches(data, self.packet);
                let what = format!("-m {}", data.find(1).and_then(text).unwrap_or("?"));
                self.condition(holds, &what);
            }
            "target" => {
                self.result.verdict = extension::target(data);
                if self.result.verdict.is_none() {
                    self.effect(data.find(1).and_then(text).unwrap_or("?"));
                }
            }
            // They change or record something, and the next expression is evaluated.
            "meta" | "payload" | "ct" | "log" | "notrack" | "dynset" | "objref" | "flow_offload" | "synproxy" => {
                self.effect(name);
            }
            "last" => {}
            "exthdr" if data.find(EXTHDR_SOURCE).is_some() => self.effect(name),
            "numgen" | "hash" | "rt" | "exthdr" | "osf" | "xfrm" | "tunnel" | "bitwise" => {
                let register = data.find(if name == "hash" || name == "bitwise" { 2 } else { 1 }).and_then(big32);
                self.load(register.unwrap_or_default(), Value::Unknown(name.to_owned()));
            }
            "limit" | "quota" | "connlimit" => self.condition(None, name),
            other => self.result.verdict = Some(Verdict::Unknown(other.to_owned())),
        }
    }

    fn effect(&mut self, what: &str) {
        if !self.result.fails {
            self.result.effect.get_or_insert_with(|| what.to_owned());
        }
    }

    /// A lookup whose result is not known: of a map too, whose value would be a verdict or a value.
    fn is_unsure(&mut self, data: &Attributes<'_>, what: &str) {
        self.condition(None, what);
        match data.find(3).and_then(big32) {
            Some(0) => self.result.verdict = Some(Verdict::Unknown(what.to_owned())),
            Some(register) => self.load(register, Value::Unknown(what.to_owned())),
            None => {}
        }
    }

    fn lookup(&mut self, data: &Attributes<'_>) {
        let number = |kind| data.find(kind).and_then(big32).unwrap_or_default();
        let set = data.find(1).and_then(text).unwrap_or_default();
        let inverted = number(5) & LOOKUP_INVERTED != 0;
        let Some(length) = self.packet.key_length(set) else { return self.is_unsure(data, &format!("@{set}")) };
        let key = match self.registers.read(number(2), length) {
            Ok(key) => key,
            Err(what) => return self.is_unsure(data, &what),
        };
        match (self.packet.lookup(set, &key), data.find(3).and_then(big32)) {
            (Lookup::Unknown, _) => self.is_unsure(data, &format!("@{set}")),
            (Lookup::Missing, _) => self.condition(Some(inverted), ""),
            (Lookup::Found(_), None) => self.condition(Some(!inverted), ""),
            (Lookup::Found(value), Some(register)) => self.load(register, Value::Known(value)),
            (Lookup::Verdict(verdict), _) => self.result.verdict = Some(verdict),
        }
    }

    fn translate(&mut self, address: Option<(u32, usize)>, port: Option<u32>) {
        let address = address.map(|(register, len)| self.registers.read(register, len)).transpose();
        let port = port.map(|register| self.registers.read(register, 2)).transpose();
        self.result.verdict = Some(match (address, port) {
            _ if self.result.fails => return,
            (Ok(address), Ok(port)) => {
                let port = port.and_then(|bytes| bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)));
                Verdict::Destination(address, port)
            }
            (Err(what), _) | (_, Err(what)) => Verdict::Unknown(format!("nat of {what}")),
        });
    }
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
mod tests;
