# AWS and the outsider, as the nodes of a bench see them. Sourced in a bench.
#
#   aws_start                    S3, IAM and STS by their real names on the bridge, with a certificate of a CA of this bench, and
#                                instance metadata on 169.254.169.254 (moto; see aws.py). Nodes created later trust the CA
#   aws_cut [metadata]           S3, IAM and STS lose every packet; with "metadata" the instance's own service too
#   aws_mend                     they answer again
#   aws ARGUMENT...              prints what moto holds: aws providers | aws objects BUCKET
#   aws create-role NAME POLICY  makes a role with this trust policy
#   outsider ISSUER < TOKEN      verifies a token with nothing but the issuer's URL and PyJWT; prints the claims, or why not
#
# AWS_BUCKET is a bucket name that resolves; the configuration of irsad_configure (irsad.sh) uses it.

readonly AWS_REGION=eu-west-1
readonly AWS_BUCKET=irsad-vm-test
readonly AWS_ISSUER=https://$AWS_BUCKET.s3.$AWS_REGION.amazonaws.com

aws_names() {
    echo "$AWS_BUCKET.s3.$AWS_REGION.amazonaws.com" "s3.$AWS_REGION.amazonaws.com" iam.amazonaws.com "sts.$AWS_REGION.amazonaws.com"
}

# A CA and one certificate for all names; both end with the bench.
make_certificates() {
    local folder=$1 name names=()
    for name in $(aws_names); do names+=("DNS:$name"); done
    mkdir -p "$folder"
    (
        cd "$folder"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 2 -subj '/CN=CA of this bench' \
            -addext 'keyUsage=critical,keyCertSign' -keyout ca.key -out ca.pem
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj '/CN=AWS of this bench' -keyout key.pem -out request.pem
        openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -days 2 -out certificate.pem \
            -extfile <(printf 'subjectAltName=%s\n' "$(IFS=, && echo "${names[*]}")")
    )
}

aws_answers() { curl -s -m 2 --cacert "$IRSAD_BENCH/aws/ca.pem" -o /dev/null "https://s3.$AWS_REGION.amazonaws.com/"; }

aws_start() {
    make_certificates "$IRSAD_BENCH/aws"
    echo "10.77.1.1 $(aws_names)" >>"$IRSAD_BENCH/hosts"
    "$IRSAD_TEST_PYTHON" "${BASH_SOURCE[0]%/*}/aws.py" --address 10.77.1.1 --certificates "$IRSAD_BENCH/aws" \
        --region "$AWS_REGION" >"$IRSAD_LOGS/aws.log" 2>&1 &
    wait_for 30 aws_answers
}

# In the root file system of a node, before anything in it runs.
node_trusts_aws() {
    local root
    root=$(node_root "$1")
    cp "$IRSAD_BENCH/aws/ca.pem" "$root/usr/local/share/ca-certificates/bench.crt"
    cat "$IRSAD_BENCH/aws/ca.pem" >>"$root/etc/ssl/certs/ca-certificates.crt"
}

aws_cut() {
    local ports=443${1:+, 80}
    nft "table inet cut { chain input { type filter hook input priority 0; tcp dport { $ports } drop; }; }"
}

aws_mend() { nft delete table inet cut; }

aws() {
    AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_CA_BUNDLE=$IRSAD_BENCH/aws/ca.pem AWS_DEFAULT_REGION=$AWS_REGION \
        "$IRSAD_TEST_PYTHON" - "$@" <<'PYTHON'
import sys
import boto3
what, *rest = sys.argv[1:]
if what == "providers":
    iam = boto3.client("iam")
    for provider in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]:
        print(provider["Arn"])
elif what == "objects":
    for entry in boto3.client("s3").list_objects_v2(Bucket=rest[0]).get("Contents", []):
        print(entry["Key"])
elif what == "create-role":
    name, policy = rest
    print(boto3.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=policy)["Role"]["Arn"])
else:
    sys.exit(f"aws: no such question: {what}")
PYTHON
}

outsider() {
    "$IRSAD_TEST_PYTHON" "${BASH_SOURCE[0]%/*}/../../tests/real/oidc_client.py" --issuer "$1" --audience sts.amazonaws.com \
        --ca "$IRSAD_BENCH/aws/ca.pem"
}
