//! What a certificate says about its owner.

use super::super::certificate::*;
use super::*;
use proptest::prelude::*;
use rcgen::{DistinguishedName, DnValue, SanType};

fn named(parts: Vec<(DnType, DnValue)>) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in parts {
        params.distinguished_name.push(kind, value);
    }
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn text(value: &str) -> DnValue {
    DnValue::Utf8String(value.into())
}

#[test]
fn a_subject_is_written_last_part_first() {
    let der = named(vec![
        (DnType::CountryName, text("SE")),
        (DnType::OrganizationName, text("Example, Inc.")),
        (DnType::OrganizationalUnitName, text("#1 \"a+b\"; <x>\\ ")),
        (DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]), text("a@b.c")),
        (DnType::CommonName, text(" Grüße")),
    ]);
    assert_eq!(
        subject(&der),
        "CN=\\ Grüße,emailAddress=a@b.c,OU=\\#1 \\\"a\\+b\\\"\\; \\<x\\>\\\\\\ ,O=Example\\, \
         Inc.,C=SE"
    );
    assert_eq!(subject_common_name(&der).as_deref(), Some(" Grüße"));
}

#[test]
fn what_has_no_name_or_is_no_text_is_written_in_hex() {
    let oid = || DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 1]);
    assert_eq!(subject(&named(vec![(oid(), text("hi"))])), "1.3.6.1.4.1.1=#0C026869");
    let long = subject(&named(vec![(oid(), text(&"x".repeat(200)))]));
    assert!(long.starts_with("1.3.6.1.4.1.1=#0C81C87878"), "{long}");
    let long = subject(&named(vec![(oid(), text(&"x".repeat(300)))]));
    assert!(long.starts_with("1.3.6.1.4.1.1=#0C82012C7878"), "{long}");
}

#[test]
fn a_control_character_is_escaped_and_no_name() {
    let der = named(vec![(DnType::CommonName, text("admin\0.example"))]);
    assert_eq!(subject(&der), "CN=admin\\00.example");
    assert_eq!(subject_common_name(&der), None);
}

#[test]
fn a_name_over_the_limit_is_left_out_not_cut() {
    let limit = "x".repeat(1024);
    let der = named(vec![(DnType::CommonName, text(&limit))]);
    assert_eq!(subject_common_name(&der), Some(limit));
    let der = named(vec![(DnType::CommonName, text(&"x".repeat(5000)))]);
    assert_eq!(subject_common_name(&der), None);
    assert_eq!(subject(&der), "");
    assert_eq!(subject_common_name(&named(vec![])), None);
    assert_eq!(subject_common_name(&named(vec![(DnType::CommonName, text(""))])), None);
}

#[test]
fn alternative_names_come_in_order() {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![
        SanType::DnsName("a.example".try_into().unwrap()),
        SanType::IpAddress([127, 0, 0, 1].into()),
        SanType::Rfc822Name("a@b.c".try_into().unwrap()),
        SanType::URI("spiffe://example/a".try_into().unwrap()),
        SanType::DnsName("".try_into().unwrap()),
        SanType::DnsName("x".repeat(2000).try_into().unwrap()),
    ];
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    let expected = [
        AlternativeName::Dns("a.example".into()),
        AlternativeName::Email("a@b.c".into()),
        AlternativeName::Uri("spiffe://example/a".into()),
    ];
    assert_eq!(alternative_names(&der), expected);
    let many = (0..300).map(|at| SanType::DnsName(format!("n{at}").try_into().unwrap()));
    params.subject_alt_names = many.collect();
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    assert_eq!(alternative_names(&der).len(), 256);
}

#[test]
fn a_validity_is_in_seconds() {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(1970, 1, 2);
    params.not_after = date_time_ymd(2100, 1, 1);
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    assert_eq!(validity(&der), Some(Validity { begin_s: 86_400, end_s: 4_102_444_800 }));
    assert_eq!(validity(b"junk"), None);
}

proptest! {
    #[test]
    fn changed_certificates_never_panic(changes in prop::collection::vec(any::<(u16, u8)>(), 0..8),
                                        cut in any::<u16>()) {
        static DER: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let whole = DER.get_or_init(|| named(vec![(DnType::CommonName, text("sensor"))]));
        let mut der = whole.clone();
        for (at, byte) in changes {
            let at = usize::from(at) % der.len();
            der[at] = byte;
        }
        der.truncate(usize::from(cut) % 2000);
        let name = subject_common_name(&der);
        let written = subject(&der);
        prop_assert!(written.len() <= 4096 && alternative_names(&der).len() <= 256);
        prop_assert!(name.is_none() || written.contains("CN="));
        prop_assert!(der != *whole || name.as_deref() == Some("sensor"));
    }
}
