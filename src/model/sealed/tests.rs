use proptest::{prelude::*, sample::Index};

use super::*;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const KMS_KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const FIXTURE: &[u8] = include_bytes!("../../../tests/fixtures/formats/sealed-v1.json");
/// Test keys, used nowhere else.
const TEST_KEY: &str = include_str!("../../../tests/fixtures/test-keys/p256.pkcs8.pem");
const OTHER_TEST_KEY: &str = include_str!("../../../tests/fixtures/test-keys/rsa-2048.pkcs8.pem");

fn plain(byte: u8) -> Outcome<PlainDataKey> {
    Ok(PlainDataKey::try_from(Zeroizing::new(vec![byte; DATA_KEY_BYTES]))?)
}

/// What KMS gives for that byte, in a wrapping that shows it.
fn data_key(byte: u8) -> Outcome<DataKey> {
    Ok(DataKey { plain: plain(byte)?, wrapped: vec![b'w', byte], kms_key: KMS_KEY.to_owned() })
}

fn kid(pem: &str) -> Outcome<Kid> {
    Ok(SigningKey::read(pem.as_bytes())?.kid().clone())
}

fn sealed(pem: &str, byte: u8) -> Outcome<Sealed> {
    let kid = kid(pem)?;
    Ok(Sealed::seal(data_key(byte)?, [7; NONCE_BYTES], &SealContext { cluster: "prod-1", kid: &kid }, pem)?)
}

/// Reads and opens an object as irsad does, with a KMS that knows one wrapped key.
fn fetched(bytes: &[u8], context: &SealContext<'_>) -> Result<Kid, String> {
    let text = |error: PrivateHalfError| error.to_string();
    let sealed = match PrivateHalf::parse(bytes).map_err(text)? {
        PrivateHalf::Plain(key) => return Ok(key.kid().clone()),
        PrivateHalf::Sealed(sealed) => sealed,
    };
    if sealed.wrapped_key(context).map_err(text)? != [b'w', 1] {
        return Err("KMS refuses it".to_owned());
    }
    let data_key = plain(1).map_err(|error| error.to_string())?;
    sealed.open(&data_key, context).map(|key| key.kid().clone()).map_err(text)
}

#[test]
fn sealed_private_half_opens_to_the_same_key() -> Outcome {
    for pem in [TEST_KEY, OTHER_TEST_KEY] {
        let kid = kid(pem)?;
        let bytes = sealed(pem, 1)?.render();
        assert_eq!(fetched(&bytes, &SealContext { cluster: "prod-1", kid: &kid }), Ok(kid));
        assert!(!String::from_utf8(bytes)?.contains("PRIVATE"), "it must not be readable");
    }
    Ok(())
}

#[test]
fn sealed_object_of_version_1_is_read_and_written_byte_for_byte() -> Outcome {
    let kid = kid(TEST_KEY)?;
    let context = SealContext { cluster: "prod-1", kid: &kid };
    assert_eq!(fetched(FIXTURE, &context), Ok(kid.clone()));
    assert_eq!(String::from_utf8(sealed(TEST_KEY, 1)?.render())?, String::from_utf8(FIXTURE.to_vec())?);
    Ok(())
}

#[test]
fn plain_private_half_is_told_from_a_sealed_one() -> Outcome {
    let key = SigningKey::read(OTHER_TEST_KEY.as_bytes())?;
    for pem in [OTHER_TEST_KEY.to_owned(), key.to_pkcs8_pem()?.to_string(), key.to_pem()?.to_string()] {
        let PrivateHalf::Plain(found) = PrivateHalf::parse(pem.as_bytes())? else { return Err("sealed".into()) };
        assert_eq!(found.kid(), key.kid());
    }
    assert!(matches!(PrivateHalf::parse(FIXTURE)?, PrivateHalf::Sealed(_)));
    Ok(())
}

#[test]
fn encryption_context_names_program_cluster_and_key() -> Outcome {
    let kid = kid(TEST_KEY)?;
    let context = SealContext { cluster: "prod-1", kid: &kid }.encryption_context();
    assert_eq!(context, [("app", "irsad".to_owned()), ("cluster", "prod-1".to_owned()), ("kid", kid.to_string())]);
    Ok(())
}

#[test]
fn object_that_cannot_be_used_is_refused_with_the_reason() -> Outcome {
    let (kid, other) = (kid(TEST_KEY)?, kid(OTHER_TEST_KEY)?);
    let text = String::from_utf8(FIXTURE.to_vec())?;
    let edited = |from: &str, to: &str| text.replace(from, to).into_bytes();
    // Sealed rightly, but for another key than it holds.
    let wrong =
        Sealed::seal(data_key(1)?, [7; NONCE_BYTES], &SealContext { cluster: "prod-1", kid: &kid }, OTHER_TEST_KEY)?;
    let back = "put it back from a backup, or from an older version of the object";
    let right = "put the right one back from a backup, or from an older version of the object";
    let format = format!("it is not a sealed private half as irsad writes it; {back}");
    let exchanged = |cluster: &str, kid: &Kid| {
        format!("it is sealed for key {kid} of cluster {cluster}, so objects have been exchanged; {right}")
    };
    for (bytes, message) in [
        (b"{".to_vec(), format.clone()),
        (b"{}".to_vec(), format.clone()),
        (edited("\"nonce\": \"Bw", "\"nonce\": \"!w"), format.clone()),
        (edited("\"nonce\": \"BwcHBwcHBwcHBwcH\"", "\"nonce\": \"Bw==\""), format.clone()),
        (edited("\"kmsKey\"", "\"kmskey\""), format),
        (
            edited("\"version\": 1", "\"more\": 1, \"version\": 2"),
            "version 2 of its format is not known; a newer irsad wrote it, upgrade this node".to_owned(),
        ),
        (edited("prod-1", "prod-2"), exchanged("prod-2", &kid)),
        (sealed(OTHER_TEST_KEY, 1)?.render(), exchanged("prod-1", &other)),
        (
            edited("BwcHBwcHBwcHBwcH", "CAgICAgICAgICAgI"),
            format!("it does not open, so it was damaged or changed after it was sealed; {back}"),
        ),
        (wrong.render(), format!("it holds key {other}, so objects have been exchanged; {right}")),
        (b"sealed".to_vec(), format!("it holds no private key that irsad can use; {back}")),
        (Vec::new(), format!("it holds no private key that irsad can use; {back}")),
    ] {
        let found = fetched(&bytes, &SealContext { cluster: "prod-1", kid: &kid });
        assert_eq!(found, Err(message), "{}", String::from_utf8_lossy(&bytes));
    }
    Ok(())
}

/// Whoever rewrites the names in the object, too, still fails: the data key is right, the associated data are not.
#[test]
fn object_renamed_for_another_key_or_cluster_does_not_open() -> Outcome {
    let (own, other) = (kid(TEST_KEY)?, kid(OTHER_TEST_KEY)?);
    let text = String::from_utf8(sealed(TEST_KEY, 1)?.render())?;
    for (cluster, kid) in [("prod-1", &other), ("prod-2", &own), ("prod-1|", &own)] {
        let renamed = text.replace("prod-1", cluster).replace(own.as_str(), kid.as_str());
        let found = fetched(renamed.as_bytes(), &SealContext { cluster, kid });
        let message = "it does not open, so it was damaged or changed after it was sealed; put it back from a backup, or from an older version of the object";
        assert_eq!(found, Err(message.to_owned()), "{cluster} {kid}");
    }
    Ok(())
}

#[test]
fn data_key_of_another_length_is_none() {
    for length in [0, 16, 31, 33] {
        let refused = PlainDataKey::try_from(Zeroizing::new(vec![0; length])).err();
        assert_eq!(refused.map(|error| error.to_string()), Some(format!("a data key has 32 bytes, not {length}")));
    }
}

#[test]
fn no_bit_of_key_nonce_or_ciphertext_can_be_changed() -> Outcome {
    let kid = kid(TEST_KEY)?;
    let context = SealContext { cluster: "prod-1", kid: &kid };
    let whole = sealed(TEST_KEY, 1)?;
    let flip = |bytes: &mut [u8], bit: usize| bytes[bit / 8] ^= 1 << (bit % 8);
    for bit in 0..whole.ciphertext.0.len() * 8 {
        let mut changed = whole.clone();
        flip(&mut changed.ciphertext.0, bit);
        assert!(matches!(changed.open(&plain(1)?, &context), Err(PrivateHalfError::Damaged)), "bit {bit}");
    }
    for bit in 0..NONCE_BYTES * 8 {
        let mut changed = whole.clone();
        flip(&mut changed.nonce.0, bit);
        assert!(matches!(changed.open(&plain(1)?, &context), Err(PrivateHalfError::Damaged)), "nonce, bit {bit}");
    }
    for bit in 0..DATA_KEY_BYTES * 8 {
        let mut bytes = vec![1; DATA_KEY_BYTES];
        flip(&mut bytes, bit);
        let key = PlainDataKey::try_from(Zeroizing::new(bytes))?;
        assert!(matches!(whole.open(&key, &context), Err(PrivateHalfError::Damaged)), "data key, bit {bit}");
    }
    Ok(())
}

proptest! {
    /// Whatever happens to the stored text: it opens to the key that was sealed, or not at all.
    #[test]
    fn changed_text_never_opens_to_anything_else(at in any::<Index>(), to in any::<u8>(), cut in any::<Option<Index>>()) {
        let own = kid(TEST_KEY).expect("a test key");
        let mut bytes = FIXTURE.to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Some(cut) = cut {
            bytes.truncate(cut.index(FIXTURE.len()));
        }
        let found = fetched(&bytes, &SealContext { cluster: "prod-1", kid: &own });
        prop_assert!(found.as_ref().ok().is_none_or(|kid| *kid == own), "{found:?}");
    }

    /// Any other cluster, key or data key: refused.
    #[test]
    fn object_opens_for_its_own_cluster_and_key_only(cluster in "[a-z0-9-]{1,12}", byte in 0_u8..4, exchanged: bool) {
        let (own, other) = (kid(TEST_KEY).expect("a test key"), kid(OTHER_TEST_KEY).expect("a test key"));
        let context = SealContext { cluster: &cluster, kid: if exchanged { &other } else { &own } };
        let whole = sealed(TEST_KEY, 1).expect("sealed");
        let opened = whole.open(&plain(byte).expect("a data key"), &context).is_ok();
        prop_assert_eq!(opened, cluster == "prod-1" && byte == 1 && !exchanged);
    }
}
