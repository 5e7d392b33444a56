//! Requests that are no reviews of pods, and pods that are out of all proportion.

use super::*;

fn refused(body: &[u8]) -> Result<Value, Box<dyn Error>> {
    let error = Review::parse(body).err().ok_or("it was read")?;
    assert_eq!(error.status(), 200);
    let mut answer: Value = serde_json::from_slice(&error.answer())?;
    assert_eq!(answer["response"]["allowed"], json!(false));
    assert_eq!(answer["response"]["status"]["metadata"], json!({}));
    assert_eq!(answer["response"]["status"]["message"], json!(error.to_string()));
    assert_eq!(answer["response"].get("patch"), None);
    Ok(answer.take())
}

#[test]
fn what_is_no_review_is_refused_with_200_and_the_reason() -> Tested {
    for (body, wanted) in [
        ("", "bad content: the review is not a JSON object"),
        ("x", "bad content: the review is not a JSON object"),
        ("apiVersion: v1", "bad content: the review is not a JSON object"),
        ("{", "bad content: EOF while parsing an object at line 1 column 1"),
        ("{}{}", "bad content: trailing characters at line 1 column 3"),
        ("null", "bad content: the review is not a JSON object"),
        ("5", "bad content: the review is not a JSON object"),
        ("[]", "bad content: the review is not a JSON object"),
        ("{}", "bad content: the review has no request"),
        (r#"{"request":null}"#, "bad content: the review has no request"),
        (r#"{"Request":{"object":{}}}"#, "bad content: the review has no request"),
        (r#"{"request":{}}"#, "bad content: the request has no object"),
        (r#"{"request":{"object":null}}"#, "bad content: the request has no object"),
    ] {
        assert_eq!(refused(body.as_bytes())?["response"]["status"]["message"], json!(wanted), "{body}");
    }
    Ok(())
}

#[test]
fn object_that_is_no_pod_is_refused_to_the_one_who_asked() -> Tested {
    for object in [
        json!("pod"),
        json!(5),
        json!([]),
        json!({ "spec": "x" }),
        json!({ "spec": [] }),
        json!({ "metadata": [] }),
        json!({ "spec": { "containers": [[]] } }),
        json!({ "spec": { "volumes": [[]] } }),
        json!({ "spec": { "containers": {} } }),
        json!({ "spec": { "containers": [{ "env": "x" }] } }),
        json!({ "spec": { "containers": [{ "env": [{ "name": 5 }] }] } }),
        json!({ "spec": { "serviceAccountName": 5 } }),
        json!({ "metadata": { "annotations": { "eks.amazonaws.com/token-expiration": 3600 } } }),
    ] {
        let answer = refused(&serde_json::to_vec(&review_of(&object))?)?;
        assert_eq!(answer["apiVersion"], json!("admission.k8s.io/v1"), "{object}");
        assert_eq!(answer["response"]["uid"], json!("u-1"));
    }
    Ok(())
}

#[test]
fn object_of_another_kind_is_let_in_unchanged() -> Tested {
    let deployment = json!({ "kind": "Deployment", "metadata": { "name": "a" }, "spec": {
        "replicas": 3, "template": pod(),
    } });
    assert!(!is_changed(&deployment, &Known::nothing().patched(&deployment)?));
    Ok(())
}

#[test]
fn ten_thousand_containers_are_all_changed() -> Tested {
    let containers: Vec<Value> = (0..10_000).map(|number| json!({ "name": format!("c{number}") })).collect();
    let mut plain = pod_with(json!({ "containers": containers }));
    plain["metadata"]["annotations"] = json!({ "eks.amazonaws.com/skip-containers": "c7,c9999" });
    let patched = Known::role().patched(&plain)?;
    let changed = patched["spec"]["containers"].as_array().ok_or("no list")?;
    assert_eq!(changed.iter().filter(|container| variables(container).len() == 2).count(), 9_998);
    Ok(())
}

#[test]
fn deep_nesting_is_passed_over() -> Tested {
    let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
    let body = format!(r#"{{"request":{{"uid":"u-1","object":{{"x":{open}1{close}}}}}}}"#);
    assert_eq!(Known::role().response(body.as_bytes())?["response"]["allowed"], json!(true));
    Ok(())
}
