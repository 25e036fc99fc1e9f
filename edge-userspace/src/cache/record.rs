//! What the store keeps, and its form on disk: lengths and bytes, little-endian, behind a version.
//! `store` hands it to the library, which puts a checksum around it; what does not decode is as if
//! it were not there. Pure.

use std::io::{Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use foyer::{Code, Error, ErrorKind};
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::directives::Directives;
use super::resource::{BodyId, MOST_VARIANTS, Resource, Variant};
use super::worth::Worth;
use crate::base::clock::UnixTime;

/// Of the form on disk; another one's records are not read.
const VERSION: u8 = 3;
/// The longest list or text of a record, bodies apart.
const MOST: u32 = 1 << 20;

/// Names a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A resource, by `resource::key`.
    Resource(String),
    /// A body.
    Body(BodyId),
}

/// A record.
#[derive(Clone, Debug)]
pub(super) enum Record {
    /// The stored responses of one URL.
    Resource(Arc<Resource>),
    /// One's content.
    Body(Bytes),
}

impl Key {
    /// Bytes in memory, about.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Resource(text) => text.len().saturating_add(64),
            Self::Body(_) => 64,
        }
    }
}

impl Record {
    /// Bytes in memory, about.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Body(bytes) => bytes.len(),
            Self::Resource(resource) => resource.variants.iter().fold(64, |sum, variant| {
                let fields = variant.fields.iter().map(|(n, v)| n.as_str().len() + v.len() + 64);
                let vary = variant.vary.iter().map(|(_, v)| v.as_ref().map_or(0, Vec::len) + 64);
                fields.chain(vary).fold(sum + 384, usize::saturating_add)
            }),
        }
    }
}

fn broken() -> Error {
    Error::new(ErrorKind::Parse, "not a record of this version")
}

struct Out<'a, W>(&'a mut W);

impl<W: Write> Out<'_, W> {
    fn raw(&mut self, bytes: &[u8]) -> foyer::Result<()> {
        self.0.write_all(bytes).map_err(Error::io_error)
    }

    fn u64(&mut self, n: u64) -> foyer::Result<()> {
        self.raw(&n.to_le_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> foyer::Result<()> {
        self.u64(bytes.len() as u64)?;
        self.raw(bytes)
    }

    fn option(&mut self, n: Option<u64>) -> foyer::Result<()> {
        self.u64(n.map_or(u64::MAX, |n| n))
    }
}

struct In<'a, R>(&'a mut R);

impl<R: Read> In<'_, R> {
    fn array<const N: usize>(&mut self) -> foyer::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).map_err(Error::io_error)?;
        Ok(bytes)
    }

    fn u64(&mut self) -> foyer::Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn count(&mut self, most: u64) -> foyer::Result<usize> {
        let n = self.u64()?;
        if n > most {
            Err(broken())
        } else {
            usize::try_from(n).map_err(|_| broken())
        }
    }

    fn bytes(&mut self, most: u64) -> foyer::Result<Vec<u8>> {
        let length = self.count(most)?;
        let mut bytes = Vec::new();
        let read = self
            .0
            .take(length as u64)
            .read_to_end(&mut bytes)
            .map_err(Error::io_error)?;
        if read == length { Ok(bytes) } else { Err(broken()) }
    }

    fn option(&mut self) -> foyer::Result<Option<u64>> {
        Ok(Some(self.u64()?).filter(|n| *n != u64::MAX))
    }

    fn name(&mut self) -> foyer::Result<HeaderName> {
        HeaderName::from_bytes(&self.bytes(MOST.into())?).map_err(|_| broken())
    }
}

impl Code for Key {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        let mut out = Out(writer);
        match self {
            Self::Resource(text) => {
                out.raw(&[VERSION, 0])?;
                out.bytes(text.as_bytes())
            }
            Self::Body(id) => {
                out.raw(&[VERSION, 1])?;
                out.raw(&id.0.to_le_bytes())
            }
        }
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut input = In(reader);
        match input.array()? {
            [VERSION, 0] => {
                let text = String::from_utf8(input.bytes(MOST.into())?).map_err(|_| broken())?;
                Ok(Self::Resource(text))
            }
            [VERSION, 1] => Ok(Self::Body(BodyId(u128::from_le_bytes(input.array()?)))),
            _ => Err(broken()),
        }
    }

    fn estimated_size(&self) -> usize {
        self.weight()
    }
}

impl Code for Record {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        let mut out = Out(writer);
        match self {
            Self::Resource(resource) => {
                out.raw(&[VERSION, 0])?;
                out.u64(resource.variants.len() as u64)?;
                resource
                    .variants
                    .iter()
                    .try_for_each(|variant| write(&mut out, variant))
            }
            Self::Body(bytes) => {
                out.raw(&[VERSION, 1])?;
                out.bytes(bytes)
            }
        }
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut input = In(reader);
        match input.array()? {
            [VERSION, 0] => {
                let count = input.count(MOST_VARIANTS as u64)?;
                let variants = (0..count).map(|_| read(&mut input)).collect::<foyer::Result<_>>()?;
                Ok(Self::Resource(Arc::new(Resource { variants })))
            }
            [VERSION, 1] => Ok(Self::Body(input.bytes(crate::config::cache::MOST_OBJECT)?.into())),
            _ => Err(broken()),
        }
    }

    fn estimated_size(&self) -> usize {
        self.weight().saturating_add(64)
    }
}

fn flags(worth: &Worth) -> [bool; 10] {
    let d = &worth.directives;
    [
        d.no_store,
        d.no_cache,
        d.private,
        d.public,
        d.must_revalidate,
        d.proxy_revalidate,
        d.must_understand,
        d.immutable,
        d.no_transform,
        d.targeted,
    ]
}

fn write<W: Write>(out: &mut Out<'_, W>, variant: &Variant) -> foyer::Result<()> {
    out.u64(variant.status.as_u16().into())?;
    out.u64(variant.fields.len() as u64)?;
    for (name, value) in &variant.fields {
        out.bytes(name.as_str().as_bytes())?;
        out.bytes(value.as_bytes())?;
    }
    out.u64(variant.vary.len() as u64)?;
    for (name, value) in &variant.vary {
        out.bytes(name.as_str().as_bytes())?;
        out.raw(&[u8::from(value.is_some())])?;
        out.bytes(value.as_deref().unwrap_or_default())?;
    }
    out.raw(&variant.body.0.to_le_bytes())?;
    let worth = &variant.worth;
    for n in [
        variant.length,
        variant.asked.millis(),
        variant.came.millis(),
        worth.lifetime,
        worth.age,
    ] {
        out.u64(n)?;
    }
    out.raw(&[u8::from(worth.for_authorized), u8::from(worth.granted)])?;
    out.raw(&flags(worth).map(u8::from))?;
    let d = &worth.directives;
    for n in [d.max_age, d.s_maxage, d.stale_while_revalidate, d.stale_if_error] {
        out.option(n)?;
    }
    Ok(())
}

fn read<R: Read>(input: &mut In<'_, R>) -> foyer::Result<Variant> {
    let status = u16::try_from(input.u64()?)
        .ok()
        .and_then(|s| StatusCode::from_u16(s).ok());
    let mut fields = HeaderMap::new();
    for _ in 0..input.count(MOST.into())? {
        let name = input.name()?;
        let value = HeaderValue::from_bytes(&input.bytes(MOST.into())?).map_err(|_| broken())?;
        fields.try_append(name, value).map_err(|_| broken())?;
    }
    let mut vary = Vec::new();
    for _ in 0..input.count(64)? {
        let name = input.name()?;
        let [present] = input.array()?;
        let value = input.bytes(MOST.into())?;
        vary.push((name, (present == 1).then_some(value)));
    }
    let body = BodyId(u128::from_le_bytes(input.array()?));
    let [length, asked, came, lifetime, age] = [input.u64()?, input.u64()?, input.u64()?, input.u64()?, input.u64()?];
    let [for_authorized, granted] = input.array()?;
    let flags: [u8; 10] = input.array()?;
    let [
        no_store,
        no_cache,
        private,
        public,
        must_revalidate,
        proxy_revalidate,
        must_understand,
        immutable,
        no_transform,
        targeted,
    ] = flags.map(|flag| flag == 1);
    let directives = Directives {
        max_age: input.option()?,
        s_maxage: input.option()?,
        stale_while_revalidate: input.option()?,
        stale_if_error: input.option()?,
        no_store,
        no_cache,
        private,
        public,
        must_revalidate,
        proxy_revalidate,
        must_understand,
        immutable,
        no_transform,
        // They are gone from the fields already.
        withheld: Vec::new(),
        targeted,
    };
    Ok(Variant {
        status: status.ok_or_else(broken)?,
        fields,
        vary,
        body,
        length,
        asked: UnixTime::from_millis(asked),
        came: UnixTime::from_millis(came),
        worth: Worth {
            lifetime,
            age,
            directives,
            for_authorized: for_authorized == 1,
            granted: granted == 1,
            purged: false,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::resource::tests::variant;
    use super::*;

    /// A record that comes back otherwise than it went is served to clients after a restart.
    #[test]
    fn there_and_back() {
        let mut one = variant(
            &[("accept", "a"), ("x-b", "c")],
            &[("vary", "accept, x-c"), ("etag", "\"e\""), ("x-a", "1"), ("x-a", "2")],
            7,
        );
        one.worth.directives.stale_if_error = Some(5);
        one.worth.directives.no_transform = true;
        one.worth.granted = true;
        let resource = Resource::default().with(one);
        let mut bytes = Vec::new();
        Record::Resource(Arc::new(resource.clone())).encode(&mut bytes).unwrap();
        match Record::decode(&mut bytes.as_slice()).unwrap() {
            Record::Resource(back) => assert_eq!(*back, resource),
            Record::Body(_) => panic!("a body"),
        }
        for cut in 0..bytes.len() {
            assert!(Record::decode(&mut &bytes[..cut]).is_err(), "{cut}");
        }
        let mut text = Vec::new();
        Key::Resource("a https://b/".to_owned()).encode(&mut text).unwrap();
        assert_eq!(
            Key::decode(&mut text.as_slice()).unwrap(),
            Key::Resource("a https://b/".to_owned())
        );
        text[0] = VERSION + 1;
        assert!(Key::decode(&mut text.as_slice()).is_err());
    }
}
