//! Which addresses lead into a bucket, in every form that S3 has or had and in every partition (Amazon S3 user guide, "Virtual hosting of
//! buckets", "Legacy endpoints", "Using Amazon S3 dual-stack endpoints" and "Configuring fast, secure file transfers using Amazon S3
//! Transfer Acceleration"; AWS general reference, "Amazon S3 endpoints and quotas").
//!
//! Regions are not compared: a bucket's name is one of its whole partition, and partitions are few enough to be taken for one here.

use super::{location::BucketName, region::Partition};

/// Whether `address`, a URL with or without its `https://`, lies in `bucket`.
pub fn leads_into(address: &str, bucket: &BucketName) -> bool {
    let address = address.strip_prefix("https://").unwrap_or(address);
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let host = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let of_bucket = host.strip_prefix(bucket.as_str()).and_then(|rest| rest.strip_prefix('.'));
    match of_bucket {
        Some(rest) if is_endpoint(rest) => true,
        Some(_) | None => is_endpoint(&host) && path.trim_start_matches('/').split('/').next() == Some(bucket.as_str()),
    }
}

/// Of the ARNs of an account's OIDC providers those whose issuer lies in `bucket`; without `own`.
pub fn providers_in(arns: &[String], bucket: &BucketName, own: &str) -> Vec<String> {
    let issuer = |arn: &str| arn.split_once(":oidc-provider/").map(|(_, issuer)| issuer.to_owned());
    let leads = |arn: &&String| issuer(arn).is_some_and(|issuer| leads_into(&issuer, bucket));
    arns.iter().filter(|arn| *arn != own).filter(leads).cloned().collect()
}

/// Whether a host is one of S3's own: `s3` or `s3-…`, what tells region and network, and the end of a partition's names.
fn is_endpoint(host: &str) -> bool {
    let Some((service, rest)) = host.split_once('.') else { return false };
    let is_of = |partition: &Partition| {
        rest.strip_suffix(partition.dns_suffix()).is_some_and(|place| place.is_empty() || place.ends_with('.'))
    };
    (service == "s3" || service.starts_with("s3-")) && Partition::ALL.iter().any(is_of)
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
}
