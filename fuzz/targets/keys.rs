//! Whatever stands in a key file: what is read of it can be written, and is the same key when it is read again.
#![no_main]

use irsad_fuzz::model::key::{PublicKey, SigningKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for key in PublicKey::read_all(data).unwrap_or_default() {
        let again = PublicKey::read_all(key.to_pem().as_bytes()).expect("what was written is read again");
        assert_eq!(again, [key]);
    }
    let Ok(key) = SigningKey::read(data) else { return };
    for pem in [key.to_pem(), key.to_pkcs8_pem()] {
        let pem = pem.expect("a key that was read is written");
        let again = SigningKey::read(pem.as_bytes()).expect("what was written is read again");
        assert_eq!(again.public(), key.public());
    }
});
