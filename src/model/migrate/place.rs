//! Which bucket an issuer's URL leads to, in every form that S3 has had (Amazon S3 user guide, "Virtual hosting of buckets" and
//! "Legacy endpoints").

use crate::model::{
    issuer::IssuerUrl,
    location::{BucketName, Location},
    region::Region,
};

/// A place in S3 as a URL names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Bucket and what stands before its keys.
    pub store: Location,
    /// Region of the bucket; `None` where the URL does not say it (`s3.amazonaws.com`).
    pub region: Option<Region>,
}

/// The bucket behind `issuer`; `None` where its host is none of S3's, or the bucket's name is one that irsad does not take.
pub fn place(issuer: &IssuerUrl) -> Option<Place> {
    let labels: Vec<&str> = issuer.host().split('.').collect();
    let service = labels.iter().position(|label| *label == "s3" || label.starts_with("s3-"))?;
    let region = region(labels[service], &labels[service + 1..])?;
    let path = issuer.base().strip_prefix(&format!("https://{}", issuer.host()))?.trim_start_matches('/');
    let (bucket, prefix) = match &labels[..service] {
        [] => path.split_once('/').unwrap_or((path, "")),
        [bucket] => (*bucket, path),
        // A dot in the name: the endpoint's certificate does not cover such a host.
        _ => return None,
    };
    let bucket: BucketName = bucket.parse().ok()?;
    Some(Place { store: Location::S3 { bucket, prefix: prefix.to_owned() }, region })
}

/// The region that an endpoint names, `Some(None)` where it names none; `None` where it is no endpoint of S3.
fn region(service: &str, rest: &[&str]) -> Option<Option<Region>> {
    let rest = rest.strip_prefix(&["dualstack"]).unwrap_or(rest);
    let (region, suffix) = match (service.strip_prefix("s3-"), rest) {
        (Some(region), suffix) => (region, suffix),
        (None, ["amazonaws", "com"]) => return Some(None),
        (None, [region, suffix @ ..]) => (*region, suffix),
        (None, []) => return None,
    };
    let region: Region = region.parse().ok()?;
    (suffix.join(".") == region.partition().dns_suffix()).then_some(Some(region))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_s3_address_leads_to_its_bucket() {
        for (issuer, store, region) in [
            ("https://b-1.s3.eu-west-1.amazonaws.com", "s3://b-1", Some("eu-west-1")),
            ("https://b-1.s3.eu-west-1.amazonaws.com/a/b", "s3://b-1/a/b", Some("eu-west-1")),
            ("https://b-1.s3.dualstack.us-east-2.amazonaws.com/a", "s3://b-1/a", Some("us-east-2")),
            ("https://b-1.s3-eu-west-1.amazonaws.com", "s3://b-1", Some("eu-west-1")),
            ("https://b-1.s3.amazonaws.com", "s3://b-1", None),
            ("https://s3-eu-west-1.amazonaws.com/b-1", "s3://b-1", Some("eu-west-1")),
            ("https://s3-eu-west-1.amazonaws.com/b-1/", "s3://b-1", Some("eu-west-1")),
            ("https://s3.eu-west-1.amazonaws.com/b-1/prod-1", "s3://b-1/prod-1", Some("eu-west-1")),
            ("https://s3.cn-north-1.amazonaws.com.cn/b-1", "s3://b-1", Some("cn-north-1")),
            ("https://s3.amazonaws.com/b-1", "s3://b-1", None),
        ] {
            let place = place(&issuer.parse().expect("an issuer")).expect(issuer);
            let found = (place.store.to_string(), place.region.as_ref().map(Region::as_str));
            assert_eq!(found, (store.to_owned(), region), "{issuer}");
        }
    }

    #[test]
    fn other_hosts_are_no_bucket() {
        for issuer in [
            "https://oidc.example.com/b-1",
            "https://d111111abcdef8.cloudfront.net",
            "https://a.b.s3.eu-west-1.amazonaws.com",
            "https://s3.eu-west-1.amazonaws.com",
            "https://s3.eu-west-1.example.com/b-1",
            "https://s3.cn-north-1.amazonaws.com/b-1",
            "https://b-1.s3.amazonaws.example.com",
        ] {
            assert_eq!(place(&issuer.parse().expect("an issuer")), None, "{issuer}");
        }
    }
}
