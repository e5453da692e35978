//! Questions: what clients ask, and what is asked of a server for them.

use crate::name::Name;
use crate::reader::Reader;
use crate::{INTERNET, PAYLOAD, SMALLEST_PAYLOAD, flag, kind};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name.
    pub name: Name,
    /// Type of the records.
    pub kind: u16,
    /// Class of the records.
    pub class: u16,
}

/// The query of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Chosen by the client, which expects it in the answer.
    pub id: u16,
    /// What is asked.
    pub question: Question,
    /// Largest answer by UDP that the client takes, in bytes.
    pub payload: u16,
    /// Those flags of the client that are passed on: recursion, and about signatures.
    flags: u16,
    /// Flags of the client's OPT record, if it sent one.
    extended: Option<u32>,
}

/// What the message of a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A query with one question.
    Query(Query),
    /// Something else: it is answered with this code, if it has a header.
    Unusable(u16, crate::Code),
    /// Not a message that anybody answers.
    Noise,
}

/// Flags that are passed on.
const PASSED: u16 = flag::RECURSION_DESIRED | flag::CHECKING_DISABLED | flag::AUTHENTIC_DATA;

/// The bit DO of an OPT record: the client wants signatures.
const SIGNATURES: u32 = 0x8000;

impl Question {
    /// The question at this position.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self { name: reader.name()?, kind: reader.u16()?, class: reader.u16()? })
    }

    pub(crate) fn write(&self, message: &mut Vec<u8>) {
        self.name.write(message);
        message.extend(self.kind.to_be_bytes());
        message.extend(self.class.to_be_bytes());
    }

    /// Whether addresses are asked for.
    pub fn is_about_addresses(&self) -> bool {
        self.class == INTERNET && matches!(self.kind, kind::A | kind::AAAA)
    }
}

/// Reads what a client sent.
pub fn receive(message: &[u8]) -> Received {
    let mut reader = Reader::new(message);
    let Some(header) = reader.header().filter(|header| !header.is_response()) else { return Received::Noise };
    if header.flags & flag::OPCODE != 0 {
        return Received::Unusable(header.id, crate::Code::NotImplemented);
    }
    let [1, 0, 0, additional] = header.counts else {
        return Received::Unusable(header.id, crate::Code::Malformed);
    };
    let mut read = || {
        let question = Question::read(&mut reader)?;
        let mut query =
            Query { id: header.id, question, payload: SMALLEST_PAYLOAD, flags: header.flags & PASSED, extended: None };
        for _ in 0..additional {
            let (name, record) = (reader.name()?, reader.record()?);
            if record.kind == kind::OPT && name == Name::default() {
                query.payload = record.class.max(SMALLEST_PAYLOAD);
                query.extended = Some(record.ttl & SIGNATURES);
            }
        }
        Some(query)
    };
    read().map_or(Received::Unusable(header.id, crate::Code::Malformed), Received::Query)
}

impl Query {
    /// The message that asks a server the same. Nothing of the client's message is in it but the question and flags, so
    /// neither its unknown options nor records reach the server.
    pub fn ask(&self, id: u16) -> Vec<u8> {
        let mut message = Vec::with_capacity(64);
        let additional = u16::from(self.extended.is_some());
        for number in [id, self.flags, 1, 0, 0, additional] {
            message.extend(number.to_be_bytes());
        }
        self.question.write(&mut message);
        if let Some(extended) = self.extended {
            message.push(0);
            message.extend(kind::OPT.to_be_bytes());
            message.extend(self.payload.min(PAYLOAD).to_be_bytes());
            message.extend(extended.to_be_bytes());
            message.extend(0u16.to_be_bytes());
        }
        message
    }

    pub(crate) fn flags(&self) -> u16 {
        self.flags
    }
}
