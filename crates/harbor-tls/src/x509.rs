//! The few fields of a certificate that are looked at: who issued it, whose it is, its key and its dates.
//!
//! Called by `pair`. Verifies no signature and judges nothing: that is for the clients.

use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};
use harbor_types::{Span, WallTime};

/// Fields of an X.509 certificate, as encoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Fields<'a> {
    /// Name of who signed it.
    pub(crate) issuer: &'a [u8],
    /// Name of whose it is.
    pub(crate) subject: &'a [u8],
    /// The whole SubjectPublicKeyInfo.
    pub(crate) public_key: &'a [u8],
    pub(crate) not_before: WallTime,
    pub(crate) not_after: WallTime,
}

/// Reads the fields of one DER certificate.
///
/// # Errors
/// What the parser met, when it is no certificate.
///
/// # Source
/// RFC 5280, section 4.1.
pub(crate) fn fields(certificate: &[u8]) -> Result<Fields<'_>, der::Error> {
    let mut reader = SliceReader::new(certificate)?;
    let outer = AnyRef::decode(&mut reader)?;
    reader.finish()?;
    outer.sequence(|certificate| {
        let signed = AnyRef::decode(certificate)?;
        let (_algorithm, _signature) = (certificate.tlv_bytes()?, certificate.tlv_bytes()?);
        let mut signed = inside(signed)?;
        if Tag::peek(&signed)? == (Tag::ContextSpecific { constructed: true, number: TagNumber(0) }) {
            signed.tlv_bytes()?; // version
        }
        let (_serial, _algorithm) = (signed.tlv_bytes()?, signed.tlv_bytes()?);
        let issuer = signed.tlv_bytes()?;
        let validity = AnyRef::decode(&mut signed)?;
        let (not_before, not_after) = validity.sequence(|dates| Ok::<_, der::Error>((time(dates)?, time(dates)?)))?;
        let subject = signed.tlv_bytes()?;
        let public_key = signed.tlv_bytes()?;
        Ok(Fields { issuer, subject, public_key, not_before, not_after }) // extensions follow
    })
}

fn inside(sequence: AnyRef<'_>) -> Result<SliceReader<'_>, der::Error> {
    sequence.tag().assert_eq(Tag::Sequence)?;
    SliceReader::new(sequence.value())
}

fn time<'a>(reader: &mut SliceReader<'a>) -> Result<WallTime, der::Error> {
    let time = AnyRef::decode(reader)?;
    // A date before 1970 is as good as 1970, and the parser knows none.
    let ancient = match time.tag() {
        Tag::UtcTime => time.value().get(..2).is_some_and(|year| (b"50".as_slice()..b"70").contains(&year)),
        _ => time.value().get(..4).is_some_and(|year| year < b"1970".as_slice()),
    };
    if ancient {
        return Ok(WallTime::default());
    }
    let since = match time.tag() {
        Tag::UtcTime => time.decode_as::<UtcTime>()?.to_unix_duration(),
        _ => time.decode_as::<GeneralizedTime>()?.to_unix_duration(),
    };
    Ok(WallTime::default().plus(Span::from(since)))
}
