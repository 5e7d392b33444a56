//! `skip-containers`: one record of CSV as Go reads it.

use super::{super::skip_containers::names, *};

const KEY: &str = "eks.amazonaws.com/skip-containers";

#[test]
fn first_record_is_read_as_go_reads_it() {
    for (text, wanted) in [
        ("a", Some(vec!["a"])),
        ("a,b", Some(vec!["a", "b"])),
        ("a, b", Some(vec!["a", " b"])),
        (r#""a","b""#, Some(vec!["a", "b"])),
        (r#""a,b""#, Some(vec!["a,b"])),
        (r#""a""b""#, Some(vec![r#"a"b"#])),
        (r#""a"b"#, None),
        (r#"a"b"#, None),
        (r#"a,b"c,d"#, None),
        (r#" "a""#, None),
        (r#""a"#, None),
        (r#"""#, None),
        (r#""""#, Some(vec![""])),
        ("\n\r\n\na", Some(vec!["a"])),
        (" \na", Some(vec![" "])),
        ("a\nb", Some(vec!["a"])),
        ("a,b\r\nc", Some(vec!["a", "b"])),
        ("a\r", Some(vec!["a"])),
        ("a\r\r\n", Some(vec!["a\r"])),
        ("\"a\nb\",c", Some(vec!["a\nb", "c"])),
        ("\"a\r\n\r\nb\"\r\n", Some(vec!["a\n\nb"])),
        ("\"a\n", None),
        ("#a;b", Some(vec!["#a;b"])),
        ("a,", Some(vec!["a", ""])),
        (",", Some(vec!["", ""])),
        ("", None),
        ("\n", None),
        ("\r", None),
        ("\r\n", None),
    ] {
        let wanted: Option<Vec<String>> = wanted.map(|names| names.into_iter().map(str::to_owned).collect());
        assert_eq!(names(text), wanted, "{text:?}");
    }
}

fn of_three(annotation: Option<&str>) -> Value {
    let mut pod = pod_with(json!({
        "containers": [{ "name": "a" }, { "name": "b" }], "initContainers": [{ "name": "a" }, { "name": "A" }],
    }));
    if let Some(annotation) = annotation {
        pod["metadata"]["annotations"] = json!({ KEY: annotation });
    }
    pod
}

/// Which of the four containers were changed.
fn changed(patched: &Value) -> [bool; 4] {
    [("containers", 0), ("containers", 1), ("initContainers", 0), ("initContainers", 1)]
        .map(|(list, number)| patched["spec"][list][number].get("env").is_some())
}

#[test]
fn every_container_of_a_name_is_left_alone() -> Tested {
    for (annotation, wanted) in [
        (None, [true, true, true, true]),
        (Some("a"), [false, true, false, true]),
        (Some("a,b"), [false, false, false, true]),
        (Some("\"a\",A"), [false, true, false, false]),
        (Some("c"), [true, true, true, true]),
        (Some("b,"), [true, false, true, true]),
    ] {
        assert_eq!(changed(&Known::role().patched(&of_three(annotation))?), wanted, "{annotation:?}");
    }
    Ok(())
}

#[test]
fn blank_in_a_name_counts_and_is_warned_of() -> Tested {
    let (patched, warnings) = Known::role().admit(&of_three(Some("a, b")))?;
    assert_eq!(changed(&patched), [false, true, false, true]);
    let wanted =
        "this pod: \" b\" in eks.amazonaws.com/skip-containers is no name of a container; write names without blanks";
    assert_eq!(warnings, [wanted]);
    Ok(())
}

#[test]
fn text_that_is_no_csv_skips_nothing_and_is_warned_of() -> Tested {
    for (text, shown) in [("", "\"\""), ("a\"", "\"a\\\"\""), ("\n", "\"\\n\"")] {
        let (patched, warnings) = Known::role().admit(&of_three(Some(text)))?;
        assert_eq!(changed(&patched), [true; 4]);
        let key = "eks.amazonaws.com/skip-containers";
        let wanted = format!("this pod: {shown} in {key} is not a line of CSV; no container is skipped");
        assert_eq!(warnings, [wanted]);
    }
    Ok(())
}
