//! A public document as an outsider gets it, beside the one that the store holds: which of the two sides is wrong.

use std::time::Duration;

use super::{
    discovery::{DISCOVERY_PATH, Discovery},
    jwks::Jwks,
    location::Location,
    plan::PublicDocument,
    probe::Probe,
};

/// What is served at a URL, compared with what is to be served there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Served {
    /// The same, perhaps laid out anew.
    Same,
    /// A document of that kind with other values: a copy from before, or somebody else's.
    Another {
        /// How long a cache has kept it, where the answer says that one has (`Age`, RFC 9111 section 5.1).
        kept: Option<Duration>,
    },
    /// No document of that kind: a web page, an error in the form of a page.
    Foreign,
    /// Certainly nothing.
    Nothing,
    /// It could not be fetched; why.
    Unknown(String),
}

/// One document, where it is held and where it is served.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Path below the issuer; tells which of the two documents it is.
    pub path: &'a str,
    /// Where outsiders get it.
    pub url: &'a str,
    /// Where irsad writes it.
    pub store: &'a Location,
    /// Whether a web server or CloudFront stands between the two: outsiders do not ask the store itself.
    pub by_front: bool,
}

impl Place<'_> {
    /// What `found` is to somebody who expects `wanted`.
    pub fn compare(&self, wanted: &[u8], found: &Probe<PublicDocument>) -> Served {
        let found = match found {
            Probe::Unknown(why) => return Served::Unknown(why.clone()),
            Probe::Absent => return Served::Nothing,
            Probe::Present(found) => found,
        };
        // Web servers and caches may lay JSON out anew; an outsider reads its values.
        let same = if self.path == DISCOVERY_PATH {
            Discovery::parse(&found.body).map(|it| Discovery::parse(wanted).is_ok_and(|wanted| it == wanted)).ok()
        } else {
            Jwks::parse(&found.body).map(|it| Jwks::parse(wanted).is_ok_and(|wanted| it.has_same_keys(&wanted))).ok()
        };
        match same {
            Some(true) => Served::Same,
            Some(false) => Served::Another { kept: found.age },
            None => Served::Foreign,
        }
    }

    /// What is wrong and what to do, where the store is right; `None` where nothing is.
    pub fn sentence(&self, served: &Served) -> Option<String> {
        let Self { url, store, .. } = self;
        Some(match served {
            Served::Same => return None,
            Served::Another { kept } => {
                let kept =
                    kept.map_or(String::new(), |kept| format!(" (a cache has kept it for {} s)", kept.as_secs()));
                let cure = self.cure_of_a_cache();
                format!(
                    "{url} serves another copy than {store} holds{kept}; no new key signs before that changes: {cure}"
                )
            }
            Served::Foreign => format!(
                "{url} serves something that is no {}, and {store} holds one; look at what serves the URL: its origin, path and error pages",
                self.kind()
            ),
            Served::Nothing => {
                format!("{url} is not found although {store} holds it; check that the URL leads there")
            }
            Served::Unknown(why) if self.by_front => format!("{why}; {store} holds the document"),
            Served::Unknown(why) => why.clone(),
        })
    }

    fn cure_of_a_cache(&self) -> &'static str {
        match (self.store, self.by_front) {
            (Location::S3 { .. }, true) => {
                "wait for the cache, or have it drop its copy, with CloudFront by aws cloudfront create-invalidation \
                 --distribution-id ID --paths '/*'; if it stays, the URL leads to another origin"
            }
            _ => "wait for the cache, or look at what stands between",
        }
    }

    /// Which of the two documents it is, in words.
    pub fn kind(&self) -> &'static str {
        if self.path == DISCOVERY_PATH { "OpenID discovery document" } else { "JWK Set" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn found(body: &str, age: Option<u64>) -> Probe<PublicDocument> {
        let age = age.map(Duration::from_secs);
        Probe::Present(PublicDocument { body: body.as_bytes().to_vec(), content_type: None, date: None, age })
    }

    #[test]
    fn wrong_side_is_named_with_its_cure() -> Outcome {
        let store: Location = "s3://prod-1-oidc".parse()?;
        let url = "https://oidc.example.com/openid/v1/jwks";
        let place = Place { path: "openid/v1/jwks", url, store: &store, by_front: true };
        let wanted = br#"{"keys":[{"kty":"RSA","kid":"b","alg":"RS256","use":"sig","n":"AQ","e":"AQAB"}]}"#;
        let older = r#"{"keys":[{"kty":"RSA","kid":"a","alg":"RS256","use":"sig","n":"AQ","e":"AQAB"}]}"#;
        let invalidate = "no new key signs before that changes: wait for the cache, or have it drop its copy, with CloudFront by aws \
                          cloudfront create-invalidation --distribution-id ID --paths '/*'; if it stays, the URL leads to another origin";
        for (found, sentence) in [
            (found(std::str::from_utf8(wanted)?, Some(9)), None),
            (
                found(older, Some(47)),
                Some(format!(
                    "{url} serves another copy than s3://prod-1-oidc holds (a cache has kept it for 47 s); {invalidate}"
                )),
            ),
            (found(older, None), Some(format!("{url} serves another copy than s3://prod-1-oidc holds; {invalidate}"))),
            (
                found("<html>", None),
                Some(format!(
                    "{url} serves something that is no JWK Set, and s3://prod-1-oidc holds one; look at what serves the URL: its \
                     origin, path and error pages"
                )),
            ),
            (
                Probe::Absent,
                Some(format!("{url} is not found although s3://prod-1-oidc holds it; check that the URL leads there")),
            ),
            (
                Probe::Unknown(format!("{url} is refused")),
                Some(format!("{url} is refused; s3://prod-1-oidc holds the document")),
            ),
        ] {
            assert_eq!(place.sentence(&place.compare(wanted, &found)), sentence);
        }
        let own = Place { by_front: false, ..place };
        assert_eq!(own.sentence(&Served::Unknown("refused".into())).as_deref(), Some("refused"));
        let copy = own.sentence(&Served::Another { kept: None }).ok_or("a sentence")?;
        assert!(copy.ends_with("wait for the cache, or look at what stands between"), "{copy}");
        Ok(())
    }
}
