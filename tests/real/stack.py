#!/usr/bin/env python3
"""Makes a CloudFormation stack in moto and says, as JSON, what stands there afterwards.

    stack.py --stack NAME --moto URL --aws URL TEMPLATE [PARAMETER=VALUE...]

moto's CloudFormation makes roles, instance profiles, managed policies, keys and bare buckets. What it does not know (settings and policies
of buckets, OIDC providers, CloudFront) is taken from the template, with its functions resolved here, and made through moto's API of that
service: S3 by --aws, the tests' own door to it, which adds what moto does not check. Everything is then read back. moto is given the template
without tags of keys, which it cannot read, and without list items that stand under a condition that does not hold, which it leaves empty.

Of CloudFormation's functions only those that the examples use are known; another one is an error.
"""

import argparse
import json
import re

import boto3
import yaml

REGION = "eu-west-1"
ACCOUNT = "123456789012"
PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::URLSuffix": "amazonaws.com",
}
NO_VALUE = object()


def read(path):
    """The template, with short forms (!Ref, !Sub) as the long ones."""

    class Loader(yaml.SafeLoader):
        pass

    def function(loader, suffix, node):
        if isinstance(node, yaml.ScalarNode):
            value = loader.construct_scalar(node)
        elif isinstance(node, yaml.SequenceNode):
            value = loader.construct_sequence(node, deep=True)
        else:
            value = loader.construct_mapping(node, deep=True)
        if suffix == "GetAtt" and isinstance(value, str):
            value = value.split(".", 1)
        return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}

    Loader.add_multi_constructor("!", function)
    with open(path, encoding="utf-8") as file:
        return yaml.load(file, Loader)


class Stack:
    """The template's functions, with parameters and with the names of what was made."""

    def __init__(self, template, given):
        self.template = template
        self.parameters = {name: given.get(name, entry.get("Default")) for name, entry in template["Parameters"].items()}
        self.names = {}
        self.attributes = {}

    def made(self, kind):
        """Logical id and resolved properties of every resource of that type whose condition holds."""
        for name, resource in self.template["Resources"].items():
            if resource["Type"] == kind and ("Condition" not in resource or self.holds(resource["Condition"])):
                yield name, self.resolve(resource["Properties"])

    def holds(self, condition):
        return self.test(self.template["Conditions"][condition])

    def test(self, expression):
        ((function, argument),) = expression.items()
        if function == "Condition":
            return self.holds(argument)
        if function == "Fn::Equals":
            return self.resolve(argument[0]) == self.resolve(argument[1])
        tests = {"Fn::Not": lambda found: not found[0], "Fn::And": all, "Fn::Or": any}
        return tests[function]([self.test(part) for part in argument])

    def resolve(self, value):
        if isinstance(value, list):
            return [found for found in map(self.resolve, value) if found is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name == "Ref" or name.startswith("Fn::"):
                return self.call(name, argument)
        resolved = {key: self.resolve(part) for key, part in value.items()}
        return {key: part for key, part in resolved.items() if part is not NO_VALUE}

    def call(self, name, argument):
        if name == "Ref":
            return self.reference(argument)
        if name == "Fn::GetAtt":
            return self.attributes[".".join(argument)]
        if name == "Fn::If":
            return self.resolve(argument[1] if self.holds(argument[0]) else argument[2])
        if name == "Fn::Sub":
            text, own = (argument, {}) if isinstance(argument, str) else argument
            own = {key: self.resolve(part) for key, part in own.items()}
            return re.sub(r"\$\{([^!}]+)\}", lambda match: self.substitute(match[1], own), text)
        if name == "Fn::Join":
            return argument[0].join(self.resolve(argument[1]))
        if name == "Fn::Split":
            return self.resolve(argument[1]).split(argument[0])
        if name == "Fn::Select":
            return self.resolve(argument[1])[int(argument[0])]
        raise NotImplementedError(name)

    def for_moto(self):
        """The template as moto reads it."""

        def without_gaps(value):
            if isinstance(value, dict):
                return {key: without_gaps(part) for key, part in value.items()}
            if isinstance(value, list):
                return [without_gaps(part) for part in map(self.chosen, value) if part != {"Ref": "AWS::NoValue"}]
            return value

        template = without_gaps(self.template)
        # It fails on attributes of resources that it does not know; outputs are resolved here.
        template.pop("Outputs", None)
        for resource in template["Resources"].values():
            if resource["Type"] == "AWS::KMS::Key":
                resource["Properties"].pop("Tags", None)
        return template

    def chosen(self, value):
        """What a condition with nothing on its other side stands for; every other value as it is."""
        condition, *sides = value.get("Fn::If", [None]) if isinstance(value, dict) else [None]
        if {"Ref": "AWS::NoValue"} not in sides:
            return value
        return sides[0] if self.holds(condition) else sides[1]

    def substitute(self, name, own):
        if name in own:
            return own[name]
        return self.attributes[name] if "." in name else self.reference(name)

    def reference(self, name):
        if name == "AWS::NoValue":
            return NO_VALUE
        known = {**PSEUDO, **self.parameters, **self.names}
        return known[name]


class Account:
    """What is asked of moto."""

    def __init__(self, moto, aws):
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}
        path_style = boto3.session.Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
        self.s3 = boto3.client("s3", endpoint_url=aws, config=path_style, **keys)
        names = ["cloudformation", "iam", "kms", "cloudfront"]
        self.cloudformation, self.iam, self.kms, self.cloudfront = (boto3.client(it, endpoint_url=moto, **keys) for it in names)

    def create(self, stack, name):
        """What moto's CloudFormation can."""
        text = json.dumps(stack.for_moto())
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in stack.parameters.items()]
        self.cloudformation.create_stack(
            StackName=name, TemplateBody=text, Parameters=given, Capabilities=["CAPABILITY_IAM"]
        )
        listed = self.cloudformation.describe_stack_resources(StackName=name)["StackResources"]
        # What moto does not know is listed without a name.
        for resource in (entry for entry in listed if "PhysicalResourceId" in entry):
            logical, physical = resource["LogicalResourceId"], resource["PhysicalResourceId"]
            stack.names[logical] = physical
            if resource["ResourceType"] == "AWS::IAM::Role":
                stack.attributes[f"{logical}.Arn"] = self.iam.get_role(RoleName=physical)["Role"]["Arn"]
            if resource["ResourceType"] == "AWS::KMS::Key":
                stack.attributes[f"{logical}.Arn"] = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{physical}"

    def complete(self, stack):
        """What it cannot, in the order of the resources' dependencies."""
        for logical, properties in stack.made("AWS::S3::Bucket"):
            bucket = {"Bucket": stack.names[logical], "ExpectedBucketOwner": ACCOUNT}
            stack.attributes[f"{logical}.RegionalDomainName"] = f"{bucket['Bucket']}.s3.{REGION}.amazonaws.com"
            block = properties["PublicAccessBlockConfiguration"]
            self.s3.put_public_access_block(**bucket, PublicAccessBlockConfiguration=block)
            if "VersioningConfiguration" in properties:
                self.s3.put_bucket_versioning(**bucket, VersioningConfiguration=properties["VersioningConfiguration"])
        for logical, properties in stack.made("AWS::CloudFront::OriginAccessControl"):
            made = self.cloudfront.create_origin_access_control(**properties)["OriginAccessControl"]
            stack.names[logical] = stack.attributes[f"{logical}.Id"] = made["Id"]
        for logical, properties in stack.made("AWS::CloudFront::Distribution"):
            made = self.cloudfront.create_distribution(DistributionConfig=for_api(properties["DistributionConfig"], logical))
            stack.names[logical] = made["Distribution"]["Id"]
            stack.attributes[f"{logical}.DomainName"] = made["Distribution"]["DomainName"]
        for _, properties in stack.made("AWS::S3::BucketPolicy"):
            document = json.dumps(properties["PolicyDocument"])
            self.s3.put_bucket_policy(Bucket=properties["Bucket"], Policy=document, ExpectedBucketOwner=ACCOUNT)
        for logical, properties in stack.made("AWS::KMS::Key"):
            # moto keeps what CloudFormation gave as it is, and takes text by its API.
            document = json.dumps(properties["KeyPolicy"])
            self.kms.put_key_policy(KeyId=stack.names[logical], PolicyName="default", Policy=document)
        for logical, properties in stack.made("AWS::IAM::OIDCProvider"):
            url, audiences = properties["Url"], properties["ClientIdList"]
            made = self.iam.create_open_id_connect_provider(Url=url, ClientIDList=audiences, ThumbprintList=["0" * 40])
            stack.names[logical] = made["OpenIDConnectProviderArn"]

    def look(self, stack):
        """Everything that stands there, by logical id."""
        found = {}
        for logical, _ in stack.made("AWS::IAM::ManagedPolicy"):
            policy = self.iam.get_policy(PolicyArn=stack.names[logical])["Policy"]
            version = self.iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])
            entities = self.iam.list_entities_for_policy(PolicyArn=policy["Arn"])
            found[logical] = {
                "document": version["PolicyVersion"]["Document"],
                "roles": [role["RoleName"] for role in entities["PolicyRoles"]],
            }
        for logical, _ in stack.made("AWS::KMS::Key"):
            key = stack.names[logical]
            text = self.kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"]
            rotates = self.kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
            found[logical] = {"document": json.loads(text), "rotates": rotates}
        for logical, _ in stack.made("AWS::S3::Bucket"):
            found[logical] = self.look_at_bucket(stack.names[logical])
        for logical, _ in stack.made("AWS::IAM::OIDCProvider"):
            provider = self.iam.get_open_id_connect_provider(OpenIDConnectProviderArn=stack.names[logical])
            found[logical] = {"url": provider["Url"], "audiences": provider["ClientIDList"]}
        for logical, _ in stack.made("AWS::IAM::InstanceProfile"):
            profile = self.iam.get_instance_profile(InstanceProfileName=stack.names[logical])["InstanceProfile"]
            found[logical] = {"roles": [role["RoleName"] for role in profile["Roles"]]}
        for logical, properties in stack.made("AWS::CloudFront::Distribution"):
            made = self.cloudfront.get_distribution(Id=stack.names[logical])["Distribution"]
            found[logical] = {"arn": made["ARN"], "config": made["DistributionConfig"]}
            # moto leaves it out of what it answers.
            (control,) = {origin["OriginAccessControlId"] for origin in properties["DistributionConfig"]["Origins"]}
            control = self.cloudfront.get_origin_access_control(Id=control)["OriginAccessControl"]
            found[logical]["accessControl"] = control["OriginAccessControlConfig"]
        for logical, properties in stack.made("AWS::S3::BucketPolicy"):
            found[logical] = self.look_at_bucket(properties["Bucket"])
        return found

    def look_at_bucket(self, name):
        bucket = {"Bucket": name, "ExpectedBucketOwner": ACCOUNT}
        encryption = self.s3.get_bucket_encryption(**bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        try:
            policy = json.loads(self.s3.get_bucket_policy(**bucket)["Policy"])
        except self.s3.exceptions.ClientError:
            policy = None
        return {
            "name": name,
            "policy": policy,
            "publicAccessBlock": self.s3.get_public_access_block(**bucket)["PublicAccessBlockConfiguration"],
            "versioning": self.s3.get_bucket_versioning(**bucket).get("Status"),
            "encryption": encryption[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"],
        }


def for_api(config, reference):
    """CloudFormation's words for a distribution as CloudFront's own API has them: lists with their length beside them."""

    def listed(items):
        return {"Quantity": len(items), "Items": items}

    made = {**config, "CallerReference": reference, "IsIPV6Enabled": config["IPV6Enabled"]}
    del made["IPV6Enabled"]
    behavior = config["DefaultCacheBehavior"]
    made["DefaultCacheBehavior"] = {**behavior, "AllowedMethods": listed(behavior["AllowedMethods"])}
    made["Origins"] = listed([{**it, "S3OriginConfig": {"OriginAccessIdentity": ""}} for it in config["Origins"]])
    for name in ("Aliases", "CustomErrorResponses"):
        made[name] = listed(config[name])
    words = {"AcmCertificateArn": "ACMCertificateArn", "SslSupportMethod": "SSLSupportMethod"}
    made["ViewerCertificate"] = {words.get(key, key): value for key, value in config["ViewerCertificate"].items()}
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("template")
    parser.add_argument("--stack", required=True)
    parser.add_argument("--moto", required=True)
    parser.add_argument("--aws", required=True)
    parser.add_argument("parameters", nargs="*", metavar="PARAMETER=VALUE")
    arguments = parser.parse_args()
    template = read(arguments.template)
    stack = Stack(template, dict(pair.split("=", 1) for pair in arguments.parameters))
    account = Account(arguments.moto, arguments.aws)
    account.create(stack, arguments.stack)
    account.complete(stack)
    outputs = {
        name: stack.resolve(entry["Value"])
        for name, entry in template.get("Outputs", {}).items()
        if "Condition" not in entry or stack.holds(entry["Condition"])
    }
    print(json.dumps({"outputs": outputs, "resources": account.look(stack)}))


if __name__ == "__main__":
    main()
