//! Addresses of buckets, in every form that S3 has or had and in every partition (Amazon S3 user guide, "Virtual hosting of buckets",
//! "Legacy endpoints", "Using Amazon S3 dual-stack endpoints" and "Configuring fast, secure file transfers using Amazon S3 Transfer
//! Acceleration"; AWS general reference, "Amazon S3 endpoints and quotas").

use super::{
    issuer::IssuerUrl,
    location::{BucketName, Location},
    region::{Partition, Region},
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
    let path = issuer.base().strip_prefix(&format!("https://{}", issuer.host()))?.trim_start_matches('/');
    let (bucket, endpoint, prefix) = match bucket_of_host(issuer.host()) {
        Some((bucket, endpoint)) => (bucket, endpoint, path),
        None => {
            let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
            (bucket, issuer.host(), prefix)
        }
    };
    let region = region(endpoint)?;
    let store = Location::S3 { bucket: bucket.parse().ok()?, prefix: prefix.to_owned() };
    Some(Place { store, region })
}

/// Whether `address`, a URL with or without its `https://`, lies in `bucket`. Regions are not compared: a bucket's name is one of its whole
/// partition, and partitions are few enough to be taken for one here.
pub fn leads_into(address: &str, bucket: &BucketName) -> bool {
    let address = address.strip_prefix("https://").unwrap_or(address);
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let host = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    match bucket_of_host(&host) {
        Some((name, _)) => name == bucket.as_str(),
        None => is_endpoint(&host) && path.trim_start_matches('/').split('/').next() == Some(bucket.as_str()),
    }
}

/// Whether `address`, a URL, names a bucket in its host, before an endpoint of today's form (`s3.REGION`).
pub fn has_bucket_in_host(address: &str) -> bool {
    let host = address.strip_prefix("https://").and_then(|rest| rest.split('/').next());
    host.and_then(bucket_of_host).is_some_and(|(_, endpoint)| endpoint.starts_with("s3."))
}

/// Of the ARNs of an account's OIDC providers those whose issuer lies in `bucket`; without `own`.
pub fn providers_in(arns: &[String], bucket: &BucketName, own: &str) -> Vec<String> {
    let issuer = |arn: &str| arn.split_once(":oidc-provider/").map(|(_, issuer)| issuer.to_owned());
    let leads = |arn: &&String| issuer(arn).is_some_and(|issuer| leads_into(&issuer, bucket));
    arns.iter().filter(|arn| *arn != own).filter(leads).cloned().collect()
}

/// The bucket that a host begins with, and the endpoint behind it.
fn bucket_of_host(host: &str) -> Option<(&str, &str)> {
    let mut splits = host.match_indices('.').map(|(dot, _)| (&host[..dot], &host[dot + 1..]));
    splits.find(|(_, endpoint)| is_endpoint(endpoint))
}

/// Whether a host is one of S3's own: `s3` or `s3-…`, what tells region and network, and the end of a partition's names.
fn is_endpoint(host: &str) -> bool {
    let Some((service, rest)) = host.split_once('.') else { return false };
    let is_of = |partition: &Partition| {
        rest.strip_suffix(partition.dns_suffix()).is_some_and(|place| place.is_empty() || place.ends_with('.'))
    };
    (service == "s3" || service.starts_with("s3-")) && Partition::ALL.iter().any(is_of)
}

/// The region that an endpoint names, `Some(None)` where it names none; `None` where it is no endpoint that serves every request.
fn region(endpoint: &str) -> Option<Option<Region>> {
    let labels: Vec<&str> = endpoint.split('.').collect();
    let (service, rest) = labels.split_first().filter(|_| is_endpoint(endpoint))?;
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

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn every_address_of_a_bucket_leads_into_it_and_no_other_does() -> Outcome {
        let bucket: BucketName = "prod-1-oidc".parse()?;
        for address in [
            "https://prod-1-oidc.s3.eu-west-1.amazonaws.com",
            "prod-1-oidc.s3.eu-west-1.amazonaws.com",
            "prod-1-oidc.s3.eu-west-1.amazonaws.com/other/prefix",
            "PROD-1-oidc.S3.eu-west-1.amazonaws.com",
            "prod-1-oidc.s3.amazonaws.com",
            "prod-1-oidc.s3-eu-west-1.amazonaws.com",
            "prod-1-oidc.s3.dualstack.eu-west-1.amazonaws.com",
            "prod-1-oidc.s3-fips.us-gov-west-1.amazonaws.com/a",
            "prod-1-oidc.s3-fips.dualstack.us-east-1.amazonaws.com",
            "prod-1-oidc.s3-external-1.amazonaws.com",
            "prod-1-oidc.s3-accelerate.dualstack.amazonaws.com",
            "prod-1-oidc.s3.cn-north-1.amazonaws.com.cn",
            "prod-1-oidc.s3.eusc-de-east-1.amazonaws.eu",
            "prod-1-oidc.s3.us-iso-east-1.c2s.ic.gov",
            "s3.eu-west-1.amazonaws.com/prod-1-oidc",
            "s3.eu-west-1.amazonaws.com/prod-1-oidc/a/b",
            "s3.amazonaws.com/prod-1-oidc",
            "s3-eu-west-1.amazonaws.com/prod-1-oidc/",
            "s3.dualstack.cn-north-1.amazonaws.com.cn/prod-1-oidc",
            "s3.us-isob-east-1.sc2s.sgov.gov/prod-1-oidc",
        ] {
            assert!(leads_into(address, &bucket), "{address}");
        }
        for address in [
            "prod-1-oidc-2.s3.eu-west-1.amazonaws.com",
            "a.prod-1-oidc.s3.eu-west-1.amazonaws.com",
            "s3.eu-west-1.amazonaws.com/prod-1-oidc-2",
            "s3.eu-west-1.amazonaws.com/other/prod-1-oidc",
            "s3.eu-west-1.amazonaws.com",
            "s3.eu-west-1.example.com/prod-1-oidc",
            "prod-1-oidc.s3.eu-west-1.notamazonaws.com",
            "prod-1-oidc.example.com",
            "oidc.eks.eu-west-1.amazonaws.com/id/prod-1-oidc",
        ] {
            assert!(!leads_into(address, &bucket), "{address}");
        }
        Ok(())
    }

    #[test]
    fn bucket_whose_name_looks_like_an_endpoint_is_found_by_its_name() -> Outcome {
        let bucket: BucketName = "s3-oidc".parse()?;
        assert!(leads_into("s3-oidc.s3.eu-west-1.amazonaws.com", &bucket));
        assert!(leads_into("s3.eu-west-1.amazonaws.com/s3-oidc", &bucket));
        Ok(())
    }

    #[test]
    fn providers_in_a_bucket_are_told_by_their_arns() -> Outcome {
        let arn = |issuer: &str| format!("arn:aws:iam::123456789012:oidc-provider/{issuer}");
        let own = arn("prod-1-oidc.s3.eu-west-1.amazonaws.com");
        let by_path = arn("s3.eu-west-1.amazonaws.com/prod-1-oidc");
        let arns = [own.clone(), arn("oidc.example.com"), by_path.clone(), "no ARN".to_owned()];
        assert_eq!(providers_in(&arns, &"prod-1-oidc".parse()?, &own), [by_path]);
        Ok(())
    }

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
            ("https://s3-oidc.s3.eu-west-1.amazonaws.com/a", "s3://s3-oidc/a", Some("eu-west-1")),
            ("https://s3.eu-west-1.amazonaws.com/s3-oidc", "s3://s3-oidc", Some("eu-west-1")),
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

    #[test]
    fn address_of_a_bucket_is_told_from_a_name_of_the_api() {
        for (issuer, expected) in [
            ("https://discovery.s3.eu-west-1.amazonaws.com/prod-1.example.com", true),
            ("https://discovery.s3.dualstack.us-east-2.amazonaws.com/prod-1.example.com/discovery", true),
            ("https://discovery.s3.cn-north-1.amazonaws.com.cn/prod-1.example.com", true),
            ("https://discovery.s3-eu-west-1.amazonaws.com/prod-1.example.com", false),
            ("https://api.internal.prod-1.example.com", false),
            ("https://api.internal.s3.example.com", false),
            ("https://irsa.example.com/s3.amazonaws.com", false),
            ("kubernetes/serviceaccount", false),
        ] {
            assert_eq!(has_bucket_in_host(issuer), expected, "{issuer}");
        }
    }
}
